"""A folder with a folder of images for each label: its images, and reports on them.

`zero_shot` has the classifiers.
"""
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.evaluation.intervals import Clusters, summarise
from minalbef.evaluation.ranking import recall
from minalbef.recipes import report
from minalbef.recipes.evaluate import Result, figure_lines, write_result
from minalbef.recipes.features import embed_folder, images_in
from minalbef.system import distributed
from minalbef.system.images import content_hash
from minalbef.system.limits import printable
from minalbef.tasks.run import Run

PARTS = ("train", "test")
TOP = 5


class LabelledImages(NamedTuple):
    """The images in label folders, those that can be read."""

    folder: Path
    labels: list[str]                 # of all folders that have images
    features: Tensor                  # (n, e) in the shared space or (n, d) of [CLS]
    truths: Tensor                    # (n,) each image's label
    contents: Tensor                  # (n,) equal where files have the same bytes
    in_test: Tensor | None            # (n,) bool, in FOLDER/test; None without parts
    broken: list[str]                 # why other images can't be read
    outside: int                      # images that lie in no label folder


def has_parts(folder: Path) -> bool:
    """Whether a folder has label folders in FOLDER/train and FOLDER/test.

    Raises ValueError for one that has them in one of the two.
    """
    in_train, in_test = [any(folder.glob(f"{part}/*/")) for part in PARTS]
    if in_train != in_test:
        part = folder / (PARTS[0] if in_train else PARTS[1])
        raise ValueError(f"{folder} has label folders in {part.name}, but not in both train "
                         f"and test; name {part}, or call the other part train or test")
    return in_train


def label_of(path: Path, folder: Path, parts: bool) -> str:
    """An image's label, its folder's name with spaces; "" outside of label folders."""
    names = list(path.relative_to(folder).parts[:-1])
    if parts and names and names.pop(0) not in PARTS:
        return ""
    # hidden folders hold thumbnails and the like
    if not names or names[0].startswith("."):
        return ""
    return re.sub("[_-]", " ", names[0]).strip()


def read_label_folders(run: Run, folder: Path, cls: bool = False) -> LabelledImages:
    """The images in a folder's label folders, with their features, on the CPU.

    cls: see `embed_folder`. Features are kept in the run's folder of results.
    Raises ValueError for fewer than two labels, and where no image can be read.
    """
    run.model.to(distributed.device_at_hand(run.config.device))
    folder = Path(folder).resolve()
    parts = has_parts(folder)
    paths = images_in(folder)
    names = {label_of(path, folder, parts) for path in paths}
    labels = sorted(names - {""})
    check_labels(folder, labels, paths)
    embedded = embed_folder(run, folder, report.output_folder(run.path), cls)
    rows = []
    truths = []
    contents = []
    in_test = []
    for i, path in enumerate(embedded.paths):
        label = label_of(path, folder, parts)
        if label:
            rows.append(i)
            truths.append(labels.index(label))
            contents.append(content_hash(path.read_bytes()))
            in_test.append(parts and path.is_relative_to(folder / "test"))
    if not rows or parts and not any(in_test):
        unread = embedded.broken[0] if embedded.broken else "they have none"
        raise ValueError(f"no image to test on can be read in label folders of {folder}: "
                         f"{unread}; add some, or save them again")
    outside = len(embedded.paths) - len(rows)
    return LabelledImages(folder, labels, embedded.features[rows],
                          torch.tensor(truths), torch.tensor(contents),
                          torch.tensor(in_test) if parts else None,
                          embedded.broken, outside)


def check_labels(folder: Path, labels: Sequence[str], paths: Sequence[Path]) -> None:
    """Raises ValueError for fewer than two labels."""
    if len(labels) < 2:
        there = f"one label, {labels[0]!r}" if labels else "no label folders"
        raise ValueError(f"{folder} has {there}, and {len(paths):,} images such as "
                         f"{paths[0].relative_to(folder)}; put the images of each label in "
                         "a folder of its name, such as dog/1.png and cat/1.png, two labels "
                         "at least")


def classified(scores: Tensor, truths: Tensor, contents: Tensor) -> dict[str, Any]:
    """Whether the right label is first; with more than TOP labels also among the TOP first.

    scores: (n, labels); copies of an image are one cluster
    """
    true = F.one_hot(truths, scores.shape[1]).bool()
    samples: dict[str, Any] = {"top_1": recall(scores, true)}
    if scores.shape[1] > TOP:
        samples[f"top_{TOP}"] = recall(scores, true, TOP)
    if len(contents.unique()) < len(contents):
        for name, hits in samples.items():
            samples[name] = Clusters(hits, contents)
    return samples


def chance_levels(labels: Sequence[str]) -> dict[str, float]:
    """Of the figures of `classified`, for scores in random order."""
    return {"top_1": 1 / len(labels), f"top_{TOP}": min(1, TOP / len(labels))}


def most_confused(scores: Tensor, truths: Tensor, labels: Sequence[str]
                  ) -> dict[str, Any]:
    """The label whose images are most often taken for a certain other one; {} for none.

    scores: (n, labels)
    """
    answers = scores.argmax(1)
    mistakes = torch.stack([truths, answers])[:, answers != truths]
    if not mistakes.shape[1]:
        return {}
    pairs, counts = mistakes.unique(dim=1, return_counts=True)
    truth, answer = pairs[:, counts.argmax()].tolist()
    return {"label": labels[truth], "taken_for": labels[answer],
            "images": int(counts.max()), "of": int((truths == truth).sum())}


def write_results(run: Run, task: str, data: LabelledImages, samples: dict[str, Any],
                  more: dict[str, Any], seconds: float, out: Path | None, command: str
                  ) -> dict:
    """Write report.json: -> the report.

    samples: of intervals.summarise, more: what else to report
    out: where to write, by default TASK-NAME-HASH in the run's folder of results
    """
    content = repr((data.labels, data.truths.tolist(), data.contents.tolist()))
    manifest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    if out is None:                              # many folders are called "test"
        name = report.component(data.folder.name)
        out = report.output_folder(run.path) / f"{task}-{name}-{manifest[:8]}"
    figures, spans, counts = summarise(samples)
    about = {"folder": str(data.folder), "labels": len(data.labels),
             "manifest": manifest, "unreadable": data.broken, "outside": data.outside}
    about |= {**more, **figures, "intervals": spans, "counts": counts}
    result = Result(task, run.config, about, out)
    return write_result(run.path, result, {"evaluate": seconds}, command)


def table(figures: dict) -> str:
    """A report of `write_results` as text."""
    lines = [f"{figures['task']} on {figures['folder']}: {figures['labels']:,} labels"]
    for part, number in figures["images"].items():
        lines[0] += f", {number:,} images to {part}"
    lines += figure_lines(figures)
    if pair := figures.get("most_confused"):
        names = f"{pair['label']!r} taken for {pair['taken_for']!r}"
        lines.append(f"  most confused: {names}, {pair['images']:,} of {pair['of']:,} images")
    if figures["unreadable"]:
        lines.append(f"  unreadable images: {len(figures['unreadable']):,}")
    if figures["outside"]:
        lines.append(f"  images outside label folders: {figures['outside']:,}")
    return "\n".join(map(printable, lines))
