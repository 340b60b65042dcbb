"""`minalbef search`, `predict`, `explore` and `export` on the command line."""
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import minalbef
from minalbef.cli.limits import refuse
from minalbef.cli.train import source_of
from minalbef.system.limits import printable

if TYPE_CHECKING:                     # importing it loads torch, for which --help need not wait
    from minalbef.tasks.run import Run

FEW = 5                               # files that a line lists


def search(what: str, /, run: Path | None = None, images: Path | None = None,
           texts: Path | None = None, scenes: int = 2000, out: Path | None = None) -> None:
    """Find images for a sentence and draw the best, or find texts for an image.

    Images are unseen scenes, or those in your folder and its subfolders, whose features are kept
    in the run folder for the next search.

    Args:
        what: a sentence, such as "an apple left of a cat"; with --texts an image
        run: the run folder; by default runs/demo, or else the shipped model
        images: a folder of images to search, in place of scenes
        texts: a file of texts to search, one per line, for those that fit the image
        scenes: how many unseen scenes to search
        out: the figure to write; by default search.png in the run folder (shipped model: runs/tiny)
    """
    from minalbef.recipes import report
    from minalbef.recipes import search as finder
    from minalbef.recipes.features import embed_folder
    if texts:
        refuse("of no use with --texts, which are listed; leave it out", images=images, out=out)
    model = minalbef.load(source_of(run))
    folder = report.output_folder(model.path)
    if texts:
        hits = finder.search_texts(model, Path(what), finder.read_texts(texts))
    elif images:
        place, paths, features, broken = embed_folder(model, images, folder)
        report_unread(broken, images)
        hits = finder.search_features(model, what, paths, features, place)
    else:
        hits = finder.search(model, what, scenes)
    print(finder.describe_hits(model, what, hits))
    if not texts:
        out = out or folder / "search.png"
        finder.figure(what, hits).save(out)
        print(printable(f"{out} shows the answer"))


def report_unread(reasons: Collection[str], folder: Path) -> None:
    """Print why images of a folder could not be read, and what else was left out."""
    from minalbef.system.images import image_files
    for reason in reasons:
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


def predict(task: str, /, image: tuple[Path, ...], text: str, run: Path | None = None,
            out: Path | None = None, boxes: tuple[tuple[float, float, float, float], ...] = ()
            ) -> None:
    """Ask a fine-tuned model about your own images, and draw where it looked.

    Args:
        task: what to ask: {predicting_tasks}
        image: the image; for nlvr2 two, the left one first
        text: a caption, statement, expression or question, such as "is the cat red?"
        run: by default runs/TASK; where a pretrained run will do, else runs/demo or the shipped one
        out: the figure to write; by default answer.png in the run folder (of `tiny`, runs/tiny)
        boxes: for grounding, the boxes to choose among, each x y width height in pixels
    """
    from minalbef.recipes import predict as predictor
    evaluates = predictor.find_predicting_task(task).evaluates
    if run is None:
        run = Path("runs", task)
        if "pretrain" in evaluates and not run.exists():
            run = source_of(None)
    print(predictor.main(task, image, text, run, out, boxes or None))


def explore(run: Path | None = None, /, images: Path | None = None,
            out: Path | None = None) -> None:
    """Write a page to explore a model in a browser.

    Move objects, type sentences, watch its answers. Where the run folder has checkpoints, step_0190
    and so on, a file beside the page plays its training back. With --images, search and ask about
    your own images: `minalbef explore runs/own --images FOLDER`.

    Args:
        run: the run folder; by default runs/demo, or else the shipped model
        images: a folder of up to 500 images, for a page of them in place of scenes
        out: by default explorer.html, or pictures.html, in the run folder (of `tiny`, runs/tiny)
    """
    from minalbef.recipes import report
    model = minalbef.load(source_of(run))
    folder = report.output_folder(model.path)
    if images:
        explore_images(model, images, out or folder / "pictures.html")
        return
    from minalbef.viz import explorer, playback
    out = out or folder / "explorer.html"
    alone = explorer.write_explorer(model, out)
    if playback.checkpoints_of(model):
        script = explorer.script_beside(out)
        print(f"{script} holds the run's checkpoints; keep it beside the page")
    print(f"open {out} in a browser" + (f"; one model answers there: {alone}" if alone else ""))


def explore_images(model: "Run", images: Path, out: Path) -> None:
    """Write the page of a folder's images, and print what could not be read and where it is."""
    from minalbef.recipes import explore as recipe
    count, broken = recipe.write_page(model, images, out)
    report_unread(broken.values(), images)
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
