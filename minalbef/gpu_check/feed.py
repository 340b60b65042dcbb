"""Part 6: do the loader's workers keep up with the GPU?"""
import shutil
import time
from pathlib import Path

import torch
from torch import Tensor

from minalbef import train
from minalbef.bench.loading import jpeg, measure_loading
from minalbef.bench.step import Steps
from minalbef.config import Config
from minalbef.data import Record
from minalbef.datasets.loader import PREFETCH, RecordBatches
from minalbef.gpu_check.machine import cores
from minalbef.gpu_check.parts import Result, Setting, pass_or_fail
from minalbef.presets import preset
from minalbef.pretrain import collate
from minalbef.recipes.plan import plan
from minalbef.recipes.rehearse import WORDS
from minalbef.tokenizer import Tokenizer

FILES = 64                            # photographs of 640 x 480 pixels
RECORDS = 1_000_000                   # that they are read as
MOST_WORKERS = 12
WAIT = 0.005                          # seconds for a batch: longer is a wait, shorter is a copy
MOST_WAITS = 0.05                     # share of steps
RESERVE = 0.2                         # share of the time in which no step begins


class Photos:
    """Records of made-up photographs; each file is read many times."""

    upright = False

    def __init__(self, folder: Path):
        self.paths = [folder / f"{i}.jpg" for i in range(FILES)]
        folder.mkdir(exist_ok=True)
        file = jpeg()
        for path in self.paths:
            path.write_bytes(file)

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, i: int) -> Record:
        return Record(self.paths[i % FILES], " ".join(WORDS[:i % 12 + 4]), i)


def check(setting: Setting) -> Result:
    """PASS if workers' batches are those of one process and, on a GPU, few steps wait for them."""
    on_gpu = setting.device.type == "cuda"
    gpus = max(1, torch.cuda.device_count())
    workers = min(MOST_WORKERS, max(1, cores() // gpus - 1))
    config = preset("paper-4m", **{"batch": 64 if on_gpu else 8, "precision": "bf16",
                                   **setting.changes})
    tokenizer = Tokenizer.train([" ".join(WORDS)], min(config.vocab_size, 512))
    records = Photos(setting.folder / "photos")
    print("comparing workers' batches", flush=True)
    equal = same_batches(records, config, tokenizer)
    print("measuring a core", flush=True)
    rate = measure_loading((48,), config.image_size, 1000)["photos_per_second"]["augmented"]
    needed = plan("base").samples_per_second
    figure = (f"a core reads and augments {rate:.0f} photographs a second; an H100 takes "
              f"{needed:.0f} by plan: {needed / rate:.1f} cores")
    details = {"workers": workers, "photos_per_second_and_core": rate, "same_batches": equal}
    passed = equal
    if not equal:
        figure += "; workers' batches differ from those of one process"
    if on_gpu:
        share, images = share_of_waits(records, config, tokenizer, workers, setting)
        passed = passed and share <= MOST_WAITS
        details |= {"steps_that_wait": share, "samples_per_second": images}
        figure = (f"{share:.0%} of steps wait for data with {workers} workers, "
                  f"{images:.0f} samples/s; {figure}")
    shutil.rmtree(setting.folder / "photos")
    return Result(pass_or_fail(passed), figure, details)


def same_batches(records: Photos, config: Config, tokenizer: Tokenizer) -> bool:
    """Whether two workers make the same batches as this process."""
    loaders = [RecordBatches(records, collate, config, tokenizer, workers) for workers in (0, 2)]
    for step in range(3):
        one, other = (loader(step) for loader in loaders)
        for name, value in vars(one).items():
            if isinstance(value, Tensor) and not torch.equal(value, getattr(other, name)):
                return False
    return True


def share_of_waits(records: Photos, config: Config, tokenizer: Tokenizer, workers: int,
                   setting: Setting) -> tuple[float, float]:
    """The share of steps that wait for their batch, and samples a second.

    Of the second half of the steps: at first each worker has batches ready.
    """
    batches = RecordBatches(records, collate, config, tokenizer, workers)
    work = Steps(config, str(setting.device))
    most = 4 * PREFETCH * workers
    waits: list[float] = []
    ends = []
    while len(waits) < most and setting.seconds_left() > RESERVE * setting.seconds:
        step = len(waits)
        start = time.perf_counter()
        batch = batches(step)
        waits.append(time.perf_counter() - start)
        train.train_step(work.task, work.task, work.optimiser, batch, step, config, setting.device)
        work.clock()                             # so that a wait is for data alone
        ends.append(time.perf_counter())
        if step % 10 == 0:
            print(f"step {step} of {most}", flush=True)
    half = len(waits) // 2
    late = [wait for wait in waits[half:] if wait > WAIT]
    rate = config.batch * (len(ends) - half) / (ends[-1] - ends[half - 1])
    return len(late) / (len(waits) - half), rate
