"""What the explorer's tour says of the shipped model's mistakes: `python notebooks/results/explorer.py`, seconds.

On newly drawn scenes, in all styles of training and on all backgrounds: which of "one", "two" and "three" ITM prefers
of one, two and three objects of a kind, and how often it accepts a false sentence (match over one half), with the true
sentence and another false one as controls. Writes explorer.json beside itself.
"""
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from minalbef import checkpoint, load
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.exam import questions
from minalbef.scenes.grammar import words
from minalbef.scenes.language import FAR, Scene
from minalbef.scenes.stage import Stage
from minalbef.scenes.stream import Stream

PATH = Path(__file__).with_suffix(".json")
CASES = 500
NUMBERS = ("one", "two", "three")
SAID = ("cat", "dog", "rocket")                  # of a cat: true, a look-alike, and something else


def a(name: str) -> str:
    return f"{words(name)[0]} {name}"


def plural(name: str) -> str:
    return words(name)[1]


def row(stage: Stage, stream: Stream, *names: str) -> Scene:
    """Two objects, the first plainly left of the second; of these kinds, or of drawn ones that are none of SAID."""
    while True:
        scene = stage.scene(stream, (1, 1))
        left, right = sorted(scene.objects, key=lambda thing: thing.x)
        if right.x - left.x >= FAR and left.name not in SAID:
            things = [replace(thing, name=name, vendor=stage.style(name, stream)) if name else thing
                      for thing, name in zip((left, right), names)]
            return replace(scene, objects=tuple(things))


def main() -> None:
    torch.set_num_threads(1)
    code, run = commit(), load("tiny")
    stage = Stage(run.config.objects, (1.0,), None, "seen", run.config.restyle)

    def accepted(scenes: list[Scene], texts: list[str]) -> int:
        return int((questions.match_odds(run, scenes, texts) > 0).sum())

    preferred, alike, colour = {}, {}, {}
    for count, number in enumerate(NUMBERS, 1):
        scenes = [stage.scene(Stream("explorer", "count", count, i), (count,)) for i in range(CASES)]
        names = [scene.objects[0].name for scene in scenes]
        odds = [questions.match_odds(run, scenes, [f"{said} {form(name)}" for name in names])
                for said, form in zip(NUMBERS, (str, plural, plural))]
        best = torch.stack(odds).argmax(0)
        preferred[number] = {said: int((best == k).sum()) for k, said in enumerate(NUMBERS)}
    for first in ("apple", ""):
        scenes = [row(stage, Stream("explorer", "alike", i), first, "cat") for i in range(CASES)]
        lefts = [a(scene.objects[0].name) for scene in scenes]
        alike[first or "any"] = {said: accepted(scenes, [f"{left} left of {a(said)}" for left in lefts])
                                 for said in SAID}
    scenes = [row(stage, Stream("explorer", "colour", i), "", "") for i in range(CASES)]
    for kind in ("none", "of the background", "another"):
        texts = []
        for scene in scenes:
            other, one = (thing.name for thing in scene.objects)
            said = scene.background if kind != "another" else "red" if scene.background == "blue" else "blue"
            texts.append(f"{a(one) if kind == 'none' else f'a {said} {one}'} and {a(other)}")
        colour[kind] = accepted(scenes, texts)
    about = {"command": "python notebooks/results/explorer.py", "date": now(), "device": describe_device(),
             "commit": code, "torch": torch.__version__, "cpu_seconds": round(time.process_time()), "cases": CASES,
             "preferred": preferred, "accepted left of a cat": alike, "accepted with a colour": colour}
    text = json.dumps(about, indent=1) + "\n"
    checkpoint.write_atomically(PATH, lambda path: path.write_text(text, encoding="utf-8"))
    print(PATH.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
