"""FLOPs and memory of a pretraining step, counted from the config; nothing is run."""
import re
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from minalbef.albef import ALBEF
from minalbef.config import Config


@dataclass(frozen=True)
class Cost:
    """A forward pass: its FLOPs, and how many numbers it keeps for the backward pass.

    low: in the precision of the matmuls; full: in fp32; dropped: dropout masks; inputs: what checkpointing would keep
    """

    flops: float = 0
    low: float = 0
    full: float = 0
    dropped: float = 0
    inputs: float = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(a + b for a, b in zip(vars(self).values(), vars(other).values())))

    def __mul__(self, times: float) -> "Cost":
        return Cost(*(a * times for a in vars(self).values()))


def attention(rows: float, n: int, keys: int, width: int, heads: int, plain: bool) -> Cost:
    """Each row's n queries over its keys, with query and output projections. plain: attention weights are kept, too."""
    kept = rows * heads * n * keys if plain else 0
    return Cost(rows * n * width * (4 * width + 4 * keys), 2 * rows * n * width + 2 * kept, 0, kept)


def mlp(tokens: float, width: int, hidden: int) -> Cost:
    """Keeps its input, and the hidden layer before and after the GELU."""
    return Cost(4 * tokens * width * hidden, tokens * (width + 2 * hidden))


def keys_values(tokens: float, width: int, source: int) -> Cost:
    """The projections of keys and values; both are kept."""
    return Cost(4 * tokens * source * width, 2 * tokens * width)


def stem(config: Config, b: float) -> Cost:
    """Pixels to tokens, by patches or convolutions; keeps the image."""
    width, patch, side = config.image_width, config.patch_size, config.image_size
    if config.stem == "patch":
        return Cost(2 * b * config.grid ** 2 * 3 * patch ** 2 * width, 3 * b * side ** 2)
    halvings, total = patch.bit_length() - 1, Cost(0, 3 * b * side ** 2)
    sizes = [3] + [width * (i + 1) // halvings for i in range(halvings)]
    for i, (a, out) in enumerate(zip(sizes, sizes[1:])):
        places = b * (side >> i + 1) ** 2
        total += Cost(18 * places * a * out, places * out)
    return total + Cost(36 * places * width * width, 3 * places * width)


def image_encoder(config: Config, b: float, half: bool) -> Cost:
    """The pre-norm ViT. half: bf16 matmuls, for which queries, keys and values each keep a bf16 copy of their input."""
    n, d = 1 + config.grid ** 2, config.image_width
    layer = (attention(b, n, n, d, config.image_heads, False) + keys_values(b * n, d, d)
             + mlp(b * n, d, int(d * config.image_mlp_ratio))
             + Cost(0, (3 if half else 1) * b * n * d, 2 * b * n * d, 0, b * n * d))
    return stem(config, b) + layer * config.image_depth + Cost(0, 0, 2 * b * n * d)


def post_norm(tokens: float, width: int, copies: int) -> Cost:
    """The dropout mask, the LayerNorm's input, and `copies` of its output."""
    return Cost(0, copies * tokens * width, tokens * width, tokens * width)


def text_encoder(config: Config, rows: float, plain: bool, half: bool) -> Cost:
    length, d = config.text_length, config.text_width
    words = rows * length
    layer = (attention(rows, length, length, d, config.text_heads, plain) + keys_values(words, d, d)
             + mlp(words, d, int(d * config.text_mlp_ratio)) + post_norm(words, d, 3 if half else 1)
             + post_norm(words, d, 0) + Cost(inputs=words * d))
    return layer * config.text_depth + post_norm(words, d, 0)


def fusion(config: Config, texts: float, pairs: float, queries: int | None, plain: bool, half: bool) -> Cost:
    """The first layer's self-attention runs once a text, not once a pair; the last layer has `queries` rows alone."""
    length, d, n, total = config.text_length, config.text_width, config.grid ** 2 + config.fuse_cls, Cost()
    for i in range(config.fusion_depth):
        rows, asking = pairs if i else texts, queries if queries and i == config.fusion_depth - 1 else length
        total += (attention(rows, asking, length, d, config.text_heads, plain) + keys_values(rows * length, d, d)
                  + post_norm(rows * asking, d, 1)
                  + Cost(0, (3 if half else 1) * rows * length * d, 0, 0, rows * length * d)
                  + attention(pairs, asking, n, d, config.text_heads, plain) + Cost(0, 2 * pairs * n * d)
                  + mlp(pairs * asking, d, int(d * config.text_mlp_ratio)) + post_norm(pairs * asking, d, 0) * 2)
    return total


def word_head(config: Config, words: float) -> Cost:
    """The MLM head, at masked tokens only."""
    d, v = config.text_width, config.vocab_size
    return Cost(2 * words * d * (d + v), 4 * words * d)


def image_offer(config: Config, b: float) -> Cost:
    """Cross-attention's keys and values in every fusion layer, once an image."""
    tokens = b * (config.grid ** 2 + config.fuse_cls)
    return keys_values(tokens, config.text_width, config.image_width) * config.fusion_depth


def step_flops(config: Config, b: float, gpus: int = 1, checkpointing: bool = False) -> float:
    """FLOPs of a full training step on one GPU with b rows, the teacher's too; a multiply-add is two.

    checkpointing: count the layers recomputed in the backward pass, too
    """
    words, keys = config.mask_rate * b * (config.text_length - 1), b * gpus + config.queue_size
    image, text, far = image_encoder(config, b, False), text_encoder(config, b, False, False), row_factor(config, gpus)
    fused, pairs = fusion(config, b, b, None, False, False).flops, fusion(config, far * b, 3 * b, 1, False, False).flops
    offer, head, similar = image_offer(config, b).flops, word_head(config, words).flops, 4 * b * keys * config.embed_dim
    layers = image.flops + 2 * text.flops + pairs + fused
    student = 3 * (layers + far * offer + head) - stem(config, b).flops / 3 + 2 * similar
    if checkpointing:
        student += layers
    teacher = image.flops + text.flops + similar + (text.flops + offer + fused + head if config.alpha else 0)
    return student + teacher


def row_factor(config: Config, gpus: int) -> int:
    """How many times its own rows a rank fuses: twice where hard negatives come from other ranks."""
    return 2 if gpus > 1 and config.hard_negatives == "global" else 1


def kept_bytes(config: Config, b: float, half: bool, plain: bool, gpus: int = 1,
               checkpointing: bool = False) -> tuple[float, float]:
    """Bytes that a forward pass on b rows keeps for the backward pass: -> of the image encoder, of all else.

    half: bf16 matmuls. plain: attention with dropout keeps its weights, and dropout masks take four bytes, as on a CPU;
    a GPU's fused attention keeps none, and masks take one. checkpointing: layers keep their inputs; one is recomputed
    """
    words, keys = config.mask_rate * b * (config.text_length - 1), b * gpus + config.queue_size
    far, plain = row_factor(config, gpus), plain and config.dropout > 0          # without dropout a CPU's is fused, too
    mask_bytes = (4 if plain else 1) if config.dropout > 0 else 0
    def size(cost: Cost) -> float:
        return cost.low * (2 if half else 4) + cost.full * 4 + cost.dropped * mask_bytes
    parts = [(image_encoder(config, b, half), config.image_depth),
             (text_encoder(config, 2 * b, plain, half), config.text_depth),
             (fusion(config, far * b, 3 * b, 1, plain, half), config.fusion_depth),
             (fusion(config, b, b, None, plain, half), config.fusion_depth)]
    image, *others = [4 * part.inputs if checkpointing else size(part) for part, _ in parts]
    if checkpointing:
        others.append(max(size(part) / depth for part, depth in parts if depth))
    others += [size(image_offer(config, far * b)), size(word_head(config, words)),
               4 * 5 * words * config.vocab_size,                                # two models' logits, three softmaxes
               size(Cost(0, 2 * b * keys + 2 * keys * config.embed_dim, 4 * b * keys))]         # similarities, and keys
    if far > 1:                                                                  # the tokens gathered from all ranks
        image_row, text_row = (1 + config.grid ** 2) * config.image_width, config.text_length * config.text_width
        others.append(4 * (gpus + 2) * b * (image_row + text_row))
    return image, sum(others)


@lru_cache(maxsize=64)
def count_parameters(config: Config) -> tuple[int, int]:
    """Trainable parameters of the student -> in all, of its image encoder."""
    with torch.device("meta"):
        model = ALBEF(config)
    return tuple(sum(p.numel() for p in part.parameters()) for part in (model, model.image_encoder))


def memory_bytes(config: Config, b: float, half: bool = True, plain: bool = False, gpus: int = 1, accumulate: int = 1,
                 checkpointing: bool = False) -> dict[str, float]:
    """Bytes that a rank needs for passes of b rows, by purpose; "all" is the peak, which is less than their sum."""
    (count, image_count), table = count_parameters(config), 4 * config.vocab_size * config.text_width
    image, rest = kept_bytes(config, b, half, plain, gpus, checkpointing)
    if half:
        rest += 4 * count                                                        # bf16 weights, the teacher's too
    parts = {"weights and teacher": 8 * count, "optimiser": 8 * count, "gradients": 4 * count * (2 if gpus > 1 else 1),
             "queue": config.queue_size * (8 * config.embed_dim + 8), "activations": image + rest}
    # gradients grow as activations are freed; the tied word embedding has two gradients until they are summed
    moments = [table + image + rest, 4 * (count - image_count) + table + image, 4 * count]
    if accumulate > 1:                                                           # gradients stay from the pass before
        moments = [4 * count + table + image + rest]
    held = parts["weights and teacher"] + parts["optimiser"] + parts["queue"]
    if gpus > 1:
        held += 4 * count                                                        # DDP's buckets
    return parts | {"all": held + max(moments)}


def peak_memory() -> float | None:
    """This process's peak memory in MB; None where the system doesn't report it."""
    status = Path("/proc/self/status")           # not getrusage, whose figure a child inherits from its parent process
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"), re.MULTILINE)):
        return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def matmul_peak(device: str = "cpu", size: int = 2048, repeats: int = 10) -> tuple[float, float]:
    """The best GFLOP/s of some fp32 products of two square matrices: by wall clock, and by CPU time."""
    a, b, spent = torch.randn(size, size, device=device), torch.randn(size, size, device=device), []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        (a @ b)[0, 0].item()                         # .item() waits for the device
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return tuple(2 * size ** 3 / 1e9 / min(times) for times in zip(*spent))
