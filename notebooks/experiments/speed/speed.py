"""The speed board: how soon a recipe reaches the target; its rules are in README.md.

`python notebooks/experiments/speed/speed.py NAME --what "what is new" [FIELD=VALUE ...]`
"""
import itertools
import json
import logging
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minalbef import train
from minalbef.bench.step import count_flops
from minalbef.cli.main import run_script
from minalbef.cli.train import Changes
from minalbef.config import Config
from minalbef.fast import loop
from minalbef.recipes import launch
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.pretrain import begin, settings
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.warm_start import LabelBatches, WarmStart
from minalbef.system.metrics import read_metrics

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn import summarise  # noqa: E402
from results import flatten, write_json, write_tables  # noqa: E402
from train_task import find_task  # noqa: E402

LOG = logging.getLogger("minalbef")
FOLDER = Path(__file__).parent
RECORDS = FOLDER / "records"
TRAIN_TASK = FOLDER / "train_task.py"
# means over seeds: at least so much, and at most
LEAST = {"plain.rerank_plus_i2t_r1": 0.94, "plain.rerank_plus_t2i_r1": 0.94,
         "families.rerank_i2t_r1": 0.85, "families.rerank_t2i_r1": 0.90,
         "itm_one_change_accuracy.relation": 0.97}
MOST = {"itm_accepted.other_direction": 0.10}
LOGGED = 10                            # of a run's rows of losses, every tenth is in the record
COUNTED = 25                           # steps whose FLOPs are counted, spread over the run
SURE = 0.01                            # a new record beats the last one with a smaller p


def train_seed(preset: str, changes: tuple[str, ...], seed: int, folder: Path, processes: int,
               task: str = "scenes") -> dict:
    """Train a seed from nothing, warm start included: -> its wall and CPU seconds, and figures.

    task: see train_task.py. A seed that has been timed isn't trained again; a run that was broken
    off is, from the start.
    """
    timed = folder / f"seed{seed}.json"
    if timed.exists():
        return json.loads(timed.read_text(encoding="utf-8"))
    run = folder / f"seed{seed}"
    if run.exists():
        raise ValueError(f"{run} was begun and not timed to its end: remove it, and call again")
    words = [*changes, f"seed={seed}", "--preset", preset, "--run", str(run)]
    clock = time.perf_counter()
    before = cpu_seconds()
    command, status = call_training(task, words, processes)
    if status:
        raise SystemExit(status)
    seconds = {"wall": time.perf_counter() - clock, "cpu": cpu_seconds() - before}
    report = evaluate(run, None, run, command, seed=1000 + seed)
    result = {"seed": seed, **seconds, "figures": flatten(report), "config": report["config"],
              "log": read_metrics(run)[::LOGGED]}
    write_json(timed, result)
    return result


def call_training(task: str, words: list[str], processes: int) -> tuple[str, int]:
    """Train by a command of its own: -> the command, and its exit status."""
    if task == "scenes":
        words = ["pretrain", *words, "--quiet"]
        return shlex.join(["minalbef", *words]), launch.launch(words, processes)
    words = [str(TRAIN_TASK), task, *words]
    environment = {**launch.ENVIRONMENT, **os.environ}
    status = subprocess.run([sys.executable, *words], env=environment).returncode
    return shlex.join(["python", *words]), status


def cpu_seconds() -> float:
    """What processes that this one started, and that have ended, took of all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_flops(config: Config, task: str = "scenes") -> float:
    """FLOPs of the products of a whole run, from steps of each phase with untrained weights."""
    pretraining, tokenizer, config = begin(replace(config, device="cpu"), make=find_task(task))
    flops = step_flops(pretraining, SceneBatches(config, tokenizer), config)
    if config.warm_steps:
        warm = replace(config, batch=config.warm_batch, epochs=1.0, accumulate=1,
                       epoch=config.warm_steps * config.warm_batch)
        batches = LabelBatches(warm)
        flops += step_flops(WarmStart(warm, len(batches.classes)), batches, warm)
    return flops


def step_flops(task: Any, batches: Callable[[int], Any], config: Config) -> float:
    """FLOPs of all steps of a task, Muon's products included, from COUNTED of them."""
    task.train()
    optimiser = train.choose_optimiser(task, config)
    steps = range(0, config.steps, max(1, config.steps // COUNTED))
    total = 0.0
    for step in steps:
        with count_flops() as counter:
            loop.backward(task, task, batches(step), train.alpha_at(step, config),
                           task.draws(step), config, torch.device("cpu"))
            optimiser.step()
        task.zero_grad()
        total += counter.get_total_flops()
    return total / len(steps) * config.steps


def name_missed(figures: dict[str, dict[str, float]]) -> list[str]:
    """What of the target the means of a record miss, in words. figures: of `summarise`."""
    missed = []
    for name, least in LEAST.items():
        mean = figures[name]["mean"]
        if mean < least:
            missed.append(f"{name} {mean:.3f}, not {least}")
    for name, most in MOST.items():
        mean = figures[name]["mean"]
        if mean > most:
            missed.append(f"{name} {mean:.3f}, not at most {most}")
    return missed


def chance_of(new: list[float], old: list[float]) -> float:
    """The one-sided p of an exact permutation test: that the new seconds are no fewer than the old."""
    values = new + old
    observed = sum(new)
    as_fast = total = 0
    for subset in itertools.combinations(values, len(new)):
        total += 1
        as_fast += sum(subset) <= observed + 1e-9
    return as_fast / total


def read_records() -> list[dict]:
    """The board, oldest first."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RECORDS.glob("*.json")]
    return sorted(records, key=lambda record: record["date"])


def table(records: list[dict]) -> str:
    """The board in Markdown."""
    lines = ["| date | commit | what is new | n | CPU s | wall s | TFLOP | target |",
             "|---|---|---|---|---|---|---|---|"]
    for record in records:
        missed = "reached" if not record["missed"] else "missed: " + "; ".join(record["missed"])
        cells = (record["date"][:10], record["commit"][:7],
                 f"[{record['what']}](records/{record['name']}.json)", record["n"],
                 round(record["cpu"]), round(record["wall"]), round(record["flops"] / 1e12), missed)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main(name: str, changes: Changes = (), /, what: str = "", preset: str = "tiny", seeds: int = 5,
         only: tuple[int, ...] = (), run: Path = Path("runs/speed"), processes: int = 1,
         task: str = "scenes") -> None:
    """Train a recipe over seeds, and write a record and the board.

    Args:
        name: of the record's file
        changes: options of the preset to change
        what: what is new, in a few words for the board
        preset: where to start
        seeds: how many, from 0; a record has five or more
        only: train these and write no record, so that two shells can share the seeds
        run: the folder for the runs, one below it for each name
        processes: how many to train in
        task: of train_task.py, in one process
    """
    config = settings(preset, changes)               # refuse a wrong option before anything starts
    find_task(task)
    if task != "scenes" and processes > 1:
        raise ValueError(f"--task {task} trains in one process, not in {processes}; leave out "
                         "--processes")
    if not what:
        raise ValueError('--what "..." must say what is new: it stands on the board')
    trained = []
    for seed in only or range(seeds):
        trained.append(train_seed(preset, changes, seed, run / name, processes, task))
    if only:
        return
    figures = summarise([each["figures"] for each in trained])
    record = {
        "name": name, "what": what, "command": shlex.join(["python", *sys.argv]),
        "date": now(), "commit": commit(), "device": describe_device(), "n": seeds,
        "processes": processes, "task": task, "flops": run_flops(config, task),
        "wall": round(statistics.mean(each["wall"] for each in trained), 1),
        "cpu": round(statistics.mean(each["cpu"] for each in trained), 1),
        "missed": name_missed(figures), "figures": figures, "config": trained[0]["config"],
        "seeds": [{part: each[part] for part in ("seed", "wall", "cpu", "log")}
                  for each in trained],
    }
    for earlier in read_records():
        if earlier["device"] == record["device"] and earlier["name"] != name:
            p = chance_of([each["cpu"] for each in record["seeds"]],
                          [each["cpu"] for each in earlier["seeds"]])
            sure = "surely faster" if p < SURE else "not surely faster"
            LOG.info(f"{record['cpu'] / earlier['cpu']:.2f} of {earlier['name']}'s CPU time, "
                     f"p {p:.3f}: {sure}")
    RECORDS.mkdir(exist_ok=True)
    write_json(RECORDS / f"{name}.json", record)
    write_tables(FOLDER / "README.md", board=table(read_records()))
    print(table([record]))


if __name__ == "__main__":
    run_script(main)
