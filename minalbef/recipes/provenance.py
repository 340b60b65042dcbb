"""What a run was trained on, recorded beside its weights, and in words: zero-shot or not?"""
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from minalbef.datasets.loader import count_unreadable
from minalbef.datasets.store import hash_of, place_of, read_about
from minalbef.system import checkpoint
from minalbef.system.checkpoint import TRAINED_ON
from minalbef.system.writing import check_fields, read_json, write_text


def hashes_of(data: Sequence[str | Path]) -> dict[str, str]:
    """{"coco/train": hash of its records} of prepared sets or splits of them, in their order."""
    hashes: dict[str, str] = {}
    for folder, split in map(place_of, data):
        name = f"{read_about(folder)['set']}/{split}"
        if name in hashes:                       # sets of your own may share a name
            name = f"{name} ({len(hashes) + 1})"
        hashes[name] = hash_of(folder, split)
    return hashes


def record_training(folder: Path, phase: str, splits: Mapping[str, str], before: dict[str, Any],
                    run: Path | None = None) -> None:
    """Record in a run folder which splits it was trained on, after those of its source.

    phase: "pretrained" or "tuned"
    splits: see `hashes_of`, computed when training began, since a set may be prepared again
        meanwhile. The hash of a split's records identifies it under another name, too
    before: the record of the run that it began from
    run: the folder of the training, if `folder` holds only its best weights
    """
    record = dict(before)
    record[phase] = {**(before[phase] or {}), **splits}
    record["unreadable"] = count_unreadable(run or folder)
    if (folder / "model.safetensors").exists():                  # else it is in training
        record["weights"] = checkpoint.hash_of_weights(folder)
    write_text(folder / TRAINED_ON, json.dumps(record, indent=1) + "\n")


def trained_on(run: str | Path) -> dict[str, Any]:
    """A run's record, such as {"pretrained": {"coco/train": hash}, "tuned": {}}.

    "pretrained" is None if unknown, as in converted runs. Raises ValueError for a damaged record,
    and for that of other weights.
    """
    path = Path(run) / TRAINED_ON
    if not path.exists():
        return {"pretrained": None, "tuned": {}}
    way_out = "copy it again, or remove it: then what the run was trained on counts as not recorded"
    record = read_json(path, way_out, check_record)
    weights = record.pop("weights", None)        # those of model.safetensors, once there are any
    whole = (Path(run) / "model.safetensors").exists()
    if weights is not None and whole and weights != checkpoint.hash_of_weights(run):
        raise ValueError(f"{path} is the record of other weights; {way_out}")
    return record


def check_record(record: Any) -> dict[str, Any]:
    """The record. Raises ValueError for what `record_training` doesn't write."""
    check_fields(record, {"tuned": dict})
    for splits in (record.get("pretrained", ""), record["tuned"]):
        unknown = splits is None                 # of pretraining alone
        if not unknown and not (isinstance(splits, dict)
                                and all(isinstance(value, str) for value in splits.values())):
            raise ValueError(f"{splits!r} must be hashes by split")
    return record


def protocol_of(run: Path, task: str, name: str, split: str, manifest: str,
                tuned: Sequence[str] = ()) -> str:
    """In words, what a run was trained on and whether it saw a split.

    name, split, manifest: the test set's, and the hash of its records
    tuned: the sets that it was trained on, if it doesn't record them
    """
    sets = trained_on(run)
    again = manifest in {**(sets["pretrained"] or {}), **sets["tuned"]}.values()
    if tuned:
        sets["pretrained" if task == "pretrain" else "tuned"] = dict.fromkeys(tuned)
    return protocol(task, name, split, sets["tuned"], sets["pretrained"], again)


def protocol(kind: str, name: str, split: str, tuned: Collection[str],
             pretrained: Collection[str] | None = (), again: bool = False) -> str:
    """What a run was trained on, in words, and whether that includes the test set.

    kind: the run's task; name, split: of the test set
    tuned, pretrained: sets or splits; pretrained=None if they aren't recorded
    again: whether they include the test split, under any name
    """
    if kind != "pretrain" and not tuned:
        return (f"fine-tuned for {kind}, on which set the run does not say: "
                "name it with --tuned-on")
    if kind == "pretrain" and pretrained is None:
        return ("the pretrained model as it is; what it was trained on is not recorded: "
                "name it with --tuned-on")
    parts = []
    if pretrained:
        parts.append(f"pretrained on {', '.join(sorted(pretrained))}")
    if tuned:
        parts.append(f"fine-tuned on {', '.join(sorted(tuned))}")
    description = ", ".join(parts) or "the pretrained model as it is"
    splits = [*(pretrained or ()), *tuned]
    if again or f"{name}/{split}" in splits:
        return f"{description}: trained on this very split"
    if name in [split.partition("/")[0] for split in tuned]:
        return description
    if name in [split.partition("/")[0] for split in splits]:
        return f"{description}: not zero-shot, for it was pretrained on {name}"
    if splits:
        description += f", not on {name}"
    if pretrained is None:
        description += "; what it was pretrained on is not recorded"
    return f"zero-shot: {description}"
