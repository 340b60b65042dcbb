"""BLIP's CapFilt (Li et al. 2022, 2201.12086): a model cleans the captions that its successor learns.

Changes: a set of scenes has false captions, a known share: one thing changed, or of another scene.
A BLIP trained on all of them judges each caption by ITM, and writes another for each image, word by
word from the likeliest words that have 0.9 of the probability together. What ITM refuses, of both,
is dropped. Then a new BLIP is trained on what is left. The set knows which captions are false, and
so what the filter should have dropped.
Leaves out: filter and captioner are fine-tuned on clean captions before, which people wrote; here
nothing clean exists. Whether a written caption is true isn't known, but whether its objects are
there is.
"""
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from emojiscenes.grammar import words
from emojiscenes.scenes import Drawn, Scenes
from emojiscenes.stream import Stream
from minalbef.config import Config
from minalbef.datasets.loader import order
from minalbef.run import Run
from minalbef.scenes import questions
from minalbef.scenes.batches import SceneBatches, longest_text
from minalbef.scenes.pretrain import SceneBatch
from minalbef.tokenizer import Tokenizer

SIZE = 12_800                         # scenes of the set
NOISE = (0.2, 0.0, 0.2)               # shares: one thing changed, words missing, of another scene
NUCLEUS = 0.9
CHUNK = 128
MOST = 24                             # word pieces of a written caption


class SetBatches(SceneBatches):
    """Pairs of a set, in another order each epoch; only its own captions count as an image's."""

    def __init__(self, config: Config, tokenizer: Tokenizer, pairs: Sequence[Drawn]):
        super().__init__(config, tokenizer)
        self.pairs = pairs

    def __call__(self, step: int) -> SceneBatch:
        return replace(super().__call__(step), match=None)

    def draw_bucket(self, bucket: int) -> list[list[Drawn]]:
        """See SceneBatches: batches of captions of like length, in any order."""
        count = self.config.bucket * self.config.batch
        drawn = []
        for i in range(bucket * count, (bucket + 1) * count):
            epoch, place = divmod(i, len(self.pairs))
            drawn.append(self.pairs[int(order(len(self.pairs), self.config.seed, epoch)[place])])
        drawn.sort(key=lambda pair: longest_text([pair]))
        batches = [drawn[i:i + self.config.batch] for i in range(0, count, self.config.batch)]
        return Stream("bucket", self.config.seed, bucket).shuffle(batches)


def noisy_set(config: Config, size: int = SIZE) -> list[Drawn]:
    """A set with false captions, whose `noise` says so."""
    scenes = Scenes("train", seed=config.seed, size=config.image_size, objects=config.objects,
                    restyle=config.restyle, noise=NOISE)
    return [scenes.draw(i) for i in range(size)]


def pick_likely(logits: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Nucleus sampling: of the likeliest words that reach a share together, (b, v) -> (b,)."""
    probabilities, order = logits.softmax(-1).sort(-1, descending=True)
    before = probabilities.cumsum(-1) - probabilities
    nucleus = probabilities.masked_fill(before >= share, 0)
    return order.gather(-1, torch.multinomial(nucleus, 1, generator=generator))[:, 0]


@torch.no_grad()
def write(run: Run, pictures: Sequence[Any], generator: torch.Generator) -> list[str]:
    """A caption of each scene, in the captioner's words; perhaps without any."""
    model: Any = run.model
    image = model.encode_image(questions.pixels(pictures, run.config.image_size))
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


def clean(run: Run, pairs: Sequence[Drawn], seed: int) -> tuple[list[Drawn], dict[str, float]]:
    """What CapFilt leaves of a set, and how well its filter and its captioner did."""
    generator = torch.Generator().manual_seed(seed)
    written = []
    for i in range(0, len(pairs), CHUNK):
        part = pairs[i:i + CHUNK]
        for pair, text in zip(part, write(run, [pair.scene for pair in part], generator)):
            if text:                             # a caption without words teaches nothing
                written.append(replace(pair, text=text, noise="written"))
    accepted = [accepts(run, each) for each in (pairs, written)]
    kept = [pair for each, keep in zip((pairs, written), accepted)
            for pair, good in zip(each, keep.tolist()) if good]
    return kept, score(pairs, ~accepted[0]) | score_written(run, written, accepted[1])


def accepts(run: Run, pairs: Sequence[Drawn]) -> Tensor:
    """Which pairs ITM takes for a match: (p,) bool."""
    parts = []
    for i in range(0, len(pairs), CHUNK):
        part = pairs[i:i + CHUNK]
        scenes, texts = [pair.scene for pair in part], [pair.text for pair in part]
        parts.append(questions.match_odds(run, scenes, texts) > 0)
    return torch.cat(parts)


def score(pairs: Sequence[Drawn], dropped: Tensor) -> dict[str, float]:
    """The filter against the truth: precision and recall of what it drops, by kind of noise."""
    noise = [pair.noise for pair in pairs]
    false = torch.tensor([kind != "" for kind in noise])
    figures = {"filter precision": share_of(false, dropped),
               "filter recall": share_of(dropped, false),
               "filter true dropped": share_of(dropped, ~false)}
    for kind in ("wrong", "foreign"):
        of_kind = torch.tensor([each == kind for each in noise])
        figures[f"filter recall {kind}"] = share_of(dropped, of_kind)
    return figures


def score_written(run: Run, written: Sequence[Drawn], kept: Tensor) -> dict[str, float]:
    """The captioner: how many captions are kept, and how many name only objects that are there."""
    everything = run.config.objects
    names = Scenes("train", objects=everything).names
    there = torch.tensor([named(pair.text, names) <= questions.object_names(pair.scene)
                          for pair in written])
    return {"written kept": kept.float().mean().item(),
            "written objects there": there.float().mean().item(),
            "kept objects there": share_of(there, kept)}


def named(text: str, names: Sequence[str]) -> set[str]:
    """The objects that a text names, in singular or plural."""
    padded = f" {text} "
    return {name for name in names if f" {name} " in padded or f" {words(name)[1]} " in padded}


def share_of(some: Tensor, among: Tensor) -> float:
    """The share of the rows `among` that are `some`, bool each; 0 of none."""
    return (some & among).sum().item() / max(1, among.sum().item())
