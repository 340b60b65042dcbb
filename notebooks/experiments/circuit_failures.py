"""Where "left of" fails, and which part: `python notebooks/experiments/circuit_failures.py`, after
`python notebooks/experiments/learn.py --seeds 5`, which trains the five models that it opens.

What it asks was written down before it ran, in registered_circuit.md. A question is "an apple left of
a cat", or "right of", with a scene of two objects of which it is true and one of which it is false:
its mirror image, or, of pairs that stand in a line, the one with x and y exchanged.

place: where an object is, read from its word behind fusion's first layer by circuit.py's reading,
    which is fitted on questions anywhere
wrong: answers on the wrong side of 0: a true pair that is refused, a false one that is accepted
repaired: wrong answers that are right once words are moved by what their readings lack
control: the same with the corrections of another wrong answer
objects: wrong answers whose scene is accepted for "an apple and a cat"

Writes circuit_failures.json beside itself.
"""
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from circuit import (
    CHOOSING,
    CHOSEN_BY,
    LENGTHS,
    TESTED_BY,
    TESTING,
    Pair,
    Questions,
    direction_of,
    explained,
    object_words,
    paint,
    place_of,
    read_direction,
    shift_objects,
    true_change,
    words_after_first_layer,
)
from emojiscenes.language import Noun, Object, Relation, Scene
from emojiscenes.scenes import Drawn
from emojiscenes.stage import Stage, flip
from emojiscenes.stream import Stream
from emojiscenes.stress import ANYWHERE, EDGES, SIDEWAYS, ask_relation, name
from minalbef import Run, load
from minalbef.cli.main import run_script
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.evaluation import UNSEEN
from results import table_of, write_json

PATH = Path(__file__).with_suffix(".json")
SETS = ("anywhere", "edges", "straight pairs", "unseen style")
USED = ("4", "1")                      # seeds in which the place direction turns answers
FEWEST = 30                            # wrong answers, to say why

Painted = tuple[list[Pair], list[Tensor]]


# questions


def other_scene(title: str, scene: Scene) -> Scene:
    """The scene of which the caption is false."""
    if title == "straight pairs":
        things = tuple(replace(thing, x=thing.y, y=thing.x) for thing in scene.objects)
    else:
        things = flip(scene.objects, "x")
    return replace(scene, objects=things)


def relation_of(first: Object, second: Object) -> Relation:
    """What is true of two objects, of "left of" and "right of"."""
    kind = "left" if first.x < second.x else "right"
    return Relation(Noun(first.name), kind, Noun(second.name))


def draw_set(run: Run, title: str, seed: int, count: int) -> list[Pair]:
    """`count` questions of a set of SETS."""
    stage = Stage(run.config.objects, (1.0,), UNSEEN if title == "unseen style" else None, "seen")
    straight = title == "straight pairs"
    pairs = []
    for i in range(count):
        bounds = ANYWHERE
        if title == "edges":
            bounds = EDGES[("left", "right")[i % 2]][0]
        contrast = ask_relation(stage, Stream("circuit", seed, title, i), SIDEWAYS, bounds,
                                across=straight, straight=straight)
        scene, text = contrast.true
        true = Drawn(scene, relation_of(*scene.objects), text, i)
        pairs.append((true, replace(true, scene=other_scene(title, scene))))
    return pairs


def name_both(pair: Pair) -> Pair:
    """A question whose caption just names both objects: it is true of both scenes."""
    form = pair[0].form
    assert isinstance(form, Relation)
    text = f"{name(form.a.name)} and {name(form.b.name)}"
    return replace(pair[0], text=text), replace(pair[1], text=text)


# the reading


class Reading(NamedTuple):
    """How a word (d,) tells a place: (word - mean) @ weights + middle; and how it is moved."""

    weights: Tensor
    mean: Tensor
    middle: float
    direction: Tensor
    length: float


def fit_reading(chosen_by: Questions) -> Reading:
    """The reading, its direction, and the length of a move along it that turns most answers."""
    x, y, weights = read_direction(chosen_by, "place")
    direction = direction_of(x, weights)
    length = max(LENGTHS, key=lambda each: turned(chosen_by, each * direction))
    return Reading(weights, x.mean(0), y.mean().item(), direction, length)


def turned(questions: Questions, direction: Tensor) -> float:
    """The share of answers that turn when both objects are moved to their true places."""
    return questions.moved(shift_objects(questions, direction, lambda pair, thing:
                                     true_change("place", pair, thing)))


def lacks(questions: Questions, reading: Reading, which: int) -> list[dict[str, float]]:
    """The true place less the one that is read: of each question by the name of an object."""
    words = words_after_first_layer(questions, which)
    readings: list[dict[str, float]] = []
    for row, pair in enumerate(questions.pairs):
        readings.append({})
        for thing, pieces in object_words(questions.run, pair[0]).items():
            place = place_of(pair[which], thing)
            assert place is not None             # there is one of each kind
            word = words[row, pieces].mean(0).double()
            reading_of_word = ((word - reading.mean) @ reading.weights).item() + reading.middle
            readings[row][thing] = place - reading_of_word
    return readings


def exchange(readings: Sequence[dict[str, float]], rows: Sequence[int]) -> list[dict[str, float]]:
    """The same, but of some rows each has the values of the next one, object by object."""
    exchanged = list(readings)
    for row, next_row in zip(rows, [*rows[1:], *rows[:1]]):
        exchanged[row] = dict(zip(readings[row], readings[next_row].values()))
    return exchanged


def correct(questions: Questions, direction: Tensor, changes: Sequence[dict[str, float]], which: int
            ) -> Tensor:
    """Log-odds once objects' words are moved, each by its own change: (p,)"""
    def change_of(pair: Pair, thing: str) -> float:
        return changes[pair[0].id][thing]

    return shift_objects(questions, direction, change_of, which)


# a model


def root_mean_square(values: Sequence[float]) -> float:
    """Of errors; 0 of none."""
    return torch.tensor(values or [0.0]).square().mean().sqrt().item()


def measure_set(run: Run, painted: Painted, reading: Reading) -> dict[str, Any]:
    """How a set of questions is answered, and what becomes of wrong answers."""
    pairs, images = painted
    questions = Questions(run, pairs, images)
    both = Questions(run, [name_both(pair) for pair in pairs], images)
    x, y, _ = read_direction(questions, "place")
    errors: list[float] = []
    counts = {"wrong": 0, "repaired": 0, "repaired_by_length": 0, "control": 0, "objects": 0,
              "right": 0, "kept": 0}
    accepted = []
    wrong_errors: list[float] = []
    for which in (0, 1):
        odds = questions.odds(which)
        accepted.append((odds > 0).float().mean().item())

        def is_right(odds: Tensor, which: int = which) -> Tensor:
            return odds > 0 if which == 0 else odds < 0

        right = is_right(odds)
        wrong = ~right
        rows = wrong.nonzero()[:, 0].tolist()
        missing = lacks(questions, reading, which)
        for each in missing:
            errors += each.values()
        for row in rows:
            wrong_errors += missing[row].values()
        by_own_correction = is_right(correct(questions, reading.direction, missing, which))
        longer = is_right(correct(questions, reading.length * reading.direction, missing, which))
        anothers = exchange(missing, rows)
        by_anothers = is_right(correct(questions, reading.direction, anothers, which))
        counts["wrong"] += len(rows)
        counts["repaired"] += int((by_own_correction & wrong).sum())
        counts["repaired_by_length"] += int((longer & wrong).sum())
        counts["control"] += int((by_anothers & wrong).sum())
        counts["objects"] += int(((both.odds(which) > 0) & wrong).sum())
        counts["right"] += int(right.sum())
        counts["kept"] += int((by_own_correction & right).sum())
    return {
        "true_accepted": round(accepted[0], 3), "false_accepted": round(accepted[1], 3),
        "preferred": round(questions.right(), 3),
        "both_named_accepted": round((both.odds(0) > 0).float().mean().item(), 3),
        "explained": round(explained(reading.weights, x, y), 3),
        "error": round(root_mean_square(errors), 3),
        "error_where_wrong": round(root_mean_square(wrong_errors), 3),
        "moved": round(turned(questions, reading.length * reading.direction), 3),
        **counts,
    }


def measure(run: Run, painted: dict[str, Painted]) -> dict[str, Any]:
    """All sets, with the reading that the questions to choose by give."""
    reading = fit_reading(Questions(run, *painted["chosen_by"]))
    sets = {title: measure_set(run, painted[title], reading) for title in SETS}
    return {"length": reading.length, "sets": sets}


def verdict(figures: dict[str, Any]) -> str:
    """What fails in a set of a seed, as registered."""
    wrong = figures["wrong"]
    if wrong < FEWEST:
        return "too few"
    repaired = figures["repaired"] / wrong
    control = figures["control"] / wrong
    objects = figures["objects"] / wrong
    if repaired >= 0.5 and repaired >= control + 0.25:
        return "place"
    if repaired < 0.25 and objects >= 0.75:
        return "comparison"
    if repaired < 0.25 and objects < 0.5:
        return "objects"
    return "not decided"


def table(models: dict[str, dict[str, Any]]) -> str:
    """A row for each set of the seeds that use the place, as Markdown."""
    head = ["seed", "questions", "accepted: true, false", "place: R², error, answers moved",
            "wrong answers", "repaired, control", "objects accepted", "what fails"]
    rows = []
    for seed in USED:
        for title, figures in models[seed]["sets"].items():
            wrong = figures["wrong"]
            repaired = objects = ""
            if wrong:
                repaired = f"{figures['repaired'] / wrong:.2f}, {figures['control'] / wrong:.2f}"
                objects = f"{figures['objects'] / wrong:.2f}"
            accepted = f"{figures['true_accepted']:.2f}, {figures['false_accepted']:.2f}"
            place = f"{figures['explained']:.2f}, {figures['error']:.2f}, {figures['moved']:.2f}"
            rows.append([seed, title, accepted, place, wrong, repaired, objects, verdict(figures)])
    return table_of(head, rows)


def main(runs: tuple[str, ...] = (), /, out: Path = PATH) -> None:
    """Measure models and write the figures.

    Args:
        runs: folders of runs, named seed0 and so on; by default the five of learn.py
        out: where to write the figures
    """
    torch.set_num_threads(1)
    names = runs or tuple(f"runs/bench/seed{seed}" for seed in range(5))
    first = load(names[0])
    sets = {title: draw_set(first, title, TESTING, TESTED_BY) for title in SETS}
    sets["chosen_by"] = draw_set(first, "anywhere", CHOOSING, CHOSEN_BY)
    painted = {title: (pairs, paint(first, pairs)) for title, pairs in sets.items()}
    models = {}
    for path in names:
        seed = Path(path).name.removeprefix("seed")
        models[seed] = measure(load(path), painted)
        print(seed, json.dumps(models[seed], indent=1), flush=True)
    write_json(out, {
        "command": shlex.join(["python", *sys.argv]), "date": now(), "device": describe_device(),
        "commit": commit(), "questions": TESTED_BY, "models": models,
    })


if __name__ == "__main__":
    run_script(main)
