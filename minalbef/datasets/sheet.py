"""A contact sheet: a look at images with their captions before a model is trained on them."""
import random
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from minalbef.datasets.store import Records
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


def write_sheet(records: Records, path: Path) -> int:
    """Draw images of a prepared split, chosen by chance, with their captions: -> how many."""
    numbers = choose_records(records, IMAGES)
    if not numbers:
        return 0
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"),
                              SIZE)                          # has more scripts than PIL's own
    width = SIDE + GAP
    height = SIDE + LINES * LINE + 2 * GAP
    across = min(ACROSS, len(numbers))
    down = -(-len(numbers) // ACROSS)
    sheet = Image.new("RGB", (across * width + GAP, down * height + GAP), "white")
    for place, number in enumerate(numbers):
        row, column = divmod(place, ACROSS)
        cell = draw_cell(records, number, font)
        sheet.paste(cell, (column * width + GAP, row * height + GAP))
    write_atomically(path, partial(sheet.save, format="PNG"))
    return len(numbers)


def choose_records(records: Records, count: int) -> list[int]:
    """Numbers of records that show different images, the same for the same set."""
    numbers = random.Random(0).sample(range(len(records)), min(len(records), count * TRIES))
    by_image: dict[int, int] = {}
    for number in numbers:
        by_image.setdefault(records[number].id, number)
        if len(by_image) == count:
            break
    return list(by_image.values())


def draw_cell(records: Records, number: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    """An image with its captions below."""
    cell = Image.new("RGB", (SIDE, SIDE + LINES * LINE + GAP), "white")
    captions = captions_of(records, number)
    try:
        image = ImageOps.contain(open_image(records[number].image, records.upright), (SIDE, SIDE))
        cell.paste(image, ((SIDE - image.width) // 2, SIDE - image.height))
    except ValueError:
        captions = ["(this image can't be read)", *captions]
    lines = []
    for caption in captions:
        wrapped = textwrap.wrap(caption, LETTERS, initial_indent="· ", max_lines=3, placeholder="…")
        lines += wrapped
    draw = ImageDraw.Draw(cell)
    for i, line in enumerate(lines[:LINES]):
        draw.text((0, SIDE + GAP // 2 + i * LINE), line, "black", font)
    return cell


def captions_of(records: Records, number: int) -> list[str]:
    """The captions of a record's image: those of the record and of its neighbours."""
    def shows_it(other: Any) -> bool:
        return other.id == records[number].id
    first = number
    while first > 0 and number - first < LINES and shows_it(records[first - 1]):
        first -= 1
    captions = []
    for i in range(first, min(len(records), first + 2 * LINES)):
        if not shows_it(records[i]):
            break
        captions.append(records[i].text)
    return captions
