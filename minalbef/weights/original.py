"""The original's checkpoints, read strictly, with an account of every key."""
import math
import pickle
import re
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.checkpoint import fit_weights, part_of
from minalbef.config import Config
from minalbef.tasks.nlvr2 import drop_shared
from minalbef.tasks.table import TASKS
from minalbef.vision import resize_positions
from minalbef.weights import key_table

HEADS = 12        # of every encoder of the released models; the shapes of a checkpoint do not tell them
POSITIONS = "image_encoder.pos_embed"


@dataclass(frozen=True)
class Report:
    """What became of every key of a file. loaded, unexpected: its keys; resized, absent: our names.

    absent: of the model, and rightly not in a file of this task; they keep the start they had
    unexpected: known, but without a place in this model, such as the teacher's
    """

    source: str
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    absent: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        def count(keys: tuple[str, ...]) -> str:
            parts = Counter(key.partition(".")[0] for key in keys)
            return f"{len(keys)} ({', '.join(f'{part} {n}' for part, n in parts.items())})" if keys else "0"
        return "\n".join([f"{self.source}:", f"  loaded      {count(self.loaded)}",
                          f"  resized     {', '.join(self.resized) or 'nothing'}",
                          f"  absent      {count(self.absent)}", f"  unexpected  {count(self.unexpected)}"])


def read_file(path: str | Path) -> dict[str, Tensor]:
    """The weights in a .safetensors file or one of torch.save, without executing code.

    Large files are mapped, not read, so that weights take memory once. Raises ValueError for a file that is missing,
    damaged, no weights, or that only code could read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:                                   # each of the two libraries has its own
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", str(error))):
            raise ValueError(
                f"{path} holds a {found[1]}, which cannot be read without running code that the file names. "
                "If you trust it, take its weights out once: "
                f"torch.save(torch.load({str(path)!r}, weights_only=False)['model'], 'weights.pth')") from error
        reason = (str(error) or repr(error)).splitlines()[0][:200]
        raise ValueError(f"{path} is damaged or holds no weights ({reason}); fetch it again") from error
    for inner in ("model", "state_dict"):
        if isinstance(held, dict) and isinstance(held.get(inner), dict):
            held = held[inner]
    if not isinstance(held, dict) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"{path} holds no state dict of tensors, neither by itself nor under 'model'")
    return held


@dataclass(frozen=True)
class Opened:
    """One of the original's files, sorted and checked: ready to `fill` a model of `config`."""

    source: str
    task: str
    config: Config
    original: key_table.Original
    resized: tuple[str, ...]


def read_original(source: str | Path | dict[str, Tensor], image_size: int | None = None, image_heads: int = HEADS,
                  text_heads: int = HEADS) -> Opened:
    """Any of the original's checkpoints, from a file or a state dict; positions resized where image_size differs.

    image_heads, text_heads: a tensor cannot tell them.
    Raises ValueError that lists the keys of no known meaning, if there is one.
    """
    state = source if isinstance(source, dict) else read_file(source)
    source = "the state dict" if isinstance(source, dict) else str(source)
    original = key_table.read(state)
    if original.unknown:
        raise ValueError(f"{source} holds keys that no model of the original's has: {', '.join(original.unknown)}")
    try:
        task = task_of(original.student)
        config = infer_config(original, image_size, image_heads, text_heads)
    except KeyError as error:
        raise ValueError(f"{source} is no checkpoint of the original's: it lacks {error}") from error
    resized = []
    for owner, weights in (("", original.student), ("teacher.", original.teacher)):
        if (before := weights.get(POSITIONS)) is not None and before.shape[1] != 1 + config.grid ** 2:
            weights[POSITIONS] = resize_positions(before, config.grid)
            resized.append(f"{owner}{POSITIONS} from {math.isqrt(before.shape[1] - 1)} to {config.grid} patches a side")
    return Opened(source, task, config, original, tuple(resized))


def task_of(weights: dict[str, Tensor]) -> str:
    """Which task's weights these are, under our names. Grounding is trained as retrieval, and looks like it."""
    if any(name.startswith("decoder.") for name in weights):
        return "vqa"
    if "head.weight" in weights:
        return "text_assignment"
    if "head.0.weight" in weights:                               # a pair of layers shares its keys; ours has them once
        first, second = (f"fusion.layers.{i}.cross.k.weight" for i in (0, 1))
        once = second not in weights and "fusion.layers.1.norm1.weight" in weights
        return "nlvr2" if once or second in weights and torch.equal(weights[first], weights[second]) else "entailment"
    return "pretrain" if "word_head.bias" in weights else "retrieval"


def infer_config(original: key_table.Original, image_size: int | None = None, image_heads: int = HEADS,
                 text_heads: int = HEADS) -> Config:
    """The settings that fit the weights; those of training are the paper's. Raises KeyError for a missing weight."""
    weights = original.student
    width, _, patch, _ = weights["image_encoder.patch_embed.proj.weight"].shape
    words, text_width = weights["text_encoder.embeddings.word_embed.weight"].shape
    positions = len(weights["text_encoder.embeddings.pos_embed.weight"])
    def depth(layers: str) -> int:
        found = (re.match(rf"{layers}\.(\d+)\.", name) for name in weights)
        return 1 + max((int(one[1]) for one in found if one), default=-1)
    fusion_depth = depth(r"fusion\.layers")
    shared, queue = weights.get("image_proj.weight"), original.queue.get("image")
    return Config(
        name="original", image_size=image_size or patch * math.isqrt(weights[POSITIONS].shape[1] - 1), patch_size=patch,
        image_width=width, image_depth=depth(r"image_encoder\.blocks"), image_heads=image_heads,
        image_mlp_ratio=len(weights["image_encoder.blocks.0.mlp.fc1.weight"]) / width,
        vocab_size=words, positions=positions, text_length=min(Config.text_length, positions), text_width=text_width,
        text_depth=original.fusion_from, text_heads=text_heads,
        text_mlp_ratio=len(weights["fusion.layers.0.mlp.fc1.weight"]) / text_width,
        fusion_depth=fusion_depth // 2 if TASKS[task_of(weights)].pairs else fusion_depth,
        embed_dim=Config.embed_dim if shared is None else len(shared),
        queue_size=Config.queue_size if queue is None else len(queue))


def fill(module: nn.Module, opened: Opened, teacher: bool = False) -> Report:
    """Load the file's student, or its teacher, into an ALBEF or a task's model. In place; -> the account.

    Raises ValueError that lists what is missing, left over, or of another shape.
    """
    owner, weights, lacks = "", opened.original.student, set(TASKS[opened.task].lacks)
    if teacher:
        owner, weights, lacks = "teacher.", opened.original.teacher, lacks | set(key_table.UNTAUGHT)
    if TASKS[opened.task].pairs:
        weights = drop_shared(weights)
    wanted = module.state_dict()
    ours = {name.removeprefix("albef."): name for name in wanted}
    homeless = {"decoder", "head"} - set(map(part_of, wanted))      # a plain ALBEF has no place for a task's own parts
    weights = {ours.get(name, name): value for name, value in weights.items() if part_of(name) not in homeless}
    absent = fit_weights(module, weights, opened.source, lacks)
    loaded = [key for key, name in opened.original.ours.items()
              if name.startswith(owner) and part_of(name.removeprefix(owner)) not in homeless | {"teacher", "queue"}]
    return Report(opened.source, tuple(loaded),
                  tuple(line for line in opened.resized if line.startswith(owner + POSITIONS)),
                  tuple(name.removeprefix("albef.") for name in absent),
                  tuple(key for key in opened.original.ours if key not in set(loaded)))


def load_original_with_report(source: str | Path | dict[str, Tensor], **sizes: Any) -> tuple[ALBEF, Report]:
    """`load_original`, with the account of every key in place of a warning."""
    opened = read_original(source, **sizes)
    if TASKS[opened.task].pairs:
        raise ValueError(
            f"{opened.source} is of {opened.task}, with two fusion layers for each of ALBEF's: a plain ALBEF cannot "
            "hold it. Take opened = minalbef.weights.original.read_original(...), make minalbef.tasks.nlvr2's PairModel"
            " of opened.config, and minalbef.weights.original.fill(model, opened)")
    model = ALBEF(opened.config)
    return model.eval(), fill(model, opened)


def load_original(source: str | Path | dict[str, Tensor], image_size: int | None = None, image_heads: int = HEADS,
                  text_heads: int = HEADS) -> ALBEF:
    """The ALBEF in one of the original's checkpoints, of pretraining or of a task, in evaluation mode.

    source: a file, which is read without executing code, or a state dict. image_size: resize the positions to it
    image_heads, text_heads: a tensor cannot tell them.
    Warns of parts that the file rightly lacks, such as the word head after retrieval: left at random initialisation.
    Raises ValueError for anything that is not accounted for, and lists it.
    """
    model, report = load_original_with_report(
        source, image_size=image_size, image_heads=image_heads, text_heads=text_heads)
    if report.absent:
        parts = sorted(set(map(part_of, report.absent)))
        warnings.warn(f"{report.source} has no {', '.join(parts)}: new here, and untrained", stacklevel=2)
    return model
