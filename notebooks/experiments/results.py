"""Results as files: nested figures as one level, JSON, and tables in Markdown pages."""
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from minalbef.system.checkpoint import write_atomically

MARKS = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end of \2 -->)", re.S)
NO_FIGURES = ("config", "intervals", "versions", "counts")


def flatten(report: dict) -> dict[str, float]:
    """Nested figures as one level: {"plain": {"oracle_r1": .9}} -> {"plain.oracle_r1": .9}.

    Words, and the parts named in NO_FIGURES, are left out.
    """
    figures = {}
    for name, value in report.items():
        if isinstance(value, dict) and name not in NO_FIGURES:
            for inner, number in flatten(value).items():
                figures[f"{name}.{inner}"] = number
        elif isinstance(value, float):
            figures[name] = value
    return figures


def write_json(path: Path, results: dict | list) -> None:
    """Write results as JSON, atomically: a reader finds the old file or the new one."""
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def joined(values: Iterable[float], form: str = ".2f", between: str = " ") -> str:
    """Figures in a cell of a table."""
    return between.join(format(value, form) for value in values)


def line_of(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def table_of(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [line_of(*head), f"|{'---|' * len(head)}"]
    lines += [line_of(*row) for row in rows]
    return "\n".join(lines)


def write_tables(page: Path, **tables: str) -> None:
    """Put tables where a page has the lines <!-- NAME --> and <!-- end of NAME -->.

    Raises ValueError for a page that lacks the place of one of them.
    """
    text = page.read_text(encoding="utf-8")
    places = {name for _, name, _ in MARKS.findall(text)}
    for name in tables:
        if name not in places:
            raise ValueError(f"{page} has no place for a table: add the lines <!-- {name} --> and "
                             f"<!-- end of {name} -->")

    def replace(place: re.Match) -> str:
        start, name, end = place.groups()
        if name not in tables:
            return place[0]
        return f"{start}{tables[name]}\n{end}"

    text = MARKS.sub(replace, text)
    write_atomically(page, lambda draft: draft.write_text(text, encoding="utf-8"))
