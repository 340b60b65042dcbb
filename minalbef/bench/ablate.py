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
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minalbef import load, train
from minalbef.bench.ablate_rows import BASES, ROWS, Row, rows_of
from minalbef.bench.outcomes import look, outcomes, outcomes_of_tasks
from minalbef.checkpoint import write_atomically
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
from minalbef.writing import explain

LOG = logging.getLogger("minalbef")
LOOKS = 5                             # of a run, while it learns
CPU_SECONDS = 0.4                     # of a step, on a core of an AMD EPYC, where none has been measured


@dataclass(frozen=True)
class Taught(PretrainBatch):
    """A batch that brings the teacher's weight in ITC along: in MLM it may have another."""

    alpha: float = 0.0


class Variant(Pretrain):
    """Pretraining as a row has it."""

    def __init__(self, row: Row, *args: Any, **more: Any):
        super().__init__(*args, itc=even_itc_loss if row.even else None, **more)
        self.row = row

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws) -> tuple[dict[str, Tensor], Carry]:
        match = batch.match if self.row.truth else None
        taught = Taught(**vars(batch) | {"match": match, "alpha": alpha if "itc" in self.row.teach else 0.0})
        losses, carry = super().forward(taught, alpha if "mlm" in self.row.teach else 0.0, draws)
        return {name: loss for name, loss in losses.items() if name not in self.row.without}, carry

    def align(self, image, text, teacher_features, carry, batch, alpha, queued):
        return super().align(image, text, teacher_features, carry, batch, batch.alpha, queued)


def even_itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor) -> Tensor:
    """ITC with a share alpha of its targets spread over all keys evenly: label smoothing."""
    return itc_loss(sim, torch.zeros_like(teacher_sim), alpha, positive)


class Looking:
    """Batches of a row; before some of the steps it looks at what the task can do, and notes it in the folder."""

    def __init__(self, row: Row, task: Variant, tokenizer: Tokenizer, folder: Path):
        self.task, self.tokenizer, self.path, self.seconds = task, tokenizer, folder / "looks.jsonl", 0.0
        self.batches = SceneBatches(task.config, tokenizer)
        for scenes in (self.batches.before, self.batches.lesson, self.batches.after):
            scenes.noise = row.noise

    def __call__(self, step: int) -> PretrainBatch:
        if step and step % -(-self.task.config.steps // LOOKS) == 0:
            self.look(step)
        return self.batches(step)

    def look(self, step: int) -> None:
        clock = time.process_time()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(look(self.task, self.tokenizer, self.batches.before, step)) + "\n")
        self.seconds += time.process_time() - clock

    def read(self) -> list[dict]:
        """What was seen, by step; a resumed run may have looked twice."""
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        return list({one["step"]: one for one in lines}.values())


def train_row(name: str, seed: int, samples: int, folder: Path, tasks: bool = False) -> dict:
    """Train a row from the shipped warm start of the image encoder, all else new, and ask it: -> its record.

    tasks: fine-tune for the five tasks, too, with and without distillation
    """
    row = ROWS[name]
    changes = row.changes | dict(seed=seed, epoch=round(samples / row.changes.get("epochs", 1.0)), warm_steps=0)
    task, tokenizer, config = pretrain.begin(preset("tiny", save_every=100, **changes),
                                             make=lambda *args, **more: Variant(row, *args, **more))
    if row.warm:
        start = load(data_folder() / "tiny" / "start").model.image_encoder
        task.student.image_encoder.load_state_dict(start.state_dict())
    task.teacher = make_teacher(task.student)
    if row.even:                                 # of MLM's targets
        task.teacher.word_logits = lambda fused: fused.new_zeros(*fused.shape[:-1], config.vocab_size)
    batches, clock = Looking(row, task, tokenizer, folder), time.process_time()
    done = int(rows[-1]["step"]) if (rows := read_metrics(folder)) else 0
    train.fit(task, batches, config, folder, quiet=True)
    seconds = (time.process_time() - clock - batches.seconds) / max(1, config.steps - done) * config.steps
    batches.look(config.steps)
    vars(task.teacher).pop("word_logits", None)
    record = {"row": name, "seed": seed, "samples": samples, "steps": config.steps, "cpu_seconds": round(seconds, 1),
              "changes": changes | {part: value for part, value in asdict(row).items() if part not in
                                    ("about", "group", "changes", "samples")},
              "date": now(), "device": describe_device(), "commit": commit(), "looks": batches.read(),
              "outcomes": outcomes(Run(task.student.eval(), tokenizer, config, folder)),
              "teacher_outcomes": outcomes(Run(task.teacher, tokenizer, config, folder))}
    if tasks:
        record["tasks"], record["tasks_distilled"] = (
            outcomes_of_tasks(task, tokenizer, folder / f"tasks{alpha}", alpha) for alpha in (0.0, 0.4))
    return record


def work(name: str, seed: int, samples: int, folder: Path, tasks: bool) -> None:
    """What a process does; it stops, as on SIGTERM, when the one that started it is gone."""
    def follow():
        wait([multiprocessing.parent_process().sentinel])
        signal.raise_signal(signal.SIGTERM)
    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        text = json.dumps(train_row(name, seed, samples, folder, tasks))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    write_atomically(folder / "result.json", lambda path: path.write_text(text, encoding="utf-8"))


def read(out: Path) -> list[dict]:
    """The records of a file of results, one a line. Raises ValueError for one that is damaged."""
    lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    with explain(f"{out} is damaged", "remove the line, and its run is trained again", ValueError):
        return [json.loads(line) for line in lines]


def cost(records: Iterable[dict], row: str) -> float | None:
    """Mean CPU seconds of a sample, of the runs there are; None without any."""
    found = [one["cpu_seconds"] / one["samples"] for one in records if one["row"] == row]
    return statistics.mean(found) if found else None


def todo(names: Iterable[str], seeds: int, share: float, equal: bool, records: list[dict],
         tasks: bool) -> list[tuple[str, int, int]]:
    """Runs that are missing: row, seed and samples; seed by seed, so that a broken-off night has whole rows.

    equal: as many samples as take the CPU seconds of the row's base. Raises ValueError where those aren't measured yet.
    """
    wanted = []
    for name in rows_of(names):
        row = ROWS[name]
        samples, base = share * row.samples, BASES[row.group]
        if equal:
            own, other = cost(records, name), cost(records, base)
            if own is None or other is None:
                raise ValueError(f"--equal needs the CPU seconds of {name} and of {base}: run both without it first")
            samples = share * ROWS[base].samples * other / own
        wanted.append((name, max(64, int(samples) // 64 * 64)))
    there = {(one["row"], one["seed"], one["samples"]) for one in records if not tasks or "tasks" in one}
    return [(name, seed, samples) for seed in range(seeds) for name, samples in wanted
            if (name, seed, samples) not in there]


def plan(runs: list[tuple[str, int, int]], records: list[dict], processes: int) -> str:
    """How long the missing runs will take, in their order."""
    seconds = [samples * (cost(records, name) or CPU_SECONDS / 64) for name, _, samples in runs]
    lines, total = [], 0.0
    for (name, seed, samples), one in zip(runs, seconds):
        total += one
        lines.append(f"{name:20} seed {seed} {samples:8,} samples {one:6.0f} CPU s {total / 3600 / processes:6.1f} h")
    return "\n".join([*lines, f"{len(runs)} runs, {total / 3600:.1f} CPU hours of training in {processes} processes"])


def ablate(runs: list[tuple[str, int, int]], folder: Path, out: Path, processes: int, tasks: bool = False,
           quiet: bool = False, work: Callable[..., None] = work) -> None:
    """Train the runs, so many at a time, each in a process of one thread; append each record to `out` when it's there.

    work: what a process does
    Raises train.Stopped after Ctrl-C or SIGTERM: the runs are saved, and the same call goes on. Raises SystemExit where
    a run failed; the others are finished first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    spawn, waiting, failed = multiprocessing.get_context("spawn"), list(runs), []
    running: dict[Any, tuple[str, int, int]] = {}
    def place(run: tuple[str, int, int]) -> Path:
        return folder / "-".join(map(str, run))
    def steps(run: tuple[str, int, int]) -> int:
        rows = read_metrics(place(run))
        return int(rows[-1]["step"]) if rows else 0
    done = 0
    with train.catch_signals() as stopped, progress(None, "ablation", quiet, total=sum(run[2] // 64 for run in runs),
                                                    unit="step") as bar:
        while (waiting or running) and not stopped:
            while waiting and len(running) < processes:
                run = waiting.pop(0)
                process = spawn.Process(target=work, args=(*run, place(run), tasks))
                process.start()
                running[process] = run
            time.sleep(0.5)
            for process, run in list(running.items()):
                if process.is_alive():
                    continue
                del running[process]
                if (result := place(run) / "result.json").exists():
                    with out.open("a", encoding="utf-8") as file:
                        file.write(result.read_text(encoding="utf-8") + "\n")
                    shutil.rmtree(place(run))
                elif not stopped:
                    failed.append(run)
                    LOG.error(f"{run[0]}, seed {run[1]}, failed with status {process.exitcode}; the others go on")
                done += run[2] // 64
            bar.update(done + sum(map(steps, running.values())) - bar.n)
        for process in running:
            process.terminate()
        for process in running:
            process.join(GRACE)
    if stopped:
        raise train.Stopped(f"stopped with {len(waiting) + len(running)} runs left; the same command goes on")
    if failed:
        raise SystemExit(1)
