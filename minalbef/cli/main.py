"""The command line: `minalbef` and `python -m minalbef`.

A command imports what it needs when it runs: torch takes longer than --help.
"""
import argparse
import importlib.metadata
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

import minalbef
from minalbef.cli import next_steps
from minalbef.cli.bench import BENCHES, bench
from minalbef.cli.full_size import convert, prepare
from minalbef.cli.limits import checked, current_flags
from minalbef.cli.lists import join_lists, list_flags
from minalbef.cli.names import fill_in
from minalbef.cli.options import options
from minalbef.cli.pictures import explore_pictures, export, index, search
from minalbef.cli.train import Changes, Flags, From, finetune, pretrain, source_of, tune
from minalbef.config import nearest, printable

ABOUT = """ALBEF, rebuilt minimal, faithful and fast.

Every command takes --quiet (no progress bar), --log-level LEVEL and --debug (an error with its
traceback), too."""
# commands of older versions -> the scripts that took their place
MOVED = {
    "ablate": "ablate.py",
    "bench effects": "effects.py",
    "bench learn": "learn.py",
    "bench tasks": "tasks.py",
}
NARROWEST = 40                        # columns; in fewer, tyro never ends to draw its boxes
TYRO = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)


def demo(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"),
         processes: int | None = None, size: float = 1.0) -> None:
    """The main job: warm start, pretraining, evaluation, and a page that shows the results.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start
        run: the folder to write
        processes: how many to train in, one thread each; by default one a GPU, or two on a CPU,
            or the most that can share a batch
        size: share of the test set, for a quick look
    """
    from minalbef.recipes.launch import launch
    from minalbef.recipes.pretrain import count_processes, settings
    config = settings(preset, changes)   # refuses a wrong option before any process starts
    if processes is None:
        processes = count_processes(config)
    status = launch(["pretrain", *changes, "--preset", preset, "--run", str(run)], processes)
    if status:
        raise SystemExit(status)
    evaluate(str(run), scenes=EvaluateScenes(size=size))


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
    image_size: int | None = None
    """side of the images in pixels, by default the run's"""
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


def evaluate(what: str = "runs/demo", /, data: Path | None = None, out: Path | None = None,
             seed: int = 0, scenes: Flags[EvaluateScenes] = EvaluateScenes(),
             sets: Flags[EvaluateSets] = EvaluateSets()) -> None:
    """Evaluate a run on unseen scenes, or on a prepared set (there also under torchrun -m --).

    Args:
        what: the run folder; or a task, whose run is runs/TASK
        data: the prepared split, such as prepared/coco/test; what it holds says the task
        out: the folder to write; by default RUN, or within it for a set or a part of the test
        seed: of the freshly drawn test set
    """
    from minalbef import checkpoint
    from minalbef.recipes import evaluate as recipe
    from minalbef.recipes import report
    from minalbef.tasks.table import TASKS
    if scenes.among is not None and scenes.among < 10:
        raise ValueError(f"--among {scenes.among}: must be at least 10, as many as ITM re-ranks; "
                         "the default is 500")
    run = Path("runs", what) if what in TASKS else checkpoint.run_folder(what)
    if data:
        options = dict(vars(sets))
        options["tuned"] = options.pop("tuned_on")
        figures = recipe.evaluate_set(run, data, out=out, command=report.command(), **options)
        if figures:                              # in the first process
            print(recipe.table(figures))
            next_steps.announce(next_steps.predict_with(figures["task"], run))
    elif scenes.pairs:
        if scenes.among or scenes.source:
            raise ValueError("--among and --from: of no use with --pairs; leave them out")
        figures = recipe.evaluate_pairs(run, report.command(), seed, scenes.size, scenes.split, out)
        print(recipe.table(figures))
        next_steps.announce(f"explore {run}", "change a scene and a sentence yourself")
    else:
        evaluate_on_scenes(run, seed, scenes, out)


def evaluate_on_scenes(run: Path, seed: int, scenes: EvaluateScenes, out: Path | None) -> None:
    """Evaluate a run on unseen scenes; of a pretrained run, also write the page of its results."""
    from minalbef.recipes import evaluate as recipe
    from minalbef.recipes import report
    from minalbef.scenes import tables
    from minalbef.viz import page
    whole = (scenes.size, seed, scenes.among, scenes.split) == (1.0, 0, None, "test")
    out = out or report.output_folder(run, whole)
    source = scenes.source
    if source is None:
        try:
            source = report.report_of(run).get("source") or None
        except ValueError as error:              # a damaged report, which is made anew
            logging.getLogger("minalbef").warning("%s", error)
    figures = recipe.evaluate_run(run, report.command(), source_of(source), seed, scenes.size,
                                  scenes.split, scenes.among, out)
    if figures["task"] != "pretrain":
        print(tables.task_table([figures]))
        next_steps.announce(next_steps.predict_with(figures["task"], run))
        return
    page.write_page(run, figures, out)
    print(tables.summary_table(figures))
    print(f"\n{out}/report.html shows what was learnt")
    next_steps.announce(f'search "a red apple left of a cat" --run {run}')


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
    if images is None:
        from minalbef.viz import explorer, playback
        out = out or folder / "explorer.html"
        alone = explorer.write_explorer(model, out)
        if playback.checkpoints_of(model):
            script = explorer.script_beside(out)
            print(f"{script} holds the run's checkpoints; keep it beside the page")
        print(f"open {out} in a browser" + (f"; one model answers there: {alone}" if alone else ""))
    else:
        out = out or folder / "pictures.html"
        explore_pictures(model, images, out)


def predict(task: str, /, image: tuple[Path, ...], text: str, run: Path | None = None,
            out: Path | None = None, boxes: tuple[tuple[float, float, float, float], ...] = ()
            ) -> None:
    """Ask a fine-tuned model about your own images, and draw where it looked.

    Args:
        task: what to ask: {predicting_tasks}
        image: the image; for {of_two_images} two, the left one first
        text: {texts}, such as "{example}"
        run: by default runs/TASK; for {of_pretrained} else runs/demo or the shipped model
        out: the figure to write; by default answer.png in the run folder (of `tiny`, runs/tiny)
        boxes: for {of_boxes}, the boxes to choose among, each x y width height in pixels
    """
    from minalbef.recipes import predict as predictor
    evaluates = predictor.find_predicting_task(task).evaluates
    if run is None:
        run = Path("runs", task)
        if "pretrain" in evaluates and not run.exists():
            run = source_of(None)
    print(predictor.main(task, image, text, run, out, boxes or None))


def summary(run: Path, /) -> None:
    """What a run folder holds.

    Args:
        run: the run folder
    """
    from minalbef.run import summary as describe
    print(describe(run))


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
    next_steps.announce(next_steps.after_doctor(diagnosis, data))


def test(part: Literal["all", "lint", "core", "chapters"] = "all", slow: bool = False,
         workers: int = 2, since: str = "HEAD~1") -> None:
    """Check a checkout of minalbef, as `make test` does: linter, types, tests, chapters.

    Args:
        part: one of the three jobs of CI alone: lint (and types), core (tests of the code), or
            chapters, with the course, the site and pages in a browser
        slow: `make test-slow`: the slow tests, and the solutions
        workers: processes
        since: a commit; files of tests that a change since then can reach run first
    """
    # with more threads, a process would wait for a core
    threads = max(1, (os.cpu_count() or 1) // max(1, workers))
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ

    def run(*words: str, accept: tuple[int, ...] = (0,)) -> None:
        status = subprocess.run([sys.executable, "-m", *words], env=environment).returncode
        if status not in accept:
            raise SystemExit(status)

    if not Path("tests").is_dir():
        raise ValueError("the tests are in a checkout of minalbef, not in the package: go to its "
                         "folder first")
    chapter_tests = ["tests/notebooks", "tests/pages"]
    tests = {"all": ["tests"], "lint": [], "chapters": chapter_tests,
             "core": ["tests", *(f"--ignore={folder}" for folder in chapter_tests)]}[part]
    has_chapters = part in ("all", "chapters")
    # whole files: what a module's fixtures make is made once
    pytest = ["pytest", "-q", "-n", str(workers), "--dist", "loadfile", "--nbval",
              "--nbval-current-env", "--nbval-cell-timeout=300",
              "--no-loadscope-reorder", "--changed-since", since]   # order: tests/conftest.py
    if slow:
        notebooks = sorted(Path("notebooks/solutions").glob("*.ipynb")) if has_chapters else []
        if tests:
            # 5: none is slow
            run(*pytest, "-m", "slow", *tests, *map(str, notebooks), accept=(0, 5))
        return
    if part in ("all", "lint"):
        run("ruff", "check")
        run("mypy")
    chapters = sorted(Path("notebooks").glob("*.ipynb")) if has_chapters else []
    if tests:
        run(*pytest, "-m", "not slow", *tests, *map(str, chapters))


COMMANDS = {command.__name__.replace("_", "-"): checked(command) for command in (
    demo, pretrain, evaluate, finetune, options, tune, predict, search, index, explore, summary,
    doctor, convert, export, prepare, bench, test)}


def describe_loss(text: str) -> tuple[str, int] | None:
    """torch's message that another process has ended -> ours and the exit status.

    Ours is empty where the launcher says which process that was. None for another message.
    """
    signs = (r"DataLoader worker \(pid|gloo/transport|NCCL communicator was aborted|"
             "remote process exited")
    if not re.search(signs, text):
        return None
    from minalbef.recipes.launch import LIKELY, LOST, RESUME, followed  # torch is there already
    killed = r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(?: is killed by signal: ([\w ]+))?"
    loader = re.search(killed, text)
    if loader:
        signals = {signal.strsignal(number): number.name for number in signal.Signals}
        name = signals.get((loader[2] or "").strip(), loader[2])
        how = f"was killed by {name}{LIKELY.get(name, '')}" if name else "ended unexpectedly"
        return f"a loader's worker (pid {loader[1]}) {how}; {RESUME}", 1
    if followed():
        return "", LOST
    message = f"another training process has ended, and this one can't go on without it; {RESUME}"
    return message, LOST


def describe_error(error: BaseException) -> tuple[str, int]:
    """An error's message and the exit status: 2 wrong use, 1 it could not, 130 stopped.

    Raises the error again where it is a bug of ours.
    """
    text = str(error)
    first = (text.splitlines() or [type(error).__name__])[0]
    if isinstance(error, KeyboardInterrupt):                 # train.Stopped is one
        return text or "stopped", 130
    loss = describe_loss(text) if isinstance(error, RuntimeError) else None
    if loss:
        return loss
    no_memory = re.search("(allocate|enough|out of) memory|Storage size calcul", text)
    if isinstance(error, MemoryError) or no_memory:
        return (f"not enough memory ({first}); take a smaller batch, more passes a step "
                "(accumulate=4) or checkpointing=true; `minalbef bench step` measures memory"), 1
    if isinstance(error, RecursionError):
        return f"what was read is nested too deep ({first}); mend the file or leave it out", 1
    explained = isinstance(error, ValueError | OSError | FloatingPointError)
    if explained or hasattr(error, "exit_status"):           # as data.ChangedImage has
        # a loader's worker puts its traceback before the message
        name = rf"\n(?:[\w.]+\.)?{type(error).__name__}: "
        message = re.split(name, text)[-1].rstrip()
        return message, getattr(error, "exit_status", 2 if isinstance(error, ValueError) else 1)
    raise error


def accept_any_terminal() -> None:
    """No command fails for where its words go.

    That is a closed stream, an encoding without some letters, or a narrow terminal.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:                       # closed by the shell: 2>&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):     # a notebook's has no encoding to change
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def run_command_line(call: Callable[[list[str]], object]) -> None:
    """Do what the user typed: `call` gets the words, without the options that all commands share.

    Errors that a user can mend are printed without a traceback, except with --debug.
    """
    accept_any_terminal()
    # torch's C++ part warns of DDP's search for weights without gradient, which phases need
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Apple's GPU lacks operations; torch names them
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--quiet", action="store_true")
    common.add_argument("--debug", action="store_true")
    common.add_argument("--log-level", type=str.upper, default="INFO",
                        choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    flags, words = common.parse_known_args()
    if flags.quiet:
        os.environ["TQDM_DISABLE"] = "1"                 # of the processes that train, too
    logging.basicConfig(format="minalbef: %(message)s", level="WARNING")
    logging.getLogger("minalbef").setLevel("WARNING" if flags.quiet else flags.log_level)
    try:
        call(words)
    except (Exception, KeyboardInterrupt) as error:
        if flags.debug:
            raise
        message, status = describe_error(error)
        if message:
            lines = f"minalbef: {message}".split("\n")
            print("\n".join(map(printable, lines)), file=sys.stderr)
        raise SystemExit(status) from None


def run_script(command: Callable) -> None:
    """Entry of a script: the parameters of `command` are its options.

    Errors are explained as minalbef's are.
    """
    def call(words: list[str]) -> None:
        words = join_lists(words, list_flags(command))
        tyro.cli(checked(command), args=words, config=TYRO)
    run_command_line(call)


def call_command(words: list[str]) -> None:
    """Call the command that the words name.

    Raises ValueError for a command that has moved, or that does not exist.
    """
    for command in (" ".join(words[:1]), " ".join(words[:2])):
        if command in MOVED:
            raise ValueError(f"`minalbef {command}` is a script now, with the same options: in a "
                             "checkout of minalbef, call `python notebooks/experiments/"
                             f"{MOVED[command]}`")
    if words and words[0] in COMMANDS and {"-h", "--help"} & {*words}:
        fill_in(COMMANDS[words[0]])
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        names = ", ".join(COMMANDS)
        raise ValueError(f"no command {words[0]!r}{nearest(words[0], COMMANDS)}; there are {names}")
    words = current_flags(words)
    for command in (" ".join(words[:1]), " ".join(words[:2])):
        if command in COMMANDS | BENCHES:
            words = join_lists(words, list_flags((COMMANDS | BENCHES)[command]))
    tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="minalbef", args=words,
                                         description=ABOUT, config=TYRO)


def main() -> None:
    """Entry of the command line."""
    if sys.argv[1:] == ["--version"]:
        accept_any_terminal()
        print(f"minalbef {minalbef.__version__}, torch {importlib.metadata.version('torch')}")
    else:
        run_command_line(call_command)
