"""Results as files: nested figures as one level, JSON beside a script, tables in pages."""
import json
import re
from pathlib import Path

from minalbef.checkpoint import write_atomically

MARKS = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end of \2 -->)", re.S)


def flatten(figures: dict, skip: tuple[str, ...] = ("config", "intervals", "versions", "counts")) -> dict[str, float]:
    """Nested figures as one level: {"plain": {"oracle_r1": .9}} -> {"plain.oracle_r1": .9}. Words are left out."""
    flat = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in skip:
            flat |= {f"{name}.{inner}": x for inner, x in flatten(value, skip).items()}
        elif isinstance(value, float):
            flat[name] = value
    return flat


def write_json(path: Path, results: dict | list) -> None:
    """Write results as JSON, so that a reader finds the old file or the new one, never a part."""
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def write_tables(page: Path, **tables: str) -> None:
    """Put the tables where a page has <!-- NAME --> and <!-- end of NAME -->. Raises ValueError if it has none."""
    text = page.read_text(encoding="utf-8")
    if tables.keys().isdisjoint(name for _, name, _ in MARKS.findall(text)):
        places = " or ".join(f"<!-- {name} --> and <!-- end of {name} -->" for name in tables)
        raise ValueError(f"{page} has no place for a table: add the lines {places}")
    text = MARKS.sub(lambda at: f"{at[1]}{tables[at[2]]}\n{at[3]}" if at[2] in tables else at[0], text)
    write_atomically(page, lambda path: path.write_text(text, encoding="utf-8"))
