"""FLOPs and memory of a pretraining step, counted from the config: no weights, nothing is trained.

torch counts the FLOPs, on tensors without data. Memory is added up layer by layer, since such
tensors would not show it: they know neither autocast nor a GPU's fused attention.
"""
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from minalbef.albef import ALBEF
from minalbef.config import Config, ModelConfig

T = TypeVar("T")


class ForwardFlops(NamedTuple):
    """FLOPs of a forward pass through each part, for one row; a multiply-add is two."""

    image: int                        # the image encoder
    stem: int                         # its first part: from pixels to tokens
    text: int                         # the text encoder
    keys_values: int                  # of the image's tokens, for every fusion layer
    match: int                        # fusion of ITM's three pairs, keys and values aside
    predict: int                      # fusion for MLM, likewise
    word_head: int                    # of one masked word


def forward_flops(config: Config, texts: int = 1) -> ForwardFlops:
    """The FLOPs of a config's model.

    texts: how many of them go through fusion's first self-attention for ITM's pairs of a row
    """
    sizes = {item.name: getattr(config, item.name) for item in fields(ModelConfig)}
    return _count_forward(Config(**sizes), texts)


@lru_cache(maxsize=64)
def _count_forward(config: Config, texts: int) -> ForwardFlops:
    """`forward_flops` of a config that has a model's sizes, and defaults in all else."""
    with torch.device("meta"), torch.no_grad():
        model = ALBEF(config).eval()
        image = torch.empty(1, 3, config.image_size, config.image_size)
        tokens = torch.zeros(texts, config.text_length, dtype=torch.long)
        keep = tokens == 0
        rows = torch.zeros(3, dtype=torch.long)
        image_flops, image_tokens = count_flops(lambda: model.encode_image(image))
        stem_flops, _ = count_flops(
            lambda: model.image_encoder.patch_embed(image))              # type: ignore
        text_flops, text = count_flops(lambda: model.encode_text(tokens[:1], keep[:1]))
        keys_values_flops, keys_values = count_flops(lambda: model.fusion.keys_values(image_tokens))
        match_flops, _ = count_flops(lambda: model.fuse(
            text.expand(texts, -1, -1), keep, None, pairs=(rows, rows), queries=1,
            keys_values=keys_values))
        predict_flops, words = count_flops(lambda: model.fuse(
            text, keep[:1], None, keys_values=keys_values))
        word_flops, _ = count_flops(lambda: model.word_logits(words[:, 0]))
    return ForwardFlops(image_flops, stem_flops, text_flops, keys_values_flops, match_flops,
                        predict_flops, word_flops)


def count_flops(call: Callable[[], T]) -> tuple[int, T]:
    """FLOPs of the matrix products of a call, and its result."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def step_flops(config: Config, b: float, gpus: int = 1, checkpointing: bool = False) -> float:
    """FLOPs of a full training step on one GPU with b rows, the teacher's too.

    checkpointing: count the layers recomputed in the backward pass, too
    """
    rows = row_factor(config, gpus)
    row = forward_flops(config, rows)
    words = masked_words(config, 1)
    similarities = 4 * (b * gpus + config.queue_size) * config.embed_dim
    layers = row.image + 2 * row.text + row.match + row.predict
    heads = rows * row.keys_values + words * row.word_head
    # a backward pass costs two forward ones, but the pixels need no gradient
    student = 3 * (layers + heads) - row.stem / 3 + 2 * similarities
    if checkpointing:
        student += layers
    teacher = row.image + row.text + similarities
    if config.alpha:
        teacher += row.text + row.keys_values + row.predict + words * row.word_head
    return b * (student + teacher)


def masked_words(config: Config, b: float) -> float:
    """How many words of b captions are masked on average; [CLS] never is."""
    return config.mask_rate * b * (config.text_length - 1)


def row_factor(config: Config, gpus: int) -> int:
    """How many times its own rows a rank fuses: twice where hard negatives are other ranks'."""
    return 2 if gpus > 1 and config.hard_negatives != "local" else 1


@dataclass(frozen=True)
class Activations:
    """How many numbers a forward pass keeps for the backward pass."""

    low: float = 0                    # in the precision of the matmuls
    full: float = 0                   # in fp32
    dropped: float = 0                # of dropout masks
    inputs: float = 0                 # of layers: all that checkpointing would keep

    def __add__(self, more: "Activations") -> "Activations":
        return Activations(self.low + more.low, self.full + more.full,
                           self.dropped + more.dropped, self.inputs + more.inputs)

    def __mul__(self, times: float) -> "Activations":
        return Activations(self.low * times, self.full * times, self.dropped * times,
                           self.inputs * times)

    def size(self, half: bool, mask_bytes: int) -> float:
        """In bytes. half: matmuls are in bf16."""
        return self.low * (2 if half else 4) + self.full * 4 + self.dropped * mask_bytes


def attention(rows: float, n: int, keys: int, width: int, heads: int, plain: bool) -> Activations:
    """n queries per row over its keys, with query and output projections.

    plain: not fused, so attention weights are kept, too
    """
    weights = rows * heads * n * keys if plain else 0
    return Activations(2 * rows * n * width + 2 * weights, 0, weights)


def mlp(tokens: float, width: int, hidden: int) -> Activations:
    """Keeps its input, and the hidden layer before and after the GELU."""
    return Activations(tokens * (width + 2 * hidden))


def keys_values(tokens: float, width: int) -> Activations:
    """Both projections are kept."""
    return Activations(2 * tokens * width)


def stem(config: Config, b: float) -> Activations:
    """Pixels to tokens, by patches or convolutions; keeps the image."""
    total = Activations(3 * b * config.image_size ** 2)
    if config.stem == "patch":
        return total
    halvings = config.patch_size.bit_length() - 1
    for i in range(1, halvings + 1):
        places = b * (config.image_size >> i) ** 2
        total += Activations(places * (config.image_width * i // halvings))
    return total + Activations(3 * b * config.grid ** 2 * config.image_width)


def image_encoder(config: Config, b: float, half: bool) -> Activations:
    """The pre-norm ViT. In bf16 queries, keys and values each keep a copy of their input."""
    n, d = 1 + config.grid ** 2, config.image_width
    tokens = b * n
    copies = 3 if half else 1
    layer = (attention(b, n, n, d, config.image_heads, False) + keys_values(tokens, d)
             + mlp(tokens, d, int(d * config.image_mlp_ratio))
             + Activations(copies * tokens * d, 2 * tokens * d, 0, tokens * d))
    return stem(config, b) + layer * config.image_depth + Activations(0, 2 * tokens * d)


def post_norm(tokens: float, width: int, copies: int) -> Activations:
    """The dropout mask, the LayerNorm's input, and `copies` of its output."""
    return Activations(copies * tokens * width, tokens * width, tokens * width)


def text_encoder(config: Config, rows: float, plain: bool, half: bool) -> Activations:
    """The post-norm BERT layers; see `kept_bytes` for plain and half."""
    length, d = config.text_length, config.text_width
    words = rows * length
    layer = (attention(rows, length, length, d, config.text_heads, plain) + keys_values(words, d)
             + mlp(words, d, int(d * config.text_mlp_ratio)) + post_norm(words, d, 3 if half else 1)
             + post_norm(words, d, 0) + Activations(inputs=words * d))
    return layer * config.text_depth + post_norm(words, d, 0)


def fusion(config: Config, texts: float, pairs: float, queries: int | None, plain: bool,
           half: bool) -> Activations:
    """Fusion of pairs: the first self-attention is per text, the last layer on `queries` words."""
    length, d = config.text_length, config.text_width
    n = config.grid ** 2 + config.fuse_cls
    copies = 3 if half else 1
    total = Activations()
    for i in range(config.fusion_depth):
        rows = texts if i == 0 else pairs
        words = queries if queries and i == config.fusion_depth - 1 else length
        total += (attention(rows, words, length, d, config.text_heads, plain)
                  + keys_values(rows * length, d) + post_norm(rows * words, d, 1)
                  + Activations(copies * rows * length * d, 0, 0, rows * length * d)
                  + attention(pairs, words, n, d, config.text_heads, plain)
                  + Activations(2 * pairs * n * d)
                  + mlp(pairs * words, d, int(d * config.text_mlp_ratio))
                  + post_norm(pairs * words, d, 0) * 2)
    return total


def kept_bytes(config: Config, b: float, half: bool, plain: bool, gpus: int = 1,
               checkpointing: bool = False) -> tuple[float, float]:
    """Bytes that a forward pass on b rows keeps: -> of the image encoder, of everything else.

    half: bf16 matmuls. plain: as on a CPU, attention with dropout keeps its weights, and dropout
        masks take four bytes; a GPU's fused attention keeps none, and masks take one
    checkpointing: layers keep their inputs; one at a time is recomputed
    """
    plain = plain and config.dropout > 0         # without dropout a CPU's attention is fused, too
    mask_bytes = 0
    if config.dropout > 0:
        mask_bytes = 4 if plain else 1
    rows = row_factor(config, gpus)
    parts = [(image_encoder(config, b, half), config.image_depth),
             (text_encoder(config, 2 * b, plain, half), config.text_depth),
             (fusion(config, rows * b, 3 * b, 1, plain, half), config.fusion_depth),
             (fusion(config, b, b, None, plain, half), config.fusion_depth)]
    if checkpointing:
        image, *rest = [4 * part.inputs for part, _ in parts]
        rest.append(max(part.size(half, mask_bytes) / depth for part, depth in parts if depth))
    else:
        image, *rest = [part.size(half, mask_bytes) for part, _ in parts]
    words = masked_words(config, b)
    image_keys = rows * b * (config.grid ** 2 + config.fuse_cls)
    queue = b * gpus + config.queue_size
    tail = (keys_values(image_keys, config.text_width) * config.fusion_depth
            + Activations(4 * words * config.text_width)                 # the word head
            + Activations(2 * b * queue + 2 * queue * config.embed_dim, 4 * b * queue))
    rest.append(tail.size(half, mask_bytes))
    rest.append(4 * 5 * words * config.vocab_size)     # two models' logits, three softmaxes
    if rows > 1:                                         # the tokens gathered from all ranks
        image_row = (1 + config.grid ** 2) * config.image_width
        text_row = config.text_length * config.text_width
        rest.append(4 * (gpus + 2) * b * (image_row + text_row))
    return image, sum(rest)


@lru_cache(maxsize=64)
def count_parameters(config: Config) -> tuple[int, int]:
    """Trainable parameters of the student: -> in all, of its image encoder."""
    with torch.device("meta"):
        model = ALBEF(config)
    image = sum(p.numel() for p in model.image_encoder.parameters())
    return sum(p.numel() for p in model.parameters()), image


def memory_bytes(config: Config, b: float, half: bool = True, plain: bool = False, gpus: int = 1,
                 accumulate: int = 1, checkpointing: bool = False) -> dict[str, float]:
    """Bytes that a rank needs for micro-batches of b rows, by purpose.

    "all" is the peak, which is less than their sum. half, plain: see `kept_bytes`
    """
    parameters, image_parameters = count_parameters(config)
    table = 4 * config.vocab_size * config.text_width
    image, rest = kept_bytes(config, b, half, plain, gpus, checkpointing)
    if half:
        rest += 4 * parameters                   # bf16 weights, the teacher's too
    buckets = 4 * parameters if gpus > 1 else 0  # DDP's
    weights = 8 * parameters                     # the teacher's too
    moments = 8 * parameters
    queue = config.queue_size * (8 * config.embed_dim + 8)
    if accumulate > 1:                           # gradients stay from the micro-batch before
        peak = 4 * parameters + table + image + rest
    else:
        # gradients grow as activations are freed: at the start of the backward pass, before the
        # image encoder, at its end. The tied word embedding has two until they are summed
        peak = max(table + image + rest,
                   4 * (parameters - image_parameters) + table + image,
                   4 * parameters)
    return {"weights and teacher": weights, "optimiser": moments,
            "gradients": 4 * parameters + buckets, "queue": queue, "activations": image + rest,
            "all": weights + moments + queue + buckets + peak}


def peak_memory() -> float | None:
    """This process's peak memory in MB; None where the system doesn't report it."""
    status = Path("/proc/self/status")           # a child inherits its parent's getrusage
    if status.exists():
        peak = re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:                          # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def matmul_peak(device: str = "cpu", size: int = 2048, repeats: int = 10, half: bool = False
                ) -> tuple[float, float]:
    """The best GFLOP/s of some products of square matrices: by wall clock, by CPU time.

    half: in bf16, or else in fp32 as torch has it: with TF32 where that is switched on
    """
    dtype = torch.bfloat16 if half else torch.float32
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    wall = cpu = float("inf")
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        (a @ b)[0, 0].item()                     # .item() waits for the device
        wall = min(wall, time.perf_counter() - wall_start)
        cpu = min(cpu, time.process_time() - cpu_start)
    gflop = 2 * size ** 3 / 1e9
    return gflop / wall, gflop / cpu
