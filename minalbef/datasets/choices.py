"""Records and readers of tests that ask which caption fits a picture: Winoground, SugarCrepe, ARO, What'sUp."""
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minalbef.data import Source
from minalbef.datasets.readers import Fault, Finder, Roots, entries, field, load, photo_id, read, refuse, words
from minalbef.tasks.grounding import box_fault


@dataclass(frozen=True)
class ChoiceRecord:
    """One picture, its caption and foils; or two pictures and their two captions, in the same order.

    id: the picture's, or the pair's. kind: the subset. box: the part of the picture to show (left, top, right, bottom)
    """

    images: tuple[Source, ...]
    texts: tuple[str, ...]
    id: int
    kind: str = ""
    box: tuple[float, float, float, float] | None = None


def winoground(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[ChoiceRecord]:
    """Winoground's lines {image_0, image_1, caption_0, caption_1, collapsed_tag}; pictures are named without ending."""
    find = Finder(root)

    def parse(entry):
        names = [field(entry, f"image_{i}").removesuffix(".png") + ".png" for i in (0, 1)]
        texts = tuple(words(entry.get(f"caption_{i}")) for i in (0, 1))
        return [ChoiceRecord(tuple(map(find, names)), texts, photo_id(names[0]), field(entry, "collapsed_tag"))]
    return read(path, entries(path), parse, fault)


def one_picture(path: Path, root: Roots = None, fault: Callable = refuse) -> Iterator[ChoiceRecord]:
    """A file of SugarCrepe, ARO or What'sUp, whose entries tell which; kind: its name, or ARO's relation_name.

    SugarCrepe: {number: {filename in COCO's val2017, caption, negative_caption}}
    ARO: [{image_path, bbox_x, bbox_y, bbox_w, bbox_h, true_caption, false_caption}]; order: [{image, caption_options}]
    What'sUp: [{image_path, caption_options}], [[number in COCO's val2017 or Visual Genome, caption, foil]]
    """
    name, whole = Path(path).stem, load(path)
    album = "vg" if name.startswith(("vg_", "visual_genome_")) else ""
    find = Finder(root, album)
    if not isinstance(whole, dict | list):
        raise ValueError(f"{path} has no entries; it must be a JSON list or object of them; get it again")

    def parse(entry):
        box, kind = None, name
        if isinstance(entry, list):
            number, *texts = entry
            image = f"vg_images/{number}.jpg" if album else f"val2017/{number:0>12}.jpg"
        elif "negative_caption" in entry:
            image, texts = f"val2017/{field(entry, 'filename')}", [entry.get("caption"), entry["negative_caption"]]
        elif "caption_options" in entry:
            image = field(entry, "image_path" if "image_path" in entry else "image")
            texts = field(entry, "caption_options", list)
        else:
            image, texts = field(entry, "image_path"), [entry.get("true_caption"), entry.get("false_caption")]
            x, y, width, height = box = tuple(entry.get(f"bbox_{side}") for side in "xywh")
            if wrong := box_fault(box, (math.inf, math.inf)):
                raise Fault("bad box", f"box {box!r} {wrong}")
            box, kind = (x, y, x + width, y + height), str(entry.get("relation_name", name))
        if len(texts) < 2:
            raise Fault("no choice", f"there is only {len(texts)} caption, {texts!r}, so nothing to choose from")
        photo = photo_id(image.replace("val2017/", "COCO_val2017_"), album)
        return [ChoiceRecord((find(image),), tuple(map(words, texts)), photo, kind, box)]
    return read(path, whole.values() if isinstance(whole, dict) else whole, parse, fault)
