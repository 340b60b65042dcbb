"""Training batches from the embedded scenes: of pretraining, and of each task."""
import torch

from emojiscenes.scenes import Drawn, Scenes, paint, truth
from emojiscenes.stream import Stream
from minalbef import distributed
from minalbef.config import Config
from minalbef.data import Batch, transform
from minalbef.scenes.jobs import JOBS
from minalbef.scenes.pretrain import SceneBatch
from minalbef.scenes.task_problems import batch, problems
from minalbef.tokenizer import Tokenizer

COUNTS = (0.15, 0.5, 0.35)            # shares of 1, 2 and 3 objects from siblings_from on: one alone has no relation


class SceneBatches:
    """The embedded scenes, endless: step -> the SceneBatch of this process.

    Every process draws the whole batch, which is cheap, and paints its own rows: so each knows which caption is true
    of which picture, and all pad to the same length.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer):
        self.config, self.tokenizer, self.window, self.ready = config, tokenizer, -1, []
        self.rank, self.world = distributed.rank(), distributed.world()
        unit = config.accumulate * self.world * (2 if config.siblings else 1)
        if config.batch % unit:
            raise ValueError(f"batch={config.batch} is not a multiple of {unit} ({self.world} processes, accumulate="
                             f"{config.accumulate}{', in pairs of siblings' if config.siblings else ''}); choose one")
        settings = dict(seed=config.seed, size=config.image_size, objects=config.objects, restyle=config.restyle,
                        epoch=config.epoch + config.epoch % 2, sibling_pairs=config.sibling_pairs)     # pairs are whole
        self.before = Scenes("train", **settings)
        self.lesson = Scenes("train", siblings=1.0, lesson=True, **settings)
        self.after = Scenes("train", siblings=config.siblings, counts=COUNTS, **settings)

    def __call__(self, step: int) -> SceneBatch:
        config, size = self.config, self.config.image_size
        window, place = divmod(step, config.bucket)
        if window != self.window:
            self.window, self.ready = window, self._window(window)
        drawn = self.ready[place]
        tokens, keep = self.tokenizer.encode([one.text for one in drawn], config.text_length)
        mine = distributed.own_rows(config.batch, self.rank, self.world)
        siblings = torch.tensor([one.kind != "" for one in drawn])
        return SceneBatch(torch.stack([transform(paint(one.scene, size), size) for one in drawn[mine]]),
                             tokens[mine], keep[mine], torch.tensor([one.id for one in drawn[mine]]),
                             torch.from_numpy(truth(drawn)), siblings=siblings[mine] if siblings.any() else None)

    def _window(self, window: int) -> list[list[Drawn]]:
        """config.bucket batches, each of captions of like length, so that little is padded; siblings stay together."""
        config, first = self.config, window * self.config.bucket
        scenes = (self.lesson if config.in_lesson(first) else
                  self.after if first >= config.siblings_from * config.steps else self.before)
        rows = range(first * config.batch, (first + config.bucket) * config.batch)
        drawn = [scenes.draw(i % len(scenes)) for i in rows]
        if config.bucket == 1:
            return [drawn]
        pairs = sorted((drawn[i:i + 2] for i in range(0, len(drawn), 2)),
                       key=lambda pair: max(one.text.count(" ") for one in pair))
        drawn = [one for pair in pairs for one in pair]
        batches = [drawn[i:i + config.batch] for i in range(0, len(drawn), config.batch)]
        return Stream("bucket", config.seed, window).shuffle(batches)


class ProblemBatches:
    """A task's training problems, without end: step -> this rank's batch."""

    def __init__(self, task: str, config: Config, tokenizer: Tokenizer, hide: str = ""):
        self.task, self.config, self.tokenizer, self.hide = task, config, tokenizer, hide
        self.rank, self.world = distributed.rank(), distributed.world()
        self.sources = [problems(name, "train", config, config.seed) for name in JOBS[task].problems]
        if config.batch % (unit := len(self.sources) * self.world):
            raise ValueError(f"batch={config.batch} is not a multiple of {unit} ({self.world} processes, for each "
                             f"of {len(self.sources)} kinds of problems); choose one")

    def __call__(self, step: int) -> Batch:
        config, share = self.config, self.config.batch // len(self.sources)
        mine = range(step * share, (step + 1) * share)[distributed.own_rows(share, self.rank, self.world)]
        drawn = [source.draw(i) for source in self.sources for i in mine]
        return batch(self.task, drawn, self.tokenizer, config.image_size, self.hide, config.text_length)
