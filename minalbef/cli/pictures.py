"""`minalbef search`, `index` and `export` on the command line."""
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import minalbef
from minalbef.cli.train import source_of
from minalbef.config import printable

if TYPE_CHECKING:                     # importing it loads torch, for which --help need not wait
    from minalbef.recipes.search import Hit
    from minalbef.run import Run

FEW = 5                               # files that a line lists
MOST = 20                             # those that a search leaves out


def search(what: str, /, run: Path | None = None, images: Path | None = None,
           index: Path | None = None, texts: Path | None = None, scenes: int = 2000,
           out: Path | None = None) -> None:
    """Find images for a sentence and draw the best, or find texts for an image.

    Images are unseen scenes, or those in your folder and its subfolders.

    Args:
        what: a sentence, such as "an apple left of a cat"; with --texts an image
        run: the run folder; by default runs/demo, or else the shipped model
        images: a folder of images to search, in place of scenes
        index: the same, after `minalbef index`
        texts: a file of texts to search, one per line, for those that fit the image
        scenes: how many unseen scenes to search
        out: the figure to write; by default search.png in the run folder (shipped model: runs/tiny)
    """
    from minalbef.recipes import index as indexer
    from minalbef.recipes import report
    from minalbef.recipes import search as finder
    if sum(map(bool, (images, index, texts))) > 1:
        raise ValueError("--images, --index and --texts: name one of them to search")
    if texts and out:
        raise ValueError("--out: texts are listed, and no figure is drawn; leave it out with "
                         "--texts")
    model = minalbef.load(source_of(run))
    if texts:
        list_texts(model, Path(what), texts)
        return
    stale: list[str] = []
    if images:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "index.safetensors"
            report_unread(indexer.write_index(model, images, path), images)
            hits, stale = search_index(model, what, path)
    elif index:
        hits, stale = search_index(model, what, index)
    else:
        hits = finder.search(model, what, scenes)
    out = out or report.output_folder(model.path) / "search.png"
    print(finder.describe_hits(model, what, hits))
    if stale:
        listing = ", ".join(map(printable, stale[:MOST]))
        if len(stale) > MOST:
            listing += f" and {len(stale) - MOST:,} more"
        print("Note: not searched, as changed, vanished or new since the folder was indexed, which "
              f"`minalbef index` does again: {listing}")
    finder.figure(what, hits).save(out)
    print(printable(f"{out} shows the answer"))


def search_index(model: "Run", sentence: str, path: Path) -> tuple[list["Hit"], list[str]]:
    """The best images of an index, and the names of those that changed, came or vanished since."""
    from minalbef.recipes import index as indexer
    from minalbef.recipes import search as finder
    index = indexer.read_index(model, path)
    hits = finder.search_features(model, sentence, index.paths, index.features, index.folder)
    return hits, index.stale


def list_texts(model: "Run", image: Path, texts: Path) -> None:
    """Print the texts of a file that fit an image best."""
    from minalbef.recipes import search as finder
    from minalbef.writing import restate
    with restate(f"{texts} cannot be read", "it must be text in UTF-8, one per line", OSError,
                 UnicodeDecodeError):
        lines = texts.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()]
    hits = finder.search_texts(model, image, lines)
    print(finder.describe_hits(model, str(image), hits))


def report_unread(broken: dict[str, str], folder: Path) -> None:
    """Print which images of a folder could not be read and why, and what else was left out."""
    from minalbef.data import image_files
    for reason in broken.values():
        print(printable(f"left out: {reason}"))
    names_by_reason: dict[str, list[str]] = {}
    _, skipped = image_files(folder)
    for name, reason in skipped.items():
        names_by_reason.setdefault(reason, []).append(name)
    for reason, names in names_by_reason.items():
        listing = ", ".join(names[:FEW])
        if len(names) > FEW:
            listing += f" and {len(names) - FEW:,} more"
        print(printable(f"left out, {reason}: {listing}"))


def index(images: Path, /, run: Path | None = None, out: Path | None = None) -> None:
    """Read the images of a folder and its subfolders once, for `minalbef search --index`.

    Args:
        images: the folder
        run: the run folder; by default runs/demo, or else the shipped model
        out: by default FOLDER.index.safetensors in the run folder (shipped model: in runs/tiny)
    """
    from minalbef.recipes import index as indexer
    from minalbef.recipes import report
    model = minalbef.load(source_of(run))
    if out is None:
        name = f"{images.resolve().name}.index.safetensors"
        out = report.output_folder(model.path) / name
    report_unread(indexer.write_index(model, images, out), images)
    print(printable(f"{out} is written; search it with: minalbef search \"a big rocket\" "
                    f"--index {out} --run {run or model.path}"))


def explore_pictures(model: "Run", images: Path, out: Path) -> None:
    """Write the page of a folder's images, and print what could not be read and where it is."""
    from minalbef.recipes import explore as recipe
    count, broken = recipe.write_page(model, images, out)
    report_unread(broken, images)
    unread = f", {len(broken):,} could not be read" if broken else ""
    print(printable(f"open {out} in a browser: {count:,} images{unread}, "
                    f"{out.stat().st_size / 1e6:.1f} MB in one file, works offline"))


def export(run: Path, /, onnx: Path) -> None:
    """A run in ONNX, for onnxruntime and other programs.

    It becomes three files: image encoder, text encoder, and fusion with both heads.

    Args:
        run: the run folder
        onnx: the folder to write: image.onnx, text.onnx, fusion.onnx, tokenizer.json
    """
    from minalbef.recipes import export as exporter
    exporter.export(minalbef.load(run), onnx)
    print(f"{onnx} holds image.onnx, text.onnx, fusion.onnx and tokenizer.json; "
          "docs/use.md shows how onnxruntime runs them, without torch")
