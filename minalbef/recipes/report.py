"""One report.json for every command: what was run, on what, how long, and every figure."""
import importlib.metadata
import json
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from minalbef.config import Config
from minalbef.data import data_folder
from minalbef.datasets.catalogue import OWN
from minalbef.evaluation.loop import How
from minalbef.recipes import ranking
from minalbef.system import checkpoint
from minalbef.system.metrics import read_metrics
from minalbef.system.writing import check_fields, read_json, restate, write_text

LOG = logging.getLogger("minalbef")
SCHEMA = 1
# the values that are read back from a report
TEXTS = ("task", "command", "commit", "date", "device", "set", "split", "protocol", "source",
         "weights", "manifest")
TABLES = ("seconds", "versions", "config", "map", "test", "baselines", "chance", "intervals",
          "counts", "plain", "families", "start", "validation")
NUMBERS = ("seed", "seconds", "test", "baselines", "chance", "intervals", "counts", "plain",
           "families", "start", "validation", "rerank_plus_weight", "among", "step")
PACKAGES = ("torch", "numpy", "pillow", "tokenizers", "safetensors")


def output_folder(run: str | Path, whole: bool = True) -> Path:
    """Where to write results of a run: its own folder, unless that must stay as it is.

    For a shipped run, such as tiny, it is runs/tiny, and for a run from the hub
    runs/hf/OWNER/NAME, since runs/NAME may be a run of yours.
    whole: False for a partial evaluation, which must not replace the report of the full one
    """
    folder = Path(run)
    where = folder.resolve()
    if where in [(data_folder() / name).resolve() for name in checkpoint.SHIPPED]:
        folder = Path("runs", where.name)
    elif where.parent.name == "snapshots" and where.parts[-3].startswith("models--"):
        # the hub's cache has it in models--OWNER--NAME/snapshots/COMMIT
        folder = Path("runs", "hf", *map(component, where.parts[-3].split("--")[1:]))
    return folder if whole else folder / "evaluation"


def set_folder(run: str | Path, name: str, split: str, manifest: str) -> Path:
    """Where to write the results of a run on a prepared set: SET-SPLIT in its `output_folder`.

    manifest: the set's hash, of which a set of your own has the beginning in its folder's name: all
        of them are called alike. Raises ValueError for a name that leads to another folder
    """
    folder = f"{component(name)}-{component(split)}"
    if name in OWN:
        folder += f"-{manifest[:8]}"
    return output_folder(run) / folder


def component(name: str) -> str:
    """The name, if a file or folder can have it. Raises ValueError if it leads elsewhere."""
    if name in ("", ".", "..") or any(letter in name for letter in "/\\\0"):
        raise ValueError(f"{name!r} can't name a folder of results: it must be a name without "
                         "slashes; prepare the set again")
    return name


def train_seconds(folder: Path) -> float:
    """How many seconds a folder's training took, without pauses and lost steps.

    Raises ValueError for a damaged metrics.csv.
    """
    rows = read_metrics(folder)
    return float(rows[-1]["seconds"]) if rows else 0.0


def write_report(folder: Path, task: str, figures: dict, config: Config,
                 seconds: dict[str, float], command: str) -> dict:
    """Write report.json into a run folder, atomically: -> the report as it reads back.

    figures: fractions of 1, nested by part; under "intervals", theirs in the same nesting
    seconds: by phase, such as {"train": 410.2}
    Raises ValueError for NaN or infinity among the figures, OSError where the folder cannot be
    written.
    """
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    settings = dict(vars(config))
    for name, value in settings.items():
        if value == float("inf"):
            settings[name] = "inf"               # JSON has no infinity
    report = {
        "schema": SCHEMA,
        "task": task,
        "command": command,
        "seed": config.seed,
        "commit": commit(),
        "date": now(),
        "device": describe_device(),
        "seconds": _round(seconds, 1),
        "versions": versions,
        "config": settings,
    }
    report |= _round(figures, 5)
    with restate(f"a figure of {folder} is not finite", "a report holds numbers only", ValueError):
        text = json.dumps(report, indent=1, allow_nan=False)
    write_text(Path(folder) / "report.json", text + "\n")
    return json.loads(text)


def read_report(folder: Path) -> dict:
    """The report of a run folder.

    Raises ValueError where there is none, or one that this version can't read.
    """
    way_out = f"`minalbef evaluate {folder}` makes it anew"
    return read_json(Path(folder) / "report.json", way_out, check_report)


def report_of(run: str | Path) -> dict:
    """The report of a run's weights; {} if there is none, or, with a warning, one of other weights.

    Raises ValueError for a damaged one.
    """
    path = Path(run) / "report.json"
    if not path.exists():
        return {}
    report = read_report(Path(run))
    if report.get("weights") != checkpoint.hash_of_weights(run):
        LOG.warning("%s is of other weights than the run now has, and isn't used; `minalbef "
                    "evaluate %s` makes it anew", path, run)
        return {}
    return report


def similarity_weight(run: str | Path) -> float:
    """The weight that re-ranking adds similarity over temperature with, to ITM's log-odds.

    The run's validation split chose it, see recipes.ranking: inf for similarity alone. Or else its
    evaluation did; without one it is the default of `How`. Raises ValueError for damaged files.
    """
    if chosen := ranking.read(checkpoint.run_folder(run)):
        return chosen.weight
    return report_of(run).get("rerank_plus_weight", How.weight)


def check_report(report: Any) -> dict:
    """The report. Raises ValueError for a value of a type that `write_report` doesn't write."""
    check_fields(report, {"schema": int})
    wrong = ["schema"] if report["schema"] != SCHEMA else []     # of another version
    wrong += [name for name in TEXTS if not isinstance(report.get(name, ""), str)]
    wrong += [name for name in TABLES if not isinstance(report.get(name, {}), dict)]
    wrong += [name for name in NUMBERS if not holds_numbers(report.get(name, {}))]
    weight = report.get("rerank_plus_weight", 0)
    if not isinstance(weight, int | float) or weight < 0:
        wrong.append("rerank_plus_weight")
    if wrong:
        raise ValueError(f"{wrong[0]!r} is {report[wrong[0]]!r}, not what this version writes")
    return report


def holds_numbers(value: Any) -> bool:
    """Whether figures, nested by part, are finite numbers."""
    if isinstance(value, dict):
        return all(map(holds_numbers, value.values()))
    if isinstance(value, list):
        return all(map(holds_numbers, value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def command() -> str:
    """The command line that the user typed, for the report."""
    return shlex.join(["minalbef", *sys.argv[1:]])


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_device() -> str:
    """The machine in words: processor, cores we may use, threads, GPU if there is one, system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    cores = os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    parts = [f"{name} ({platform.machine()})", f"{cores} cores",
             f"{torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, platform.system(), f"torch {torch.__version__}"])


def commit() -> str:
    """The checkout's commit, with a "+" for uncommitted changes, or else the installed version."""
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        git = ("git", "-C", str(checkout))
        head = _output(*git, "rev-parse", "HEAD")
        if head and _output(*git, "status", "--porcelain", "-uno"):
            return head + "+"
        if head:
            return head
    return f"version {importlib.metadata.version('minalbef')}"


def _round(value: Any, digits: int) -> Any:
    """Round every float among figures that are nested in dicts and lists."""
    if isinstance(value, dict):
        return {key: _round(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_round(inner, digits) for inner in value]
    if isinstance(value, float):
        return round(value, digits)
    return value


def _output(*command: str) -> str:
    """What a command prints, or "" if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    if result.returncode:
        return ""
    return result.stdout.strip()
