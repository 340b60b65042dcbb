"""Draw the README's picture: twelve scenes of the test split, each with its caption.

    python data/emojiscenes/make_example.py
"""
import sys
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
# pixels: of an image, between images, of the caption below it
SIDE, GAP, TEXT = 192, 16, 52
COLUMNS, ROWS, LETTERS = 6, 2, 30


def draw_example() -> Image.Image:
    """Scenes 0 to 11 of the test split in rows, their captions below them."""
    sys.path.insert(0, str(HERE.parent))         # also where the package isn't installed
    from emojiscenes import Scenes
    scenes = Scenes("test", size=SIDE)
    font = ImageFont.load_default(13)
    width = COLUMNS * (SIDE + GAP) + GAP
    height = ROWS * (SIDE + GAP + TEXT) + GAP
    picture = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(picture)
    for i in range(COLUMNS * ROWS):
        row, column = divmod(i, COLUMNS)
        x = GAP + column * (SIDE + GAP)
        y = GAP + row * (SIDE + GAP + TEXT)
        scene = scenes.draw(i)
        picture.paste(Image.fromarray(scenes.picture(scene)), (x, y))
        caption = "\n".join(textwrap.wrap(scene.text, LETTERS))
        canvas.text((x, y + SIDE + 4), caption, fill="black", font=font)
    return picture


if __name__ == "__main__":
    draw_example().save(HERE / "example.png", optimize=True)
