"""The world stands alone: it loads without torch, quickly, and is the same for ever."""

import hashlib
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import emojiscenes
from emojiscenes import stress
from emojiscenes.problems import GROUP, Problems
from emojiscenes.scenes import Scenes
from emojiscenes.staging import largest_box, random_box
from emojiscenes.stream import Stream

WORLD = Path(emojiscenes.__file__).parent
# importing them then fails
BLOCK = "import sys; sys.modules.update(dict.fromkeys(('torch', 'minalbef')));"


def test_it_draws_a_scene_without_torch():
    code = BLOCK + "import emojiscenes; print(emojiscenes.Scenes('test').draw(0).text)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=WORLD.parent, text=True, capture_output=True
    )
    assert process.stdout.strip() == Scenes("test").draw(0).text, process.stderr


def test_scenes_and_problems_are_the_same_for_ever():
    """Their text and truth; not their pixels, which another pillow may round otherwise."""
    digest = hashlib.sha256()
    for split in ("train", "validation", "test"):
        for settings in ({}, {"siblings": 0.6, "restyle": 0.25, "objects": 50}):
            scenes = Scenes(split, seed=3, **settings)
            for i in range(25):
                digest.update(repr(astuple(scenes.draw(i))).encode())
    for task in GROUP:
        for split in ("train", "test"):
            problems = Problems(task, split, seed=5)
            for i in range(12):
                problem = problems.draw(i)
                digest.update(repr(astuple(problem)).encode())
                if task == "grounding":
                    boxes = problem.box, problem.proposals
                    digest.update(repr((random_box(*boxes), largest_box(*boxes))).encode())
    assert digest.hexdigest() == "6548a1ba22e4af41665806e76004668215807e656fd894d25d4703cc53b587ce"


def test_questions_of_the_stress_test_are_the_same_for_ever():
    """Of every title, in the streams of notebooks/experiments/stress.py, which rests on them."""
    digest = hashlib.sha256()
    for vendors in (None, ("openmoji",)):
        for title, ask in stress.QUESTIONS.items():
            stage = stress.stage_for(title, 50, vendors)
            for i in range(40):
                true, false = ask(stage, Stream("stress", 0, title, i))
                values = astuple(true[0]), true[1], astuple(false[0]), false[1]
                digest.update(repr(values).encode())
    assert digest.hexdigest() == "e08a815a2a3320ecf2e26258ef9648eced8aca7e4e14e43deafd080e9cfabe68"
