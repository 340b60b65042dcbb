"""FLOPs and memory of a training step, counted from the config: no weights, nothing is trained.

FLOPs of pretraining are added up part by part; memory is that of a step on tensors without data.
"""
import math
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from minalbef.albef import ALBEF
from minalbef.config import Config, ModelConfig
from minalbef.fast.cls import image_cls, text_cls
from minalbef.pretrain import Pretrain
from minalbef.recipes.counting import Work, count_work
from minalbef.tasks.table import TASKS
from minalbef.vision import ConvStem

T = TypeVar("T")


class ForwardFlops(NamedTuple):
    """FLOPs of a forward pass through each part, for one row; a multiply-add is two."""

    image: int                        # the image encoder
    pixels: int                       # its first convolution, which reads the pixels
    stem: int                         # its patches
    text: int                         # the text encoder
    cls: int                          # both encoders, as far as [CLS] alone needs them
    keys_values: int                  # of the image's tokens, for every fusion layer
    match: int                        # fusion of ITM's three pairs, keys and values aside
    predict: int                      # fusion for MLM, likewise; last layer at masked words alone
    word_head: int                    # of one masked word


def forward_flops(config: Config, texts: int = 1, queries: int | None = None) -> ForwardFlops:
    """The FLOPs of a config's model.

    texts: how many of them go through fusion's first self-attention for ITM's pairs of a row
    queries: of so many words MLM's fusion computes the last layer; by default of all
    """
    sizes = {item.name: getattr(config, item.name) for item in fields(ModelConfig)}
    return _count_forward(Config(**sizes), texts, queries or config.text_length)


@lru_cache(maxsize=64)
def _count_forward(config: Config, texts: int, queries: int) -> ForwardFlops:
    """`forward_flops` of a config that has a model's sizes, and defaults in all else."""
    with torch.device("meta"), torch.no_grad():
        model = ALBEF(config).eval()
        image = torch.empty(1, 3, config.image_size, config.image_size)
        tokens = torch.zeros(texts, config.text_length, dtype=torch.long)
        keep = tokens == 0
        rows = torch.zeros(3, dtype=torch.long)
        image_flops, image_tokens = count_flops(lambda: model.encode_image(image))
        stem: Any = model.image_encoder.patch_embed
        first = stem.down[0] if isinstance(stem, ConvStem) else stem.proj
        pixels_flops, _ = count_flops(lambda: first(image))
        stem_flops, _ = count_flops(lambda: stem(image))
        cls_flops, _ = count_flops(lambda: (
            image_cls(model.image_encoder, image),
            text_cls(model.text_encoder, tokens[:1], keep[:1])))
        text_flops, text = count_flops(lambda: model.encode_text(tokens[:1], keep[:1]))
        keys_values_flops, keys_values = count_flops(lambda: model.fusion.keys_values(image_tokens))
        match_flops, _ = count_flops(lambda: model.fuse(
            text.expand(texts, -1, -1), keep, None, pairs=(rows, rows), queries=1,
            keys_values=keys_values))
        predict_flops, words = count_flops(lambda: model.fuse(
            text, keep[:1], None, queries=queries, keys_values=keys_values))
        word_flops, _ = count_flops(lambda: model.word_logits(words[:, 0]))
    return ForwardFlops(image_flops, pixels_flops, stem_flops, text_flops, cls_flops,
                        keys_values_flops, match_flops, predict_flops, word_flops)


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
    row = forward_flops(config, rows, most_masked(config, b))
    masked_rows = 1 / config.mlm_every
    words = masked_words(config, masked_rows)
    similarities = 4 * (b * gpus + config.queue_size) * config.embed_dim
    layers = row.image + row.text + row.match + masked_rows * (row.text + row.predict)
    heads = rows * row.keys_values + words * row.word_head
    # a backward pass costs two forward ones, but the pixels need no gradient
    student = 3 * (layers + heads) - row.pixels + 2 * similarities
    if checkpointing:
        student += layers
    teacher = similarities - (row.stem if config.share_stem else 0)
    if config.alpha:
        masked = row.text + row.keys_values + row.predict
        teacher += row.image + row.text + masked_rows * masked + words * row.word_head
    else:
        teacher += row.cls
    return b * (student + teacher)


def masked_words(config: Config, b: float) -> float:
    """How many words of b captions are masked on average; [CLS] never is."""
    return config.mask_rate * b * (config.text_length - 1)


def most_masked(config: Config, b: float) -> int:
    """How many words are masked in that one of b captions that has most, about; at least 1."""
    length = config.text_length - 1
    rate = config.mask_rate
    at_most = 0.0                                # the chance of at most `count` masked words
    for count in range(length):
        at_most += math.comb(length, count) * rate ** count * (1 - rate) ** (length - count)
        if count and at_most ** b > 0.5:
            return count
    return max(1, length)


def row_factor(config: Config, gpus: int) -> int:
    """How many times its own rows a rank fuses: twice where hard negatives are other ranks'."""
    return 2 if gpus > 1 and config.hard_negatives != "local" else 1


@lru_cache(maxsize=64)
def _count_parameters(config: Config, task: str) -> tuple[int, int]:
    with torch.device("meta"):
        student = TASKS[task].module(config).student
    image = [p for name, p in student.named_parameters() if "image_encoder." in name]
    return sum(p.numel() for p in student.parameters()), sum(p.numel() for p in image)


def count_parameters(config: Config, task: str = "pretrain") -> tuple[int, int]:
    """Trainable parameters of the student: -> in all, of its image encoder."""
    sizes = {item.name: getattr(config, item.name) for item in fields(ModelConfig)}
    return _count_parameters(Config(**sizes), task)


def memory_bytes(config: Config, b: float, half: bool = True, plain: bool = False, gpus: int = 1,
                 accumulate: int = 1, checkpointing: bool = False, task: str = "pretrain",
                 work: Work | None = None) -> dict[str, float]:
    """Bytes that a rank needs for micro-batches of b rows: by purpose, and "all", their sum.

    They are those of the fullest moment. Gradients appear as activations are freed, so at the
    start of the backward pass there are none yet, unless micro-batches accumulate them.
    Muon's matrices are counted with AdamW's two moments, though they need one.
    half: bf16 products. plain: on a CPU, whose attention keeps its weights where there is dropout
    work: of one micro-batch, if it has been counted
    """
    parameters, _ = count_parameters(config, task)
    if work is None:
        work = count_work(config, b, task, "cpu" if plain else "cuda", "bf16" if half else "fp32",
                          checkpointing, accumulates=accumulate > 1 or gpus > 1)
    queue = 0.0
    if has_queue(task):
        queue = config.queue_size * (8 * config.embed_dim + 8)
    # what other ranks send to draw hard negatives from, and for the student its keys and values
    other = other_rows(config, task, b, gpus)
    if other:
        other += 2 * b * config.fusion_depth * (1 + config.grid ** 2) * config.text_width
    parts = {
        "weights and teacher": 8.0 * parameters,
        "optimiser": 8.0 * parameters,
        "gradients": work.gradients,
        "queue": queue,
        "activations": work.activations + other * (2 if half else 4),
    }
    return parts | {"all": sum(parts.values())}


def has_queue(task: str) -> bool:
    """Whether a task contrasts with a queue and draws hard negatives, as pretraining does."""
    module = TASKS[task].module
    return isinstance(module, type) and issubclass(module, Pretrain)


def other_rows(config: Config, task: str, b: float, gpus: int) -> float:
    """How many numbers a rank gets of other ranks' tokens, to draw its hard negatives from."""
    if not has_queue(task) or row_factor(config, gpus) == 1:
        return 0.0
    image = (1 + config.grid ** 2) * config.image_width
    text = config.text_length * config.text_width
    return b * gpus * (image + text)


def exchanged_bytes(config: Config, task: str, b: float, gpus: int, half: bool) -> float:
    """Bytes of features and of hard negatives' tokens that a rank gets, and of their gradients."""
    if gpus == 1 or not has_queue(task):
        return 0.0
    features = 2 * 4 * b * gpus * config.embed_dim
    return features + 2 * other_rows(config, task, b, gpus) * (2 if half else 4)
