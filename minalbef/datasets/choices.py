"""Compositional tests: which caption fits an image? Winoground, SugarCrepe, ARO and What'sUp.

We lack the files. Their formats were read in Winoground's dataset card and in code that opens it;
in SugarCrepe's data/swap_att.json (commit 42b927f) and main_eval.py (6e45274); in ARO's
dataset_zoo/aro_datasets.py (09e1fcf); in What'sUp's (447c169), and its README (7c1f255).
"""
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minalbef.datasets.readers import (
    Fault,
    FaultHandler,
    Finder,
    Roots,
    check_text,
    entries,
    field,
    load,
    parse_entries,
    photo_id,
    refuse,
)
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.tasks.grounding import box_fault


class Choice(NamedTuple):
    """An entry with one image: its file, its captions, the true one first, and what else it has."""

    image: str
    texts: list[Any]
    kind: str
    box: tuple[float, float, float, float] | None = None


def winoground(path: Path, root: Roots = None,
               on_fault: FaultHandler = refuse) -> Iterator[ChoiceRecord]:
    """Winoground's lines -> a record for each pair of images.

    A line is {image_0, image_1, caption_0, caption_1, collapsed_tag}, with images named without
    the ending of their files.
    """
    find = Finder(root)

    def parse(entry: Any) -> list[ChoiceRecord]:
        names = [field(entry, f"image_{i}").removesuffix(".png") + ".png" for i in (0, 1)]
        texts = tuple(check_text(entry.get(f"caption_{i}")) for i in (0, 1))
        images = tuple(map(find, names))
        kind = field(entry, "collapsed_tag")
        return [ChoiceRecord(images, texts, photo_id(names[0]), kind)]
    return parse_entries(path, entries(path), parse, on_fault)


def single_image(path: Path, root: Roots = None,
                 on_fault: FaultHandler = refuse) -> Iterator[ChoiceRecord]:
    """A file of SugarCrepe, ARO or What'sUp -> a record for each entry; see `parse_choice`.

    A record's kind is the file's name, or ARO's relation_name.
    """
    name = Path(path).stem
    contents = load(path)
    album = "vg" if name.startswith(("vg_", "visual_genome_")) else ""
    find = Finder(root, album)
    if not isinstance(contents, dict | list):
        raise ValueError(f"{path} has no entries; it must be a JSON list or object of them; "
                         "get it again")

    def parse(entry: Any) -> list[ChoiceRecord]:
        choice = parse_choice(entry, name, album)
        if len(choice.texts) < 2:
            problem = f"there is only {len(choice.texts)} caption, {choice.texts!r}"
            raise Fault("no choice", f"{problem}, so nothing to choose from")
        photo = photo_id(choice.image.replace("val2017/", "COCO_val2017_"), album)
        texts = tuple(map(check_text, choice.texts))
        return [ChoiceRecord((find(choice.image),), texts, photo, choice.kind, choice.box)]
    items = contents.values() if isinstance(contents, dict) else contents
    return parse_entries(path, items, parse, on_fault)


def parse_choice(entry: Any, name: str, album: str) -> Choice:
    """An entry of SugarCrepe, ARO or What'sUp, whose form shows which it is.

    SugarCrepe: {filename in COCO's val2017, caption, negative_caption}
    ARO: {image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption}
    ARO's order: {image, caption_options}
    What'sUp: {image_path, caption_options}, or [number, caption, foil], where the number is
    COCO's in val2017 or Visual Genome's
    name: the file's; album: "vg" for Visual Genome's images
    """
    if isinstance(entry, list):
        number, *texts = entry
        image = f"vg_images/{number}.jpg" if album else f"val2017/{number:0>12}.jpg"
        return Choice(image, texts, name)
    if "negative_caption" in entry:
        image = f"val2017/{field(entry, 'filename')}"
        return Choice(image, [entry.get("caption"), entry["negative_caption"]], name)
    if "caption_options" in entry:
        image = field(entry, "image_path" if "image_path" in entry else "image")
        return Choice(image, field(entry, "caption_options", list), name)
    image = field(entry, "image_path")
    box = tuple(entry.get(f"bbox_{side}") for side in "xywh")
    problem = box_fault(box, (math.inf, math.inf))
    if problem:
        raise Fault("bad box", f"box {box!r} {problem}")
    x, y, width, height = box
    texts = [entry.get("true_caption"), entry.get("false_caption")]
    kind = str(entry.get("relation_name", name))
    return Choice(image, texts, kind, (x, y, x + width, y + height))
