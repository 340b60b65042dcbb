"""Batches of prepared records: shuffled, augmented, prefetched, and reproducible on resume."""
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from minalbef.config import Config
from minalbef.data import Batch
from minalbef.datasets.augment import view
from minalbef.evaluation.loop import Records
from minalbef.system import distributed
from minalbef.system.images import is_tokens, open_image, reads_upright
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.writing import name_file

BICUBIC = Image.Resampling.BICUBIC
LEAST = 1000                          # records, before a share of unreadable ones means anything
IN_A_ROW = 100                        # unreadable ones: the folder is gone, so stop trying
PREFETCH = 2                          # batches that each worker has ready, at most
SHARED_MEMORY = Path("/dev/shm")      # where Linux keeps them
GB = 1e9
T = TypeVar("T")
Collate = Callable[[Sequence[Any], Tokenizer, int, int], Any]


def prefetch(source: Callable[..., Any], numbers: range, workers: int,
             pin_memory: bool = False) -> Iterator[Any]:
    """source(number) for each number in turn, computed in advance by worker processes."""
    loader: DataLoader[Any] = DataLoader(
        numbers,                                 # type: ignore[arg-type]  # as good as a Dataset
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        collate_fn=source,
        worker_init_fn=_use_one_thread,
        pin_memory=pin_memory,
        generator=torch.Generator(),             # not the default one, which dropout draws from
    )
    return iter(loader)


def _use_one_thread(worker: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"       # its threads don't survive the fork


def check_shared_memory(config: Config, workers: int, image_bytes: int) -> None:
    """Raises ValueError if the batches that workers have ready don't fit into shared memory.

    Without room for them the workers would be killed, at some step, by SIGBUS.
    image_bytes: of a row's images
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world()))
    rows = config.batch // distributed.world()
    batches = PREFETCH * workers + 1             # and the one in use
    need = processes * batches * rows * image_bytes
    room = shutil.disk_usage(SHARED_MEMORY).total        # not what is free: others fill it already
    if need > room:
        raise ValueError(
            f"{SHARED_MEMORY} has {room / GB:.2g} GB, and {workers} workers of each of {processes} "
            f"processes keep up to {need / GB:.2g} GB of batches there: take fewer --workers, or "
            f"make it larger, such as by docker run --shm-size={math.ceil(2 * need / GB)}g")


class Ahead:
    """Prefetches source(step) in worker processes, into pinned memory if there is a GPU.

    source must be a function of the step alone and know its rank: a worker has no process group.
    """

    def __init__(self, source: Callable[[int], Any], config: Config, workers: int,
                 image_bytes: int | None = None):
        """image_bytes: of a row's images, by default of one in fp32

        Raises ValueError for more workers than shared memory has room for.
        """
        if image_bytes is None:
            image_bytes = 4 * 3 * config.image_size ** 2
        check_shared_memory(config, workers, image_bytes)
        self.source = source
        self.steps = config.steps
        self.workers = workers
        self.pinned = distributed.device_of(config.device).type == "cuda"
        self.batches: Iterator[Any] = iter(())
        self.next_step = -1

    def __call__(self, step: int) -> Any:
        batch = next(self.batches, None) if step == self.next_step else None
        if batch is None:                        # the first step, or one out of turn
            steps = range(step, max(self.steps, step + 1))
            self.batches = prefetch(self.source, steps, self.workers, self.pinned)
            batch = next(self.batches)
        self.next_step = step + 1
        return batch


class RecordBatches:
    """A set's batches without end: step -> this process's batch, a function of seed and step alone.

    Each epoch contains every record once, in a new order. A batch may span two epochs, so no batch
    is short and no record left out. An unreadable image is replaced by the epoch's next readable
    record.
    """

    def __init__(self, records: Records, collate: Collate, config: Config, tokenizer: Tokenizer,
                 workers: int = 0, most_bad: float = 0.01, folder: Path | None = None):
        """records: by number, such as store.Records

        collate: (records, tokenizer, image size, text length) -> a batch of the task
        workers: processes that prefetch
        most_bad: training stops at a larger share of unreadable images, of at least 1,000; each
            counts once
        folder: for unreadable.txt, which lists unreadable records
        Raises ValueError for an empty set, or more workers than shared memory has room for; a call
        does if too many images are unreadable.
        """
        if not len(records):
            raise ValueError("there is no record to train on; see what `minalbef prepare` "
                             "said about the set")
        self.records = records
        self.most_bad = most_bad
        self.count = 0                           # of the records that were read
        self.bad: dict[int, str] = {}            # why records are unreadable
        rank = distributed.rank()
        world = distributed.world()
        rows = distributed.rank_rows(config.batch, rank, world)
        source = partial(read_batch, records, collate, config, tokenizer, rows)
        images = 2 if hasattr(records[0], "images") else 1       # NLVR2's records have two
        self.ahead = Ahead(source, config, workers, images * 3 * config.image_size ** 2)
        self.path = None
        self.listed: set[str] = set()            # records in the file, also before a resume
        if folder:
            name = f"unreadable-{rank}.txt" if world > 1 else "unreadable.txt"
            self.path = Path(folder) / name
            self.listed = listed_records(self.path)

    def __call__(self, step: int) -> Batch:
        batch, bad = self.ahead(step)
        self.note(bad, len(batch.ids))
        return batch

    def note(self, bad: dict[int, str], rows: int) -> None:
        """Count and list a batch's unreadable records. Raises ValueError for too many."""
        self.count = min(self.count + rows, len(self.records))   # later epochs repeat the records
        new = {number: reason for number, reason in bad.items() if number not in self.bad}
        self.bad |= new
        if new and self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with name_file(self.path), open(self.path, "a", encoding="utf-8",
                                            errors="replace") as file:
                for number, reason in new.items():
                    if f"record {number}" not in self.listed:
                        file.write(f"record {number}: {reason}\n")
        if len(self.bad) > self.most_bad * max(self.count, LEAST):
            first = min(self.bad)
            raise ValueError(f"{len(self.bad)} images of the first {self.count} records could not "
                             f"be read, more than {self.most_bad:.1%}, such as record {first}: "
                             f"{self.bad[first]}; `minalbef prepare` with --look leaves them out, "
                             "--most-bad allows more")


def read_batch(records: Records, collate: Collate, config: Config, tokenizer: Tokenizer,
               rows: slice, step: int) -> tuple[Any, dict[int, str]]:
    """A process's batch of a step, and why records were skipped, by number.

    rows: this process's of the batch
    """
    bad: dict[int, str] = {}
    views = []
    for position in range(step * config.batch, (step + 1) * config.batch)[rows]:
        epoch, i = divmod(position, len(records))
        views.append(read_augmented(records, config, epoch, i, bad))
    return collate(views, tokenizer, config.image_size, config.text_length), bad


def read_augmented(records: Records, config: Config, epoch: int, i: int,
                   bad: dict[int, str]) -> Any:
    """The i-th record of an epoch, augmented, or the next one that is readable."""
    upright = reads_upright(records, config)

    def load(number: int) -> Any:
        return view(records[number], config.image_size, config.crop, config.seed, epoch, number,
                    upright)
    return first_readable(order(len(records), config.seed, epoch), i, load, bad)


def first_readable(numbers: np.ndarray, i: int, load: Callable[[int], T],
                   bad: dict[int, str]) -> T:
    """load(number) of the i-th number, or of the next one that can be read.

    bad: why a number can't be read; this function adds to it
    Raises ChangedImage for an image that isn't the one that was prepared: others would follow.
    """
    attempts = min(len(numbers), IN_A_ROW)
    # in the epoch's order, since neighbours in the set may share a broken tar
    for j in range(i, i + attempts):
        number = int(numbers[j % len(numbers)])
        try:
            return load(number)
        except ValueError as error:
            bad[number] = str(error)
    raise ValueError(f"of {attempts} records in a row no image can be read: {bad[number]}")


class ValidationBatches:
    """A split's batches to validate on: of equal size, always the same, and without augmentation.

    An unreadable image is replaced by the next record, as in training.
    """

    def __init__(self, records: Records, collate: Collate, config: Config, tokenizer: Tokenizer,
                 most: int, workers: int = 0):
        """most: how many records to take, in a fixed random order.

        A few of them are left out if batches and processes can't share them evenly.
        """
        self.records = records
        self.collate = collate
        self.config = config
        self.tokenizer = tokenizer
        self.workers = workers
        self.world = distributed.world()
        self.rank = distributed.rank()
        count = min(most, len(records))
        largest = config.batch // config.accumulate
        self.count = math.ceil(count / largest)
        self.size = count // self.count // self.world * self.world       # of all processes
        if not self.size:
            raise ValueError(f"{count} validation records can't be shared by {self.world} "
                             "processes; take fewer, or validate_every=0")

    def __iter__(self) -> Iterator[Batch]:
        """This process's rows of each batch."""
        return prefetch(self.read, range(self.count), self.workers)

    def read(self, i: int) -> Batch:
        """This process's rows of the i-th batch."""
        config = self.config
        rows = distributed.rank_rows(self.size, self.rank, self.world)
        numbers = order(len(self.records), config.seed, 0)
        records = []
        for position in range(i * self.size, (i + 1) * self.size)[rows]:
            records.append(first_readable(numbers, position, self.read_resized, {}))
        return self.collate(records, self.tokenizer, config.image_size, config.text_length)

    def read_resized(self, number: int) -> Any:
        """A record with its image opened and resized."""
        record = self.records[number]
        size = self.config.image_size
        if is_tokens(record.image):
            return record
        image = open_image(record.image, reads_upright(self.records, self.config))
        return replace(record, image=np.array(image.resize((size, size), BICUBIC)))


def count_unreadable(folder: Path) -> int:
    """How many records a run's processes, before and after resuming, have listed in `folder`."""
    records: set[str] = set()
    for path in Path(folder).glob("unreadable*.txt"):
        records |= listed_records(path)
    return len(records)


def listed_records(path: Path) -> set[str]:
    """The records that a file of unreadable ones lists, such as "record 3"; none without it."""
    if not path.is_file():
        return set()
    text = path.read_text(encoding="utf-8", errors="replace")
    return {line.partition(":")[0] for line in text.splitlines()}


@lru_cache(maxsize=2)                 # two epochs, since a batch may span them
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch takes its records: a permutation (count,) by seed and epoch."""
    numbers = np.arange(count, dtype=np.uint32)      # in every worker, 60 MB for 15 million records
    np.random.default_rng([seed, epoch]).shuffle(numbers)
    return numbers
