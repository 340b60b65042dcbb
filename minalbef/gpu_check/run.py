"""`minalbef gpu-check`: run each part in its own process, and write gpu_check.json and the page."""
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from minalbef.gpu_check.page import write_page
from minalbef.gpu_check.parts import (
    FAIL,
    MINUTES,
    PARTS,
    SKIPPED,
    Part,
    Result,
    choose_parts,
    read_result,
    write_result,
)
from minalbef.metrics import progress
from minalbef.recipes.launch import ENVIRONMENT, LAUNCHED, killer
from minalbef.recipes.report import command, commit, describe_device, now
from minalbef.writing import write_atomically

POLL = 0.2                            # seconds between two looks at a part's process
OURS = "minalbef: "                   # how a command that a part called says what went wrong
WIDTH = 60                            # characters of its last line beside the progress bar


def gpu_check(out: Path, minutes: float = MINUTES, names: Sequence[str] = (),
              changes: Sequence[str] = (), price: float = 0.0) -> dict[str, Result]:
    """Check this machine's GPU: -> the result of every part that has one, by name.

    A part that has finished with PASS or FAIL isn't repeated; remove its folder to repeat it. One
    that was skipped, killed or ended by an error is.
    out: the folder to write: gpu_check.html, gpu_check.json, and a folder for each part
    minutes: for all ten parts; each has its share, and is killed when that is over
    names: of the parts to run, by default all
    changes: options of the presets to change, such as image_width=96, to make them small
    price: of one GPU for an hour
    Raises ValueError for an unknown part.
    """
    parts = choose_parts(names)
    gpu = torch.cuda.is_available()
    if not gpu:
        print("There is no GPU here: the parts that need one are skipped.", flush=True)
    for part in parts:
        folder = out / part.name
        result = read_result(folder)
        if result is None or not result.finished:
            if part.needs_gpu and not gpu:
                result = Result(SKIPPED, "needs a GPU", finished=False)
            else:
                seconds = 60 * minutes * part.minutes / MINUTES
                result = run_part(part, folder, seconds, changes, price)
            write_result(folder, result)
        number = PARTS.index(part) + 1
        print(f"{number:2}/{len(PARTS)} {result.verdict:7} {part.title}: {result.figure}",
              flush=True)
        write_results(out)
    return read_results(out)


def run_part(part: Part, folder: Path, seconds: float, changes: Sequence[str], price: float
             ) -> Result:
    """Run a part in its own process, and kill it when its time is over: -> its result."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    job = {"name": part.name, "seconds": seconds, "changes": list(changes), "price": price}
    environment = {**ENVIRONMENT, **os.environ, LAUNCHED: "yes"}     # it ends when we are killed
    log = folder / "log.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(worker_command(folder, job), stdin=subprocess.PIPE,
                                   stdout=file, stderr=file, env=environment,
                                   start_new_session=True)
        try:
            in_time = wait(process, part.title, seconds, log)
        finally:
            kill_group(process)
    result = read_result(folder)
    if result is not None and process.returncode == 0:
        return result
    if not in_time:
        problem = f"killed after {seconds:.0f} s, its share of the time"
    elif process.returncode < 0:
        problem = f"killed by {killer(-process.returncode)}"
    else:
        problem = f"ended with status {process.returncode}"
    figure = f"{problem}: {last_line(log, OURS) or last_line(log)} ({log})"
    if result is None:
        return Result(FAIL, figure, finished=False)
    return Result(FAIL, f"{figure}; until then: {result.figure}", result.details, finished=False)


def worker_command(folder: Path, job: dict) -> list[str]:
    """The command of a part's process."""
    return [sys.executable, "-m", "minalbef.gpu_check.worker", str(folder), json.dumps(job)]


def wait(process: subprocess.Popen, title: str, seconds: float, log: Path) -> bool:
    """Wait for a process, with a bar of its time: -> whether it ended in time."""
    start = time.monotonic()
    layout = "{n:.0f} of {total:.0f} s at most |{bar:20}| {desc}"
    with progress(None, title, False, total=seconds, leave=False, bar_format=layout) as bar:
        while process.poll() is None:
            elapsed = time.monotonic() - start
            if elapsed > seconds:
                return False
            bar.set_description_str(f"{title}: {last_line(log)[:WIDTH]}", refresh=False)
            bar.update(elapsed - bar.n)
            time.sleep(POLL)
    return True


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process with all that it started, if they still run."""
    with suppress(OSError, AttributeError):      # all have ended; Windows has no groups
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def last_line(log: Path, beginning: str = "") -> str:
    """The last line of a log that isn't empty and begins so, or ""."""
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line.startswith(beginning)]
    return lines[-1] if lines else ""


def read_results(out: Path) -> dict[str, Result]:
    """The results in a folder, by part."""
    results = {}
    for part in PARTS:
        result = read_result(out / part.name)
        if result is not None:
            results[part.name] = result
    return results


def write_results(out: Path) -> None:
    """Write gpu_check.json and gpu_check.html of all results in a folder."""
    results = read_results(out)
    report = {
        "command": command(),
        "date": now(),
        "commit": commit(),
        "device": describe_device(),
        "parts": {name: result._asdict() for name, result in results.items()},
    }
    text = json.dumps(report, indent=1)
    write_atomically(out / "gpu_check.json",
                     lambda path: path.write_text(text + "\n", encoding="utf-8"))
    write_page(out / "gpu_check.html", report, results)
