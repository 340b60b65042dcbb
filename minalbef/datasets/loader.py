"""Training batches of prepared records: shuffled, augmented, prefetched, and reproducible on resume."""
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from minalbef import distributed
from minalbef.config import Config
from minalbef.data import Batch, open_image, reads_upright
from minalbef.datasets.augment import view
from minalbef.tokenizer import Tokenizer
from minalbef.writing import name_file

BICUBIC = Image.Resampling.BICUBIC
LEAST = 1000                          # records, before a share of unreadable ones means anything
IN_A_ROW = 100                        # unreadable ones: the folder is gone, and there is no point in trying all


class Ahead:
    """Prefetch of source(step) by workers, in pinned memory where there is a GPU.

    source must be a function of the step alone and know its rank: a worker has no process group.
    """

    def __init__(self, source: Callable, config: Config, workers: int):
        self.source, self.last, self.workers = source, config.steps, workers
        self.pinned = distributed.device_of(config.device).type == "cuda"
        self.ready, self.next = iter(()), -1

    def __call__(self, step: int):
        found = next(self.ready, None) if step == self.next else None
        if found is None:                        # the first step, or not the next one: prefetch from here
            steps = range(step, max(self.last, step + 1))        # the data set; what collates a step is the source
            self.ready = iter(DataLoader(steps, batch_size=None, num_workers=self.workers, collate_fn=self.source,
                                         worker_init_fn=_one_thread, pin_memory=self.pinned,
                                         generator=torch.Generator()))                   # not dropout's generator
            found = next(self.ready)
        self.next = step + 1
        return found


class RecordBatches:
    """A set's batches, endless: step -> the batch of this process, a pure function of seed and step.

    Every record comes once an epoch, in a new order; a batch may span two epochs, so none is short and nothing is left
    out. An unreadable picture is replaced by the epoch's next readable record.
    """

    def __init__(self, records: Dataset, collate: Callable, config: Config, tokenizer: Tokenizer, workers: int = 0,
                 most_bad: float = 0.01, folder: Path | None = None):
        """records: by number, such as store.Records. collate(records, tokenizer, size, length): a task's

        workers: processes that prefetch. folder: where unreadable.txt lists unreadable records
        most_bad: with a larger share of unreadable pictures, of at least 1,000, training stops; each counts once
        Raises ValueError for an empty set; a call does if too many pictures are unreadable.
        """
        if not len(records):
            raise ValueError("there is no record to train on; look into what `minalbef prepare` said of the set")
        self.records, self.most_bad, self.seen, self.bad = records, most_bad, 0, {}
        mine = distributed.own_rows(config.batch, distributed.rank(), distributed.world())
        self.ahead = Ahead(partial(read_batch, records, collate, config, tokenizer, mine), config, workers)
        rank = f"-{distributed.rank()}" if distributed.world() > 1 else ""
        self.path = Path(folder) / f"unreadable{rank}.txt" if folder else None

    def __call__(self, step: int) -> Batch:
        batch, bad = self.ahead(step)
        self.note(bad, len(batch.ids))
        return batch

    def note(self, bad: dict[int, str], rows: int):
        """Count and list unreadable records. Raises ValueError for too many."""
        self.seen = min(self.seen + rows, len(self.records))                 # later epochs show the same again
        new = {number: why for number, why in bad.items() if number not in self.bad}
        self.bad |= new
        if new and self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with (name_file(self.path),
                  open(self.path, "a", encoding="utf-8", errors="replace") as file):
                file.writelines(f"record {number}: {why}\n" for number, why in new.items())
        if len(self.bad) > self.most_bad * max(self.seen, LEAST):
            first = min(self.bad)
            raise ValueError(f"{len(self.bad)} pictures of the first {self.seen} records could not be read, more than "
                             f"{self.most_bad:.1%}, such as record {first}: {self.bad[first]}; `minalbef prepare` with "
                             "--look leaves them out, --most-bad allows more")


def read_batch(records: Dataset, collate: Callable, config: Config, tokenizer: Tokenizer, mine: slice,
               step: int) -> tuple[Batch, dict[int, str]]:
    """A step's batch of one process, whose rows of it are `mine`, and by record that was skipped, why."""
    places, bad = range(step * config.batch, (step + 1) * config.batch)[mine], {}
    some = [read_augmented(records, config, *divmod(place, len(records)), bad) for place in places]
    return collate(some, tokenizer, config.image_size, config.text_length), bad


def read_augmented(records: Dataset, config: Config, epoch: int, place: int, bad: dict[int, str]):
    """The record at a place of an epoch's order, or the next one whose pictures can be read, augmented."""
    def read(number: int):
        return view(records[number], config.image_size, config.crop, config.seed, epoch, number,
                    reads_upright(records, config))
    return first_readable(order(len(records), config.seed, epoch), place, read, bad)


def first_readable(turn: np.ndarray, place: int, read: Callable, bad: dict[int, str]):
    """read(number) of the record at a place of an order, or of the next one that can be read.

    bad: why others can't, by number; it is added to
    """
    for i in range(place, place + min(len(turn), IN_A_ROW)):         # in epoch order: neighbours may share a broken tar
        number = int(turn[i % len(turn)])
        try:
            return read(number)
        except ValueError as error:
            bad[number] = str(error)
    raise ValueError(f"of {min(len(turn), IN_A_ROW)} records in a row no picture can be read: {bad[number]}")


class ValidationBatches:
    """A split's batches to validate on: all of a size, the same each time, without augmentation.

    An unreadable picture gives way to the next record, as in training.
    """

    def __init__(self, records: Dataset, collate: Callable, config: Config, tokenizer: Tokenizer,
                 most: int, workers: int = 0):
        """most: records, in a fixed random order. Of those a batch can't share evenly, a few fall out."""
        self.records, self.collate, self.config, self.tokenizer = records, collate, config, tokenizer
        self.world, self.rank, self.workers = distributed.world(), distributed.rank(), workers
        count, largest = min(most, len(records)), config.batch // config.accumulate
        self.number = math.ceil(count / largest)
        self.size = count // self.number // self.world * self.world       # of all processes
        if not self.size:
            raise ValueError(f"{count} validation records can't be shared by {self.world} processes; "
                             "take fewer, or validate_every=0")

    def __iter__(self) -> Iterator[Batch]:
        """This process's rows of each batch."""
        yield from DataLoader(range(self.number), batch_size=None, num_workers=self.workers,
                              collate_fn=self.read, worker_init_fn=_one_thread,
                              generator=torch.Generator())

    def read(self, i: int) -> Batch:
        config, mine = self.config, distributed.own_rows(self.size, self.rank, self.world)
        upright, turn = reads_upright(self.records, config), order(len(self.records), config.seed, 0)
        def opened(number: int):
            record, side = self.records[number], (config.image_size,) * 2
            return replace(record, image=np.array(open_image(record.image, upright).resize(side, BICUBIC)))
        places = range(i * self.size, (i + 1) * self.size)[mine]
        some = [first_readable(turn, place, opened, {}) for place in places]
        return self.collate(some, self.tokenizer, config.image_size, config.text_length)


def count_unreadable(folder: Path) -> int:
    """How many records the processes of a run, and of those it went on from, have named in `folder`."""
    files = [path.read_text(encoding="utf-8", errors="replace") for path in Path(folder).glob("unreadable*.txt")]
    return len({line.partition(":")[0] for file in files for line in file.splitlines()})


@lru_cache(maxsize=2)                                            # where one epoch ends in a batch, the next begins
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """In which order an epoch takes its records: a permutation (count,), from seed and epoch alone."""
    turn = np.arange(count, dtype=np.uint32)                     # 60 MB for 15 million records, in every worker
    np.random.default_rng([seed, epoch]).shuffle(turn)
    return turn


def _one_thread(worker: int):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"               # its threads did not survive the fork
