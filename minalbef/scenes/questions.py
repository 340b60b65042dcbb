"""Test sets of the evaluation: freshly drawn scenes, captions and foils, and a model's scores for any pair of them."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emojiscenes.grammar import KINDS, changes, render, turn
from emojiscenes.language import Scene, holds
from emojiscenes.scenes import Drawn, Scenes, paint
from emojiscenes.stream import Stream
from minalbef.config import Config
from minalbef.data import transform
from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import Encoded
from minalbef.run import Run


def need_scenes(config: Config, run: str | Path) -> None:
    """Raises ValueError for a run that was trained on something else than the embedded scenes."""
    if not config.objects:
        raise ValueError(f"{run} was not trained on the embedded scenes, so it knows nothing of them; `evaluate` and "
                         "`finetune` take your own set with --data prepared/SET, or name a run of scenes, such as tiny")


def scenes(run: Run, split: str, seed: int, **options) -> Scenes:
    """Freshly drawn scenes of 2 or 3 of the run's kinds of objects, with captions that fit few other scenes."""
    return Scenes(split, **{"seed": seed, "size": run.config.image_size, "objects": run.config.objects,
                            "counts": (0, 0.5, 0.5), "specific": True} | options)


def plain(run: Run, split: str, seed: int, count: float, block: int = 1, **options) -> list[Drawn]:
    """About `count` scenes: a whole number of blocks, or less than one block."""
    count, source = max(8, int(count)), scenes(run, split, seed, **options)
    if count > block:
        count -= count % block
    return [source.draw(i) for i in range(count)]


def families(run: Run, split: str, seed: int, count: float, **options) -> list[Drawn]:
    """About `count` families, each four scenes in a row: the same objects and background, differing otherwise."""
    source = scenes(run, split, seed, **options)
    return [one for i in range(max(4, int(count))) for one in source.family(i)]


def foils(run: Run, split: str, seed: int, count: float) -> dict[str, list[tuple[Scene, str, str]]]:
    """`count` scenes for each kind of change, each with a true caption and a foil with one thing changed: by kind."""
    source = scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    asked = {kind: [source.one_change(i, kind) for i in range(max(4, int(count)))] for kind in KINDS}
    return {kind: [(drawn.scene, drawn.text, foil) for drawn, _, foil in some] for kind, some in asked.items()}


def paraphrases(run: Run, split: str, seed: int, count: float, one_half: bool = False
                ) -> dict[str, list[tuple[Scene, str]]]:
    """Scenes with a caption, a paraphrase ("b right of a" for "a left of b"), and false ones: by name.

    "foil" says the opposite relation, "other_direction" one at right angles. one_half: see `Scenes.one_change`
    """
    source = scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    asked = [source.one_change(i, "relation", one_half) for i in range(max(4, int(count)))]
    return {"caption": [(one.scene, one.text) for one, _, _ in asked],
            "paraphrase": [(one.scene, render(turn(one.form), Stream(one.voice))) for one, _, _ in asked],
            "foil": [(one.scene, foil) for one, _, foil in asked],
            "other_direction": [(one.scene, render(form, Stream(one.voice))) for one, _, _ in asked
                                for form in changes(one.form, "direction")
                                if form not in changes(one.form, "relation") and holds(form, one.scene) is False]}


def wrong_pairs(run: Run, split: str, seed: int, count: float, foils: dict) -> dict[str, list[tuple[Scene, str]]]:
    """About `count` negative pairs of each kind, and as many "true" ones: by kind.

    foils: of `foils`; the first `count / 6` of each kind make up the kind "one_change"
    """
    count, stream = max(8, int(count)), Stream("wrong pairs", seed)
    pool = plain(run, split, seed, max(400, count))              # a small pool may hold no scene that shares an object
    named = [{thing.name for thing in one.scene.objects} for one in pool]
    pairs: dict[str, list] = {"true": [(one.scene, one.text) for one in pool[:count]]}
    for kind, shared in (("no_object_shared", 0), ("one_object_shared", 1)):
        fits = [[other.scene for other, theirs in zip(pool, named) if len(mine & theirs) == shared]
                for mine in named[:count]]
        pairs[kind] = [(stream.pick(some), one.text) for some, one in zip(fits, pool) if some]
    group = families(run, split, seed, count / 4)
    pairs["rearranged"] = [(group[i - i % 4 + (i + 1) % 4].scene, one.text) for i, one in enumerate(group)]
    share = -(-count // len(KINDS))
    pairs["one_change"] = [(scene, foil) for trios in foils.values() for scene, _, foil in trios[:share]]
    return pairs


def pixels(pictures: Sequence[Scene | None], side: int) -> Tensor:
    """Scenes as model input: -> (i, 3, side, side); None is a grey image."""
    grey = np.full((side, side, 3), 128, dtype=np.uint8)
    return torch.stack([transform(grey if one is None else paint(one, side), side) for one in pictures])


@torch.no_grad()
def image_tokens(run: Run, pictures: Sequence[Scene | None], chunk: int = 128) -> Tensor:
    """-> (i, 1 + n, d)"""
    parts = [pictures[i:i + chunk] for i in range(0, len(pictures), chunk)]
    return torch.cat([run.model.encode_image(pixels(part, run.config.image_size).to(run.device)) for part in parts])


def encode(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Encoded:
    """Scenes and captions through their encoders."""
    tokens, keep = run.tokenizer.encode(list(texts), run.config.text_length)
    return ranking.encode(run.model, pixels(pictures, run.config.image_size), tokens, keep)


def match_odds(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """ITM's log-odds of pairs of image and text: -> (p,), on the CPU. Repeated images and texts are encoded once."""
    encoded, *rows = encode_pairs(run, pictures, texts)
    return ranking.match_odds(run.model, encoded, *rows).cpu()


def similarity(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """ITC's cosine of pairs of image and text: -> (p,), on the CPU. Repeated images and texts are encoded once."""
    encoded, images, rows = encode_pairs(run, pictures, texts)
    return ranking.similarity(run.model, encoded)[0, images, rows].cpu()


def encode_pairs(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> tuple[Encoded, Tensor, Tensor]:
    """The different pictures and texts, encoded, and the rows of each pair in them, (p,) and (p,)."""
    numbers = [{thing: i for i, thing in enumerate(dict.fromkeys(things))} for things in (pictures, texts)]
    images, rows = (torch.tensor([number[thing] for thing in things], device=run.device)
                    for number, things in zip(numbers, (pictures, texts)))
    return encode(run, *map(list, numbers)), images, rows
