"""The public sets: of which files each is made, which reader reads them, and how much should be in them."""
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from minalbef.datasets import choices, public, readers
from minalbef.datasets.shards import shards

TARS = "*.tar"


@dataclass(frozen=True)
class Source:
    """A reader, and its files by argument: of `path` there may be several tars. perhaps: those that may be absent."""

    reader: Callable
    files: dict[str, str]
    perhaps: dict[str, str] = field(default_factory=dict)


def lists(*names: str, reader: Callable = readers.captions, **options) -> list[Source]:
    """Files for one reader, one after the other. The first must be there."""
    return [Source(partial(reader, **options), {"path": name}) for name in names]


def karpathy(name: str, part: str, **options) -> list[Source]:
    return lists(f"dataset_{name}.json", reader=readers.karpathy, split=part, **options)


def official_coco(part: str) -> list[list[Source]]:
    """COCO's own captions, of 2014 or else of 2017."""
    return [lists(f"captions_{part}{year}.json", reader=readers.coco_captions)
            for year in (2014, 2017)]


def official_vqa(part: str) -> list[Source]:
    """VQA v2's questions and, unless it is the test, annotations."""
    files = {"path": f"v2_OpenEnded_mscoco_{part}_questions.json"}
    if part != "test2015":
        files["annotations"] = f"v2_mscoco_{part}_annotations.json"
    return [Source(public.vqa_official, files)]


def expressions(*splits: str, **more: str) -> list[Source]:
    """RefCOCO+'s refs, for evaluation with region proposals where they are; the file has none for training."""
    files = {"path": "refs(unc).p", "instances": "instances.json"} | more
    return [Source(partial(public.refcoco, splits=splits), files,
                   {} if "train" in splits else {"proposals": "dets.json"})]


# by set and split: the ways to have it, the original's files first; of these the first that is there is taken
SETS: dict[str, dict[str, list[list[Source]]]] = {
    "coco": {"train": [lists("coco_train.json"), karpathy("coco", "train"), lists("coco.json"),
                       *official_coco("train")],
             "validation": [lists("coco_val.json"), karpathy("coco", "val"), *official_coco("val")],
             "test": [lists("coco_test.json"), karpathy("coco", "test")]},
    "vg": {"train": [lists("vg.json", album="vg")]},
    "sbu": {"train": [lists("sbu.json")]},
    "cc3m": {"train": [lists("cc3m_train.json", "cc3m_val.json")]},
    "cc12m": {"train": [lists("cc12m.json")]},
    "shards": {"train": [lists(TARS, reader=shards)]},
    "flickr30k": {split: [lists(f"flickr30k_{part}.json", album="flickr"),
                          karpathy("flickr30k", part, album="flickr"),
                          lists("flickr_annotations_30k.csv", reader=readers.flickr_table,
                                split=part)]
                  for split, part in (("train", "train"), ("validation", "val"), ("test", "test"))},
    "entailment": {split: [lists(f"ve_{part}.json", reader=public.entailment),
                           lists(f"snli_ve_{part}.jsonl", reader=public.entailment)]
                   for split, part in (("train", "train"), ("validation", "dev"), ("test", "test"))},
    "vqa": {"train": [lists("vqa_train.json", "vg_qa.json", reader=public.vqa), official_vqa("train2014")],
            "validation": [lists("vqa_val.json", reader=public.vqa), official_vqa("val2014")],
            "test": [lists("vqa_test.json", reader=public.vqa, test=True), official_vqa("test2015")]},
    "nlvr2": {split: [lists(name, reader=public.nlvr2) for name in (f"nlvr_{part.rstrip('1')}.json", f"{part}.json")]
              for split, part in (("train", "train"), ("validation", "dev"), ("test", "test1"))},
    "grounding": {"train": [lists("refcoco+_train.json", key="text"), expressions("train")],
                  "validation": [expressions("val", listed="refcoco+_val.json"), expressions("val")],
                  "test": [expressions("testA", "testB", listed="refcoco+_test.json"), expressions("testA", "testB")]},
    "winoground": {"test": [lists("examples.jsonl", reader=choices.winoground)]},
    **{name: {"test": [lists(*(f"{file}.json" for file in files.split()), reader=choices.one_picture)]}
       for name, files in {
           "sugarcrepe": "add_att add_obj replace_att replace_obj replace_rel swap_att swap_obj",
           "aro-relation": "visual_genome_relation", "aro-attribution": "visual_genome_attribution",
           "aro-order": "coco_order", "whatsup": "controlled_images_dataset controlled_clevr_dataset coco_qa_one_obj "
                                                 "coco_qa_two_obj vg_qa_one_obj vg_qa_two_obj"}.items()}}
PRETRAINING = ("pairs", "coco", "vg", "sbu", "cc3m", "cc12m", "shards")

# pictures and records, None where no source says; docs/data.md names the sources
EXPECTED = {
    ("coco", "train"): (113_000, 567_000), ("coco", "validation"): (5_000, None), ("coco", "test"): (5_000, None),
    ("vg", "train"): (100_000, 769_000), ("sbu", "train"): (860_000, 860_000),
    ("cc3m", "train"): (2_950_000, 2_950_000), ("cc12m", "train"): (10_100_000, 10_100_000),
    ("flickr30k", "train"): (29_000, 145_000),
    ("flickr30k", "validation"): (1_014, 5_070), ("flickr30k", "test"): (1_000, 5_000),
    ("entailment", "train"): (29_783, 529_527), ("entailment", "validation"): (1_000, 17_858),
    ("entailment", "test"): (1_000, 17_901), ("vqa", "validation"): (None, 214_354), ("vqa", "test"): (None, 447_793),
    ("nlvr2", "train"): (None, 86_373), ("nlvr2", "validation"): (None, 6_982), ("nlvr2", "test"): (None, 6_967),
    ("grounding", "train"): (None, 120_191), ("grounding", "validation"): (None, 10_758),
    ("grounding", "test"): (None, 10_615), ("winoground", "test"): (800, 400), ("sugarcrepe", "test"): (None, 7_511),
    ("aro-relation", "test"): (None, 23_937), ("aro-attribution", "test"): (None, 28_748)}

# the same by file, where a set's own list differs from the original's
EXPECTED_IN = {"captions_train2014.json": (82_783, 414_113),
               "captions_val2014.json": (40_504, 202_654),
               "captions_train2017.json": (118_287, 591_753),
               "captions_val2017.json": (5_000, 25_014)}


def expected_counts(name: str, split: str, files: Iterable[Path]) -> tuple[int | None, int | None]:
    """Pictures and records that a split read from these files should have, None where unknown."""
    special = [EXPECTED_IN[file.name] for file in files if file.name in EXPECTED_IN]
    return special[0] if special else EXPECTED.get((name, split), (None, None))


def files_below(source: Path) -> dict[str, list[Path]]:
    """Lists, tables, pickles and tars below a folder, by name; all tars as TARS.

    Raises ValueError if there is no folder.
    """
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; nothing is downloaded: get the set first, as docs/data.md says")
    found: dict[str, list[Path]] = {}
    for folder, inner, names in os.walk(source):
        inner.sort()
        for file in sorted(names):
            if file.endswith((".json", ".jsonl", ".csv", ".p", ".tar")):
                found.setdefault(TARS if file.endswith(".tar") else file, []).append(Path(folder, file))
    return found


def sources(name: str, found: dict[str, list[Path]]) -> dict[str, list[tuple[Callable, dict[str, Path]]]]:
    """By split of a set, the readers and their files: those of the first way that is there, or none.

    Raises ValueError for an unknown set, a file that is there twice, and where nothing is there.
    """
    if name not in SETS:
        raise ValueError(f"no set {name!r}; there are {', '.join(SETS)}; and pairs, your own pictures and captions")
    ways = {split: next(filter(None, (present(way, found) for way in some)), []) for split, some in SETS[name].items()}
    if not any(ways.values()):
        wanted = (f"{split}: {' or '.join(' and '.join(way[0].files.values()) for way in some)}"
                  for split, some in SETS[name].items())
        raise ValueError(f"no file of {name} is there; it needs, for {'; '.join(wanted)}; see "
                         f"docs/data.md. There are: {', '.join(sorted(found)[:8]) or 'no lists'}. "
                         "A table without splits, such as Kaggle's results.csv, is read by "
                         "prepare pairs")
    return ways


def present(way: list[Source], found: dict[str, list[Path]]) -> list[tuple[Callable, dict[str, Path]]]:
    """A way's readers, each with its files; none if the first has not all it needs."""
    ready = []
    for source in way:
        if all(file in found for file in source.files.values()):
            files = source.files | {key: file for key, file in source.perhaps.items() if file in found}
            if twice := [file for file in files.values() if len(found[file]) > 1 and file != TARS]:
                raise ValueError(f"{twice[0]} is there more than once: {', '.join(map(str, found[twice[0]]))}; "
                                 "name the folder of the right one")
            paths = {key: found[file][0] for key, file in files.items()}
            ready += [(source.reader, paths | {"path": path}) for path in found[files["path"]]]
        elif source is way[0]:
            return []
    return ready
