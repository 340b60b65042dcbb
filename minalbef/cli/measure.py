"""`minalbef evaluate` and `doctor` on the command line."""
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minalbef.cli.limits import refuse
from minalbef.cli.train import Flags, From, source_of
from minalbef.system.limits import printable


@dataclass(frozen=True)
class EvaluateScenes:
    """Of the embedded scenes, which are evaluated without --data."""

    source: From = None
    """the pretrained run that a task's began from; by default as for finetune"""
    size: float = 1.0
    """share of the test set, for a quick look"""
    among: int | None = None
    """how many scenes a caption is ranked among: 500, or 5000 for `small`"""
    split: Literal["test", "validation"] = "test"
    """validation while you tune"""
    pairs: bool = False
    """minimal pairs alone, with Winoground's scores by ITC, ITM and both"""


@dataclass(frozen=True)
class EvaluateSets:
    """Of a prepared set, which --data names."""

    answers: Path | None = None
    """VQA: the list to choose from, by default the set's"""
    free: bool = False
    """VQA: write the answer instead"""
    top: int = 0
    """candidates of the second stage; 0: the paper's for the set"""
    layer: int | Literal["all"] | None = None
    """grounding: fusion's layer, an index from 0; by default the middle"""
    original: bool = False
    """score as the original does: VQA's first word twice, no overlap below a pixel"""
    tuned_on: tuple[str, ...] = ()
    """sets that a converted run was trained on: they name the protocol"""
    batch: int = 32
    """records that are read at once"""
    workers: int = 0
    """processes that open images ahead"""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """of products; auto: bf16 where a GPU has it"""


@dataclass(frozen=True)
class EvaluateFolders:
    """Of a folder with a folder of images for each label, such as FOLDER/dog/1.png."""

    zero_shot: Path | None = None
    """the folder, to classify its images by the labels' texts"""
    probe: Path | None = None
    """the folder, to fit a linear probe to frozen features of a part of its images"""
    template: tuple[str, ...] = ()
    """zero-shot: sentences with {} for the label, such as "a photo of a {}", in place of ours"""


def evaluate(what: str = "runs/demo", /, data: Path | None = None, out: Path | None = None,
             seed: int = 0, scenes: Flags[EvaluateScenes] = EvaluateScenes(),
             sets: Flags[EvaluateSets] = EvaluateSets(),
             folders: Flags[EvaluateFolders] = EvaluateFolders()) -> None:
    """Evaluate a run on unseen scenes, on a prepared set (there also under torchrun -m --), or by
    classifying a folder of your images.

    Args:
        what: the run folder; or a task, whose run is runs/TASK
        data: the prepared split, such as prepared/coco/test; what it holds says the task
        out: the folder to write; by default RUN, or within it for a set or a part of the test
        seed: of the freshly drawn test set, or of --probe's split
    """
    from minalbef.recipes import evaluate as recipe
    from minalbef.recipes import report
    from minalbef.scenes import tables
    from minalbef.system import checkpoint
    from minalbef.tasks.table import TASKS
    from minalbef.viz import page
    run = Path("runs", what) if what in TASKS else checkpoint.run_folder(what)
    if folders != EvaluateFolders():
        if data:
            raise ValueError(f"--data {data}: of no use with --zero-shot or --probe; leave it out")
        refuse("of scenes alone; leave it out with --zero-shot and --probe",
               size=scenes.size != 1.0, pairs=scenes.pairs, among=scenes.among,
               split=scenes.split != "test", source=scenes.source)
        classify(run, folders, out, report.command(), seed)
        return
    options: dict[str, Any] = {"seed": seed, "size": scenes.size, "split": scenes.split}
    if data:
        options = dict(vars(sets))
    elif scenes.pairs:
        refuse("of no use with --pairs; leave it out", among=scenes.among, source=scenes.source)
        options["pairs"] = True
    else:
        whole = scenes == EvaluateScenes(source=scenes.source) and not seed
        out = out or report.output_folder(run, whole)
        source = scenes.source
        if source is None:
            try:
                source = report.report_of(run).get("source") or None
            except ValueError as error:          # a damaged report, which is made anew
                logging.getLogger("minalbef").warning("%s", error)
        options |= {"source": source_of(source), "among": scenes.among}
    figures = recipe.evaluate(run, data, out, report.command(), **options)
    if figures is None:                          # not the first process
        return
    if data or scenes.pairs:
        print(recipe.table(figures))
    elif figures["task"] != "pretrain":
        print(tables.task_table([figures]))
    else:
        assert out
        page.write_page(run, figures, out)
        print(tables.summary_table(figures))
        print(f"\n{out}/report.html shows what was learnt")


def classify(run: Path, folders: EvaluateFolders, out: Path | None, command: str,
             seed: int) -> None:
    """Classify a folder's images, and print the figures and what could not be read."""
    from minalbef.cli.use import report_unread
    from minalbef.recipes import label_folders, linear_probe, zero_shot
    from minalbef.tasks.run import load
    folder = folders.zero_shot or folders.probe
    if folder is None or folders.zero_shot and folders.probe:
        raise ValueError("--zero-shot and --probe: name one of them, with a folder")
    if folders.probe and folders.template:
        raise ValueError("--template: of use with --zero-shot alone; leave it out")
    if folders.probe:
        figures = linear_probe.probe(load(run), folder, out, command, seed)
    else:
        figures = zero_shot.zero_shot(load(run), folder, folders.template, out, command)
    report_unread(figures["unreadable"], folder)
    print(label_folders.table(figures))


def doctor(run: Path = Path("runs/demo"), /, data: tuple[Path, ...] = (),
           number: int = 500) -> None:
    """What is wrong with a run: its losses, its captions and images, and what it finds.

    docs/losses.md says what is normal.

    Args:
        run: the run folder
        data: the prepared sets it was trained on; none for a run of scenes
        number: how many pairs to look at, of training and of validation
    """
    from minalbef.recipes.doctor import examine
    diagnosis = examine(run, data, number)
    print("\n".join(map(printable, str(diagnosis).split("\n"))))
