"""Image-text retrieval: trained on ITC and ITM, evaluated in two stages (section 5)."""
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from minalbef import data, distributed
from minalbef.albef import ALBEF
from minalbef.data import Record
from minalbef.evaluation.ranking import Encoded, match_best, recall, rerank, similarity
from minalbef.losses import itm_loss
from minalbef.tasks.pretrain import Draws, Pretrain, PretrainBatch
from minalbef.tokenizer import Tokenizer


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 30) -> PretrainBatch:
    """Records -> a batch of pictures of side `size` and captions of at most `length` tokens; captions of one id match."""
    batch = data.collate(records, tokenizer, size, length)
    texts = [zlib.crc32(row[keep].numpy().tobytes()) for row, keep in zip(batch.tokens, batch.keep)]
    return PretrainBatch(batch.image, batch.tokens, batch.keep, batch.ids, texts=torch.tensor(texts))


class Retrieval(Pretrain):
    """Pretraining without masked words, and without its gentle beginning: queue and hard negatives from the start.

    All captions of a picture, known by its id, are positives in ITC and no negatives in ITM. The original lets the
    temperature run free here: temperature_max=inf.
    """

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws):
        """-> losses by name, and what `after_step` wants. Changes nothing."""
        student, teacher = self.student, self.teacher
        image, text = student.encode_image(batch.image), student.encode_text(batch.tokens, batch.keep)
        with torch.inference_mode():
            features = (teacher.image_feature(teacher.encode_image(batch.image)),
                        teacher.text_feature(teacher.encode_text(batch.tokens, batch.keep)))
        carry = (*map(distributed.gather, features), distributed.gather(batch.keys(self.equal_texts(batch))))
        sims, positives, itc = self.align(student.image_feature(image), student.text_feature(text), features, carry, batch,
                                          alpha, True)
        images, texts, keeps, pairs, labels, valid = self.pair(image, text, batch.keep, sims, positives, draws, True)
        fused = student.fuse(texts, keeps, images, pairs=pairs, queries=1)
        itm = itm_loss(student.match_logits(fused), labels, valid, self.share(valid))
        return {"itc": itc, "itm": itm}, carry


def two_stage(model: ALBEF, encoded: Encoded, top: int = 128, rows: int = 64) -> dict[str, tuple[Tensor, Tensor]]:
    """Scores of all texts for every image (i, t), and of all images for every text (t, i), by name of the way to score.

    itc: cosine. rerank: of each query's `top` best by that ITM's logit for yes, -inf for all others (the original's
    -100). rerank_plus: that logit plus the cosine, as later models of the family rank.
    top: the original takes 128 on Flickr30k, 256 on COCO; rows: so many pictures are fused from at a time
    """
    sim = similarity(model, encoded)[0]                                          # (i, t)
    match = match_best(model, encoded, sim[None], top, rows, yes_alone=True)[0]
    return {"itc": (sim, sim.T)} | {name: (rerank(sim, score, top), rerank(sim.T, score.T, top))
                                    for name, score in (("rerank", match), ("rerank_plus", match + sim))}


def recalls(i2t: Tensor, t2i: Tensor, image_ids: Tensor, text_ids: Tensor) -> dict[str, float]:
    """R@1, 5 and 10 and their means, shares of 1: i2t (i, t), t2i (t, i); ids (i,) and (t,), alike where both match.

    Any of an image's captions counts. Ties count by chance; the original leaves them to numpy's sort.
    Raises ValueError for an image or a text that has no partner.
    """
    true = image_ids[:, None] == text_ids
    for what, ids, found in (("image", image_ids, true.any(1)), ("text", text_ids, true.any(0))):
        if not found.all():
            raise ValueError(f"{what} ids {ids[~found].tolist()[:10]} have no partner on the other side, so nothing right "
                             "can be found for them; leave them out")
    result = {f"{way}_r{k}": recall(scores, right, k).mean().item()
              for way, scores, right in (("i2t", i2t, true), ("t2i", t2i, true.T)) for k in (1, 5, 10)}
    means = {f"{way}_r_mean": sum(result[f"{way}_r{k}"] for k in (1, 5, 10)) / 3 for way in ("i2t", "t2i")}
    return result | means | {"r_mean": sum(means.values()) / 2}


def evaluate(model: ALBEF, encoded: Encoded, image_ids: Tensor, text_ids: Tensor, top: int = 128,
             rows: int = 64) -> dict[str, float]:
    """`recalls` by each way to score of `two_stage`: itc_i2t_r1, rerank_t2i_r5, rerank_plus_r_mean and so on."""
    return {f"{name}_{key}": value for name, scores in two_stage(model, encoded, top, rows).items()
            for key, value in recalls(*scores, image_ids, text_ids).items()}
