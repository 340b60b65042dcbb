"""Visual entailment: is the sentence false of the picture, undecided by it, or true? (section 5)"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minalbef import data
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Record, Source
from minalbef.ema import Distilled
from minalbef.evaluation.intervals import commonest, figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.layers import full, init_weights
from minalbef.losses import distilled_cross_entropy
from minalbef.tasks.base import HEADS, Task
from minalbef.tasks.prediction import Answer, Query, predict_class
from minalbef.tokenizer import Tokenizer

LABELS = ("contradiction", "neutral", "entailment")      # in the original's order


@dataclass(frozen=True)
class EntailmentRecord(Record):
    """A picture, its id, a sentence, and one of LABELS."""

    label: str


@dataclass(frozen=True)
class EntailmentBatch(Batch):
    """A Batch, and label (b,): numbers of LABELS."""

    label: Tensor


def collate(records: Sequence[EntailmentRecord], tokenizer: Tokenizer, size: int, length: int = 30) -> EntailmentBatch:
    """`data.collate`'s batch, with labels. Raises ValueError for a label that is none of LABELS."""
    for record in records:
        if record.label not in LABELS:
            raise ValueError(f"label {record.label!r} of {record.text!r} is none of {', '.join(LABELS)}; "
                             "leave out what its annotators did not agree on")
    batch = data.collate(records, tokenizer, size, length)
    return EntailmentBatch(**vars(batch), label=torch.tensor([LABELS.index(record.label) for record in records]))


class EntailmentModel(nn.Module):
    """ALBEF, and a head that reads the fused [CLS]."""

    def __init__(self, config: Config):
        super().__init__()
        self.albef = ALBEF(config)
        width = config.text_width
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(LABELS)))
        init_weights(self.head, config.init_std)

    def start(self, albef: ALBEF) -> None:
        """Take over a trained ALBEF. In place; the head stays as it is."""
        self.albef.load_state_dict(albef.state_dict())

    def forward(self, image: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """image: (b, 3, s, s); tokens, keep: (b, l) -> logits (b, 3), in the order of LABELS."""
        albef = self.albef
        fused = albef.fuse(albef.encode_text(tokens, keep), keep, albef.encode_image(image), queries=1)
        return full(self.head(fused[:, 0]))


class Entailment(Distilled[EntailmentModel]):
    """The model and its teacher, under cross-entropy with momentum distillation (section 3.3)."""

    def __init__(self, config: Config):
        super().__init__(config, EntailmentModel(config))

    def forward(self, batch: EntailmentBatch, alpha: float, draws: None = None) -> tuple[dict[str, Tensor], None]:
        """-> losses by name, and nothing for `after_step`. Changes nothing."""
        inputs = batch.image, batch.tokens, batch.keep
        with torch.no_grad():
            opinion = self.teacher(*inputs) if alpha else None                   # (b, 3)
        return {"entailment": distilled_cross_entropy(self.student(*inputs), batch.label, opinion, alpha).mean()}, None


@torch.no_grad()
def evaluate(model: EntailmentModel, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """Accuracy, beside that of the majority baseline: -> samples, what else to report; see evaluation.loop."""
    def answer(some: Sequence[EntailmentRecord], batch: EntailmentBatch) -> Tensor:
        right = model(batch.image, batch.tokens, batch.keep).argmax(-1) == batch.label
        return torch.stack([right, batch.label], 1)
    right, label = over(model, tokenizer, records, how, collate, answer, 2).unbind(1)
    kinds, groups = values_of(records, "kind", "group")
    accuracy = in_groups(right.float(), groups)
    majority = in_groups(commonest(label.tolist()), groups)
    samples = {"accuracy": accuracy, **figures_by_kind(accuracy, kinds),
               "baselines": {"majority": {"accuracy": majority}}}
    return samples, {"chance": {"accuracy": 1 / len(LABELS)}}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """What validation.csv says, from `evaluate`."""
    return {"accuracy": samples["accuracy"].mean().item()}


def predict(model: EntailmentModel, tokenizer: Tokenizer, query: Query) -> Answer:
    """The likeliest label, and where the image speaks for it."""
    return predict_class(model, tokenizer, query, LABELS)


def dry_run_record(image: Source, other: Source, text: str, id: int) -> EntailmentRecord:
    return EntailmentRecord(image, text, id, LABELS[id % len(LABELS)])


TASK = Task(
    name="entailment",
    module=Entailment,
    collate=collate,
    records=(EntailmentRecord,),
    presets=("entailment",),
    lacks=HEADS,
    evaluate=evaluate,
    validation_figures=validation_figures,
    predict=predict,
    text="statement",
    dry_run_record=dry_run_record,
)
