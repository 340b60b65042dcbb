"""A small prepared set of captions, and pretraining on it in a few steps; stopped where a test wants."""

import json
import os
import signal
from pathlib import Path

import numpy as np
from PIL import Image

from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.prepare import prepare
from minalbef.recipes import pretrain

SIZES = (
    "image_size=16 patch_size=8 image_width=16 image_heads=2 text_width=16 text_heads=2 "
    "embed_dim=8 text_length=9 positions=12 queue_size=8 batch=4 epochs=2 warmup_steps=1 "
    "save_every=1 siblings=0 restyle=0 bucket=1 warm_steps=0 device=cpu"
).split()
CAPTIONS = [
    "a red cat", "two dogs", "a green apple", "a lemon", "a big dog", "two cats", "a red dog",
    "a cat",
]


def prepare_captions(folder: Path, captions: list[str], name: str = "coco") -> Path:
    """A prepared set of one picture per caption."""
    source = folder / f"in-{name}"
    (source / "train2014").mkdir(parents=True, exist_ok=True)
    entries = []
    for i, caption in enumerate(captions):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 20, 3), np.uint8)
        Image.fromarray(pixels).save(source / "train2014" / f"{i}.png")
        entries.append({"image": f"train2014/{i}.png", "caption": caption})
    (source / f"{name}.json").write_text(json.dumps(entries), encoding="utf-8")
    prepare(name, source, folder / "out")
    return folder / "out" / name


def train(run: Path, *data: Path, changes: tuple[str, ...] = ("vocab_size=48",)) -> None:
    pretrain.pretrain(pretrain.settings("tiny", [*SIZES, *changes], data), run, data, quiet=True)


def stop_at(monkeypatch, step: int) -> None:
    """Ctrl-C while this step's batch is read."""
    read_batch = RecordBatches.__call__

    def call(batches, i):
        if i == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return read_batch(batches, i)

    monkeypatch.setattr(RecordBatches, "__call__", call)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
