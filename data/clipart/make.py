"""Make the clip art set, images.zip, captions.csv and sheet.webp, from Debian's openclipart-svg.

    python data/clipart/make.py                       fetch the package by apt-get, write here
    python data/clipart/make.py --package FILE.deb    the same, from a package that you have
    python data/clipart/make.py --out FOLDER          write elsewhere, to compare

It needs Debian's dpkg-deb, and numpy, pillow and resvg-py. README.md says what is left out and why.
"""
import argparse
import csv
import hashlib
import io
import re
import subprocess
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageChops

HERE = Path(__file__).parent
PACKAGE, VERSION = "openclipart-svg", "1:0.18+dfsg-19"
SHA256 = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
DRAWINGS = "usr/share/openclipart/svg"           # within the package

SIDE, MARGIN = 96, 2                  # pixels of an image, and of white around its drawing
CANVAS = 384                          # drawings are rendered large, so that cropping stays sharp
DPI = 90                              # Inkscape's in these years: how large a drawing in pt is
QUALITY = 70                          # of WebP
THINNEST = 6                          # times as long as wide: more is a line, not a drawing
SPLITS = {"train": 78, "validation": 7, "test": 15}          # percent of the families

# Folders whose drawings show nothing that a title names, or hundreds of the same kind
SKIPPED_FOLDERS = (
    "buttons", "computer/buttons", "computer/connectors", "computer/diagrams", "computer/folders",
    "computer/icons", "computer/network", "logos", "people/clothing/pantyhose", "people/stickmen",
    "recreation/games/cards", "shapes", "signs_and_symbols/flags", "signs_and_symbols/led",
    "special", "transportation/aiga-symbols", "unsorted",
)
SKIPPED_TITLES = re.compile(r"iconset$|svg theme|^sallite$|^switch|collection example", re.I)
# Traced photographs of persons, whose rights may be others', and what is unfit for a class
SKIPPED_FILES = re.compile(r"people/(a_boy|a_happy_boy|a_man_sing|a_youngster|grandpa|"
                           r"john_coltrane|martin_luther|sexy|stripper)")
SKIPPED_KEYWORDS = {"flag", "flags", "united_nations_member"}    # flags outside their folder
NOT_ENGLISH = ("rollandin", "guillou")           # authors whose titles are Italian or French
# Titles that an author gave to a whole collection: the file's name says more
COLLECTION = re.compile(
    r"clipart by|clip ?arts?$|^clipart|road ?signs$|icons$|^r\d+ s\w*mission|"
    r"australian maps|^map symbols$|^various|illustration$|^glace$|^aiga|"
    r"^balloons-aj$|^advertising$|^creation day|^simple hand|hand drawn$|^moons$|^pc connectors$|"
    r"^chess pieces$|open ?clip", re.I)
# What names the collection within a title
LABEL = re.compile(r" - (rpg map elements|body part|clothing)$|^aiga | openc\w*$|"
                   r" \d symbol \d+c?m bwh?$|^0\d ", re.I)
# Keywords that name a place in the collection, or nothing
EMPTY_KEYWORDS = {
    "", "application", "clip art", "clipart", "computer", "education", "equipment", "geography",
    "hash", "icon", "icons", "inkscape", "openclipart", "public domain", "recreation", "shape",
    "sign", "signs and symbols", "svg", "symbol", "symbols", "transportation", "unsorted",
    "vector", "work",
}
KEYWORDS = 3                          # at most, of an image
LONGEST = 60                          # characters of a title
# Words by which drawings of one family differ
VARIANTS = re.compile(
    r"\b(b and w|bw|black|white|red|green|blue|yellow|orange|pink|brown|purple|gr[ae]y|silver|gold|"
    r"small|medium|large|big|little|left|right|upper|lower|top|bottom|one|two|three|four|\d+)\b")
DUPLICATE_TITLED = 0.9                # correlation of two drawings with one title: one goes
DUPLICATE = 0.985                     # of any two, in colour
FAMILY = 0.93                         # of any two, in grey: both stay, in one split
THUMBNAIL = 24                        # pixels of a side, to correlate


@dataclass
class Drawing:
    """A file of the package: what its metadata say, and what becomes of it."""

    source: str                       # its path in the package, without ending
    title: str
    keywords: list[str]
    authors: list[str]
    is_public_domain: bool
    elements: set[str]                # names of its SVG elements
    image: Image.Image | None = None
    family: int = -1
    words: set[str] = field(default_factory=set)       # of its authors' names

    @property
    def author(self) -> str:
        """The first author."""
        return self.authors[0] if self.authors else ""


def fetch(folder: Path) -> Path:
    """Download the package by apt-get into a folder: -> its file."""
    subprocess.run(["apt-get", "download", f"{PACKAGE}={VERSION}"], cwd=folder, check=True)
    return next(folder.glob("*.deb"))


def unpack(package: Path, folder: Path) -> Path:
    """Unpack the package: -> the folder of its drawings. Raises ValueError for another version."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{package} has sha256 {digest}, not the pinned {SHA256}; get {PACKAGE} "
                         f"{VERSION}")
    subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder / DRAWINGS


def local_name(element: ElementTree.Element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def texts(element: ElementTree.Element, name: str) -> list[str]:
    """The texts of all elements of a name within another, without empty ones."""
    found = []
    for inner in element.iter():
        text = " ".join((inner.text or "").split())
        if local_name(inner) == name and text:
            found.append(text)
    return found


def read_drawing(path: Path, root: Path) -> Drawing:
    """A drawing by the RDF in its SVG."""
    drawing = Drawing(path.relative_to(root).with_suffix("").as_posix(), "", [], [], False, set())
    for element in ElementTree.parse(path).iter():
        name = local_name(element)
        drawing.elements.add(name)
        if name == "license":
            drawing.is_public_domain |= any(
                address.lower().rstrip("/").endswith("/publicdomain")
                for address in element.attrib.values())
        if name != "Work":
            continue
        for part in element:
            if local_name(part) == "title" and not drawing.title:
                drawing.title = " ".join((part.text or "").split())
            elif local_name(part) == "subject":
                drawing.keywords += texts(part, "li")
            elif local_name(part) in ("creator", "rights"):
                drawing.authors += [name for name in texts(part, "title") if "HASH(" not in name]
    for name in drawing.authors:
        drawing.words |= set(re.findall(r"\w{3,}", name.lower()))
    return drawing


def reason_to_skip(drawing: Drawing) -> str:
    """Why a drawing does not belong into the set, by its metadata alone; or ""."""
    if not drawing.is_public_domain:
        return "no licence, or another than public domain"
    if drawing.source.startswith(tuple(f"{folder}/" for folder in SKIPPED_FOLDERS)):
        return "folder of shapes, icons, cards, flags and the like"
    if SKIPPED_TITLES.search(drawing.title):
        return "icon theme, network diagram or menu"
    if SKIPPED_FILES.match(drawing.source):
        return "a traced photograph of a person, or unfit for a class"
    if SKIPPED_KEYWORDS & set(drawing.keywords):
        return "flag"
    if any(name in author.lower() for author in drawing.authors for name in NOT_ENGLISH):
        return "titles in Italian or French"
    if drawing.elements & {"text", "flowRoot"}:
        return "letters, which depend on fonts"
    if "image" in drawing.elements:
        return "an embedded bitmap"
    return ""


def spaced(name: str) -> str:
    """A name with spaces between its words and no number at its end: "bigHat_02" -> "big Hat"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    name = " ".join(re.sub(r"[_/#]+|(?<=\w)-(?=\w)", " ", name).split())
    name = re.sub(r"[\s\-.,:;]+\d+$|(?<=[a-z])(?<!\dx)\d+$", "", name)
    return name.strip(" -.,:;!")


def title_of_file(drawing: Drawing) -> str:
    """The title that a file's name has, which ends in the author's name, cut off, and a number."""
    words = spaced(drawing.source.rpartition("/")[2]).split()

    def is_author(word: str) -> bool:
        return len(word) == 1 or word.isdigit() or any(
            name.startswith(word.lower()) for name in drawing.words)
    while words and is_author(words[-1]):
        words.pop()
    return " ".join(words)


def title_of(drawing: Drawing) -> str:
    """A drawing's title as its author wrote it, or that of its file if it names something else."""
    words = set(re.findall(r"\w{3,}", drawing.title.lower()))
    if COLLECTION.search(drawing.title) or words <= drawing.words:
        title = title_of_file(drawing)
    else:
        title = spaced(LABEL.sub("", drawing.title))
    return LABEL.sub("", title).strip()


def keywords_of(drawing: Drawing, title: str) -> list[str]:
    """Up to three keywords that say more than the title."""
    known = stems(title) | drawing.words
    kept: list[str] = []
    for keyword in drawing.keywords:
        keyword = spaced(keyword).lower()
        words = stems(keyword)
        is_empty = keyword in EMPTY_KEYWORDS or keyword.endswith(("sym", "stuff")) \
            or keyword.startswith(("hash(", "0x", "http"))
        if not is_empty and not words <= known:
            kept.append(keyword)
            known |= words
    return kept[:KEYWORDS]


def stems(text: str) -> set[str]:
    """The words of a text, without the s of a plural."""
    return {word.rstrip("s") for word in re.findall(r"\w+", text.lower())}


def is_title(title: str) -> bool:
    """Whether a title has a word in Latin letters, and isn't an essay."""
    return bool(re.search("[a-z]{3}", title.lower())) and len(title) <= LONGEST


def render(path: Path) -> Image.Image | None:
    """A drawing, cropped to what can be seen, centred on white; None if it is empty or a line.

    -> RGB, SIDE x SIDE
    """
    import resvg_py  # 0.5.0. Another version may shade an edge differently

    try:
        png = resvg_py.svg_to_bytes(svg_path=str(path), width=CANVAS, dpi=DPI,
                                    skip_system_fonts=True)
    except ValueError:
        return None
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    image = paper.convert("RGB")
    box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    if not box:
        return None
    image = image.crop(box)
    if max(image.size) > THINNEST * min(image.size):
        return None
    scale = (SIDE - 2 * MARGIN) / max(image.size)
    size = [max(1, round(scale * side)) for side in image.size]
    small = image.resize(size, Image.Resampling.LANCZOS)
    cell = Image.new("RGB", (SIDE, SIDE), "white")
    cell.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return cell


def correlations(images: list[Image.Image], mode: str) -> np.ndarray:
    """Correlation of each two images' thumbnails, in "L" or "RGB": (n, n)."""
    size = (THUMBNAIL, THUMBNAIL)
    small = [image.convert(mode).resize(size, Image.Resampling.BOX) for image in images]
    rows = np.stack([np.asarray(image, np.float32).ravel() for image in small])
    rows -= rows.mean(1, keepdims=True)
    rows /= np.maximum(1e-6, np.linalg.norm(rows, axis=1, keepdims=True))
    return rows @ rows.T


def drop_duplicates(drawings: list[Drawing]) -> list[Drawing]:
    """The drawings without those that look like an earlier one."""
    alike = correlations([drawing.image for drawing in drawings], "RGB")
    kept: list[int] = []
    for i, drawing in enumerate(drawings):
        titled = [j for j in kept if drawings[j].title.lower() == drawing.title.lower()]
        if any(alike[i, kept] > DUPLICATE) or any(alike[i, titled] > DUPLICATE_TITLED):
            continue
        kept.append(i)
    return [drawings[i] for i in kept]


def root_of(title: str) -> str:
    """A title without brackets, colours, sizes, sides and numbers."""
    title = title.lower()
    root = VARIANTS.sub("", re.sub(r"\(.*?\)", "", title))
    return " ".join(root.split()) or title


def find_families(drawings: list[Drawing]) -> None:
    """Number the families: drawings that look alike, or share author and root of the title."""
    parents = list(range(len(drawings)))

    def first(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i
    alike = correlations([drawing.image for drawing in drawings], "L") > FAMILY
    roots: dict[tuple[str, str], int] = {}
    for i, drawing in enumerate(drawings):
        relatives = [j for j in range(i) if alike[i, j]]
        relatives.append(roots.setdefault((drawing.author, root_of(drawing.title)), i))
        for j in relatives:
            a, b = sorted((first(i), first(j)))
            parents[b] = a
    for i, drawing in enumerate(drawings):
        drawing.family = first(i)


def split_of(family: str) -> str:
    """The split of a family, by a hash of its first drawing's source."""
    percent = int.from_bytes(hashlib.blake2b(family.encode(), digest_size=8).digest()) % 100
    for split, share in SPLITS.items():
        percent -= share
        if percent < 0:
            return split
    raise AssertionError("the shares of SPLITS add up to 100")


def select(root: Path) -> tuple[list[Drawing], Counter[str]]:
    """The drawings of the set, with title, keywords, image and family; and why others are out."""
    left_out: Counter[str] = Counter()
    drawings = []
    for path in sorted(root.rglob("*.svg")):
        if path.is_symlink():
            continue
        drawing = read_drawing(path, root)
        reason = reason_to_skip(drawing)
        title = title_of(drawing)
        if not reason and not is_title(title):
            reason = "no title"
        if not reason:
            drawing.image = render(path)
            reason = "" if drawing.image else "nothing to see, or a line"
        if reason:
            left_out[reason] += 1
            continue
        drawing.title = title
        drawing.keywords = keywords_of(drawing, title)
        drawings.append(drawing)
    kept = drop_duplicates(drawings)
    left_out["near-duplicate"] = len(drawings) - len(kept)
    find_families(kept)
    return kept, left_out


def write(drawings: list[Drawing], out: Path) -> None:
    """Write the images and the table of captions."""
    out.mkdir(parents=True, exist_ok=True)
    with (open(out / "captions.csv", "w", newline="", encoding="utf-8") as table,
          zipfile.ZipFile(out / "images.zip", "w") as archive):
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["file", "split", "family", "title", "keywords", "author"])
        for drawing in drawings:
            split = split_of(drawings[drawing.family].source)
            file = f"{split}/{drawing.source.replace('/', '-')}.webp"
            rows.writerow([file, split, drawing.family, drawing.title,
                           "; ".join(drawing.keywords), drawing.author])
            webp = io.BytesIO()
            drawing.image.save(webp, "WebP", quality=QUALITY, method=6)
            archive.writestr(zipfile.ZipInfo(file), webp.getvalue())     # a fixed date, stored


def draw_sheet(drawings: list[Drawing], path: Path, columns: int = 24, rows: int = 10) -> None:
    """A contact sheet of drawings at even distances."""
    sheet = Image.new("RGB", (columns * SIDE // 2, rows * SIDE // 2), "white")
    for k in range(columns * rows):
        image = drawings[k * len(drawings) // (columns * rows)].image
        y, x = divmod(k, columns)
        sheet.paste(image.resize((SIDE // 2, SIDE // 2), Image.Resampling.LANCZOS),
                    (x * SIDE // 2, y * SIDE // 2))
    sheet.save(path, "WebP", quality=75, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="the package, if you have it")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = options.package or fetch(Path(folder))
        drawings, left_out = select(unpack(package, Path(folder)))
        write(drawings, options.out)
        draw_sheet(drawings, options.out / "sheet.webp")
    for reason, count in left_out.most_common():
        print(f"{count:5,} left out: {reason}")
    counts = Counter(split_of(drawings[drawing.family].source) for drawing in drawings)
    families = len({drawing.family for drawing in drawings})
    print(f"{len(drawings):5,} drawings in {families:,} families: {dict(counts)}")


if __name__ == "__main__":
    main()
