"""The original ALBEF's names and shapes of weights, read into ours and written back by one table."""
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
WORD_HEAD = {"transform.dense": "dense", "transform.LayerNorm": "norm", "bias": "bias"}
TOP = {"visual_encoder": "image_encoder", "vision_proj": "image_proj", "text_proj": "text_proj",
       "itm_head": "match_head", "temp": "temperature", "cls_head": "head", "ta_head": "head"}
IMAGE = re.compile(r"cls_token|pos_embed|(patch_embed\.proj|norm|blocks\.\d+\.(norm[12]|attn\.(qkv|q|k|v|proj)|"
                   r"mlp\.fc[12]))\.(weight|bias)")             # timm's names, ours as well but for q, k and v
QUEUE = {"image_queue": "image", "text_queue": "text", "idx_queue": "ids", "queue_ptr": "pointer"}
# said twice in their files: the word head's last matrix is the table of word embeddings
TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias"}

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
    crossing = re.compile(r"text_encoder\.(?:bert\.)?encoder\.layer\.(\d+)\.cross")
    seen = [int(found[1]) for found in map(crossing.match, state) if found]
    bert = any(key.startswith("text_encoder.bert.") for key in state)
    result = Original(min(seen, default=0) if fusion_from is None else fusion_from, bert)
    for key, value in state.items():
        whole, momentum = re.subn(r"^(\w+?)_m\.", r"\1.", key)
        weights, owner = (result.teacher, "teacher.") if momentum else (result.student, "")
        if key in QUEUE:
            sideways = value.ndim == 2 and key != "idx_queue"
            result.queue[QUEUE[key]] = value.T.contiguous() if sideways else value.flatten()
            result.ours[key] = f"queue.{QUEUE[key]}"
            continue
        twin = next((key.replace(tied, once) for tied, once in TIED.items() if key.endswith(tied)), None)
        if twin and (twin not in state or not (state[twin] is value or torch.equal(state[twin], value))):
            raise ValueError(f"{key} differs from {twin}; they are one matrix in the model, so this file is not the "
                             "original's")
        redundant = twin or key.endswith("position_ids")
        for repeat, once in (*TIED.items(), ("position_ids", "position_embeddings.weight")):
            if whole.endswith(repeat):
                whole = whole.removesuffix(repeat) + once
        name = our_name(whole, result.fusion_from)
        if name is None:
            result.unknown.append(key)
            continue
        result.ours[key] = owner + name
        if not redundant:
            parts = zip("qkv", value.chunk(3)) if ".attn.qkv." in name else [("qkv", value)]
            for part, share in parts:
                part = name.replace(".qkv.", f".{part}.")
                if part in weights:
                    raise ValueError(f"{key} means {owner}{name}, as another key of the file does; "
                                     "one of the two is wrong")
                weights[part] = share
    return result


def write(student: dict[str, Tensor], teacher: dict[str, Tensor], queue: dict[str, Tensor], fusion_from: int,
          bert: bool, head: str = "cls_head") -> dict[str, Tensor]:
    """The state dict that `read` would read so, tied and numbering keys included.

    head: what the original calls a task's own head, cls_head or ta_head
    """
    state = {}
    for weights, suffix in ((student, ""), (teacher, "_m")):
        for name, value in weights.items():
            if suffix and name.partition(".")[0] in UNTAUGHT:
                continue
            theirs = their_name(name, fusion_from, bert, head)
            found = re.search(r"\.attn\.([qkv])\.(?=weight|bias)", name)
            if found and name.startswith("image_encoder."):
                if found[1] != "q":
                    continue
                value = torch.cat([weights[name.replace(found[0], f".attn.{part}.")] for part in "qkv"])
                theirs = theirs.replace(".attn.q.", ".attn.qkv.")
            first, dot, rest = theirs.partition(".")
            state[first + suffix + dot + rest if dot else first] = value
    for key in [key for key in state if key.endswith(".position_embeddings.weight")]:
        state[key.replace("position_embeddings.weight", "position_ids")] = torch.arange(len(state[key]))[None]
    for tied, once in TIED.items():
        state |= {key.replace(once, tied): value for key, value in state.items()
                  if key.endswith(once) and key.replace(once, "cls.predictions.bias") in state}
    for theirs, name in QUEUE.items():
        if name in queue:
            value = queue[name]
            state[theirs] = value.T.contiguous() if value.ndim == 2 else value.reshape((1, -1) if name == "ids" else 1)
    return state


def our_name(theirs: str, fusion_from: int) -> str | None:
    """A student's weight in our words, its first fusion layer having their number `fusion_from`; None if unknown."""
    top, _, rest = theirs.partition(".")
    if top in TOP:
        return ".".join(filter(None, (TOP[top], rest))) if top != "visual_encoder" or IMAGE.fullmatch(rest) else None
    if top not in ("text_encoder", "text_decoder"):
        return None
    home = "decoder." if top == "text_decoder" else ""
    rest = rest.removeprefix("bert.")
    if found := re.match(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)$", rest):
        number, part = int(found[1]), LAYER.get(found[2])
        if home or number < fusion_from:
            where = f"{home or 'text_encoder.'}layers.{number}"
        else:
            where = f"fusion.layers.{number - fusion_from}"
        return part and f"{where}.{part}.{found[3]}"
    for begin, table, ours in (("embeddings.", EMBEDDINGS, f"{home or 'text_encoder.'}embeddings."),
                               ("cls.predictions.", WORD_HEAD, f"{home}word_head.")):
        if rest.startswith(begin):
            part, _, last = rest.removeprefix(begin).rpartition(".")
            name = table.get(part or last)
            return name and ours + (f"{name}.{last}" if part else name)
    return None


def their_name(ours: str, fusion_from: int, bert: bool, head: str = "cls_head") -> str:
    """The inverse of `our_name`. Raises ValueError for a name that the original has no word for."""
    top, _, rest = ours.partition(".")
    names = {name: theirs for theirs, name in TOP.items()} | {"head": head}
    if top in names and (top != "image_encoder" or IMAGE.fullmatch(rest)):
        return ".".join(filter(None, (names[top], rest)))
    text = "text_decoder." if top == "decoder" else "text_encoder."
    body = text + "bert." if bert or top == "decoder" else text
    inner = rest if top == "decoder" else ours.removeprefix("text_encoder.")
    if found := re.match(r"(?:fusion\.)?layers\.(\d+)\.(.+)\.(weight|bias)$", inner):
        part = {name: theirs for theirs, name in LAYER.items()}.get(found[2])
        number = int(found[1]) + (fusion_from if top == "fusion" else 0)
        if part:
            return f"{body}encoder.layer.{number}.{part}.{found[3]}"
    for begin, table, theirs in (("embeddings.", EMBEDDINGS, f"{body}embeddings."),
                                 ("word_head.", WORD_HEAD, f"{text}cls.predictions.")):
        if inner.startswith(begin):
            part, _, last = inner.removeprefix(begin).rpartition(".")
            name = {ours: theirs for theirs, ours in table.items()}.get(part or last)
            if name:
                return theirs + (f"{name}.{last}" if part else name)
    raise ValueError(f"{ours}: the original has no such weight")
