"""From a set's files to prepared records: checked, counted, and compared with other sets.

Nothing is downloaded, but for a Hugging Face dataset that you name.
"""
import json
import logging
import os
import shlex
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, groupby, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from minalbef.config import RANGES
from minalbef.data import Record
from minalbef.datasets import clipart, hugging_face, pairs, public
from minalbef.datasets.catalogue import (
    OWN,
    PRETRAINING,
    Input,
    expected_counts,
    files_below,
    find_inputs,
)
from minalbef.datasets.doubts import Doubts
from minalbef.datasets.forms import Columns, Fault
from minalbef.datasets.looks import content_of
from minalbef.datasets.readers import (
    FaultHandler,
    ignore,
    in_share,
    photo_id,
    read_aliases,
)
from minalbef.datasets.sheet import write_sheet
from minalbef.datasets.store import digest_of, file_of, read_about, seal, to_line
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.system.images import ImageFile, open_image
from minalbef.system.limits import check_range
from minalbef.system.writing import hold, name_file, remove_dead, restate, write_atomically
from minalbef.tasks.vqa import VQARecord

LOG = logging.getLogger(__name__)
LOCK = ".preparing"
SAMPLES = 3                           # images to show first, with their captions,
FIRST = 1_000                         # among so many records
MOST_BAD = 0.5                        # share of a split's entries that may be bad, by default


class Tally:
    """Counts a split's bad entries by kind, with the first of each, and writes them to a file."""

    def __init__(self, file: TextIO):
        self.file = file
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.avoided = 0

    def __call__(self, fault: Fault) -> None:
        print(fault, file=self.file)
        self.counts[fault.kind] += fault.count
        self.first.setdefault(fault.kind, str(fault))


@dataclass(frozen=True)
class Job:
    """What to prepare, and all that it needs.

    inputs: by split, the readers and their files
    roots: folders of images; root: the folder that records' paths are relative to
    below: whether images may lie beside a list below its root, as nobody named their folders
    own: your own pairs, if they are the set
    aliases: of photographs, see `readers.photo_id`; avoid: photographs to leave out of training
    command: makes the set again. The rest: see `prepare`
    """

    name: str
    source: Path
    inputs: dict[str, list[Input]]
    roots: list[Path]
    root: Path
    own: pairs.OwnPairs | None
    aliases: dict[str, str]
    avoid: set[int]
    command: str
    look: bool
    most_bad: float
    data_fraction: float
    below: bool

    @property
    def is_own(self) -> bool:
        """Whether the set is read and trained on as your own: opened upright, and doubted."""
        return self.name in OWN

    def records(self, split: str, on_fault: FaultHandler) -> Iterator[Any]:
        """A split's records, as their readers find them. Faults go to `on_fault`."""
        options = {"aliases": self.aliases} if self.name == "vg" else {}
        for reader, files in self.inputs[split]:
            # Winoground's images lie beside its list, below the repository's root
            roots = [*self.roots, files["path"].parent] if self.below else self.roots
            yield from reader(**files, root=roots, on_fault=on_fault, **options)


def prepare(name: str, source: str | Path | None = None, out: str | Path = "prepared",
            images: Sequence[str | Path] = (), without: Sequence[str | Path] = (),
            look: bool = False, most_bad: float = MOST_BAD, data_fraction: float = 1.0,
            columns: Columns = Columns(), captions_from: str = "") -> str:
    """Check the files of a set in `source` and write it to out/name, for `store.Records`.

    The shipped clip art needs no source; its images are unpacked into out/clipart/images, as are
    those of a Hugging Face dataset (pairs, with source hf-dataset://OWNER/NAME or a folder of it).
    An older version of the set stays in use until the new one is complete, and a training run that
    reads it continues. A few images with their captions are logged first, and out/name/sheet.png
    shows more of those to train on.
    images: folders of the images, if they aren't below source
    without: prepared splits, such as out/coco/test, whose images must not be trained on
    look: also open every image
    most_bad: with a larger share of bad entries, nothing is written
    data_fraction: of the training images, see readers.in_share; validation and test stay whole
    columns: of the table of your own pairs, if their names aren't known ones, and a column by whose
        values rows stay in one split
    captions_from: pairs.NAMES or FOLDERS: of your own images, these are the captions
    -> an account, to print
    Raises ValueError for an unknown set, for a file that is missing or broken, for too many bad
    entries, and while another process prepares the same set.
    """
    check_range(f"data_fraction={data_fraction}", data_fraction, *RANGES["data_fraction"])
    options = {f"{what}-column": column for what, column in columns._asdict().items()}
    options["captions-from"] = captions_from
    if any(options.values()) and name != "pairs":
        given = ", ".join(f"--{option}" for option, value in options.items() if value)
        raise ValueError(f"{given} is for your own pairs, and {name} has its format; leave it out")
    address = str(source)
    is_hub = address.startswith(hugging_face.SCHEME)
    if is_hub and (name != "pairs" or images):
        raise ValueError(f"{address} holds pairs of images and captions, and is read as that "
                         f"alone: minalbef prepare pairs --from {address}, without --images")
    if source and not is_hub:
        source = Path(os.path.abspath(source))
    command = command_of({"from": source, "out": Path(out).resolve(), "images": resolved(images),
                          "without": resolved(without), **options, "look": look,
                          "most-bad": most_bad, "data-fraction": data_fraction}, name)
    folder = Path(out) / name
    if name == "clipart":
        source = clipart.unpack(Path(source) if source else None, folder / "images")
    if source is None:
        raise ValueError(f"{name} has no source; name the folder of its files with --from (only "
                         "clipart is shipped, and needs none)")
    source = Path(source)
    own = None
    files: dict[str, list[Path]] = {}
    roots = [Path(os.path.abspath(root)) for root in
             images or [source.parent if source.is_file() else source]]
    if is_hub or name == "pairs" and hugging_face.is_dataset(source):
        roots = [Path(os.path.abspath(folder / "images"))]
        own = hugging_face.open_dataset(address, roots[0], columns)
    elif name == "pairs":
        own = pairs.open_folder(source, roots, columns, captions_from)
    else:
        files = files_below(source)
    account = []
    if own:
        LOG.info("captions from %s", own.description)
        account += [*own.notes, *own.describe_splits(columns.group)]
        inputs = {split: [Input(partial(own.read, split=split), {"path": source})]
                  for split in pairs.SPLITS}
    else:
        inputs = find_inputs(name, files)
    aliases = read_aliases(files["image_data.json"][0]) if "image_data.json" in files else {}
    avoid = set()
    for split in without:
        avoid.update(photos_in(Path(split)).flatten().tolist())
    job = Job(name, source, inputs, roots, Path(os.path.commonpath(roots)), own, aliases,
              avoid, command, look, most_bad, data_fraction, below=not images)
    answers: list[str] = []
    if name == "vqa":
        answers, lines = list_answers(job, files)
        account += lines
    log_samples(job)
    with hold(folder / LOCK, "prepares it", "--out"), name_file(folder):
        remove_dead(folder.glob(".*.tmp"))
        account += replace_set(job, folder, answers)
        account += write_sheet(folder)
    account += find_shared(Path(out), name)
    account.append(f"{folder} is ready for minalbef.datasets.store.Records")
    return "\n".join(account)


def resolved(paths: Iterable[str | Path]) -> list[Path]:
    """The paths from the root on."""
    return [Path(path).resolve() for path in paths]


def command_of(options: dict[str, Any], name: str) -> str:
    """The command that prepares a set again, in any folder."""
    words = ["prepare", name]
    usual = {"most-bad": MOST_BAD, "data-fraction": 1.0}
    for option, value in options.items():
        if value and value != usual.get(option):
            words.append(f"--{option}")
            if value is not True:
                words += map(str, value if isinstance(value, list) else [value])
    return shlex.join(words)


def list_answers(job: Job, files: dict[str, list[Path]]) -> tuple[list[str], list[str]]:
    """VQA's answers to rank, from the list below the source or else from training; lines to print.
    """
    if "answer_list.json" in files:
        return public.answer_list(files["answer_list.json"][0]), []
    counts = public.count_answers(job.records("train", ignore))
    answers = [answer for answer, _ in counts.most_common(public.ANSWERS)]
    line = (f"answers.json: the {len(answers):,} most frequent of {len(counts):,} answers to "
            f"training questions; no answer_list.json is below {job.source}")
    return answers, [line] if answers else []


def log_samples(job: Job) -> None:
    """Show the first images with their captions before all are read, if the set has captions."""
    split = next(split for split, inputs in job.inputs.items() if inputs)
    records = islice(job.records(split, ignore), FIRST)
    captions = (record for record in records if isinstance(record, Record))
    lines = []
    for image, group in islice(groupby(captions, lambda record: record.image), SAMPLES):
        name = os.path.relpath(getattr(image, "path", image), job.root).replace(os.sep, "/")
        lines.append(f"  {pairs.quote(name)}: {pairs.shown([record.text for record in group])}")
    if lines:
        LOG.info("%s", "\n".join(["the first images and their captions:", *lines]))


def replace_set(job: Job, folder: Path, answers: Sequence[str]) -> list[str]:
    """Write all splits beside an old set, then switch: about.json names the new files.

    answers: VQA's, to rank  ->  lines to print
    Raises ValueError for too many bad entries; the old set then stays.
    """
    old = {path for split in job.inputs for path in folder.glob(f"{split}[-.]*")}
    suffix = ""
    if (folder / "about.json").exists():
        suffix = f"-{time.time_ns()}"                    # new names, since the old set is in use
    splits: dict[str, dict[str, Any]] = {}
    account = []
    doubts = Doubts()
    with TemporaryDirectory(prefix=".", suffix=f".{os.getpid()}.tmp", dir=folder) as temporary:
        for split, inputs in job.inputs.items():
            if not inputs:
                account.append(f"{split}: none of its files is below {job.source}")
                continue
            path = Path(temporary, split + suffix)
            with name_file(folder / f"{split}.jsonl"):
                notes, tally = write_split(job, split, path, doubts)
            is_empty = job.own and not notes["records"] and not tally.counts
            if is_empty and (splits or split != "test"):     # if all are empty, the last one fails
                account.append(f"{split}: no image falls into it")
                continue
            check_tally(job, split, tally, notes["records"], faults_of(path, split), folder)
            splits[split] = notes
            account += describe_split(job, split, notes, tally)
        unused = unused_images(job)
        if answers:
            Path(temporary, "answers.json").write_text(json.dumps(answers) + "\n", encoding="utf-8")
        new = switch(job, folder, Path(temporary), splits, len(unused))
    for path in {*old, folder / "answers.json"} - new:
        with suppress(OSError):                          # Windows keeps a file that is open
            path.unlink()
    if unused:
        account.append(f"{len(unused):,} images are in no record, such as {unused[0]}")
    return account + doubts.describe()


def switch(job: Job, folder: Path, temporary: Path, splits: dict[str, dict[str, Any]],
           unused: int) -> set[Path]:
    """Move all new files of these splits into the folder: -> their paths.

    Records come first, then about.json, which makes them the set. Lists of bad entries come last,
    since they have the same names as the old set's.
    """
    files = sorted(temporary.glob("answers.json"))
    for split in splits:
        files += sorted(temporary.glob(f"{split}[-.]*"))
    faults = [path for path in files if path.name.endswith(pairs.FAULTS)]
    for path in files:
        if path not in faults:
            os.replace(path, folder / path.name)
    about = {"set": job.name, "root": str(job.root), "upright": job.is_own,
             "command": job.command, "unused": unused, "splits": splits}
    about["seal"] = seal(about)
    text = json.dumps(about, indent=1) + "\n"
    write_atomically(folder / "about.json", lambda path: path.write_text(text, encoding="utf-8"))
    for path in faults:
        os.replace(path, folder / path.name)
    return {folder / path.name for path in files}


def unused_images(job: Job) -> list[Path]:
    """The images below the folders of your own pairs that no row is of."""
    if not job.own:
        return []
    used = set(map(os.path.abspath, job.own.used))
    below = chain.from_iterable(map(pairs.files_below, job.roots))
    return [path for path in below
            if pairs.is_image(path) and os.path.abspath(path) not in used]


def check_tally(job: Job, split: str, tally: Tally, good: int, faults: Path,
                folder: Path) -> None:
    """Raises ValueError for a split without good records, or with too many bad entries.

    good: records; faults: the list of bad ones, which then moves to the folder of the set
    """
    bad = tally.counts.total()
    if good and bad <= job.most_bad * (bad + good):
        return
    refused = folder / f"{split}.refused{pairs.FAULTS}"
    os.replace(faults, refused)
    first = "; ".join(tally.first.values()) or "none, it is empty"
    raise ValueError(f"{job.name}/{split}: {good:,} good records and {bad:,} bad entries; at most "
                     f"{job.most_bad:.0%} may be bad. The first of each kind: {first}; all of "
                     f"them: {refused}")


def write_split(job: Job, split: str, path: Path, doubts: Doubts) -> tuple[dict[str, Any], Tally]:
    """Write a split's records, their index and photographs' ids, and its bad entries.

    -> its notes for about.json, and the tally
    """
    offsets = array("q", [0])
    photos = array("q")
    kind = "Record"
    with open(faults_of(path, split), "w", encoding="utf-8", errors="replace") as faults, \
            open(path.with_suffix(".jsonl"), "wb") as file:
        tally = Tally(faults)
        records = usable_records(job, split, tally)
        progress = tqdm(records, desc=path.name, unit=" records", disable=None, mininterval=1)
        for record, ids in progress:
            offsets.append(offsets[-1] + file.write(to_line(record, job.root)))
            photos.extend(chain.from_iterable(ids))
            kind = type(record).__name__
            if job.is_own:
                doubts.add(record, split)
    np.save(path.with_suffix(".npy"), np.frombuffer(offsets, np.int64))
    unique = np.unique(np.array(photos, np.int64).reshape(-1, 2), axis=0)
    np.save(path.with_suffix(".photos.npy"), unique)
    notes = {
        "kind": kind,
        "records": len(offsets) - 1,
        "pictures": len(np.unique(unique[:, 1])),
        "digest": digest_of(path.with_suffix(".jsonl")),
        "faults": dict(tally.counts),
        "avoided": tally.avoided,
        "files": [str(file) for _, files in job.inputs[split] for file in files.values()],
        "origin": "hashed" if job.own and not job.own.names_splits else "named",
        "file": path.name,
    }
    return notes, tally


def faults_of(path: Path, split: str) -> Path:
    """The list of a split's bad entries, beside its records."""
    return path.with_name(f"{split}{pairs.FAULTS}")


def usable_records(job: Job, split: str,
                   tally: Tally) -> Iterator[tuple[Any, list[tuple[int, int]]]]:
    """A split's records that may be used, with the photograph's id and content's hash of each image.

    Their images are images, and none is to be avoided.
    """
    avoid = job.avoid if split == "train" or len(job.inputs) == 1 else set()
    data_fraction = job.data_fraction if split == "train" else 1.0
    check = lru_cache(4)(partial(check_image, job=job))      # an image's captions are neighbours
    for record in job.records(split, tally):
        photos = photos_of(record, job.aliases)
        try:
            record = look_at_record(record, check)
        except Fault as fault:
            tally(fault)
            continue
        ids = [(photo, image.hash or 0) for photo, image in zip(photos, images_of(record))]
        if avoid and not avoid.isdisjoint(chain.from_iterable(ids)):
            tally.avoided += 1
        elif all(in_share(content, data_fraction) for _, content in ids):
            yield record, ids


def look_at_record(record: Any, check: Callable[[Any], ImageFile]) -> Any:
    """A record with its images' hashes. Raises Fault for what is no image.

    A single image's hash becomes the id of its captions; questions and pairs have their own.
    """
    if hasattr(record, "images"):
        record = replace(record, images=tuple(map(check, record.images)))
    else:
        record = replace(record, image=check(record.image))
    if isinstance(record, Record | ChoiceRecord) and len(images_of(record)) == 1:
        record = replace(record, id=images_of(record)[0].hash or 0)
    return record


def images_of(record: Any) -> Sequence[ImageFile]:
    """A record's images, one or two."""
    return record.images if hasattr(record, "images") else [record.image]


def check_image(image: Path | ImageFile, job: Job) -> ImageFile:
    """The image's file with its hash. Raises Fault for what is no image.

    With job.look it is opened, too.
    """
    file = image if isinstance(image, ImageFile) else ImageFile(image)
    file = replace(file, hash=content_of(file))
    if job.look:
        try:
            open_image(file, job.is_own)
        except ValueError as error:
            raise Fault("unreadable image", str(error).rpartition("; ")[0],
                        "get it again or leave it out") from error
    return file


def photos_of(record: Any, aliases: dict[str, str]) -> list[int]:
    """Ids of the photographs that a record shows; its own id may number something else."""
    if isinstance(record, VQARecord):
        album = "vg" if record.dataset == "vg" else ""
        return [photo_id(str(record.image), album, aliases)]
    images = images_of(record)
    return [photo_id(image.name) for image in images] if len(images) > 1 else [record.id]


def photos_in(split: Path) -> np.ndarray:
    """Ids and hashes of all photographs of a prepared split, such as prepared/coco/test: (n, 2).

    Raises ValueError if there is no such split.
    """
    with restate(f"{split} is no prepared split", "name one as FOLDER/coco/test", OSError,
                 ValueError, KeyError):
        return np.load(file_of(split.parent, split.stem, ".photos.npy"))


def describe_split(job: Job, split: str, notes: dict[str, Any], tally: Tally) -> list[str]:
    """Lines to print: how much there is and should be, and what was left out and why."""
    images, records = expected_counts(job.name, split, map(Path, notes["files"]))
    data_fraction = job.data_fraction if split == "train" else 1.0
    images, records = (count and round(data_fraction * count) for count in (images, records))
    lines = [f"{split}: {describe_count(notes['pictures'], 'images', images)}, "
             f"{describe_count(notes['records'], 'records', records)}"]
    if data_fraction < 1:
        lines[0] += f", a share of {data_fraction:g}"
    for kind, count in tally.counts.most_common():
        lines.append(f"  {count:,} times {kind}, the first: {tally.first[kind]}")
    if images and notes["pictures"] < 0.99 * images:
        lines.append(f"  {images - notes['pictures']:,} images of the published set are missing: "
                     "its lists here are incomplete, or entries were left out. Training learns "
                     "from what is here, and its figures won't be the published set's. Ignore "
                     "this if the set is your own")
    if tally.avoided:
        lines.append(f"  {tally.avoided:,} left out, whose images are in a split of --without")
    return lines


def describe_count(count: int, what: str, expected: int | None) -> str:
    """A count beside the expected one: "5,012 images of 113,000 (4.4%)"."""
    if not expected:
        return f"{count:,} {what}"
    text = f"{count:,} {what} of {expected:,}"
    fraction = count / expected
    return text if abs(fraction - 1) <= 0.01 else f"{text} ({fraction:.1%})"


def find_shared(out: Path, name: str) -> list[str]:
    """Lines to print: images of a training split that are also in an evaluation split.

    Compares set `name` with all sets prepared in `out`.
    """
    photos: dict[tuple[str, str], np.ndarray] = {}
    lines = []
    for about in sorted(out.glob("*/about.json")):
        folder = about.parent
        try:
            for split in read_about(folder)["splits"]:
                photos[folder.name, split] = photos_in(folder / split)
        except ValueError as error:                          # of another set, which must not matter
            lines.append(f"not compared with {folder}: {error}")
    trained = {set_name: seen for (set_name, split), seen in photos.items() if split == "train"}
    for (tested, split), test_photos in photos.items():
        for set_name, seen in trained.items():
            if split == "train" or name not in (set_name, tested):
                continue
            both = np.isin(test_photos, seen).any(1)         # by id or by content
            if (tested == set_name or set_name in PRETRAINING) and both.any():
                shared = len(np.unique(test_photos[both, 1]))
                lines.append(f"{shared:,} images of {set_name}/train are in {tested}/{split}, "
                             f"{shared / len(test_photos):.1%} of it; leave them out by: prepare "
                             f"{set_name} --without {out / tested / split}")
    return lines
