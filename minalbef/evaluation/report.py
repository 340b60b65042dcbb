"""One report.json for every command: what was run, on what, how long, and every figure beside what it means."""
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from minalbef.checkpoint import write_atomically
from minalbef.config import Config

SCHEMA = 1
QUESTIONS = ("what", "where", "how many", "background", "yes or no", "compare")      # kinds of the scenes' VQA
PACKAGES = ("torch", "numpy", "pillow", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Row:
    """A figure of a report, with its baselines; None where there is no such thing."""

    group: str
    name: str
    value: float
    interval: tuple[float, float] | None = None
    chance: float | None = None
    blind: float | None = None         # without the picture
    oracle: float | None = None        # knows which objects are in the picture, and nothing else
    start: float | None = None         # the model before its first step, after the warm start

    @property
    def beside(self) -> dict[str, float]:
        """Baselines and chance, by name."""
        named = {"chance": self.chance, "no picture": self.blind, "objects known": self.oracle, "start": self.start}
        return {name: value for name, value in named.items() if value is not None}


RECALL = {"itc_i2t_r1": "picture to caption, by similarity", "itc_t2i_r1": "caption to picture, by similarity",
          "rerank_i2t_r1": "picture to caption, by match", "rerank_t2i_r1": "caption to picture, by match",
          "rerank_plus_i2t_r1": "picture to caption, by both", "rerank_plus_t2i_r1": "caption to picture, by both"}
# path in the report, title; a dot leads into a nested part
RETRIEVAL = {"families": "Families: the right one of four scenes with the same objects",
             "plain": "Plain: the right one of {block} scenes",
             "unseen_style": "Plain, drawn in a style never trained on",
             "unseen_style.families": "Families in that style",
             "unseen_pairs": "Plain, with pairs of objects that never met in training",
             "unseen_pairs.control": "The same made from pairs that did meet"}
ONE_CHANGE = "One change: the true caption beats one that differs by a"
MASKED = "Masked words: the hidden word is guessed exactly"
POINTING = "Pointing: the strongest patch for a word lies on its object"
MATCH = "Match: true captions accepted, false ones refused"


def write_report(folder: Path, task: str, figures: dict, config: Config, seconds: dict[str, float], command: str,
                 seed: int) -> dict:
    """Write report.json into a run folder, whole or not at all: -> what was written.

    figures: shares of 1, nested by part, their intervals under "intervals" in the same nesting
    seconds: by phase, such as {"train": 410.2}

    Raises ValueError for a figure that is no number (NaN), OSError where the folder cannot be written.
    """
    report = {"schema": SCHEMA, "task": task, "command": command, "seed": seed, "commit": commit(),
              "date": now(), "device": describe_device(),
              "versions": {"python": platform.python_version(),
                           **{name: importlib.metadata.version(name) for name in PACKAGES}},
              "seconds": _rounded(seconds, 1), "config": config.to_dict(), **_rounded(figures, 5)}
    try:
        text = json.dumps(report, indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"a figure of {folder} is not finite: {error}; a report holds numbers only") from error
    write_atomically(Path(folder) / "report.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
    return json.loads(text)


def read_report(folder: Path) -> dict:
    """The report of a run folder. Raises ValueError where there is none, or none that this version reads."""
    path = Path(folder) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict):
            raise ValueError("it holds no figures by name")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); `minalbef evaluate {folder}` makes it") from error
    if report.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {report.get('schema')}, and this version reads {SCHEMA}; "
                         f"`minalbef evaluate {folder}` makes it anew")
    return report


def command() -> str:
    """What the user typed, to be written beside figures."""
    return shlex.join(["minalbef", *sys.argv[1:]])


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_device() -> str:
    """The machine in words: processor, cores we may use, threads, GPU if there is one, system."""
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        named = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines()
                 if line.startswith("model name")]
        name = named[0] if named else name
    elif platform.system() == "Darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string") or name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (f"{name} ({platform.machine()}), {cores} cores, {torch.get_num_threads()} threads, "
            f"{torch.cuda.get_device_name() + ', ' if torch.cuda.is_available() else ''}"
            f"{platform.system()}, torch {torch.__version__}")


def commit() -> str:
    """Which code this is: the checkout's commit, with "+" where it was changed since, else the installed version."""
    here = Path(__file__).parents[2]
    if (here / ".git").exists() and (found := _output("git", "-C", str(here), "rev-parse", "HEAD")):
        return found + ("+" if _output("git", "-C", str(here), "status", "--porcelain", "-uno") else "")
    return f"version {importlib.metadata.version('minalbef')}"


def rows(report: dict) -> list[Row]:
    """The figures that a reader should see, in order; what a report lacks is left out."""
    found = []
    def add(group: str, name: str, *path: str, **beside: Any) -> None:
        value, interval = _at(report, *path), _at(report, "intervals", *path)
        began = path[1:] if path[0] == "plain" else path         # the start is measured on plain scenes and families
        if isinstance(value, int | float):
            found.append(Row(group, name, value, tuple(interval) if isinstance(interval, list | tuple) else None,
                             start=_at(report, "start", *began), **beside))
    for where, title in RETRIEVAL.items():
        path = where.split(".")
        part = _at(report, *path) or {}
        title = title.format(block=competitors(report))
        for key, name in RECALL.items():
            if "plus" in key and where.startswith("unseen"):
                continue                                         # a long table is not read
            add(title, name, *path, key, chance=part.get("chance_r1"), oracle=part.get("oracle_r1"))
    for kind, blind in (_at(report, "itm_one_change_blank") or {}).items():
        add(ONE_CHANGE, kind, "itm_one_change_accuracy", kind, chance=0.5, blind=blind)
    for kind, blind in (_at(report, "mlm_accuracy_without_image") or {}).items():
        add(MASKED, kind, "mlm_accuracy", kind, blind=blind)
    for key, name in (("pointing_itm", "what made the match"), ("pointing_mlm", "what made the guess of the word")):
        add(POINTING, name, key, chance=report.get("pointing_chance"))
    add(MATCH, "both halves, evenly", "itm_balanced_accuracy", chance=0.5)
    for kind in _at(report, "itm_refused") or {}:
        name = "refused though true (low is good)" if kind == "true" else f"refused: {kind.replace('_', ' ')}"
        add(MATCH, name, "itm_refused", kind)
    return found


def competitors(report: dict) -> int:
    """Among how many plain scenes the right one is found: 500 unless the report says another number or has fewer."""
    among = report.get("among", 500)
    return min(among, _at(report, "counts", "plain", "itc_i2t_r1") or among)


def summary_table(report: dict) -> str:
    """The figures of a report as text, each with its 95% interval and its baselines."""
    lines, group = [], None
    for row in rows(report):
        if row.group != group:
            group = row.group
            lines += ["", group]
        interval = "({} to {})".format(*map(share, row.interval)) if row.interval else ""
        beside = ", ".join(f"{name} {share(value)}" for name, value in row.beside.items())
        lines.append(f"  {row.name:36} {share(row.value):>5}  {interval:16}  {beside}".rstrip())
    seconds = report.get("seconds", {})
    lines += ["", "Seconds: " + ", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in seconds.items())
              + f"; {sum(seconds.values()) / 60:.1f} minutes in all, on {report.get('device', 'an unknown machine')}"]
    return "\n".join(lines).strip("\n")


TASKS = {                             # a task's figures: title, and path in its report
    "retrieval": (("R@1 in a family of 4, ITC", "families.itc_i2t_r1 / families.itc_t2i_r1"),
                  ("R@1 in a family of 4, ITM", "families.itm_i2t_r1 / families.itm_t2i_r1"),
                  ("R@1 of 500, ITM", "plain.itm_i2t_r1 / plain.itm_t2i_r1")),
    "entailment": (("accuracy, three classes", "accuracy"),),
    "vqa": (("VQA accuracy", "accuracy"), *((f"VQA accuracy, {kind}", f"by_kind.{kind}") for kind in QUESTIONS)),
    "nlvr2": (("accuracy", "accuracy"), ("consistency, all four pairs of a statement", "consistency")),
    "grounding": (("pointing", "pointing"), ("pointing, if only a relation decides", "by_kind.relation"),
                  ("proposals, accuracy at IoU 0.5", "proposals"))}


def task_table(reports: Sequence[dict]) -> str:
    """Reports of fine-tuned runs as a Markdown table: each figure, that on fresh tests, and those of baselines.

    Of several seeds of a task the first has the table; NLVR2's others show what text assignment gains.
    """
    lines = ["| | test | fresh test | baselines |", "|---|---|---|---|"]
    firsts = list({report["task"]: report for report in reversed(reports)}.values())[::-1]
    for report in firsts:
        for title, paths in TASKS[report["task"]]:
            def means(*begin: str) -> str:
                values = [_at(report, *begin, *path.split(".")) for path in paths.split(" / ")]
                return "" if None in values else " / ".join(f"{value:.2f}" for value in values)
            baselines = {name: means("baselines", name) for name in report.get("baselines", {})}
            beside = ", ".join(f"{name.replace('_', ' ')} {found}" for name, found in baselines.items() if found)
            if figure := means("test"):
                lines.append(f"| {report['task']}: {title} | {figure} | {means('fresh', 'test')} | {beside} |")
    gains = {}
    for report in reports:
        if (without := _at(report, "baselines", "without_assignment", "accuracy")) is not None:
            paired = report.get("kept", {}).get("without_assignment", report)        # of the same code, else no pair
            gains[report["seed"]] = paired["test"]["accuracy"] - without
    if gains:
        each = ", ".join(f"seed {seed} {gain:+.3f}" for seed, gain in gains.items())
        lines.append(f"| nlvr2: gain from text assignment | {sum(gains.values()) / len(gains):+.3f} | | {each} |")
    where: dict[str, list[str]] = {}
    for report in firsts:
        code = {report["task"]: report["commit"]}
        for name, model in report.get("kept", {}).items():
            code[f"{report['task']}'s {name.replace('_', ' ')}"] = model["commit"]
        for who, commit in code.items():
            where.setdefault(commit.removesuffix("+")[:7], []).append(who)
    code_line = "; ".join(f"{', '.join(tasks)} at {commit}" for commit, tasks in where.items())
    return "\n".join([*lines, "", f"Code: {code_line}."])


def share(value: float) -> str:
    """A share of 1 in as many digits as it deserves: 0.95, 0.002, 0.0004."""
    return f"{value:.{2 if value >= 0.01 or value == 0 else 3 if value >= 0.001 else 4}f}"


def _at(tree: Any, *path: str) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner, digits) for inner in value]
    return round(value, digits) if isinstance(value, float) else value


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return "" if done.returncode else done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
