"""Run folders, changed by hand."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from minalbef.system import checkpoint


def write_weights(file: Path, weights: dict[str, Tensor], **changes) -> None:
    """Put tensors in the place of a file's. It keeps its metadata, with changes."""
    save_file(
        weights, file, {checkpoint.METADATA: json.dumps(checkpoint.read_metadata(file) | changes)}
    )


def change_settings(run: Path, **changes) -> None:
    """Change a run's config.json and what its weights say of the settings that they were trained with."""
    values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (run / "config.json").write_text(json.dumps(values | changes), encoding="utf-8")
    config, task, tokenizer = checkpoint.read_settings(run)
    definition = checkpoint.definition(config, tokenizer.digest(), task)
    for file in run.glob("*.safetensors"):
        write_weights(file, load_file(file), definition=definition)


def copy_of(name: str, folder: Path) -> Path:
    """A shipped run, copied to folder/run."""
    return Path(shutil.copytree(checkpoint.run_folder(name), folder / "run"))


def put(file: Path, text: str | None) -> Path:
    """Write a file, or, for None, a pipe in its place."""
    file.unlink(missing_ok=True)
    if text is None:
        os.mkfifo(file)
    else:
        file.write_text(text, encoding="utf-8")
    return file


def change_json(file: Path, **changes) -> Path:
    """Change values of a JSON file."""
    return put(file, json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes))


def photographs(folder: Path, count: int = 3) -> Path:
    """A folder with so many images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises TimeoutError when that time is over: a pipe would be waited for forever."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
