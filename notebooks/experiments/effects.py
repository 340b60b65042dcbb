"""What came of an ablation: every row's figures, and verdicts on claims registered before the runs.

`python notebooks/experiments/effects.py` reads the results of ablate.py.
"""
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from ablate_records import read_records, seconds_per_sample
from ablate_rows import ROWS
from minalbef.cli.main import run_script
from outcomes import DOWNSTREAM
from results import line_of

KINDS = ("relation", "place", "size", "count", "background")
# figure -> the questions that it is the mean of
FIGURES = {
    "retrieval": ("both",),
    "by ITC": ("itc",),
    "by ITM": ("itm",),
    "families": ("families size", "families place", "families relation", "families count",
                 "families mixed"),
    **{kind: (f"change {kind}",) for kind in KINDS},
    "words": ("words object",),
    "pointing": ("pointing_itm", "pointing_mlm"),
    **{task: (task,) for task in DOWNSTREAM},
    "tasks": DOWNSTREAM,
}
OF_TASKS = (*DOWNSTREAM, "tasks")
# row@part -> where a record holds the answers to pretraining's questions, and to the tasks'
PARTS = {
    "": ("outcomes", "tasks"),
    "teacher": ("teacher_outcomes", ""),
    "distilled": ("", "tasks_distilled"),
    "equal": ("outcomes", "tasks"),
}
# differences that no claim was registered on: about, rows, less, figure
UNREGISTERED = (
    ("distillation in both losses", "distil", "hard", "retrieval"),
    ("distillation in MLM", "distil", "distil-itc", "retrieval"),
    ("ITC before fusion", "itc", "itm-mlm", "pointing"),
)
SEEDS = 8                             # of the paper's rows
CLAIMS = Path(__file__).with_name("registered.md")


def rows_by_ending(ending: str) -> list[str]:
    """The rows of spoilt captions with one remedy: "distil", "smooth", or "" for none."""
    rows = []
    for name, row in ROWS.items():
        if row.group == "noise" and name.partition("-")[2] == ending:
            rows.append(name)
    return rows


# several rows by one name: their mean
MEANS = {
    "spoilt": rows_by_ending(""),
    "spoilt-distil": rows_by_ending("distil"),
    "spoilt-smooth": rows_by_ending("smooth"),
}


@dataclass(frozen=True)
class Claim:
    """A line of the registered table: a figure of `rows` less that of `less`, each a sum of terms.

    Terms are joined by " + ". A term is a row, a key of MEANS, or row@part: @teacher the EMA
    weights themselves, @distilled tasks fine-tuned with distillation, @equal the run of equal CPU
    seconds
    predicted: what we expected. least: the smallest effect worth having
    seeds: how many, from 0; further ones don't count
    """

    text: str
    rows: str
    less: str
    figure: str
    predicted: float
    least: float
    seeds: int


@dataclass(frozen=True)
class Effect:
    """Differences by seed, their mean and its interval."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    def verdict(self, least: float) -> str:
        """What the interval says of an effect of at least `least`.

        supported: it lies above zero, and the mean is at least `least`
        contradicted: it lies below zero, or below `least`
        """
        if self.low > 0 and self.mean >= least:
            return "supported"
        if self.high < 0:
            return "contradicted: below zero"
        if self.high < least:
            return "contradicted: too small"
        return "can't tell"

    def interval(self) -> str:
        """[low, high], as the tables have it."""
        return f"[{self.low:+.3f}, {self.high:+.3f}]"


def claim_lines(page: Path) -> list[list[str]]:
    """The cells of each line of a page's table that begins with "| claim |"."""
    text = page.read_text(encoding="utf-8")
    lines = []
    for line in text.partition("\n| claim |")[2].partition("\n\n")[0].splitlines()[2:]:
        lines.append(list(map(str.strip, line.strip("| ").split("|"))))
    return lines


def read_claims(page: Path) -> list[Claim]:
    """The claims of a page's table that begins with "| claim |".

    Raises ValueError for a row or a figure that there isn't.
    """
    claims = []
    for text, rows, less, name, predicted, least, seeds in claim_lines(page):
        claims.append(Claim(text, rows, less, name, float(predicted), float(least), int(seeds)))
    for claim in claims:
        check_claim(claim, page)
    return claims


def check_claim(claim: Claim, page: Path) -> None:
    """Raises ValueError for a row or a figure that there isn't."""
    unknown = []
    for term in f"{claim.rows} + {claim.less}".split(" + "):
        row, _, part = term.partition("@")
        if row not in ROWS | MEANS or part not in PARTS:
            unknown.append(term)
    if claim.figure not in FIGURES:
        unknown.append(claim.figure)
    if unknown:
        raise ValueError(f"{page}, {claim.text!r}: no row or figure {unknown[0]!r}; "
                         f"figures are {', '.join(FIGURES)}")


def figure(record: dict, name: str, part: str = "") -> float | None:
    """A figure of a record, 0 to 1; None if the run wasn't asked. part: a key of PARTS."""
    pretraining, tasks = PARTS[part]
    answers = record.get(tasks if name in OF_TASKS else pretraining, {})
    shares = []
    for question in FIGURES[name]:
        if question in answers:
            digits = map(int, answers[question])         # 0 wrong to 9 right
            shares.append(statistics.mean(digits) / 9)
    return statistics.mean(shares) if shares else None


def by_seed(records: Sequence[dict], term: str, name: str) -> dict[int, float]:
    """A term's figure by seed, for the seeds that all of its rows have."""
    row, _, part = term.partition("@")
    tables = [row_by_seed(records, member, name, part) for member in MEANS.get(row, [row])]
    seeds = set.intersection(*map(set, tables))
    means = {}
    for seed in sorted(seeds):
        means[seed] = statistics.mean(table[seed] for table in tables)
    return means


def row_by_seed(records: Sequence[dict], row: str, name: str, part: str) -> dict[int, float]:
    """A row's figure by seed, of its full runs or, as part "equal", those of equal CPU seconds."""
    values = {}
    for record in records:
        if record["row"] != row or record["equal"] != (part == "equal"):
            continue
        if record["equal"] or record["samples"] == ROWS[row].samples:
            value = figure(record, name, part)
            if value is not None:
                values[record["seed"]] = value
    return values


def paired_effect(records: Sequence[dict], claim: Claim, level: float) -> Effect | None:
    """A claim's differences, paired by seed, with Student's interval at a level such as 0.95.

    None for fewer than two seeds.
    """
    terms = []                                   # sign, figures by seed
    for rows, sign in ((claim.rows, 1), (claim.less, -1)):
        for row in rows.split(" + "):
            terms.append((sign, by_seed(records, row, claim.figure)))
    values = []
    for seed in range(claim.seeds):
        if all(seed in figures for _, figures in terms):
            values.append(sum(sign * figures[seed] for sign, figures in terms))
    return student_interval(values, level)


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half of Student's interval of a mean, of at least two values."""
    quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
    return float(quantile * statistics.stdev(values) / len(values) ** 0.5)


def student_interval(values: Sequence[float], level: float) -> Effect | None:
    """Differences by seed with Student's interval of their mean; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, half = statistics.mean(values), half_width(values, level)
    return Effect(tuple(values), mean, mean - half, mean + half)


def bonferroni(comparisons: int, family: float = 0.95) -> float:
    """The level of each of so many intervals that hold together at the level `family`."""
    return 1 - (1 - family) / comparisons


def claims_table(records: Sequence[dict], claims: Sequence[Claim]) -> str:
    """Claims with verdicts, as Markdown; the intervals hold together at 95%, by Bonferroni."""
    lines = [line_of("claim", "rows", "figure", "predicted", "worth having from", "found",
                     "interval", "seeds", "verdict"),
             "|---|---|---|---|---|---|---|---|---|"]
    for claim in claims:
        effect = paired_effect(records, claim, bonferroni(len(claims)))
        cells = ["", "", "", "not yet"]
        if effect:
            seeds = len(effect.values)
            verdict = "not yet"
            if seeds == claim.seeds:
                verdict = f"{effect.verdict(claim.least)} ({claim.figure})"
            cells = [f"{effect.mean:+.3f}", effect.interval(), f"{seeds} of {claim.seeds}", verdict]
        formula = f"{claim.rows} − {claim.less}"
        if "+" in claim.rows:
            formula = f"({claim.rows}) − ({claim.less})"
        lines.append(line_of(claim.text, formula, claim.figure, f"{claim.predicted:+.2f}",
                             f"{claim.least:+.2f}", *cells))
    return "\n".join(lines)


def unregistered_table(records: Sequence[dict], comparisons: int) -> str:
    """The differences of UNREGISTERED as Markdown, at the level of a table of `comparisons` claims.

    They were chosen after the runs, so none of them has a verdict.
    """
    lines = ["| what | rows | figure | found | interval | seeds |", "|---|---|---|---|---|---|"]
    for about, rows, less, name in UNREGISTERED:
        claim = Claim(about, rows, less, name, 0.0, 0.0, SEEDS)
        effect = paired_effect(records, claim, bonferroni(comparisons))
        if effect:
            lines.append(line_of(about, f"{rows} − {less}", name, f"{effect.mean:+.3f}",
                                 effect.interval(), len(effect.values)))
    return "\n".join(lines)


def rows_table(records: Sequence[dict]) -> str:
    """Every row's figures, means over seeds, as Markdown; those of equal CPU seconds below it."""
    names = []
    for name in FIGURES:
        if any(figure(record, name) is not None for record in records):
            names.append(name)
    lines = [f"| row | | seeds | CPU s | {' | '.join(names)} |",
             f"|---|---|---|---|{'---|' * len(names)}"]
    for row in ROWS:
        for part in ("", "@equal"):
            tables = [by_seed(records, row + part, name) for name in names]
            seeds = max(map(len, tables), default=0)
            if not seeds:
                continue
            failures = sum(record["row"] == row and "failed" in record for record in records)
            runs = f"{seeds}, {failures} failed" if failures else seeds
            seconds = "equal"
            if not part:
                seconds = f"{(seconds_per_sample(records, row) or 0) * ROWS[row].samples:.0f}"
            means = []
            for table in tables:
                means.append(f"{statistics.mean(table.values()):.2f}" if table else "")
            lines.append(line_of(f"`{row}`", ROWS[row].about, runs, seconds, *means))
    return "\n".join(lines)


def main(results: Path = Path("runs/ablation.jsonl"), claims: Path = CLAIMS) -> None:
    """Print a verdict on each claim that was registered before the runs, and what each row reached.

    Args:
        results: the file that ablate.py wrote
        claims: the file with the table of claims
    """
    records = read_records(results)
    if not records:
        raise ValueError(f"{results} has no results; `python notebooks/experiments/ablate.py` "
                         "writes them, and --results names a file")
    registered = read_claims(claims)
    tables = [
        claims_table(records, registered),
        unregistered_table(records, len(registered)),
        rows_table(records),
    ]
    print("\n\n".join(tables))


if __name__ == "__main__":
    run_script(main)
