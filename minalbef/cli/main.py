"""The command line: `minalbef` and `python -m minalbef`."""
import inspect
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from minalbef import __version__, checkpoint, load
from minalbef.cli.bench import PROCESSES, Changes, bench
from minalbef.cli.limits import checked
from minalbef.cli.pictures import export, index, search
from minalbef.cli.train import From, finetune, pretrain, source_of, tune
from minalbef.config import Config, read_changes
from minalbef.recipes import report
from minalbef.tasks.base import TASKS
from minalbef.train import Stopped
from minalbef.weights.original import HEADS

Images = Annotated[list[tuple[Path, ...]], tyro.conf.UseAppendAction]


def demo(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"), processes: int = PROCESSES,
         exam: float = 1.0, quiet: bool = False) -> None:
    """The main job: warm start, pretraining, evaluation, and a page that shows the results.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start
        run: the folder to write
        processes: how many to train in, one thread each
        exam: share of the test set, for a quick look
        quiet: no progress bar
    """
    from minalbef.recipes.launch import launch
    from minalbef.recipes.pretrain import settings
    settings(preset, changes)                            # refuse a wrong option before any process starts
    command = ["pretrain", *changes, "--preset", preset, "--run", str(run)]
    if status := launch(command + ["--quiet"] if quiet else command, processes):
        raise SystemExit(status)
    evaluate(str(run), exam=exam)


def evaluate(what: str = "runs/demo", /, source: From = None, exam: float = 1.0, seed: int = 0,
             among: int | None = None, split: Literal["test", "validation"] = "test", out: Path | None = None,
             data: Path | None = None, answers: Path | None = None, free: bool = False, top: int = 0,
             layer: int | Literal["all"] | None = None, image_size: int | None = None, original: bool = False,
             tuned_on: tuple[str, ...] = (), batch: int = 32, workers: int = 0) -> None:
    """Evaluate a run on unseen scenes, or with --data on a prepared set; write report.json and print the figures.

    In several processes, on a prepared set: torchrun -m -- minalbef evaluate.

    Args:
        what: the run folder; or a task, whose run is runs/TASK
        source: the pretrained run that a task's run started from, for its baselines; by default as for `finetune`
        exam: share of the test set, for a quick look
        seed: of the freshly drawn test set
        among: how many scenes a caption is ranked among, by default 500; `small` is made for 5000
        split: validation while you tune, so that the test set stays unseen
        out: the folder to write; by default RUN, RUN/evaluation unless it is the whole test, with --data RUN/SET-SPLIT
        data: the prepared split, such as prepared/coco/test; what it holds says the task
        answers: VQA: the list to choose from, by default the set's
        free: VQA: write the answer instead
        top: candidates of the second stage, by default the paper's for the set
        layer: grounding: of fusion's layers, from 0, whose map chooses; "all" tries every one; by default the middle
        image_size: side of the pictures in pixels, by default the run's
        original: score as the original does: VQA's first word twice, and no overlap of boxes below a pixel
        tuned_on: sets that a run was trained on which does not say so, as converted ones do not: they name the protocol
        batch: records that are read at once
        workers: processes that open pictures ahead
    """
    from minalbef.recipes import evaluate as recipe
    from minalbef.scenes.exam import tables
    from minalbef.viz import page
    if among is not None and among < 10:
        raise ValueError(f"--among {among}: must be at least 10, as many as ITM re-ranks; the default is 500")
    run = Path("runs", what) if what in TASKS else checkpoint.run_folder(what)
    if data:
        found = recipe.evaluate_set(run, data, out=out, answers=answers, free=free, image_size=image_size, top=top,
                                    layer=layer, original=original, tuned=tuned_on, batch=batch, workers=workers,
                                    command=report.command())
        return print(recipe.table(found)) if found else None             # in the first process
    out = out or report.output_folder(run, whole=(exam, seed, among, split) == (1.0, 0, None, "test"))
    figures = recipe.evaluate_run(run, report.command(), source_of(source), seed, exam, split, among, out)
    if figures["task"] != "pretrain":
        return print(tables.task_table([figures]))
    page.write_page(run, figures, out)
    print(tables.summary_table(figures))
    print(f"\n{out}/report.html shows what was learnt; try: minalbef search \"a red apple left of a cat\" --run {run}")


def explore(run: Path | None = None, /, out: Path | None = None) -> None:
    """Write a page to explore a model in a browser: move objects, type sentences, watch its answers.

    Args:
        run: the run folder; by default runs/demo, or else the shipped model
        out: the file to write; by default explorer.html in the run folder, of the shipped model in runs/tiny
    """
    from minalbef.viz import explorer
    model = load(source_of(run))
    explorer.write_explorer(model, out := out or report.output_folder(model.path) / "explorer.html")
    print(f"open {out} in a browser")


def predict(task: Literal["retrieval", "entailment", "vqa", "nlvr2", "grounding"], /, image: Images, text: str,
            run: Path | None = None, out: Path | None = None,
            boxes: tuple[tuple[float, float, float, float], ...] = ()) -> None:
    """Ask a fine-tuned model about your own pictures, and draw where it looked.

    Args:
        task: what to ask
        image: the picture; for nlvr2 two, the left one first
        text: caption, statement, question or expression, such as "how many cats are there?"
        run: the run folder; retrieval and grounding take a pretrained one, too; by default runs/TASK or the shipped one
        out: the picture to write; by default answer.png in the run folder, of the shipped model in runs/tiny
        boxes: grounding's boxes to choose among, each x y width height in pixels
    """
    from minalbef.recipes import predict as predictor
    tuned = Path("runs", task)
    run = run or (source_of(None) if task == "retrieval" and not tuned.exists() else tuned)
    print(predictor.main(task, [one for given in image for one in given], text, run, out, boxes or None))


def summary(run: Path, /) -> None:
    """What a run folder holds.

    Args:
        run: the run folder
    """
    print(load(run).summary())


def convert(source: Path, out: Path, /, to: Literal["minalbef", "original"] = "minalbef", vocab: Path | None = None,
            image_size: int | None = None, image_heads: int = HEADS, text_heads: int = HEADS) -> None:
    """A checkpoint of the original's as a run folder, or the other way round, with an account of every key.

    Args:
        source: the original's .pth; or a run folder
        out: the run folder to write; or the .pth
        to: which way
        vocab: bert-base-uncased's vocab.txt, which the checkpoint does not hold
        image_size: side of the pictures in pixels, a multiple of the patch; by default the checkpoint's own
        image_heads: of the image encoder; a checkpoint does not tell them
        text_heads: of the text encoder and of fusion, likewise
    """
    from minalbef.recipes import convert as converter
    if to == "original":
        keys, dropped = converter.to_original(source, out)
        print(f"{out}: {keys} keys" + (f"; the original has no place for {', '.join(dropped)}" if dropped else ""))
    else:
        print(converter.to_run(source, out, vocab, image_size, image_heads, text_heads))
        print(f"\n{out} is a run folder now")


def prepare(name: str, /, source: From, out: Path = Path("prepared"), images: tuple[Path, ...] = (),
            without: tuple[Path, ...] = (), look: bool = False, most_bad: float = 0.5, share: float = 1.0) -> None:
    """Check a public set and write its records for training. Downloads nothing; docs/data.md has the sources.

    Args:
        name: coco, vg, sbu, cc3m, cc12m, shards, flickr30k, entailment, vqa, nlvr2, grounding; or pairs, for your own
        source: the folder of the set's files
        out: the folder for all prepared sets; this one's is in it
        images: folders of the pictures, if they are not below the set's files
        without: prepared splits whose pictures are left out, such as prepared/coco/test
        look: open every picture, too, which takes long
        most_bad: share of bad entries above which nothing is written
        share: of the training pictures, for a trial; 0.01 is part of 0.1, and validation and test stay whole
    """
    from minalbef.datasets.prepare import prepare as write
    print(write(name, source, out, images, without, look, most_bad, share))


def dry_run(preset: str, changes: Changes = (), /, steps: int = 2, batch: int = 2) -> None:
    """Two steps of a preset at full size on a CPU, with random weights and pictures: loss, gradient, seconds, memory.

    Args:
        preset: paper-4m, base, retrieval-coco, retrieval-flickr, entailment, vqa, nlvr2-assign, nlvr2, grounding
        changes: options of the preset to change
        steps: how many
        batch: rows, in place of the preset's
    """
    from minalbef.recipes import rehearse
    rehearse.dry_run(preset, steps, batch, **read_changes(changes))


def plan(preset: str, changes: Changes = (), /, gpus: int = 1, gpu: str = "H100", utilisation: float = 0.4,
         accumulate: int | None = None, checkpointing: bool = False) -> None:
    """What pretraining costs on your hardware, in bf16: parameters, memory, FLOPs, hours; and what to change to fit.

    Args:
        preset: tiny, small, base, paper-4m, paper-14m
        changes: options of the preset to change, such as batch=256
        gpus: how many
        gpu: which; a wrong name lists those that are known
        utilisation: the share of its peak that is reached
        accumulate: passes a step, by default the preset's
        checkpointing: activation checkpointing: layers are recomputed in the backward pass
    """
    from minalbef.recipes import plan as planner
    print(planner.describe(planner.plan(preset, changes, gpus, gpu, utilisation, accumulate, checkpointing)))


def options(word: str = "", /) -> None:
    """Every option that a command takes as name=value, with its default and the reason for it.

    Args:
        word: only those whose line has it, such as lr or queue
    """
    lines = [line.strip() for line in inspect.getsource(Config).splitlines()]
    print("\n".join(line for line in lines if re.match(r"\w+: .+ = |# ", line) and word in line))


COMMANDS = {command.__name__.replace("_", "-"): command for command in (
    checked(demo), checked(pretrain, sets="vocab vit bert most_bad"),
    checked(evaluate, scenes="source exam among split",
            sets="answers free top layer image_size original tuned_on batch workers"),
    checked(finetune, scenes="baselines processes exam", sets="preset workers most_bad"),
    *map(checked, (options, tune, predict, search, index, explore, summary, convert, export, prepare, dry_run, plan,
                   bench)))}


def explain(error: BaseException) -> tuple[str, int]:
    """An error's message and the exit status: 2 wrong use, 1 it could not, 130 stopped. Raises again a bug of ours."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, Stopped | KeyboardInterrupt):
        return str(error) or "stopped", 130
    if isinstance(error, MemoryError) or re.search("allocate memory|out of memory|Storage size calcul", str(error)):
        return (f"not enough memory ({first}); take a smaller batch, more passes a step (accumulate=4) or "
                "checkpointing=true; `minalbef plan` says what a preset needs"), 1
    if isinstance(error, RecursionError):
        return f"what was read is nested too deep ({first}); mend the file or leave it out", 1
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return str(error), 2 if isinstance(error, ValueError) else 1
    raise error


def main() -> None:
    """Entry of the command line: errors that a user can mend are printed without a traceback."""
    if sys.argv[1:] == ["--version"]:
        return print(f"minalbef {__version__}, torch {torch.__version__}")
    try:
        tyro.extras.subcommand_cli_from_dict(COMMANDS,
                                             prog="minalbef", description="ALBEF, rebuilt minimal, faithful and fast.")
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("MINALBEF_TRACEBACK"):
            raise
        said, status = explain(error)
        print(f"minalbef: {said}", file=sys.stderr)
        raise SystemExit(status) from None
