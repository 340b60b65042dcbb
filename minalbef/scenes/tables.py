"""An evaluation's figures as tables: each with its 95% interval, its baselines and chance level."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minalbef.scenes.tasks.table import SCENE_TASKS

ONE_CHANGE = "One change: the true caption beats one that differs by a"
ACCEPTED = "Match: accepted of captions with a relation, said the other way round, and false ones"
STRESS = "Stress test: the true sentence beats a false one; accepted: taken for a match"
MASKED = "Masked words: the hidden word is guessed exactly"
POINTING = "Pointing: the strongest patch for a word lies on its object"
MATCH = "Match: true captions accepted, false ones refused"
RECALL = {
    "itc_i2t_r1": "image to caption, by similarity",
    "itc_t2i_r1": "caption to image, by similarity",
    "rerank_i2t_r1": "image to caption, by match",
    "rerank_t2i_r1": "caption to image, by match",
    "rerank_plus_i2t_r1": "image to caption, by both",
    "rerank_plus_t2i_r1": "caption to image, by both",
}
RETRIEVAL = {
    "families": "Families: the right one of four scenes with the same objects",
    "plain": "Plain: the right one of {block} scenes",
    "unseen_style": "Plain, drawn in a style never trained on",
    "unseen_style.families": "Families in that style",
    "unseen_pairs": "Plain, with pairs of objects that never met in training",
    "unseen_pairs.control": "The same made from pairs that did meet",
}
Baselines = dict[str, str | float]
# group, name, path in the report, and baselines: paths in the report, or figures.
# A * stands for every kind that the report has.
ROWS: list[tuple[str, str, str, Baselines]] = []
for part, title in RETRIEVAL.items():
    known: Baselines = {"chance": f"{part}.chance_r1", "objects known": f"{part}.oracle_r1"}
    for key, name in RECALL.items():
        if "plus" in key and part.startswith("unseen"):
            continue                  # keeps the table short enough to be read
        ROWS.append((title, name, f"{part}.{key}", known))
ROWS += [
    (ONE_CHANGE, "*", "itm_one_change_accuracy.*",
     {"chance": 0.5, "no image": "itm_one_change_blank.*"}),
    (ONE_CHANGE, "relation, by similarity", "itc_one_change_accuracy.relation", {"chance": 0.5}),
    (ACCEPTED, "*", "itm_accepted.*", {}),
    (STRESS, "*", "stress.true_preferred.*",
     {"chance": 0.5, "no image": "stress.true_preferred_blank.*",
      "true accepted": "stress.true_accepted.*", "false accepted": "stress.false_accepted.*"}),
    (MASKED, "*", "mlm_accuracy.*", {"no image": "mlm_accuracy_without_image.*"}),
    (POINTING, "by the match", "pointing_itm", {"chance": "pointing_chance"}),
    (POINTING, "by the masked word", "pointing_mlm", {"chance": "pointing_chance"}),
    (MATCH, "both halves, evenly", "itm_balanced_accuracy", {"chance": 0.5}),
    (MATCH, "refused though true (low is good)", "itm_refused.true", {}),
    (MATCH, "refused: *", "itm_refused.*", {}),
]


@dataclass(frozen=True)
class Row:
    """One figure of a report, with its baselines by name."""

    group: str
    name: str
    value: float
    interval: tuple[float, ...]       # empty where none was measured
    beside: dict[str, float]


def rows(report: dict) -> list[Row]:
    """The figures that a reader should see, in order; those that the report lacks are left out."""
    by_path: dict[str, Row] = {}
    for group, name, path, baselines in ROWS:
        title = group.format(block=competitors(report))
        for kind in kinds_of(report, path):
            figure_path = path.replace("*", kind)
            value = at(report, figure_path)
            if not isinstance(value, int | float) or figure_path in by_path:
                continue
            by_path[figure_path] = Row(
                group=title,
                name=name.replace("*", kind.replace("_", " ")),
                value=value,
                interval=tuple(at(report, f"intervals.{figure_path}") or ()),
                beside=baselines_of(report, figure_path, baselines, kind))
    return list(by_path.values())


def kinds_of(report: dict, path: str) -> Sequence[str]:
    """What the * at the end of a path stands for in a report; [""] for a path without one."""
    if not path.endswith("*"):
        return [""]
    return list(at(report, path.removesuffix(".*")) or ())


def baselines_of(report: dict, path: str, baselines: Baselines, kind: str) -> dict[str, float]:
    """A figure's baselines in a report, by name.

    "start" is the same figure of the model after its warm start.
    """
    figures = {}
    for name, base in baselines.items():
        figures[name] = at(report, base.replace("*", kind)) if isinstance(base, str) else base
    figures["start"] = at(report, "start." + path.removeprefix("plain."))
    return {name: figure for name, figure in figures.items() if figure is not None}


def competitors(report: dict) -> int:
    """How many plain scenes are ranked together: 500, or what the report says, or all it has."""
    among = report.get("among", 500)
    return min(among, at(report, "counts.plain.itc_i2t_r1") or among)


def summary_table(report: dict) -> str:
    """The figures of a report as text, each with its 95% interval and its baselines."""
    lines = []
    group = None
    for row in rows(report):
        if row.group != group:
            group = row.group
            lines += ["", group]
        interval = ""
        if row.interval:
            interval = "({} to {})".format(*map(format_share, row.interval))
        baselines = ", ".join(f"{name} {format_share(value)}" for name, value in row.beside.items())
        line = f"  {row.name:36} {format_share(row.value):>5}  {interval:16}  {baselines}"
        lines.append(line.rstrip())
    seconds = report.get("seconds", {})
    steps = [f"{name.replace('_', ' ')} {value:.0f}" for name, value in seconds.items()]
    minutes = sum(seconds.values()) / 60
    device = report.get("device", "an unknown machine")
    lines += ["", f"Seconds: {', '.join(steps)}; {minutes:.1f} minutes in all, on {device}"]
    return "\n".join(lines).strip("\n")


def task_table(reports: Sequence[dict]) -> str:
    """Reports of fine-tuned runs as a Markdown table.

    Each figure stands beside the same on fresh tests and those of the baselines. Of several seeds
    of a task the first is shown; all of NLVR2's tell what text assignment gains.
    """
    lines = ["| | test | fresh test | baselines |", "|---|---|---|---|"]
    firsts: dict[str, dict] = {}
    for report in reports:
        firsts.setdefault(report["task"], report)
    for report in firsts.values():
        lines += task_lines(report)
    lines += gain_lines(reports)
    return "\n".join([*lines, "", code_line(list(firsts.values()))])


def task_lines(report: dict) -> list[str]:
    """The lines of one report in `task_table`."""
    lines = []
    task = report["task"]
    block = at(report, "counts.test.plain.itc_i2t_r1") or 500
    for title, paths in SCENE_TASKS[task].titles:
        figure = figure_text(report, "test", paths)
        if not figure:
            continue
        baselines = []
        for name in report.get("baselines", {}):
            text = figure_text(report, f"baselines.{name}", paths)
            if text:
                baselines.append(f"{name.replace('_', ' ')} {text}")
        fresh = figure_text(report, "fresh.test", paths)
        name = f"{task}: {title.format(block=block)}"
        lines.append(f"| {name} | {figure} | {fresh} | {', '.join(baselines)} |")
    return lines


def figure_text(report: dict, part: str, paths: str) -> str:
    """The figures at paths such as "itc_i2t_r1 / itc_t2i_r1" of a part; "" if it lacks one."""
    values = [at(report, f"{part}.{path}") for path in paths.split(" / ")]
    if None in values:
        return ""
    return " / ".join(f"{value:.2f}" for value in values)


def gain_lines(reports: Sequence[dict]) -> list[str]:
    """The line of `task_table` on what text assignment adds to NLVR2, if a report has it."""
    gains = {}
    for report in reports:
        without = at(report, "baselines.without_assignment.accuracy")
        if without is not None:
            gains[report["seed"]] = report["test"]["accuracy"] - without
    if not gains:
        return []
    mean = sum(gains.values()) / len(gains)
    seeds = ", ".join(f"seed {seed} {gain:+.3f}" for seed, gain in gains.items())
    return [f"| nlvr2: gain from text assignment | {mean:+.3f} | | {seeds} |"]


def code_line(reports: Sequence[dict]) -> str:
    """The commit that each task's figures come from."""
    tasks: dict[str, list[str]] = {}
    for report in reports:
        commit = report["commit"].removesuffix("+")[:7]
        tasks.setdefault(commit, []).append(report["task"])
    parts = [f"{', '.join(names)} at {commit}" for commit, names in tasks.items()]
    return f"Code: {'; '.join(parts)}."


def format_share(value: float) -> str:
    """A share of 1 in as many digits as it deserves: 0.95, 0.002, 0.0004."""
    digits = 4
    if value >= 0.01 or value == 0:
        digits = 2
    elif value >= 0.001:
        digits = 3
    return f"{value:.{digits}f}"


def at(tree: Any, path: str) -> Any:
    """What lies at a path such as "families.oracle_r1", or None."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
