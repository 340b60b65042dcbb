"""The stress test's questions stay what they were."""

import hashlib
from dataclasses import astuple

from emojiscenes import stress
from emojiscenes.stream import Stream


def test_questions_are_the_same_for_ever():
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
