"""The page of a run, report.html: one file, no network, light and dark.

Its markup is page.html, its style page.css.
"""
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from emojiscenes.grammar import kinds_of_word, phrase
from emojiscenes.language import Noun, Scene
from emojiscenes.scenes import Drawn, Scenes, paint, truth
from minalbef.evaluation import ranking, words
from minalbef.evaluation.ranking import Encoded
from minalbef.scenes import questions
from minalbef.scenes.tables import competitors, format_share, rows
from minalbef.system import checkpoint
from minalbef.system.metrics import read_metrics
from minalbef.system.tokenizer import clean
from minalbef.tasks.run import Run, load
from minalbef.viz import examples, plots

SIDE = 144                            # pixels of a scene on the page: three times the model's input
SEED = 4242                           # of the page's scenes, from the test split
POOL = 500                            # scenes and captions to search
QUERIES = 60                          # searches to choose examples from


def write_page(folder: Path, report: dict, out: Path) -> Path:
    """Write report.html of a run folder with a trained model, and of its report: -> its path.

    out: the folder to write it to
    Raises ValueError if the run is damaged, OSError if the page cannot be written.
    """
    run = load(folder)
    scenes = scene_values(run) if run.config.objects else None
    engine = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                         undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    engine.globals.update(percent=percent, format_share=format_share)
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    text = engine.get_template("page.html").render(
        report_values(report),
        config=run.config,
        training=training(folder, run),
        scenes=scenes,
        samples=run.config.steps * run.config.batch,
        millions=parameters / 1e6,
    )
    path = out / "report.html"
    checkpoint.write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    return path


def percent(value: float) -> str:
    """A share in percent, with a decimal below 1%."""
    if value >= 0.01 or value == 0:
        return f"{value:.0%}"
    return f"{value:.1%}"


def image(pixels: np.ndarray, alt: str) -> dict[str, str]:
    """An image as a data URI, and its alt text."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return {"alt": alt, "src": f"data:image/webp;base64,{data}"}


def thumbnail(scene: Scene) -> dict[str, str]:
    """A scene as a data URI."""
    objects = ", ".join(thing.name for thing in scene.objects)
    return image(paint(scene, SIDE), f"{objects} on {scene.background}")


def report_values(report: dict) -> dict[str, Any]:
    """What the page shows of report.json: its figures, and how the run was made."""
    facts = [f"command: {report['command']}", f"date: {report['date']}"]
    facts += [f"code: {report['commit']}", f"machine: {report['device']}"]
    for name, value in report["seconds"].items():
        facts.append(f"seconds, {name.replace('_', ' ')}: {value:.0f}")
    for name, value in report["versions"].items():
        facts.append(f"version of {name}: {value}")
    figures = rows(report)
    tiles = {}
    for row in figures:
        tiles[row.group.split(":")[0], row.name] = row
    return {
        "report": report,
        "rows": figures,
        "competitors": competitors(report),
        "tiles": tiles,
        "made": facts,
        "options": [f"{name} = {value!r}" for name, value in report["config"].items()],
    }


def training(folder: Path, run: Run) -> list[plots.Plot]:
    """The losses of the warm start and of training, if they were logged."""
    config = run.config
    samples = config.steps * config.batch
    phases = {
        "ITM and MLM join": config.match_from * samples,
        "queue joins": config.queue_from * samples,
        "siblings join": config.siblings_from * samples if config.siblings else 0,
        "hard negatives": config.hard_from * samples,
    }
    figures = []
    if warm := read_metrics(folder / "warm"):
        figures.append(plots.curves(warm))
    if metrics := read_metrics(folder):
        figures.append(plots.curves(metrics, phases))
    return figures


def scene_values(run: Run) -> dict[str, Any]:
    """What the page shows of a model of the embedded scenes, section by section."""
    scenes = questions.plain(run, "test", SEED, POOL)
    return {
        "pool": len(scenes),
        "matrix": matrix(run, scenes[:9]),
        **retrieval(run, scenes),
        "families": families(run),
        "looks": looks(run, scenes[:4]),
        "guesses": guesses(run, scenes[:40]),
        "slide": slide(run),
    }


def matrix(run: Run, scenes: Sequence[Drawn]) -> plots.Plot:
    """Each caption with each image, by similarity."""
    captions = [scene.text for scene in scenes]
    encoded = questions.encode(run, [scene.scene for scene in scenes], captions)
    sim = ranking.similarity(run.model, encoded).T.numpy()                   # (text, image)
    pictures = [paint(scene.scene, SIDE) for scene in scenes]
    return plots.similarities(sim, pictures, captions, truth(scenes))


def retrieval(run: Run, scenes: Sequence[Drawn]) -> dict[str, list[dict]]:
    """Searches in both directions: by caption for an image, and by image for a caption."""
    captions = [scene.text for scene in scenes]
    encoded = questions.encode(run, [scene.scene for scene in scenes], captions)
    sim = ranking.similarity(run.model, encoded).T                           # (text, image)
    true = torch.from_numpy(truth(scenes))
    return {
        "captions": searches(run, scenes, encoded, sim, true, by_image=False),
        "pictures": searches(run, scenes, encoded, sim.T, true.T, by_image=True),
    }


def searches(run: Run, scenes: Sequence[Drawn], encoded: Encoded, sim: Tensor, true: Tensor,
             by_image: bool) -> list[dict]:
    """Two queries whose first answer is right, and two whose is wrong, re-ranked by ITM.

    sim, true: (query, candidate); by_image: queries are images and candidates captions, or vice
        versa
    """
    answers = sim[:QUERIES].topk(min(10, sim.shape[1])).indices              # (query, rank)
    query = torch.arange(len(answers))[:, None].expand_as(answers)
    images, texts = (query, answers) if by_image else (answers, query)
    odds = ranking.match_odds(run.model, encoded, images.flatten(), texts.flatten())
    odds = odds.view_as(answers)
    order = odds.argsort(descending=True, stable=True)
    answers = answers.gather(1, order)
    match = odds.gather(1, order).sigmoid()
    right = true[torch.arange(len(answers)), answers[:, 0]]                  # (query,)
    selection = right.nonzero()[:2, 0].tolist() + (~right).nonzero()[:2, 0].tolist()
    cards = []
    for q in selection:
        results = []
        for i, probability in zip(answers[q].tolist(), match[q].tolist()):
            results.append({**card(scenes[i]), "match": probability, "true": bool(true[q, i])})
        cards.append({**card(scenes[q]), "right": bool(right[q]), "found": results})
    return cards


def card(scene: Drawn) -> dict[str, Any]:
    """A scene and its caption."""
    return {"text": scene.text, "picture": thumbnail(scene.scene)}


def families(run: Run) -> list[dict]:
    """A family of each kind: four scenes of the same objects, each caption matched with all."""
    scenes = questions.families(run, "test", SEED, 40)
    by_kind: dict[str, Sequence[Drawn]] = {}
    for i in range(0, len(scenes), 4):
        by_kind.setdefault(scenes[i].kind, scenes[i:i + 4])
    cards = []
    for kind, family in by_kind.items():
        pictures = [scene.scene for scene in family]
        captions = [scene.text for scene in family for _ in family]
        odds = questions.match_odds(run, pictures * len(family), captions)
        match = odds.sigmoid().view(4, 4)                                    # (text, image)
        true = torch.from_numpy(truth(family))
        lines = []
        for i, scene in enumerate(family):
            right = bool(true[i, match[i].argmax()])
            cells = list(zip(match[i].tolist(), true[i].tolist()))
            lines.append({"text": scene.text, "right": right, "cells": cells})
        thumbnails = [thumbnail(picture) for picture in pictures]
        cards.append({"kind": kind, "pictures": thumbnails, "lines": lines})
    return cards


def looks(run: Run, scenes: Sequence[Drawn]) -> list[dict]:
    """Grad-CAM of each content word of these captions."""
    cards = []
    for scene in scenes:
        text = clean(scene.text).split()
        places = [i for i, kind in enumerate(kinds_of_word(scene.text)) if kind != "other"]
        hidden = words.hide(run, [scene.text], [(0, [i]) for i in places])
        image_tokens = questions.image_tokens(run, [scene.scene])
        maps = words.word_maps(run, hidden, image_tokens, "mlm")             # (places, n)
        picture = paint(scene.scene, SIDE)
        overlays = []
        for i, heat in zip(places, maps.unflatten(1, (run.config.grid, -1)).numpy()):
            alt = f"where the model looks for “{text[i]}”"
            overlays.append((text[i], image(plots.overlay(picture, heat), alt)))
        cards.append({**card(scene), "maps": overlays})
    return cards


def guesses(run: Run, scenes: Sequence[Drawn], count: int = 3) -> list[dict]:
    """MLM's answers for the first word of each kind, in the captions with the most kinds."""
    def kinds_in(scene: Drawn) -> int:
        return len(set(kinds_of_word(scene.text)))

    cards = []
    for scene in sorted(scenes, key=kinds_in, reverse=True)[:count]:
        text = clean(scene.text).split()
        kinds = kinds_of_word(scene.text)
        places = sorted(kinds.index(kind) for kind in set(kinds) - {"other", "count"})
        with_image = examples.guesses(run, scene.scene, scene.text, places)
        without = examples.guesses(run, None, scene.text, places)
        lines = []
        for i, seen, blind in zip(places, with_image, without):
            lines.append({"before": " ".join(text[:i]), "word": text[i],
                          "after": " ".join(text[i + 1:]), "seen": seen, "blind": blind})
        cards.append({"picture": thumbnail(scene.scene), "lines": lines})
    return cards


def slide(run: Run) -> dict[str, Any]:
    """An object that moves past another, and P(match) of two sentences as it does."""
    styles = Scenes("test", objects=run.config.objects).vendors              # by name of object
    names = list(styles)
    moving = Noun("apple" if "apple" in styles else names[0])
    fixed = Noun("cat" if "cat" in styles else names[1])
    vendors = [vendor for vendor in styles[moving.name] if vendor in styles[fixed.name]]
    claims = {
        f"{phrase(moving)} to the left of {phrase(fixed)}": "left",
        f"{phrase(moving)} to the right of {phrase(fixed)}": "right",
    }
    motion = examples.slide(run, moving, fixed, claims, vendors)
    pictures = [paint(scene, SIDE) for scene in motion.scenes]
    plot = plots.slide(motion.x, motion.lines, pictures, motion.spans)
    return {"moving": phrase(moving), "fixed": phrase(fixed), "plot": plot}
