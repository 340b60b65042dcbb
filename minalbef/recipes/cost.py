"""What a pretraining step computes and keeps in memory, counted from the config; nothing is run."""
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
    """Of a pass forward: its FLOPs, and how many numbers it keeps for the way back.

    low: in the precision of the products; full: in fp32; dropped: masks of dropout; inputs: what checkpointing would keep
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
    """Every row's n queries over its keys, with the projections of query and output. plain: the weights are kept, too."""
    kept = rows * heads * n * keys * plain
    return Cost(rows * n * width * (4 * width + 4 * keys), 2 * rows * n * width + 2 * kept, 0, kept)


def mlp(tokens: float, width: int, hidden: int) -> Cost:
    """Keeps what it reads, and the hidden numbers on both sides of the GELU."""
    return Cost(4 * tokens * width * hidden, tokens * (width + 2 * hidden))


def keys_values(tokens: float, width: int, source: int) -> Cost:
    """Projected, and kept."""
    return Cost(4 * tokens * source * width, 2 * tokens * width)


def stem(config: Config, b: float) -> Cost:
    """Patches to tokens, which keeps the picture."""
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
    """Pre-norm. half: products in bf16, for which queries, keys and values each keep a copy of their source."""
    n, d = 1 + config.grid ** 2, config.image_width
    layer = (attention(b, n, n, d, config.image_heads, False) + keys_values(b * n, d, d)
             + mlp(b * n, d, int(d * config.image_mlp_ratio))
             + Cost(0, (3 if half else 1) * b * n * d, 2 * b * n * d, 0, b * n * d))
    return stem(config, b) + layer * config.image_depth + Cost(0, 0, 2 * b * n * d)


def post_norm(tokens: float, width: int, copies: int) -> Cost:
    """Dropout's mask, the sum under the norm, and copies of what the norm gives."""
    return Cost(0, copies * tokens * width, tokens * width, tokens * width)


def text_encoder(config: Config, rows: float, plain: bool, half: bool) -> Cost:
    length, d = config.text_length, config.text_width
    words = rows * length
    layer = (attention(rows, length, length, d, config.text_heads, plain) + keys_values(words, d, d)
             + mlp(words, d, int(d * config.text_mlp_ratio)) + post_norm(words, d, 3 if half else 1) + post_norm(words, d, 0)
             + Cost(inputs=words * d))
    return layer * config.text_depth + post_norm(words, d, 0)


def fusion(config: Config, texts: float, pairs: float, queries: int | None, plain: bool, half: bool) -> Cost:
    """Of so many pairs of picture and text; the first layer's self-attention is once a text, the last asks for `queries`."""
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
    """At masked words alone."""
    d, v = config.text_width, config.vocab_size
    return Cost(2 * words * d * (d + v), 4 * words * d)


def image_offer(config: Config, b: float) -> Cost:
    """Keys and values of every fusion layer, once a picture."""
    tokens = b * (config.grid ** 2 + config.fuse_cls)
    return keys_values(tokens, config.text_width, config.image_width) * config.fusion_depth


def step_flops(config: Config, b: float, gpus: int = 1, checkpointing: bool = False) -> float:
    """FLOPs of a full training step, the teacher's too, of one GPU that holds b rows: a multiplication and an addition are two.

    checkpointing: with the layers computed again
    """
    words, keys, far = config.mask_rate * b * (config.text_length - 1), b * gpus + config.queue_size, fetched(config, gpus)
    image, text, head = image_encoder(config, b, False), text_encoder(config, b, False, False), word_head(config, words).flops
    fused, pairs = fusion(config, b, b, None, False, False).flops, fusion(config, far * b, 3 * b, 1, False, False).flops
    offer, similar = image_offer(config, b).flops, 4 * b * keys * config.embed_dim
    layers = image.flops + 2 * text.flops + pairs + fused
    student = 3 * (layers + far * offer + head) - stem(config, b).flops / 3 + 2 * similar + checkpointing * layers
    teacher = image.flops + text.flops + similar + (text.flops + offer + fused + head if config.alpha else 0)
    return student + teacher


def fetched(config: Config, gpus: int) -> int:
    """How many times its own rows a process fuses: once more where the hard negatives come from other processes."""
    return 2 if gpus > 1 and config.hard_negatives == "global" else 1


def kept_bytes(config: Config, b: float, half: bool, plain: bool, gpus: int = 1,
               checkpointing: bool = False) -> tuple[float, float]:
    """What a forward pass on b rows keeps for the way back: the image encoder, and all else.

    half: products in bf16. plain: attention with dropout keeps its weights, and dropout has masks of four bytes, as on a CPU;
    a GPU's fused attention does not, and its masks have one. checkpointing: layers keep what they read; one is computed again
    """
    words, keys, far = config.mask_rate * b * (config.text_length - 1), b * gpus + config.queue_size, fetched(config, gpus)
    plain = plain and config.dropout > 0                                         # without dropout a CPU fuses attention, too
    def size(cost: Cost) -> float:
        return cost.low * (2 if half else 4) + cost.full * 4 + cost.dropped * (4 if plain else config.dropout > 0)
    parts = [(image_encoder(config, b, half), config.image_depth),
             (text_encoder(config, 2 * b, plain, half), config.text_depth),
             (fusion(config, far * b, 3 * b, 1, plain, half), config.fusion_depth),
             (fusion(config, b, b, None, plain, half), config.fusion_depth)]
    image, *others = [4 * part.inputs if checkpointing else size(part) for part, _ in parts]
    others += [max(size(part) / depth for part, depth in parts if depth)] * checkpointing
    others += [size(image_offer(config, far * b)), size(word_head(config, words)),
               4 * 5 * words * config.vocab_size,                                # logits of both, and three softmaxes
               size(Cost(0, 2 * b * keys + 2 * keys * config.embed_dim, 4 * b * keys))]        # similarities, and the keys
    if far > 1:                                                                  # everyone's tokens
        image_row, text_row = (1 + config.grid ** 2) * config.image_width, config.text_length * config.text_width
        others.append(4 * (gpus + 2) * b * (image_row + text_row))
    return image, sum(others)


@lru_cache(maxsize=64)
def count_parameters(config: Config) -> tuple[int, int]:
    """Of the student, every one trained; and of its image encoder alone."""
    with torch.device("meta"):
        model = ALBEF(config)
    return tuple(sum(p.numel() for p in part.parameters()) for part in (model, model.image_encoder))


def memory_bytes(config: Config, b: float, half: bool = True, plain: bool = False, gpus: int = 1, accumulate: int = 1,
                 checkpointing: bool = False) -> dict[str, float]:
    """Bytes that a process needs for passes of b rows, by what for; "all" is the most at any moment, less than their sum."""
    (count, image_count), table = count_parameters(config), 4 * config.vocab_size * config.text_width
    image, rest = kept_bytes(config, b, half, plain, gpus, checkpointing)
    rest += 4 * count * half                                                     # weights in bf16, the teacher's too
    parts = {"weights and teacher": 8 * count, "optimiser": 8 * count, "gradients": 4 * count * (2 if gpus > 1 else 1),
             "queue": config.queue_size * (8 * config.embed_dim + 8), "activations": image + rest}
    # gradients come as activations go. The words' table is used at both ends: it has two gradients until they are added
    moments = [table + image + rest, 4 * (count - image_count) + table + image, 4 * count]
    if accumulate > 1:                                                           # they are there from the pass before
        moments = [4 * count + table + image + rest]
    held = parts["weights and teacher"] + parts["optimiser"] + parts["queue"] + 4 * count * (gpus > 1)      # DDP's buckets
    return parts | {"all": held + max(moments)}


def peak_memory() -> float | None:
    """The most memory that this process has held, in MB; None where the system does not tell.

    On Linux not getrusage's figure, which a new program inherits from the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = [int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        if found:
            return found[0] * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def matmul_peak(device: str = "cpu", size: int = 2048, repeats: int = 10) -> tuple[float, float]:
    """GFLOP of the fastest of some products of two square fp32 matrices: a second, and a second of a processor's work."""
    a, b, spent = torch.randn(size, size, device=device), torch.randn(size, size, device=device), []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        (a @ b)[0, 0].item()                         # .item() waits for the device
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return tuple(2 * size ** 3 / 1e9 / min(times) for times in zip(*spent))
