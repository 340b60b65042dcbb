"""Answers to single questions, for the page and the notebooks."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from emojiscenes.language import Noun, Object, Relation, Scene, holds
from minalbef.evaluation import words
from minalbef.scenes import questions
from minalbef.tasks.run import Run

STEPS = 40                            # of a slide
PICTURES = 5                          # that show it
LEFT, RIGHT = 0.14, 0.86              # where the moving object begins and ends


@torch.no_grad()
def guesses(run: Run, picture: Scene | None, text: str, places: Sequence[int],
            top: int = 3) -> list[dict[str, float]]:
    """The likeliest words at each place of a text, masked alone: -> {word: probability} per place.

    picture: None for a blank one. Of a word with several pieces, the first is predicted.
    """
    hidden = words.hide(run, [text], [(0, [place]) for place in places])
    masked = hidden.tokens.masked_fill(hidden.hidden, run.tokenizer.mask)
    text_tokens = run.model.encode_text(masked, hidden.keep)
    image_tokens = questions.image_tokens(run, [picture]).expand(len(places), -1, -1)
    fused = run.model.fuse(text_tokens, hidden.keep, image_tokens)           # (places, l, d)
    first = hidden.hidden.int().argmax(1)
    logits = run.model.word_logits(fused[torch.arange(len(first)), first])   # (places, v)
    probabilities, pieces = logits.softmax(-1).topk(top)
    answers = []
    for ids, values in zip(pieces.tolist(), probabilities.tolist()):
        answers.append({run.tokenizer.decode([i]): value for i, value in zip(ids, values)})
    return answers


@dataclass(frozen=True)
class Slide:
    """An object that moves from left to right past another.

    x: (steps,), where it is
    lines: P(match) by sentence, (styles, steps)
    spans: by sentence, from where to where it is true
    scenes: in one style, at the middles of equal parts of the way
    """

    x: np.ndarray
    lines: dict[str, np.ndarray]
    spans: dict[str, tuple[float, float]]
    scenes: list[Scene]


def slide(run: Run, moving: Noun, fixed: Noun, claims: dict[str, str],
          vendors: Sequence[str]) -> Slide:
    """Move an object past another that stands below it in the middle, once in each vendor's style.

    claims: {sentence: its relation}, such as {"an apple to the left of a cat": "left"}
    """
    def scene_at(x: float, vendor: str) -> Scene:
        above = Object(moving.name, x, 0.28, 0.25, vendor)
        below = Object(fixed.name, 0.5, 0.7, 0.25, vendor)
        return Scene((above, below), "white", shade=(244, 244, 244))

    x = np.linspace(LEFT, RIGHT, STEPS)
    scenes = []
    for vendor in vendors:
        scenes += [scene_at(place, vendor) for place in x.tolist()]
    lines = {}
    spans = {}
    for sentence, kind in claims.items():
        odds = questions.match_odds(run, scenes, [sentence] * len(scenes))
        lines[sentence] = odds.sigmoid().view(len(vendors), len(x)).numpy()
        relation = Relation(moving, kind, fixed)
        true = [place for place, scene in zip(x.tolist(), scenes) if holds(relation, scene)]
        spans[sentence] = (true[0], true[-1])
    middles = LEFT + (RIGHT - LEFT) * (np.arange(PICTURES) + 0.5) / PICTURES
    pictures = [scene_at(place, vendors[0]) for place in middles.tolist()]
    return Slide(x, lines, spans, pictures)
