"""Where the paper starts from: DeiT, by timm's names, in the image encoder; BERT in text encoder and fusion."""
import math
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.checkpoint import fit_weights, part_of
from minalbef.vision import ViT, resize_positions
from minalbef.weights import key_table
from minalbef.weights.original import Report, read_file
from minalbef.writing import explain

FILES = ("model.safetensors", "pytorch_model.bin")
VIT_HEADS = ("head", "pre_logits")             # classifiers, for which ALBEF has no place
BERT_HEADS = ("pooler", "cls.seq_relationship")
OLD_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}    # of BERT's first release


def load_vit(encoder: ViT, source: str | Path | dict[str, Tensor]) -> Report:
    """A plain ViT's weights, such as DeiT-B's, into the image encoder, positions resized. In place; -> the account.

    source: a file (.pth, .bin, .safetensors), a state dict, a folder of the hub's format, or one of timm's names, which
        is fetched: "deit_base_patch16_224" is what the original starts from
    Raises ValueError for anything but a classifier that is missing, left over, or of another shape.
    """
    state, source = _state(source, _timm_repository)
    if strange := [name for name in ("dist_token", "reg_token", "fc_norm.weight", "norm_pre.weight") if name in state]:
        raise ValueError(f"{source} has {', '.join(strange)}: it is no plain ViT; the one that the paper starts from "
                         "is deit_base_patch16_224, not distilled")
    heads = tuple(key for key in state if part_of(key) in VIT_HEADS)
    weights = {name: part for key, value in state.items() if key not in heads
               for name, part in key_table.split_qkv(key, value).items()}
    resized: tuple[str, ...] = ()
    places, count = weights.get("pos_embed"), encoder.pos_embed.shape[1]
    if places is not None and places.shape[1] != count:
        resized = (f"pos_embed from {places.shape[1] - 1} to {count - 1} patches",)
        weights["pos_embed"] = resize_positions(places, math.isqrt(count - 1))
    fit_weights(encoder, weights, source)
    return Report(source, tuple(key for key in state if key not in heads), resized, (), heads)


def load_bert(model: ALBEF, source: str | Path | dict[str, Tensor]) -> Report:
    """BERT's weights under Hugging Face's names into text encoder, fusion and word head. In place; -> the account.

    Its lower layers become the text encoder, its upper ones fusion, whose cross-attention BERT does not have: that, and
    a word head that the file lacks, are `absent` in the report, and keep the start they had.
    source: a file (.bin, .safetensors), a state dict, a folder of the hub's format, or a name there, which is fetched:
        "google-bert/bert-base-uncased" is what the original starts from
    Raises ValueError for what is missing, left over, or of another shape, pooler and next-sentence head aside.
    """
    state, source = _state(source, lambda name: name)
    theirs = {}                                                  # as the original would call it -> the file's key
    for key in state:
        name = key.removeprefix("bert.")
        for old, new in OLD_NORMS.items():
            name = name.replace(old, new)
        if not name.startswith(BERT_HEADS):
            theirs["text_encoder." + ("" if name.startswith("cls.") else "bert.") + name] = key
    read = key_table.read({name: state[key] for name, key in theirs.items()}, len(model.text_encoder.layers))
    parts = nn.ModuleDict({part: model.get_submodule(part) for part in ("text_encoder", "fusion", "word_head")})
    fresh = [".cross.", ".norm_cross."]
    if "word_head" not in map(part_of, read.student):
        fresh.append("word_head.")
    absent = {name: value for name, value in parts.state_dict().items()
              if name not in read.student and any(part in name for part in fresh)}
    fit_weights(parts, read.student | absent | {theirs[key]: state[theirs[key]] for key in read.unknown}, source)
    loaded = tuple(theirs[key] for key in read.ours)
    return Report(source, loaded, (), tuple(absent), tuple(key for key in state if key not in set(loaded)))


def _state(source: str | Path | dict[str, Tensor], repository: Callable[[str], str]) -> tuple[dict[str, Tensor], str]:
    """Weights and what to call them, from a state dict, a file, a folder, or a name, by `repository` the hub's."""
    if isinstance(source, dict):
        return source, "the state dict"
    path = Path(source)
    if path.is_dir():
        held = [path / name for name in FILES if (path / name).is_file()]
        if not held:
            raise ValueError(f"folder {path} has neither {' nor '.join(FILES)}; put one of them there, or name a file "
                             "of weights")
        source = path = held[0]
    elif not path.exists() and path.suffix not in (".pth", ".pt", ".bin", ".safetensors"):
        path = _fetch(repository(str(source)))
    return read_file(path), str(source)


def _timm_repository(name: str) -> str:
    if "/" in name:
        return name
    with explain(f"{name!r} is no file here, and to look the name up wants timm", "pip install timm, or pass a file; "
                 "deit_base_patch16_224's is https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth",
                 ImportError):
        import timm
    known = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if known is None or not known.hf_hub_id:
        raise ValueError(f"{name!r} is no file here, and timm has no weights of that name; "
                         "timm.list_pretrained('deit*') lists what it has")
    return known.hf_hub_id


def _fetch(repository: str) -> Path:
    """A repository's weights from Hugging Face's hub, or from its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    for name in FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                continue                                         # it keeps its weights under the other name
            raise ValueError(
                f"could not fetch {repository} ({str(error).splitlines()[0][:200]}). Without a network, fetch "
                f"https://huggingface.co/{repository}/resolve/main/{name} on another machine, put it anywhere here, "
                "and pass its path in place of the name") from error
    raise ValueError(f"{repository} on Hugging Face's hub has neither {' nor '.join(FILES)}")
