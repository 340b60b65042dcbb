"""Single answers to look at, for the page and the notebooks: masked words, and an object that moves."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emojiscenes.language import Noun, Object, Relation, Scene, holds
from minalbef.evaluation import words
from minalbef.run import Run
from minalbef.scenes import questions


@torch.no_grad()
def guesses(run: Run, picture: Scene | None, text: str, places: Sequence[int], top: int = 3) -> list[dict[str, float]]:
    """For each of these words of a text, masked alone: the `top` likeliest in its place, with their probabilities.

    picture: None for a blank one. Of a word of several pieces it is the first piece that is guessed.
    """
    hidden = words.hide(run, [text], [(0, [place]) for place in places])
    encoded = run.model.encode_text(hidden.tokens.masked_fill(hidden.hidden, run.tokenizer.mask), hidden.keep)
    image = questions.image_tokens(run, [picture]).expand(len(places), -1, -1)
    fused = run.model.fuse(encoded, hidden.keep, image)                          # (r, l, d)
    first = hidden.hidden.int().argmax(1)
    likely = run.model.word_logits(fused[torch.arange(len(first)), first]).softmax(-1).topk(top)
    return [{run.tokenizer.decode([piece]): p for piece, p in zip(*row)}
            for row in zip(likely.indices.tolist(), likely.values.tolist())]


@dataclass(frozen=True)
class Slide:
    """A thing on its way from left to right: x (steps,); by sentence P(match) (styles, steps), and from where to where
    on the way it is true; the scenes of one style, in the middle of equal parts of the way."""

    x: np.ndarray
    lines: dict[str, np.ndarray]
    known: dict[str, tuple[float, float]]
    scenes: list[Scene]


def slide(run: Run, moving: Noun, fixed: Noun, sayings: dict[str, str], vendors: Sequence[str]) -> Slide:
    """Slide a thing past another that stands below it in the middle, in 40 steps, once in each vendor's style.

    sayings: {sentence: the kind of relation that it claims}, such as {"an apple to the left of a cat": "left"}
    """
    def at(x: float, vendor: str) -> Scene:
        return Scene((Object(moving.name, x, 0.28, 0.25, vendor), Object(fixed.name, 0.5, 0.7, 0.25, vendor)), "white",
                     shade=(244, 244, 244))
    x = np.linspace(0.14, 0.86, 40)
    seen = [at(float(one), vendor) for vendor in vendors for one in x]
    lines, known = {}, {}
    for sentence, kind in sayings.items():
        odds = questions.match_odds(run, seen, [sentence] * len(seen))
        lines[sentence] = odds.sigmoid().view(len(vendors), len(x)).numpy()
        true = [one for one in x if holds(Relation(moving, kind, fixed), at(float(one), vendors[0]))]
        known[sentence] = (true[0], true[-1])
    middles = x[0] + (x[-1] - x[0]) * (np.arange(5) + 0.5) / 5
    return Slide(x, lines, known, [at(float(one), vendors[0]) for one in middles])
