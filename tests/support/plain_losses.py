"""Pretraining's losses computed once more, the plain way."""
import torch
import torch.nn.functional as F

from helpers import MASK
from minalbef.losses import hard_negatives
from minalbef.tasks.pretrain import Pretrain


def plain(task: Pretrain, batch, alpha: float, draws, queued: bool, hard: bool) -> dict:
    """The losses once more: no fast forms, one fusion pass for each kind of pair, loops over rows."""
    student, teacher, b = task.student, task.teacher, len(batch.ids)
    image, text = student.encode_image(batch.image), student.encode_text(batch.tokens, batch.keep)
    teacher_image = teacher.encode_image(batch.image)
    old_image, old_text, old_ids = (x if queued else x[:0] for x in task.queue.features())
    keys = {"text": torch.cat([teacher.text_feature(teacher.encode_text(batch.tokens, batch.keep)), old_text]),
            "image": torch.cat([teacher.image_feature(teacher_image), old_image])}
    queries = {"text": (student.image_feature(image), keys["image"]),
               "image": (student.text_feature(text), keys["text"])}
    same = batch.ids[:, None] == torch.cat([batch.ids, old_ids])
    itc, wrong = 0.0, {}
    for side, also in (("text", batch.match.T), ("image", batch.match)):
        query, opinion = queries[side]
        sim = query @ keys[side].T / student.temperature
        teacher_sim = (opinion[:b] @ keys[side].T / student.temperature).detach()
        positive = same.clone()
        positive[:, :b] |= also
        for row in range(b):
            target = (1 - alpha) * positive[row] / positive[row].sum() + alpha * teacher_sim[row].softmax(-1)
            itc = itc - (target * sim[row].log_softmax(-1)).sum() / b / 2
        uniform = draws.negative_text if side == "text" else draws.negative_image
        wrong[side], valid = hard_negatives(sim[:, :b] * hard, positive[:, :b], uniform)
        assert valid.all()
    def match(words, keep, picture, label):
        logits = student.match_logits(student.fuse(words, keep, picture))
        return F.cross_entropy(logits, torch.full((b,), label), reduction="sum")
    itm = (match(text, batch.keep, image, 1) + match(text, batch.keep, image[wrong["image"]], 0)
           + match(text[wrong["text"]], batch.keep[wrong["text"]], image, 0)) / (3 * b)

    length, mlm, words = batch.tokens.shape[1], 0.0, 0
    masked, chosen = batch.tokens.clone(), torch.zeros_like(batch.keep)
    for row in range(b):
        for i in range(1, length):
            if batch.keep[row, i] and draws.choose[row, i] < task.rates[batch.tokens[row, i]]:
                chosen[row, i] = True
                kind = draws.kind[row, i]
                masked[row, i] = MASK if kind < 0.8 else draws.words[row, i] if kind < 0.9 else batch.tokens[row, i]
    fused, taught = (model.word_logits(model.fuse(model.encode_text(masked, batch.keep), batch.keep, picture))
                     for model, picture in ((student, image), (teacher, teacher_image)))
    for row, i in chosen.nonzero().tolist():
        target = (1 - alpha) * F.one_hot(batch.tokens[row, i], 64) + alpha * taught[row, i].softmax(-1)
        mlm, words = mlm - (target * fused[row, i].log_softmax(-1)).sum(), words + 1
    return {"itc": itc, "itm": itm, "mlm": mlm / words}
