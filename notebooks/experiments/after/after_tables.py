"""The tables of "After ALBEF": what each recipe reached, and what came of each registered claim.

A claim compares two terms, each a recipe and a figure of measure.py, such as "xvlm itm place".
"""
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effects import Effect, bonferroni, claim_lines, student_interval
from emojiscenes.grammar import KINDS
from results import line_of

WAYS = ("itc", "itm", "likelihood")
SEEDS = 5                             # as registered; others don't count


@dataclass(frozen=True)
class Claim:
    """A line of the registered table: that term `more` exceeds term `less` by `least` or more.

    predicted: the difference that we expected
    """

    text: str
    more: str
    less: str
    predicted: float
    least: float


def read_claims(page: Path) -> list[Claim]:
    """The claims of a page's table that begins with "| claim |"."""
    claims = []
    for text, more, less, predicted, least in claim_lines(page):
        claims.append(Claim(text, more, less, float(predicted), float(least)))
    return claims


def values_of(runs: Sequence[dict], term: str) -> dict[int, float]:
    """A term's figure by seed. A number stands for itself in every seed."""
    name, _, figure = term.partition(" ")
    if not figure:
        return {seed: float(term) for seed in range(SEEDS)}
    return {run["seed"]: run["figures"][figure] for run in runs
            if run["recipe"] == name and run["seed"] < SEEDS and figure in run["figures"]}


def paired_effect(more: dict[int, float], less: dict[int, float], level: float) -> Effect | None:
    """The differences of seeds that both have, with Student's interval; None for fewer than two."""
    values = [more[seed] - less[seed] for seed in sorted(more.keys() & less.keys())]
    return student_interval(values, level)


def claims_table(runs: Sequence[dict], page: Path) -> str:
    """Claims with verdicts, as Markdown; the intervals hold together at 95%, by Bonferroni."""
    claims = read_claims(page)
    lines = [line_of("claim", "more", "less", "predicted", "least", "found", "interval", "seeds",
                     "verdict"), "|" + "---|" * 9]
    for claim in claims:
        effect = paired_effect(values_of(runs, claim.more), values_of(runs, claim.less),
                               bonferroni(len(claims)))
        cells = ["", "", 0, "not yet"]
        if effect:
            seeds = len(effect.values)
            verdict = effect.verdict(claim.least) if seeds == SEEDS else "not yet"
            cells = [f"{effect.mean:+.3f}", effect.interval(), seeds, verdict]
        lines.append(line_of(claim.text, claim.more, claim.less, f"{claim.predicted:+.2f}",
                             f"{claim.least:+.2f}", *cells))
    return "\n".join(lines)


def runs_table(runs: Sequence[dict], about: dict[str, str]) -> str:
    """A row for each recipe: its cost and its figures, means over its seeds, as Markdown.

    Of a change, the share of true captions preferred by ITC / ITM / likelihood.
    about: recipes in words, in the order of rows
    """
    heads = ["recipe", "", "seeds", "steps", "CPU s", "R@1: ITC / ITM", *KINDS, "word: MLM / next",
             "pointing", "boxes"]
    lines = [line_of(*heads), "|" + "---|" * len(heads)]
    for name, title in about.items():
        runs_by_seed = [run for run in runs if run["recipe"] == name]
        if not runs_by_seed:
            continue
        cells = [f"`{name}`", title, len(runs_by_seed), mean_of(runs_by_seed, "steps", 0),
                 mean_of(runs_by_seed, "cpu", 0), figures_of(runs_by_seed, "itc r1", "itm r1")]
        for kind in KINDS:
            cells.append(figures_of(runs_by_seed, *[f"{way} {kind}" for way in WAYS]))
        cells += [figures_of(runs_by_seed, "word all", "next all"),
                  figures_of(runs_by_seed, "pointing itm"), figures_of(runs_by_seed, "boxes")]
        lines.append(line_of(*cells))
    return "\n".join(lines)


def mean_of(runs: Sequence[dict], key: str, digits: int) -> str:
    """The mean of a number of each run."""
    return f"{statistics.mean(run[key] for run in runs):.{digits}f}"


def figures_of(runs: Sequence[dict], *names: str) -> str:
    """Means of figures, with a dash for those that the runs don't have: ".90 / –"."""
    cells = []
    for name in names:
        values = [run["figures"][name] for run in runs if name in run["figures"]]
        cells.append(f"{statistics.mean(values):.2f}".lstrip("0") if values else "–")
    return " / ".join(cells)
