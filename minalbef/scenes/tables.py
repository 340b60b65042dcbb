"""The figures of an evaluation on scenes as tables: each beside its 95% interval, its baselines and chance."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minalbef.scenes.tasks.table import SCENE_TASKS

ONE_CHANGE = "One change: the true caption beats one that differs by a"
ACCEPTED = "Match: accepted of captions with a relation, said the other way round, and false ones"
MASKED = "Masked words: the hidden word is guessed exactly"
POINTING = "Pointing: the strongest patch for a word lies on its object"
MATCH = "Match: true captions accepted, false ones refused"
RECALL = {"itc_i2t_r1": "picture to caption, by similarity", "itc_t2i_r1": "caption to picture, by similarity",
          "rerank_i2t_r1": "picture to caption, by match", "rerank_t2i_r1": "caption to picture, by match",
          "rerank_plus_i2t_r1": "picture to caption, by both", "rerank_plus_t2i_r1": "caption to picture, by both"}
RETRIEVAL = {"families": "Families: the right one of four scenes with the same objects",
             "plain": "Plain: the right one of {block} scenes",
             "unseen_style": "Plain, drawn in a style never trained on",
             "unseen_style.families": "Families in that style",
             "unseen_pairs": "Plain, with pairs of objects that never met in training",
             "unseen_pairs.control": "The same made from pairs that did meet"}
# group, name, path in the report, baselines: their paths or figures. A * stands for every kind that the report has
ROWS: tuple[tuple[str, str, str, dict[str, str | float]], ...] = (
    *((title, name, f"{part}.{key}", {"chance": f"{part}.chance_r1", "objects known": f"{part}.oracle_r1"})
      for part, title in RETRIEVAL.items() for key, name in RECALL.items()
      if not ("plus" in key and part.startswith("unseen"))),     # a long table is not read
    (ONE_CHANGE, "*", "itm_one_change_accuracy.*", {"chance": 0.5, "no picture": "itm_one_change_blank.*"}),
    (ONE_CHANGE, "relation, by similarity", "itc_one_change_accuracy.relation", {"chance": 0.5}),
    (ACCEPTED, "*", "itm_accepted.*", {}),
    (MASKED, "*", "mlm_accuracy.*", {"no picture": "mlm_accuracy_without_image.*"}),
    (POINTING, "by the match", "pointing_itm", {"chance": "pointing_chance"}),
    (POINTING, "by the masked word", "pointing_mlm", {"chance": "pointing_chance"}),
    (MATCH, "both halves, evenly", "itm_balanced_accuracy", {"chance": 0.5}),
    (MATCH, "refused though true (low is good)", "itm_refused.true", {}),
    (MATCH, "refused: *", "itm_refused.*", {}))


@dataclass(frozen=True)
class Row:
    """A figure of a report, with its baselines by name."""

    group: str
    name: str
    value: float
    interval: tuple[float, ...]       # none where none was measured
    beside: dict[str, float]


def rows(report: dict) -> list[Row]:
    """The figures that a reader should see, in order; what a report lacks is left out."""
    found: dict[str, Row] = {}        # by path
    for group, name, path, baselines in ROWS:
        for kind in at(report, path.removesuffix(".*")) or () if path.endswith("*") else ("",):
            where = path.replace("*", kind)
            if not isinstance(value := at(report, where), int | float) or where in found:
                continue
            beside = {what: at(report, base.replace("*", kind)) if isinstance(base, str) else base
                      for what, base in baselines.items()}
            beside["start"] = at(report, "start." + where.removeprefix("plain."))    # the model after its warm start
            title, name_of_kind = group.format(block=competitors(report)), name.replace("*", kind.replace("_", " "))
            found[where] = Row(title, name_of_kind, value, tuple(at(report, f"intervals.{where}") or ()),
                               {what: base for what, base in beside.items() if base is not None})
    return list(found.values())


def competitors(report: dict) -> int:
    """Among how many plain scenes the right one is found: 500 unless the report says another number or has fewer."""
    among = report.get("among", 500)
    return min(among, at(report, "counts.plain.itc_i2t_r1") or among)


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


def task_table(reports: Sequence[dict]) -> str:
    """Reports of fine-tuned runs as a Markdown table: each figure, that on fresh tests, and those of baselines.

    Of several seeds of a task the first has the table; NLVR2's others show what text assignment gains.
    """
    lines = ["| | test | fresh test | baselines |", "|---|---|---|---|"]
    firsts = {report["task"]: report for report in reversed(reports)}
    for task, report in reversed(firsts.items()):
        for title, paths in SCENE_TASKS[task].titles:
            def mean(of: str) -> str:
                values = [at(report, f"{of}.{path}") for path in paths.split(" / ")]
                return "" if None in values else " / ".join(f"{value:.2f}" for value in values)
            baselines = {name.replace("_", " "): mean(f"baselines.{name}") for name in report.get("baselines", {})}
            beside = ", ".join(f"{name} {found}" for name, found in baselines.items() if found)
            if figure := mean("test"):
                title = title.format(block=at(report, "counts.test.plain.itc_i2t_r1") or 500)
                lines.append(f"| {task}: {title} | {figure} | {mean('fresh.test')} | {beside} |")
    gains = {}
    for report in reports:
        if (without := at(report, "baselines.without_assignment.accuracy")) is not None:
            gains[report["seed"]] = report["test"]["accuracy"] - without
    if gains:
        each = ", ".join(f"seed {seed} {gain:+.3f}" for seed, gain in gains.items())
        lines.append(f"| nlvr2: gain from text assignment | {sum(gains.values()) / len(gains):+.3f} | | {each} |")
    return "\n".join([*lines, "", code_line(list(reversed(firsts.values())))])


def code_line(reports: Sequence[dict]) -> str:
    """Of which commit each task's figures are."""
    tasks: dict[str, list[str]] = {}
    for report in reports:
        tasks.setdefault(report["commit"].removesuffix("+")[:7], []).append(report["task"])
    return "Code: " + "; ".join(f"{', '.join(some)} at {commit}" for commit, some in tasks.items()) + "."


def share(value: float) -> str:
    """A share of 1 in as many digits as it deserves: 0.95, 0.002, 0.0004."""
    return f"{value:.{2 if value >= 0.01 or value == 0 else 3 if value >= 0.001 else 4}f}"


def at(tree: Any, path: str) -> Any:
    """What lies at a path such as "families.oracle_r1", or None."""
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
