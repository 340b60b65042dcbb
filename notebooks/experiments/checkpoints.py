"""Weights through training: `python notebooks/experiments/checkpoints.py tiny --seed 4 1`.

Pretrains recipes with seeds, one after the other, in one process of one thread, and keeps the
student's weights at evenly spaced steps, in folders that `minalbef.load` reads:

runs/checkpoints/tiny-4              the run, whose weights are those of an ordinary run
runs/checkpoints/tiny-4/start        before the first step, after the warm start
runs/checkpoints/tiny-4/step_0190    after 190 steps, and so on

A run of `tiny` takes some ten minutes of a core. The same command goes on with a run that was
stopped. Weights aren't stored in the repository; their hashes are, in checkpoints.json beside this
file, of each device that made them: the same processor and torch give the same bits, another
processor may round otherwise. A run's hashes are compared with those that are there.
"""
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from minalbef.cli.main import run_script
from minalbef.config import Config
from minalbef.presets import preset
from minalbef.pretrain import Draws, Keys
from minalbef.recipes.pretrain import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.pretrain import FastScenePretrain
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer
from results import write_json
from second import SECOND

PATH = Path(__file__).with_suffix(".json")
FOLDER = Path("runs/checkpoints")
# by name, what differs from the preset tiny
RECIPES: dict[str, dict[str, Any]] = {"tiny": {}, "tiny-paper": {"siblings": 0.0}, "second": SECOND}


class Watched(FastScenePretrain):
    """Pretraining on scenes that writes the student's weights after some of its steps."""

    def __init__(self, config: Config, folder: Path, steps: list[int], **options: Any):
        """folder: the run's; steps: after which to write"""
        super().__init__(config, **options)
        self.folder = folder
        self.steps = steps
        self.done = 0                                    # steps, from the next one's draws on

    def draws(self, step: int) -> Draws:
        """See Pretrain.draws; also notes the step."""
        self.done = step + 1
        return super().draws(step)

    def after_step(self, carry: Keys) -> None:
        """See Pretrain.after_step; then the student's weights are this step's."""
        super().after_step(carry)
        if self.done in self.steps:
            checkpoint.save(step_folder(self.folder, self.done), self.student,
                            Tokenizer.load(self.folder / "tokenizer.json"))


def step_folder(folder: Path, step: int) -> Path:
    """Where a run's weights after a step are."""
    return folder / f"step_{step:04}"


def spaced_steps(config: Config, count: int) -> list[int]:
    """`count` evenly spaced steps of a run, of which the last is its end."""
    return [round(config.steps * i / count) for i in range(1, count + 1)]


def watch(recipe: str, seed: int, count: int, folder: Path) -> dict[str, str]:
    """Pretrain with `count` checkpoints: -> the weights' hashes by folder within the run's.

    Raises ValueError for a finished run that lacks one of them.
    """
    config = preset("tiny", **RECIPES[recipe], seed=seed)
    steps = spaced_steps(config, count)
    pretrain(config, folder, quiet=True, make=partial(Watched, folder=folder, steps=steps))
    parts = [folder / "start", *map(partial(step_folder, folder), steps)]
    if missing := [part.name for part in parts if not part.exists()]:
        raise ValueError(f"{folder} is a finished run without {missing[0]}; remove the folder and "
                         "call this again, or take as many checkpoints as it has")
    return {part.name: checkpoint.digest_of(checkpoint.read_run(part)[3]) for part in parts}


def compare(name: str, hashes: dict[str, str], record: dict[str, Any]) -> str:
    """Whether a run's hashes are those of a record, in the folders that both have, in words."""
    both = hashes.keys() & record["hashes"].keys()
    differing = sorted(part for part in both if hashes[part] != record["hashes"][part])
    outcome = "all are the same"
    if differing:
        outcome = f"and {differing[0]} and {len(differing) - 1} more differ"
    return (f"{name}: {len(both)} of {len(hashes)} hashes are in {PATH.name}, {outcome}; made with "
            f"{record['device']}")


def note(out: Path, name: str, hashes: dict[str, str]) -> None:
    """Compare a run's hashes with the records of it, and add one where none is of this device."""
    stored = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    records = stored.setdefault(name, [])
    for record in records:
        print(compare(name, hashes, record), flush=True)
    if any(record["device"] == describe_device() for record in records):
        return
    records.append({
        "command": shlex.join(["python", *sys.argv]), "date": now(),
        "device": describe_device(), "commit": commit(), "hashes": hashes,
    })
    write_json(out, stored)
    print(f"{name}: {len(hashes)} hashes written to {out}", flush=True)


def main(recipes: Annotated[tuple[Literal["tiny", "tiny-paper", "second"], ...],
                            tyro.conf.Positional] = ("tiny",), /, seed: tuple[int, ...] = (4,),
         number: int = 10, folder: Path = FOLDER, out: Path = PATH) -> None:
    """Pretrain recipes with seeds, keep checkpoints, and note or compare their hashes.

    Args:
        recipes: tiny, tiny-paper without minimal pairs, second as tiny was before
        seed: one or more, of each recipe; 4 is the shipped tiny's, 1 the shipped tiny-paper's
        number: of checkpoints of a run, evenly spaced
        folder: for the runs
        out: the file of hashes
    """
    torch.set_num_threads(1)
    for recipe in recipes:
        for run_seed in seed:
            name = f"{recipe}-{run_seed}"
            note(out, name, watch(recipe, run_seed, number, folder / name))


if __name__ == "__main__":
    run_script(main)
