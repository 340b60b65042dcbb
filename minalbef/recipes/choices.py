"""Which caption fits which picture, by ITC, ITM and both: Winoground's scores, accuracy; of sets and our own pairs."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emojiscenes.grammar import KINDS
from minalbef.data import Batch, open_image, transform
from minalbef.datasets.choices import ChoiceRecord
from minalbef.evaluation import ranking
from minalbef.evaluation.intervals import Clusters
from minalbef.evaluation.loop import How, Records, over
from minalbef.recipes import report
from minalbef.run import Run
from minalbef.scenes import questions
from minalbef.tokenizer import Tokenizer

WEIGHT = 0.2                          # of similarity, for a run that has not been evaluated
WAYS = ("itc", "itm", "both")
CHANCE = {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}         # of four scores in random order


def weight(run: Run) -> float:
    """Of similarity over temperature, added to ITM's log-odds, as the run's evaluation chose it; ITM alone is worse."""
    try:
        return report.read_report(run.path)["rerank_plus_weight"]
    except (ValueError, KeyError):               # not evaluated, or not as pretraining is
        return WEIGHT


def winoground_scores(scores: Tensor) -> Tensor:
    """Text, image and group score (Thrush et al. 2022): (picture, caption), (2, 2) -> (3,), 0 or 1.

    text: each picture prefers its own caption; image: each caption its own picture; group: both. A tie is a miss.
    """
    own = scores.diagonal()
    text, image = ((own > scores.flip(axis).diagonal()).all() for axis in (1, 0))
    return torch.stack([text, image, text & image]).float()


def accuracy(scores: Tensor, texts: Sequence[str]) -> Tensor:
    """Whether the first text scores highest, ties by chance: scores (1, t) -> (1,). A foil that repeats it is right."""
    return ranking.recall(scores, torch.tensor([[text == texts[0] for text in texts]], device=scores.device))


def collate(records: Sequence[ChoiceRecord], tokenizer: Tokenizer, size: int, length: int) -> Batch:
    """All records' pictures and a grey one, (p + 1, 3, s, s); their texts (t, l); ids (p + 1 + t,): whose each is."""
    shown = [(i, image, one.box) for i, one in enumerate(records) for image in one.images]
    texts = [(i, text) for i, one in enumerate(records) for text in one.texts]
    images = [transform(open_image(image, upright=False).crop(box) if box else image, size) for _, image, box in shown]
    images.append(transform(np.full((size, size, 3), 128, np.uint8), size))
    return Batch(torch.stack(images), *tokenizer.encode([text for _, text in texts], length),
                 torch.tensor([*(i for i, _, _ in shown), -1, *(i for i, _ in texts)]))


def by_way(run: Run, batch: Batch, weight: float) -> list[Tensor]:
    """Of each record, its pictures' scores for its texts by each way, then those of as many grey ones: (6, i, t)."""
    encoded = ranking.encode(run.model, batch.image, batch.tokens, batch.keep)
    images, texts = batch.ids.split([len(batch.image), len(batch.tokens)])
    wanted = (images[:, None] == texts) | (images[:, None] < 0)
    sim = ranking.similarity(run.model, encoded)[0] / run.model.temperature
    odds = torch.full_like(sim, -torch.inf)
    odds[wanted] = ranking.match_odds(run.model, encoded, *wanted.nonzero(as_tuple=True))
    scores, found = torch.stack([sim, odds, odds + weight * sim]), []            # (way, p + 1, t)
    for i in range(int(texts.max()) + 1):
        mine = scores[:, images == i][..., texts == i]
        found.append(torch.cat([mine, scores[:, -1:, texts == i].expand_as(mine)]))
    return found


@torch.no_grad()
def evaluate(run: Run, records: Records, how: How) -> tuple[dict, dict]:
    """Each score of a set and of its kinds, by way: -> samples, what else to report; see evaluation.loop.

    Two pictures have `winoground_scores`, one has `accuracy`. Baseline "text_alone": all pictures are grey.
    """
    some, used = [records[i] for i in range(len(records))], weight(run)
    names = tuple(CHANCE) if len(some[0].images) == 2 else ("accuracy",)
    def answer(some: Sequence[ChoiceRecord], batch: Batch) -> Tensor:
        return torch.stack([torch.cat([winoground_scores(each) if len(one.images) == 2 else accuracy(each, one.texts)
                                       for each in scores]) for one, scores in zip(some, by_way(run, batch, used))])
    found = over(run.model, run.tokenizer, records, how, collate, answer, 6 * len(names))
    found = found.float().unflatten(1, (2, len(WAYS), len(names)))               # (n, shown or grey, way, score)
    ids = torch.tensor([one.id for one in some])
    guess = [one.texts.count(one.texts[0]) / len(one.texts) for one in some]
    kinds = dict.fromkeys(one.kind for one in some)
    subsets = {"": [*range(len(some))]} | {f" {kind}": [i for i, one in enumerate(some) if one.kind == kind]
                                           for kind in kinds if len(kinds) > 1}
    def samples(part: int) -> dict[str, dict[str, Clusters]]:
        return {name + kind: {way: Clusters(found[rows, part, j, i], ids[rows]) for j, way in enumerate(WAYS)}
                for kind, rows in subsets.items() for i, name in enumerate(names)}
    chance = {name + kind: CHANCE.get(name) or sum(guess[i] for i in rows) / len(rows)
              for kind, rows in subsets.items() for name in names}
    return samples(0) | {"baselines": {"text_alone": samples(1)}}, {"chance": chance, "weight": used}


def minimal_pairs(run: Run, number: int, seed: int, split: str) -> list[ChoiceRecord]:
    """So many of our own minimal pairs of each kind: two scenes, each with a caption that is false of the other."""
    source = questions.scenes(run, split, seed, counts=(0.2, 0.4, 0.4))          # as those of questions.foils
    pairs = [source.minimal_pair(i, kind) for kind in KINDS for i in range(number)]
    return [ChoiceRecord(tuple(map(source.picture, pair)), tuple(one.text for one in pair), i, pair[0].kind)
            for i, pair in enumerate(pairs)]


def table(found: dict) -> str:
    """A report of choices as a Markdown table: each score by each way with its 95% interval, chance and text alone."""
    lines = [f"choice on {found['set']}/{found['split']}, {found['protocol']}", "",
             "| | ITC | ITM | both | chance | text alone: ITC / ITM / both | of |", "|---|---|---|---|---|---|---|"]
    for name, value in found["test"].items():
        spans, alone = found["intervals"]["test"][name], found["baselines"]["text_alone"][name]
        cells = " | ".join("{:.2f} ({:.2f} to {:.2f})".format(value[way], *spans[way]) for way in WAYS)
        lines.append(f"| {name.replace('_', ' ')} | {cells} | {found['chance'][name]:.2f} | "
                     f"{' / '.join(f'{alone[way]:.2f}' for way in WAYS)} | {found['counts']['test'][name]['itm']:,} |")
    return "\n".join(lines)
