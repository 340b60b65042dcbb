"""Which caption fits which image, by ITC, ITM and both: Winoground's scores, accuracy."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minalbef.data import Batch
from minalbef.evaluation import ranking
from minalbef.evaluation.intervals import Clusters
from minalbef.evaluation.loop import How, Pretrained, Records, grey_image, over
from minalbef.system.images import Source, open_image, read_pixels
from minalbef.system.tokenizer import Tokenizer

WAYS = ("itc", "itm", "both")
CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}         # of four scores in random order


@dataclass(frozen=True)
class ChoiceRecord:
    """One image, its caption and foils; or two images and their two captions, in the same order.

    id: the image's, or the pair's; records with the same id are a cluster. kind: the subset
    box: the part of the image to show (left, top, right, bottom)
    """

    images: tuple[Source, ...]
    texts: tuple[str, ...]
    id: int
    kind: str = ""
    box: tuple[float, float, float, float] | None = None


def winoground_scores(scores: Tensor) -> Tensor:
    """Text, image and group score (Thrush et al. 2022): (image, caption), (2, 2) -> (3,), 0 or 1.

    text: each image prefers its own caption; image: each caption its own image; group: both. A tie
    is a miss.
    """
    matches = scores.diagonal()
    text = (matches > scores.flip(1).diagonal()).all()
    image = (matches > scores.flip(0).diagonal()).all()
    return torch.stack([text, image, text & image]).float()


def accuracy(scores: Tensor, texts: Sequence[str]) -> Tensor:
    """Whether the first text scores highest, ties by chance: scores (1, t) -> (1,).

    A foil that repeats it is right.
    """
    same = torch.tensor([[text == texts[0] for text in texts]], device=scores.device)
    return ranking.recall(scores, same)


def collate(records: Sequence[ChoiceRecord], tokenizer: Tokenizer, size: int, length: int) -> Batch:
    """All records' images and a grey one, (p + 1, 3, s, s); their texts (t, l).

    ids: (p + 1 + t,), the number of the record whose image or text it is, -1 for the grey one
    """
    images = []
    texts: list[str] = []
    image_rows = []
    text_rows = []
    for i, record in enumerate(records):
        for image in record.images:
            if record.box:
                image = open_image(image, upright=False).crop(record.box)
            images.append(read_pixels(image, size))
            image_rows.append(i)
        texts += record.texts
        text_rows += [i] * len(record.texts)
    images.append(read_pixels(grey_image(size), size))
    return Batch(torch.stack(images), *tokenizer.encode(texts, length),
                 torch.tensor([*image_rows, -1, *text_rows]))


def by_way(run: Pretrained, batch: Batch, weight: float) -> list[Tensor]:
    """Of each record, its images' scores for its texts by each way, then those of as many grey
    ones: (6, i, t)."""
    encoded = ranking.encode(run.model, batch.image, batch.tokens, batch.keep)
    images, texts = batch.ids.split([len(batch.image), len(batch.tokens)])
    same_record = (images[:, None] == texts) | (images[:, None] < 0)
    scores = ranking.score(run.model, encoded, rivals=same_record).over(run.model.temperature)
    assert scores.itm is not None
    ways = torch.stack([scores.itc, scores.itm, scores.both(weight)])            # (way, p + 1, t)
    by_record = []
    for i in range(int(texts.max()) + 1):
        shown = ways[:, images == i][..., texts == i]
        grey = ways[:, -1:, texts == i].expand_as(shown)
        by_record.append(torch.cat([shown, grey]))
    return by_record


@torch.no_grad()
def samples_by_way(run: Pretrained, records: Records, how: How) -> Tensor:
    """Each record's scores with its images and with grey ones: (n, shown or grey, way, score).

    Two images have `winoground_scores`, one has `accuracy`; all records have as many.
    """
    pair = len(records[0].images) == 2
    count = len(CHANCE) if pair else 1
    def answer(part: Sequence[ChoiceRecord], batch: Batch) -> Tensor:
        rows = []
        for record, scores in zip(part, by_way(run, batch, how.weight)):
            if pair:
                row = [winoground_scores(each) for each in scores]
            else:
                row = [accuracy(each, record.texts) for each in scores]
            rows.append(torch.cat(row))
        return torch.stack(rows)
    samples = over(run.model, run.tokenizer, records, how, collate, answer, 6 * count)
    return samples.float().unflatten(1, (2, len(WAYS), count))


def evaluate_choices(run: Pretrained, records: Records, how: How) -> tuple[dict, dict]:
    """Each score, of all records and of each kind, by way: -> samples, what else to report; see
    loop.

    Baseline "text_alone": all images are grey.
    """
    every = [records[i] for i in range(len(records))]
    names = tuple(CHANCE) if len(every[0].images) == 2 else ("accuracy",)
    values = samples_by_way(run, records, how)
    ids = torch.tensor([record.id for record in every])
    guess = [record.texts.count(record.texts[0]) / len(record.texts) for record in every]
    subsets = {"": list(range(len(every)))}
    kinds = dict.fromkeys(record.kind for record in every)
    if len(kinds) > 1:
        for kind in kinds:
            subsets[f" {kind}"] = [i for i, record in enumerate(every) if record.kind == kind]
    shown: dict[str, dict[str, Clusters]] = {}
    grey: dict[str, dict[str, Clusters]] = {}
    chance = {}
    for kind, rows in subsets.items():
        for i, name in enumerate(names):
            for part, samples in enumerate((shown, grey)):
                samples[name + kind] = {way: Clusters(values[rows, part, j, i], ids[rows])
                                        for j, way in enumerate(WAYS)}
            by_guessing = sum(guess[row] for row in rows) / len(rows)
            chance[name + kind] = CHANCE.get(name, by_guessing)
    return (shown | {"baselines": {"text_alone": grey}},
            {"chance": chance, "weight": how.weight})


def table(report: dict) -> str:
    """A report of choices as a Markdown table: each score by each way with its 95% interval,
    chance and text alone."""
    lines = [f"choice on {report['set']}/{report['split']}, {report['protocol']}", "",
             "| | ITC | ITM | both | chance | text alone: ITC / ITM / both | of |",
             "|---|---|---|---|---|---|---|"]
    for name, value in report["test"].items():
        spans = report["intervals"]["test"][name]
        alone = report["baselines"]["text_alone"][name]
        cells = ["{:.2f} ({:.2f} to {:.2f})".format(value[way], *spans[way]) for way in WAYS]
        baseline = " / ".join(f"{alone[way]:.2f}" for way in WAYS)
        count = report["counts"]["test"][name]["itm"]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | "
                     f"{report['chance'][name]:.2f} | {baseline} | {count:,} |")
    return "\n".join(lines)
