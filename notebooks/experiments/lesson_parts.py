"""What lesson.py trains and asks with: pairs of siblings, `tiny` up to its lesson, questions."""
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from emojiscenes.grammar import directions, render
from emojiscenes.scenes import WORDING, Drawn, Scenes, paint, split_of
from emojiscenes.stream import Stream
from minalbef import load, train
from minalbef.data import data_folder, transform
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.scenes import questions
from minalbef.scenes.batches import SceneBatches
from minalbef.system import checkpoint
from minalbef.tasks.run import Run

FOLDER = Path("runs/lesson")
POOL = 2_000                          # pairs of siblings of each sort, again and again
FREQUENT, RARE = {"left", "above"}, {"right", "below"}
RELATIONS, MIRRORED = 300, 50         # questions, and pairs of mirror images that make them
TRIES = 400                           # of a caption's wording


class Siblings(NamedTuple):
    """Pairs of siblings: rows 2g and 2g + 1 of everything are a pair."""

    images: Tensor                    # (2p, 3, s, s)
    texts: tuple[list[str], list[str]]    # each one's caption in FREQUENT words, and in RARE ones


def say(example: Drawn, allowed: set[str], split: str, stream: Stream) -> str | None:
    """A caption of the split, in words that say these directions alone; None: none found."""
    for _ in range(TRIES):
        text = render(example.form, Stream(stream.below(WORDING)))
        if split_of(text) == split and directions(text) <= allowed:
            return text
    return None


def draw_siblings(split: str, mirrored: bool, count: int) -> Siblings:
    """Pairs of the lesson, each caption in both ways.

    mirrored: the two are mirror images, so that both captions may say "left" (lesson_skew=1)
    """
    tiny = preset("tiny")
    scenes = Scenes(split, seed=39, size=tiny.image_size, objects=tiny.objects, siblings=1.0,
                    restyle=tiny.restyle, lesson=True, lesson_skew=float(mirrored))
    stream = Stream("wording", split, int(mirrored))
    images: list[Tensor] = []
    texts: tuple[list[str], list[str]] = [], []
    group = 0
    while len(images) < 2 * count:
        pair = scenes.draw(2 * group), scenes.draw(2 * group + 1)
        group += 1
        frequent = [say(example, FREQUENT, split, stream) for example in pair]
        rare = [say(example, RARE, split, stream) for example in pair]
        if None in frequent + rare:
            continue
        for example in pair:
            images.append(transform(paint(example.scene, tiny.image_size), tiny.image_size))
        texts[0].extend(frequent)
        texts[1].extend(rare)
    return Siblings(torch.stack(images), texts)


def draw_pool() -> dict[bool, Siblings]:
    """The pairs of all lessons, by whether they are mirror images."""
    path = FOLDER / "pool.pt"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        mirrored = tuple(draw_siblings("train", True, POOL))
        torch.save({False: tuple(draw_siblings("train", False, POOL)), True: mirrored}, path)
    return {mirrored: Siblings(*part) for mirrored, part in torch.load(path).items()}


class Start:
    """A seed of `tiny` at the first step of its lesson, with its optimiser."""

    def __init__(self, seed: int):
        self.task, self.tokenizer, self.config = pretrain.begin(preset("tiny", seed=seed))
        self.optimiser = train.choose_optimiser(self.task, self.config)
        self.batches = SceneBatches(self.config, self.tokenizer)
        self.first = next(i for i in range(self.config.steps) if self.config.in_lesson(i))
        self.folder = FOLDER / f"seed{seed}"
        self.load()

    def load(self) -> None:
        """Train up to the lesson, or read what was kept of that."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if checkpoint.load_state(self.folder, self.task, self.optimiser, self.config):
            return
        self.take_start()
        for number in range(self.first):
            self.full_step(number)
        checkpoint.save_state(self.folder, self.task, self.optimiser, self.first, self.config)

    def take_start(self) -> None:
        """Take the weights of the start that is shipped; word embeddings if there are as many."""
        first = deepcopy(self.task.student)
        weights = first.state_dict()
        for name, value in load(data_folder() / "tiny" / "start").model.state_dict().items():
            if value.shape == weights[name].shape:
                weights[name] = value
        first.load_state_dict(weights)
        self.task.start(first)

    def full_step(self, number: int) -> float:
        """A step of `tiny` as it is: -> the loss of siblings, 0 in a step without them."""
        losses, _ = train.train_step(self.task, self.task, self.optimiser, self.batches(number),
                                     number, self.config, torch.device("cpu"))
        return losses["siblings"].item() if "siblings" in losses else 0.0

    def encode(self, texts: list[str]) -> Tensor:
        """Ids, (t, l)."""
        return self.tokenizer.encode(texts, self.config.text_length)[0]

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """Image tokens (i, 1 + n, d). In a lesson alone the image encoder stands still."""
        return torch.cat([self.task.student.encode_image(part) for part in images.split(200)])

    def match(self, image: Tensor, tokens: Tensor, texts: Tensor, images: Tensor) -> Tensor:
        """ITM's logits (p, 2), no and yes, of pairs: texts and images name their rows."""
        model = self.task.student
        tokens = tokens[:, :int((tokens != self.tokenizer.pad).any(0).sum())]
        keep = tokens != self.tokenizer.pad
        keys_values = model.fusion.keys_values(image)
        fused = model.fuse(model.encode_text(tokens, keep), keep, None, pairs=(texts, images),
                           queries=1, keys_values=keys_values)
        return model.match_logits(fused)


class Questions(NamedTuple):
    """Images, each with a true caption and a false one."""

    pixels: Tensor                    # (q, 3, s, s)
    image: Tensor                     # (q, 1 + n, d)
    true: Tensor                      # ids, (q, l)
    false: Tensor

    @torch.no_grad()
    def right(self, start: Start) -> float:
        """The share in which ITM prefers the true caption."""
        rows = torch.arange(len(self.image))
        odds = []
        for tokens in (self.true, self.false):
            logits = start.match(self.image, tokens, rows, rows)
            odds.append(logits[:, 1] - logits[:, 0])
        return (odds[0] > odds[1]).float().mean().item()


def ask(start: Start) -> dict[str, Questions]:
    """The questions: any relation; and of mirror images, in FREQUENT words and in RARE ones.

    Of mirror images the false caption says the same word of the two objects exchanged.
    """
    run = Run(start.task.student, start.tokenizer, start.config, "")
    source = questions.scenes(run, "validation", 1401, counts=(0.2, 0.4, 0.4))
    pairs = [source.one_change(i, "relation") for i in range(RELATIONS)]
    true, _, foils = zip(*pairs)
    pixels = questions.pixels([pair.scene for pair in true], start.config.image_size)
    by_kind = {"relation": Questions(pixels, start.read(pixels),
                                     start.encode([pair.text for pair in true]),
                                     start.encode(list(foils)))}
    mirrored = draw_siblings("validation", True, MIRRORED)
    image = start.read(mirrored.images)
    sibling_row = torch.arange(len(image)) ^ 1
    for name, texts in zip(("frequent", "rare"), mirrored.texts):
        tokens = start.encode(texts)
        by_kind[name] = Questions(mirrored.images, image, tokens, tokens[sibling_row])
    return by_kind
