"""Train a record's recipe whose task isn't the scenes' own; speed.py calls this for each seed.

`python notebooks/experiments/speed/train_task.py in-batch seed=1 --run runs/in-batch`
"""
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "after")]

from in_batch import InBatch  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.cli.train import Changes  # noqa: E402
from minalbef.recipes.pretrain import pretrain, settings  # noqa: E402
from minalbef.scenes.pretrain import FastScenePretrain  # noqa: E402
from minalbef.system.limits import nearest  # noqa: E402

TASKS: dict[str, Callable[..., Any]] = {"scenes": FastScenePretrain, "in-batch": InBatch}


def find_task(name: str) -> Callable[..., Any]:
    """A task by name. Raises ValueError for a name that TASKS doesn't have."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}{nearest(name, TASKS)}; there are {', '.join(TASKS)}")
    return TASKS[name]


def main(task: str, changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/record")
         ) -> None:
    """Pretrain on the embedded scenes with another task.

    Args:
        task: a name of TASKS
        changes: options of the preset to change
        preset: where to start
        run: the folder to write
    """
    torch.set_num_threads(1)
    pretrain(settings(preset, changes), run, make=find_task(task), quiet=True)


if __name__ == "__main__":
    run_script(main)
