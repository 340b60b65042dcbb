"""The same step in less time: a form of `minalbef.pretrain.Pretrain`, equal to it by test.

What it saves: text and masked text go through the text encoder together; an image's keys and values
are computed once for ITM and MLM; of the last layers only what is read: [CLS], and hidden words,
which therefore stand first; words are masked on the CPU, where counting them waits for nothing;
student and teacher may share a stem. Several processes share their features and negatives.
"""
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.fast.cls import attend_cls, image_cls, text_cls
from minalbef.fusion import KeysValues
from minalbef.pretrain import Draws, Keys, Negatives, Pairs, Phase, Pretrain, PretrainBatch
from minalbef.system import distributed


class FastPretrain(Pretrain):
    """Pretraining as presets take it, in one process or several."""

    def __init__(self, config: Config, *arguments: Any, **options: Any):
        """See Pretrain."""
        super().__init__(config, *arguments, **options)
        self.custom_student = options.get("student") is not None
        # where batches are made: what moves the module moves its buffers alone
        self.cpu_rates = self.rates
        self.register_load_state_dict_post_hook(
            lambda task, _: setattr(task, "cpu_rates", task.rates.cpu()))

    @property
    def rank(self) -> int:                                       # type: ignore[override]
        """This process's number."""
        return distributed.rank()

    @property
    def world(self) -> int:                                      # type: ignore[override]
        """How many processes train together."""
        return distributed.world()

    @property
    def unused_parts(self) -> tuple[str, ...] | None:            # type: ignore[override]
        """See Trainable; None for a student of yours, and where ITM and MLM begin later."""
        if self.custom_student or self.config.match_from > 0:
            return None
        parts = {"itm": "match_head", "mlm": "word_head"}
        unused = [parts[objective] for objective in parts if objective in self.without]
        if len(unused) == len(parts):            # no other loss is of fused tokens
            unused.append("fusion")
        return tuple(unused)

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws,
                phase: Phase | None = None) -> tuple[dict[str, Tensor], Keys]:
        """See Pretrain.forward."""
        student, teacher = self.student, self.teacher
        phase = phase or self.phase(draws.step)
        words = None
        if phase.match and "mlm" not in self.without:
            words = draws if isinstance(draws, MaskedDraws) else self.hide_words(batch, draws)

        # 1. and 2. encode, and ask the teacher
        patches = None
        if phase.teacher and self.config.share_stem and batch.image.ndim == 4:   # not tokens
            patches = self.stem(batch.image)
        encoded = encode(student, batch, words, patches)
        answer = encoded
        if phase.teacher:
            answer = self.ask(teacher, batch, words if alpha else None, patches)
        keys = self.gather(answer.features, batch)
        queue = self.queue.features() if phase.queue else [part[:0] for part in keys]
        # even with an empty queue: autograd saves no tensors of inference mode, but copies of them
        image_keys, text_keys, ids = [torch.cat(parts) for parts in zip(keys, queue)]    # (k, e)
        positive, excluded = self.positives(batch, ids, len(keys[2]))

        # 3. ITC
        i2t = student.image_to_text(encoded.features[0], text_keys)      # (b, k)
        t2i = student.text_to_image(encoded.features[1], image_keys)
        with torch.no_grad():
            teacher_i2t = student.image_to_text(answer.features[0], text_keys)
            teacher_t2i = student.text_to_image(answer.features[1], image_keys)
        to_text = self.itc_loss(i2t, teacher_i2t, alpha, positive[0]) / 2
        to_image = self.itc_loss(t2i, teacher_t2i, alpha, positive[1]) / 2
        losses = {"itc": to_text + to_image}

        if phase.match and self.without != {"itm", "mlm"}:
            rows = len(keys[2])
            sims = [sim[:, :rows].detach() * phase.hard for sim in (i2t, t2i)]
            excluded = self.in_reach(excluded)
            text_rows, has_text = self.hard_negatives(sims[0], excluded[0], draws.negative_text)
            image_rows, has_image = self.hard_negatives(sims[1], excluded[1], draws.negative_image)
            negatives = Negatives(text_rows, image_rows, has_text, has_image)
            pool, negatives = self.fetch(encoded, batch.keep, negatives)
            keys_values = student.fusion.keys_values(pool.image)

            # 4. ITM, in one pass of fusion, whose last layer computes [CLS] alone
            if "itm" not in self.without:
                pairs = self.pair(negatives, batch)
                fused = student.fuse(pool.text, pool.keep, None, pairs=(pairs.texts, pairs.images),
                                     queries=1, keys_values=keys_values)
                losses |= self.itm_losses(student.match_logits(fused), pairs, batch)

            # 5. MLM, each text with its own image; other processes' images follow these
            if words is not None:
                losses["mlm"] = self.predict_words(batch, words, encoded, keys_values, answer,
                                                   alpha if phase.teacher else 0.0)
        return losses | self.own_losses(batch, encoded.image, encoded.text, draws, phase), keys

    def predict_words(self, batch: PretrainBatch, words: "MaskedDraws", encoded: "Encoded",
                      keys_values: KeysValues, answer: "Encoded", alpha: float) -> Tensor:
        """MLM's loss. Hidden words come first, so that the last layer computes them alone.

        answer: the teacher's encodings

        Fusion may take words in any order: positions are in the tokens, and attention is
        permutation-equivariant.
        """
        rows = slice(None, len(batch.keep), words.every)
        keep = batch.keep[rows].gather(1, words.order)
        images = [(keys[rows], values[rows]) for keys, values in keys_values]
        text = reorder(encoded.masked_text, words.order)
        fused = self.student.fuse(text, keep, None, queries=words.most, keys_values=images)
        logits = self.student.word_logits(fused.flatten(0, 1)[words.answers])    # (m, v)
        labels = batch.tokens[rows].flatten()[words.places]
        teacher_logits = None
        if alpha:
            with torch.inference_mode():
                text = reorder(answer.masked_text, words.order)
                fused = self.teacher.fuse(text, keep, answer.image[rows], queries=words.most)
                teacher_logits = self.teacher.word_logits(fused.flatten(0, 1)[words.answers])
        return self.mlm_loss(logits, labels, self.per_process(words.hidden), teacher_logits, alpha)

    @torch.inference_mode()
    def ask(self, teacher: ALBEF, batch: PretrainBatch, words: "MaskedDraws | None",
            patches: Tensor | None) -> "Encoded":
        """The teacher's encodings; without words to guess, [CLS] alone, which ITC reads."""
        if words is not None:
            return encode(teacher, batch, words, patches)
        if patches is None:
            image = image_cls(teacher, batch.image)
        else:
            image = attend_cls(teacher.image_encoder, patches)
        text = text_cls(teacher.text_encoder, batch.tokens, batch.keep)
        features = teacher.image_feature(image), teacher.text_feature(text, batch.keep)
        return Encoded(image, text, text, features)

    def stem(self, image: Tensor) -> Tensor:
        """The patches that student and teacher share."""
        encoder: Any = self.student.image_encoder
        return encoder.patch_embed(image.to(self.student.image_proj.weight.dtype))

    def prepare(self, passes: list[tuple[PretrainBatch, Draws]]
                ) -> list[tuple[PretrainBatch, Draws]]:
        """Mask the words of a step's passes, on the CPU: to count them on a GPU would stall it."""
        if "mlm" in self.without:
            return passes
        words = [self.hide_words(batch, draws) for batch, draws in passes]
        hidden = torch.stack([part.hidden for part in words]).mean()
        return [(batch, replace(part, hidden=hidden))
                for (batch, _), part in zip(passes, words)]

    def hide_words(self, batch: PretrainBatch, draws: Draws) -> "MaskedDraws":
        """The draws of a batch, and the words that they hide."""
        every = self.config.mlm_every
        at_hand = self.cpu_rates.device == batch.tokens.device
        rates = self.cpu_rates if at_hand else self.rates
        length = batch.tokens.shape[1]
        choose, kind, words = [draw[:, :length] for draw in (draws.choose, draws.kind, draws.words)]
        masked, hidden = self.mask_words(batch.tokens, self.special, self.mask,
                                         rates[batch.tokens], choose, kind, words)
        hidden = hidden[::every]
        counts = hidden.sum(1)
        most = max(int(counts.max()), 1)
        return MaskedDraws(
            **vars(draws), every=every, masked=masked[::every], most=most,
            places=hidden.flatten().nonzero()[:, 0],
            order=hidden.byte().argsort(dim=1, descending=True, stable=True),
            answers=(torch.arange(most, device=hidden.device) < counts[:, None]).flatten()
            .nonzero()[:, 0],
            hidden=hidden.sum().float(),
        )

    def gather(self, features: tuple[Tensor, Tensor], batch: PretrainBatch) -> Keys:
        """The features and the batch's keys, of all processes."""
        image, text = map(distributed.gather, features)
        return image, text, distributed.gather(batch.keys(self.config.equal_texts_match))

    def in_reach(self, excluded: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What ITM excludes (b, B), and with it the rows of processes too far away."""
        peers = distributed.peers(self.config.hard_negatives)
        if len(peers) == distributed.world():
            return excluded
        b, rows = excluded[0].shape
        process = torch.arange(rows, device=excluded[0].device) // b
        others = (process < peers.start) | (process >= peers.stop)
        return excluded[0] | others, excluded[1] | others

    def fetch(self, encoded: "Encoded", keep: Tensor, negatives: Negatives
              ) -> tuple["Pool", Negatives]:
        """The rows of a process with its negatives, which may be other processes' rows.

        -> the pool, and the negatives as rows of it
        """
        reach = self.config.hard_negatives
        text = encoded.text
        if len(distributed.peers(reach)) > 1:    # texts go from process to process, of one length
            padding = distributed.longest(text.shape[1]) - text.shape[1]
            text = F.pad(text, (0, 0, 0, padding))
            keep = F.pad(keep, (0, padding))
        images, wrong_image = distributed.fetch(encoded.image, negatives.image, reach)
        keeps, _ = distributed.fetch(keep, negatives.text, reach)
        texts, wrong_text = distributed.fetch(text, negatives.text, reach)
        return Pool(images, texts, keeps), negatives._replace(text=wrong_text, image=wrong_image)

    def itm_losses(self, logits: Tensor, pairs: Pairs, batch: PretrainBatch) -> dict[str, Tensor]:
        """See Pretrain.itm_losses; the mean is over the pairs of all processes."""
        count = self.per_process(pairs.valid)
        return {"itm": self.itm_loss(logits, pairs.labels, pairs.valid, count)}

    def per_process(self, rows: Tensor) -> Tensor:
        """Rows of all processes over the number of processes.

        A sum divided by it and averaged over processes, as DDP does, is the mean over all rows.
        """
        return distributed.total(rows.sum().float()) / distributed.world()


@lru_cache
def fast_form(kind: Any) -> Any:
    """The class with FastPretrain's step in place of Pretrain's: same losses, same weights."""
    if issubclass(kind, FastPretrain):
        return kind
    if kind is Pretrain:
        return FastPretrain
    return type(f"Fast{kind.__name__}", (kind, FastPretrain), {"__module__": __name__})


def in_form(kind: type[Pretrain], config: Config) -> type[Pretrain]:
    """The class in the form that config.fast asks for."""
    return fast_form(kind) if config.fast else kind  # type: ignore[arg-type]


@dataclass(frozen=True)
class MaskedDraws(Draws):
    """Draws, and the words that they hide; the loop makes them by `FastPretrain.prepare`.

    They are of r rows of the batch: the first, and every `every`-th after it.
    """

    every: int                        # config.mlm_every
    masked: Tensor                    # (r, l) ids, words hidden
    places: Tensor                    # (m,) where, row after row: of r * l
    order: Tensor                     # (r, l) each row's words, hidden ones first
    most: int                         # hidden words of the row that has most of them, at least 1
    answers: Tensor                   # (m,) the hidden ones of rows' first `most`: of r * most
    hidden: Tensor                    # () how many in a pass, the mean of a step's


class Encoded(NamedTuple):
    """What a model's encoders make of a batch; masked_text is text where no words are masked.

    Of the teacher, there, image and text may be [CLS] alone: (b, 1, d).
    """

    image: Tensor                     # (b, 1 + n, d)
    text: Tensor                      # (b, l, d)
    masked_text: Tensor               # (r, l, d), of the rows of MaskedDraws
    features: tuple[Tensor, Tensor]   # (b, e) of images and of texts, of length 1


class Pool(NamedTuple):
    """The rows that ITM fuses: the batch's, and behind them other processes'."""

    image: Tensor                     # (p, 1 + n, d)
    text: Tensor                      # (p, l, d)
    keep: Tensor                      # (p, l)


def encode(model: ALBEF, batch: PretrainBatch, words: MaskedDraws | None,
           patches: Tensor | None = None) -> Encoded:
    """Images, texts and masked texts, the two of them in one pass.

    patches: what a stem made of the images, if it has been computed
    """
    if patches is None:
        image = model.encode_image(batch.image)
    else:
        encoder: Any = model.image_encoder
        image = encoder.attend(patches)
    if words is None:
        text = masked_text = model.encode_text(batch.tokens, batch.keep)
    else:
        tokens = torch.cat([batch.tokens, words.masked])
        keep = torch.cat([batch.keep, batch.keep[::words.every]])
        rows = len(batch.tokens), len(words.masked)
        text, masked_text = model.encode_text(tokens, keep).split(rows)
    features = model.image_feature(image), model.text_feature(text, batch.keep)
    return Encoded(image, text, masked_text, features)


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Each row's words in another order: (b, l, d), order (b, l) -> (b, l, d)."""
    rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    # gather takes twice as long on a CPU, both ways
    return x.flatten(0, 1).index_select(0, (rows + order).flatten()).view_as(x)
