"""Checkpoints of the original's and prepared sets on the command line."""
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minalbef.system.limits import printable

Address = Annotated[str | None, tyro.conf.arg(name="from")]      # a Path would lose a slash of //


def convert(source: Path, out: Path, /, to: Literal["minalbef", "original"] = "minalbef",
            vocab: Path | None = None, image_size: int | None = None, image_heads: int = 12,
            text_heads: int = 12) -> None:
    """A checkpoint of the original's as a run folder, or the other way round.

    With an account of every key.

    Args:
        source: the original's .pth; or a run folder
        out: the run folder to write; or the .pth
        to: which way
        vocab: bert-base-uncased's vocab.txt, which the checkpoint does not hold
        image_size: side of the images in pixels; by default the checkpoint's own
        image_heads: of the image encoder; a checkpoint does not tell them
        text_heads: of the text encoder and of fusion, likewise
    """
    from minalbef.recipes import convert as converter
    if to == "original":
        keys, dropped = converter.to_original(source, out)
        rest = f"; the original has no place for {', '.join(dropped)}" if dropped else ""
        print(f"{out}: {keys} keys{rest}")
    else:
        print(converter.to_run(source, out, vocab, image_size, image_heads, text_heads))
        print(f"\n{out} is a run folder now")


def prepare(name: str, /, source: Address = None, out: Path = Path("prepared"),
            images: tuple[Path, ...] = (), without: tuple[Path, ...] = (), look: bool = False,
            most_bad: float = 0.5, data_fraction: float = 1.0, image_column: str = "",
            caption_column: str = "", group_column: str = "",
            captions_from: Literal["", "names", "folders"] = "") -> None:
    """Check a public set, or your own, and write its records for training.

    Shows some images with their captions first. docs/data.md has all forms and sources.

    Args:
        name: {trained_sets}; to evaluate on alone: {other_sets}; or pairs, for your own
        source: the folder of the set's files, which you download; clipart and emoji need none; for
            pairs also a table, or hf-dataset://OWNER/NAME, which is downloaded for you
        out: the folder for all prepared sets; this one's is in it
        images: folders of the images, if they are not below the set's files
        without: prepared splits whose images are left out of training, such as prepared/coco/test
        look: open every image, too, which takes long
        most_bad: share of bad entries above which nothing is written
        data_fraction: of the training images, for a trial; 0.01 is part of 0.1
        image_column: of your own table, the column of the images' files, if it isn't recognised
        caption_column: likewise, the column of captions
        group_column: a column of your own table; rows with the same value stay in one split
        captions_from: of your own images without a table or text files: their files' names are
            captions, or their folders' names are labels
    """
    from minalbef.datasets.forms import Columns
    from minalbef.datasets.prepare import prepare as write
    columns = Columns(image_column, caption_column, group_column)
    if name == "emoji" and source is None:
        from emojiscenes.painting import write_drawings
        source = str(write_drawings(out / name / "images"))
    account = write(name, source, out, images, without, look, most_bad, data_fraction, columns,
                    captions_from)
    print("\n".join(map(printable, account.split("\n"))))
