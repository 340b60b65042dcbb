"""The command line: `minalbef` and `python -m minalbef`."""
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from minalbef.config import preset, read_changes

Changes = Annotated[tuple[str, ...], tyro.conf.Positional]
From = Annotated[Path, tyro.conf.arg(name="from")]
PROCESSES = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pretrain(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"), quiet: bool = False) -> None:
    """Train on the embedded scenes, or go on where a run stopped. In several processes: torchrun -m minalbef pretrain.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start: tiny, paper-4m, paper-14m
        run: the folder to write
        quiet: no progress bar
    """
    from minalbef import pipeline
    pipeline.pretrain(_config(preset, changes), run, quiet)


def demo(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"), processes: int = PROCESSES,
         exam: float = 1.0, quiet: bool = False) -> None:
    """The main job: warm start, pretraining, exam, and a page that shows what was learnt.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start
        run: the folder to write
        processes: how many to train in, a thread each
        exam: share of the exam's scenes, for a quick look
        quiet: no progress bar
    """
    from minalbef import pipeline
    _config(preset, changes)                             # a wrong option should not wait for torchrun to be told
    status = pipeline.launch(["pretrain", *changes, "--preset", preset, "--run", str(run), *["--quiet"] * quiet], processes)
    if status:
        raise SystemExit(status)
    evaluate(run, exam=exam)


def evaluate(what: str = "runs/demo", /, source: From = Path("runs/demo"), exam: float = 1.0, seed: int = 0) -> None:
    """Examine a run on scenes it never saw; write report.json, for pretraining report.html too, and print the figures.

    Args:
        what: the run folder; or a task, whose run is runs/TASK
        source: the pretrained run that a task's was begun from, for its baselines
        exam: share of the exam's scenes, for a quick look
        seed: of the freshly drawn tests
    """
    from minalbef import checkpoint, finetune, page, pipeline, report
    run = Path("runs", what) if what in finetune.JOBS else Path(what)
    if checkpoint.read_run(run)[1] != "pretrain":
        print(report.task_table([finetune.examine_run(run, source, _command(), seed, exam)]))
        return
    figures = pipeline.examine_run(run, exam, seed, _command())
    page.write_page(run)
    print(report.summary_table(figures))
    print(f"\n{run}/report.html shows what was learnt; try: minalbef search \"a red apple left of a cat\" --run {run}")


def finetune(task: str, changes: Changes = (), /, source: From = Path("runs/demo"), run: Path | None = None,
             baselines: tuple[str, ...] = (), processes: int = PROCESSES, exam: float = 1.0, quiet: bool = False) -> None:
    """Train a pretrained run for a task on the embedded scenes, and examine it beside its baselines.

    Args:
        task: retrieval, entailment, vqa, nlvr2 or grounding
        changes: options to change, such as lr=5e-4 epochs=2
        source: the pretrained run to begin from
        run: the folder to write, by default runs/TASK
        baselines: which to train too, for as long each; "all" for every one of the task's
        processes: how many to train in, a thread each
        exam: share of the exam's problems, for a quick look
        quiet: no progress bar
    """
    from minalbef import finetune as tuner
    from minalbef import report
    run = run or Path("runs", task)
    print(report.task_table([tuner.finetune(task, source, run, changes, baselines, processes, _command(), exam, quiet)]))


def tune(task: str, changes: Changes = (), /, source: From = Path("runs/demo"), run: Path | None = None, rival: str = "",
         quiet: bool = False) -> None:
    """What `finetune` runs to train, without the exam. In several processes: torchrun -m minalbef tune.

    Args:
        task: retrieval, entailment, vqa, nlvr2 or grounding
        changes: options to change
        source: the pretrained run to begin from
        run: the folder to write, by default runs/TASK
        rival: a baseline of the task to train instead
        quiet: no progress bar
    """
    from minalbef import finetune as tuner
    tuner.tune(task, source, run or Path("runs", task), tuner.tuning(task, source, *changes), rival, quiet=quiet)


def search(sentence: str, /, run: Path | None = None, scenes: int = 2000, out: Path | None = None) -> None:
    """Find scenes for a sentence, and draw the best.

    Args:
        sentence: what to look for, such as "an apple left of a cat"
        run: the run folder; by default runs/demo, or else the model that is shipped
        scenes: how many unseen scenes to look through
        out: the picture to write; by default search.png in the run folder, or here
    """
    from minalbef import checkpoint
    from minalbef import search as finder
    from minalbef.data import data_folder
    if run is None:
        run = Path("runs/demo") if Path("runs/demo/model.safetensors").exists() else data_folder() / "tiny"
    model = checkpoint.load(run)
    hits = finder.search(model, sentence, scenes)
    out = out or (Path("search.png") if run == data_folder() / "tiny" else run / "search.png")
    print(finder.describe(model, sentence, hits))
    finder.picture(model, sentence, hits, out)
    print(f"{out} shows the answer")


def summary(run: Path, /) -> None:
    """What a run folder holds.

    Args:
        run: the run folder
    """
    from minalbef import checkpoint
    print(checkpoint.load(run).summary())


def convert(source: Path, out: Path, /, to: Literal["minalbef", "original"] = "minalbef", vocab: Path | None = None,
            image_size: int | None = None, image_heads: int = 12, text_heads: int = 12) -> None:
    """A checkpoint of the original's as a run folder, or the other way round, with an account of every key.

    Args:
        source: the original's .pth; or a run folder
        out: the run folder to write; or the .pth
        to: which way
        vocab: bert-base-uncased's vocab.txt, which the checkpoint does not hold
        image_size: side of the pictures in pixels, a multiple of the patch; by default the checkpoint's own
        image_heads: of the image encoder; a checkpoint does not tell them, and the released ones have 12
        text_heads: of the text encoder and of fusion, likewise
    """
    from minalbef import convert as converter
    if to == "original":
        keys, dropped = converter.to_original(source, out)
        print(f"{out}: {keys} keys" + f"; the original has no place for {', '.join(dropped)}" * bool(dropped))
    else:
        print(converter.to_run(source, out, vocab, image_size, image_heads, text_heads))
        print(f"\n{out} is a run folder now")


def bench_learn(changes: Changes = (), /, preset: str = "tiny", seeds: int = 3, run: Path = Path("runs/bench"),
                processes: int = PROCESSES, out: Path = Path("notebooks/results/learn.json")) -> None:
    """Train and examine several seeds; print the mean of every figure, and write them with hardware and command.

    Args:
        changes: options of the preset to change
        preset: where to start
        seeds: how many, from 0
        run: the folder for the runs
        processes: how many to train in
        out: where to write the result
    """
    from minalbef import bench
    _config(preset, changes)
    bench.learn(preset, changes, seeds, run, processes, out, _command())


def _config(name: str, changes: tuple[str, ...]):
    return preset(name, **read_changes(changes))


def _command() -> str:
    return shlex.join(["minalbef", *sys.argv[1:]])


def main() -> None:
    """Entry of the command line: errors that a user can mend are printed without a traceback."""
    from minalbef.train import Stopped
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"demo": demo, "pretrain": pretrain, "evaluate": evaluate, "finetune": finetune, "tune": tune, "search": search, "summary": summary, "convert": convert,
             "bench": bench_learn}, prog="minalbef", description="ALBEF, rebuilt minimal, faithful and fast.")
    except Stopped as stop:
        print(f"\n{stop}", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("MINALBEF_TRACEBACK"):
            raise
        print(f"minalbef: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
