"""What a run was trained on, recorded beside its weights, and in words: zero-shot or not?"""
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from minalbef.checkpoint import TRAINED_ON, write_atomically
from minalbef.datasets.loader import count_unreadable
from minalbef.datasets.store import file_of, place_of, read_about


def record_training(run: Path, phase: str, data: Sequence[str | Path], before: dict) -> None:
    """Record in a run folder what it was trained on: `data`, and what the run that it began from records, `before`.

    phase: "pretrained" or "tuned". The hash of a split's records identifies it under another name, too.
    """
    splits = {f"{read_about(folder)['set']}/{split}": hash_of(folder, split) for folder, split in map(place_of, data)}
    known = before | {phase: (before[phase] or {}) | splits, "unreadable": count_unreadable(run)}
    write_atomically(run / TRAINED_ON, lambda path: path.write_text(json.dumps(known, indent=1) + "\n", "utf-8"))


def trained_on(run: str | Path) -> dict:
    """{"pretrained": {"coco/train": hash}, "tuned": {}}; "pretrained" is None if unknown, as in converted runs."""
    path = Path(run) / TRAINED_ON
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"pretrained": None, "tuned": {}}


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
