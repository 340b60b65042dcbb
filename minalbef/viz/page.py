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

from emojiscenes.grammar import kinds_of_word
from emojiscenes.language import Scene
from emojiscenes.scenes import Drawn, paint, truth
from minalbef.evaluation import ranking, words
from minalbef.evaluation.ranking import Encoded
from minalbef.scenes import questions
from minalbef.scenes.tables import competitors, format_share, rows
from minalbef.system.metrics import read_metrics
from minalbef.system.tokenizer import clean
from minalbef.system.writing import write_text
from minalbef.tasks.run import Run, load
from minalbef.viz import plots

SIDE = 144                            # pixels of a scene on the page: three times the model's input
SEED = 4242                           # of the page's scenes, from the test split
POOL = 500                            # scenes and captions to search
QUERIES = 60                          # searches to choose examples from


def write_page(folder: Path, report: dict, out: Path) -> None:
    """Write report.html of a run folder with a trained model, and of its report.

    out: the folder to write it to
    Raises ValueError if the run is damaged, OSError if the page cannot be written.
    """
    run = load(folder)
    engine = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                         undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    engine.globals.update(percent=percent, format_share=format_share)
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    text = engine.get_template("page.html").render(
        report_values(report),
        config=run.config,
        training=training(folder, run),
        scenes=scene_values(run) if run.config.objects else None,
        samples=run.config.steps * run.config.batch,
        millions=parameters / 1e6,
    )
    write_text(out / "report.html", text)


def percent(value: float) -> str:
    """A share in percent, with a decimal below 1%."""
    if value >= 0.01 or value == 0:
        return f"{value:.0%}"
    return f"{value:.1%}"


def image(pixels: np.ndarray, alt: str) -> dict[str, str]:
    """An image as a WebP's data URI, and its alt text."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", quality=85)
    return data_uri(file.getvalue(), "webp", alt)


def data_uri(data: bytes, kind: str, alt: str) -> dict[str, str]:
    """An image file as a data URI, and its alt text."""
    return {"alt": alt, "src": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"}


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


def training(folder: Path, run: Run) -> list[dict[str, str]]:
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
    return [data_uri(figure.png(), "png", figure.alt) for figure in figures]


def scene_values(run: Run) -> dict[str, Any]:
    """What the page shows of a model of the embedded scenes, section by section."""
    scenes = questions.plain(run, "test", SEED, POOL)
    return {
        "pool": len(scenes),
        **retrieval(run, scenes),
        "families": families(run),
        "looks": looks(run, scenes[:4]),
    }


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
