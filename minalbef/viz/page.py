"""The page of a run, report.html: one file, no network, light and dark. Its markup is page.html, its style page.css."""
import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from emojiscenes.grammar import kinds_of_word, phrase
from emojiscenes.language import Noun, Scene
from emojiscenes.scenes import Drawn, Scenes, paint, truth
from minalbef import checkpoint
from minalbef.evaluation import ranking, words
from minalbef.evaluation.ranking import Encoded
from minalbef.metrics import read_metrics
from minalbef.run import Run, load
from minalbef.scenes import questions
from minalbef.scenes.tables import competitors, rows, share
from minalbef.tokenizer import clean
from minalbef.viz import examples, plots

SIDE = 144                            # pixels of a scene on the page: three times what the model sees
SEED = 4242                           # of the page's scenes; of the test split
POOL = 500                            # scenes and captions to find things among


def write_page(folder: Path, report: dict, out: Path) -> Path:
    """Write report.html of a run folder that holds a trained model, and of its report, into `out`: -> its path.

    Raises ValueError where the run is damaged, OSError where the page cannot be written.
    """
    run = load(folder)
    scenes = scene_values(run) if run.config.objects else None
    engine = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                         trim_blocks=True, lstrip_blocks=True)
    engine.globals.update(percent=percent, share=share)
    text = engine.get_template("page.html").render(
        report_values(report), config=run.config, training=training(folder, run), scenes=scenes,
        samples=run.config.steps * run.config.batch, millions=sum(p.numel() for p in run.model.parameters()) / 1e6)
    checkpoint.write_atomically(out / "report.html", lambda path: path.write_text(text, encoding="utf-8"))
    return out / "report.html"


def percent(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.1%}"


def image(pixels: np.ndarray, alt: str) -> dict[str, str]:
    """A picture as a data URI, with the words for those who cannot see it."""
    Image.fromarray(pixels).save(file := io.BytesIO(), "webp", quality=85)
    return {"alt": alt, "src": "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()}


def thumbnail(scene: Scene) -> dict[str, str]:
    return image(paint(scene, SIDE), ", ".join(thing.name for thing in scene.objects) + f" on {scene.background}")


def report_values(report: dict) -> dict:
    """What the page shows of report.json: its figures, and how the run was made."""
    found = rows(report)
    made = {"command": report["command"], "date": report["date"], "code": report["commit"], "machine": report["device"],
            **{f"seconds, {name.replace('_', ' ')}": f"{value:.0f}" for name, value in report["seconds"].items()},
            **{f"version of {name}": value for name, value in report["versions"].items()}}
    return {"report": report, "rows": found, "competitors": competitors(report),
            "tiles": {(row.group.split(":")[0], row.name): row for row in found},
            "made": [f"{name}: {value}" for name, value in made.items()],
            "options": [f"{name} = {value!r}" for name, value in report["config"].items()]}


def training(folder: Path, run: Run) -> list[plots.Plot]:
    """The losses of the warm start and of the training, as far as they were logged."""
    config, samples = run.config, run.config.steps * run.config.batch
    phases = {"ITM and MLM join": config.match_from, "queue joins": config.queue_from,
              "siblings join": config.siblings_from if config.siblings else 0, "hard negatives": config.hard_from}
    return [plots.curves(logged, {name: at * samples for name, at in marked.items()})
            for where, marked in ((folder / "warm", {}), (folder, phases)) if (logged := read_metrics(where))]


def scene_values(run: Run) -> dict:
    """What the page asks of a model of the embedded scenes, section by section."""
    drawn = questions.plain(run, "test", SEED, POOL)
    return {"pool": len(drawn), "matrix": matrix(run, drawn[:9]), **retrieval(run, drawn), "families": families(run),
            "looks": looks(run, drawn[:4]), "guesses": guesses(run, drawn[:40]), "slide": slide(run)}


def matrix(run: Run, drawn: Sequence[Drawn]) -> plots.Plot:
    """Every caption with every picture, by similarity."""
    captions = [one.text for one in drawn]
    encoded = questions.encode(run, [one.scene for one in drawn], captions)
    sim = ranking.similarity(run.model, encoded)[0].T.numpy()
    return plots.similarities(sim, [paint(one.scene, SIDE) for one in drawn], captions, truth(drawn))


def retrieval(run: Run, drawn: Sequence[Drawn]) -> dict[str, list[dict]]:
    """Captions that look for their picture, and pictures that look for their caption."""
    encoded = questions.encode(run, [one.scene for one in drawn], [one.text for one in drawn])
    sim, true = ranking.similarity(run.model, encoded)[0].T, torch.from_numpy(truth(drawn))      # (text, picture)
    return {"captions": searches(run, drawn, encoded, sim, true, of_pictures=False),
            "pictures": searches(run, drawn, encoded, sim.T, true.T, of_pictures=True)}


def searches(run: Run, drawn: Sequence[Drawn], encoded: Encoded, sim: Tensor, true: Tensor, of_pictures: bool
             ) -> list[dict]:
    """The first two queries whose best answer is right, and the first two whose is wrong.

    sim, true: (query, candidate); of the first 60 queries the ten best by similarity are ordered by match
    of_pictures: the queries are pictures that look for captions; else captions that look for pictures
    """
    def card(i: int) -> dict:
        return {"text": drawn[i].text, "picture": thumbnail(drawn[i].scene)}
    best = sim[:60].topk(min(10, sim.shape[1])).indices                          # (query, rank)
    query = torch.arange(len(best))[:, None].expand_as(best)
    image, text = (query, best) if of_pictures else (best, query)
    odds = ranking.match_odds(run.model, encoded, image.flatten(), text.flatten()).view_as(best)
    order = odds.argsort(descending=True, stable=True)
    best, match = best.gather(1, order), odds.gather(1, order).sigmoid()
    right = true[torch.arange(len(best)), best[:, 0]]
    queries = [*right.nonzero()[:2, 0].tolist(), *(~right).nonzero()[:2, 0].tolist()]
    return [{**card(q), "right": bool(right[q]),
             "found": [{**card(i), "match": p, "true": bool(true[q, i])}
                       for i, p in zip(best[q].tolist(), match[q].tolist())]} for q in queries]


def families(run: Run) -> list[dict]:
    """One family of each kind: four scenes of the same objects, each caption matched with all four."""
    wanted, found, drawn = {}, [], questions.families(run, "test", SEED, 40)
    for i in range(0, len(drawn), 4):
        wanted.setdefault(drawn[i].kind, drawn[i:i + 4])
    for kind, some in wanted.items():
        odds = questions.match_odds(run, [one.scene for _ in some for one in some],
                                    [one.text for one in some for _ in some])
        match, true = odds.sigmoid().view(4, 4), torch.from_numpy(truth(some))   # (text, picture)
        lines = [{"text": one.text, "right": bool(true[i, match[i].argmax()]),
                  "cells": list(zip(match[i].tolist(), true[i].tolist()))} for i, one in enumerate(some)]
        found.append({"kind": kind, "pictures": [thumbnail(one.scene) for one in some], "lines": lines})
    return found


def looks(run: Run, drawn: Sequence[Drawn]) -> list[dict]:
    """Grad-CAM of each word of these captions that names a thing or says something of one."""
    found = []
    for one in drawn:
        said = clean(one.text).split()
        places = [i for i, kind in enumerate(kinds_of_word(one.text)) if kind != "other"]
        hidden = words.hide(run, [one.text], [(0, [i]) for i in places])
        maps = words.word_maps(run, hidden, questions.image_tokens(run, [one.scene]), "mlm")
        lit = [plots.overlay(paint(one.scene, SIDE), heat) for heat in maps.unflatten(1, (run.config.grid, -1)).numpy()]
        maps = [(said[i], image(heat, f"where the model looks for “{said[i]}”")) for i, heat in zip(places, lit)]
        found.append({"text": one.text, "picture": thumbnail(one.scene), "maps": maps})
    return found


def guesses(run: Run, drawn: Sequence[Drawn], count: int = 3) -> list[dict]:
    """Of the captions with the most kinds of words, the first word of each kind hidden and guessed."""
    found = []
    for one in sorted(drawn, key=lambda one: -len(set(kinds_of_word(one.text))))[:count]:
        said, kinds = clean(one.text).split(), kinds_of_word(one.text)
        places = sorted(kinds.index(kind) for kind in set(kinds) - {"other", "count"})
        both = zip(places, examples.guesses(run, one.scene, one.text, places),
                   examples.guesses(run, None, one.text, places))
        lines = [{"before": " ".join(said[:i]), "word": said[i], "after": " ".join(said[i + 1:]),
                  "seen": seen, "blind": blind} for i, seen, blind in both]
        found.append({"picture": thumbnail(one.scene), "lines": lines})
    return found


def slide(run: Run) -> dict:
    """A thing that moves past another, and P(match) of two sentences all the way."""
    known = Scenes("test", objects=run.config.objects).vendors                   # {name: its styles}
    moving, fixed = (Noun(want if want in known else list(known)[i]) for i, want in enumerate(("apple", "cat")))
    styles = [style for style in known[moving.name] if style in known[fixed.name]]
    sayings = {f"{phrase(moving)} to the {kind} of {phrase(fixed)}": kind for kind in ("left", "right")}
    found = examples.slide(run, moving, fixed, sayings, styles)
    plot = plots.slide(found.x, found.lines, [paint(one, SIDE) for one in found.scenes], found.known)
    return {"moving": phrase(moving), "fixed": phrase(fixed), "plot": plot}
