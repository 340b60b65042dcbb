"""What a model starts from, and what of it stays so: config.image_start, text_start, freeze.

A start is a file, a folder in the hub's format, an installed package, a name on the hub, or a run.
"""
import json
import logging
from collections.abc import Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.system.checkpoint import digest_of, part_of, run_folder
from minalbef.system.encoders import TimmEncoder
from minalbef.weights import pretrained
from minalbef.weights.original import Report

LOG = logging.getLogger("minalbef")
# BERT's names of sizes in config.json, and ours
BERT_SIZES = {
    "hidden_size": "text_width",
    "num_attention_heads": "text_heads",
    "max_position_embeddings": "positions",
    "vocab_size": "vocab_size",
}
FLAGS = {"image": "--vit", "text": "--bert"}     # that name initial weights
ENCODERS = ("image_encoder", "text_encoder")     # what can be frozen
PREFIX = "albef."                     # of weights in a task's model
HEAD = 64                             # BERT's width of a head, which shapes of weights don't show


def load(model: ALBEF, config: Config, quiet: bool = False) -> frozenset[str]:
    """Load what a config starts from, in place: -> names of loaded weights.

    quiet: don't log the account of keys, since a run that is read again had it when it began
    Raises ValueError for weights of other sizes.
    """
    loaded: set[str] = set()
    level = logging.DEBUG if quiet else logging.INFO
    if config.image_start:
        encoder: Any = model.image_encoder
        take = pretrained.load_timm if isinstance(encoder, TimmEncoder) else pretrained.load_vit
        report = take(encoder, config.image_start)
        LOG.log(level, "image encoder: %s", account(report))
        loaded |= names_of(model, ("image_encoder.",), report)
    if config.text_start:
        report = pretrained.load_bert(model, config.text_start)
        LOG.log(level, "text encoder, fusion and word head: %s", account(report))
        loaded |= names_of(model, ("text_encoder.", "fusion.", "word_head."), report)
    return frozenset(loaded)


def account(report: Report) -> str:
    """What became of a file's weights, in a line."""
    parts = [f"{len(report.loaded)} weights from {report.source}"]
    if report.absent:
        parts.append(f"{len(report.absent)} fresh ones that it lacks, such as {report.absent[0]}")
    if report.unexpected:
        parts.append(f"{len(report.unexpected)} of its own unused, such as {report.unexpected[0]}")
    return "; ".join(parts)


def names_of(model: nn.Module, prefixes: tuple[str, ...], report: Report) -> set[str]:
    """The names of a model's weights, by their beginnings, that a report doesn't call absent."""
    names = {name for name in model.state_dict() if name.startswith(prefixes)}
    return {name for name in names
            if not any(name == absent or name.endswith("." + absent) for absent in report.absent)}


def check_frozen(config: Config) -> None:
    """Raises ValueError where an encoder would be frozen at random initialisation."""
    for name, start in (("image", config.image_start), ("text", config.text_start)):
        if name in config.freeze and not start:
            raise ValueError(f"freeze={config.freeze}: the {name} encoder would stay at random "
                             f"initialisation; name its weights with {FLAGS[name]}, or leave "
                             "freeze out")


def freeze(model: nn.Module, config: Config) -> None:
    """Freeze what config.freeze names, in place: encoders, or the lowest n layers of one."""
    albef: Any = getattr(model, "albef", model)
    for part in filter(None, config.freeze.split(",")):
        name, _, depth = part.partition(":")
        encoder = getattr(albef, f"{name}_encoder")
        if not depth:
            encoder.requires_grad_(False)
            continue
        layers = getattr(encoder, "blocks" if name == "image" else "layers", None)
        if layers is None or int(depth) > len(layers):
            raise ValueError(f"freeze={part}: this {name} encoder has "
                             f"{len(layers or ())} layers; freeze at most those, or all of it "
                             f"by freeze={name}")
        for child_name, child in encoder.named_children():       # what comes before the layers
            if child is layers:
                break
            child.requires_grad_(False)
        for layer in layers[:int(depth)]:
            layer.requires_grad_(False)
        for own in encoder.parameters(recurse=False):            # [CLS] and positions
            own.requires_grad_(False)


def kept_weights(model: nn.Module, loaded: frozenset[str]) -> frozenset[str]:
    """The names of loaded weights that training leaves as they are, buffers included."""
    frozen: set[str] = set()
    for prefix, part in model.named_modules():
        trained = [p.requires_grad for p in part.parameters()]
        if not trained or any(trained):
            continue
        frozen |= {f"{prefix}.{name}" for name in part.state_dict()}
    return loaded & frozen


def still_as_started(model: nn.Module, config: Config) -> frozenset[str]:
    """`kept_weights` of a task's model that comes from a run: an earlier training may have changed
    what this one freezes."""
    albef: Any = getattr(model, "albef", model)
    start = ALBEF(config)
    expected = start.state_dict()                # of the same memory
    state = albef.state_dict()
    names = kept_weights(albef, load(start, config, quiet=True))
    prefix = "" if albef is model else PREFIX
    return frozenset(prefix + name for name in names
                     if torch.equal(state[name].cpu(), expected[name]))


def restore(config: Config, trained: Collection[str], untrained: Collection[str], digest: str,
            source: Path) -> dict[str, Tensor]:
    """The weights that a thin run left out, from what it started from.

    trained: names of those that it has. untrained: parts that nothing has trained, left out too
    digest: of the encoders' weights among them. source: its file, for the message
    Raises ValueError where they can't be found, or aren't those.
    """
    model = ALBEF(config)
    try:
        load(model, config, quiet=True)
    except ValueError as error:
        raise ValueError(f"{source} holds what it trained, and starts from {starts_of(config)}: "
                         f"{error}") from error
    prefix = PREFIX if any(name.startswith(PREFIX) for name in trained) else ""
    left_out = {prefix + name: value for name, value in model.state_dict().items()
                if prefix + name not in trained}
    kept = {name: value for name, value in left_out.items() if part_of(name) in ENCODERS}
    if digest_of(kept) != digest:
        raise ValueError(f"{source} was trained from other weights than {starts_of(config)} now "
                         "has; install the version that it was trained from")
    return kept | {name: value for name, value in left_out.items() if part_of(name) in untrained}


def starts_of(config: Config) -> str:
    """The names of a config's starts."""
    return " and ".join(filter(None, (config.image_start, config.text_start)))


# sizes


def fit_sizes(config: Config, changed: Any = ()) -> Config:
    """The config with the sizes of its starts, except for fields in `changed`, which a user set.

    A BERT's layers are split into text encoder and fusion, half each as in the paper, unless both
    depths are set. A sentence encoder, "bert-words", keeps all, and fusion begins as their upper
    half.
    """
    sizes: dict[str, Any] = {}
    if config.text_start:
        sizes |= bert_sizes(config, changed)
    if config.image_start and config.image_encoder == "vit":
        sizes |= vit_sizes(config.image_start)
    known = {item.name for item in fields(Config)}
    return replace(config, **{name: size for name, size in sizes.items()
                              if name in known and name not in changed})


def bert_sizes(config: Config, changed: Any) -> dict[str, Any]:
    """A BERT's sizes, from config.json beside the weights or else from their shapes."""
    state, _ = pretrained.read_start(config.text_start)
    shapes = {key.removeprefix("bert."): tuple(value.shape) for key, value in state.items()}
    words = shapes["embeddings.word_embeddings.weight"]
    mlp_width = shapes["encoder.layer.0.intermediate.dense.weight"][0]
    depth = 1 + max(int(key.split(".")[2]) for key in shapes if key.startswith("encoder.layer."))
    sizes: dict[str, Any] = {
        "text_width": words[1],
        "vocab_size": words[0],
        "positions": shapes["embeddings.position_embeddings.weight"][0],
        "text_heads": max(1, words[1] // HEAD),
        "text_mlp_ratio": mlp_width / words[1],
    }
    file = beside(config.text_start, "config.json")
    if file:
        values = json.loads(file.read_text(encoding="utf-8"))
        sizes |= {ours: values[theirs] for theirs, ours in BERT_SIZES.items() if theirs in values}
    if not {"text_depth", "fusion_depth"} <= set(changed):
        text_depth = depth if config.text_encoder == "bert-words" else depth // 2
        sizes |= {"text_depth": text_depth, "fusion_depth": depth - depth // 2}
    return sizes


def vit_sizes(source: str) -> dict[str, Any]:
    """A ViT's sizes, from the shapes of its weights; of a run, from its settings."""
    state, _ = pretrained.read_start(source, pretrained.timm_repository)
    if "patch_embed.proj.weight" not in state:
        return {}                                # another kind, of which loading says more
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    return {
        "image_width": width,
        "image_depth": depth,
        "image_heads": max(1, width // HEAD),
        "image_mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "patch_size": patch,
    }


def beside(source: str, name: str) -> Path | None:
    """A file beside a start's weights, such as vocab.txt; None where there is none."""
    path = run_folder(source)
    if not path.exists():
        path = pretrained.package_file(source) or path
    folder = path if path.is_dir() else path.parent
    return folder / name if (folder / name).is_file() else None


def vocabulary(config: Config) -> Path | None:
    """The vocab.txt beside the text's start, without which its word embeddings mean nothing."""
    return beside(config.text_start, "vocab.txt") if config.text_start else None
