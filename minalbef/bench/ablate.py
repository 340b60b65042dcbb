"""Ablation: rows of ablate_rows.py over seeds, side by side; results run by run, and a stopped night goes on."""
import json
import logging
import multiprocessing
import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minalbef import load, train, writing
from minalbef.bench.ablate_rows import BASES, ROWS, Finite, Row, rows_of
from minalbef.bench.outcomes import DOWNSTREAM, TASK_STEPS, look, outcomes, outcomes_of_tasks
from minalbef.data import data_folder
from minalbef.ema import make_teacher
from minalbef.losses import itc_loss
from minalbef.metrics import progress, read_metrics
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.recipes.launch import ENVIRONMENT, GRACE
from minalbef.recipes.report import commit, describe_device, now
from minalbef.run import Run
from minalbef.scenes.batches import SceneBatches
from minalbef.tasks.pretrain import Carry, Draws, Pretrain, PretrainBatch
from minalbef.tokenizer import Tokenizer
from minalbef.writing import explain, write_atomically

LOG = logging.getLogger("minalbef")
LOOKS = 5                             # of a run, while it learns
CPU_SECONDS = 0.0065                  # of a sample, on a core of an AMD EPYC, where none has been measured


class RunKey(NamedTuple):
    """A run that is wanted. equal: its samples take the CPU seconds of the group's base. with_tasks: tuned, too."""

    row: str
    seed: int
    samples: int
    equal: bool = False
    with_tasks: bool = False

    @property
    def folder(self) -> str:
        return "-".join(map(str, self))


@dataclass(frozen=True)
class BatchWithAlpha(PretrainBatch):
    """A batch that brings the teacher's weight in ITC along: in MLM it may have another."""

    alpha: float = 0.0


class Variant(Pretrain):
    """Pretraining as a row has it."""

    def __init__(self, row: Row, *args: Any, **more: Any):
        super().__init__(*args, itc=smooth_itc_loss if row.smooth else None, **more)
        self.row = row

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws) -> tuple[dict[str, Tensor], Carry]:
        taught = BatchWithAlpha(**vars(batch) | {"match": batch.match if self.row.truth else None,
                                                 "alpha": alpha if self.row.teach_itc else 0.0})
        losses, carry = super().forward(taught, alpha if self.row.teach_words else 0.0, draws)
        weights = {"itc": self.row.weight, "mlm": self.row.weight * self.row.words_weight}
        return {name: loss * weights.get(name, 1.0) for name, loss in losses.items()
                if self.row.itc or name != "itc"}, carry

    def align(self, image, text, teacher_features, carry, batch, alpha, queued):
        return super().align(image, text, teacher_features, carry, batch, batch.alpha, queued)


def smooth_itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor) -> Tensor:
    """ITC with a share alpha of its targets spread over all keys evenly, label smoothing: (b, k) thrice -> scalar."""
    return itc_loss(sim, torch.zeros_like(teacher_sim), alpha, positive)


def spread_words(task: Variant) -> None:
    """Label smoothing in MLM: the teacher finds all words alike, whatever its weights. In place."""
    task.teacher.word_logits = lambda fused: fused.new_zeros(*fused.shape[:-1], task.config.vocab_size)


class LookBatches:
    """Batches of a row; before some of the steps it looks at what the task can do, and notes it in the folder."""

    def __init__(self, row: Row, task: Variant, tokenizer: Tokenizer, folder: Path):
        self.task, self.tokenizer, self.path, self.seconds = task, tokenizer, folder / "looks.jsonl", 0.0
        self.batches = SceneBatches(task.config, tokenizer)
        self.scenes = self.batches.before
        self.scenes.noise = row.noise
        if row.scenes:
            self.batches.before = Finite(self.scenes, task.config.epoch)

    def __call__(self, step: int) -> PretrainBatch:
        if step and step % -(-self.task.config.steps // LOOKS) == 0:
            self.look(step)
        return self.batches(step)

    def look(self, step: int) -> None:
        clock, before = time.process_time(), self.read() if self.path.exists() else []
        seen = [one for one in before if one["step"] < step] + [look(self.task, self.tokenizer, self.scenes, step)]
        text = "".join(json.dumps(one) + "\n" for one in seen)
        write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))
        self.seconds += time.process_time() - clock

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def train_row(key: RunKey, folder: Path) -> dict:
    """Train a row from the shipped warm start of the image encoder, all else new, and ask it: -> its record.

    cpu_seconds: of training alone; None for a run that was resumed. failed: why it has no outcomes
    """
    row, record = ROWS[key.row], key._asdict() | {"date": now(), "device": describe_device(), "commit": commit()}
    scenes = min(row.scenes or key.samples, key.samples)         # half a sample more, so that no step is lost
    changes = row.changes | dict(seed=key.seed, epoch=scenes, epochs=(key.samples + 0.5) / scenes, warm_steps=0)
    task, tokenizer, config = pretrain.begin(preset("tiny", save_every=100, **changes), make=partial(Variant, row))
    if row.warm:
        start = load(data_folder() / "tiny" / "start").model.image_encoder
        task.student.image_encoder.load_state_dict(start.state_dict())
    task.teacher = make_teacher(task.student)
    if row.smooth:
        spread_words(task)
    batches, resumed = LookBatches(row, task, tokenizer, folder), (folder / "state.pt").exists()
    record |= {"steps": config.steps, "changes": changes | {part: value for part, value in asdict(row).items()
                                                            if part not in ("about", "group", "changes", "samples")}}
    clock = time.process_time()
    try:
        train.fit(task, batches, config, folder, quiet=True)
    except FloatingPointError as error:
        return record | {"failed": str(error)}
    seconds = time.process_time() - clock - batches.seconds
    batches.look(config.steps)
    vars(task.teacher).pop("word_logits", None)
    record |= {"cpu_seconds": None if resumed else round(seconds, 1), "looks": batches.read(),
               "outcomes": outcomes(Run(task.student.eval(), tokenizer, config, folder), key.seed)}
    if row.group == "paper":
        record["teacher_outcomes"] = outcomes(Run(task.teacher, tokenizer, config, folder), key.seed)
    if key.with_tasks:
        for name, alpha in (("tasks", 0.0), ("tasks_distilled", 0.4)):
            record[name] = outcomes_of_tasks(task, tokenizer, folder / name, alpha, key.seed)
    return record


def work(key: RunKey, folder: Path) -> None:
    """What a process does; it stops, as on SIGTERM, when the one that started it is gone."""
    def follow():
        wait([multiprocessing.parent_process().sentinel])
        signal.raise_signal(signal.SIGTERM)
    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "result.json").exists():        # the night was killed before it had entered it
        return
    try:
        text = json.dumps(train_row(key, folder))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    write_atomically(folder / "result.json", lambda path: path.write_text(text, encoding="utf-8"))


def read(out: Path) -> list[dict]:
    """The records of a file of results, one a line; of a run that was done twice, the last. ValueError if damaged."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    with explain(f"{out} is damaged", "remove the line, and its run is trained again", ValueError, KeyError):
        return list({(one["row"], one["seed"], one["samples"], one["equal"]): one for one in map(json.loads, lines)
                     }.values())


def cost(records: Iterable[dict], row: str) -> float | None:
    """Mean CPU seconds of a sample in the row's runs at its own samples; None where none is known."""
    found = [one["cpu_seconds"] / one["samples"] for one in records if one["row"] == row and not one["equal"]
             and one["samples"] == ROWS[row].samples and one.get("cpu_seconds")]
    return statistics.mean(found) if found else None


def todo(names: Iterable[str], seeds: int, share: float, equal: bool, tasks: bool, records: list[dict]) -> list[RunKey]:
    """Runs that are missing, seed by seed, so that a broken-off night has whole rows.

    equal: as many samples as take the CPU seconds of the group's base. Raises ValueError where those aren't known yet.
    """
    wanted = []
    for name in rows_of(names):
        row = ROWS[name]
        samples, base = share * row.samples, BASES[row.group]
        if equal:
            own, other = cost(records, name), cost(records, base)
            if own is None or other is None or share < 1:
                raise ValueError(f"--equal needs share 1, and CPU seconds of {name} and of {base}: run both without it")
            samples = ROWS[base].samples * other / own
        wanted += [RunKey(name, seed, max(64, int(samples + 1e-6) // 64 * 64), equal, tasks) for seed in range(seeds)]
    there = {(one["row"], one["seed"], one["equal"], equal or one["samples"]) for one in records
             if not tasks or "tasks" in one}
    return sorted((one for one in wanted if (one.row, one.seed, equal, equal or one.samples) not in there),
                  key=lambda one: one.seed)


def plan(runs: list[RunKey], records: list[dict], processes: int) -> str:
    """How long the missing runs will take, in their order."""
    lines, total = [], 0.0
    for one in runs:
        seconds = one.samples * (cost(records, one.row) or CPU_SECONDS)
        total += seconds + one.with_tasks * 2 * len(DOWNSTREAM) * TASK_STEPS * 64 * CPU_SECONDS
        lines.append(f"{one.row:20} seed {one.seed} {one.samples:8,} samples {seconds:6.0f} CPU s of pretraining, done "
                     f"after {total / 3600 / processes:5.1f} h")
    return "\n".join([*lines, f"{len(runs)} runs, {total / 3600:.1f} CPU hours of training in {processes} processes"])


def ablate(runs: list[RunKey], folder: Path, out: Path, processes: int, quiet: bool = False,
           work: Callable[[RunKey, Path], None] = work) -> None:
    """Train the runs, so many at a time, each in a process of one thread; append each record to `out` when it's there.

    work: what a process does
    Raises train.Stopped after Ctrl-C or SIGTERM: the runs are saved, and the same call goes on. Raises SystemExit where
    a run broke off; the others are finished first. Raises ValueError where another process does the same.
    """
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    spawn, waiting, broken, done = multiprocessing.get_context("spawn"), list(runs), 0, 0
    running: dict[Any, RunKey] = {}
    def seen(one: RunKey) -> int:
        rows = read_metrics(folder / one.folder)
        return int(rows[-1]["samples"]) if rows else 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with (writing.lock(folder / ".night", preset("tiny")), train.catch_signals() as stopped,
          progress(None, "ablation", quiet, total=sum(one.samples for one in runs), unit="sample") as bar):
        try:
            while (waiting or running) and not stopped:
                while waiting and len(running) < processes:
                    one = waiting.pop(0)
                    process = spawn.Process(target=work, args=(one, folder / one.folder))
                    process.start()
                    running[process] = one
                time.sleep(0.5)
                for process, one in [(process, one) for process, one in running.items() if not process.is_alive()]:
                    if (result := folder / one.folder / "result.json").exists():
                        with out.open("a", encoding="utf-8") as file:
                            file.write(result.read_text(encoding="utf-8") + "\n")
                        shutil.rmtree(folder / one.folder)
                    elif not stopped:
                        broken += 1
                        LOG.error(f"{one.row}, seed {one.seed}, broke off with status {process.exitcode}; others go on")
                    del running[process]
                    done += one.samples
                bar.update(done + sum(map(seen, running.values())) - bar.n)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.join(GRACE)
    with suppress(OSError):
        (folder / ".night").rmdir()
    if stopped:
        raise train.Stopped(f"stopped with {len(waiting) + len(running)} runs left; the same command goes on")
    if broken:
        raise SystemExit(1)
