"""The original ALBEF's names and shapes of weights, read into ours and written back by one table."""
import re
from collections import ChainMap
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from minalbef.checkpoint import part_of

UNTAUGHT = ("match_head", "temperature")       # the teacher has no copy of these
# theirs, ours. BERT's layers lie in the text encoder, in fusion and in the answer decoder alike
LAYER = {
    "attention.self.query": "attn.q", "attention.self.key": "attn.k", "attention.self.value": "attn.v",
    "attention.output.dense": "attn.proj", "attention.output.LayerNorm": "norm1",
    "crossattention.self.query": "cross.q", "crossattention.self.key": "cross.k",
    "crossattention.self.value": "cross.v", "crossattention.output.dense": "cross.proj",
    "crossattention.output.LayerNorm": "norm_cross",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2", "output.LayerNorm": "norm2"}
EMBEDDINGS = {"word_embeddings": "word_embed", "position_embeddings": "pos_embed",
              "token_type_embeddings": "type_embed", "LayerNorm": "norm"}
WORD_HEAD = {"transform.dense": "dense", "transform.LayerNorm": "norm"}
BLOCK = ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")     # timm's names, ours as well
HEADS = ("cls_head", "ta_head")                # of a task's own
MOST_LAYERS = 64                               # deeper models are unknown
QUEUE = {"image_queue": "image", "text_queue": "text", "idx_queue": "ids", "queue_ptr": "pointer"}
# said twice in their files: the word head's last matrix is the table of word embeddings
TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias"}
SECOND_NAMES = TIED | {"position_ids": "position_embeddings.weight"}


@cache
def names(fusion_from: int, bert: bool, head: str = "cls_head") -> dict[str, str]:
    """Every weight of the original's student -> our name for it, of any depth; queries, keys and values not yet split.

    fusion_from, bert: see Original. head: what the original calls a task's own head, one of HEADS
    """
    found = {"temp": "temperature", "visual_encoder.cls_token": "image_encoder.cls_token",
             "visual_encoder.pos_embed": "image_encoder.pos_embed"}
    modules = {"visual_encoder.patch_embed.proj": "image_encoder.patch_embed.proj",
               "visual_encoder.norm": "image_encoder.norm", "vision_proj": "image_proj", "text_proj": "text_proj",
               "itm_head": "match_head", head: "head", f"{head}.0": "head.0", f"{head}.2": "head.2"}
    for theirs, inner, ours, word_head in (
            ("text_encoder", "text_encoder.bert" if bert else "text_encoder", "text_encoder", "word_head"),
            ("text_decoder", "text_decoder.bert", "decoder", "decoder.word_head")):
        found[f"{theirs}.cls.predictions.bias"] = f"{word_head}.bias"
        modules |= {f"{theirs}.cls.predictions.{part}": f"{word_head}.{name}" for part, name in WORD_HEAD.items()}
        modules |= {f"{inner}.embeddings.{part}": f"{ours}.embeddings.{name}" for part, name in EMBEDDINGS.items()}
        for i in range(MOST_LAYERS):
            fused = ours == "text_encoder" and i >= fusion_from
            layer = f"fusion.layers.{i - fusion_from}" if fused else f"{ours}.layers.{i}"
            modules |= {f"{inner}.encoder.layer.{i}.{part}": f"{layer}.{name}" for part, name in LAYER.items()}
    modules |= {f"visual_encoder.blocks.{i}.{part}": f"image_encoder.blocks.{i}.{part}"
                for i in range(MOST_LAYERS) for part in BLOCK}
    return found | {f"{theirs}.{leaf}": f"{ours}.{leaf}" for theirs, ours in modules.items()
                    for leaf in ("weight", "bias")}


def split_qkv(name: str, value: Tensor) -> dict[str, Tensor]:
    """timm has a block's queries, keys and values in one matrix, ours has three: -> weights by name."""
    parts = zip("qkv", value.chunk(3)) if ".attn.qkv." in name else [("qkv", value)]
    return {name.replace(".qkv.", f".{part}."): share for part, share in parts}


def join_qkv(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split_qkv`, in the image encoder's weights; the others as they are."""
    joined = {}
    for name, value in weights.items():
        found = re.fullmatch(r"(image_encoder\..+\.attn\.)([qkv])(\.\w+)", name)
        if found is None:
            joined[name] = value
        elif found[2] == "q":
            joined[f"{found[1]}qkv{found[3]}"] = torch.cat([weights[found[1] + part + found[3]] for part in "qkv"])
    return joined


@dataclass
class Original:
    """What one of the original's files holds, in our names.

    student, teacher: weights under ALBEF's own names, and decoder.* or head.* beside them where a task has them
    queue: image (k, e), text (k, e), ids (k,), pointer, as far as the file has them
    fusion_from: their number of the first layer that sees the image
    bert: whether their text encoder's names begin with text_encoder.bert, as in pretraining
    ours: their keys -> our names, with teacher. or queue. before; also of redundant keys (tied weights, position ids,
        which stand under the name of what they number). unknown: keys of no known meaning
    """

    fusion_from: int
    bert: bool
    student: dict[str, Tensor] = field(default_factory=dict)
    teacher: dict[str, Tensor] = field(default_factory=dict)
    queue: dict[str, Tensor] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read(state: dict[str, Tensor], fusion_from: int | None = None) -> Original:
    """Sort a state dict of the original's, of pretraining or of any task, into weights under our names.

    fusion_from: their number of the first fusion layer, for a file without cross-attention to tell it
    Raises ValueError where weights tied in the model differ in the file, and where two keys mean the same weight.
    """
    if fusion_from is None:
        crossing = re.compile(r"text_encoder\.(?:bert\.)?encoder\.layer\.(\d+)\.cross")
        fusion_from = min((int(found[1]) for found in map(crossing.match, state) if found), default=0)
    result = Original(fusion_from, any(key.startswith("text_encoder.bert.") for key in state))
    ours = ChainMap(*(names(fusion_from, bert, head) for bert in (True, False) for head in HEADS))
    for key, value in state.items():
        if key in QUEUE:
            features = value.ndim == 2 and key != "idx_queue"    # theirs are columns
            result.queue[QUEUE[key]] = value.T.contiguous() if features else value.flatten()
            result.ours[key] = f"queue.{QUEUE[key]}"
            continue
        second = next((end for end in SECOND_NAMES if key.endswith(end)), None)
        first = key if second is None else key.removesuffix(second) + SECOND_NAMES[second]
        if second in TIED and (first not in state or not (state[first] is value or torch.equal(state[first], value))):
            raise ValueError(f"{key} differs from {first}; they are one matrix in the model, so this file is not the "
                             "original's")
        whole, momentum = re.subn(r"^(\w+?)_m\.", r"\1.", first)
        weights, owner = (result.teacher, "teacher.") if momentum else (result.student, "")
        if (name := ours.get(whole)) is None:
            result.unknown.append(key)
            continue
        result.ours[key] = owner + name
        parts = {} if second else split_qkv(name, value)
        if parts.keys() & weights.keys():
            raise ValueError(f"{key} means {owner}{name}, as another key of the file does; one of the two is wrong")
        weights.update(parts)
    return result


def write(student: dict[str, Tensor], teacher: dict[str, Tensor], queue: dict[str, Tensor], fusion_from: int,
          bert: bool, head: str = "cls_head") -> dict[str, Tensor]:
    """The state dict that `read` would read so, tied and numbering keys included. fusion_from, bert, head: see `names`.

    Raises ValueError for a weight that the original has no name for.
    """
    theirs = {ours: theirs for theirs, ours in names(fusion_from, bert, head).items()}
    taught = {name: value for name, value in teacher.items() if part_of(name) not in UNTAUGHT}
    state = {}
    for weights, end in ((student, "."), (taught, "_m.")):
        for name, value in join_qkv(weights).items():
            if name not in theirs:
                raise ValueError(f"{name}: the original has no such weight")
            state[theirs[name].replace(".", end, 1)] = value
    for key in [key for key in state if key.endswith(".position_embeddings.weight")]:
        state[key.replace("position_embeddings.weight", "position_ids")] = torch.arange(len(state[key]))[None]
    for tied, once in TIED.items():
        state |= {key.replace(once, tied): value for key, value in state.items()
                  if key.endswith(once) and key.replace(once, "cls.predictions.bias") in state}
    for key, name in QUEUE.items():
        if name in queue:
            value = queue[name]
            state[key] = value.T.contiguous() if value.ndim == 2 else value.reshape((1, -1) if name == "ids" else 1)
    return state
