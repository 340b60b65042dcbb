"""The original ALBEF's names of weights: one table, to read them and to write them."""
import re
from collections import ChainMap
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from minalbef.system.checkpoint import part_of

UNTAUGHT = ("match_head", "temperature")       # the teacher has no copy of these
# their names and ours. BERT's layers are in the text encoder, in fusion and in the answer decoder
LAYER = {
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.k",
    "attention.self.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.output.LayerNorm": "norm1",
    "crossattention.self.query": "cross.q",
    "crossattention.self.key": "cross.k",
    "crossattention.self.value": "cross.v",
    "crossattention.output.dense": "cross.proj",
    "crossattention.output.LayerNorm": "norm_cross",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "norm2",
}
EMBEDDINGS = {
    "word_embeddings": "word_embed",
    "position_embeddings": "pos_embed",
    "token_type_embeddings": "type_embed",
    "LayerNorm": "norm",
}
WORD_HEAD = {"transform.dense": "dense", "transform.LayerNorm": "norm"}
BLOCK = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")    # timm's and ours
HEADS = ("cls_head", "ta_head")                # the heads of tasks
MOST_LAYERS = 64                               # keys of deeper models are unknown
QUEUE = {"image_queue": "image", "text_queue": "text", "idx_queue": "ids", "queue_ptr": "pointer"}
# twice in their files: the word head's last matrix is the table of word embeddings
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
SECOND_NAMES = TIED | {"position_ids": "position_embeddings.weight"}


@cache
def names(fusion_from: int, bert: bool, head: str = "cls_head") -> dict[str, str]:
    """Their name of each weight of the student -> ours, for any depth, with qkv in one matrix.

    fusion_from, bert: see Original
    head: what the original calls the task's head, one of HEADS
    """
    modules = {
        "visual_encoder.patch_embed.proj": "image_encoder.patch_embed.proj",
        "visual_encoder.norm": "image_encoder.norm",
        "vision_proj": "image_proj",
        "text_proj": "text_proj",
        "itm_head": "match_head",
        head: "head",
        f"{head}.0": "head.0",
        f"{head}.2": "head.2",
    }
    for i in range(MOST_LAYERS):
        for name in BLOCK:
            modules[f"visual_encoder.blocks.{i}.{name}"] = f"image_encoder.blocks.{i}.{name}"
    inner = "text_encoder.bert" if bert else "text_encoder"
    modules |= _bert_modules(inner, "text_encoder", fusion_from)
    modules |= _word_head_modules("text_encoder", "word_head")
    modules |= _bert_modules("text_decoder.bert", "decoder", MOST_LAYERS)
    modules |= _word_head_modules("text_decoder", "decoder.word_head")
    table = {
        "temp": "temperature",
        "visual_encoder.cls_token": "image_encoder.cls_token",
        "visual_encoder.pos_embed": "image_encoder.pos_embed",
        "text_encoder.cls.predictions.bias": "word_head.bias",
        "text_decoder.cls.predictions.bias": "decoder.word_head.bias",
    }
    for key, name in modules.items():
        table[f"{key}.weight"] = f"{name}.weight"
        table[f"{key}.bias"] = f"{name}.bias"
    return table


def _bert_modules(key: str, name: str, fusion_from: int) -> dict[str, str]:
    """Their modules of a BERT -> ours; its layers from fusion_from on are fusion's."""
    modules = {}
    for their_part, part in EMBEDDINGS.items():
        modules[f"{key}.embeddings.{their_part}"] = f"{name}.embeddings.{part}"
    for i in range(MOST_LAYERS):
        layer = f"{name}.layers.{i}"
        if i >= fusion_from:
            layer = f"fusion.layers.{i - fusion_from}"
        for their_part, part in LAYER.items():
            modules[f"{key}.encoder.layer.{i}.{their_part}"] = f"{layer}.{part}"
    return modules


def _word_head_modules(key: str, name: str) -> dict[str, str]:
    return {f"{key}.cls.predictions.{inner}": f"{name}.{part}" for inner, part in WORD_HEAD.items()}


def split_qkv(name: str, value: Tensor) -> dict[str, Tensor]:
    """timm's matrix for queries, keys and values -> our three, by name; else the weight itself."""
    if ".attn.qkv." not in name:
        return {name: value}
    weights = {}
    for letter, rows in zip("qkv", value.chunk(3)):
        weights[name.replace(".qkv.", f".{letter}.")] = rows
    return weights


def join_qkv(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split_qkv`, for the image encoder's weights among these."""
    state = {}
    for name, value in weights.items():
        match = re.fullmatch(r"(image_encoder\..+\.attn\.)([qkv])(\.\w+)", name)
        if match is None:
            state[name] = value
            continue
        prefix, letter, suffix = match.groups()
        if letter == "q":
            parts = [weights[prefix + part + suffix] for part in "qkv"]
            state[f"{prefix}qkv{suffix}"] = torch.cat(parts)
    return state


@dataclass
class Original:
    """The contents of one of the original's files, under our names.

    fusion_from: the number of their first layer that sees the image
    bert: whether their text encoder's keys begin with text_encoder.bert, as in pretraining
    student, teacher: weights under ALBEF's names, and a task's decoder.* or head.*
    queue: image (k, e), text (k, e), ids (k,), pointer, where the file has them
    ours: their keys -> our names, with teacher. or queue. in front; also of redundant keys: tied
        weights, and position ids, under the name of the position embeddings
    unknown: keys of no known meaning
    """

    fusion_from: int
    bert: bool
    student: dict[str, Tensor] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    queue: dict[str, Tensor] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read(state: dict[str, Tensor], fusion_from: int | None = None) -> Original:
    """Sort a state dict of the original's, of any task, into weights under our names.

    fusion_from: needed for a file without cross-attention, which shows it
    Raises ValueError if weights that are tied in the model differ, or two keys mean one weight.
    """
    if fusion_from is None:
        fusion_from = _first_fusion_layer(state)
    original = Original(fusion_from, any(key.startswith("text_encoder.bert.") for key in state))
    tables = []
    for bert in (True, False):
        tables += [names(fusion_from, bert, head) for head in HEADS]
    table = ChainMap(*tables)
    for key, value in state.items():
        if key in QUEUE:
            is_matrix = value.ndim == 2 and key != "idx_queue"   # theirs has features as columns
            original.queue[QUEUE[key]] = value.T.contiguous() if is_matrix else value.flatten()
            original.ours[key] = f"queue.{QUEUE[key]}"
            continue
        first = _first_name(key)
        if first != key and not key.endswith("position_ids"):
            _check_tied(state, key, first)
        student_key, count = re.subn(r"^(\w+?)_m\.", r"\1.", first)
        weights = original.teacher if count else original.student
        prefix = "teacher." if count else ""
        if student_key not in table:
            original.unknown.append(key)
            continue
        name = table[student_key]
        original.ours[key] = prefix + name
        if first != key:
            continue
        values = split_qkv(name, value)
        if values.keys() & weights.keys():
            raise ValueError(f"{key} means {prefix}{name}, as another key of the file does; "
                             "one of the two is wrong")
        weights.update(values)
    return original


def _first_fusion_layer(state: dict[str, Tensor]) -> int:
    """The number of their first layer with cross-attention; 0 if there is none."""
    pattern = re.compile(r"text_encoder\.(?:bert\.)?encoder\.layer\.(\d+)\.cross")
    matches = filter(None, map(pattern.match, state))
    return min([int(match[1]) for match in matches], default=0)


def _first_name(key: str) -> str:
    """The key that a redundant key repeats, or else the key."""
    for second, first in SECOND_NAMES.items():
        if key.endswith(second):
            return key.removesuffix(second) + first
    return key


def _check_tied(state: dict[str, Tensor], key: str, first: str) -> None:
    """Raises ValueError if weights tied in the model differ in the file."""
    if first in state and (state[first] is state[key] or torch.equal(state[first], state[key])):
        return
    raise ValueError(f"{key} differs from {first}; they are one matrix in the model, so this file "
                     "is not the original's")


def write(student: dict[str, Tensor], teacher: dict[str, Tensor], queue: dict[str, Tensor],
          fusion_from: int, bert: bool, head: str = "cls_head") -> dict[str, Tensor]:
    """The inverse of `read`: a state dict with the original's names, redundant keys included.

    fusion_from, bert, head: see `names`
    Raises ValueError for a weight that the original has no name for.
    """
    keys = {name: key for key, name in names(fusion_from, bert, head).items()}
    copies = {name: value for name, value in teacher.items() if part_of(name) not in UNTAUGHT}
    state: dict[str, Tensor] = {}
    for weights, separator in ((student, "."), (copies, "_m.")):
        for name, value in join_qkv(weights).items():
            if name not in keys:
                raise ValueError(f"{name}: the original has no such weight")
            state[keys[name].replace(".", separator, 1)] = value
    for key, value in list(state.items()):
        if key.endswith(".position_embeddings.weight"):
            ids = key.replace("position_embeddings.weight", "position_ids")
            state[ids] = torch.arange(len(value))[None]
    for second, first in TIED.items():
        for key, value in list(state.items()):
            has_word_head = key.replace(first, "cls.predictions.bias") in state
            if key.endswith(first) and has_word_head:
                state[key.replace(first, second)] = value
    for key, name in QUEUE.items():
        if name in queue:
            value = queue[name]
            if value.ndim == 2:
                state[key] = value.T.contiguous()
            elif name == "ids":
                state[key] = value.reshape(1, -1)
            else:
                state[key] = value.reshape(1)
    return state
