"""`minalbef search`, `index` and `export` on the command line."""
from pathlib import Path
from tempfile import TemporaryDirectory

import minalbef
from minalbef.cli.train import source_of
from minalbef.config import printable

FEW = 5                               # files that a line names


def search(what: str, /, run: Path | None = None, images: Path | None = None, index: Path | None = None,
           texts: Path | None = None, scenes: int = 2000, out: Path | None = None) -> None:
    """Find pictures for a sentence, in a folder of yours or among unseen scenes, and draw the best; or texts.

    A folder's subfolders are searched, too.

    Args:
        what: a sentence, such as "an apple left of a cat"; with --texts a picture
        run: the run folder; by default runs/demo, or else the shipped model
        images: a folder of pictures to look through, in place of scenes
        index: the same, after `minalbef index`
        texts: a file of texts to look through, one a line, for those that suit the picture
        scenes: how many unseen scenes to look through
        out: the picture to write; by default search.png in the run folder, of the shipped model in runs/tiny
    """
    from minalbef.recipes import index as indexer
    from minalbef.recipes import report
    from minalbef.recipes import search as finder
    from minalbef.writing import explain
    if sum(map(bool, (images, index, texts))) > 1:
        raise ValueError("--images, --index and --texts: name one of them to look through")
    if texts and out:
        raise ValueError("--out: texts are listed, and no picture is drawn; leave it out with --texts")
    model = minalbef.load(source_of(run))
    if texts:
        with explain(f"{texts} cannot be read", "it must be text in UTF-8, one a line", OSError, UnicodeDecodeError):
            lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
        return print(finder.describe(model, what, finder.search_texts(model, Path(what), lines)))
    gone: list[str] = []
    with TemporaryDirectory() as folder:
        if images:
            index = Path(folder) / "index.safetensors"
            left_out(indexer.write_index(model, images, index), images)
        if index:
            found = indexer.read_index(model, index)
            hits = finder.search_features(model, what, found.paths, found.features, found.folder)
            gone = found.gone
        else:
            hits = finder.search(model, what, scenes)
    out = out or report.output_folder(model.path) / "search.png"
    print(finder.describe(model, what, hits))
    if gone:
        print("Note: not searched, as changed or vanished since they were indexed: "
              f"{', '.join(map(printable, gone))}")
    finder.figure(what, hits).save(out)
    print(printable(f"{out} shows the answer"))


def left_out(broken: dict[str, str], folder: Path) -> None:
    """Say which pictures could not be read, why, and what else of a folder was not looked at."""
    from minalbef.data import image_files
    for reason in broken.values():
        print(printable(f"left out: {reason}"))
    others: dict[str, list[str]] = {}
    for name, why in image_files(folder)[1].items():
        others.setdefault(why, []).append(name)
    for why, names in others.items():
        more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
        print(printable(f"left out, {why}: {', '.join(names[:FEW])}{more}"))


def index(images: Path, /, run: Path | None = None, out: Path | None = None) -> None:
    """Read the pictures of a folder and its subfolders once, for `minalbef search --index`.

    Args:
        images: the folder
        run: the run folder; by default runs/demo, or else the shipped model
        out: the file to write; by default FOLDER.index.safetensors in the run folder, of the shipped model in runs/tiny
    """
    from minalbef.recipes import index as indexer
    from minalbef.recipes import report
    model = minalbef.load(source_of(run))
    out = out or report.output_folder(model.path) / f"{images.resolve().name}.index.safetensors"
    left_out(indexer.write_index(model, images, out), images)
    print(printable(f"{out} is written; search it with: minalbef search \"a big rocket\" "
                    f"--index {out} --run {run or model.path}"))


def export(run: Path, /, onnx: Path) -> None:
    """A run in ONNX, for onnxruntime and other programs: image encoder, text encoder, fusion with both heads.

    Args:
        run: the run folder
        onnx: the folder to write: image.onnx, text.onnx, fusion.onnx, tokenizer.json
    """
    from minalbef.recipes import export as exporter
    exporter.export(minalbef.load(run), onnx)
    print(f"{onnx} holds image.onnx, text.onnx, fusion.onnx and tokenizer.json")
