"""Visual question answering: a decoder generates the answer from the fused question (section 5)."""
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Rows
from minalbef.ema import Distilled
from minalbef.evaluation import answers
from minalbef.evaluation.intervals import figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, pictures
from minalbef.fusion import KeysValues
from minalbef.losses import distilled_cross_entropy
from minalbef.system import distributed
from minalbef.system.images import Source
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.base import HEADS, Task
from minalbef.tasks.decoder import Decoder
from minalbef.tasks.prediction import Answer, Query, grad_cam, sort_by_probability

ANSWER_LENGTH = 10                    # tokens of a generated answer, at most
BEAMS = 3                             # of beam search in `predict`


@dataclass(frozen=True)
class VQARecord:
    """A question about an image, and the answer of each annotator."""

    image: Source
    question: str
    answers: tuple[str, ...]
    id: int                           # the question's
    trust: float = 1.0                # weight of its answers; the original: 0.5 in Visual Genome
    dataset: str = "vqa"              # where the question comes from: vqa, or vg, Visual Genome
    kind: str = ""                    # see data.Record
    group: int | None = None


@dataclass(frozen=True)
class VQABatch(Batch):
    """A Batch of questions, and the distinct answers to each, listed question by question."""

    answers: Tensor                   # (a, m) tokens, from [CLS] to [SEP]
    answers_keep: Tensor              # (a, m) bool, False where padded
    weights: Tensor                   # (a,) the fraction of annotators who gave it, times trust
    counts: Tensor                    # (b,) how many answers each question has

    def part(self, i: int, n: int, rows: int) -> "VQABatch":
        """Micro-batch i of n: its questions, with their answers."""
        questions = slice(i * rows // n, (i + 1) * rows // n)
        first = self.counts[:questions.start].sum()
        end = self.counts[:questions.stop].sum()
        return VQABatch(
            image=self.image[questions],
            tokens=self.tokens[questions],
            keep=self.keep[questions],
            ids=self.ids[questions],
            answers=self.answers[first:end],
            answers_keep=self.answers_keep[first:end],
            weights=self.weights[first:end],
            counts=self.counts[questions],
        )


@dataclass(frozen=True)
class AnswerWords(Rows):
    """Where the answers' words are, from `word_places`; `VQA.prepare` finds them on the CPU."""

    places: Tensor                    # (words,)


def clean_question(text: str, words: int = 50) -> str:
    """Clean a question as the original does: at most `words` words.

    As for captions, but repeated spaces stay, and each of them ends a word.
    """
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower())
    text = text.replace("-", " ").replace("/", " ").rstrip(" ")
    return " ".join(text.split(" ")[:words])


def encode_answers(tokenizer: Tokenizer, answers: Sequence[str]) -> tuple[Tensor, Tensor]:
    """[CLS], the answer, [SEP] -> tokens and keep, each (a, m).

    Answers aren't cleaned: 1:30 is not 130. Raises ValueError for an answer without words.
    """
    longest = 10_000                  # so that no answer is cut
    return tokenizer.encode(list(answers), longest, raw=True, sep=True)


def collate_questions(records: Sequence[VQARecord], tokenizer: Tokenizer, size: int, length: int
                      ) -> Batch:
    """Questions alone; a test set may not publish its answers."""
    questions = [clean_question(record.question) for record in records]
    tokens, keep = tokenizer.encode(questions, length, raw=True)
    ids = torch.tensor([record.id for record in records])
    return Batch(pictures(records, size), tokens, keep, ids)


def collate(records: Sequence[VQARecord], tokenizer: Tokenizer, size: int, length: int = 25
            ) -> VQABatch:
    """`collate_questions`' batch, with answers. Raises ValueError for a question without any."""
    for record in records:
        if not record.answers:
            raise ValueError(f"question {record.id}, {record.question!r}, has no answer to learn "
                             "from; leave it out, or use collate_questions")
    answers = []
    weights = []
    counts = []
    for record in records:
        votes = Counter(record.answers)
        counts.append(len(votes))
        for answer, n in votes.items():
            answers.append(answer)
            weights.append(record.trust * n / len(record.answers))
    tokens, keep = encode_answers(tokenizer, answers)
    return VQABatch(
        **vars(collate_questions(records, tokenizer, size, length)),
        answers=tokens,
        answers_keep=keep,
        weights=torch.tensor(weights),
        counts=torch.tensor(counts),
    )


class VQAModel(nn.Module):
    """ALBEF, which encodes image and question, and the decoder, which generates the answer."""

    def __init__(self, config: Config):
        super().__init__()
        self.albef = ALBEF(config)
        self.decoder = Decoder(config)

    def start(self, albef: ALBEF) -> None:
        """Load a trained ALBEF's weights, in place; the decoder starts from its fusion layers."""
        self.albef.load_state_dict(albef.state_dict())
        self.decoder.start(albef)

    def read(self, batch: Batch) -> KeysValues:
        """Keys and values of the fused question, for each of the decoder's layers."""
        text_tokens = self.albef.encode_text(batch.tokens, batch.keep)
        image_tokens = self.albef.encode_image(batch.image)
        fused = self.albef.fuse(text_tokens, batch.keep, image_tokens)
        return self.decoder.keys_values(fused)

    def forward(self, tokens: Tensor, keep: Tensor, question: KeysValues, question_keep: Tensor,
                rows: Tensor, places: Tensor | None = None) -> Tensor:
        """Logits of every word of the answers after [CLS], from the words before it: (words, v).

        tokens, keep: (a, m), the answers
        question: from `read`
        question_keep: (b, l)
        rows: (a,), the question that each answer belongs to
        places: `word_places(keep)`, if it is at hand
        """
        if places is None:
            places = word_places(keep)
        x = self.decoder(tokens[:, :-1], keep[:, :-1], question, question_keep, rows)
        return self.decoder.word_logits(x.flatten(0, 1)[places])


def word_places(keep: Tensor) -> Tensor:
    """Where the words after [CLS] are, answer after answer: (a, m) bool -> (words,) of a * (m - 1).

    On a GPU the CPU would wait to learn how many there are.
    """
    return keep[:, 1:].flatten().nonzero()[:, 0]


def answer_loss(logits: Tensor, tokens: Tensor, keep: Tensor, teacher_logits: Tensor | None = None,
                alpha: float = 0.0, places: Tensor | None = None) -> Tensor:
    """Language-modelling loss of each answer, summed over its words; eq. 7 with a teacher: (a,)

    logits, teacher_logits: (words, v), from `VQAModel.forward`
    tokens, keep: (a, m)
    places: `word_places(keep)`, if it is at hand
    """
    if places is None:
        places = word_places(keep)
    words = tokens[:, 1:]                                                # (a, m - 1)
    loss = distilled_cross_entropy(logits, words.flatten()[places], teacher_logits, alpha)
    rows = places // words.shape[1]                                      # (words,)
    return loss.new_zeros(len(tokens)).index_add(0, rows, loss)


class VQA(Distilled[VQAModel]):
    """The model and its teacher, trained to generate the annotators' answers (sections 3.3, 5)."""

    unused_parts = HEADS

    def __init__(self, config: Config):
        super().__init__(config, VQAModel(config))

    def prepare(self, passes: list[tuple[VQABatch, None]]) -> list[tuple[VQABatch, AnswerWords]]:
        """Find the answers' words in a step's passes, on the CPU."""
        return [(batch, AnswerWords(word_places(batch.answers_keep))) for batch, _ in passes]

    def forward(self, batch: VQABatch, alpha: float, draws: AnswerWords | None = None
                ) -> tuple[dict[str, Tensor], None]:
        """The loss by name, and no state for `after_step`.

        draws: what `prepare` has found; there are no random ones
        The weighted sum of the answers' losses is divided by the number of questions.
        """
        tokens, keep = batch.answers, batch.answers_keep
        places = draws.places if draws else word_places(keep)
        questions = torch.arange(len(batch.counts), device=batch.counts.device)
        # without output_size the CPU would wait for the GPU
        rows = questions.repeat_interleave(batch.counts, output_size=len(tokens))    # (a,)

        def logits(model: VQAModel) -> Tensor:
            return model(tokens, keep, model.read(batch), batch.keep, rows, places)

        teacher_logits = None
        if alpha:
            with torch.no_grad():
                teacher_logits = logits(self.teacher)
        loss = answer_loss(logits(self.student), tokens, keep, teacher_logits, alpha, places)
        count = distributed.total(loss.new_full((), len(batch.counts))) / distributed.world()
        return {"answer": (loss * batch.weights).sum() / count}, None


@torch.no_grad()
def rank(model: VQAModel, batch: Batch, candidates: Tensor, keep: Tensor, k: int = 128,
         chunk: int = 1024, count_first_twice: bool = False) -> tuple[Tensor, Tensor]:
    """Rank candidate answers: the k with the most probable first word, by their likelihood.

    candidates, keep: (c, m), from `encode_answers`
    chunk: answers per forward pass of the decoder
    count_first_twice: add the first word's log-probability once more, as the original does
    -> indices of candidates (b, k), the best first, and their probabilities among the k (b, k)
    """
    question = model.read(batch)
    b = len(batch.image)
    k = min(k, len(candidates))
    rows = torch.arange(b, device=candidates.device)
    cls = candidates[:1, :1].expand(b, 1)
    cls_keep = keep[:1, :1].expand(b, 1)
    x = model.decoder(cls, cls_keep, question, batch.keep, rows)[:, 0]
    words = model.decoder.word_logits(x).log_softmax(-1)                 # (b, v)
    first, indices = words[:, candidates[:, 1]].topk(k)                  # (b, k)
    scores = []
    chunks = zip(rows.repeat_interleave(k).split(chunk), indices.flatten().split(chunk))
    for chunk_rows, chunk_indices in chunks:
        tokens = candidates[chunk_indices]
        tokens_keep = keep[chunk_indices]
        logits = model(tokens, tokens_keep, question, batch.keep, chunk_rows)
        scores.append(-answer_loss(logits, tokens, tokens_keep))
    score = torch.cat(scores).reshape(b, k)
    if count_first_twice:
        score = score + first
    probability, order = score.softmax(-1).sort(descending=True)
    return indices.gather(1, order), probability


@torch.no_grad()
def generate(model: VQAModel, batch: Batch, tokenizer: Tokenizer, length: int = 10,
             beams: int = 1) -> tuple[Tensor, Tensor]:
    """Generate answers by beam search; beams=1 is greedy.

    -> tokens (b, m), from [CLS] to [SEP], at most `length`, then padding; log-probabilities (b,)
    """
    question = model.read(batch)
    b = len(batch.image)
    questions = torch.arange(b, device=batch.tokens.device)[:, None]
    rows = questions.expand(b, beams).flatten()                          # (b * beams,)
    tokens = torch.full_like(rows, tokenizer.cls)[:, None]
    ended = torch.zeros_like(rows, dtype=torch.bool)
    score = torch.full((b, beams), -torch.inf, device=rows.device)
    score[:, 0] = 0                                      # all beams begin alike: extend one
    for _ in range(length - 1):
        x = model.decoder(tokens, tokens != tokenizer.pad, question, batch.keep, rows)[:, -1]
        log_probs = model.decoder.word_logits(x).log_softmax(-1)         # (b * beams, v)
        log_probs[:, tokenizer.pad] = -torch.inf
        log_probs[ended] = -torch.inf
        log_probs[ended, tokenizer.pad] = 0              # a finished answer is padded, at no cost
        v = log_probs.shape[-1]
        scores = score[..., None] + log_probs.reshape(b, beams, v)
        score, best = scores.flatten(1).topk(beams)                      # (b, beams)
        parent = (questions * beams + best // v).flatten()
        word = (best % v).reshape(-1, 1)
        tokens = torch.cat([tokens[parent], word], 1)
        ended = ended[parent] | (tokens[:, -1] == tokenizer.sep)
        if ended.all():
            break
    return tokens.reshape(b, beams, -1)[:, 0], score[:, 0]


def answer_questions(model: VQAModel, tokenizer: Tokenizer, records: Records, how: How
                     ) -> list[str]:
    """An answer for each record: the best of how.answers, or a generated one without them."""
    if how.answers:
        return _choose_answers(model, tokenizer, records, how, how.answers)

    def answer(rows: Sequence[VQARecord], batch: Batch) -> Tensor:
        tokens, _ = generate(model, batch, tokenizer, ANSWER_LENGTH)
        padding = (0, ANSWER_LENGTH - tokens.shape[1])
        return nn.functional.pad(tokens, padding, value=tokenizer.pad)

    tokens = over(model, tokenizer, records, how, collate_questions, answer, ANSWER_LENGTH)
    return [tokenizer.decode(map(int, row)) for row in tokens.tolist()]


def _choose_answers(model: VQAModel, tokenizer: Tokenizer, records: Records, how: How,
                    candidates: Sequence[str]) -> list[str]:
    tokens, keep = encode_answers(tokenizer, candidates)
    tokens = tokens.to(how.device)
    keep = keep.to(how.device)

    def answer(rows: Sequence[VQARecord], batch: Batch) -> Tensor:
        indices, _ = rank(model, batch, tokens, keep, k=how.top, count_first_twice=how.original)
        return indices[:, :1]

    best = over(model, tokenizer, records, how, collate_questions, answer, 1)[:, 0]
    return [candidates[int(i)] for i in best.tolist()]


def evaluate_vqa(model: VQAModel, tokenizer: Tokenizer, records: Records, how: How
                 ) -> tuple[dict, dict]:
    """VQA accuracy, over the questions whose answers are public.

    -> samples, and what else to report, such as "submission", the answers in the format of the
    official server; see evaluation.loop
    """
    submission = []
    scores = []
    chance = []
    kinds = []
    groups = []
    lacking = 0                       # questions for which no answer of how.answers scores
    candidates = answers.by_normal_form(how.answers or ())
    for i, answer in enumerate(answer_questions(model, tokenizer, records, how)):
        record = records[i]
        submission.append({"question_id": record.id, "answer": answer})
        if not record.answers:
            continue
        scores.append(answers.accuracy(answer, record.answers))
        kinds.append(record.kind)
        groups.append(record.group)
        if how.answers:
            scoring = answers.scoring_answers(candidates, record.answers)
            total = sum(answers.accuracy(candidate, record.answers) for candidate in scoring)
            lacking += total == 0
            chance.append(total / len(how.answers))
    accuracy = in_groups(torch.tensor(scores), groups)
    more: dict[str, Any] = {"submission": submission, "answered": "freely", "lacking": lacking}
    if how.answers:
        more["answered"] = "by choosing"
    if chance:
        more["chance"] = {"accuracy": sum(chance) / len(chance)}
    if how.answers:
        more |= {"answers": len(how.answers), "top": how.top}
    return {"accuracy": accuracy, **figures_by_kind(accuracy, kinds)}, more


@torch.no_grad()
def predict(model: VQAModel, tokenizer: Tokenizer, query: Query) -> Answer:
    """The best candidate, or a generated answer if there are no candidates.

    The Grad-CAM map explains the likelihood of the whole answer.
    """
    albef = model.albef
    question = clean_question(query.text)
    length = albef.config.text_length
    tokens, keep = tokenizer.encode([question], length, truncate=False, raw=True)
    batch = Batch(query.image, tokens, keep, torch.zeros(1, dtype=torch.long))
    answer, log_probability = generate(model, batch, tokenizer, beams=BEAMS)
    generated = tokenizer.decode(answer[0])
    probabilities = {generated: log_probability.exp().item()}
    if query.candidates:
        candidates = list(dict.fromkeys(query.candidates))
        order, probability = rank(model, batch, *encode_answers(tokenizer, candidates))
        names = [candidates[i] for i in order[0].tolist()]
        probabilities = sort_by_probability(names, probability[0])
        answer, _ = encode_answers(tokenizer, [next(iter(probabilities))])
    answer_keep = answer != tokenizer.pad
    row = torch.zeros(1, dtype=torch.long)

    def likelihood(fused: Tensor) -> Tensor:
        keys_values = model.decoder.keys_values(fused)
        logits = model(answer, answer_keep, keys_values, keep, row)
        return -answer_loss(logits, answer, answer_keep)

    image_tokens = albef.encode_image(query.image)
    text_tokens = albef.encode_text(tokens, keep)
    maps = grad_cam(albef, image_tokens, text_tokens, keep, likelihood)
    best = next(iter(probabilities))
    return Answer(best, probabilities, maps, explained=best, written=generated)


def dummy_record(image: Source, second: Source, text: str, id: int) -> VQARecord:
    """A made-up record, with ten annotators' answers; the second image is not used."""
    annotators = ("two dogs",) * 6 + ("red",) * 3 + ("house",)
    return VQARecord(image, text, annotators, id)


TASK = Task(
    name="vqa",
    module=VQA,
    collate=collate,
    records=(VQARecord,),
    begins_from=("pretrain",),
    presets=("vqa",),
    lacks=HEADS,
    evaluate=evaluate_vqa,
    predict=predict,
    candidates="answers",
    text="question",
    dummy_record=dummy_record,
)
