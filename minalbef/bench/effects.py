"""What an ablation found: every row's figures, and a verdict on each claim that was registered before the runs."""
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from minalbef.bench.ablate import cost
from minalbef.bench.ablate_rows import ROWS
from minalbef.bench.outcomes import TASKS
from minalbef.checkpoint import write_atomically

# figure: the questions that it is the mean of
FIGURES = {
    "retrieval": ("both",), "by ITC": ("itc",), "by ITM": ("itm",),
    "families": ("families size", "families place", "families relation", "families count", "families mixed"),
    **{kind: (f"change {kind}",) for kind in ("relation", "place", "size", "count", "background")},
    "words": ("words object",), "pointing": ("pointing_itm", "pointing_mlm"),
    **{task: (task,) for task in TASKS}, "tasks": TASKS}
# several rows by one name: their mean. A row may also be asked otherwise: distil@teacher, the EMA weights themselves
SPOILT = {f"spoilt{suffix}": [name for name, row in ROWS.items()
                              if row.group == "noise" and name.partition("-")[2] == suffix.removeprefix("-")]
          for suffix in ("", "-distil", "-smooth")}
PARTS = {"": ("outcomes", "tasks"), "teacher": ("teacher_outcomes", ""), "distilled": ("", "tasks_distilled")}
MARKS = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end of \2 -->)", re.S)


@dataclass(frozen=True)
class Claim:
    """A row of the registered table: figure of `rows` less that of `less`, terms joined by " + ", each a row's mean.

    predicted: what we expected. least: the smallest effect worth having
    """

    text: str
    rows: str
    less: str
    figure: str
    predicted: float
    least: float


@dataclass(frozen=True)
class Effect:
    """By seed, and the mean with its interval; of fewer than two seeds there is none."""

    values: tuple[float, ...]
    mean: float
    low: float
    high: float

    def verdict(self, least: float) -> str:
        """supported: above zero, and at least `least`; contradicted: below `least` for sure; otherwise can't tell."""
        if self.low > 0 and self.mean >= least:
            return "supported"
        return "contradicted" if self.high < least else "can't tell"


def read_claims(page: Path) -> list[Claim]:
    """The claims of a Markdown table of six columns. Raises ValueError for a row or figure that doesn't exist."""
    cells = [[cell.strip() for cell in line.strip("| \n").split("|")]
             for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    claims = [Claim(*some[:4], *map(float, some[4:])) for some in cells if len(some) == 6 and some[1] != "rows"]
    for claim in claims:
        named = [term.partition("@")[0] for formula in (claim.rows, claim.less) for term in terms(formula)]
        unknown = [name for name in named if name not in ROWS | SPOILT]
        if unknown or claim.figure not in FIGURES:
            raise ValueError(f"{page}, {claim.text!r}: no row or figure {(unknown or [claim.figure])[0]!r}; "
                             f"figures are {', '.join(FIGURES)}")
    return claims


def terms(formula: str) -> list[str]:
    return formula.split(" + ")


def figure(record: dict, name: str, part: str = "") -> float | None:
    """A figure of a record, 0 to 1; None where it wasn't asked. part: a key of PARTS."""
    answers = record.get(PARTS[part][name in (*TASKS, "tasks")], {})
    asked = [answers[question] for question in FIGURES[name] if question in answers]
    return statistics.mean(statistics.mean(map(int, one)) / 2 for one in asked) if asked else None


def by_seed(records: Sequence[dict], term: str, name: str) -> dict[int, float]:
    """A term's figure by seed, of runs that saw the row's samples: seeds that all its rows have."""
    row, _, part = term.partition("@")
    found: list[dict[int, float]] = []
    for one in SPOILT.get(row, [row]):
        values = {record["seed"]: figure(record, name, part) for record in records
                  if record["row"] == one and record["samples"] == ROWS[one].samples}
        found.append({seed: value for seed, value in values.items() if value is not None})
    return {seed: statistics.mean(one[seed] for one in found) for seed in set.intersection(*map(set, found))}


def effect(records: Sequence[dict], claim: Claim, level: float) -> Effect:
    """The claim's differences, paired by seed, with Student's interval at a level such as .95."""
    more, less = ([by_seed(records, term, claim.figure) for term in terms(formula)]
                  for formula in (claim.rows, claim.less))
    seeds = sorted(set.intersection(*map(set, more + less)))
    values = tuple(sum(one[seed] for one in more) - sum(one[seed] for one in less) for seed in seeds)
    if len(values) < 2:
        return Effect(values, sum(values), -1.0, 1.0)
    mean = statistics.mean(values)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return Effect(values, mean, mean - half, mean + half)


def claims_table(records: Sequence[dict], claims: Sequence[Claim], family: float = 0.95) -> str:
    """Claims with verdicts, as Markdown; intervals hold together at `family`, by Bonferroni."""
    level = 1 - (1 - family) / len(claims)
    lines = ["| claim | figure | predicted | worth having from | found | interval | seeds | verdict |",
             "|---|---|---|---|---|---|---|---|"]
    for claim in claims:
        found = effect(records, claim, level)
        said = ("", "", "0", "not run") if not found.values else (
            f"{found.mean:+.3f}", f"[{found.low:+.3f}, {found.high:+.3f}]" if len(found.values) > 1 else "",
            str(len(found.values)), found.verdict(claim.least))
        asked = f"{claim.text} | {claim.figure} | {claim.predicted:+.2f} | {claim.least:+.2f}"
        lines.append(f"| {asked} | {' | '.join(said)} |")
    return "\n".join(lines)


def rows_table(records: Sequence[dict]) -> str:
    """Every row's figures, means over seeds at the row's samples, as Markdown."""
    names = [name for name in FIGURES if any(figure(one, name) is not None for one in records)]
    lines = [f"| row | | seeds | CPU s | {' | '.join(names)} |", f"|---|---|---|---|{'---|' * len(names)}"]
    for row, about in ((name, one.about) for name, one in ROWS.items()):
        found = {name: by_seed(records, row, name) for name in names}
        if seeds := max(map(len, found.values()), default=0):
            means = [f"{statistics.mean(values.values()):.2f}" if values else "" for values in found.values()]
            spent = round(cost(records, row) * ROWS[row].samples)
            lines.append(f"| `{row}` | {about} | {seeds} | {spent} | {' | '.join(means)} |")
    return "\n".join(lines)


def write_tables(page: Path, **tables: str) -> None:
    """Put tables into a page, each between <!-- NAME --> and <!-- end of NAME -->. Raises ValueError without these."""
    text = page.read_text(encoding="utf-8")
    if missing := tables.keys() - {name for _, name, _ in MARKS.findall(text)}:
        name = min(missing)
        raise ValueError(f"{page} has no place for {name}: add the lines <!-- {name} --> and <!-- end of {name} -->")
    text = MARKS.sub(lambda at: f"{at[1]}{tables[at[2]]}\n{at[3]}" if at[2] in tables else at[0], text)
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
