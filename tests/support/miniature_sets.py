"""Public sets in miniature, in exactly the foreign formats: lists, pictures, pickles and shards."""

import collections
import io
import json
import pickle
import tarfile

import numpy as np
from PIL import Image

from helpers import small
from minalbef.datasets.readers import Fault
from minalbef.datasets.store import seal
from minalbef.system.tokenizer import Tokenizer

TRAIN = "train2014/COCO_train2014_000000057870.jpg"
VAL = "val2014/COCO_val2014_000000184613.jpg"
TOKENIZER = Tokenizer.train(
    ["a cat two dogs what is on the wall one three four five six seven eight nine"], 64
)
WORDS = "one two three four five six seven eight nine".split()
CONFIG = small(batch=4, epoch=11, epochs=3, image_size=16, crop=0.5, objects=0, patch_size=8)
SMALL = (
    "image_size=16 patch_size=8 image_width=16 image_heads=2 text_width=16 text_heads=2 embed_dim=8 "
    "vocab_size=64 text_length=9 positions=12 queue_size=8 batch=4 epochs=3 warmup_steps=1 save_every=1 "
    "siblings=0 restyle=0 bucket=1 warm_steps=0"
).split()
SIZES = (5, 1, 7)  # of the miniature shards: 13 pictures


def jpeg(path=None, mode="RGB", size=(12, 8)) -> bytes:
    """A white picture as a JPEG, also written to `path` if one is given."""
    file = io.BytesIO()
    Image.new(mode, size, "white").save(file, "JPEG")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return file.getvalue()


def write(path, value):
    """JSON, or lines of it for .jsonl; a str as it is."""
    text = json.dumps(value) if path.suffix == ".json" else "\n".join(map(json.dumps, value))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else text, encoding="utf-8")
    return path


def read_all(reader, *files, **options):
    """What a reader yields, its faults counted by kind, and the message of the first of each kind."""
    faults: dict[str, str] = {}
    counts = collections.Counter()

    def note(fault: Fault):
        counts[fault.kind] += fault.count
        faults.setdefault(fault.kind, str(fault))

    return list(reader(*files, on_fault=note, **options)), dict(counts), faults


def texts_of(records) -> list[str]:
    return [record.text for record in records]


def sentences(*texts: str) -> list[dict]:
    return [{"sent_id": i, "sent": text, "tokens": text.split()} for i, text in enumerate(texts)]


REFS = [
    {"ref_id": 0, "split": "val", "sentences": sentences("the café", "", "red dog")},
    {"ref_id": 1, "split": "testA", "sentences": sentences("a man")},
    {"ref_id": 2, "split": "train", "sentences": sentences("a hat")},
]
BOX = [5.0, 4.0, 20.5, 10.0]
DETS = {"57870": [[0, 0, 30, 20], [-5, 30, 20, 20]]}


def refcoco(folder, refs=None, dets=None, boxes=(BOX, BOX, BOX)):
    """refs(unc).p as Python 2 wrote it, instances.json, dets.json: -> their paths."""
    folder.mkdir(exist_ok=True)
    if refs is None:
        refs = [ref | {"ann_id": 10 + i, "image_id": 57870} for i, ref in enumerate(REFS)]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    image = {"id": 57870, "file_name": TRAIN.partition("/")[2], "height": 40, "width": 60}
    annotations = [{"id": 10 + i, "image_id": 57870, "bbox": box} for i, box in enumerate(boxes)]
    instances = {"images": [image], "annotations": annotations, "categories": []}
    return (
        folder / "refs(unc).p",
        write(folder / "instances.json", instances),
        write(folder / "dets.json", DETS if dets is None else dets),
    )


def coco(source, **more):
    """COCO as the original lists it: two captions to train on, two of one picture for the test."""
    lists = {
        "coco_train": [
            {"image": TRAIN, "caption": "a cat", "image_id": "coco_57870"},
            {"image": TRAIN, "caption": "un café", "image_id": "coco_57870"},
        ],
        "coco_test": [{"image": VAL, "caption": ["two dogs", "a cat"]}],
    } | more
    for name, entries in lists.items():
        write(source / f"{name}.json", entries)


def tar(path, members: dict[str, bytes], **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as file:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            about.mtime = 1.7e9 + 0.5  # a fraction: in PAX it has a header of its own
            file.addfile(about, io.BytesIO(content))
    return path


def photo(seed: int, kind: str = "JPEG") -> bytes:
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8))
    picture.save(file := io.BytesIO(), kind)
    return file.getvalue()


def img2dataset(folder, *sizes: int, format=tarfile.USTAR_FORMAT):
    """What img2dataset writes as webdataset with captions, without parquet files: -> the tars."""
    tars = []
    for shard, size in enumerate(sizes):
        members = {}
        for i in range(size):
            key = f"{shard:05d}{i:04d}"
            caption = f"a {WORDS[shard]} {WORDS[i % 9]}"
            address = f"https://x.org/{shard}/{i}.jpg"
            about = {"caption": caption, "url": address, "key": key, "status": "success"}
            members[f"{key}.jpg"] = photo(100 * shard + i)
            members[f"{key}.json"] = json.dumps(about | {"width": 24, "height": 20}).encode()
            members[f"{key}.txt"] = caption.encode()
        tars.append(tar(folder / f"{shard:05d}.tar", members, format=format))
        stats = {"count": size + 2, "successes": size, "failed_to_download": 2}
        write(folder / f"{shard:05d}_stats.json", stats)
    return tars


def change_about(folder, **changes) -> None:
    """Change what a prepared set's about.json says, as if it had been prepared so."""
    path = folder / "about.json"
    about = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(about | {"seal": seal(about)}), encoding="utf-8")
