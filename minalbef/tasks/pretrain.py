"""Pretraining: ITC, ITM and MLM, with momentum distillation (sections 3.2 and 3.3)."""
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef import data, distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Record, Rows
from minalbef.draws import step_generator
from minalbef.ema import Distilled
from minalbef.feature_queue import FeatureQueue
from minalbef.fusion import KeysValues
from minalbef.losses import hard_negatives, itc_loss, itm_loss, mlm_loss
from minalbef.masking import mask_words
from minalbef.tasks.base import Task
from minalbef.tokenizer import Tokenizer

Carry = tuple[Tensor, Tensor, Tensor]            # features (B, e) of the teacher, image and text, and keys (B,)


@dataclass(frozen=True)
class PretrainBatch(Batch):
    """A Batch of B rows over all processes, and which captions are true of which of its pictures."""

    match: Tensor | None = None       # (B, B) bool: caption i is true of picture j; None: unknown
    texts: Tensor | None = None       # (b,) 32 bits of each caption's hash; None for scenes, whose match says more
    columns = ("match",)

    def keys(self, equal_texts: bool) -> Tensor:
        """Key that identifies positive pairs: ids (b,); with equal_texts 31 bits of it before 32 of the text's hash."""
        if not equal_texts or self.texts is None:
            return self.ids
        return (self.ids % 2 ** 31 << 32) | self.texts


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 30
            ) -> PretrainBatch:
    """Images of side `size` and captions of at most `length` tokens: records -> a batch.

    Records with equal ids match each other.
    """
    batch = data.collate(records, tokenizer, size, length)
    texts = [zlib.crc32(row[keep].numpy().tobytes()) for row, keep in zip(batch.tokens, batch.keep)]
    return PretrainBatch(**vars(batch), texts=torch.tensor(texts))


def shared_keys(a: Tensor, b: Tensor, equal_texts: bool) -> Tensor:
    """Where `PretrainBatch.keys` are of one picture or, with equal_texts, one caption: (b,), (k,) -> (b, k) bool."""
    a = a[:, None]
    return (a >> 32 == b >> 32) | (a % 2 ** 32 == b % 2 ** 32) if equal_texts else a == b


def own_keys(a: Tensor, b: Tensor, first: int, equal_texts: bool) -> Tensor:
    """`shared_keys` where equal ids don't count: each row's own key, the first of b's row `first`."""
    own = torch.arange(len(b), device=b.device) == first + torch.arange(len(a), device=a.device)[:, None]
    return own | (a[:, None] % 2 ** 32 == b % 2 ** 32) if equal_texts else own


@dataclass(frozen=True)
class Draws(Rows):
    """The random draws of one step, for the rows of one process; made for the whole batch, so processes agree."""

    step: int
    choose: Tensor                    # (b, l) uniform: whether a word is masked
    kind: Tensor                      # (b, l) uniform in [0, 1): how a masked token is replaced
    words: Tensor                     # (b, l) ids: random words to put in
    negative_image: Tensor            # (b, B) uniform: an image for each text
    negative_text: Tensor             # (b, B) uniform: a text for each image
    columns = ("negative_image", "negative_text")


@dataclass(frozen=True)
class MaskedDraws(Draws):
    """Draws, and the words that they hide; `Pretrain.prepare` makes them."""

    masked: Tensor                    # (b, l) ids, words hidden
    places: Tensor                    # (m,) where, row after row: of b * l
    hidden: Tensor                    # () how many in a step, over its passes


class Phase(NamedTuple):
    """Which objectives a step has. The paper's steps have all; small models begin gently, see config."""

    match: bool                       # ITM and MLM
    queue: bool                       # ITC contrasts with the queue, too
    hard: bool                        # ITM's negatives are drawn by similarity


class Encoded(NamedTuple):
    """What a model's encoders make of a batch; masked_text is text where no words are masked."""

    image: Tensor                     # (b, 1 + n, d)
    text: Tensor                      # (b, l, d)
    masked_text: Tensor               # (b, l, d)
    features: tuple[Tensor, Tensor]   # (b, e) of images and of texts, of length 1


class Pairs(NamedTuple):
    """ITM's pairs: images, texts, keep to choose from; rows of texts and of images (3b,); labels and valid."""

    images: Tensor
    texts: Tensor
    keep: Tensor
    rows: tuple[Tensor, Tensor]
    labels: Tensor
    valid: Tensor


def make_draws(step: int, config: Config, rank: int = 0, world: int = 1) -> Draws:
    """The draws of a step, from (seed, step) alone: a resumed run needs no hidden state."""
    whole, length, generator = config.batch, config.text_length, step_generator(config.seed, step)
    mine = distributed.own_rows(whole, rank, world)
    def uniform(width: int) -> Tensor:
        return torch.rand(whole, width, generator=generator).clamp(1e-7, 1 - 1e-7)[mine]
    return Draws(step, uniform(length), uniform(length),
                 torch.randint(config.vocab_size, (whole, length), generator=generator)[mine],
                 uniform(whole), uniform(whole))


def encode(model: ALBEF, batch: PretrainBatch, words: MaskedDraws | None) -> Encoded:
    """Images, texts and masked texts, the two of them in one pass."""
    image = model.encode_image(batch.image)
    if words is None:
        text = masked_text = model.encode_text(batch.tokens, batch.keep)
    else:
        tokens = torch.cat([batch.tokens, words.masked])
        text, masked_text = model.encode_text(tokens, batch.keep.repeat(2, 1)).chunk(2)
    features = model.image_feature(image), model.text_feature(text)
    return Encoded(image, text, masked_text, features)


class Pretrain(Distilled[ALBEF]):
    """ALBEF, its teacher and its queue, under the three objectives."""

    rates: Tensor

    def __init__(self, config: Config, special: tuple[int, ...] = (0, 1, 2, 3, 4), mask: int = 4,
                 rates: Tensor | None = None, student: ALBEF | None = None,
                 itc: Callable[..., Tensor] | None = None, without: Collection[str] = ()):
        """special: the tokenizer's ids that are never masked (the original spares [PAD] and [CLS] alone)

        mask: the id of [MASK]
        rates: (v,) how often each word is masked, see masking.mask_rates; by default all at config.mask_rate
        student: in place of ALBEF(config). itc: a loss in place of losses.itc_loss, called as it is
        without: objectives to leave out, of "itm" and "mlm"
        Raises ValueError for another objective.
        """
        super().__init__(config, ALBEF(config) if student is None else student)
        if rates is None:
            rates = torch.full((config.vocab_size,), config.mask_rate)
        self.register_buffer("rates", rates)
        # where batches are made: what moves the module moves its buffers alone
        self.rates_at_hand = self.rates
        self.register_load_state_dict_post_hook(
            lambda task, _: setattr(task, "rates_at_hand", task.rates.cpu()))
        if unknown := set(without) - {"itm", "mlm"}:
            raise ValueError(f"without={sorted(unknown)}: only itm and mlm can be left out; "
                             "ITC finds hard negatives")
        self.special, self.mask, self.itc, self.without = special, mask, itc, without
        self.queue = FeatureQueue(config.queue_size, config.embed_dim)

    def draws(self, step: int) -> Draws:
        """The random draws of a step, for this process."""
        return make_draws(step, self.config, distributed.rank(), distributed.world())

    def phase(self, step: int) -> Phase:
        """What a step trains: everything, unless the config begins parts later."""
        progress = step / self.config.steps
        return Phase(progress >= self.config.match_from, progress >= self.config.queue_from,
                     progress >= self.config.hard_from)

    def prepare(self, passes: list[tuple[PretrainBatch, Draws]]
                ) -> list[tuple[PretrainBatch, MaskedDraws]]:
        """Mask the words of a step's passes, on the CPU: counting them on a GPU would wait for it."""
        masks = []
        for batch, draws in passes:
            length = batch.tokens.shape[1]
            on_hand = self.rates_at_hand.device == batch.tokens.device
            rates = self.rates_at_hand if on_hand else self.rates
            masked, hidden = mask_words(
                batch.tokens, self.special, self.mask, rates[batch.tokens],
                draws.choose[:, :length], draws.kind[:, :length], draws.words[:, :length])
            masks.append((masked, hidden.flatten().nonzero()[:, 0]))
        count = sum(len(places) for _, places in masks) / len(passes)
        prepared = []
        for (batch, draws), (masked, places) in zip(passes, masks):
            hidden = torch.tensor(count, device=places.device)
            words = MaskedDraws(**vars(draws), masked=masked, places=places, hidden=hidden)
            prepared.append((batch, words))
        return prepared

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws
                ) -> tuple[dict[str, Tensor], Carry]:
        """-> losses by name, and the state `after_step` needs. Changes nothing.

        alpha: weight of the teacher's soft targets
        """
        phase = self.phase(draws.step)
        draws = self.prepared(batch, draws)
        words = self.hidden_words(draws) if phase.match else None
        student = encode(self.student, batch, words)
        teacher = self.ask_teacher(batch, words if alpha else None)
        carry = self.gather(teacher.features, batch)
        sims, positives, itc = self.align(*student.features, teacher.features, carry, batch, alpha,
                                          phase.queue)
        losses = {"itc": itc}
        if phase.match:
            pairs = self.pair(student.image, student.text, batch.keep, sims, positives, draws,
                              phase.hard)
            keys_values = self.student.fusion.keys_values(pairs.images)
            if "itm" not in self.without:
                losses |= self.match(pairs, keys_values, draws)
            if words is not None:
                losses["mlm"] = self.predict_words(student, batch, keys_values, words, teacher, alpha)
        return losses, carry

    @torch.no_grad()
    def validate(self, batch: PretrainBatch, draws: Draws) -> tuple[dict[str, Tensor], Carry]:
        """The student's losses on a validation batch, and the features and keys of all processes.

        Every objective counts, in every phase, and neither teacher nor queue takes part: the rows
        compete with each other alone. So figures of different steps compare. Changes nothing.
        """
        draws = self.prepared(batch, draws)
        words = self.hidden_words(draws)
        student = encode(self.student, batch, words)
        carry = self.gather(student.features, batch)
        sims, positives, itc = self.align(*student.features, student.features, carry, batch, 0.0,
                                          False)
        losses = {"itc": itc}
        pairs = self.pair(student.image, student.text, batch.keep, sims, positives, draws, True)
        keys_values = self.student.fusion.keys_values(pairs.images)
        if "itm" not in self.without:
            losses |= self.match(pairs, keys_values, draws)
        if words is not None:
            losses["mlm"] = self.predict_words(student, batch, keys_values, words)
        return losses, carry

    def prepared(self, batch: PretrainBatch, draws: Draws) -> Draws:
        """The draws with what `prepare` adds, if the step needs it and the loop has not done so."""
        if self.needs_preparing(batch) and not isinstance(draws, MaskedDraws):
            ((_, draws),) = self.prepare([(batch, draws)])
        return draws

    def needs_preparing(self, batch: PretrainBatch) -> bool:
        """Whether the losses of a batch need what `prepare` adds to the draws."""
        return "mlm" not in self.without

    def hidden_words(self, draws: Draws) -> MaskedDraws | None:
        """The draws for MLM; None where it is left out."""
        if "mlm" in self.without:
            return None
        assert isinstance(draws, MaskedDraws)
        return draws

    @torch.inference_mode()
    def ask_teacher(self, batch: PretrainBatch, words: MaskedDraws | None) -> Encoded:
        """What the teacher's encoders make of a batch, and of its masked texts where words are given."""
        return encode(self.teacher, batch, words)

    def match(self, pairs: Pairs, keys_values: KeysValues, draws: Draws) -> dict[str, Tensor]:
        """ITM: do image and text of each pair belong together? -> its loss, by name."""
        logits = self.match_logits(pairs, keys_values)
        return {"itm": itm_loss(logits, pairs.labels, pairs.valid, self.share(pairs.valid))}

    def match_logits(self, pairs: Pairs, keys_values: KeysValues) -> Tensor:
        """ITM's logits of all pairs, (p, 2), in one pass of fusion."""
        fused = self.student.fuse(pairs.texts, pairs.keep, None, pairs=pairs.rows, queries=1,
                                  keys_values=keys_values)
        return self.student.match_logits(fused)

    def predict_words(self, student: Encoded, batch: PretrainBatch, keys_values: KeysValues,
                      words: MaskedDraws, teacher: Encoded | None = None, alpha: float = 0.0
                      ) -> Tensor:
        """MLM: which words are masked? Each text is fused with its own image.

        keys_values: of the batch's images, and behind them of images fetched from other processes
        """
        b = len(student.text)
        own = [(keys[:b], values[:b]) for keys, values in keys_values]
        fused = self.student.fuse(student.masked_text, batch.keep, None, keys_values=own)
        logits = self.student.word_logits(fused.flatten(0, 1)[words.places])     # (m, v)
        labels = batch.tokens.flatten()[words.places]
        teacher_logits = None
        if teacher is not None and alpha:
            with torch.inference_mode():
                fused = self.teacher.fuse(teacher.masked_text, batch.keep, teacher.image)
                teacher_logits = self.teacher.word_logits(fused.flatten(0, 1)[words.places])
        return mlm_loss(logits, labels, self.share(words.hidden), teacher_logits, alpha)

    def gather(self, features: tuple[Tensor, Tensor], batch: PretrainBatch) -> Carry:
        """The teacher's features and the batch's keys, of all processes."""
        image, text = map(distributed.gather, features)
        return image, text, distributed.gather(batch.keys(self.equal_texts(batch)))

    def align(self, image: Tensor, text: Tensor, teacher_features: tuple[Tensor, Tensor], carry: Carry,
              batch: PretrainBatch, alpha: float, queued: bool) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """ITC: -> in-batch similarities and positives, each for (images, texts) as queries, and the loss.

        Equal ids are among these positives, which ITM takes for no negatives, even where
        equal_ids_match=False keeps ITC from learning them as such.
        """
        b, whole = len(image), len(carry[2])
        queue_image, queue_text, queue_ids = self.queue.features() if queued else (x[:0] for x in carry)
        keys_image, keys_text = torch.cat([carry[0], queue_image]), torch.cat([carry[1], queue_text])   # (k, e)
        equal_texts = self.equal_texts(batch)
        mine = slice(distributed.rank() * b, (distributed.rank() + 1) * b)
        ids = batch.keys(equal_texts), torch.cat([carry[2], queue_ids])
        same = taught = shared_keys(*ids, equal_texts)                                          # (b, k)
        if not self.config.equal_ids_match:
            taught = own_keys(*ids, mine.start, equal_texts)
        true = (taught[:, :whole],) * 2
        if batch.match is not None:
            true = (batch.match[:, mine].T, batch.match[mine])
        sims, positives, losses = [], [], []
        for query, keys, opinion, also in zip((image, text), (keys_text, keys_image), teacher_features, true):
            with torch.autocast(image.device.type, enabled=False):               # bf16 has too few digits to compare
                sim = query @ keys.T / self.student.temperature                                         # (b, k)
                with torch.no_grad():
                    teacher_sim = opinion @ keys.T / self.student.temperature
            positive = torch.cat([taught[:, :whole] | also, taught[:, whole:]], 1)
            losses.append((self.itc or itc_loss)(sim, teacher_sim, alpha, positive) / 2)
            sims.append(sim[:, :whole].detach())
            positives.append(same[:, :whole] | also)
        return sims, positives, losses[0] + losses[1]

    def pair(self, image: Tensor, text: Tensor, keep: Tensor, sims: Sequence[Tensor], positives: Sequence[Tensor],
             draws: Draws, hard: bool) -> Pairs:
        """ITM's pairs: each text with its image, with a wrong image, and each image with a wrong text."""
        b, near = len(image), self.config.hard_negatives == "local"
        own = torch.arange(b, device=image.device)
        if near:                                                 # rows of other processes are no negatives
            far = torch.arange(positives[0].shape[1], device=image.device) // b != distributed.rank()
            positives = [positive | far for positive in positives]
        (wrong_text, text_valid), (wrong_image, image_valid) = (
            hard_negatives(sim if hard else torch.zeros_like(sim), positive, uniform)
            for sim, positive, uniform in zip(sims, positives, (draws.negative_text, draws.negative_image)))
        if not near:                                             # texts go from process to process
            room = distributed.longest(text.shape[1]) - text.shape[1]
            text, keep = F.pad(text, (0, 0, 0, room)), F.pad(keep, (0, room))
        images, wrong_image = distributed.fetch(image, wrong_image, near)
        keeps, _ = distributed.fetch(keep, wrong_text, near)
        texts, wrong_text = distributed.fetch(text, wrong_text, near)
        rows = (torch.cat([own, own, wrong_text]), torch.cat([own, wrong_image, own]))
        labels = torch.cat([torch.ones_like(own), torch.zeros_like(own).repeat(2)])
        return Pairs(images, texts, keeps, rows, labels,
                     torch.cat([torch.ones_like(image_valid), image_valid, text_valid]))

    def equal_texts(self, batch: PretrainBatch) -> bool:
        """Whether equal captions match."""
        return self.config.equal_texts_match and batch.texts is not None

    @staticmethod
    def share(rows: Tensor) -> Tensor:
        """Rows of all processes over processes: a sum divided by it, averaged over processes, is the global mean."""
        return distributed.total(rows.sum().float()) / distributed.world()

    @torch.no_grad()
    def after_step(self, carry: Carry) -> None:
        """After the optimiser: hold the temperature in its range, move the teacher, fill the queue."""
        self.student.temperature.clamp_(self.config.temperature_min, self.config.temperature_max)
        super().after_step(carry)
        self.queue.push(*carry)


TASK = Task(
    name="pretrain",
    module=Pretrain,
    collate=collate,
    begins_from=(),
    presets=("paper-4m", "paper-14m", "base"),
)
