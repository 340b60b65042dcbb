"""Benchmarks of loading pictures and of evaluation on this machine. Each prints JSON."""
import io
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from minalbef.albef import ALBEF
from minalbef.bench.step import find_device, make_batch, show
from minalbef.config import RANGES, check_range, read_changes
from minalbef.data import open_image, transform
from minalbef.datasets.augment import augment
from minalbef.evaluation import ranking
from minalbef.presets import preset as preset_named
from minalbef.scenes.scenes import Scenes, paint


def data(sizes: tuple[int, ...] = (48, 64), photo: int = 256, number: int = 2000) -> None:
    """What one core loads a second: scenes drawn and painted; JPEGs of 640 x 480 pixels resized, or augmented.

    Args:
        sizes: of the scenes, in pixels
        photo: side to which a JPEG is resized
        number: how many scenes; of JPEGs a tenth
    """
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
    show({"scenes_per_second": rates, "photos_per_second": photos, "photo_kb": len(file) / 1e3})


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


def retrieval(changes: tuple[str, ...] = (), /, preset: str = "tiny", pictures: int = 500, top: int = 10,
              device: str = "cpu", threads: int = 1) -> None:
    """What evaluation does a second: pictures and texts encoded, and pairs matched for re-ranking.

    Args:
        changes: options of the preset to change
        preset: the model, with random weights
        pictures: how many, each with one text
        top: candidates of every picture and every text
        device: cpu or cuda
        threads: of a CPU
    """
    check_range(f"--top {top}", top, *RANGES["top"])           # `evaluate --top 0` means the paper's
    torch.set_num_threads(threads)
    config = preset_named(preset, **read_changes(changes) | {"batch": pictures})
    torch.manual_seed(config.seed)
    place = find_device(device)
    model, batch = ALBEF(config).eval().to(place), make_batch(config).to(place)
    def timed(work: Callable):
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return result, time.perf_counter() - start, time.process_time() - cpu
    timed(lambda: ranking.encode(model, batch.image[:2], batch.tokens[:2], batch.keep[:2]))       # warm-up
    encoded, encoding, _ = timed(lambda: ranking.encode(model, batch.image, batch.tokens, batch.keep))
    sim = torch.rand(1, pictures, pictures, device=place)           # an untrained model has one ranking for all
    odds, matching, cpu = timed(lambda: ranking.match_best(model, encoded, sim, top))
    pairs = int(odds.isfinite().sum())
    show({"pairs": pairs, "pairs_per_second": pairs / matching, "cpu_seconds_per_1000_pairs": 1000 * cpu / pairs,
          "pictures_and_texts_encoded_per_second": pictures / encoding})
