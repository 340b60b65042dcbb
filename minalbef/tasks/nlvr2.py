"""NLVR2: is a statement true of two images? ALBEF with every fusion layer twice (section 5)."""
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF, full
from minalbef.config import Config
from minalbef.data import Batch
from minalbef.ema import Distilled
from minalbef.evaluation.intervals import Clusters, commonest, figures_by_kind
from minalbef.evaluation.loop import How, Records, over, values_of
from minalbef.fusion import Fusion, KeysValues
from minalbef.layers import init_weights
from minalbef.losses import distilled_cross_entropy
from minalbef.system.checkpoint import fit_weights, resize_weights
from minalbef.system.images import Source, read_pixels
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.base import ALIGNED, HEADS, Task, mean_figures
from minalbef.tasks.prediction import predict_class

# weights that the two layers of a pair share: prefix, layer and the rest of the name
SHARED = re.compile(r"(.*\bfusion\.layers\.)(\d+)(\.cross\.[kv]\..+)")


@dataclass(frozen=True)
class NLVR2Record:
    """A statement about two images, and whether it is true. Records of one statement share its id.

    Raises ValueError unless there are two images and the label is True or False.
    """

    images: tuple[Source, Source]
    text: str
    true: bool
    id: int
    kind: str = ""                    # see data.Record
    group: int | None = None

    def __post_init__(self) -> None:
        if len(self.images) != 2 or self.true not in (True, False):
            raise ValueError(f"{self.text!r} (id {self.id}) has {len(self.images)} images and "
                             f"label {self.true!r}; a record needs two images and True or False: "
                             "leave it out or correct it")


@dataclass(frozen=True)
class NLVR2Batch(Batch):
    """A Batch whose `image` has each distinct image once, (m, 3, s, s); `ids` are of statements.

    A statement comes with several pairs of the same few images; each image is encoded once.
    """

    pairs: Tensor                     # (b, 2) rows of image: the left and the right image
    labels: Tensor                    # (b,) 1 where the statement is true, else 0

    def part(self, i: int, n: int, rows: int) -> "NLVR2Batch":
        """Micro-batch i of n: its statements, with their images."""
        statements = slice(i * rows // n, (i + 1) * rows // n)
        images, pairs = self.pairs[statements].unique(return_inverse=True)
        return NLVR2Batch(
            image=self.image[images],
            tokens=self.tokens[statements],
            keep=self.keep[statements],
            ids=self.ids[statements],
            pairs=pairs,
            labels=self.labels[statements],
        )


def collate(records: Sequence[NLVR2Record], tokenizer: Tokenizer, size: int, length: int = 25
            ) -> NLVR2Batch:
    """Records -> a batch: images of side `size`, statements of at most `length` tokens.

    Records share a row of `image` where their image is the same object, not merely an equal one.
    """
    tokens, keep = tokenizer.encode([record.text for record in records], length)
    images: list[Tensor] = []
    row: dict[int, int] = {}                             # of an image, by its identity
    pairs = []
    for record in records:
        for image in record.images:
            if id(image) not in row:
                row[id(image)] = len(images)
                images.append(read_pixels(image, size))
        pairs.append([row[id(image)] for image in record.images])
    return NLVR2Batch(
        image=torch.stack(images),
        tokens=tokens,
        keep=keep,
        ids=torch.tensor([record.id for record in records]),
        pairs=torch.tensor(pairs),
        labels=torch.tensor([int(record.true) for record in records]),
    )


class PairFusion(Fusion):
    """Fusion with every layer twice: one attends to the left image, the next to the right one.

    The two layers of a pair share the weights of cross-attention's keys and values, and nothing
    else; the first layer holds them. It is called as Fusion is, with a tuple in place of an image's
    tokens: the tokens of all images, and the rows of them that make a pair.
    """

    def __init__(self, config: Config):
        super().__init__(replace(config, fusion_depth=2 * config.fusion_depth))
        for layer in self.layers[1::2]:
            # the pair's first layer has them
            layer.cross.k = None                         # type: ignore[assignment]
            layer.cross.v = None                         # type: ignore[assignment]

    def keys_values(                                     # type: ignore[override]  # of one image
            self, images: tuple[Tensor, Tensor]) -> KeysValues:
        """Keys and values for every layer, b rows each.

        images: all images' tokens (m, 1 + n, i), and pairs of their rows (b, 2)
        """
        image_tokens, pairs = images
        pairs_keys_values = []
        for layer in self.layers[::2]:
            image = image_tokens[:, self.first:]         # for each layer, see Fusion
            keys, values = layer.cross.k(image), layer.cross.v(image)
            for rows in pairs.T:
                pairs_keys_values.append((keys[rows], values[rows]))
        return pairs_keys_values


def double(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A plain ALBEF's weights for a model of pairs: every fusion layer becomes a pair of equals."""
    doubled: dict[str, Tensor] = {}
    for name, value in weights.items():
        prefix, layers, suffix = name.rpartition("fusion.layers.")
        if not layers:
            doubled[name] = value
            continue
        layer, _, part = suffix.partition(".")
        first = 2 * int(layer)
        for i in (first, first + 1):
            doubled[f"{prefix}{layers}{i}.{part}"] = value
    return drop_shared(doubled)


def drop_shared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the second copy of weights that a pair shares; the original's files have both copies.

    Raises ValueError where the two differ.
    """
    rest = dict(weights)
    for name in weights:
        match = SHARED.fullmatch(name)
        if match is None or int(match[2]) % 2 == 0:
            continue
        first = f"{match[1]}{int(match[2]) - 1}{match[3]}"
        if first not in weights or not torch.equal(weights[first], weights[name]):
            raise ValueError(f"{name} differs from {first}; the two layers of a pair share them, "
                             "so these are not the weights of a model of pairs (`double` makes "
                             "them from a plain ALBEF's)")
        del rest[name]
    return rest


def add_shared(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `drop_shared`, for writing the original's files."""
    both = dict(weights)
    for name, value in weights.items():
        match = SHARED.fullmatch(name)
        if match is not None:
            both[f"{match[1]}{int(match[2]) + 1}{match[3]}"] = value
    return both


class PairModel(nn.Module):
    """ALBEF over pairs of images, with a classifier over the fused [CLS]."""

    def __init__(self, config: Config, head: nn.Module):
        super().__init__()
        self.albef = ALBEF(config)
        self.albef.fusion = PairFusion(config)
        self.head = head
        init_weights(head, config.init_std)

    def start(self, albef: ALBEF) -> None:
        """Load a trained ALBEF's weights, in place. The head keeps its own.

        albef: plain or a model of pairs, of any image size
        Raises ValueError for weights that are missing, unknown or of another shape.
        """
        weights = albef.state_dict()
        if not isinstance(albef.fusion, PairFusion):
            weights = double(weights)
        weights = resize_weights(weights, self.albef.config)
        fit_weights(self.albef, weights, "the model to start from")

    def forward(self, image: Tensor, pairs: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Logits (b, c).

        image: (m, 3, s, s); pairs: rows of it (b, 2); tokens, keep: (b, l)
        """
        image_tokens = self.albef.encode_image(image)
        text_tokens = self.albef.encode_text(tokens, keep)
        return self.classify((image_tokens, pairs), text_tokens, keep)

    def classify(self, images: tuple[Tensor, Tensor], text_tokens: Tensor, keep: Tensor) -> Tensor:
        """Logits (b, c) from encoded images and text tokens (b, l, d).

        images: all images' tokens (m, 1 + n, i), and pairs of their rows (b, 2)
        """
        fused = self.albef.fuse(text_tokens, keep, images, queries=1)
        return full(self.head(fused[:, 0]))


class NLVR2(Distilled[PairModel]):
    """True or false of two images, with momentum distillation (section 5)."""

    unused_parts = HEADS

    def __init__(self, config: Config):
        width = config.text_width
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        super().__init__(config, PairModel(config, head))

    def forward(self, batch: NLVR2Batch, alpha: float, draws: None = None
                ) -> tuple[dict[str, Tensor], None]:
        """The loss by name, and no state for `after_step`."""
        inputs = batch.image, batch.pairs, batch.tokens, batch.keep
        teacher_logits = None
        if alpha:
            with torch.no_grad():
                teacher_logits = self.teacher(*inputs)                   # (b, 2)
        logits = self.student(*inputs)
        loss = distilled_cross_entropy(logits, batch.labels, teacher_logits, alpha)
        return {"nlvr2": loss.mean()}, None


def consistency(right: Tensor, ids: Tensor) -> Tensor:
    """Which statements are answered right for all their pairs.

    right: (n,) 0 or 1; ids: (n,) of statements  ->  (statements,) 0 or 1
    """
    statements, statement = ids.unique(return_inverse=True)
    return torch.ones(len(statements)).scatter_reduce(0, statement, right.float(), "amin")


@torch.no_grad()
def evaluate_nlvr2(model: PairModel, tokenizer: Tokenizer, records: Records, how: How
                   ) -> tuple[dict, dict]:
    """Accuracy and `consistency`.

    Records of one statement share images, so they are a cluster, whatever their group.
    -> samples, and what else to report; see evaluation.loop
    """
    def answer(rows: Sequence[NLVR2Record], batch: NLVR2Batch) -> Tensor:
        logits = model(batch.image, batch.pairs, batch.tokens, batch.keep)
        right = logits.argmax(-1) == batch.labels
        return torch.stack([right, batch.labels], 1)

    right, label = over(model, tokenizer, records, how, collate, answer, 2).unbind(1)
    kinds, statement_ids = values_of(records, "kind", "id")
    ids = torch.tensor(statement_ids)
    statement = ids.unique(return_inverse=True)[1]
    accuracy = Clusters(right.float(), statement)
    majority = Clusters(commonest(label.tolist()), statement)
    samples = {"accuracy": accuracy, **figures_by_kind(accuracy, kinds),
               "consistency": consistency(right, ids),
               "baselines": {"majority": {"accuracy": majority}}}
    all_right = (0.5 ** statement.bincount()).mean().item()
    return samples, {"chance": {"accuracy": 1 / 2, "consistency": all_right}}


def dummy_record(image: Source, second: Source, text: str, id: int) -> NLVR2Record:
    """A made-up record, true if the id is odd."""
    return NLVR2Record((image, second), text, id % 2 == 1, id)


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
    evaluate=evaluate_nlvr2,
    validation_figures=mean_figures("accuracy", "consistency"),
    predict=partial(predict_class, labels=("false", "true")),
    text="statement",
    dummy_record=dummy_record,
)
