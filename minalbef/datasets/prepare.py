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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TextIO

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
from minalbef.datasets.looks import find_alike, look_of, small_copy
from minalbef.datasets.readers import (
    Fault,
    FaultHandler,
    ignore,
    in_share,
    photo_id,
    read_aliases,
    stable_hash,
)
from minalbef.datasets.sheet import write_sheet
from minalbef.datasets.store import Records, digest_of, file_of, read_about, seal, to_line
from minalbef.datasets.tables import Columns, walk
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.system.images import SUFFIXES, ImageFile, open_image
from minalbef.system.limits import check_range
from minalbef.system.tokenizer import clean
from minalbef.system.writing import hold, holder_of, name_file, restate, sweep, write_atomically
from minalbef.tasks.vqa import VQARecord

LOG = logging.getLogger(__name__)
LOCK = ".preparing"
SHEET = "sheet.png"
FIRST = 1_000                         # records at most, to find a few images to show first
MOST_BAD = 0.5                        # share of a split's entries that may be bad, by default
ENDINGS = (".jsonl", ".npy", ".photos.npy")      # of a split's records, their index, photograph ids


class Tally:
    """Counts a split's bad entries by kind, with the first of each, and writes them to a file."""

    def __init__(self, file: TextIO):
        self.file = file
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.images: set[Path] = set()           # whose captions are bad
        self.avoided = 0
        self.transparent: set[int] = set()
        self.turned: set[int] = set()

    def __call__(self, fault: Fault) -> None:
        print(fault, file=self.file)
        self.counts[fault.kind] += fault.count
        self.first.setdefault(fault.kind, str(fault))
        if fault.image:
            self.images.add(fault.image)

    def problem(self, split: str, good: int, most_bad: float) -> str:
        """What is wrong with a split without good records, or with too many bad entries; or ""."""
        bad = self.counts.total()
        if good and bad <= most_bad * (bad + good):
            return ""
        first = "; ".join(self.first.values()) or "none, it is empty"
        return (f"{split}: {good:,} good records and {bad:,} bad entries; at most {most_bad:.0%} "
                f"may be bad. The first of each kind: {first}")


class Seen(NamedTuple):
    """A record whose images have been looked at, and how each is known in other sets."""

    record: Any                       # its images are ImageFiles with their hash
    photos: list[tuple[int, int]]     # of each image: the photograph's id, and its content's hash


@dataclass(frozen=True)
class Job:
    """What to prepare, and all that it needs.

    inputs: by split, the readers and their files
    roots: folders of images; root: the folder that records' paths are relative to
    aliases: of photographs, see `readers.photo_id`; avoid: photographs to leave out of training
    answers: VQA's list of answers. origin: of the splits, "named" or "hashed"
    command: makes the set again. The rest: see `prepare`
    """

    name: str
    source: Path
    inputs: dict[str, list[Input]]
    roots: list[Path]
    root: Path
    aliases: dict[str, str]
    avoid: set[int]
    answers: list[str]
    origin: str
    command: str
    look: bool
    most_bad: float
    share: float

    @property
    def upright(self) -> bool:
        """Whether images are opened upright: yours are, public sets' as the original opens them."""
        return self.name in OWN

    def records(self, split: str, on_fault: FaultHandler) -> Iterator[Any]:
        """A split's records, as their readers find them. Faults go to `on_fault`."""
        options = {"aliases": self.aliases} if self.name == "vg" else {}
        for reader, files in self.inputs[split]:
            yield from reader(**files, root=self.roots, on_fault=on_fault, **options)

    @property
    def is_own(self) -> bool:
        """Whether the set is read and trained on as your own, and so looked at more closely."""
        return self.name in OWN

    def samples(self) -> list[str]:
        """The first images with their captions, to show before all are read: a line each."""
        split = next(split for split, inputs in self.inputs.items() if inputs)
        return pairs.describe_samples(islice(self.records(split, ignore), FIRST), self.root)

    def takes(self, seen: Seen, split: str) -> bool:
        """Whether all images of a record are in the share to train on, as in store.open_records."""
        return split != "train" or all(in_share(content, self.share) for _, content in seen.photos)


def prepare(name: str, source: str | Path | None = None, out: str | Path = "prepared",
            images: Sequence[str | Path] = (), without: Sequence[str | Path] = (),
            look: bool = False, most_bad: float = MOST_BAD, share: float = 1.0,
            columns: Columns = Columns()) -> str:
    """Check the files of a set in `source` and write it to out/name, for `store.Records`.

    The shipped clip art needs no source; its images are unpacked into out/clipart/images, as are
    those of a Hugging Face dataset (pairs, with source hf-dataset://OWNER/NAME).
    An older version of the set stays in use until the new one is complete, and a training run that
    reads it continues. A few images with their captions are logged first, and out/name/sheet.png
    shows more of those to train on.
    images: folders of the images, if they aren't below source
    without: prepared splits, such as out/coco/test, whose images must not be trained on
    look: also open every image
    most_bad: with a larger share of bad entries, nothing is written
    share: of the training images, see readers.in_share; validation and test stay whole
    columns: of the table of your own pairs, if their names aren't known ones, and a column by whose
        values rows stay in one split
    -> an account, to print
    Raises ValueError for an unknown set, for a file that is missing or broken, for too many bad
    entries, and while another process prepares the same set.
    """
    check_range(f"share={share}", share, *RANGES["share"])
    out = Path(out)
    if name == "clipart":
        source = clipart.unpack(Path(source) if source else None, out / name / "images")
    if source is None:
        raise ValueError(f"{name} has no source; name the folder of its files with --from (only "
                         "clipart is shipped, and needs none)")
    dataset = None
    if str(source).startswith(hugging_face.SCHEME):
        dataset = open_hub_dataset(name, str(source), images, columns)
        images = [out / name / "images"]
    source = Path(source)
    files = {} if dataset else files_below(source)
    inputs = inputs_of(name, source, files, columns, dataset)
    if name == "pairs":
        where = dataset.describe() if dataset else pairs.describe_source(source, columns)
        LOG.info("captions from %s", where)
    roots = [Path(os.path.abspath(root)) for root in images or [source]]
    aliases = read_aliases(files["image_data.json"][0]) if "image_data.json" in files else {}
    avoid = set()
    for split in without:
        avoid.update(photos_in(Path(split)).flatten().tolist())
    origin, account = describe_origin(name, source, columns, dataset)
    job = Job(name=name, source=source, inputs=inputs, roots=roots, root=common_folder(roots),
              aliases=aliases, avoid=avoid, answers=[], origin=origin,
              command="", look=look, most_bad=most_bad, share=share)
    job = replace(job, command=command_of(job, dataset, out, images, without, columns))
    if name == "vqa":
        answers, lines = list_answers(job, files)
        account += lines
        job = replace(job, answers=answers)
    samples = job.samples()
    if samples:
        LOG.info("%s", "\n".join(["the first images and their captions:", *samples]))
    folder = out / name
    with hold(folder / LOCK, {}, refuse_second), name_file(folder):
        sweep(folder)
        account += replace_set(job, folder)
        account += describe_sheet(folder)
    account += find_shared(out, name)
    account.append(f"{folder} is ready for minalbef.datasets.store.Records")
    return "\n".join(account)


def describe_origin(name: str, source: Path, columns: Columns,
                    dataset: hugging_face.HubDataset | None) -> tuple[str, list[str]]:
    """Where a set's splits come from, "named" or "hashed", and a line to print for both."""
    if name != "pairs":
        return "named", []
    if dataset:
        return ("named" if dataset.names_splits else "hashed"), []
    named, unnamed, torn = pairs.names_splits(source, columns)
    lines = []
    if torn:
        lines.append(f"doubtful: {torn:,} groups of --group-column {columns.group} have rows that "
                     "name different splits")
    if named and unnamed:
        lines.append(f"splits: {named:,} rows name theirs and {unnamed:,} don't; for those a hash "
                     "decides, so name all of them if these are training data alone")
    return ("named" if named else "hashed"), lines


def command_of(job: Job, dataset: hugging_face.HubDataset | None, out: Path,
               images: Sequence[str | Path], without: Sequence[str | Path], columns: Columns
               ) -> str:
    """The command that prepares a set again, in any folder."""
    words: list[str | Path] = ["prepare", job.name, "--out", out.resolve()]
    if job.name != "clipart":
        words += ["--from", dataset.address if dataset else job.source.resolve()]
    if images and not dataset:
        words += ["--images", *(Path(image).resolve() for image in images)]
    if without:
        words += ["--without", *(Path(split).resolve() for split in without)]
    for field, column in columns._asdict().items():
        if column:
            words += [f"--{field}-column", column]
    if job.share < 1:
        words += ["--share", f"{job.share:g}"]
    if job.look:
        words.append("--look")
    if job.most_bad != MOST_BAD:
        words += ["--most-bad", f"{job.most_bad:g}"]
    return shlex.join(map(str, words))


def open_hub_dataset(name: str, address: str, images: Sequence[str | Path],
                     columns: Columns) -> hugging_face.HubDataset:
    """A Hugging Face dataset. Raises ValueError, also for what doesn't go with one."""
    if name != "pairs":
        raise ValueError(f"{address} is read as pairs of images and captions, not as {name}; "
                         f"write: minalbef prepare pairs --from {address}")
    if images:
        raise ValueError(f"{address} holds its images; leave --images out")
    return hugging_face.HubDataset(address, columns)


def inputs_of(name: str, source: Path, files: dict[str, list[Path]], columns: Columns,
              dataset: hugging_face.HubDataset | None = None) -> dict[str, list[Input]]:
    """By split, the readers of a set and their files. Raises ValueError, see `prepare`."""
    if name == "pairs":
        inputs = {}
        for split in pairs.SPLITS:
            if dataset:
                reader = partial(hugging_face.read_hub_dataset, split=split, dataset=dataset)
            else:
                reader = partial(pairs.read_pairs, split=split, columns=columns)
            inputs[split] = [Input(reader, {"path": source})]
        return inputs
    if any(columns):
        raise ValueError(f"columns {', '.join(filter(None, columns))} are of a table of your own "
                         f"pairs, and {name} has its format; leave --image-column and "
                         "--caption-column out")
    return find_inputs(name, files)


def common_folder(roots: list[Path]) -> Path:
    """The folder that holds all of these. Raises ValueError if they are on several drives."""
    with restate(f"no folder holds all of {', '.join(map(str, roots))}",
                 "put the images on one drive", ValueError):
        return Path(os.path.commonpath(roots))


def refuse_second(lock: Path) -> str:
    """The error's message if another process holds the lock."""
    return (f"{lock.parent} is in use: {holder_of(lock)} prepares it; "
            "wait until it ends, or choose another folder with --out")


def list_answers(job: Job, files: dict[str, list[Path]]) -> tuple[list[str], list[str]]:
    """VQA's answers to rank, from the list below the source or else from the training questions.

    -> the answers, and lines to print about them
    """
    if "answer_list.json" in files:
        return public.answer_list(files["answer_list.json"][0]), []
    if not job.inputs["train"]:
        return [], []
    counts = public.count_answers(job.records("train", ignore))
    answers = [answer for answer, _ in counts.most_common(public.ANSWERS)]
    return answers, [f"answers.json: the {len(answers):,} most frequent of {len(counts):,} answers "
                     f"to training questions; no answer_list.json is below {job.source}"]


def replace_set(job: Job, folder: Path) -> list[str]:
    """Write all splits beside an old set, then switch: about.json names the new files.

    -> lines to print. Raises ValueError for too many bad entries; the old set then stays.
    """
    old = old_files(folder)
    suffix = f"-{time.time_ns()}" if old else ""         # new names, since the old set is in use
    splits: dict[str, dict[str, Any]] = {}
    account = []
    watched = Watched()
    with TemporaryDirectory(prefix=".", suffix=f".{os.getpid()}.tmp", dir=folder) as temporary:
        for split, inputs in job.inputs.items():
            if not inputs:
                account.append(f"{split}: none of its files is below {job.source}")
                continue
            path = Path(temporary, split + suffix)
            with name_file(folder / f"{split}.jsonl"):
                notes, tally = write_split(job, split, path, watched)
            is_empty = job.name == "pairs" and not notes["records"] and not tally.counts
            if is_empty and (splits or split != "test"):     # if all are empty, the last one fails
                account.append(f"{split}: no image falls into it")
                for file in Path(temporary).glob(f"{split}[-.]*"):
                    file.unlink()
                continue
            check_tally(job, split, tally, notes["records"], faults_of(path, split), folder)
            splits[split] = notes | {"file": path.name}
            account += describe_split(job, split, splits[split], tally)
        unused = watched.unused(job) if job.is_own else []
        switch(job, folder, Path(temporary), splits, len(unused))
    remove_old(job, folder, old, splits)
    if unused:
        account.append(f"{len(unused):,} images are in no record, such as {unused[0]}")
    return account + watched.captions.describe() + watched.describe_shared()


class Watched:
    """What a set of your own has in several splits, and which of its images it uses."""

    def __init__(self) -> None:
        self.captions = pairs.Captions()
        self.texts: dict[str, list[int]] = {}                # hashes of captions, by split
        self.copies: dict[str, dict[int, np.ndarray]] = {}   # small copies by hash, by split
        self.used: set[Path] = set()

    def watch(self, records: Iterable[Seen], split: str) -> Iterator[Seen]:
        """Pass a split's records on, and look at them."""
        texts = self.texts.setdefault(split, [])
        copies = self.copies.setdefault(split, {})
        for seen in records:
            record = seen.record
            self.captions.add(record)
            self.used.add(record.image.path)
            if record.match is None:                         # a label is meant to be in all splits
                texts.append(stable_hash(clean(record.text)))
            if record.id not in copies:
                copy = small_copy(record.image)
                if copy is not None:
                    copies[record.id] = copy
            yield seen

    def unused(self, job: Job) -> list[Path]:
        """The images below the folders of your own pairs that no record or fault is of."""
        if job.name != "pairs":
            return []
        found: list[Path] = []
        for root in job.roots:
            for parent, names in walk(root):
                found += [parent / name for name in names
                          if Path(name).suffix.lower() in SUFFIXES]
        used = {os.path.abspath(path) for path in self.used}
        return [path for path in found if os.path.abspath(path) not in used]

    def describe_shared(self) -> list[str]:
        """Lines to print: captions and pictures of a split to evaluate on that are trained on."""
        lines = []
        trained = set(self.texts.get("train", ()))
        for split in (pairs.SPLITS[2], pairs.SPLITS[1]):
            texts = self.texts.get(split, [])
            count = sum(text in trained for text in texts)
            if count:
                lines.append(f"doubtful: {count:,} of {len(texts):,} captions of {split} stand "
                             "word for word in train, so its figures are too good; "
                             "--group-column keeps rows of one origin in one split")
            alike = find_alike(self.copies.get("train", {}), self.copies.get(split, {}))
            if alike:
                lines.append(f"doubtful: {len(alike):,} images of {split} look like one of train "
                             "and differ in bytes only, as a PNG and a JPEG of one picture do")
        return lines


def describe_sheet(folder: Path) -> list[str]:
    """Draw a sheet of images to train on, if the set has captions: -> a line to print."""
    splits = read_about(folder)["splits"]
    if "train" not in splits:
        return []
    records = Records(folder, "train")
    count = write_sheet(records, folder / SHEET) if issubclass(records.kind, Record) else 0
    if not count:
        return []
    return [f"{folder / SHEET} shows {count} images to train on with their captions: look at it"]


def check_tally(job: Job, split: str, tally: Tally, good: int, faults: Path,
                folder: Path) -> None:
    """Raises ValueError for a split with too many bad entries, and keeps the list of them.

    good: records; faults: the list, which moves to the folder of the set
    """
    problem = tally.problem(f"{job.name}/{split}", good, job.most_bad)
    if problem:
        refused = folder / f"{split}.refused{pairs.FAULTS}"
        os.replace(faults, refused)
        raise ValueError(f"{problem}; all of them: {refused}")


def old_files(folder: Path) -> list[Path]:
    """The files of the set in a folder, if there is one: records, indices and photograph ids."""
    files = []
    with suppress(ValueError):
        for split in read_about(folder)["splits"]:
            files += [file_of(folder, split, ending) for ending in ENDINGS]
    return files


def remove_old(job: Job, folder: Path, old: list[Path], splits: Iterable[str]) -> None:
    """Remove the files that belong to an old set alone."""
    new = {folder / f"{split}{pairs.FAULTS}" for split in splits}
    if job.answers:
        new.add(folder / "answers.json")
    for path in {*old, *folder.glob(f"*{pairs.FAULTS}"), folder / "answers.json"} - new:
        with suppress(OSError):                          # Windows keeps a file that is open
            path.unlink(missing_ok=True)


def write_split(job: Job, split: str, path: Path,
                watched: Watched) -> tuple[dict[str, Any], Tally]:
    """Write a split's records and its bad entries: -> its notes for about.json, and the tally."""
    with open(faults_of(path, split), "w", encoding="utf-8", errors="replace") as file:
        tally = Tally(file)
        records = usable_records(job, split, tally)
        if job.is_own:
            records = watched.watch(records, split)
        notes = write(path, records, job)
        watched.used |= tally.images
    files: list[str] = []
    for _, paths in job.inputs[split]:
        files += map(str, paths.values())
    notes |= {
        "faults": dict(tally.counts),
        "avoided": tally.avoided,
        "transparent": len(tally.transparent),
        "turned": len(tally.turned),
        "files": files,
        "origin": job.origin,
        "share": job.share if split == "train" else 1.0,
    }
    return notes, tally


def faults_of(path: Path, split: str) -> Path:
    """The list of a split's bad entries, beside its records."""
    return path.with_name(f"{split}{pairs.FAULTS}")


def switch(job: Job, folder: Path, temporary: Path, splits: dict[str, dict[str, Any]],
           unused: int) -> None:
    """Write answers.json, and move all new files into the folder.

    Records come first, then about.json, which makes them the set. Lists of bad entries come last,
    since they have the same names as the old set's.
    """
    if job.answers:
        text = json.dumps(job.answers) + "\n"
        (temporary / "answers.json").write_text(text, encoding="utf-8")
    faults = list(temporary.glob(f"*{pairs.FAULTS}"))
    for path in sorted(set(temporary.iterdir()) - set(faults)):
        os.replace(path, folder / path.name)
    about = {"set": job.name, "root": str(job.root), "upright": job.upright,
             "command": job.command, "unused": unused, "splits": splits}
    about["seal"] = seal(about)
    text = json.dumps(about, indent=1) + "\n"
    write_atomically(folder / "about.json", lambda path: path.write_text(text, encoding="utf-8"))
    for path in faults:
        os.replace(path, folder / path.name)


def usable_records(job: Job, split: str, tally: Tally) -> Iterator[Seen]:
    """A split's records that may be used: their images are images, and none is to be avoided.

    With job.look, none is unreadable either. The tally also counts images that look different when
    opened upright.
    """
    avoid: set[int] = set()
    if split == "train" or len(job.inputs) == 1:
        avoid = job.avoid
    latest = None
    fault = None
    for record in job.records(split, tally):
        images = record.images if hasattr(record, "images") else (record.image,)
        try:
            seen = look_at_record(record, images, job, tally)
            if job.look and images != latest:                # an image's captions are neighbours
                latest = images
                fault = fault_of_images(images, job.upright)
            if job.look and fault:
                raise fault
        except Fault as error:
            tally(error)
            continue
        if avoid and not avoid.isdisjoint(chain.from_iterable(seen.photos)):
            tally.avoided += 1
        elif job.takes(seen, split):
            yield seen


def look_at_record(record: Any, images: Sequence[Any], job: Job, tally: Tally) -> Seen:
    """A record with its images' hashes. Raises Fault for what is no image."""
    files = []
    for image in images:
        file = image if isinstance(image, ImageFile) else ImageFile(Path(image))
        try:
            look = look_of(file)
        except OSError as error:
            raise Fault("unreadable image", f"{file.name} cannot be read: "
                        f"{error.strerror or error}", "check its permissions or leave it out",
                        image=file.path) from error
        if look.problem:
            raise Fault("no image", f"{file.name} {look.problem}", "convert it or leave it out",
                        image=file.path)
        if look.transparent:
            tally.transparent.add(look.hash)
        if look.turned:
            tally.turned.add(look.hash)
        files.append(replace(file, hash=look.hash))
    hashes = [file.hash or 0 for file in files]
    photos = list(zip(photos_of(record, job.aliases), hashes))
    changes: dict[str, Any]
    if hasattr(record, "images"):
        changes = {"images": tuple(files)}
        if isinstance(record, ChoiceRecord) and len(files) == 1:
            changes["id"] = hashes[0]
        return Seen(replace(record, **changes), photos)
    changes = {"image": files[0]}
    if isinstance(record, Record):                           # questions have ids of their own
        changes["id"] = hashes[0]
    return Seen(replace(record, **changes), photos)


def fault_of_images(images: Iterable[Any], upright: bool) -> Fault | None:
    """Open images: -> the fault of the first that is unreadable."""
    try:
        for image in images:
            open_image(image, upright)
    except ValueError as error:
        problem = str(error).rpartition("; ")[0]
        return Fault("unreadable image", problem, "get it again or leave it out")
    return None


def write(path: Path, records: Iterable[Seen], job: Job) -> dict[str, Any]:
    """Write records, their index and the photographs' ids: -> notes for about.json.

    lacking: questions with none of their answers in VQA's list
    """
    answers = set(job.answers)
    offsets = array("q", [0])
    photos = array("q")
    kind = "Record"
    lacking = 0
    with open(path.with_suffix(".jsonl"), "wb") as file:
        for seen in tqdm(records, desc=path.name, unit=" records", disable=None, mininterval=1):
            record = seen.record
            offsets.append(offsets[-1] + file.write(to_line(record, job.root)))
            photos.extend(chain.from_iterable(seen.photos))
            kind = type(record).__name__
            if answers and record.answers and answers.isdisjoint(record.answers):
                lacking += 1
    np.save(path.with_suffix(".npy"), np.frombuffer(offsets, np.int64))
    unique = np.unique(np.array(photos, np.int64).reshape(-1, 2), axis=0)
    np.save(path.with_suffix(".photos.npy"), unique)
    return {"kind": kind, "records": len(offsets) - 1, "pictures": len(np.unique(unique[:, 1])),
            "lacking": lacking, "digest": digest_of(path.with_suffix(".jsonl"))}


def photos_of(record: Any, aliases: dict[str, str]) -> list[int]:
    """Ids of the photographs that a record shows; its own id may number something else."""
    if isinstance(record, VQARecord):
        album = "vg" if record.dataset == "vg" else ""
        return [photo_id(str(record.image), album, aliases)]
    images = getattr(record, "images", ())
    if len(images) > 1:
        return [photo_id(image.name) for image in images]
    return [record.id]


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
    share = notes["share"]
    parts = [describe_count(notes["pictures"], "images", images, share),
             describe_count(notes["records"], "records", records, share)]
    if share < 1:
        parts.append(f"a share of {share:g}")
    lines = [f"{split}: {', '.join(parts)}"]
    for kind, count in tally.counts.most_common():
        lines.append(f"  {count:,} times {kind}, the first: {tally.first[kind]}")
    expected = round(share * (images or 0))
    if notes["pictures"] < 0.99 * expected:
        lines.append(f"  {expected - notes['pictures']:,} images of the published set are missing: "
                     "its lists here are incomplete, or entries were left out. Training learns "
                     "from what is here, and its figures won't be the published set's. Ignore "
                     "this if the set is your own")
    if notes["lacking"]:
        lines.append(f"  {notes['lacking']:,} of {notes['records']:,} questions have none of their "
                     f"answers among the {len(job.answers):,} listed")
    lines += describe_opening(notes, job.upright)
    if tally.avoided:
        lines.append(f"  {tally.avoided:,} left out, whose images are in a split of --without")
    return lines


def describe_opening(notes: dict[str, Any], upright: bool) -> list[str]:
    """A line to print if images look different when opened upright: how many, and how they are."""
    kinds = []
    if notes["transparent"]:
        kinds.append(f"with transparency: {notes['transparent']:,}")
    if notes["turned"]:
        kinds.append(f"rotated by EXIF: {notes['turned']:,}")
    if not kinds:
        return []
    way = "read as the original reads them: not rotated, transparency dropped"
    if upright:
        way = "opened upright, over white"
    return [f"  images {', '.join(kinds)}; they are {way}"]


def describe_count(count: int, what: str, expected: int | None, share: float) -> str:
    """A count beside the expected one: "5,012 images of 113,000 (4.4%)"."""
    expected = round(share * (expected or 0))
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
    for trained, train_split in photos:
        for tested, test_split in photos:
            if train_split != "train" or test_split == "train" or name not in (trained, tested):
                continue
            if trained != tested and trained not in PRETRAINING:
                continue
            test_photos = photos[tested, test_split]
            both = np.isin(test_photos, photos[trained, "train"]).any(1)         # id or content
            shared = np.unique(test_photos[both, 1])
            if len(shared):
                lines.append(f"{len(shared):,} images of {trained}/train are in "
                             f"{tested}/{test_split}, {len(shared) / len(test_photos):.1%} of it; "
                             f"leave them out by: prepare {trained} "
                             f"--without {out / tested / test_split}")
    return lines
