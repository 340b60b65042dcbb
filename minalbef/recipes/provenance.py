"""What a run was trained on, recorded beside its weights, and in words: zero-shot or not?"""
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minalbef import checkpoint
from minalbef.checkpoint import TRAINED_ON, write_atomically
from minalbef.datasets.loader import count_unreadable
from minalbef.datasets.store import file_of, place_of, read_about
from minalbef.tokenizer import Tokenizer
from minalbef.writing import explain


def hashes_of(data: Sequence[str | Path]) -> dict[str, str]:
    """{"coco/train": hash of its records} of prepared sets or splits of them, in their order."""
    hashes: dict[str, str] = {}
    for folder, split in map(place_of, data):
        name = f"{read_about(folder)['set']}/{split}"
        if name in hashes:                       # sets of your own may share a name
            name = f"{name} ({len(hashes) + 1})"
        hashes[name] = hash_of(folder, split)
    return hashes


def record_training(folder: Path, phase: str, splits: Mapping[str, str], before: dict,
                    run: Path | None = None) -> None:
    """Record in a run folder which splits it was trained on, beside the record of its source.

    phase: "pretrained" or "tuned". before: the record of the run that it began from
    run: the folder of the training, where `folder` holds its best weights alone
    splits: see `hashes_of`, taken when training began, since a set may be prepared again meanwhile.
    The hash of a split's records identifies it under another name, too.
    """
    seen = {**(before[phase] or {}), **splits}
    known = before | {phase: seen, "unreadable": count_unreadable(run or folder)}
    text = json.dumps(known, indent=1) + "\n"
    write_atomically(folder / TRAINED_ON, lambda path: path.write_text(text, encoding="utf-8"))


def origin_of(tokenizer: Tokenizer, splits: Mapping[str, str],
              source: str | Path | None = None) -> dict[str, str]:
    """What a run is made of besides its settings, as hashes by name.

    `train.fit` refuses to go on with something else.
    splits: see `hashes_of`. source: the run that it begins from
    """
    origin = {"tokenizer": tokenizer.digest()}
    if source is not None:
        origin["source"] = checkpoint.digest_of(checkpoint.read_run(source)[3])
    return origin | dict(splits)


def trained_on(run: str | Path) -> dict:
    """{"pretrained": {"coco/train": hash}, "tuned": {}}; "pretrained" is None if unknown, as in converted runs."""
    path = Path(run) / TRAINED_ON
    if not path.exists():
        return {"pretrained": None, "tuned": {}}
    with explain(f"{path} is damaged", "copy it again, or remove it: then what the run was trained "
                 "on counts as not recorded", OSError, ValueError, RecursionError):
        seen = json.loads(path.read_text(encoding="utf-8"))
        check_record(seen)
    return seen


def check_record(seen: Any) -> None:
    """Raises ValueError for what `record_training` doesn't write."""
    if not isinstance(seen, dict):
        raise ValueError("it names no phases of training")
    for phase in ("pretrained", "tuned"):
        splits = seen.get(phase)
        if phase == "pretrained" and splits is None and phase in seen:
            continue                             # not known
        if not isinstance(splits, dict) or not all(isinstance(one, str) for one in splits.values()):
            raise ValueError(f"{phase!r} is {splits!r} and must be hashes by split")


def hash_of(folder: Path, split: str) -> str:
    """The hash of a prepared split's records."""
    with open(file_of(folder, split, ".jsonl"), "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def protocol(kind: str, name: str, split: str, tuned: Sequence[str], pretrained: Iterable[str] | None = (),
             again: bool = False) -> str:
    """In words, what a run was trained on, and whether that includes the test set.

    tuned, pretrained: sets or splits; pretrained=None: not recorded. again: they include the split, under any name
    """
    if kind != "pretrain" and not tuned:
        return f"fine-tuned for {kind}, on which set the run does not say: name it with --tuned-on"
    if kind == "pretrain" and pretrained is None:
        return "the pretrained model as it is; what it was trained on is not recorded: name it with --tuned-on"
    phases = {"pretrained": pretrained, "fine-tuned": tuned}
    parts = [f"{phase} on {', '.join(sorted(sets))}" for phase, sets in phases.items() if sets]
    words = ", ".join(parts) or "the pretrained model as it is"
    seen = [*(pretrained or ()), *tuned]
    if again or f"{name}/{split}" in seen:
        return f"{words}: trained on this very split"
    if name in {one.partition("/")[0] for one in tuned}:
        return words
    if name in {one.partition("/")[0] for one in seen}:
        return f"{words}: not zero-shot, for it was pretrained on {name}"
    unsaid = "; what it was pretrained on is not recorded" if pretrained is None else ""
    return f"zero-shot: {words}{f', not on {name}' if seen else ''}{unsaid}"
