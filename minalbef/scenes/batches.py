"""Training batches from the embedded scenes: of pretraining, and of each task."""
import itertools
from collections.abc import Sequence
from typing import Any

import torch

from emojiscenes.scenes import MORE_SIBLINGS, Drawn, Scenes, paint, truth
from emojiscenes.stream import Stream
from minalbef.config import Config
from minalbef.data import Batch, transform
from minalbef.pretrain import PretrainBatch
from minalbef.scenes.pretrain import SceneBatch
from minalbef.scenes.task_problems import batch, problems
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import distributed
from minalbef.system.tokenizer import Tokenizer

# shares of scenes of 1, 2 and 3 objects from siblings_from on: an object alone has no relation
COUNTS = (0.15, 0.5, 0.35)


class SceneBatches:
    """The embedded scenes, endless: step -> the batch of this process.

    Every process draws the whole batch, which is cheap, and paints its own rows: so each knows
    which caption is true of which image, and all pad to the same length.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer):
        self.config = config
        self.tokenizer = tokenizer
        self.rank = distributed.rank()
        self.world = distributed.world()
        self.bucket = -1                       # which bucket of batches was drawn last
        self.batches: list[list[Drawn]] = []   # its batches
        check_rows(config, self.world)
        settings: dict[str, Any] = {
            "seed": config.seed,
            "size": config.image_size,
            "objects": config.objects,
            "restyle": config.restyle,
            "sibling_pairs": config.sibling_pairs,
            "epoch": config.epoch + config.epoch % 2,      # even, so that no pair is split
        }
        self.before = Scenes("train", **settings)
        self.lesson = Scenes("train", siblings=1.0, lesson=True, lesson_skew=config.lesson_skew,
                             **settings)
        settings |= {"siblings": config.siblings, "counts": COUNTS}
        self.after = Scenes("train", **settings)
        self.late = Scenes("train", kinds=MORE_SIBLINGS, **settings)

    def __call__(self, step: int) -> PretrainBatch:
        config = self.config
        bucket, place = divmod(step, config.bucket)
        if bucket != self.bucket:
            self.batches = self.draw_bucket(bucket)
            self.bucket = bucket
        batch = self.batches[place]
        tokens, keep = self.tokenizer.encode([pair.text for pair in batch], config.text_length)
        siblings = torch.tensor([pair.kind != "" for pair in batch])
        rows = distributed.rank_rows(config.batch, self.rank, self.world)
        size = config.image_size
        images = [transform(paint(pair.scene, size), size) for pair in batch[rows]]
        parts: dict[str, Any] = {
            "image": torch.stack(images),
            "tokens": tokens[rows],
            "keep": keep[rows],
            "ids": torch.tensor([pair.id for pair in batch[rows]]),
            "match": torch.from_numpy(truth(batch)),
        }
        if not config.siblings:
            return PretrainBatch(**parts)
        return SceneBatch(**parts, siblings=siblings[rows] if siblings.any() else None)

    def draw_bucket(self, bucket: int) -> list[list[Drawn]]:
        """Batches of captions of like length to pad less; siblings stay together."""
        config = self.config
        first_step = bucket * config.bucket
        if config.in_lesson(first_step):
            scenes = self.lesson
        elif first_step < config.step_of(config.siblings_from):
            scenes = self.before
        elif first_step < config.step_of(config.more_kinds_from):
            scenes = self.after
        else:
            scenes = self.late
        rows = range(first_step * config.batch, (first_step + config.bucket) * config.batch)
        pairs = [scenes.draw(i % len(scenes)) for i in rows]
        if config.bucket == 1:
            return [pairs]
        couples = [pairs[i:i + 2] for i in range(0, len(pairs), 2)]
        couples.sort(key=longest_text)
        pairs = list(itertools.chain.from_iterable(couples))
        batches = [pairs[i:i + config.batch] for i in range(0, len(pairs), config.batch)]
        return Stream("bucket", config.seed, bucket).shuffle(batches)


def least_rows(config: Config) -> int:
    """The fewest rows of a batch that a process can take: one per pass, or a pair of siblings."""
    return config.accumulate * (2 if config.siblings else 1)


def check_rows(config: Config, world: int) -> None:
    """Raises ValueError for a batch that can't be shared out among processes and their passes."""
    unit = least_rows(config) * world
    pairs = ", in pairs of siblings" if config.siblings else ""
    if config.batch % unit:
        raise ValueError(f"batch={config.batch} is not a multiple of {unit} ({world} processes, "
                         f"accumulate={config.accumulate}{pairs}); choose one")


def longest_text(pairs: Sequence[Drawn]) -> int:
    """Length of the longest caption, counted in spaces."""
    return max(pair.text.count(" ") for pair in pairs)


class ProblemBatches:
    """A task's training problems, endless: step -> this rank's batch.

    The kinds of problems have equal parts of a batch, and the ranks equal parts of each kind.
    """

    def __init__(self, task: str, config: Config, tokenizer: Tokenizer, hide: str = ""):
        self.task = task
        self.config = config
        self.tokenizer = tokenizer
        self.hide = hide
        self.rank = distributed.rank()
        self.world = distributed.world()
        kinds = SCENE_TASKS[task].problems
        self.sources = [problems(kind, "train", config, config.seed) for kind in kinds]
        unit = len(kinds) * self.world
        if config.batch % unit:
            raise ValueError(f"batch={config.batch} is not a multiple of {unit} ({self.world} "
                             f"processes, for each of {len(kinds)} kinds of problems); choose one")

    def __call__(self, step: int) -> Batch:
        config = self.config
        count = config.batch // len(self.sources)                # problems of each kind
        first = step * count
        rows = range(first, first + count)[distributed.rank_rows(count, self.rank, self.world)]
        drawings = []
        for source in self.sources:
            drawings += [source.draw(i) for i in rows]
        return batch(self.task, drawings, self.tokenizer, config.image_size, self.hide,
                     config.text_length)
