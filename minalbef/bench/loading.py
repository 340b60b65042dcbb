"""Benchmark of loading images on this machine."""
import io
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emojiscenes.scenes import Scenes, paint
from minalbef.datasets.augment import augment
from minalbef.presets import preset
from minalbef.system.images import open_image, read_pixels
from minalbef.system.metrics import TICK

ROWS = 16                              # images of a batch


def measure_loading(sizes: tuple[int, ...], photo: int, number: int) -> dict:
    """What one core loads per second: `minalbef bench data`.

    sizes: of scenes, in pixels; photo: of JPEGs. number: scenes of each size; of JPEGs a tenth
    """
    rates = {}
    source = Scenes("train", siblings=0.5)
    scenes = [source.draw(i).scene for i in range(number)]
    for size in sizes:
        for scene in scenes:
            paint(scene, size)                   # sprites are cut and scaled once
        draw = per_second(source.draw, number)
        painting = per_second(lambda i: paint(scenes[i], size), number)
        both = 1 / (1 / draw + 1 / painting)
        rates[str(size)] = {"draw": draw, "paint": painting, "both": both}
    file = jpeg()
    rng = np.random.default_rng(0)
    crop = preset("paper-4m").crop

    def resize() -> Tensor:
        return read_pixels(io.BytesIO(file), photo)

    def resize_augmented() -> Tensor:
        image = augment(open_image(io.BytesIO(file), False), photo, crop, True, rng)
        return read_pixels(image, photo)

    photos = {"resized": images_per_second(resize, math.ceil(number / 10)),
              "augmented": images_per_second(resize_augmented, math.ceil(number / 10))}
    return {"scenes_per_second": rates, "photos_per_second": photos, "photo_kb": len(file) / 1e3}


def per_second(work: Callable[[int], object], number: int) -> float:
    """How many of the calls work(0), work(1), ... a second of processor time takes."""
    start = time.process_time()
    for i in range(number):
        work(i)
    return number / max(time.process_time() - start, TICK)


def images_per_second(read: Callable[[], Tensor], number: int) -> float:
    """How many images a second of processor time reads, in batches of ROWS."""
    def read_batch(i: int) -> Tensor:
        return torch.stack([read() for _ in range(ROWS)])
    return ROWS * per_second(read_batch, math.ceil(number / ROWS))


def jpeg() -> bytes:
    """A made-up photograph of 640 x 480 pixels, whose file is about as large as a real one's."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = colours.resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + rng.normal(0, 12, (480, 640, 1))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
