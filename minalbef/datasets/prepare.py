"""A public set's files to the project's records: checked, counted, compared with other sets. Downloads nothing."""
import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from minalbef.config import RANGES, check_range
from minalbef.data import changes_upright, open_image
from minalbef.datasets import pairs, public, readers
from minalbef.datasets.catalogue import PRETRAINING, expected_counts, files_below, sources
from minalbef.datasets.readers import Fault, ignore, in_share, photo_id
from minalbef.datasets.store import file_of, line, read_about
from minalbef.datasets.tables import Columns
from minalbef.tasks.vqa import VQARecord
from minalbef.writing import explain, hold, holder_of, name_file, sweep, write_atomically

LOCK = ".preparing"


class Tally:
    """Bad entries: written to a file, and counted by kind, with the first of each."""

    def __init__(self, file):
        self.file, self.count, self.first, self.avoided = file, Counter(), {}, 0
        self.transparent: set = set()
        self.turned: set = set()

    def __call__(self, fault: Fault):
        print(fault, file=self.file)
        self.count[fault.kind] += fault.entries
        self.first.setdefault(fault.kind, str(fault))

    def note(self, pictures: Iterable):
        """Count those that opening them upright changes, by their headers alone."""
        for picture in pictures:
            transparent, turned = changes_upright(picture)
            if transparent:
                self.transparent.add(picture)
            if turned:
                self.turned.add(picture)

    def problem(self, split: str, good: int, most_bad: float) -> str:
        """What to say of a split without good records, or with too many bad entries; else ""."""
        bad = self.count.total()
        if good and bad <= most_bad * (bad + good):
            return ""
        first = "; ".join(self.first.values()) or "none, it is empty"
        return (f"{split}: {good:,} good records and {bad:,} bad entries; at most {most_bad:.0%} "
                f"may be bad. The first of each kind: {first}")


@dataclass(frozen=True)
class Job:
    """What is to be prepared, looked up: readers with their files by split, and what they need.

    roots: folders of pictures; root: what records' paths are relative to. same: aliases of
    photographs, see readers.relations; avoid: photographs to leave out of training
    answers: VQA's list. The rest: see `prepare`
    """

    name: str
    source: Path
    ways: dict[str, list[tuple[Callable, dict[str, Path]]]]
    roots: list[Path]
    root: Path
    same: dict[str, str]
    avoid: set[int]
    answers: list[str]
    look: bool
    most_bad: float
    share: float

    @property
    def upright(self) -> bool:
        """Whether pictures are opened upright: your own are, public sets as the original does."""
        return self.name == "pairs"

    def records(self, split: str, fault: Callable) -> Iterator:
        """A split's records, of training those in its share; faults go to `fault`."""
        more = {"same": self.same} if self.name == "vg" else {}
        records = chain.from_iterable(reader(**files, root=self.roots, fault=fault, **more)
                                      for reader, files in self.ways[split])
        if split != "train" or self.share == 1:
            return records
        return (record for record in records
                if all(in_share(photo, self.share) for photo in photos_of(record, self.same)))


def prepare(name: str, source: str | Path, out: str | Path = "prepared",
            images: Sequence[str | Path] = (), without: Sequence[str | Path] = (),
            look: bool = False, most_bad: float = 0.5, share: float = 1.0,
            columns: Columns = Columns()) -> str:
    """Check what `source` has of a set, write it to out/name for `store.Records`: -> an account.

    An older version of the set stays until the new one is complete, and a training that reads it
    goes on. images: folders of the pictures, if not below source. without: prepared splits, such as
    out/coco/test, with pictures not to train on. look: open every picture, too
    most_bad: with a larger share of bad entries, write nothing
    share: of the training pictures, see readers.in_share; validation and test stay whole
    columns: of the table of your own pairs, where their names aren't known
    Raises ValueError for an unknown set, for a file that is missing or broken, for too many bad
    entries, and while another process prepares the same set.
    """
    source, out = Path(source), Path(out)
    check_range(f"share={share}", share, *RANGES["share"])
    found, account = files_below(source), []
    if name == "pairs":
        account.append(pairs.describe_source(source, columns))
        ways = {split: [(partial(pairs.read_pairs, split=split, named=columns), {"path": source})]
                for split in pairs.SPLITS}
    elif any(columns):
        raise ValueError(f"columns {', '.join(filter(None, columns))} are of a table of your own "
                         f"pairs, and {name} has its format; leave --image-column and "
                         "--caption-column out")
    else:
        ways = sources(name, found)
    roots = [Path(os.path.abspath(root)) for root in images or [source]]
    with explain(f"no folder holds all of {', '.join(map(str, roots))}",
                 "put the pictures on one drive", ValueError):
        root = Path(os.path.commonpath(roots))
    same = readers.relations(found["image_data.json"][0]) if "image_data.json" in found else {}
    avoid = {int(photo) for split in without for photo in photos_in(split)}
    job = Job(name, source, ways, roots, root, same, avoid, [], look, most_bad, share)
    if name == "vqa":
        answers, line = list_answers(job, found)
        job, account = replace(job, answers=answers), account + line
    folder = out / name
    with hold(folder / LOCK, {}, refuse_second), name_file(folder):
        sweep(folder)
        account += replace_set(job, folder)
    account += find_shared(out, name)
    return "\n".join([*account, f"{folder} is ready for minalbef.datasets.store.Records"])


def refuse_second(lock: Path) -> str:
    """What to say where another process holds the lock."""
    return (f"{lock.parent} is in use: {holder_of(lock)} prepares it; "
            "wait until it ends, or choose another folder with --out")


def list_answers(job: Job, found: dict[str, list[Path]]) -> tuple[list[str], list[str]]:
    """VQA's answers to rank, from the list below the source or from training; what to say of it."""
    if "answer_list.json" in found:
        return public.answer_list(found["answer_list.json"][0]), []
    if not job.ways["train"]:
        return [], []
    count = public.count_answers(job.records("train", ignore))
    answers = [answer for answer, _ in count.most_common(public.ANSWERS)]
    return answers, [f"answers.json: the {len(answers):,} most frequent of {len(count):,} answers "
                     f"to training questions; no answer_list.json is below {job.source}"]


def replace_set(job: Job, folder: Path) -> list[str]:
    """Write all splits beside an old set, then switch: about.json names the new files.

    -> lines for people. Raises ValueError for too many bad entries; the old set then stands.
    """
    old = old_files(folder)
    mark = f"-{time.time_ns()}" if old else ""           # other names: the old set still stands
    splits: dict[str, dict] = {}
    account, captions = [], pairs.Captions()
    with TemporaryDirectory(prefix=".", suffix=f".{os.getpid()}.tmp", dir=folder) as half:
        for split, way in job.ways.items():
            if not way:
                account.append(f"{split}: none of its files is below {job.source}")
                continue
            path = Path(half, split + mark)
            with name_file(folder / f"{split}.jsonl"):
                counts, tally = write_split(job, split, path, captions)
            empty = job.name == "pairs" and not (counts["records"] or tally.count)
            if empty and (splits or split != "test"):    # where all are empty, the last one says so
                account.append(f"{split}: no picture falls into it")
                for file in Path(half).glob(f"{split}[-.]*"):
                    file.unlink()
                continue
            if problem := tally.problem(f"{job.name}/{split}", counts["records"], job.most_bad):
                refused = folder / f"{split}.refused{pairs.FAULTS}"
                os.replace(faults_of(path, split), refused)
                raise ValueError(f"{problem}; all of them: {refused}")
            splits[split] = counts | {"file": path.name}
            account += describe(job, split, splits[split], tally)
        if job.answers:
            text = json.dumps(job.answers) + "\n"
            Path(half, "answers.json").write_text(text, encoding="utf-8")
        switch(job, folder, Path(half), splits)
    new = {folder / f"{split}{pairs.FAULTS}" for split in splits}
    new |= {folder / "answers.json"} if job.answers else set()
    for path in {*old, *folder.glob(f"*{pairs.FAULTS}"), folder / "answers.json"} - new:
        with suppress(OSError):                          # Windows keeps a file for who has it open
            path.unlink(missing_ok=True)
    return account + captions.describe()


def old_files(folder: Path) -> list[Path]:
    """The records of the set that stands in a folder, and their indices; none without a set."""
    with suppress(ValueError):
        return [file_of(folder, split, ending) for split in read_about(folder)["splits"]
                for ending in (".jsonl", ".npy", ".photos.npy")]
    return []


def write_split(job: Job, split: str, path: Path, captions: pairs.Captions) -> tuple[dict, Tally]:
    """Write a split's records and its bad entries: -> what about.json notes, and the tally."""
    with open(faults_of(path, split), "w", encoding="utf-8", errors="replace") as file:
        tally = Tally(file)
        avoid = job.avoid if split == "train" or len(job.ways) == 1 else set()
        good = check(job.records(split, tally), tally, job.same, avoid, job.look, job.upright)
        if job.name == "pairs":
            good = captions.watch(good)
        counts = write(path, good, job.root, set(job.answers), job.same)
    files = [str(file) for _, files in job.ways[split] for file in files.values()]
    return counts | {"faults": dict(tally.count), "avoided": tally.avoided,
                     "transparent": len(tally.transparent), "turned": len(tally.turned),
                     "files": files, "share": job.share if split == "train" else 1.0}, tally


def faults_of(path: Path, split: str) -> Path:
    """The list of a split's bad entries, beside its records."""
    return path.with_name(f"{split}{pairs.FAULTS}")


def switch(job: Job, folder: Path, half: Path, splits: dict[str, dict]) -> None:
    """Move the new files into the folder: records first, then about.json, which makes them the set.

    Lists of bad entries come last: they have the names of the old set's.
    """
    faults = list(half.glob(f"*{pairs.FAULTS}"))
    for path in sorted(set(half.iterdir()) - set(faults)):
        os.replace(path, folder / path.name)
    about = {"set": job.name, "root": str(job.root), "upright": job.upright, "splits": splits}
    text = json.dumps(about, indent=1) + "\n"
    write_atomically(folder / "about.json", lambda path: path.write_text(text, encoding="utf-8"))
    for path in faults:
        os.replace(path, folder / path.name)


def check(records: Iterable, tally: Tally, same: dict, avoid: set[int], look: bool,
          upright: bool) -> Iterator:
    """The records whose pictures are not to be avoided and, if we look, can be opened.

    The tally counts pictures that reading upright changes: in a set that is read so, or if we look.
    """
    last, fault = None, None
    for record in records:
        if avoid and avoid.intersection(photos_of(record, same)):
            tally.avoided += 1
            continue
        pictures = record.images if hasattr(record, "images") else (record.image,)
        if (look or upright) and pictures != last:       # captions of one picture follow each other
            last, fault = pictures, None
            tally.note(pictures)
            try:
                for picture in pictures if look else ():
                    open_image(picture, upright)
            except ValueError as error:
                fault = Fault("unreadable picture", str(error).rpartition("; ")[0], "get it again or leave it out")
        if fault:
            tally(fault)
        else:
            yield record


def write(path: Path, records: Iterable, root: Path, listed: set[str], same: dict) -> dict:
    """Write lines, index and photo ids; -> kind, records, pictures, and questions without a listed answer."""
    places, photos, kind, lacking = array("q", [0]), array("q"), "Record", 0
    with open(path.with_suffix(".jsonl"), "wb") as file:
        for record in tqdm(records, desc=path.name, unit=" records", disable=None, mininterval=1):
            places.append(places[-1] + file.write(line(record, root)))
            photos.extend(photos_of(record, same))
            kind = type(record).__name__
            if listed and record.answers and listed.isdisjoint(record.answers):
                lacking += 1
    np.save(path.with_suffix(".npy"), np.frombuffer(places, np.int64))
    unique = np.unique(np.array(photos, np.int64))
    np.save(path.with_suffix(".photos.npy"), unique)
    return {"kind": kind, "records": len(places) - 1, "pictures": len(unique), "lacking": lacking}


def photos_of(record, same: dict) -> list[int]:
    """Ids of the photographs that a record shows; the record's own id may number something else."""
    if isinstance(record, VQARecord):
        return [photo_id(str(record.image), "vg" if record.dataset == "vg" else "", same)]
    images = getattr(record, "images", ())
    return [photo_id(image.name) for image in images] if len(images) > 1 else [record.id]


def photos_in(split: Path) -> np.ndarray:
    """Ids of all photographs of a prepared split, such as prepared/coco/test. Raises ValueError where there is none."""
    folder, name = Path(split).parent, Path(split).stem
    with explain(f"{split} is no prepared split", "name one as FOLDER/coco/test", OSError, ValueError, KeyError):
        return np.load(file_of(folder, name, ".photos.npy"))


def describe(job: Job, split: str, counts: dict, tally: Tally) -> list[str]:
    """Lines for people: what there is, what there should be, what was left out and why."""
    parts = []
    expected = [wanted and round(counts["share"] * wanted)
                for wanted in expected_counts(job.name, split, map(Path, counts["files"]))]
    for what, wanted in zip(("pictures", "records"), expected):
        share = counts[what] / wanted if wanted else 1
        odd = f" ({share:.1%})" if abs(share - 1) > 0.01 else ""
        parts.append(f"{counts[what]:,} {what}" + (f" of {wanted:,}{odd}" if wanted else ""))
    lines = [f"{split}: {', '.join(parts)}" + (f", a share of {counts['share']:g}" if counts["share"] < 1 else "")]
    lines += [f"  {count:,} times {kind}, the first: {tally.first[kind]}" for kind, count in tally.count.most_common()]
    pictures = expected[0] or 0
    if counts["pictures"] < 0.99 * pictures:
        lines.append(f"  {pictures - counts['pictures']:,} pictures of the published set are missing: its lists here "
                     "are not whole, or entries were left out. Training learns from what is here, and figures are not "
                     "the published set's; of a set of your own under this name nothing is missing")
    if counts["lacking"]:
        lines.append(f"  {counts['lacking']:,} of {counts['records']:,} questions have none of their answers among the "
                     f"{len(job.answers):,} listed")
    kinds = {"transparent": counts["transparent"], "turned by EXIF": counts["turned"]}
    if any(kinds.values()):
        which = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
        way = ("opened upright, over white" if job.upright else
               "read as the original reads them: not turned, transparency dropped")
        lines.append(f"  pictures that are {which}: they are {way}")
    if tally.avoided:
        lines.append(f"  {tally.avoided:,} left out, whose pictures are in a split of --without")
    return lines


def find_shared(out: Path, name: str) -> list[str]:
    """Lines for people: pictures in a training split that are also in an evaluation split, among the prepared sets."""
    lines, known = [], {}
    for about in sorted(out.glob("*/about.json")):
        try:
            for split in read_about(about.parent)["splits"]:
                known[about.parent.name, split] = photos_in(about.parent / split)
        except ValueError as error:                              # another set is no reason to fail
            lines.append(f"not compared with {about.parent}: {error}")
    for (learnt, part), photos in known.items():
        for (asked, split), others in known.items():
            if part == "train" != split and name in (learnt, asked) and (learnt in PRETRAINING or learnt == asked):
                if n := len(np.intersect1d(photos, others, assume_unique=True)):
                    lines.append(f"{n:,} pictures of {learnt}/train are in {asked}/{split}, {n / len(others):.1%} of "
                                 f"it; leave them out by: prepare {learnt} --without {out / asked / split}")
    return lines
