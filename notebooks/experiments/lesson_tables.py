"""Tables and verdicts of reports/lesson.md.

From lesson.json and lesson_toy.json, as registered_lesson.md says.
"""
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from effects import half_width
from lesson import ARMS, CONTROLS, SKEWS, WEIGHTS, WITHOUT
from lesson_toy import BIASES
from results import table_of

FITTED = SKEWS[3:]                    # the skews of which the law is asked
MIXED = SKEWS[3:-1]                   # those of them that leave questions in rare words
LONGEST = 450                         # what a run that never left counts as
ENOUGH = 0.95                         # accuracy of relations that is asked of lessons without skew
# whether at least four of five seeds should leave the plateau, or at most one
PREDICTED = {"skew 0.00": False, "skew 0.20": False, "words": True, "images": False,
             "labels": False, "weight 10": True, "weight 1": False}
Runs = dict[int, dict[str, Any]]      # of an arm, by seed


def runs_of(records: Sequence[dict[str, Any]], arm: str) -> Runs:
    """An arm's runs by seed."""
    return {record["seed"]: record for record in records if record["arm"] == arm}


def name_of(skew: float) -> str:
    """The arm of a skew."""
    return list(ARMS)[SKEWS.index(skew)]


def seeds_with(records: Sequence[dict[str, Any]], arms: Sequence[str]) -> list[int]:
    """The seeds that have all of these arms."""
    return sorted(set.intersection(*(set(runs_of(records, arm)) for arm in arms)))


def length(run: dict[str, Any]) -> int:
    """A plateau's length; LONGEST if it was never left."""
    return run["left"] or LONGEST


def slopes(records: Sequence[dict[str, Any]]) -> list[float]:
    """Of each seed, the slope of log length on log skew."""
    arms = list(map(name_of, FITTED))
    values = []
    for seed in seeds_with(records, arms):
        lengths = []
        for arm in arms:
            lengths.append(length(runs_of(records, arm)[seed]))
        values.append(float(np.polyfit(np.log(FITTED), np.log(lengths), 1)[0]))
    return values


def after(run: dict[str, Any]) -> dict[str, Any] | None:
    """The first row of figures after the plateau; None: it was never left."""
    if run["left"] is None:
        return None
    return next(row for row in run["rows"] if row["step"] >= run["left"])


def rare_after(records: Sequence[dict[str, Any]], figure: str = "rare") -> list[float]:
    """Of each seed, a figure right after the plateau, as a mean over the skews in MIXED."""
    arms = list(map(name_of, MIXED))
    means = []
    for seed in seeds_with(records, arms):
        values = []
        for arm in arms:
            row = after(runs_of(records, arm)[seed])
            if row is not None:
                values.append(row[figure])
        means.append(statistics.mean(values))
    return means


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval of a mean."""
    mean, half = statistics.mean(values), half_width(values)
    return mean - half, mean + half


def in_words(values: Sequence[float]) -> str:
    """A mean and its interval."""
    low, high = interval(values)
    return f"{statistics.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def law(low: float, high: float) -> str:
    """What an interval of the slope says, as registered."""
    flat = low <= 0 <= high
    linear = low <= -1 <= high
    square = low <= -2 <= high
    if linear and not flat and not square:
        return "1/b"
    if square and not linear:
        return "1/b²"
    if low > -1 and not flat:
        return "weaker than 1/b"
    return "not decided"


def left(runs: Runs) -> int:
    """How many runs left the plateau."""
    return sum(run["left"] is not None for run in runs.values())


def steps_in_words(run: dict[str, Any] | None) -> str:
    """A plateau's length, or "never"; a dash where the run is missing."""
    if run is None:
        return "-"
    return str(run["left"] or "never")


def lengths_table(records: Sequence[dict[str, Any]]) -> str:
    """Plateaus of each arm, seed by seed, and what was known right after them.

    Arms that no seed has left are one row.
    """
    seeds = sorted({record["seed"] for record in records if record["arm"] in ARMS})
    figures = ("frequent", "rare", "relation")
    rows, stuck = [], []
    for arm in (*ARMS, *CONTROLS, *WEIGHTS, *WITHOUT):
        runs = runs_of(records, arm)
        if not runs:
            continue
        ends = [row for row in map(after, runs.values()) if row is not None]
        if not ends and len(runs) == len(seeds):
            stuck.append(arm)
            continue
        line = [arm]
        for seed in seeds:
            line.append(steps_in_words(runs.get(seed)))
        for name in figures:
            line.append(f"{statistics.mean(row[name] for row in ends):.2f}" if ends else "-")
        rows.append(line)
    if stuck:
        rows.append([", ".join(stuck), *["never"] * len(seeds), *"-" * len(figures)])
    return table_of(["lesson", *map("seed {}".format, seeds), *figures], rows)


def claims_table(records: Sequence[dict[str, Any]]) -> str:
    """A row for each claim of registered_lesson.md that seeds were counted for."""
    slope_values = slopes(records)
    rare = rare_after(records)
    slope_words = f"{in_words(slope_values)}, {len(slope_values)} seeds"
    rare_words = f"{in_words(rare)}, {len(rare)} seeds"
    wrong = "yes" if interval(rare)[1] < 0.5 else "not decided"
    rows = [
        ["slope of log plateau on log skew, .5 to 1", "-1: 1/b", slope_words,
         law(*interval(slope_values))],
        ["rare words right after the plateau, where it was left", "below .5", rare_words, wrong],
    ]
    for arm, predicted in PREDICTED.items():
        runs = runs_of(records, arm)
        if runs:
            leave = left(runs)
            rows.append([f"runs that leave: {arm}",
                         "4 of 5 or more" if predicted else "1 of 5 at most",
                         share_in_words(leave, len(runs)), counted(leave, len(runs), predicted)])
    best: list[float] = []
    for arm in WITHOUT:
        best += map(best_relation, runs_of(records, arm).values())
    if best:
        enough = sum(accuracy >= ENOUGH for accuracy in best)
        rows.append(["without skew, longer, warmer or larger: relations of .95", "none",
                     f"{enough} of {len(best)}, at best {max(best):.2f}",
                     "no" if enough else "yes"])
    return table_of(["claim", "predicted", "found", "verdict"], rows)


def best_relation(run: dict[str, Any]) -> float:
    """The best accuracy of relations in a run, at any of its rows."""
    return max(row["relation"] for row in run["rows"])


def share_in_words(leave: int, runs: int) -> str:
    """How many runs left, and the exact 95% interval of the share (Clopper and Pearson's)."""
    low, high = stats.binomtest(leave, runs).proportion_ci(0.95)
    return f"{leave} of {runs} [{low:.2f}, {high:.2f}]"


def counted(leave: int, runs: int, predicted: bool) -> str:
    """Whether the runs that left are as many as predicted; of five seeds some may be missing."""
    if predicted:
        sure, out = leave >= 4, runs - leave >= 2
    else:
        sure, out = runs - leave >= 4, leave >= 2
    return "yes" if sure else "no" if out else "not decided"


def toy_table(toy: dict[str, Any]) -> str:
    """Steps until the toy leaves ln 2, by bias and optimiser."""
    rows = []
    for name, results in toy["results"].items():
        line = [name]
        for row in results:
            line.append(f"{row['steps']:.0f}" if row["steps"] else "never")
        rows.append(line)
    return table_of(["bias", *map("{:g}".format, BIASES)], rows)
