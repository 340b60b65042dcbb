"""What an ablation found: every row's figures, and a verdict on each claim that was registered before the runs."""
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from ablate import cost, read
from ablate_rows import ROWS
from minalbef.cli.main import run_script
from outcomes import DOWNSTREAM
from results import write_tables

# figure: the questions that it is the mean of
FIGURES = {
    "retrieval": ("both",), "by ITC": ("itc",), "by ITM": ("itm",),
    "families": ("families size", "families place", "families relation", "families count", "families mixed"),
    **{kind: (f"change {kind}",) for kind in ("relation", "place", "size", "count", "background")},
    "words": ("words object",), "pointing": ("pointing_itm", "pointing_mlm"),
    **{task: (task,) for task in DOWNSTREAM}, "tasks": DOWNSTREAM}
# several rows by one name: their mean
MEANS = {f"spoilt{suffix}": [name for name, row in ROWS.items()
                             if row.group == "noise" and name.partition("-")[2] == suffix.removeprefix("-")]
         for suffix in ("", "-distil", "-smooth")}
# differences that no claim was registered on, to be read beside the verdicts: what, rows, less, figure
BESIDE = (("distillation in both losses", "distil", "hard", "retrieval"),
          ("distillation in MLM", "distil", "distil-itc", "retrieval"),
          ("ITC before fusion", "itc", "itm-mlm", "pointing"))
# row@part: where a record holds the answers to pretraining's questions and to the tasks'
PARTS = {"": ("outcomes", "tasks"), "teacher": ("teacher_outcomes", ""), "distilled": ("", "tasks_distilled"),
         "equal": ("outcomes", "tasks")}
SEEDS = 8                             # of the paper's rows


@dataclass(frozen=True)
class Claim:
    """A row of the registered table: figure of `rows` less that of `less`, each a sum of terms joined by " + ".

    A term is a row, a key of MEANS, or row@part: @teacher the EMA weights themselves, @distilled tasks tuned with
    distillation, @equal the run of equal CPU seconds
    predicted: what we expected. least: the smallest effect worth having. seeds: how many, from 0; further don't count
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
        """supported: above zero, and at least `least`; contradicted: below zero, or below `least`, for sure."""
        if self.low > 0 and self.mean >= least:
            return "supported"
        if self.high < 0:
            return "contradicted: below zero"
        return "contradicted: too small" if self.high < least else "can't tell"


def read_claims(page: Path) -> list[Claim]:
    """The claims of the table that begins with "| claim |". Raises ValueError for a row or figure that isn't there."""
    table = page.read_text(encoding="utf-8").partition("\n| claim |")[2].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table if line.startswith("| ")]
    claims = [Claim(*some[:4], float(some[4]), float(some[5]), int(some[6])) for some in cells]
    for claim in claims:
        named = [term.partition("@") for term in f"{claim.rows} + {claim.less}".split(" + ")]
        unknown = ["".join(one) for one in named if one[0] not in ROWS | MEANS or one[2] not in PARTS]
        if unknown or claim.figure not in FIGURES:
            raise ValueError(f"{page}, {claim.text!r}: no row or figure {(unknown or [claim.figure])[0]!r}; "
                             f"figures are {', '.join(FIGURES)}")
    return claims


def figure(record: dict, name: str, part: str = "") -> float | None:
    """A figure of a record, 0 to 1; None where it wasn't asked. part: a key of PARTS."""
    answers = record.get(PARTS[part][name in (*DOWNSTREAM, "tasks")], {})
    asked = [answers[question] for question in FIGURES[name] if question in answers]
    return statistics.mean(statistics.mean(map(int, one)) / 9 for one in asked) if asked else None


def by_seed(records: Sequence[dict], term: str, name: str) -> dict[int, float]:
    """A term's figure by seed, of the seeds that all its rows have."""
    row, _, part = term.partition("@")
    found: list[dict[int, float]] = []
    for one in MEANS.get(row, [row]):
        values = {record["seed"]: figure(record, name, part) for record in records
                  if (record["row"], record["equal"]) == (one, part == "equal")
                  and (record["equal"] or record["samples"] == ROWS[one].samples)}
        found.append({seed: value for seed, value in values.items() if value is not None})
    return {seed: statistics.mean(one[seed] for one in found) for seed in sorted(set.intersection(*map(set, found)))}


def paired_effect(records: Sequence[dict], claim: Claim, level: float) -> Effect | None:
    """The claim's differences, paired by seed, with Student's interval at a level such as .95; None of one."""
    more, less = ([by_seed(records, term, claim.figure) for term in formula.split(" + ")]
                  for formula in (claim.rows, claim.less))
    values = tuple(sum(one[seed] for one in more) - sum(one[seed] for one in less)
                   for seed in range(claim.seeds) if all(seed in one for one in more + less))
    if len(values) < 2:
        return None
    mean = statistics.mean(values)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return Effect(values, mean, mean - half, mean + half)


def claims_table(records: Sequence[dict], claims: Sequence[Claim], family: float = 0.95) -> str:
    """Claims with verdicts, as Markdown; intervals hold together at `family`, by Bonferroni."""
    lines = ["| claim | rows | figure | predicted | worth having from | found | interval | seeds | verdict |",
             "|---|---|---|---|---|---|---|---|---|"]
    for claim in claims:
        found = paired_effect(records, claim, 1 - (1 - family) / len(claims))
        said = ["", "", "", "not yet"]
        if found:
            seeds = f"{len(found.values)} of {claim.seeds}"
            said = [f"{found.mean:+.3f}", f"[{found.low:+.3f}, {found.high:+.3f}]", seeds,
                    f"{found.verdict(claim.least)} ({claim.figure})" if len(found.values) == claim.seeds
                    else "not yet"]
        rows = f"{claim.rows} − {claim.less}" if "+" not in claim.rows else f"({claim.rows}) − ({claim.less})"
        lines.append(" | ".join(["| " + claim.text, rows, claim.figure, f"{claim.predicted:+.2f}",
                                 f"{claim.least:+.2f}", *said]) + " |")
    return "\n".join(lines)


def beside_table(records: Sequence[dict], comparisons: int, family: float = 0.95) -> str:
    """The differences of BESIDE as Markdown, at the level of a table of so many `comparisons`.

    They were chosen after the runs, so none of them is a verdict.
    """
    lines = ["| what | rows | figure | found | interval | seeds |", "|---|---|---|---|---|---|"]
    for what, rows, less, name in BESIDE:
        effect = paired_effect(records, Claim(what, rows, less, name, 0.0, 0.0, SEEDS),
                               1 - (1 - family) / comparisons)
        if effect:
            interval = f"[{effect.low:+.3f}, {effect.high:+.3f}]"
            lines.append(f"| {what} | {rows} − {less} | {name} | {effect.mean:+.3f} | {interval} | "
                         f"{len(effect.values)} |")
    return "\n".join(lines)


def rows_table(records: Sequence[dict]) -> str:
    """Every row's figures, means over seeds, as Markdown; of equal CPU seconds, too, where these were run."""
    names = [name for name in FIGURES if any(figure(one, name) is not None for one in records)]
    lines = [f"| row | | seeds | CPU s | {' | '.join(names)} |", f"|---|---|---|---|{'---|' * len(names)}"]
    for row, part in [(row, part) for row in ROWS for part in ("", "@equal")]:
        found = {name: by_seed(records, row + part, name) for name in names}
        if seeds := max(map(len, found.values()), default=0):
            failed = sum(one["row"] == row and "failed" in one for one in records)
            means = [f"{statistics.mean(values.values()):.2f}" if values else "" for values in found.values()]
            spent = f"{(cost(records, row) or 0) * ROWS[row].samples:.0f}" if not part else "equal"
            lines.append(f"| `{row}` | {ROWS[row].about} | {seeds}{f', {failed} failed' if failed else ''} | {spent} | "
                         f"{' | '.join(means)} |")
    return "\n".join(lines)


def main(results: Path = Path("runs/ablation.jsonl"), pages: tuple[Path, ...] = (),
         claims: Path = Path(__file__).with_name("registered.md")) -> None:
    """The tables of an ablation: what each row reached, and a verdict on each claim registered before the runs.

    Args:
        results: the file that ablate.py wrote
        pages: Markdown files whose tables to replace, such as docs/ablation.md
        claims: the file with the table of claims
    """
    records = read(results)
    if not records:
        raise ValueError(f"{results} has no results; `python notebooks/experiments/ablate.py` writes them, "
                         "and --results names a file")
    registered = read_claims(claims)
    tables = {"claims": claims_table(records, registered),
              "beside": beside_table(records, len(registered)),
              "rows": rows_table(records)}
    print("\n\n".join(tables.values()))
    for page in pages:
        write_tables(page, **tables)


if __name__ == "__main__":
    run_script(main)
