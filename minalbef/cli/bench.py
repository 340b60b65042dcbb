"""`minalbef bench` on the command line: its flags, and what they call."""
from typing import Annotated, Any

import tyro

from minalbef.cli.limits import checked
from minalbef.cli.train import Changes


@checked
def step(what: str = "tiny", changes: Changes = (), /, steps: int = 10,
         full_texts: bool = False) -> None:
    """Take training steps of a preset or run here: samples a second, memory, hours, FLOPs.

    Data are made up, except embedded scenes. Peak memory is the GPU's, or the process's on a CPU.
    FLOPs are those of matrix products, a multiply-add is two; each layer counts once. The hours
    leave out loading of images, validation and a warm start. In several processes, torchrun -m --
    minalbef bench step, FLOPs by part and by second are one process's.

    Args:
        what: a preset, such as tiny, base or vqa; or a run folder
        changes: options to change, such as batch=64 precision=bf16 checkpointing=true device=cpu
        steps: how many to time, spread over the run
        full_texts: all captions have text_length, to compare with another implementation
    """
    from minalbef.bench.step import find_recipe, measure_step, show
    from minalbef.system import distributed
    figures = measure_step(*find_recipe(what, changes), steps, full_texts)
    if distributed.rank() == 0:
        show(figures)
    distributed.leave()


@checked
def data(sizes: tuple[int, ...] = (48, 64), photo: int = 256, number: int = 2000) -> None:
    """What one core loads per second: scenes, drawn and painted; JPEGs, resized or augmented.

    The JPEGs have 640 x 480 pixels.

    Args:
        sizes: of the scenes, in pixels
        photo: side to which a JPEG is resized
        number: how many scenes; of JPEGs a tenth
    """
    import torch

    from minalbef.bench.loading import measure_loading
    from minalbef.bench.step import show
    torch.set_num_threads(1)                     # as in a loader's worker
    show(measure_loading(sizes, photo, number))


BENCHES = {"bench step": step, "bench data": data}
Benches = (Annotated[Any, tyro.conf.subcommand("step", constructor=step)]
           | Annotated[Any, tyro.conf.subcommand("data", constructor=data)])


def bench(what: Annotated[Benches, tyro.conf.arg(name="")]) -> None:
    """Measure how fast a step and loading are."""
