"""Draw the emoji sheets from pinned npm packages: the objects of artwork/objects.txt in six styles.

    python data/emojiscenes/make_artwork.py                    fetch by npm, draw, write artwork/
    python data/emojiscenes/make_artwork.py --packages DIR     the same, from tarballs in DIR
    python data/emojiscenes/make_artwork.py --check            draw again, compare with the commit's
"""
import argparse
import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent / "artwork"
CELL, COLUMNS, MARGIN = 48, 16, 1
CANVAS = 384                    # icons are drawn large, so that cropping costs no sharpness

# what is pinned of each vendor. The first names the objects: objects.txt has its icons' names.
# fxemoji: npm says Apache-2.0, which is the code's; Mozilla's LICENSE.md puts the drawings under
# CC-BY-4.0
VENDORS = json.loads((FOLDER / "objects.json").read_text(encoding="utf-8"))["vendors"]


def read_objects(text: str) -> list[dict]:
    """Read lines of `name: icon key=value ...`.

    A key is plural, article, drop (vendors) or a vendor (its icon's name). What a line leaves out
    follows from the name: icon, regular plural, article by the first letter. An icon is Noto's name
    of it; drop lists the vendors whose drawing shows something else.
    Raises ValueError for an unknown key.
    """
    objects = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        keys = dict(word.split("=") for word in words if "=" in word)
        plural = re.sub(r"(?<=[^aeiou])y$", "ie", name)
        plural += "es" if plural.endswith(("s", "x", "ch", "sh")) else "s"
        objects.append({
            "name": name,
            "plural": keys.pop("plural", plural).replace("_", " "),
            "article": keys.pop("article", "an" if name[0] in "aeiou" else "a"),
            "drop": keys.pop("drop").split(",") if "drop" in keys else [],
            "icon": words[0] if words and "=" not in words[0] else name.replace(" ", "-"),
            "icons": keys,
        })
        if unknown := {*keys, *objects[-1]["drop"]} - {*VENDORS}:
            raise ValueError(f"{line!r} has {sorted(unknown)}; "
                             f"known are plural, article, drop and {', '.join(VENDORS)}")
    return objects


def fetch(vendor: dict, folder: Path) -> dict[str, dict]:
    """The package's JSON files by name; its tarball lies in `folder`, or npm fetches it there.

    Raises ValueError for a tarball other than the pinned one.
    """
    package, version = vendor["package"], vendor["version"]
    path = folder / f"{package[1:].replace('/', '-')}-{version}.tgz"
    if not path.exists():
        command = ["npm", "pack", f"{package}@{version}", "--silent"]
        command += ["--pack-destination", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != vendor["sha256"]:
        raise ValueError(f"{path} has sha256 {digest}, not the pinned {vendor['sha256']}: delete "
                         "it and fetch it again")
    with tarfile.open(path) as tar:
        return {name: json.load(tar.extractfile(f"package/{name}.json"))
                for name in ("icons", "chars")}


def find(obj: dict, vendor: str, files: dict) -> str | None:
    """The name of the vendor's icon for an object, None where it has none.

    It is as the line says, or else by codepoint, or else the object's own.
    """
    icons = files["icons"]
    chars = files["chars"]
    code = obj["codepoint"]
    name = obj["icons"].get(vendor) or chars.get(code) or chars.get(f"{code}-fe0f")
    if not name and not chars:                   # a vendor without codepoints
        name = obj["icon"].replace("-", "") if vendor == "fxemoji" else obj["icon"]
    exists = name in icons["icons"] or name in icons.get("aliases", {})
    if vendor in obj["icons"] and not exists:
        raise ValueError(f"{obj['name']}: {vendor} has no icon {name!r}; correct "
                         "artwork/objects.txt")
    return name if exists and vendor not in obj["drop"] else None


def draw(icons: dict, name: str) -> Image.Image:
    """One icon, cropped to what can be seen and scaled to fill a cell but for its margin.

    -> RGBA, CELL x CELL
    """
    import resvg_py  # only to draw: 0.5.0. Another may shade an edge differently: see --check

    icon = icons["aliases"].get(name, {}) if name not in icons["icons"] else icons["icons"][name]
    icon = icons["icons"][icon["parent"]] | icon if "parent" in icon else icon
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = ('<svg xmlns="http://www.w3.org/2000/svg" '
           'xmlns:xlink="http://www.w3.org/1999/xlink" '
           f'width="{CANVAS}" height="{CANVAS}" '
           f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">'
           f'{icon["body"]}</svg>')
    png = bytes(resvg_py.svg_to_bytes(svg, skip_system_fonts=True))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = (CELL - 2 * MARGIN) / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    # premultiplied while scaling: else the colour of what cannot be seen bleeds into the edge
    image = image.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(image, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return cell


def make(packages: Path) -> tuple[dict, dict[str, Image.Image]]:
    """Draw everything -> (what objects.json says, a sheet for each vendor)"""
    files = {vendor: fetch(facts, packages) for vendor, facts in VENDORS.items()}
    objects = read_objects((FOLDER / "objects.txt").read_text(encoding="utf-8"))
    codepoint = {name: code for code, name in reversed(files["noto"]["chars"].items())}
    about = {"cell": CELL, "columns": COLUMNS, "objects": [], "vendors": {}}
    for obj in objects:
        obj["codepoint"] = codepoint[obj["icon"]]
        keys = ("name", "plural", "article", "codepoint")
        about["objects"].append({key: obj[key] for key in keys})
    sheets = {}
    for vendor, facts in VENDORS.items():
        missing = []
        rows = -(-len(objects) // COLUMNS)
        sheet = Image.new("RGBA", (CELL * COLUMNS, CELL * rows))
        for i, obj in enumerate(objects):
            row, column = divmod(i, COLUMNS)
            name = find(obj, vendor, files[vendor])
            if name:
                sheet.paste(draw(files[vendor]["icons"], name), (column * CELL, row * CELL))
            else:
                missing.append(obj["name"])
        sheets[vendor] = sheet
        about["vendors"][vendor] = facts | {"missing": missing}
    return about, sheets


def main(argv: list[str] | None = None) -> None:
    """Write the sheets and objects.json or, with --check, compare them.

    Exits with the name of what differs.
    """
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path,
                        help="folder of the npm tarballs; without it they are fetched")
    parser.add_argument("--check", action="store_true",
                        help="write nothing, compare with what is committed")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        about, sheets = make(args.packages or Path(temporary))
    text = json.dumps(about, indent=1) + "\n"
    if not args.check:
        (FOLDER / "objects.json").write_text(text, encoding="utf-8")
        for vendor, sheet in sheets.items():
            sheet.save(FOLDER / f"{vendor}.webp", lossless=True, quality=100, method=6, exact=True)
        return
    differ = []
    if (FOLDER / "objects.json").read_text(encoding="utf-8") != text:
        differ.append("objects.json")
    for vendor, sheet in sheets.items():
        with Image.open(FOLDER / f"{vendor}.webp") as old:
            if old.convert("RGBA").tobytes() != sheet.tobytes():
                differ.append(f"{vendor}.webp")
    if differ:
        raise SystemExit(f"drawn again, these differ from what is committed: {', '.join(differ)}")
    print(f"{len(sheets)} sheets of {len(about['objects'])} objects: every pixel as committed")


if __name__ == "__main__":
    main()
