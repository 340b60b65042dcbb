"""The public sets: which files each is made of, which reader reads them, and how much they hold."""
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from minalbef.datasets import choices, clipart, public, readers
from minalbef.datasets.shards import shards

TARS = "*.tar"
ENDINGS = (".json", ".jsonl", ".csv", ".p", ".tar")
Reader = Callable[..., Iterator[Any]]


class Source(NamedTuple):
    """A reader, and the names of its files by argument. Of `path` there may be several tars.

    optional: files that may be absent
    """

    reader: Reader
    files: dict[str, str]
    optional: dict[str, str] = {}


Sources = list[Source]                # read one after the other; the first must be there


class Input(NamedTuple):
    """A reader, and the paths of its files by argument."""

    reader: Reader
    files: dict[str, Path]


def lists(*names: str, reader: Reader = readers.captions, **options: Any) -> Sources:
    """Files for one reader, one after the other."""
    return [Source(partial(reader, **options), {"path": name}) for name in names]


def either(*names: str, **options: Any) -> list[Sources]:
    """The first of these files that is there."""
    return [lists(name, **options) for name in names]


def flickr30k(split: str, part: str) -> list[Sources]:
    """A split of Flickr30k: the original's list, Karpathy's, or the set's own table."""
    tables = either("dataset_flickr30k.json", "flickr_annotations_30k.csv", album="flickr",
                    split=split)
    return [lists(f"flickr30k_{part}.json", album="flickr"), *tables]


def coco(split: str, part: str) -> list[Sources]:
    """A split of COCO: the original's list, Karpathy's, or COCO's own captions."""
    official = [lists(f"captions_{part}{year}.json", folder=f"{part}{year}")
                for year in (2014, 2017)]
    splits = lists("dataset_coco.json", split=split)
    if split == "train":
        return [lists("coco_train.json"), splits, lists("coco.json"), *official]
    return [lists(f"coco_{part}.json"), splits, *official]


def official_vqa(part: str) -> Sources:
    """VQA v2's questions and, except for the test, their annotations."""
    files = {"path": f"v2_OpenEnded_mscoco_{part}_questions.json"}
    if part != "test2015":
        files["annotations"] = f"v2_mscoco_{part}_annotations.json"
    return [Source(public.vqa_official, files)]


def expressions(*splits: str, **files: str) -> Sources:
    """RefCOCO+'s refs. For evaluation come region proposals, if they are there."""
    files = {"path": "refs(unc).p", "instances": "instances.json"} | files
    proposals = {} if "train" in splits else {"proposals": "dets.json"}
    return [Source(partial(public.refcoco, splits=splits), files, proposals)]


def choice(*names: str) -> dict[str, list[Sources]]:
    """A compositional test that consists of these files."""
    return {"test": [lists(*names, reader=choices.single_image)]}


# by set and split: alternatives, the original's files first; the first that is there is read
SETS: dict[str, dict[str, list[Sources]]] = {
    "clipart": {split: [lists(clipart.TABLE, reader=clipart.read_clipart, split=split)]
                for split in ("train", "validation", "test")},
    "emoji": {"train": [lists(clipart.TABLE, reader=clipart.read_clipart, album="emoji")]},
    "coco": {
        "train": coco("train", "train"),
        "validation": coco("validation", "val"),
        "test": coco("test", "test"),
    },
    "vg": {"train": [lists("vg.json", album="vg")]},
    "sbu": {"train": [lists("sbu.json")]},
    "cc3m": {"train": [lists("cc3m_train.json", "cc3m_val.json")]},
    "cc12m": {"train": [lists("cc12m.json")]},
    "shards": {"train": [lists(TARS, reader=shards)]},
    "flickr30k": {
        "train": flickr30k("train", "train"),
        "validation": flickr30k("validation", "val"),
        "test": flickr30k("test", "test"),
    },
    "entailment": {
        "train": either("ve_train.json", "snli_ve_train.jsonl", reader=public.entailment),
        "validation": either("ve_dev.json", "snli_ve_dev.jsonl", reader=public.entailment),
        "test": either("ve_test.json", "snli_ve_test.jsonl", reader=public.entailment),
    },
    "vqa": {
        "train": [lists("vqa_train.json", "vg_qa.json", reader=public.vqa),
                  official_vqa("train2014")],
        "validation": [lists("vqa_val.json", reader=public.vqa), official_vqa("val2014")],
        "test": [lists("vqa_test.json", reader=public.vqa, test=True),
                 official_vqa("test2015")],
    },
    "nlvr2": {
        "train": either("nlvr_train.json", "train.json", reader=public.nlvr2),
        "validation": either("nlvr_dev.json", "dev.json", reader=public.nlvr2),
        "test": either("nlvr_test.json", "test1.json", reader=public.nlvr2),
    },
    "grounding": {
        "train": [lists("refcoco+_train.json"), expressions("train")],
        "validation": [expressions("val", text_list="refcoco+_val.json"), expressions("val")],
        "test": [expressions("testA", "testB", text_list="refcoco+_test.json"),
                 expressions("testA", "testB")],
    },
    "winoground": {"test": [lists("examples.jsonl", reader=choices.winoground)]},
    "sugarcrepe": choice("add_att.json", "add_obj.json", "replace_att.json", "replace_obj.json",
                         "replace_rel.json", "swap_att.json", "swap_obj.json"),
    "aro-relation": choice("visual_genome_relation.json"),
    "aro-attribution": choice("visual_genome_attribution.json"),
    "aro-order": choice("coco_order.json"),
    "whatsup": choice("controlled_images_dataset.json", "controlled_clevr_dataset.json",
                      "coco_qa_one_obj.json", "coco_qa_two_obj.json",
                      "vg_qa_one_obj.json", "vg_qa_two_obj.json"),
}
PRETRAINING = ("pairs", "clipart", "emoji", "coco", "vg", "sbu", "cc3m", "cc12m", "shards")
# sets that are read and trained on as your own: opened upright, validated
OWN = ("pairs", "clipart", "emoji")

# images and records, None where no source says; docs/sources.md names the sources
EXPECTED = {
    ("coco", "train"): (113_000, 567_000),
    ("coco", "validation"): (5_000, None),
    ("coco", "test"): (5_000, None),
    ("vg", "train"): (100_000, 769_000),
    ("sbu", "train"): (860_000, 860_000),
    ("cc3m", "train"): (2_950_000, 2_950_000),
    ("cc12m", "train"): (10_100_000, 10_100_000),
    ("flickr30k", "train"): (29_000, 145_000),
    ("flickr30k", "validation"): (1_014, 5_070),
    ("flickr30k", "test"): (1_000, 5_000),
    ("entailment", "train"): (29_783, 529_527),
    ("entailment", "validation"): (1_000, 17_858),
    ("entailment", "test"): (1_000, 17_901),
    ("vqa", "validation"): (None, 214_354),
    ("vqa", "test"): (None, 447_793),
    ("nlvr2", "train"): (None, 86_373),
    ("nlvr2", "validation"): (None, 6_982),
    ("nlvr2", "test"): (None, 6_967),
    ("grounding", "train"): (None, 120_191),
    ("grounding", "validation"): (None, 10_758),
    ("grounding", "test"): (None, 10_615),
    ("winoground", "test"): (800, 400),
    ("sugarcrepe", "test"): (None, 7_511),
    ("aro-relation", "test"): (None, 23_937),
    ("aro-attribution", "test"): (None, 28_748),
}

# the same by file, where a set's own list differs from the original's
EXPECTED_IN = {
    "captions_train2014.json": (82_783, 414_113),
    "captions_val2014.json": (40_504, 202_654),
    "captions_train2017.json": (118_287, 591_753),
    "captions_val2017.json": (5_000, 25_014),
}


def expected_counts(name: str, split: str,
                    files: Iterable[Path]) -> tuple[int | None, int | None]:
    """How many images and records a split read from these files should have; None if unknown."""
    for file in files:
        if file.name in EXPECTED_IN:
            return EXPECTED_IN[file.name]
    return EXPECTED.get((name, split), (None, None))


def files_below(source: Path) -> dict[str, list[Path]]:
    """Lists, tables, pickles and tars below a folder, by name; all tars under TARS.

    Raises ValueError if there is no such folder.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; nothing is downloaded: get the set first, "
                         "as docs/data.md says")
    files: dict[str, list[Path]] = {}
    for folder, subfolders, names in os.walk(source):
        subfolders.sort()
        for name in sorted(names):
            if name.endswith(ENDINGS):
                key = TARS if name.endswith(".tar") else name
                files.setdefault(key, []).append(Path(folder, name))
    return files


def find_inputs(name: str, files: dict[str, list[Path]]) -> dict[str, list[Input]]:
    """By split of a set, the readers and their files, of the first alternative that is there.

    files: see `files_below`. A split has no readers if none of its alternatives is there.
    Raises ValueError for an unknown set, for a file that is there twice, and if no split has files.
    """
    if name not in SETS:
        raise ValueError(f"no set {name!r}; there are {', '.join(SETS)}; and pairs, "
                         "your own images and captions")
    inputs = {}
    needs = []
    for split, alternatives in SETS[name].items():
        there = (present(sources, files) for sources in alternatives)
        inputs[split] = next(filter(None, there), [])
        names = [" and ".join(sources[0].files.values()) for sources in alternatives]
        needs.append(f"{split}: {' or '.join(names)}")
    if not any(inputs.values()):
        raise ValueError(f"no file of {name} is there; it needs, for {'; '.join(needs)}; see "
                         f"docs/data.md. There are: {', '.join(sorted(files)[:8]) or 'no lists'}. "
                         "Any other list of images and captions is read by prepare pairs")
    return inputs


def set_with(file: str) -> str:
    """The public set that a file of this name belongs to, the first of several; or ""."""
    for name, splits in SETS.items():
        for sources in itertools.chain.from_iterable(splits.values()):
            if name not in OWN and any(file in source.files.values() for source in sources):
                return name
    return ""


def present(sources: Sources, files: dict[str, list[Path]]) -> list[Input]:
    """The inputs whose files are there; none if the first source lacks a file.

    Raises ValueError for a file that is there more than once.
    """
    inputs: list[Input] = []
    for source in sources:
        names = source.files | {argument: name for argument, name in source.optional.items()
                                if name in files}
        if not all(name in files for name in names.values()):
            if not inputs:
                return []
            continue
        twice = [name for name in names.values() if len(files[name]) > 1 and name != TARS]
        if twice:
            raise ValueError(f"{twice[0]} is there more than once: "
                             f"{', '.join(map(str, files[twice[0]]))}; "
                             "name the folder of the right one")
        paths = {argument: files[name][0] for argument, name in names.items()}
        for path in files[names["path"]]:
            inputs.append(Input(source.reader, paths | {"path": path}))
    return inputs
