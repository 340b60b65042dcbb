"""Pretraining: ITC, ITM and MLM, with momentum distillation (sections 3.2 and 3.3)."""
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef import data, distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Record, Rows
from minalbef.draws import draw_rows
from minalbef.ema import Distilled
from minalbef.feature_queue import FeatureQueue
from minalbef.fusion import KeysValues
from minalbef.losses import hard_negatives, itc_loss, itm_loss, mlm_loss
from minalbef.masking import mask_words
from minalbef.tasks.base import Task
from minalbef.text import text_cls
from minalbef.tokenizer import Tokenizer
from minalbef.vision import attend_cls, image_cls

# the teacher's features of images and of texts (B, e), and the rows' keys (B,), of all processes
Carry = tuple[Tensor, Tensor, Tensor]


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


def collate(records: Sequence[Record], tokenizer: Tokenizer, size: int, length: int = 30
            ) -> PretrainBatch:
    """Images of side `size` and captions of at most `length` tokens: records -> a batch.

    Records with equal match keys match each other.
    """
    batch = data.collate(records, tokenizer, size, length)
    texts = [zlib.crc32(row[keep].numpy().tobytes()) for row, keep in zip(batch.tokens, batch.keep)]
    return PretrainBatch(**vars(batch), texts=torch.tensor(texts))


def shared_keys(a: Tensor, b: Tensor, equal_texts: bool) -> Tensor:
    """Where `PretrainBatch.keys` have the same id: (b,), (k,) -> (b, k) bool.

    With equal_texts, also where they are of the same caption.
    """
    a = a[:, None]
    if not equal_texts:
        return a == b
    return (a >> 32 == b >> 32) | (a % 2 ** 32 == b % 2 ** 32)


def own_keys(a: Tensor, b: Tensor, first: int, equal_texts: bool) -> Tensor:
    """`shared_keys` where equal ids don't count: row i of a matches row `first` + i of b alone."""
    rows = first + torch.arange(len(a), device=a.device)
    same_row = torch.arange(len(b), device=b.device) == rows[:, None]
    if not equal_texts:
        return same_row
    return same_row | (a[:, None] % 2 ** 32 == b % 2 ** 32)


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


@dataclass(frozen=True)
class MaskedDraws(Draws):
    """Draws, and the words that they hide; `Pretrain.prepare` makes them.

    They are of r rows of the batch: the first, and every `every`-th after it.
    """

    every: int                        # config.mlm_every
    masked: Tensor                    # (r, l) ids, words hidden
    places: Tensor                    # (m,) where, row after row: of r * l
    order: Tensor                     # (r, l) each row's words, hidden ones first
    most: int                         # hidden words of the row that has most of them, at least 1
    answers: Tensor                   # (m,) the hidden ones of rows' first `most`: of r * most
    hidden: Tensor                    # () how many in a step, over its passes


class Phase(NamedTuple):
    """Which parts a step has. The paper's steps have all; small models begin gently, see config."""

    match: bool                       # ITM and MLM
    queue: bool                       # ITC contrasts with the queue, too
    hard: bool                        # ITM's negatives are drawn by similarity


class Encoded(NamedTuple):
    """What a model's encoders make of a batch; masked_text is text where no words are masked.

    Of the teacher, there, image and text may be [CLS] alone: (b, 1, d).
    """

    image: Tensor                     # (b, 1 + n, d)
    text: Tensor                      # (b, l, d)
    masked_text: Tensor               # (r, l, d), of the rows of MaskedDraws
    features: tuple[Tensor, Tensor]   # (b, e) of images and of texts, of length 1


class Similarities(NamedTuple):
    """ITC's similarities, over temperature, and which keys are positives.

    Of each two, the first has images as queries and texts as keys, the second the reverse. Keys
    are the B rows of all processes, and the queue's behind them.
    """

    student: tuple[Tensor, Tensor]    # (b, k)
    teacher: tuple[Tensor, Tensor]    # (b, k)
    positives: tuple[Tensor, Tensor]  # (b, k) bool
    excluded: tuple[Tensor, Tensor]   # (b, B) bool: not to be drawn as ITM's negatives

    def in_batch(self) -> tuple[Tensor, Tensor]:
        """The student's, of the batch's rows alone, without gradient: (b, B)."""
        image, text = self.student
        rows = self.excluded[0].shape[1]
        return image[:, :rows].detach(), text[:, :rows].detach()


class Pairs(NamedTuple):
    """ITM's 3b pairs, as rows of images and of texts that are encoded once."""

    images: Tensor                    # (p, 1 + n, d): the batch's, then other processes'
    texts: Tensor                     # (p, l, d)
    keep: Tensor                      # (p, l) bool
    rows: tuple[Tensor, Tensor]       # (3b,) of texts, and of images
    labels: Tensor                    # (3b,) 1: they match
    valid: Tensor                     # (3b,) bool, False where there was no negative to draw


class Step(NamedTuple):
    """What the objectives of a step share, so that nothing is encoded twice."""

    batch: PretrainBatch
    draws: Draws                      # MaskedDraws in steps that have MLM
    alpha: float                      # weight of the teacher's soft targets
    phase: Phase
    student: Encoded
    teacher: Encoded
    similarities: Similarities
    pairs: Pairs | None = None        # these two in steps that have ITM or MLM
    keys_values: KeysValues | None = None    # of pairs.images, the first b of which are the batch's


Objective = Callable[[Step], dict[str, Tensor]]


def make_draws(step: int, config: Config, rank: int = 0, world: int = 1) -> Draws:
    """The draws of a step for a process's rows, from (seed, step) and the row alone."""
    batch = config.batch
    length = config.text_length

    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
        def uniform(width: int) -> Tensor:
            return torch.rand(count, width, generator=generator).clamp_(1e-7, 1 - 1e-7)

        choose = uniform(length)                 # in this order: each takes the generator further
        kind = uniform(length)
        words = torch.randint(config.vocab_size, (count, length), generator=generator)
        negative_image = uniform(batch)
        negative_text = uniform(batch)
        return choose, kind, words, negative_image, negative_text

    rows = distributed.rank_rows(batch, rank, world)
    return Draws(step, *draw_rows(config.seed, step, batch, rows, draw))


def find_hidden(hidden: Tensor) -> dict[str, Any]:
    """Where words are hidden, (b, l) bool: `places`, `order`, `answers`, `most` of MaskedDraws."""
    counts = hidden.sum(1)
    most = max(int(counts.max()), 1)
    ranks = torch.arange(most, device=hidden.device)
    return {
        "places": hidden.flatten().nonzero()[:, 0],
        "order": hidden.byte().argsort(dim=1, descending=True, stable=True),
        "answers": (ranks < counts[:, None]).flatten().nonzero()[:, 0],
        "most": most,
    }


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Each row's words in another order: (b, l, d), order (b, l) -> (b, l, d)."""
    rows = torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    # gather takes twice as long on a CPU, both ways
    return x.flatten(0, 1).index_select(0, (rows + order).flatten()).view_as(x)


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


class Pretrain(Distilled[ALBEF]):
    """ALBEF, its teacher and its queue, under the three objectives.

    A subclass may replace what a step computes with: itc_loss, itm_loss, mlm_loss, hard_negatives,
    mask_words, make_queue, and Distilled's make_teacher and update_teacher.
    """

    make_queue = staticmethod(FeatureQueue)
    rates: Tensor

    def __init__(self, config: Config, special: tuple[int, ...] = (0, 1, 2, 3, 4), mask: int = 4,
                 rates: Tensor | None = None, student: ALBEF | None = None,
                 itc: Callable[..., Tensor] | None = None, without: Collection[str] = ()):
        """special: the tokenizer's ids that are never masked (the original's: [PAD] and [CLS])

        mask: the id of [MASK]
        rates: (v,) how often each word is masked, see masking.mask_rates; by default
            config.mask_rate for all
        student: in place of ALBEF(config). itc: a loss in place of losses.itc_loss, called as it is
        without: objectives to leave out, of "itm" and "mlm"
        Raises ValueError for another objective.
        """
        super().__init__(config, ALBEF(config) if student is None else student)
        self.custom_student = student is not None
        encoder: Any = self.student.image_encoder
        stands_apart = hasattr(encoder, "patch_embed") and hasattr(encoder, "attend")
        if config.share_stem and not stands_apart:
            raise ValueError("share_stem=True needs an image encoder whose stem stands apart, with "
                             "patch_embed(image) and attend(patches) as in minalbef.ViT, and this "
                             f"one is a {type(encoder).__name__}; take share_stem=False")
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
        self.queue = self.make_queue(config.queue_size, config.embed_dim)

    def itc_loss(self, *arguments: Any) -> Tensor:
        """See losses.itc_loss."""
        return itc_loss(*arguments)

    def itm_loss(self, *arguments: Any) -> Tensor:
        """See losses.itm_loss."""
        return itm_loss(*arguments)

    def mlm_loss(self, *arguments: Any) -> Tensor:
        """See losses.mlm_loss."""
        return mlm_loss(*arguments)

    def hard_negatives(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        """See losses.hard_negatives."""
        return hard_negatives(*arguments)

    def mask_words(self, *arguments: Any) -> tuple[Tensor, Tensor]:
        """See masking.mask_words."""
        return mask_words(*arguments)

    @property
    def unused_parts(self) -> tuple[str, ...] | None:
        """See train.fit; None for a student of yours, and where ITM and MLM begin later."""
        if self.custom_student or self.config.match_from > 0:
            return None
        parts = {"itm": "match_head", "mlm": "word_head"}
        unused = [parts[objective] for objective in parts if objective in self.without]
        if len(unused) == len(parts):            # no other loss is of fused tokens
            unused.append("fusion")
        return tuple(unused)

    def draws(self, step: int) -> Draws:
        """The random draws of a step, for this process."""
        return make_draws(step, self.config, distributed.rank(), distributed.world())

    def phase(self, step: int) -> Phase:
        """What a step trains: everything, unless the config begins parts later."""
        progress = step / self.config.steps
        return Phase(progress >= self.config.match_from, progress >= self.config.queue_from,
                     progress >= self.config.hard_from)

    def objectives(self, phase: Phase) -> list[Objective]:
        """What a step computes from what is encoded, in this order; each gives its losses by name.

        A subclass adds its own here.
        """
        objectives: list[Objective] = [self.align]
        if phase.match and "itm" not in self.without:
            objectives.append(self.match)
        if phase.match and "mlm" not in self.without:
            objectives.append(self.predict_words)
        return objectives

    def prepare(self, passes: list[tuple[PretrainBatch, Draws]]
                ) -> list[tuple[PretrainBatch, MaskedDraws]]:
        """Mask the words of a step's passes, on the CPU: to count them on a GPU would stall it."""
        every = self.config.mlm_every
        masks = []
        for batch, draws in passes:
            length = batch.tokens.shape[1]
            on_hand = self.rates_at_hand.device == batch.tokens.device
            rates = self.rates_at_hand if on_hand else self.rates
            masked, hidden = self.mask_words(
                batch.tokens, self.special, self.mask, rates[batch.tokens],
                draws.choose[:, :length], draws.kind[:, :length], draws.words[:, :length])
            masks.append((masked[::every], hidden[::every]))
        count = torch.stack([hidden.sum() for _, hidden in masks]).float().mean()
        prepared = []
        for (batch, draws), (masked, hidden) in zip(passes, masks):
            words = MaskedDraws(**vars(draws), every=every, masked=masked, hidden=count,
                                **find_hidden(hidden))
            prepared.append((batch, words))
        return prepared

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws
                ) -> tuple[dict[str, Tensor], Carry]:
        """-> losses by name, and the state `after_step` needs. Changes nothing.

        alpha: weight of the teacher's soft targets
        """
        phase = self.phase(draws.step)
        draws = self.prepared(batch, draws)
        words = self.hidden_words(draws, phase)
        patches = None
        if self.config.share_stem:
            image = batch.image.to(self.student.image_proj.weight.dtype)
            encoder: Any = self.student.image_encoder
            patches = encoder.patch_embed(image)
        student = encode(self.student, batch, words, patches)
        teacher = self.ask_teacher(batch, words if alpha else None, patches)
        carry = self.gather(teacher.features, batch)
        similarities = self.compare(student.features, teacher.features, carry, batch, phase.queue)
        step = Step(batch, draws, alpha, phase, student, teacher, similarities)
        return self.losses(step), carry

    @torch.no_grad()
    def validate(self, batch: PretrainBatch, draws: Draws) -> tuple[dict[str, Tensor], Carry]:
        """The student's losses on a validation batch, and the features and keys of all processes.

        Every objective counts, in every phase, and neither teacher nor queue takes part: the rows
        compete with each other alone. So figures of different steps compare. Changes nothing.
        """
        return self.within_batch(batch, draws, Phase(match=True, queue=False, hard=True))

    def within_batch(self, batch: PretrainBatch, draws: Draws, phase: Phase,
                     patches: Tensor | None = None) -> tuple[dict[str, Tensor], Carry]:
        """The student's losses, each row compared with the batch's alone; no teacher takes part.

        phase: without the queue. patches: what a stem made of the images, if it has been computed
        -> losses by name, and features and keys of all processes
        """
        draws = self.prepared(batch, draws)
        student = encode(self.student, batch, self.hidden_words(draws, phase), patches)
        carry = self.gather(student.features, batch)
        similarities = self.compare(student.features, student.features, carry, batch, phase.queue)
        step = Step(batch, draws, 0.0, phase, student, student, similarities)
        return self.losses(step), carry

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Make pairs where ITM or MLM need them, and compute each objective: -> losses by name."""
        objectives = self.objectives(step.phase)
        if self.match in objectives or self.predict_words in objectives:
            pairs = self.pair(step.student.image, step.student.text, step.batch.keep,
                              step.similarities.in_batch(), step.similarities.excluded, step.draws,
                              step.phase.hard)
            keys_values = self.student.fusion.keys_values(pairs.images)
            step = step._replace(pairs=pairs, keys_values=keys_values)
        losses: dict[str, Tensor] = {}
        for objective in objectives:
            losses |= objective(step)
        return losses

    def prepared(self, batch: PretrainBatch, draws: Draws) -> Draws:
        """The draws with what `prepare` adds, if the step needs it and the loop has not done so."""
        if self.needs_preparing(batch) and not isinstance(draws, MaskedDraws):
            ((_, draws),) = self.prepare([(batch, draws)])
        return draws

    def needs_preparing(self, batch: PretrainBatch) -> bool:
        """Whether the losses of a batch need what `prepare` adds to the draws."""
        return "mlm" not in self.without

    def hidden_words(self, draws: Draws, phase: Phase) -> MaskedDraws | None:
        """The draws for MLM; None in steps that have none."""
        if self.predict_words not in self.objectives(phase):
            return None
        assert isinstance(draws, MaskedDraws)
        return draws

    @torch.inference_mode()
    def ask_teacher(self, batch: PretrainBatch, words: MaskedDraws | None,
                    patches: Tensor | None = None) -> Encoded:
        """The teacher's encodings of a batch; without words to guess, [CLS] alone, which ITC reads.

        patches: the student's, if they share a stem
        """
        if words is not None:
            return encode(self.teacher, batch, words, patches)
        encoder = self.teacher.image_encoder
        if patches is None:
            image = image_cls(encoder, batch.image.to(self.teacher.image_proj.weight.dtype))
        else:
            image = attend_cls(encoder, patches)
        text = text_cls(self.teacher.text_encoder, batch.tokens, batch.keep)
        features = self.teacher.image_feature(image), self.teacher.text_feature(text, batch.keep)
        return Encoded(image, text, text, features)

    def align(self, step: Step) -> dict[str, Tensor]:
        """ITC: which text belongs to an image, and which image to a text?"""
        student, teacher, positives, _ = step.similarities
        itc = self.itc or self.itc_loss
        to_text = itc(student[0], teacher[0], step.alpha, positives[0]) / 2
        to_image = itc(student[1], teacher[1], step.alpha, positives[1]) / 2
        return {"itc": to_text + to_image}

    def match(self, step: Step) -> dict[str, Tensor]:
        """ITM: do image and text of each pair belong together?"""
        assert step.pairs is not None
        labels, valid = step.pairs.labels, step.pairs.valid
        loss = self.itm_loss(self.match_logits(step), labels, valid, self.per_process(valid))
        return {"itm": loss}

    def match_logits(self, step: Step) -> Tensor:
        """ITM's logits of all pairs, (p, 2), in one pass of fusion."""
        assert step.pairs is not None
        fused = self.student.fuse(step.pairs.texts, step.pairs.keep, None, pairs=step.pairs.rows,
                                  queries=1, keys_values=step.keys_values)
        return self.student.match_logits(fused)

    def predict_words(self, step: Step) -> dict[str, Tensor]:
        """MLM: which words are masked? Each text is fused with its own image.

        Hidden words come first, so that the last layer computes them alone. Fusion may take words
        in any order: positions are in the tokens, and attention is permutation-equivariant.
        """
        assert isinstance(step.draws, MaskedDraws) and step.keys_values is not None
        words = step.draws
        own = slice(None, len(step.batch.keep), words.every)     # other processes' images follow
        keep = step.batch.keep[own].gather(1, words.order)
        keys_values = [(keys[own], values[own]) for keys, values in step.keys_values]
        text = reorder(step.student.masked_text, words.order)
        fused = self.student.fuse(text, keep, None, queries=words.most, keys_values=keys_values)
        logits = self.student.word_logits(fused.flatten(0, 1)[words.answers])    # (m, v)
        labels = step.batch.tokens[own].flatten()[words.places]
        teacher_logits = None
        if step.alpha:
            with torch.inference_mode():
                text = reorder(step.teacher.masked_text, words.order)
                image = step.teacher.image[own]
                fused = self.teacher.fuse(text, keep, image, queries=words.most)
                teacher_logits = self.teacher.word_logits(fused.flatten(0, 1)[words.answers])
        hidden = self.per_process(words.hidden)
        return {"mlm": self.mlm_loss(logits, labels, hidden, teacher_logits, step.alpha)}

    def gather(self, features: tuple[Tensor, Tensor], batch: PretrainBatch) -> Carry:
        """The teacher's features and the batch's keys, of all processes."""
        image, text = map(distributed.gather, features)
        return image, text, distributed.gather(batch.keys(self.equal_texts(batch)))

    def compare(self, features: tuple[Tensor, Tensor], teacher_features: tuple[Tensor, Tensor],
                carry: Carry, batch: PretrainBatch, queued: bool) -> Similarities:
        """Images with the teacher's texts, texts with its images: all processes', and the queue's.

        features, teacher_features: (b, e) of images and of texts; carry: from `gather`
        """
        image, text = features
        teacher_image, teacher_text = teacher_features
        queue = self.queue.features() if queued else [part[:0] for part in carry]
        # even with an empty queue: autograd saves no tensors of inference mode, but copies of them
        image_keys, text_keys, ids = [torch.cat(parts) for parts in zip(carry, queue)]   # (k, e)
        temperature = self.student.temperature
        # bf16 has too few digits to compare
        with torch.autocast(image.device.type, enabled=False):
            student = image @ text_keys.T / temperature, text @ image_keys.T / temperature
            with torch.no_grad():
                teacher = (teacher_image @ text_keys.T / temperature,
                           teacher_text @ image_keys.T / temperature)
        positives, excluded = self.positives(batch, ids, len(carry[2]))
        return Similarities(student, teacher, positives, excluded)

    def positives(self, batch: PretrainBatch, ids: Tensor, rows: int
                  ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Positives among keys (k,), the first `rows` of which are the batch's of all processes.

        -> ITC's (b, k), and the batch's (b, B) that ITM excludes; see Similarities. Equal ids are
        excluded even where equal_ids_match=False keeps ITC from learning them as positives
        """
        equal_texts = self.equal_texts(batch)
        keys = batch.keys(equal_texts)                                           # (b,)
        first = distributed.rank() * len(keys)
        same = shared_keys(keys, ids, equal_texts)                               # (b, k)
        positive = same
        if not self.config.equal_ids_match:
            positive = own_keys(keys, ids, first, equal_texts)
        excluded = same[:, :rows]
        if batch.match is None:
            return (positive, positive), (excluded, excluded)
        true_texts = batch.match[:, first:first + len(keys)].T                   # (b, B)
        true_images = batch.match[first:first + len(keys)]
        in_batch, queue = positive[:, :rows], positive[:, rows:]
        positives = (torch.cat([in_batch | true_texts, queue], 1),
                     torch.cat([in_batch | true_images, queue], 1))
        return positives, (excluded | true_texts, excluded | true_images)

    def pair(self, image: Tensor, text: Tensor, keep: Tensor, sims: Sequence[Tensor],
             positives: Sequence[Tensor], draws: Draws, hard: bool) -> Pairs:
        """ITM's pairs: each text with its image and a wrong one, and each image with a wrong text.

        sims, positives: (b, B) with images as queries, and with texts
        hard: draw wrong ones by similarity, else evenly
        """
        b = len(image)
        rows = torch.arange(b, device=image.device)
        reach = self.config.hard_negatives
        peers = distributed.peers(reach)
        if len(peers) < distributed.world():     # rows of other processes are no negatives
            process = torch.arange(positives[0].shape[1], device=image.device) // b
            others = (process < peers.start) | (process >= peers.stop)
            positives = [positive | others for positive in positives]
        if not hard:
            sims = [torch.zeros_like(sim) for sim in sims]
        wrong_text, text_valid = self.hard_negatives(
            sims[0], positives[0], draws.negative_text)
        wrong_image, image_valid = self.hard_negatives(
            sims[1], positives[1], draws.negative_image)
        if len(peers) > 1:                       # texts go from process to process, of one length
            padding = distributed.longest(text.shape[1]) - text.shape[1]
            text = F.pad(text, (0, 0, 0, padding))
            keep = F.pad(keep, (0, padding))
        images, wrong_image = distributed.fetch(image, wrong_image, reach)
        keeps, _ = distributed.fetch(keep, wrong_text, reach)
        texts, wrong_text = distributed.fetch(text, wrong_text, reach)
        text_rows = torch.cat([rows, rows, wrong_text])
        image_rows = torch.cat([rows, wrong_image, rows])
        labels = torch.cat([torch.ones_like(rows), torch.zeros_like(rows).repeat(2)])
        valid = torch.cat([torch.ones_like(image_valid), image_valid, text_valid])
        return Pairs(images, texts, keeps, (text_rows, image_rows), labels, valid)

    def equal_texts(self, batch: PretrainBatch) -> bool:
        """Whether equal captions match."""
        return self.config.equal_texts_match and batch.texts is not None

    @staticmethod
    def per_process(rows: Tensor) -> Tensor:
        """Rows of all processes over the number of processes.

        A sum divided by it and averaged over processes, as DDP does, is the mean over all rows.
        """
        return distributed.total(rows.sum().float()) / distributed.world()

    @torch.no_grad()
    def after_step(self, carry: Carry) -> None:
        """After the optimiser: clamp the temperature, move the teacher, fill the queue."""
        self.student.temperature.clamp_(self.config.temperature_min, self.config.temperature_max)
        super().after_step(carry)
        self.queue.push(*carry)


TASK = Task(
    name="pretrain",
    module=Pretrain,
    collate=collate,
    begins_from=(),
    presets=("paper-4m", "paper-14m", "base"),
    least_rows=2,
)
