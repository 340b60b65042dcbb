"""Verdicts on loose ends of the ablation: the tables of reports/ablation_loose.md.

From ablation.jsonl and ablation_loose.jsonl, by the rules of registered_loose.md.
"""
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ablate_records import read_records
from ablate_rows import SPOILT
from ablation_tables import SCORES, with_half
from effects import Effect, by_seed, claim_lines, student_interval
from results import table_of

HERE = Path(__file__).parent
# as registered_loose.md names them -> how the rows of 40% spoilt captions end; their mean is taken
REMEDIES = {"nothing": "", "words": "-words", "lightwords": "-lightwords"}
# the same on clean captions
CLEAN = {"nothing": "hard", "words": "distil-words", "lightwords": "light-words"}
# beside them in the second table, from ablation.jsonl
KNOWN = {"distillation in both": "-distil", "label smoothing": "-smooth", "even negatives": "-even"}
NEGATIVES = {"random negatives": "itc", "hard negatives": "hard"}
WORDS_SEEDS = range(5)
NEGATIVES_SEEDS = range(8, 24)        # eight were known when the claim was registered


class LooseClaim(NamedTuple):
    """A line of registered_loose.md: retrieval of `rows` less that of `less`."""

    text: str
    rows: str
    less: str
    predicted: float
    least: float

    @property
    def seeds(self) -> range:
        """The seeds that are judged."""
        return WORDS_SEEDS if self.rows in REMEDIES else NEGATIVES_SEEDS


def read_loose_claims(page: Path) -> list[LooseClaim]:
    """The claims of a page's table that begins with "| claim |"."""
    claims = []
    for text, rows, less, predicted, least in claim_lines(page):
        claims.append(LooseClaim(text, rows, less, float(predicted), float(least)))
    return claims


def remedy_by_seed(records: Sequence[dict], ending: str, name: str) -> dict[int, float]:
    """A figure's mean over three kinds of 40% spoilt captions, for each seed that has all three."""
    tables = [by_seed(records, f"{kind}40{ending}", name) for kind in SPOILT]
    seeds = set.intersection(*map(set, tables))
    return {seed: statistics.mean(table[seed] for table in tables) for seed in sorted(seeds)}


def term_by_seed(records: Sequence[dict], term: str, name: str) -> dict[int, float]:
    """A claim's row, or its remedy, by seed."""
    if term in REMEDIES:
        return remedy_by_seed(records, REMEDIES[term], name)
    return by_seed(records, term, name)


def effect_of(records: Sequence[dict], claim: LooseClaim, name: str = "retrieval") -> Effect | None:
    """A claim's differences by seed, with a 95% interval; None for fewer than two seeds."""
    more = term_by_seed(records, claim.rows, name)
    less = term_by_seed(records, claim.less, name)
    values = [more[seed] - less[seed] for seed in claim.seeds if seed in more and seed in less]
    return student_interval(values, 0.95)


def claims_table(records: Sequence[dict], claims: Iterable[LooseClaim]) -> str:
    """Claims with their intervals and verdicts, as Markdown."""
    lines = []
    for claim in claims:
        effect = effect_of(records, claim)
        cells = ["", "", "0", "not yet"]
        if effect:
            count = len(effect.values)
            complete = count == len(claim.seeds)
            cells = [f"{effect.mean:+.3f}", effect.interval(), f"{count} of {len(claim.seeds)}",
                     effect.verdict(claim.least) if complete else "not yet"]
        lines.append([claim.text, f"{claim.rows} − {claim.less}", f"{claim.predicted:+.2f}",
                      f"{claim.least:+.2f}", *cells])
    return table_of(["claim", "rows", "predicted", "worth having from", "found", "interval",
                     "seeds", "verdict"], lines)


def rows_table(records: Sequence[dict]) -> str:
    """Three figures of each remedy where 40% are spoilt, of three on clean captions, and of the two
    rows of negatives."""
    rows: list[tuple[str, Callable[[str], dict[int, float]], range]] = []
    for words, ending in (REMEDIES | KNOWN).items():
        rows.append((f"40% spoilt: {words}", partial(remedy_by_seed, records, ending), WORDS_SEEDS))
    for words, row in CLEAN.items():
        rows.append((f"clean: {words}", partial(by_seed, records, row), WORDS_SEEDS))
    for words, row in NEGATIVES.items():
        rows.append((f"clean: {words}", partial(by_seed, records, row), NEGATIVES_SEEDS))
    lines = []
    for words, values_of, seeds in rows:
        columns = []
        for name in SCORES:
            table = values_of(name)
            columns.append([table[seed] for seed in seeds if seed in table])
        if len(columns[0]) > 1:
            lines.append([words, len(columns[0]), *map(with_half, columns)])
    return table_of(["captions: remedy", "seeds", *SCORES], lines)


def read_all(folder: Path = HERE) -> list[dict]:
    """The ablation's records, then those of its loose ends: of a run in both the second counts."""
    return (read_records(folder / "ablation.jsonl")
            + read_records(folder / "ablation_loose.jsonl"))
