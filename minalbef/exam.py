"""The exam: what a trained ALBEF knows of scenes it never saw, beside chance and an oracle that sees objects alone."""
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from minalbef import language, ranking, words
from minalbef.checkpoint import Run
from minalbef.data import transform
from minalbef.language import Scene, Stream
from minalbef.ranking import Encoded, recall, rerank
from minalbef.scenes import Drawn, Scenes, paint, truth

BLOCK = 500                           # pictures and captions that compete, as in the trials
TOP = 10                              # of which so many are handed to ITM
WEIGHTS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
KINDS = ("size", "count", "background", "place", "relation", "object")


def examine(run: Run, seed: int = 0, size: float = 1.0, split: str = "test") -> dict:
    """All figures of a report, as shares of 1; "intervals": their 95% intervals; "counts": of how many each is the mean.

    seed: of the freshly drawn scenes; size: share of their number; split: "validation" while you tune

    plain: scenes of 2 or 3 objects, in blocks of 500. families: four scenes of the same objects, among themselves.
    itc: by similarity. rerank: the ten best by that, by ITM's log-odds alone. rerank_plus: by their sum, similarity
    over temperature, with `rerank_plus_weight`. That and `itm_threshold` are set on other scenes, of the validation split.
    """
    weight, threshold = calibrate(run, seed, size)
    def test(scenes: int, **options) -> dict:
        return retrieve(run, plain(run, split, seed, scenes * size, **options), None, weight)
    def family(count: int, **options) -> dict:
        return retrieve(run, families(run, split, seed, count * size, **options), 4, weight)
    values = {
        "plain": retrieve(run, plain(run, split, seed, 2000 * size), None, weight, (1, 5, 10)),
        "families": family(500),
        "unseen_style": test(1000, vendors=("openmoji",)) | {"families": family(250, vendors=("openmoji",))},
        "unseen_pairs": test(500, pairs="unseen") | {"control": test(500, pairs="control")},
        **refusals(run, split, seed, 500 * size, threshold),
        "itm_one_change_accuracy": one_change(run, split, seed, 500 * size),
        "itm_one_change_blank": one_change(run, split, seed, 500 * size, blank=True),
        **masked_words(run, split, seed, 400 * size),
        **{f"pointing_{name}": share for name, share in point(run, split, seed, 500 * size).items()},
    }
    gain = [values["plain"][f"rerank_{way}_r1"] - values["plain"][f"itc_{way}_r1"] for way in ("i2t", "t2i")]
    values["rerank_gain"] = (sum(gain) / 2)[:, None]
    figures, intervals, counts = summarise(values)
    return {**figures, "rerank_plus_weight": weight, "itm_threshold": threshold, "intervals": intervals, "counts": counts}


def examine_start(run: Run, seed: int = 0, size: float = 1.0, split: str = "test") -> dict:
    """What a run knew before its first step, after the warm start alone: retrieval by ITC, and pointing."""
    values = {"plain": retrieve(run, plain(run, split, seed, 500 * size)),
              "families": retrieve(run, families(run, split, seed, 200 * size), 4)}
    values = {name: {key: share for key, share in part.items() if key.startswith("itc")} for name, part in values.items()}
    figures, _, _ = summarise(values["plain"] | {"families": values["families"]} | {
        f"pointing_{name}": share for name, share in point(run, split, seed, 200 * size).items()})
    return figures


# the scenes


def scenes(run: Run, split: str, seed: int, **options) -> Scenes:
    """Freshly drawn scenes of the kinds of objects that the run's captions name."""
    return Scenes(split, **{"seed": seed, "size": run.config.image_size, "objects": run.config.objects,
                            "counts": (0, 0.5, 0.5), "specific": True} | options)


def plain(run: Run, split: str, seed: int, count: float, **options) -> list[Drawn]:
    """About `count` scenes of 2 or 3 objects whose captions fit few others: whole blocks of 500, or fewer than one."""
    count = max(8, int(count))
    source = scenes(run, split, seed, **options)
    return [source.draw(i) for i in range(count - count % BLOCK if count > BLOCK else count)]


def families(run: Run, split: str, seed: int, count: float, **options) -> list[Drawn]:
    """`count` families, each four scenes in a row."""
    source = scenes(run, split, seed, **options)
    return [one for i in range(max(8, int(count))) for one in source.family(i)]


def pixels(run: Run, pictures: Sequence[Scene | None]) -> Tensor:
    """Painted, as the model reads them: -> (i, 3, s, s). None is a blank grey picture."""
    side = run.config.image_size
    grey = np.full((side, side, 3), 128, dtype=np.uint8)
    return torch.stack([transform(grey if one is None else paint(one, side), side) for one in pictures])


def encode(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Encoded:
    """Scenes and captions, each once through its encoder."""
    return ranking.encode(run.model, pixels(run, pictures), *run.tokenizer.encode(list(texts), run.config.text_length))


def odds(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """ITM's log-odds, picture by picture with its text: -> (p,). What comes several times is encoded once."""
    (some, images), (sayings, rows) = numbered(pictures), numbered(texts)
    return ranking.match_odds(run.model, encode(run, some, sayings), images, rows)


def numbered(things: Sequence) -> tuple[list, Tensor]:
    """Each thing once, and for every thing its number among them."""
    number = {thing: i for i, thing in enumerate(dict.fromkeys(things))}
    return list(number), torch.tensor([number[thing] for thing in things])


# retrieval


def retrieve(run: Run, drawn: list[Drawn], block: int | None = None, weight: float | None = None,
             ks: Sequence[int] = (1,)) -> dict[str, Tensor]:
    """Find captions for pictures (i2t) and pictures for captions (t2i), within blocks of so many.

    -> by name whether each query hit: (i,), or (g, 4) in families. weight: of rerank_plus; None: ITC alone
    """
    block, encoded = block or min(BLOCK, len(drawn)), encode(run, [one.scene for one in drawn], [one.text for one in drawn])
    blocks = [drawn[i:i + block] for i in range(0, len(drawn), block)]
    true = torch.stack([torch.from_numpy(truth(some)).T for some in blocks])     # (g, picture, text)
    sim = ranking.similarity(run.model, encoded, block)
    shared = torch.stack([objects_shared(some) for some in blocks])
    scores = {"itc": sim, "oracle": shared, "chance": torch.zeros_like(sim)}
    if weight is not None:
        scores["rerank"] = ranking.match_best(run.model, encoded, sim, TOP)
        scores["rerank_plus"] = scores["rerank"] + weight * sim / run.model.temperature.item()
    values = {}
    for name, score in scores.items():
        both = [(way, *(x if way == "i2t" else x.mT for x in (score, sim, true))) for way in ("i2t", "t2i")]
        for k in ks:
            hits = {way: recall(rerank(by, s, TOP) if "rerank" in name else s, t, k) for way, s, by, t in both}
            if name in ("oracle", "chance"):
                values[f"{name}_r{k}"] = (hits["i2t"] + hits["t2i"]) / 2
            else:
                values |= {f"{name}_{way}_r{k}": hit for way, hit in hits.items()}
    return values if block == 4 else {name: hit.flatten() for name, hit in values.items()}


def objects_shared(drawn: Sequence[Drawn]) -> Tensor:
    """The oracle's score: objects that caption and scene share, over those that either has, -> (pictures, texts)."""
    seen = [{thing.name for thing in one.scene.objects} for one in drawn]
    said = [language.names(one.form) for one in drawn]
    return torch.tensor([[len(a & b) / len(a | b) for b in said] for a in seen])


def calibrate(run: Run, seed: int = 0, size: float = 1.0) -> tuple[float, float]:
    """What is set on validation: the weight of similarity in rerank_plus, and the log-odds over which ITM says yes."""
    seed += 1_000_000                 # other scenes than those of an exam on the validation split
    parts = [(plain(run, "validation", seed, 500 * size), None), (families(run, "validation", seed, 100 * size), 4)]
    def reached(weight: float) -> float:
        ...
