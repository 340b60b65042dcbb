"""The command line: `minalbef` and `python -m minalbef`."""
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from minalbef.config import preset

Changes = Annotated[tuple[str, ...], tyro.conf.Positional]
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
    status = pipeline.launch([*changes, "--preset", preset, "--run", str(run), *["--quiet"] * quiet], processes)
    if status:
        raise SystemExit(status)
    evaluate(run, exam=exam)


def evaluate(run: Path = Path("runs/demo"), /, exam: float = 1.0, seed: int = 0) -> None:
    """Examine a trained run on scenes it never saw; write report.json and report.html, and print the figures.

    Args:
        run: the run folder
        exam: share of the exam's scenes, for a quick look
        seed: of the freshly drawn tests
    """
    from minalbef import page, pipeline, report
    figures = pipeline.examine_run(run, exam, seed, _command())
    page.write_page(run)
    print(report.summary_table(figures))
    print(f"\n{run}/report.html shows what was learnt; try: minalbef search \"a red apple left of a cat\" --run {run}")


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
    wrong = [change for change in changes if "=" not in change]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no change of an option; write name=value, such as batch=32")
    return preset(name, **dict(change.split("=", 1) for change in changes))


def _command() -> str:
    return shlex.join(["minalbef", *sys.argv[1:]])


def main() -> None:
    """Entry of the command line: errors that a user can mend are printed without a traceback."""
    from minalbef.train import Stopped
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"demo": demo, "pretrain": pretrain, "evaluate": evaluate, "search": search, "summary": summary,
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
