"""The original's checkpoints, loaded strictly, with a report on every key."""
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
from minalbef.config import Config
from minalbef.system.checkpoint import fit_weights, part_of
from minalbef.tasks.nlvr2 import drop_shared
from minalbef.tasks.table import TASKS
from minalbef.vision import resize_positions
from minalbef.weights import key_table

HEADS = 12        # of every encoder in the released models; the shapes of weights don't show it
POSITIONS = "image_encoder.pos_embed"


@dataclass(frozen=True)
class Report:
    """What became of every key of a file.

    loaded: the file's keys
    resized: our names, with the sizes
    absent: our names of weights that a file of this task rightly lacks, left as they were
    unexpected: keys that are known, but have no place in this model, such as the teacher's
    """

    source: str
    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    absent: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([
            f"{self.source}:",
            f"  loaded      {_count_by_part(self.loaded)}",
            f"  resized     {', '.join(self.resized) or 'nothing'}",
            f"  absent      {_count_by_part(self.absent)}",
            f"  unexpected  {_count_by_part(self.unexpected)}",
        ])


def _count_by_part(keys: tuple[str, ...]) -> str:
    """The number of keys, and in brackets that of each part."""
    if not keys:
        return "0"
    counts = Counter(key.partition(".")[0] for key in keys)
    listing = ", ".join(f"{part} {count}" for part, count in counts.items())
    return f"{len(keys)} ({listing})"


def read_file(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file of safetensors or torch.save, without executing code.

    Large files are mapped to memory instead of read, so that weights take memory once.
    Raises ValueError for a file that is missing, is damaged, has no weights, or needs code to read.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mmap = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:                   # the two libraries raise errors of their own
        code = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and code:
            raise ValueError(
                f"{path} holds a {code[1]}, which cannot be read without running code that the "
                "file names. If you trust it, take its weights out once: torch.save(torch.load("
                f"{str(path)!r}, weights_only=False)['model'], 'weights.pth')") from error
        reason = (str(error) or repr(error)).splitlines()[0][:200]
        raise ValueError(f"{path} is missing, damaged or holds no weights ({reason}); "
                         "fetch it again") from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    is_dict = isinstance(state, dict) and bool(state)
    if not is_dict or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict of tensors, neither by itself nor under "
                         "'model'")
    return state


@dataclass(frozen=True)
class OriginalFile:
    """One of the original's files, sorted and checked, to `fill` a model of `config`."""

    source: str
    task: str
    config: Config
    original: key_table.Original
    resized: tuple[str, ...]


def read_original(source: str | Path | dict[str, Tensor], image_size: int | None = None,
                  image_heads: int = HEADS, text_heads: int = HEADS) -> OriginalFile:
    """Any of the original's checkpoints, from a file or a state dict.

    image_size: resize the position embeddings to it
    image_heads, text_heads: the shapes of weights don't show them
    Raises ValueError that lists keys of no known meaning.
    """
    if isinstance(source, dict):
        state = source
        source = "the state dict"
    else:
        state = read_file(source)
        source = str(source)
    original = key_table.read(state)
    if original.unknown:
        raise ValueError(f"{source} holds keys that no model of the original's has: "
                         f"{', '.join(original.unknown)}")
    try:
        task = task_of(original.student)
        config = infer_config(original, image_size, image_heads, text_heads)
    except KeyError as error:
        raise ValueError(f"{source} is not a checkpoint of the original's: "
                         f"it lacks {error}") from error
    resized = fit_positions(original.student, POSITIONS, config.grid)
    for line in fit_positions(original.teacher, POSITIONS, config.grid):
        resized.append(f"teacher.{line}")
    return OriginalFile(source, task, config, original, tuple(resized))


def fit_positions(weights: dict[str, Tensor], name: str, grid: int) -> list[str]:
    """Resize position embeddings among weights, in place: -> the line of a report, if it did."""
    if name not in weights or weights[name].shape[1] - 1 == grid ** 2:
        return []
    side = math.isqrt(weights[name].shape[1] - 1)
    weights[name] = resize_positions(weights[name], grid)
    return [f"{name} from {side} to {grid} patches a side"]


def task_of(weights: dict[str, Tensor]) -> str:
    """The task of a student's weights. Grounding is trained as retrieval, and looks like it."""
    if any(name.startswith("decoder.") for name in weights):
        return "vqa"
    if "head.weight" in weights:
        return "text_assignment"
    if "head.0.weight" in weights:
        return "nlvr2" if _has_paired_layers(weights) else "entailment"
    return "pretrain" if "word_head.bias" in weights else "retrieval"


def _has_paired_layers(weights: dict[str, Tensor]) -> bool:
    """Whether fusion has NLVR2's pairs of layers, with equal keys, which our files have once."""
    second = weights.get("fusion.layers.1.cross.k.weight")
    if second is None:
        return "fusion.layers.1.norm1.weight" in weights
    return torch.equal(weights["fusion.layers.0.cross.k.weight"], second)


def infer_config(original: key_table.Original, image_size: int | None = None,
                 image_heads: int = HEADS, text_heads: int = HEADS) -> Config:
    """The settings that fit the weights; those of training are the paper's.

    Raises KeyError for a missing weight.
    """
    weights = original.student
    width, _, patch, _ = weights["image_encoder.patch_embed.proj.weight"].shape
    vocab_size, text_width = weights["text_encoder.embeddings.word_embed.weight"].shape
    positions = len(weights["text_encoder.embeddings.pos_embed.weight"])
    fusion_depth = _depth(weights, r"fusion\.layers")
    if TASKS[task_of(weights)].pairs:
        fusion_depth //= 2
    embed_dim = Config.embed_dim
    if "image_proj.weight" in weights:
        embed_dim = len(weights["image_proj.weight"])
    queue_size = Config.queue_size
    if "image" in original.queue:
        queue_size = len(original.queue["image"])
    grid = math.isqrt(weights[POSITIONS].shape[1] - 1)
    return Config(
        name="original",
        image_size=image_size or patch * grid,
        patch_size=patch,
        image_width=width,
        image_depth=_depth(weights, r"image_encoder\.blocks"),
        image_heads=image_heads,
        image_mlp_ratio=len(weights["image_encoder.blocks.0.mlp.fc1.weight"]) / width,
        vocab_size=vocab_size,
        positions=positions,
        text_length=min(Config.text_length, positions),
        text_width=text_width,
        text_depth=original.fusion_from,
        text_heads=text_heads,
        text_mlp_ratio=len(weights["fusion.layers.0.mlp.fc1.weight"]) / text_width,
        fusion_depth=fusion_depth,
        embed_dim=embed_dim,
        queue_size=queue_size,
    )


def _depth(weights: dict[str, Tensor], layers: str) -> int:
    """The number of layers whose weights' names begin with a pattern and a number."""
    depth = 0
    for name in weights:
        match = re.match(rf"{layers}\.(\d+)\.", name)
        if match:
            depth = max(depth, 1 + int(match[1]))
    return depth


def fill(module: nn.Module, file: OriginalFile, teacher: bool = False) -> Report:
    """Load a file's student, or its teacher, into an ALBEF or a task's model, in place.

    Raises ValueError that lists what is missing, unexpected or of another shape.
    """
    task = TASKS[file.task]
    prefix = "teacher." if teacher else ""
    weights = file.original.teacher if teacher else file.original.student
    lacks = {*task.lacks, *key_table.UNTAUGHT} if teacher else set(task.lacks)
    if task.pairs:
        weights = drop_shared(weights)
    state_dict = module.state_dict()
    names = {name.removeprefix("albef."): name for name in state_dict}
    # a plain ALBEF has no place for the parts of a task
    skip = {"decoder", "head"} - set(map(part_of, state_dict))
    renamed = {}
    for name, value in weights.items():
        if part_of(name) not in skip:
            renamed[names.get(name, name)] = value
    absent = fit_weights(module, renamed, file.source, lacks)
    loaded = []
    for key, name in file.original.ours.items():
        part = part_of(name.removeprefix(prefix))
        if name.startswith(prefix) and part not in skip | {"teacher", "queue"}:
            loaded.append(key)
    return Report(
        file.source,
        loaded=tuple(loaded),
        resized=tuple(line for line in file.resized if line.startswith(prefix + POSITIONS)),
        absent=tuple(name.removeprefix("albef.") for name in absent),
        unexpected=tuple(key for key in file.original.ours if key not in loaded),
    )


def load_original_with_report(source: str | Path | dict[str, Tensor],
                              **sizes: Any) -> tuple[ALBEF, Report]:
    """As `load_original`, with a report on every key instead of a warning."""
    file = read_original(source, **sizes)
    if TASKS[file.task].pairs:
        raise ValueError(
            f"{file.source} is of {file.task}, with two fusion layers for each of ALBEF's: a plain "
            "ALBEF cannot hold it. Take file = minalbef.weights.original.read_original(...), make "
            "minalbef.tasks.nlvr2's PairModel of file.config, and "
            "minalbef.weights.original.fill(model, file)")
    model = ALBEF(file.config)
    return model.eval(), fill(model, file)


def load_original(source: str | Path | dict[str, Tensor], image_size: int | None = None,
                  image_heads: int = HEADS, text_heads: int = HEADS) -> ALBEF:
    """The ALBEF of one of the original's checkpoints, of any task, in evaluation mode.

    source: a file, which is read without executing code, or a state dict
    image_size: resize the position embeddings to it
    image_heads, text_heads: the shapes of weights don't show them
    Warns of parts that the file rightly lacks, such as the word head after retrieval: they are at
    random initialisation. Raises ValueError that lists all else that doesn't fit.
    """
    model, report = load_original_with_report(
        source, image_size=image_size, image_heads=image_heads, text_heads=text_heads)
    if report.absent:
        parts = ", ".join(sorted(set(map(part_of, report.absent))))
        warnings.warn(f"{report.source} has no {parts}: new here, and untrained", stacklevel=2)
    return model
