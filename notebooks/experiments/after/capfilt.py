"""BLIP's CapFilt (Li et al. 2022, 2201.12086): a model cleans captions for the next.

Changes: a BLIP trained on a set with false captions (false_captions.py) judges each of them by ITM,
and writes another for each image, word by word from the likeliest words that have 0.9 of the
probability together. What ITM refuses, of both, is dropped. A new BLIP is trained on what is left.
Leaves out: the paper fine-tunes filter and captioner on captions that people wrote; nothing here is
clean. Whether a written caption is true isn't known, but whether its objects are there is.
"""
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from emojiscenes.language import Scene
from emojiscenes.scenes import Drawn, Scenes
from false_captions import score, score_written
from minalbef.scenes import questions
from minalbef.tasks.run import Run

NUCLEUS = 0.9
CHUNK = 128
MOST = 24                             # word pieces of a written caption


def pick_likely(logits: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Nucleus sampling: one of the likeliest words that reach a share together, (b, v) -> (b,)."""
    probabilities, words = logits.softmax(-1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.masked_fill(before >= share, 0)
    return words.gather(-1, torch.multinomial(nucleus, 1, generator=generator))[:, 0]


@torch.no_grad()
def write(run: Run, scenes: Sequence[Scene], generator: torch.Generator) -> list[str]:
    """A caption of each scene, in the captioner's words; perhaps without any."""
    model: Any = run.model
    image = model.encode_image(questions.pixels(scenes, run.config.image_size))
    tokens = torch.full((len(image), 1), run.tokenizer.cls)
    ended = torch.zeros(len(image), dtype=torch.bool)
    for _ in range(MOST):
        logits = model.next_word_logits(tokens, torch.ones_like(tokens, dtype=torch.bool), image)
        word = pick_likely(logits[:, -1], NUCLEUS, generator)
        ended |= word == run.tokenizer.sep
        tokens = torch.cat([tokens, word.masked_fill(ended, run.tokenizer.pad)[:, None]], 1)
        if ended.all():
            break
    return [run.tokenizer.decode(row) for row in tokens.tolist()]


def accepts(run: Run, pairs: Sequence[Drawn]) -> Tensor:
    """Which pairs ITM takes for a match: (p,) bool."""
    parts = []
    for i in range(0, len(pairs), CHUNK):
        part = pairs[i:i + CHUNK]
        scenes, texts = [pair.scene for pair in part], [pair.text for pair in part]
        parts.append(questions.match_odds(run, scenes, texts) > 0)
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)


def clean(run: Run, pairs: Sequence[Drawn], seed: int) -> tuple[list[Drawn], dict[str, float]]:
    """What CapFilt leaves of a set, and how well its filter and its captioner did.

    run: a BLIP in evaluation mode. seed: of the words that it writes
    """
    generator = torch.Generator().manual_seed(seed)
    written = []
    for i in range(0, len(pairs), CHUNK):
        part = pairs[i:i + CHUNK]
        texts = write(run, [pair.scene for pair in part], generator)
        for pair, text in zip(part, texts):
            if text:                             # a caption without words teaches nothing
                written.append(replace(pair, text=text, noise="written"))
    good, good_written = accepts(run, pairs), accepts(run, written)
    clean_pairs = [*compress(pairs, good.tolist()), *compress(written, good_written.tolist())]
    names = Scenes("train", objects=run.config.objects).names
    return clean_pairs, score(pairs, ~good) | score_written(written, good_written, names)
