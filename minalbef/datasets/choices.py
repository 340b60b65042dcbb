"""Compositional tests: which caption fits an image? Winoground, SugarCrepe, ARO and What'sUp.

We lack the files. Their formats were read in Winoground's dataset card and in code that opens it;
in SugarCrepe's data/swap_att.json (commit 42b927f) and main_eval.py (6e45274); in ARO's
dataset_zoo/aro_datasets.py (09e1fcf); in What'sUp's (447c169), and its README (7c1f255).
"""
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minalbef.datasets.forms import Fault, entries, load
from minalbef.datasets.readers import (
    FaultHandler,
    Finder,
    Roots,
    parse_entries,
    photo_id,
    refuse,
)
from minalbef.evaluation.choices import ChoiceRecord
from minalbef.tasks.grounding import box_fault


def winoground(path: Path, root: Roots = None,
               on_fault: FaultHandler = refuse) -> Iterator[ChoiceRecord]:
    """Winoground's lines -> a record for each pair of images.

    A line is {image_0, image_1, caption_0, caption_1, collapsed_tag}, with images named without
    the ending of their files.
    """
    def parse(entry: Any) -> list[ChoiceRecord]:
        images = tuple(entry[f"image_{i}"].removesuffix(".png") + ".png" for i in (0, 1))
        texts = entry["caption_0"], entry["caption_1"]
        return [ChoiceRecord(images, texts, photo_id(images[0]), str(entry["collapsed_tag"]))]
    return parse_entries(path, entries(path), parse, Finder(root), on_fault)


def single_image(path: Path, root: Roots = None,
                 on_fault: FaultHandler = refuse) -> Iterator[ChoiceRecord]:
    """A file of SugarCrepe, ARO or What'sUp -> a record for each entry, whose form shows its set.

    SugarCrepe: {filename in COCO's val2017, caption, negative_caption}
    ARO: {image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption}
    ARO's order: {image, caption_options}
    What'sUp: {image_path, caption_options}, or [number, caption, foil], where the number is
    COCO's in val2017 or Visual Genome's

    A record's kind is the file's name, or ARO's relation_name.
    """
    name = Path(path).stem
    contents = load(path)
    album = "vg" if name.startswith(("vg_", "visual_genome_")) else ""
    if not isinstance(contents, dict | list):
        raise ValueError(f"{path} has no entries; it must be a JSON list or object of them; "
                         "get it again")

    def parse(entry: Any) -> list[ChoiceRecord | Fault]:
        kind = name
        box = None
        if isinstance(entry, list):
            number, *texts = entry
            image = f"vg_images/{number}.jpg" if album else f"val2017/{number:0>12}.jpg"
        elif "negative_caption" in entry:
            image = f"val2017/{entry['filename']}"
            texts = [entry["caption"], entry["negative_caption"]]
        elif "caption_options" in entry:
            image = entry["image_path" if "image_path" in entry else "image"]
            texts = entry["caption_options"]
        else:
            image = entry["image_path"]
            texts = [entry["true_caption"], entry["false_caption"]]
            kind = str(entry.get("relation_name", name))
            corner: tuple[Any, ...] = tuple(entry.get(f"bbox_{side}") for side in "xywh")
            problem = box_fault(corner, (math.inf, math.inf))
            if problem:
                return [Fault("bad box", f"box {corner!r} {problem}")]
            x, y, width, height = corner
            box = x, y, x + width, y + height
        if not isinstance(texts, list) or len(texts) < 2:
            return [Fault("no choice", f"its captions are {texts!r}, so there is no choice")]
        return [ChoiceRecord((image,), tuple(texts), photo_id(image, album), kind, box)]
    items = contents.values() if isinstance(contents, dict) else contents
    return parse_entries(path, items, parse, Finder(root, album), on_fault)
