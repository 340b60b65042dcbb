"""Visual question answering: a decoder writes the answer to a question that has seen the picture (section 5)."""
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minalbef import distributed
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Source
from minalbef.decoder import Decoder
from minalbef.ema import Distilled
from minalbef.evaluation import answers
from minalbef.evaluation.intervals import figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, pictures
from minalbef.fusion import KeysValues
from minalbef.losses import distilled_cross_entropy
from minalbef.tasks.base import HEADS, Task
from minalbef.tasks.prediction import Answer, Query, grad_cam, sort_by_probability
from minalbef.tokenizer import Tokenizer

WRITTEN = 10                          # tokens of an answer that is written freely
BEAMS = 3                             # of an answer to your own question


@dataclass(frozen=True)
class VQARecord:
    """A question about a picture, and what its annotators answered, each in turn."""

    image: Source
    question: str
    answers: tuple[str, ...]
    id: int                           # the question's
    trust: float = 1.0                # what its answers weigh together; the original gives Visual Genome's 0.5
    dataset: str = "vqa"              # whose question and picture it is: vqa, or vg, Visual Genome
    kind: str = ""                    # see data.Record
    group: int | None = None


@dataclass(frozen=True)
class VQABatch(Batch):
    """A Batch of questions, and the different answers to all of them in one list, the first question's first."""

    answers: Tensor                   # (a, m) tokens, from [CLS] to [SEP]
    answers_keep: Tensor              # (a, m) bool, False where padded
    weights: Tensor                   # (a,) the share of annotators who gave it, times trust
    counts: Tensor                    # (b,) how many answers a question has

    def part(self, i: int, n: int, rows: int) -> "VQABatch":
        """Some questions, with their answers."""
        mine = slice(i * rows // n, (i + 1) * rows // n)
        some = slice(self.counts[:mine.start].sum(), self.counts[:mine.stop].sum())
        return VQABatch(self.image[mine], self.tokens[mine], self.keep[mine], self.ids[mine], self.answers[some],
                        self.answers_keep[some], self.weights[some], self.counts[mine])


def clean_question(text: str, words: int = 50) -> str:
    """As the original cleans questions: captions' way, but spaces stay, and each counts as a word's end."""
    text = re.sub(r"[,.'!?\"()*#:;~]", "", text.lower()).replace("-", " ").replace("/", " ").rstrip(" ")
    return " ".join(text.split(" ")[:words])


def encode_answers(tokenizer: Tokenizer, answers: Sequence[str]) -> tuple[Tensor, Tensor]:
    """[CLS], the answer as it is (1:30 is not 130), [SEP] -> tokens, keep (a, m). Raises ValueError without words."""
    return tokenizer.encode(list(answers), 10_000, raw=True, sep=True)          # none is so long that it would be cut


def collate_questions(records: Sequence[VQARecord], tokenizer: Tokenizer, size: int, length: int) -> Batch:
    """Questions without their answers, which a test set keeps to itself."""
    tokens, keep = tokenizer.encode([clean_question(record.question) for record in records], length, raw=True)
    return Batch(pictures(records, size), tokens, keep, torch.tensor([record.id for record in records]))


def collate(records: Sequence[VQARecord], tokenizer: Tokenizer, size: int, length: int = 25) -> VQABatch:
    """`collate_questions`' batch, with answers. Raises ValueError for a question without any."""
    for record in records:
        if not record.answers:
            raise ValueError(f"question {record.id}, {record.question!r}, has no answer to learn from; "
                             "leave it out, or ask it as a plain Batch")
    given = [Counter(record.answers) for record in records]
    weights = [record.trust * n / len(record.answers) for record, one in zip(records, given) for n in one.values()]
    tokens, keep = encode_answers(tokenizer, [answer for counter in given for answer in counter])
    return VQABatch(**vars(collate_questions(records, tokenizer, size, length)), answers=tokens, answers_keep=keep,
                    weights=torch.tensor(weights), counts=torch.tensor([len(counter) for counter in given]))


class VQAModel(nn.Module):
    """ALBEF, which reads picture and question, and the decoder, which answers."""

    def __init__(self, config: Config):
        super().__init__()
        self.albef = ALBEF(config)
        self.decoder = Decoder(config)

    def start(self, albef: ALBEF) -> None:
        """Take over a trained ALBEF, also for the decoder. In place."""
        self.albef.load_state_dict(albef.state_dict())
        self.decoder.start(albef)

    def read(self, batch: Batch) -> KeysValues:
        """The question, fused with the image: keys and values for each of the decoder's layers."""
        text = self.albef.encode_text(batch.tokens, batch.keep)
        return self.decoder.keys_values(self.albef.fuse(text, batch.keep, self.albef.encode_image(batch.image)))

    def forward(self, tokens: Tensor, keep: Tensor, question: KeysValues, question_keep: Tensor,
                rows: Tensor) -> Tensor:
        """Logits for every word of the answers but [CLS], from the words before it: -> (words, v).

        tokens, keep: (a, m) answers; question, question_keep: from `read`, and (b, l)
        rows: (a,) the question that each answer belongs to
        """
        x = self.decoder(tokens[:, :-1], keep[:, :-1], question, question_keep, rows)
        return self.decoder.word_logits(x[keep[:, 1:]])


def answer_loss(logits: Tensor, tokens: Tensor, keep: Tensor, teacher_logits: Tensor | None = None,
                alpha: float = 0.0) -> Tensor:
    """How unlikely each answer is, the sum over its words (with a teacher as in eq. 7): -> (a,)

    logits: (words, v), as `VQAModel.forward` gives them; tokens, keep: (a, m)
    """
    loss = distilled_cross_entropy(logits, tokens[:, 1:][keep[:, 1:]], teacher_logits, alpha)
    return loss.new_zeros(len(tokens)).index_add(0, keep[:, 1:].nonzero()[:, 0], loss)


class VQA(Distilled[VQAModel]):
    """The model and its teacher, which learn to write the annotators' answers (sections 3.3 and 5)."""

    def __init__(self, config: Config):
        super().__init__(config, VQAModel(config))

    def forward(self, batch: VQABatch, alpha: float, draws: None = None) -> tuple[dict[str, Tensor], None]:
        """-> losses by name, and nothing for `after_step`. Changes nothing.

        An answer's loss times its weight, summed, over the number of questions, not of answers.
        """
        rows = torch.arange(len(batch.counts), device=batch.counts.device).repeat_interleave(
            batch.counts, output_size=len(batch.answers))        # (a,); without the size the CPU waits for the GPU
        def logits(model: VQAModel) -> Tensor:
            return model(batch.answers, batch.answers_keep, model.read(batch), batch.keep, rows)
        with torch.no_grad():
            teacher_logits = logits(self.teacher) if alpha else None
        loss = answer_loss(logits(self.student), batch.answers, batch.answers_keep, teacher_logits, alpha)
        count = distributed.total(loss.new_tensor(len(batch.counts))) / distributed.world()
        return {"answer": (loss * batch.weights).sum() / count}, None


@torch.no_grad()
def rank(model: VQAModel, batch: Batch, candidates: Tensor, keep: Tensor, k: int = 128, chunk: int = 1024,
         count_first_twice: bool = False) -> tuple[Tensor, Tensor]:
    """Choose from a list: the k likeliest by their first word, ranked by the likelihood of the whole answer.

    candidates, keep: (c, m), as `encode_answers` gives them; chunk: so many answers are read at once
    count_first_twice: as the original, which adds the first word's log-probability to a sum that has it
    -> numbers of candidates (b, k), best first, and their probabilities among the k (b, k)
    """
    question, b, k = model.read(batch), len(batch.image), min(k, len(candidates))
    rows = torch.arange(b, device=candidates.device)
    cls, cls_keep = candidates[:1, :1].expand(b, 1), keep[:1, :1].expand(b, 1)
    first = model.decoder.word_logits(model.decoder(cls, cls_keep, question, batch.keep, rows)[:, 0]).log_softmax(-1)
    first, likely = first[:, candidates[:, 1]].topk(k)                           # (b, k)
    scores = []
    for mine, which in zip(rows.repeat_interleave(k).split(chunk), likely.flatten().split(chunk)):
        tokens, kept = candidates[which], keep[which]
        scores.append(-answer_loss(model(tokens, kept, question, batch.keep, mine), tokens, kept))
    score = torch.cat(scores).reshape(b, k) + (first if count_first_twice else 0)
    probability, order = score.softmax(-1).sort(descending=True)
    return likely.gather(1, order), probability


@torch.no_grad()
def generate(model: VQAModel, batch: Batch, tokenizer: Tokenizer, length: int = 10,
             beams: int = 1) -> tuple[Tensor, Tensor]:
    """Write freely: the likeliest answer found with so many beams; one is greedy.

    -> tokens (b, m) from [CLS] on, at most `length`, padded behind [SEP], and log-probabilities (b,)
    """
    question, b = model.read(batch), len(batch.image)
    questions = torch.arange(b, device=batch.tokens.device)[:, None]
    rows = questions.expand(b, beams).flatten()                                  # (b * beams,)
    tokens, done = torch.full_like(rows, tokenizer.cls)[:, None], rows < 0
    score = torch.full((b, beams), -torch.inf, device=rows.device)
    score[:, 0] = 0                                                              # the beams are one at first
    for _ in range(length - 1):
        x = model.decoder(tokens, tokens != tokenizer.pad, question, batch.keep, rows)[:, -1]
        step = model.decoder.word_logits(x).log_softmax(-1)                      # (b * beams, v)
        step[:, tokenizer.pad] = -torch.inf
        step[done] = -torch.inf
        step[done, tokenizer.pad] = 0                                            # a finished answer waits, at no cost
        words = step.shape[-1]
        score, best = (score[..., None] + step.reshape(b, beams, words)).flatten(1).topk(beams)
        parent = (questions * beams + best // words).flatten()
        tokens = torch.cat([tokens[parent], (best % words).reshape(-1, 1)], 1)
        done = done[parent] | (tokens[:, -1] == tokenizer.sep)
        if done.all():
            break
    return tokens.reshape(b, beams, -1)[:, 0], score[:, 0]


def answer_questions(model: VQAModel, tokenizer: Tokenizer, records: Records, how: How) -> list[str]:
    """An answer for each record: the best of how.answers, or without them what the model writes."""
    if how.answers:
        candidates, keep = (x.to(how.device) for x in encode_answers(tokenizer, how.answers))
        def choose(some: Sequence[VQARecord], batch: Batch) -> Tensor:
            return rank(model, batch, candidates, keep, k=how.top, count_first_twice=how.original)[0][:, :1]
        best = over(model, tokenizer, records, how, collate_questions, choose, 1)[:, 0]
        return [how.answers[int(i)] for i in best.tolist()]
    def write(some: Sequence[VQARecord], batch: Batch) -> Tensor:
        tokens = generate(model, batch, tokenizer, WRITTEN)[0]
        return nn.functional.pad(tokens, (0, WRITTEN - tokens.shape[1]), value=tokenizer.pad)
    written = over(model, tokenizer, records, how, collate_questions, write, WRITTEN)
    return [tokenizer.decode(map(int, row)) for row in written.tolist()]


def evaluate(model: VQAModel, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """VQA accuracy where answers are known: -> samples, what else to report; see evaluation.loop.

    That is also "submission", the answers in the format of the official server.
    """
    submission = []
    scores, chance = [], []
    kinds, groups = [], []
    without = 0                       # questions that no listed answer scores on
    listed = answers.by_normal_form(how.answers or ())
    for i, answer in enumerate(answer_questions(model, tokenizer, records, how)):
        record = records[i]
        submission.append({"question_id": record.id, "answer": answer})
        if not record.answers:
            continue
        scores.append(answers.accuracy(answer, record.answers))
        kinds.append(record.kind)
        groups.append(record.group)
        if how.answers:
            scoring = answers.scoring_answers(listed, record.answers)
            total = sum(answers.accuracy(candidate, record.answers) for candidate in scoring)
            without += total == 0
            chance.append(total / len(how.answers))
    accuracy = in_groups(torch.tensor(scores), groups)
    more: dict[str, Any] = {"submission": submission,
                            "answered": "by choosing" if how.answers else "freely",
                            "lacking": without}
    if chance:
        more["chance"] = {"accuracy": sum(chance) / len(chance)}
    if how.answers:
        more |= {"answers": len(how.answers), "top": how.top}
    return {"accuracy": accuracy, **figures_by_kind(accuracy, kinds)}, more


@torch.no_grad()
def predict(model: VQAModel, tokenizer: Tokenizer, query: Query) -> Answer:
    """The best candidate, or without candidates the answer that the model writes.

    The map explains the likelihood of the whole answer.
    """
    albef = model.albef
    question, length = clean_question(query.text), albef.config.text_length
    tokens, keep = tokenizer.encode([question], length, truncate=False, raw=True)
    batch = Batch(query.image, tokens, keep, torch.zeros(1, dtype=torch.long))
    answer, odds = generate(model, batch, tokenizer, beams=BEAMS)
    written = tokenizer.decode(answer[0])
    probabilities = {written: odds.exp().item()}
    if query.candidates:
        candidates = list(dict.fromkeys(query.candidates))
        order, probability = rank(model, batch, *encode_answers(tokenizer, candidates))
        names = [candidates[i] for i in order[0].tolist()]
        probabilities = sort_by_probability(names, probability[0])
        answer, _ = encode_answers(tokenizer, [next(iter(probabilities))])
    answer_keep = answer != tokenizer.pad
    row = torch.zeros(1, dtype=torch.long)

    def likelihood(fused: Tensor) -> Tensor:
        seen = model.decoder.keys_values(fused)
        return -answer_loss(model(answer, answer_keep, seen, keep, row), answer, answer_keep)

    image_tokens = albef.encode_image(query.image)
    maps = grad_cam(albef, image_tokens, albef.encode_text(tokens, keep), keep, likelihood)
    best = next(iter(probabilities))
    return Answer(best, probabilities, maps, explained=best, written=written)


def dry_run_record(image: Source, other: Source, text: str, id: int) -> VQARecord:
    return VQARecord(image, text, ("two dogs",) * 6 + ("red",) * 3 + ("house",), id)


TASK = Task(
    name="vqa",
    module=VQA,
    collate=collate,
    records=(VQARecord,),
    begins_from=("pretrain",),
    presets=("vqa",),
    lacks=HEADS,
    evaluate=evaluate,
    predict=predict,
    candidates="answers",
    text="question",
    example="how many cats are there?",
    dry_run_record=dry_run_record,
)
