"""Benchmark of loading pictures on this machine."""
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from emojiscenes.scenes import Scenes, paint
from minalbef.data import open_image, transform
from minalbef.datasets.augment import augment
from minalbef.presets import preset as preset_named


def measure_loading(sizes: tuple[int, ...], photo: int, number: int) -> dict:
    """What one core loads a second, by `number` scenes of each size and a tenth of JPEGs: `minalbef bench data`."""
    rates, source = {}, Scenes("train", siblings=0.5)
    drawn = [source.draw(i) for i in range(number)]
    for size in sizes:
        for one in drawn:
            paint(one.scene, size)                                  # sprites are cut and scaled once
        draw = per_second(source.draw, number)
        painting = per_second(lambda i: paint(drawn[i].scene, size), number)
        rates[str(size)] = {"draw": draw, "paint": painting, "both": 1 / (1 / draw + 1 / painting)}
    file, rng, few = jpeg(), np.random.default_rng(0), max(1, number // 10)
    def augmented() -> np.ndarray:
        return augment(open_image(io.BytesIO(file)), photo, preset_named("paper-4m").crop, True, rng)
    photos = {"resized": per_second(lambda i: transform(open_image(io.BytesIO(file)), photo), few),
              "augmented": per_second(lambda i: transform(augmented(), photo), few)}
    return {"scenes_per_second": rates, "photos_per_second": photos, "photo_kb": len(file) / 1e3}


def per_second(work: Callable[[int], object], number: int) -> float:
    """How often a second of processor time: work(0), work(1), ... up to `number`."""
    start = time.process_time()
    for i in range(number):
        work(i)
    return number / (time.process_time() - start)


def jpeg() -> bytes:
    """A made-up photograph of 640 x 480: smooth colours and some noise, about as large a file as a real one."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = colours.resize((640, 480), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + rng.normal(0, 12, (480, 640, 1))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file := io.BytesIO(), "JPEG", quality=90)
    return file.getvalue()
