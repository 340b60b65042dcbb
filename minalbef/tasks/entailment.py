"""Visual entailment: is a sentence false of an image, undecided by it, or true? (section 5)"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from minalbef import data
from minalbef.albef import ALBEF, full
from minalbef.config import Config
from minalbef.data import Batch, Record
from minalbef.ema import Distilled
from minalbef.evaluation.intervals import commonest, figures_by_kind, in_groups
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.layers import init_weights
from minalbef.losses import distilled_cross_entropy
from minalbef.system.images import Source
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.base import HEADS, Task, mean_figures
from minalbef.tasks.prediction import predict_class

LABELS = ("contradiction", "neutral", "entailment")      # in the original's order


@dataclass(frozen=True)
class EntailmentRecord(Record):
    """An image, a sentence, the image's id, and one of LABELS."""

    label: str


@dataclass(frozen=True)
class EntailmentBatch(Batch):
    """A Batch with labels."""

    label: Tensor                     # (b,) indices into LABELS


def collate(records: Sequence[EntailmentRecord], tokenizer: Tokenizer, size: int, length: int = 30
            ) -> EntailmentBatch:
    """`data.collate`'s batch, with labels."""
    batch = data.collate(records, tokenizer, size, length)
    labels = [LABELS.index(record.label) for record in records]
    return EntailmentBatch(**vars(batch), label=torch.tensor(labels))


class EntailmentModel(nn.Module):
    """ALBEF with a classifier over the fused [CLS]."""

    def __init__(self, config: Config):
        super().__init__()
        self.albef = ALBEF(config)
        width = config.text_width
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(LABELS)))
        init_weights(self.head, config.init_std)

    def start(self, albef: ALBEF) -> None:
        """Load a trained ALBEF's weights, in place. The head keeps its own."""
        self.albef.load_state_dict(albef.state_dict())

    def forward(self, image: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Logits (b, 3), in the order of LABELS.

        image: (b, 3, s, s); tokens, keep: (b, l)
        """
        text_tokens = self.albef.encode_text(tokens, keep)
        image_tokens = self.albef.encode_image(image)
        fused = self.albef.fuse(text_tokens, keep, image_tokens, queries=1)
        return full(self.head(fused[:, 0]))


class Entailment(Distilled[EntailmentModel]):
    """The model and its teacher: cross-entropy with momentum distillation (section 3.3)."""

    unused_parts = HEADS

    def __init__(self, config: Config):
        super().__init__(config, EntailmentModel(config))

    def forward(self, batch: EntailmentBatch, alpha: float, draws: None = None
                ) -> tuple[dict[str, Tensor], None]:
        """The loss by name, and no state for `after_step`."""
        inputs = batch.image, batch.tokens, batch.keep
        teacher_logits = None
        if alpha:
            with torch.no_grad():
                teacher_logits = self.teacher(*inputs)                   # (b, 3)
        logits = self.student(*inputs)
        loss = distilled_cross_entropy(logits, batch.label, teacher_logits, alpha)
        return {"entailment": loss.mean()}, None


@torch.no_grad()
def evaluate_entailment(model: EntailmentModel, tokenizer: Tokenizer, records: Records, how: How
                        ) -> tuple[dict, dict]:
    """Accuracy, and that of the majority baseline.

    -> samples, and what else to report; see evaluation.loop
    """
    def answer(rows: Sequence[EntailmentRecord], batch: EntailmentBatch) -> Tensor:
        right = model(batch.image, batch.tokens, batch.keep).argmax(-1) == batch.label
        return torch.stack([right, batch.label], 1)

    right, label = over(model, tokenizer, records, how, collate, answer, 2).unbind(1)
    kinds, groups = values_of(records, "kind", "group")
    accuracy = in_groups(right.float(), groups)
    majority = in_groups(commonest(label.tolist()), groups)
    samples = {"accuracy": accuracy, **figures_by_kind(accuracy, kinds),
               "baselines": {"majority": {"accuracy": majority}}}
    return samples, {"chance": {"accuracy": 1 / len(LABELS)}}


def dummy_record(image: Source, second: Source, text: str, id: int) -> EntailmentRecord:
    """A made-up record; the second image is not used."""
    return EntailmentRecord(image, text, id, LABELS[id % len(LABELS)])


TASK = Task(
    name="entailment",
    module=Entailment,
    collate=collate,
    records=(EntailmentRecord,),
    presets=("entailment",),
    lacks=HEADS,
    evaluate=evaluate_entailment,
    validation_figures=mean_figures("accuracy"),
    predict=partial(predict_class, labels=LABELS),
    text="statement",
    dummy_record=dummy_record,
)
