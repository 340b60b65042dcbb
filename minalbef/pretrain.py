"""Pretraining: ITC, ITM and MLM, with a momentum teacher (sections 3.2 and 3.3)."""
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from minalbef import data
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Record, Rows, row_generators
from minalbef.ema import Distilled
from minalbef.feature_queue import FeatureQueue
from minalbef.losses import hard_negatives, itc_loss, itm_loss, mlm_loss
from minalbef.masking import mask_words
from minalbef.system.tokenizer import Tokenizer

# what the queue takes after a step: features of images and of texts (B, e), and keys (B,)
Keys = tuple[Tensor, Tensor, Tensor]


class Pretrain(Distilled[ALBEF]):
    """One step of ALBEF: student, teacher and queue under the three objectives.

    Axes: b batch, n image tokens, l words, d width, e shared space, k keys (the batch's, then the
    queue's), m masked words, v vocabulary. A subclass may replace each function below.
    """

    itc_loss: Callable[..., Tensor] = staticmethod(itc_loss)
    itm_loss: Callable[..., Tensor] = staticmethod(itm_loss)
    mlm_loss: Callable[..., Tensor] = staticmethod(mlm_loss)
    hard_negatives: Callable[..., tuple[Tensor, Tensor]] = staticmethod(hard_negatives)
    mask_words: Callable[..., tuple[Tensor, Tensor]] = staticmethod(mask_words)
    make_queue = staticmethod(FeatureQueue)
    rates: Tensor
    rank, world = 0, 1                # of one process; the fast form trains in several

    def __init__(self, config: Config, special: tuple[int, ...] = (0, 1, 2, 3, 4), mask: int = 4,
                 rates: Tensor | None = None, student: ALBEF | None = None,
                 without: Collection[str] = ()):
        """special: the tokenizer's ids that are never masked (the original's: [PAD] and [CLS])

        mask: the id of [MASK]
        rates: (v,) how often each word is masked, see masking.mask_rates; by default
            config.mask_rate for all
        student: in place of ALBEF(config)
        without: objectives to leave out, of "itm" and "mlm"
        Raises ValueError for another objective, and for share_stem with an encoder that has none.
        """
        super().__init__(config, ALBEF(config) if student is None else student)
        if unknown := set(without) - {"itm", "mlm"}:
            raise ValueError(f"without={sorted(unknown)}: only itm and mlm can be left out; "
                             "ITC finds hard negatives")
        self.special, self.mask, self.without = special, mask, frozenset(without)
        self.queue = self.make_queue(config.queue_size, config.embed_dim)
        if rates is None:
            rates = torch.full((config.vocab_size,), config.mask_rate)
        self.register_buffer("rates", rates)
        if config.share_stem:
            check_stem(self.student.image_encoder)

    def forward(self, batch: "PretrainBatch", alpha: float, draws: "Draws",
                phase: "Phase | None" = None) -> tuple[dict[str, Tensor], Keys]:
        """-> losses by name, and what the queue takes after the step. Changes nothing.

        alpha: weight of the teacher's soft targets
        phase: which parts the step has, by default those of its number
        """
        student, teacher, b = self.student, self.teacher, len(batch.image)
        phase = phase or self.phase(draws.step)
        ids = batch.keys(self.config.equal_texts_match)                  # (b,)

        # 1. encode each modality by itself
        image = student.encode_image(batch.image)                        # (b, 1 + n, d)
        text = student.encode_text(batch.tokens, batch.keep)             # (b, l, d)
        image_feature = student.image_feature(image)                     # (b, e), of length 1
        text_feature = student.text_feature(text, batch.keep)

        # 2. ask the teacher about the same batch: its features are the keys, and the queue's
        image_key, text_key = image_feature, text_feature
        if phase.teacher:
            with torch.no_grad():
                teacher_image = teacher.encode_image(batch.image)
                teacher_text = teacher.encode_text(batch.tokens, batch.keep)
                image_key = teacher.image_feature(teacher_image)
                text_key = teacher.text_feature(teacher_text, batch.keep)
        keys = image_key, text_key, ids
        image_keys, text_keys = image_key, text_key                      # (k, e)
        if phase.queue:
            image_keys, text_keys, ids = map(torch.cat, zip(keys, self.queue.features()))

        # 3. ITC: align image and text before they are fused (eq. 1, 2, 6)
        i2t = student.image_to_text(image_feature, text_keys)            # (b, k), over temperature
        t2i = student.text_to_image(text_feature, image_keys)
        with torch.no_grad():
            teacher_i2t = student.image_to_text(image_key, text_keys)
            teacher_t2i = student.text_to_image(text_key, image_keys)
        positive, excluded = self.positives(batch, ids)                  # (b, k) and (b, b), twice
        itc = (self.itc_loss(i2t, teacher_i2t, alpha, positive[0])
               + self.itc_loss(t2i, teacher_t2i, alpha, positive[1])) / 2
        losses = {"itc": itc}

        # 4. ITM: each pair, each text with a hard wrong image, each image with a hard wrong text
        if phase.match and "itm" not in self.without:
            sims = [sim[:, :b].detach() * phase.hard for sim in (i2t, t2i)]   # 0: drawn evenly
            text_rows, has_text = self.hard_negatives(sims[0], excluded[0], draws.negative_text)
            image_rows, has_image = self.hard_negatives(sims[1], excluded[1], draws.negative_image)
            negatives = Negatives(text_rows, image_rows, has_text, has_image)
            pairs = self.pair(negatives, batch)
            fused = student.fuse(text[pairs.texts], batch.keep[pairs.texts], image[pairs.images])
            losses |= self.itm_losses(student.match_logits(fused), pairs, batch)

        # 5. MLM: masked words, with the help of the image (eq. 3, 7)
        if phase.match and "mlm" not in self.without:
            rows = slice(None, None, self.config.mlm_every)
            tokens, keep = batch.tokens[rows], batch.keep[rows]
            choose, kind, words = [draw[rows, :tokens.shape[1]] for draw in
                                   (draws.choose, draws.kind, draws.words)]
            masked, hidden = self.mask_words(tokens, self.special, self.mask, self.rates[tokens],
                                             choose, kind, words)
            fused = student.fuse(student.encode_text(masked, keep), keep, image[rows])
            logits = student.word_logits(fused[hidden])                  # (m, v)
            teacher_logits = None
            if phase.teacher and alpha:
                with torch.no_grad():
                    fused = teacher.encode_text(masked, keep)
                    fused = teacher.fuse(fused, keep, teacher_image[rows])
                    teacher_logits = teacher.word_logits(fused[hidden])
            losses["mlm"] = self.mlm_loss(logits, tokens[hidden], hidden.sum(), teacher_logits,
                                          alpha)
        return losses | self.own_losses(batch, image, text, draws, phase), keys

    def start(self, albef: nn.Module, teacher: nn.Module | None = None) -> None:
        """Begin from a trained ALBEF and its teacher, or from a copy of the student without one."""
        super().start(albef, teacher)
        if self.config.share_stem:
            self.share_stem()

    @torch.no_grad()
    def after_step(self, keys: Keys) -> None:
        """After the optimiser: clamp the temperature, move the teacher, fill the queue."""
        self.student.temperature.clamp_(self.config.temperature_min, self.config.temperature_max)
        self.update_teacher(self.teacher, self.student, self.config.teacher_momentum)
        if self.config.share_stem:
            self.share_stem()
        self.queue.push(*keys)

    @torch.no_grad()
    def validate(self, batch: "PretrainBatch", draws: "Draws") -> tuple[dict[str, Tensor], Keys]:
        """The student's losses on a validation batch, and its features and keys.

        Every objective counts, in every phase, and neither teacher nor queue takes part: the rows
        compete with each other alone. So figures of different steps compare. Changes nothing.
        """
        everything = Phase(match=True, queue=False, hard=True, teacher=False)
        return self(batch, 0.0, draws, everything)

    def draws(self, step: int) -> "Draws":
        """The random draws of a step, for this process."""
        return make_draws(step, self.config, self.rank, self.world)

    def phase(self, step: int) -> "Phase":
        """What a step trains: everything, unless the config begins parts later."""
        progress = step / self.config.steps
        return Phase(progress >= self.config.match_from, progress >= self.config.queue_from,
                     progress >= self.config.hard_from)

    def positives(self, batch: "PretrainBatch", ids: Tensor, rows: int | None = None
                  ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Which keys are right for a row, and which are no negatives of it.

        ids: (k,) of the keys, the first `rows` of which are the batch's, of all processes
        -> ITC's positives (b, k), and what ITM excludes (b, rows): each with images as queries, and
           with texts. Equal ids are excluded even where equal_ids_match=False keeps ITC from
           learning them as positives.
        """
        keys = batch.keys(self.config.equal_texts_match)[:, None]                # (b, 1)
        b = len(keys)
        rows = rows or b
        first = self.rank * b
        by_text = self.config.equal_texts_match and batch.texts is not None
        same = keys >> 32 == ids >> 32 if by_text else keys == ids               # (b, k)
        positive = same
        if not self.config.equal_ids_match:      # a row's own key alone
            places = torch.arange(len(ids), device=ids.device)
            positive = places == places[first:first + b, None]
        if by_text:
            same_text = keys % 2 ** 32 == ids % 2 ** 32
            same, positive = same | same_text, positive | same_text
        excluded = same[:, :rows]
        if batch.match is None:
            return (positive, positive), (excluded, excluded)
        true_texts = batch.match[:, first:first + b].T                           # (b, rows)
        true_images = batch.match[first:first + b]
        in_batch, queue = positive[:, :rows], positive[:, rows:]
        positives = (torch.cat([in_batch | true_texts, queue], 1),
                     torch.cat([in_batch | true_images, queue], 1))
        return positives, (excluded | true_texts, excluded | true_images)

    def pair(self, negatives: "Negatives", batch: "PretrainBatch") -> "Pairs":
        """ITM's pairs: each text with its image and a wrong one, each image with a wrong text."""
        rows = torch.arange(len(batch.image), device=batch.image.device)
        labels = torch.cat([torch.ones_like(rows), torch.zeros_like(rows).repeat(2)])
        return Pairs(
            texts=torch.cat([rows, rows, negatives.text]),
            images=torch.cat([rows, negatives.image, rows]),
            labels=labels,
            valid=torch.cat([rows >= 0, negatives.has_image, negatives.has_text]),
        )

    def itm_losses(self, logits: Tensor, pairs: "Pairs", batch: "PretrainBatch"
                   ) -> dict[str, Tensor]:
        """ITM of the pairs, by name: do image and text belong together? logits: (p, 2)"""
        return {"itm": self.itm_loss(logits, pairs.labels, pairs.valid, pairs.valid.sum())}

    def own_losses(self, batch: "PretrainBatch", image: Tensor, text: Tensor, draws: "Draws",
                   phase: "Phase") -> dict[str, Tensor]:
        """Losses that a subclass adds to the paper's, by name, from what is encoded already."""
        return {}

    def per_process(self, rows: Tensor) -> Tensor:
        """How many rows are True: what a subclass's loss, a sum over them, is divided by."""
        return rows.sum().float()

    @torch.no_grad()
    def share_stem(self) -> None:
        """Give the teacher the student's stem, as config.share_stem has it at every step."""
        if hasattr(self.teacher, "image_encoder"):
            encoders: list[Any] = [self.student.image_encoder, self.teacher.image_encoder]
            student, teacher = [encoder.patch_embed for encoder in encoders]
            teacher.load_state_dict(student.state_dict())


@dataclass(frozen=True)
class PretrainBatch(Batch):
    """A Batch of B rows over all processes, and which captions are true of which images."""

    match: Tensor | None = None       # (B, B) bool: caption i is true of image j; None: unknown
    texts: Tensor | None = None       # (b,) 32 bits of each caption's hash; None for scenes
    columns = ("match",)

    def keys(self, equal_texts: bool) -> Tensor:
        """Keys (b,) of which equal ones are positives: the ids.

        With equal_texts, 31 bits of the id stand before 32 bits of the caption's hash.
        """
        if not equal_texts or self.texts is None:
            return self.ids
        return (self.ids % 2 ** 31 << 32) | self.texts


@dataclass(frozen=True)
class Draws(Rows):
    """The random draws of one step, for the rows of one process."""

    step: int
    choose: Tensor                    # (b, l) uniform: whether a word is masked
    kind: Tensor                      # (b, l) uniform in [0, 1): how a masked token is replaced
    words: Tensor                     # (b, l) ids: random words to put in
    negative_image: Tensor            # (b, B) uniform: an image for each text
    negative_text: Tensor             # (b, B) uniform: a text for each image
    columns = ("negative_image", "negative_text")


class Phase(NamedTuple):
    """Which parts a step has. The paper's steps have all; small models begin gently, see config."""

    match: bool                       # ITM and MLM
    queue: bool                       # ITC contrasts with the queue, too
    hard: bool                        # ITM's negatives are drawn by similarity
    teacher: bool = True              # it gives keys and soft targets; in validation it doesn't


class Negatives(NamedTuple):
    """A wrong text for each image and a wrong image for each text, as rows of the batch."""

    text: Tensor                      # (b,)
    image: Tensor                     # (b,)
    has_text: Tensor                  # (b,) bool, False where there is none to draw
    has_image: Tensor                 # (b,)


class Pairs(NamedTuple):
    """ITM's 3b pairs, as rows of texts and of images that are encoded once."""

    texts: Tensor                     # (3b,)
    images: Tensor                    # (3b,)
    labels: Tensor                    # (3b,) 1: they match
    valid: Tensor                     # (3b,) bool, False where there was no negative to draw


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 30
            ) -> PretrainBatch:
    """Images of side `size` and captions of at most `length` tokens: records -> a batch.

    Records with equal match keys match each other.
    """
    batch = data.collate(records, tokenizer, size, length)
    texts = [zlib.crc32(row[keep].numpy().tobytes()) for row, keep in zip(batch.tokens, batch.keep)]
    return PretrainBatch(**vars(batch), texts=torch.tensor(texts))


def make_draws(step: int, config: Config, rank: int = 0, world: int = 1) -> Draws:
    """The draws of a step for a process's rows, from (seed, step) and the row alone."""
    batch = config.batch
    length = config.text_length
    rows = slice(batch * rank // world, batch * (rank + 1) // world)
    blocks = []
    for generator, count, own in row_generators(config.seed, step, batch, rows):
        choose = torch.rand(count, length, generator=generator)          # in this order: each
        kind = torch.rand(count, length, generator=generator)            # takes it further
        words = torch.randint(config.vocab_size, (count, length), generator=generator)
        negative_image = torch.rand(count, batch, generator=generator)
        negative_text = torch.rand(count, batch, generator=generator)
        draws = choose, kind, words, negative_image, negative_text
        blocks.append([draw[own] for draw in draws])
    choose, kind, words, negative_image, negative_text = map(torch.cat, zip(*blocks))
    for uniform in (choose, kind, negative_image, negative_text):
        uniform.clamp_(1e-7, 1 - 1e-7)
    return Draws(step, choose, kind, words, negative_image, negative_text)


def check_stem(encoder: nn.Module) -> None:
    """Raises ValueError for an image encoder whose stem can't be shared with the teacher's."""
    if not (hasattr(encoder, "patch_embed") and hasattr(encoder, "attend")):
        raise ValueError("share_stem=True needs an image encoder whose stem stands apart, with "
                         "patch_embed(image) and attend(patches) as in minalbef.ViT, and this "
                         f"one is a {type(encoder).__name__}; take share_stem=False")
