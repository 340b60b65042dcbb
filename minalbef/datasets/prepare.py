"""A public set's files to the project's records: checked, counted, compared with other sets. Downloads nothing."""
import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
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
from minalbef.writing import explain, sweep, write_atomically


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

    def check(self, split: str, good: int, most_bad: float):
        """Raises ValueError for a split without good records, or with a larger share of bad entries."""
        bad = self.count.total()
        if not good or bad > most_bad * (bad + good):
            raise ValueError(f"{split}: {good:,} good records and {bad:,} bad entries; at most {most_bad:.0%} may be "
                             f"bad. The first of each kind: {'; '.join(self.first.values()) or 'none, it is empty'}")


def prepare(name: str, source: str | Path, out: str | Path = "prepared",
            images: Sequence[str | Path] = (), without: Sequence[str | Path] = (),
            look: bool = False, most_bad: float = 0.5, share: float = 1.0,
            columns: Columns = Columns()) -> str:
    """Check what `source` has of a set, and write it to out/name for `store.Records`: -> an account.

    An older version of the set stays until the new one is complete, and a training that reads it goes on.
    images: folders of the pictures, if not below source. without: prepared splits, such as out/coco/test, with
    pictures not to train on. look: open every picture, too. most_bad: with a larger share of bad entries, write nothing
    share: of the training pictures, see readers.in_share; validation and test stay whole
    columns: of the table of your own pairs, where their names aren't known
    Raises ValueError for an unknown set, for a file that is missing or broken, and for too many bad entries.
    """
    source, out = Path(source), Path(out)
    check_range(f"share={share}", share, *RANGES["share"])
    found = files_below(source)
    upright = name == "pairs"                            # public sets are read as the original does
    splits, account, captions = {}, [], pairs.Captions()
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
    with explain(f"no folder holds all of {', '.join(map(str, roots))}", "put the pictures on one drive", ValueError):
        root = Path(os.path.commonpath(roots))
    same = readers.relations(found["image_data.json"][0]) if "image_data.json" in found else {}
    avoid = {int(photo) for split in without for photo in photos_in(split)}
    answers: list[str] = []
    if name == "vqa" and "answer_list.json" in found:
        answers = public.answer_list(found["answer_list.json"][0])
    elif name == "vqa" and ways["train"]:
        count = public.count_answers(in_part(read_way(ways["train"], roots, ignore), share, same))
        answers = [answer for answer, _ in count.most_common(public.ANSWERS)]
        account.append(f"answers.json: the {len(answers):,} most frequent of {len(count):,} answers "
                       f"to training questions; no answer_list.json is below {source}")
    (folder := out / name).mkdir(parents=True, exist_ok=True)
    sweep(folder)
    old: list[Path] = []
    with suppress(ValueError):                                   # there is no set yet
        old += [file_of(folder, split, ending) for split in read_about(folder)["splits"]
                for ending in (".jsonl", ".npy", ".photos.npy")]
    mark = f"-{time.time_ns()}" if old else ""                   # the old set stands until about.json names the new one
    with TemporaryDirectory(prefix=".", suffix=f".{os.getpid()}.tmp", dir=folder) as half:
        for split, way in ways.items():
            if not way:
                account.append(f"{split}: none of its files is below {source}")
                continue
            more = {"same": same} if name == "vg" else {}
            with open(folder / f"{split}{pairs.FAULTS}", "w", encoding="utf-8", errors="replace") as file:
                tally = Tally(file)
                records = read_way(way, roots, tally, **more)
                if split == "train":
                    records = in_part(records, share, same)
                avoided = avoid if split == "train" or len(ways) == 1 else set()
                good = check(records, tally, same, avoided, look, upright)
                if name == "pairs":
                    good = captions.watch(good)
                counts = write(Path(half, split + mark), good, root, set(answers), same)
            if name == "pairs" and not (counts["records"] or tally.count) and (splits or split != "test"):
                account.append(f"{split}: no picture falls into it")
                for path in Path(half).glob(f"{split}{mark}.*"):
                    path.unlink()
                continue
            tally.check(f"{name}/{split}", counts["records"], most_bad)
            splits[split] = counts | {"file": split + mark, "faults": dict(tally.count), "avoided": tally.avoided,
                                      "transparent": len(tally.transparent),
                                      "turned": len(tally.turned),
                                      "files": [str(path) for _, files in way for path in files.values()],
                                      "share": share if split == "train" else 1.0}
            account += describe(name, split, splits[split], tally, len(answers), upright)
        if answers:
            Path(half, "answers.json").write_text(json.dumps(answers) + "\n", encoding="utf-8")
        for path in Path(half).iterdir():
            os.replace(path, folder / path.name)
    about = {"set": name, "root": str(root), "upright": upright, "splits": splits}
    text = json.dumps(about, indent=1) + "\n"
    write_atomically(folder / "about.json", lambda path: path.write_text(text, encoding="utf-8"))
    if not answers:
        old.append(folder / "answers.json")                      # the list of a set that is no more
    for path in old:
        with suppress(OSError):                                  # who has it open reads on; Windows keeps it for them
            path.unlink(missing_ok=True)
    account += [*captions.describe(), *find_shared(out, name)]
    return "\n".join([*account, f"{folder} is ready for minalbef.datasets.store.Records"])


def read_way(way: Sequence, roots: Sequence[Path], fault: Callable, **more) -> Iterator:
    """The records of a split's readers, one after the other; their faults go to `fault`."""
    return chain.from_iterable(reader(**files, root=roots, fault=fault, **more)
                               for reader, files in way)


def in_part(records: Iterator, share: float, same: dict) -> Iterator:
    """The records whose pictures are all in a share, see readers.in_share."""
    if share == 1:
        return records
    return (record for record in records
            if all(in_share(photo, share) for photo in photos_of(record, same)))


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


def describe(name: str, split: str, counts: dict, tally: Tally, answers: int,
             upright: bool) -> list[str]:
    """Lines for people: what there is, what there should be, what was left out and why."""
    parts = []
    expected = [wanted and round(counts["share"] * wanted)
                for wanted in expected_counts(name, split, map(Path, counts["files"]))]
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
                     f"{answers:,} listed")
    kinds = {"transparent": counts["transparent"], "turned by EXIF": counts["turned"]}
    if any(kinds.values()):
        which = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
        way = ("opened upright, over white" if upright else
               "read as the original reads them: not turned, transparency dropped")
        lines.append(f"  pictures that are {which}: they are {way}")
    if tally.avoided:
        lines.append(f"  {tally.avoided:,} left out, whose pictures are in a split of --without")
    return lines


def find_shared(out: Path, name: str) -> list[str]:
    """Lines for people: pictures in a training split that are also in an evaluation split, among the prepared sets."""
    lines, known = [], {}
    for about in sorted(out.glob("*/about.json")):
        for split in read_about(about.parent)["splits"]:
            known[about.parent.name, split] = photos_in(about.parent / split)
    for (learnt, part), photos in known.items():
        for (asked, split), others in known.items():
            if part == "train" != split and name in (learnt, asked) and (learnt in PRETRAINING or learnt == asked):
                if n := len(np.intersect1d(photos, others, assume_unique=True)):
                    lines.append(f"{n:,} pictures of {learnt}/train are in {asked}/{split}, {n / len(others):.1%} of "
                                 f"it; leave them out by: prepare {learnt} --without {out / asked / split}")
    return lines
