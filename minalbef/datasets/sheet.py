"""A contact sheet: a look at images with their captions before a model is trained on them."""
import math
import random
import textwrap
from functools import partial
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from minalbef.data import Record
from minalbef.datasets.store import Records, read_about
from minalbef.system.images import open_image
from minalbef.system.writing import write_atomically

IMAGES = 24                           # on a sheet
ACROSS = 6
SIDE = 200                            # pixels of an image, at most
GAP = 10
LINES = 7                             # of captions below an image
LETTERS = 31                          # in a line
SIZE = 12                             # of the letters, in pixels
LINE = 15                             # from one line to the next
TRIES = 20                            # records to draw for an image: others may show it, too


def write_sheet(folder: Path) -> list[str]:
    """Draw images of a prepared set to train on, chosen by chance, if they have captions.

    -> a line to print
    """
    if "train" not in read_about(folder)["splits"]:
        return []
    records = Records(folder, "train")
    if not issubclass(records.kind, Record):
        return []
    numbers = choose_records(records, IMAGES)
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"),
                              SIZE)                          # has more scripts than PIL's own
    width = SIDE + GAP
    height = SIDE + LINES * LINE + 2 * GAP
    down = math.ceil(len(numbers) / ACROSS)
    size = min(ACROSS, len(numbers)) * width + GAP, down * height + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, number in enumerate(numbers):
        x = place % ACROSS * width + GAP
        y = place // ACROSS * height + GAP
        captions = captions_of(records, number)
        try:
            image = open_image(records[number].image, records.upright)
            image = ImageOps.contain(image, (SIDE, SIDE))
            sheet.paste(image, (x + (SIDE - image.width) // 2, y + SIDE - image.height))
        except ValueError:
            captions = ["(this image can't be read)", *captions]
        lines = []
        for caption in captions:
            lines += textwrap.wrap(caption, LETTERS, initial_indent="· ", max_lines=3,
                                   placeholder="…")
        for i, line in enumerate(lines[:LINES]):
            draw.text((x, y + SIDE + GAP // 2 + i * LINE), line, "black", font)
    path = folder / "sheet.png"
    write_atomically(path, partial(sheet.save, format="PNG"))
    return [f"{path} shows {len(numbers)} images to train on with their captions: look at it"]


def choose_records(records: Records, count: int) -> list[int]:
    """Numbers of records that show different images, the same for the same set."""
    numbers = random.Random(0).sample(range(len(records)), min(len(records), count * TRIES))
    by_image: dict[int, int] = {}
    for number in numbers:
        by_image.setdefault(records[number].id, number)
    return list(by_image.values())[:count]


def captions_of(records: Records, number: int) -> list[str]:
    """The captions of a record's image: those of the record and of its neighbours."""
    neighbours = range(max(0, number - LINES), min(len(records), number + LINES))
    return [records[i].text for i in neighbours if records[i].id == records[number].id]
