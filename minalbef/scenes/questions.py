"""Test sets of the evaluation: freshly drawn scenes, captions and foils.

Also a model's scores for any pair of scene and text.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emojiscenes.grammar import KINDS, changes, render, turn
from emojiscenes.language import Scene, holds
from emojiscenes.scenes import Drawn, Scenes
from emojiscenes.stream import Stream
from emojiscenes.stress import TITLES, Contrast
from emojiscenes.stress import draw as draw_contrasts
from minalbef.config import Config
from minalbef.data import transform
from minalbef.evaluation import ranking
from minalbef.evaluation.loop import How, unique
from minalbef.evaluation.ranking import Encoded
from minalbef.scenes.records import Foils, image_of
from minalbef.tasks.run import Run


def need_scenes(config: Config, run: str | Path) -> None:
    """Raises ValueError for a run that was not trained on the embedded scenes."""
    if not config.objects:
        raise ValueError(f"{run} was not trained on the embedded scenes, so it knows nothing of "
                         "them; `evaluate` and `finetune` take your own set with --data "
                         "prepared/SET, or name a run of scenes, such as tiny")


# test sets


def scenes(run: Run, split: str, seed: int, **options: Any) -> Scenes:
    """Freshly drawn scenes of 2 or 3 of the run's objects, with captions that fit few others."""
    settings: dict[str, Any] = {
        "seed": seed,
        "size": run.config.image_size,
        "objects": run.config.objects,
        "counts": (0, 0.5, 0.5),
        "specific": True,
    }
    return Scenes(split, **settings | options)


def plain(run: Run, split: str, seed: int, count: float, block: int = 1, **options: Any
          ) -> list[Drawn]:
    """About `count` scenes: a whole number of blocks, or less than one block."""
    source = scenes(run, split, seed, **options)
    count = max(8, int(count))
    if count > block:
        count -= count % block
    return [source.draw(i) for i in range(count)]


def families(run: Run, split: str, seed: int, count: float, **options: Any) -> list[Drawn]:
    """About `count` families, each four scenes in a row.

    A family's scenes have the same objects and background, and differ in the rest.
    """
    source = scenes(run, split, seed, **options)
    drawings: list[Drawn] = []
    for i in range(max(4, int(count))):
        drawings += source.family(i)
    return drawings


def foils(run: Run, split: str, seed: int, count: float) -> Foils:
    """`count` scenes for each kind of change, each with a true caption and a foil: by kind.

    A foil is the caption with one thing changed, so that it is false.
    """
    source = scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    trios: Foils = {kind: [] for kind in KINDS}
    for kind, part in trios.items():
        for i in range(max(4, int(count))):
            example, _, foil = source.one_change(i, kind)
            part.append((example.scene, example.text, foil))
    return trios


def paraphrases(run: Run, split: str, seed: int, count: float, one_half: bool = False
                ) -> dict[str, list[tuple[Scene, str]]]:
    """Scenes with a caption, a paraphrase and false captions: by name.

    "paraphrase" says "b right of a" for "a left of b"; "foil" the opposite relation;
    "other_direction" a relation at right angles
    one_half: see `Scenes.one_change`
    """
    source = scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    pairs: dict[str, list[tuple[Scene, str]]] = {
        "caption": [], "paraphrase": [], "foil": [], "other_direction": []}
    for i in range(max(4, int(count))):
        example, _, foil = source.one_change(i, "relation", one_half)
        scene, form = example.scene, example.form
        pairs["caption"].append((scene, example.text))
        pairs["paraphrase"].append((scene, render(turn(form), Stream(example.voice))))
        pairs["foil"].append((scene, foil))
        opposite = changes(form, "relation")
        for changed in changes(form, "direction"):
            if changed not in opposite and holds(changed, scene) is False:
                text = render(changed, Stream(example.voice))
                pairs["other_direction"].append((scene, text))
    return pairs


def contrasts(run: Run, split: str, seed: int, count: float, kinds: Sequence[str] = tuple(TITLES),
              vendors: tuple[str, ...] | None = None) -> dict[str, list[Contrast]]:
    """`count` questions of the stress test by kind; kinds that the run's objects can't show are
    left out.

    vendors: whose drawings; None: those of training
    """
    by_kind = {}
    for kind in kinds:
        part = draw_contrasts(kind, max(4, int(count)), split, seed, run.config.objects, vendors)
        if part:
            by_kind[kind] = part
    return by_kind


def wrong_pairs(run: Run, split: str, seed: int, count: float, foils: Foils
                ) -> dict[str, list[tuple[Scene, str]]]:
    """About `count` negative pairs of each kind, and as many "true" ones: by kind.

    foils: of `foils`; the first `count / 6` of each kind make up the kind "one_change"
    """
    count = max(8, int(count))
    stream = Stream("wrong pairs", seed)
    # a small pool may hold no scene that shares an object
    pool = plain(run, split, seed, max(400, count))
    pairs = {"true": [(example.scene, example.text) for example in pool[:count]]}
    for kind, shared in (("no_object_shared", 0), ("one_object_shared", 1)):
        pairs[kind] = []
        for example in pool[:count]:
            fits = scenes_that_share(pool, example, shared)
            if fits:
                pairs[kind].append((stream.pick(fits), example.text))
    group = families(run, split, seed, count / 4)
    pairs["rearranged"] = []
    for i, example in enumerate(group):
        sibling = group[i - i % 4 + (i + 1) % 4]
        pairs["rearranged"].append((sibling.scene, example.text))
    per_kind = -(-count // len(KINDS))
    pairs["one_change"] = []
    for trios in foils.values():
        pairs["one_change"] += [(scene, foil) for scene, _, foil in trios[:per_kind]]
    return pairs


def scenes_that_share(pool: Sequence[Drawn], example: Drawn, count: int) -> list[Scene]:
    """The scenes of a pool that have exactly `count` kinds of objects in common with an example."""
    names = object_names(example.scene)
    return [drawn.scene for drawn in pool if len(names & object_names(drawn.scene)) == count]


def object_names(scene: Scene) -> set[str]:
    """The different names of a scene's objects."""
    return {thing.name for thing in scene.objects}


# a model's scores


def pixels(pictures: Sequence[Scene | None], side: int) -> Tensor:
    """Scenes as model input: -> (i, 3, side, side); None is a grey image."""
    return torch.stack([transform(image_of(scene, side), side) for scene in pictures])


@torch.no_grad()
def image_tokens(run: Run, pictures: Sequence[Scene | None], chunk: int = 128) -> Tensor:
    """-> (i, 1 + n, d)"""
    tokens = []
    for i in range(0, len(pictures), chunk):
        image = pixels(pictures[i:i + chunk], run.config.image_size)
        tokens.append(run.model.encode_image(image.to(run.device)))
    return torch.cat(tokens)


def encode(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Encoded:
    """Scenes and captions through their encoders."""
    tokens, keep = run.tokenizer.encode(list(texts), run.config.text_length)
    return Encoded(image_tokens(run, pictures), *ranking.encode_texts(run.model, tokens, keep))


def encode_pairs(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]
                 ) -> tuple[Encoded, Tensor, Tensor]:
    """The different scenes and texts, encoded.

    -> with each pair's row among the images, (p,), and among the texts, (p,)
    """
    first_images, images = unique(pictures)
    first_texts, rows = unique(texts)
    encoded = encode(run, [pictures[i] for i in first_images], [texts[i] for i in first_texts])
    return encoded, images.to(run.device), rows.to(run.device)


def match_odds(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """ITM's log-odds of pairs of image and text: -> (p,), on the CPU.

    Repeated images and texts are encoded once.
    """
    return ranking.match_odds(run.model, *encode_pairs(run, pictures, texts)).cpu()


def similarity(run: Run, pictures: Sequence[Scene | None], texts: Sequence[str]) -> Tensor:
    """ITC's cosine of pairs of image and text: -> (p,), on the CPU.

    Repeated images and texts are encoded once.
    """
    encoded, images, rows = encode_pairs(run, pictures, texts)
    return ranking.similarity(run.model, encoded)[images, rows].cpu()


def how(run: Run, **options: Any) -> How:
    """How a pretrained model is evaluated here: on its device, texts truncated as in training."""
    return How(batch=128, device=run.device, length=run.config.text_length, quiet=True, **options)
