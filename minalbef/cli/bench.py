"""`minalbef bench` on the command line: its flags, and what they call."""
from typing import Annotated, Any, Literal

import tyro

from minalbef.cli.limits import checked


@checked
def step(image: int = 128, patch: int = 16, width: int = 192, depth: int = 6, text_layers: int = 3,
         fusion_layers: int = 3, heads: int = 3, vocab: int = 2000, batch: int = 16,
         queue: int = 1024, text_length: int = 25, embed_dim: int = 256,
         dtype: Literal["float32", "bfloat16"] = "float32",
         device: str = "cpu", threads: int = 2, steps: int = 20, compile: bool = False,
         checkpointing: bool = False, full_texts: bool = False) -> None:
    """Time, memory and FLOPs of a pretraining step on random data.

    Dropout is 0.1, 15% of words are masked. Texts have 9 to text_length tokens, 12 on average, and
    a batch is padded to its longest. samples_per_second is by wall time. On a CPU the breakdown's
    seconds are process time, as are the peak and the share named by_cpu: other programs affect them
    less. Memory is the process's peak (base: before the model was made), or a GPU's. FLOPs are
    those of matrix products, a multiply-add counted as two, every layer once.
    The share of the peak is that of a large product in dtype. Compiled layers run 20 steps first;
    what is compiled later is listed in faults.

    Args:
        image: side of the images, in pixels
        patch: side of a patch
        width: of all three encoders
        depth: layers of the image encoder
        text_layers: layers of the text encoder
        fusion_layers: layers of the multimodal encoder
        heads: of every attention
        vocab: word pieces
        batch: pairs of image and text
        queue: features kept of either side
        text_length: word pieces of a text, at most
        embed_dim: of the shared space
        dtype: of the products; bfloat16 is autocast
        device: cpu or cuda
        threads: of a CPU
        steps: how many to time, rounded down to a multiple of 5, but 5 at least
        compile: torch.compile for every layer, before timing starts
        checkpointing: activation checkpointing: layers are recomputed in the backward pass
        full_texts: all texts have text_length, to compare with another implementation
    """
    import torch

    from minalbef.bench.step import measure_step, show
    from minalbef.presets import preset
    torch.set_num_threads(threads)
    config = preset(
        "paper-4m", image_size=image, patch_size=patch, image_width=width, image_depth=depth,
        image_heads=heads, text_width=width, text_depth=text_layers, text_heads=heads,
        fusion_depth=fusion_layers, vocab_size=vocab, text_length=text_length, batch=batch,
        queue_size=queue, embed_dim=embed_dim, compile=compile, checkpointing=checkpointing,
        precision={"float32": "fp32", "bfloat16": "bf16"}[dtype])
    show(measure_step(config, device, steps, full_texts))


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
