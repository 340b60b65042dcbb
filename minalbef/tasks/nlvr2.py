"""NLVR2: is a statement true of two pictures? ALBEF with two layers for every one of fusion's (section 5)."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.checkpoint import fit_weights, resize_weights
from minalbef.config import Config
from minalbef.data import Batch, Source, transform
from minalbef.ema import Distilled
from minalbef.evaluation.intervals import Clusters, commonest, figures_by_kind
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.fusion import Fusion
from minalbef.layers import full, init_weights
from minalbef.losses import distilled_cross_entropy
from minalbef.tasks.base import ALIGNED, HEADS, Task
from minalbef.tasks.prediction import Answer, Query, predict_class
from minalbef.tokenizer import Tokenizer

SHARED = re.compile(r"(.*\bfusion\.layers\.)(\d+)(\.cross\.[kv]\..+)")             # what the two layers of a pair share


@dataclass(frozen=True)
class NLVR2Record:
    """A statement about two pictures, and whether it is true. Records of one statement share its id.

    Raises ValueError unless there are two pictures and the label is True or False.
    """

    images: tuple[Source, Source]
    text: str
    true: bool
    id: int
    kind: str = ""                    # see data.Record
    group: int | None = None

    def __post_init__(self) -> None:
        if len(self.images) != 2 or self.true not in (True, False):
            raise ValueError(f"{self.text!r} (id {self.id}) has {len(self.images)} pictures and label {self.true!r}; "
                             "it must have two, and True or False: leave it out or mend it")


@dataclass(frozen=True)
class NLVR2Batch(Batch):
    """A Batch whose `image` holds every picture once, (m, 3, s, s), and whose `ids` number statements.

    Statements are asked of several pairs made of few pictures, and a picture is encoded once for all of them.
    """

    pairs: Tensor                     # (b, 2) rows of image: the first picture and the second
    labels: Tensor                    # (b,) 1 where the statement is true, else 0

    def part(self, i: int, n: int, rows: int) -> "NLVR2Batch":
        """Some statements, with the pictures that they ask about."""
        mine = slice(i * rows // n, (i + 1) * rows // n)
        used, pairs = self.pairs[mine].unique(return_inverse=True)
        return NLVR2Batch(self.image[used], self.tokens[mine], self.keep[mine], self.ids[mine], pairs,
                          self.labels[mine])


def collate(records: Sequence[NLVR2Record], tokenizer: Tokenizer, size: int, length: int = 25) -> NLVR2Batch:
    """Records -> an NLVR2Batch of pictures of side `size` and statements of at most `length` tokens.

    Records that hold the very same picture (one object, not merely an equal one) share a row of the batch's.
    """
    tokens, keep = tokenizer.encode([record.text for record in records], length)
    pictures = {id(image): image for record in records for image in record.images}
    row = {name: i for i, name in enumerate(pictures)}
    return NLVR2Batch(torch.stack([transform(image, size) for image in pictures.values()]), tokens, keep,
                      torch.tensor([record.id for record in records]),
                      torch.tensor([[row[id(image)] for image in record.images] for record in records]),
                      torch.tensor([int(record.true) for record in records]))


class PairFusion(Fusion):
    """Every layer twice, the first of a pair for the first image, the second for the second.

    The two share the weights of cross-attention's keys and values, and nothing else; the first layer holds them. Called
    as Fusion is, with a tuple in place of one image's tokens: all images', and which rows of them make a pair.
    """

    def __init__(self, config: Config):
        super().__init__(replace(config, fusion_depth=2 * config.fusion_depth))
        for layer in self.layers[1::2]:
            layer.cross.k = layer.cross.v = None         # type: ignore[assignment]  # the pair's first layer has them

    def keys_values(                                     # type: ignore[override]  # Fusion's reads one image
            self, shown: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Images' tokens (m, 1 + n, i), pairs of their rows (b, 2) -> every layer's (keys, values), of b rows each."""
        image_tokens, pairs = shown
        offered = [layer.cross.keys_values(image_tokens[:, self.first:]) for layer in self.layers[::2]]
        return [(keys[rows], values[rows]) for keys, values in offered for rows in pairs.T]


def double(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A plain ALBEF's weights for a model of pairs: both layers of a pair begin as the one layer."""
    doubled: dict[str, Tensor] = {}
    for name, value in weights.items():
        before, mark, after = name.rpartition("fusion.layers.")
        number, _, part = after.partition(".")
        doubled |= {f"{before}{mark}{2 * int(number) + i}.{part}": value for i in (0, 1)} if mark else {name: value}
    return drop_shared(doubled)


def drop_shared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the second name of what a pair shares: from the original's files, which say it twice, to ours.

    Raises ValueError where the two differ.
    """
    kept = dict(weights)
    for found in filter(None, map(SHARED.fullmatch, weights)):
        if int(found[2]) % 2:
            name, first = found[0], f"{found[1]}{int(found[2]) - 1}{found[3]}"
            if first not in weights or not torch.equal(weights[first], weights[name]):
                raise ValueError(f"{name} differs from {first}; the two layers of a pair share them, so these are not "
                                 "the weights of a model of pairs (`double` makes them from a plain one's)")
            del kept[name]
    return kept


def add_shared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `drop_shared`, for writing the original's files."""
    return weights | {f"{found[1]}{int(found[2]) + 1}{found[3]}": weights[found[0]]
                      for found in filter(None, map(SHARED.fullmatch, weights))}


class PairModel(nn.Module):
    """ALBEF over two images, and a head over the fused [CLS]."""

    def __init__(self, config: Config, head: nn.Module):
        super().__init__()
        self.albef = ALBEF(config)
        self.albef.fusion = PairFusion(config)
        self.head = head
        init_weights(head, config.init_std)

    def start(self, albef: ALBEF) -> None:
        """Take over a trained ALBEF, plain or of pairs, of any image size. In place; the head stays as it is.

        Raises ValueError for weights that are missing, unknown or of another shape.
        """
        weights = albef.state_dict() if isinstance(albef.fusion, PairFusion) else double(albef.state_dict())
        fit_weights(self.albef, resize_weights(weights, self.albef.config), "the model to start from")

    def forward(self, image: Tensor, pairs: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Images (m, 3, s, s), rows of them (b, 2), tokens and keep (b, l) -> logits (b, c)."""
        return self.classify((self.albef.encode_image(image), pairs), self.albef.encode_text(tokens, keep), keep)

    def classify(self, shown: tuple[Tensor, Tensor], text_tokens: Tensor, keep: Tensor) -> Tensor:
        """Images' tokens (m, 1 + n, i) with rows of them (b, 2), and text tokens (b, l, d) -> logits (b, c)."""
        return full(self.head(self.albef.fuse(text_tokens, keep, shown, queries=1)[:, 0]))


class NLVR2(Distilled[PairModel]):
    """True or false of two pictures, with momentum distillation (section 5)."""

    def __init__(self, config: Config):
        width = config.text_width
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        super().__init__(config, PairModel(config, head))

    def forward(self, batch: NLVR2Batch, alpha: float, draws: None) -> tuple[dict[str, Tensor], None]:
        """-> the loss by name, and nothing for `after_step`. Changes nothing."""
        given = batch.image, batch.pairs, batch.tokens, batch.keep
        with torch.no_grad():
            opinion = self.teacher(*given) if alpha else None                    # (b, 2)
        return {"nlvr2": distilled_cross_entropy(self.student(*given), batch.labels, opinion, alpha).mean()}, None


def consistency(right: Tensor, ids: Tensor) -> Tensor:
    """Which statements are right for all their pairs: (n,) 0 or 1, ids of statements (n,) -> (statements,) 0 or 1."""
    statements, statement = ids.unique(return_inverse=True)
    return torch.ones(len(statements)).scatter_reduce(0, statement, right.float(), "amin")


@torch.no_grad()
def evaluate(model: PairModel, tokenizer: Tokenizer, records: Records, how: How) -> tuple[dict, dict]:
    """Accuracy, and `consistency`: -> samples, what else to report; see evaluation.loop.

    Records of one statement share images, and are a cluster, whatever their group.
    """
    def answer(some: Sequence[NLVR2Record], batch: NLVR2Batch) -> Tensor:
        right = model(batch.image, batch.pairs, batch.tokens, batch.keep).argmax(-1) == batch.labels
        return torch.stack([right, batch.labels], 1)
    right, label = over(model, tokenizer, records, how, collate, answer, 2).unbind(1)
    kinds, numbers = values_of(records, "kind", "id")
    ids = torch.tensor(numbers)
    statement = ids.unique(return_inverse=True)[1]
    accuracy = Clusters(right.float(), statement)
    majority = Clusters(commonest(label.tolist()), statement)
    samples = {"accuracy": accuracy, **figures_by_kind(accuracy, kinds),
               "consistency": consistency(right, ids),
               "baselines": {"majority": {"accuracy": majority}}}
    all_right = (0.5 ** statement.bincount()).mean().item()
    return samples, {"chance": {"accuracy": 1 / 2, "consistency": all_right}}


def validation_figures(samples: dict, more: dict) -> dict[str, float]:
    """What validation.csv says, from `evaluate`: accuracy decides, as in the original."""
    return {name: samples[name].mean().item() for name in ("accuracy", "consistency")}


def predict(model: PairModel, tokenizer: Tokenizer, query: Query) -> Answer:
    """Whether the statement is true of the two images, and where they speak for the answer."""
    return predict_class(model, tokenizer, query, ("false", "true"))


def dry_run_record(image: Source, other: Source, text: str, id: int) -> NLVR2Record:
    return NLVR2Record((image, other), text, id % 2 == 1, id)


TASK = Task(
    name="nlvr2",
    module=NLVR2,
    collate=collate,
    records=(NLVR2Record,),
    begins_from=(*ALIGNED, "text_assignment"),
    pretraining="text_assignment",
    presets=("nlvr2",),
    images=2,
    pairs=True,
    lacks=HEADS,
    evaluate=evaluate,
    validation_figures=validation_figures,
    predict=predict,
    text="statement",
    dry_run_record=dry_run_record,
)
