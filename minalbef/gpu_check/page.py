"""gpu_check.html: one file, in the style of a run's page."""
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minalbef.gpu_check.parts import PARTS, Part, Result
from minalbef.viz.page import make_engine
from minalbef.writing import write_atomically


class Table(NamedTuple):
    """Rows of figures by column; not every row has them all."""

    name: str
    columns: list[str]
    rows: list[dict]


class Section(NamedTuple):
    """What the page shows of a part."""

    part: Part
    result: Result
    tables: list[Table]
    rest: str                         # JSON


def write_page(path: Path, report: Mapping[str, Any], results: Mapping[str, Result]) -> None:
    """Write the page of a report as run.write_results makes it."""
    sections = []
    for part in PARTS:
        if part.name in results:
            sections.append(make_section(part, results[part.name]))
    engine = make_engine(Path(__file__).parent)
    text = engine.get_template("page.html").render(report=report, sections=sections,
                                                   count=len(PARTS))
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


def make_section(part: Part, result: Result) -> Section:
    """Sort a part's details into tables and the rest."""
    tables = []
    rest = {}
    for name, value in result.details.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            columns: dict[str, None] = {}        # in the order of their first row
            for row in value:
                columns |= dict.fromkeys(row)
            tables.append(Table(name, list(columns), value))
        else:
            rest[name] = value
    return Section(part, result, tables, json.dumps(rest, indent=1) if rest else "")
