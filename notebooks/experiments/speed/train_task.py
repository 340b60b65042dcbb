"""Train a record's recipe whose task isn't the scenes' own; speed.py calls this for each seed.

`python notebooks/experiments/speed/train_task.py lean seed=1 --run runs/lean`
"""
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "after")]

from in_batch import InBatch  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.cli.train import Changes  # noqa: E402
from minalbef.config import nearest  # noqa: E402
from minalbef.recipes.pretrain import pretrain, settings  # noqa: E402
from minalbef.scenes.pretrain import ScenePretrain  # noqa: E402
from minalbef.tasks.pretrain import Carry, Draws, PretrainBatch  # noqa: E402


class Lean(InBatch):
    """No teacher and no queue, and the stem learns from every second row.

    All rows pass the stem; half of them leave no graph behind, which spares their backward pass.
    """

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws
                ) -> tuple[dict[str, Tensor], Carry]:
        """See Pretrain.forward."""
        encoder: Any = self.student.image_encoder
        image = batch.image.to(self.student.image_proj.weight.dtype)
        patches = embed_half_taught(encoder.patch_embed, image)
        phase = self.phase(draws.step)._replace(queue=False)
        return self.within_batch(batch, draws, phase, patches)


def embed_half_taught(stem: nn.Module, image: Tensor) -> Tensor:
    """An image's patches, (b, 3, s, s) -> (b, n, d); the stem learns from rows 0, 2, 4 and so on.

    Siblings are rows 2i and 2i + 1, so of each pair it learns from one.
    """
    taught = stem(image[::2])
    with torch.no_grad():
        others = stem(image[1::2])
    patches = taught.new_empty(len(image), *taught.shape[1:])
    patches[::2], patches[1::2] = taught, others
    return patches


TASKS: dict[str, Callable[..., Any]] = {"scenes": ScenePretrain, "in-batch": InBatch, "lean": Lean}


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
