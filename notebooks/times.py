"""How long the chapters take, counted: `python notebooks/times.py` prints the table, `--write` puts it where it's told.

That is docs/course.md, and the header of each chapter. Call it after a change of a chapter; a test compares.
A minute reads 200 words or ten lines of code. What is folded isn't counted: answers, hints, and code that only draws.
Each blank names its own minutes. A run is CPU seconds, which execute.py measures when it runs a chapter, and keeps in
the chapter's metadata. `--measure FILE ...` runs chapters for that alone, and saves no output: take OMP_NUM_THREADS=1.
"""
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "course.md"
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 10
NUMBERS = {3: "three", 6: "six"}
HEADER = re.compile(r"(\*\*Time:\*\*|\*\*It takes\*\*|\*It takes\*)\s+(.*?)(?=\.\s|\.$)", re.S)


class Counts(NamedTuple):
    """Of a chapter: what is visible, its blanks and their minutes, and the CPU seconds of a run that was measured."""

    words: int
    lines: int
    blanks: int
    blank_minutes: int
    cpu_seconds: int | None


def chapters() -> list[Path]:
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def read(chapter: Path) -> dict:
    return json.loads(chapter.read_text(encoding="utf-8"))


def visible_words(markdown: str) -> int:
    """Words without what is folded (its title counts), addresses of links and tags."""
    text = re.sub(r"<details>\s*<summary>(.*?)</summary>.*?</details>", r"\1", markdown, flags=re.S)
    text = re.sub(r"\]\([^)\s]*\)|<[^>]*>", " ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def visible_lines(cell: dict) -> int:
    """Lines of code without empty ones; none of a cell that JupyterLab opens folded."""
    if cell["metadata"].get("jupyter", {}).get("source_hidden"):
        return 0
    return sum(bool(line.strip()) for line in cell["source"])


def blank_minutes(markdown: str) -> list[int]:
    """The minutes that each blank names, as in "(easy, 4 minutes)"."""
    blanks = re.findall(r"^### Blank.*?(?=^##|\Z)", markdown, re.M | re.S)
    named = [re.search(r"\((?:easy|medium|hard),\s+(\d+)\s+minutes?\)", blank) for blank in blanks]
    if None in named:
        raise ValueError(f"a blank must name its minutes, as in (easy, 4 minutes): {blanks[named.index(None)][:60]!r}")
    return [int(minutes[1]) for minutes in named]


def count(notebook: dict) -> Counts:
    markdown = "\n\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    lines = sum(visible_lines(cell) for cell in notebook["cells"] if cell["cell_type"] == "code")
    minutes = blank_minutes(markdown)
    return Counts(visible_words(markdown), lines, len(minutes), sum(minutes), notebook["metadata"].get("cpu_seconds"))


def to_five(minutes: float) -> int:
    return 5 * max(1, round(minutes / 5))


def minutes_to_read(counts: Counts) -> int:
    return to_five(counts.words / WORDS_A_MINUTE + counts.lines / LINES_A_MINUTE)


def run_in_words(cpu_seconds: int) -> str:
    minutes = round(cpu_seconds / 60)
    return "under a minute" if cpu_seconds < 50 else f"about {'a minute' if minutes == 1 else f'{minutes} minutes'}"


def in_words(counts: Counts, before: str) -> str:
    """A header's sentence of times; of a run that wasn't measured, its words as they were before."""
    found = re.search(r"((?:about |under |half )*\w+ minutes? to run)(,? on [^,;]*)?", " ".join(before.split()))
    if not found:
        raise ValueError(f"{before!r} must say how long a run takes, as in `a minute to run on a CPU`")
    run = found[1] + (found[2] or "").removeprefix(",")
    if counts.cpu_seconds:
        run = f"{run_in_words(counts.cpu_seconds)} to run on one CPU core"
    if not counts.blanks:
        return f"{run}, and {minutes_to_read(counts)} minutes to read"
    return (f"{run}, {minutes_to_read(counts)} minutes to read, and {to_five(counts.blank_minutes)} for its "
            f"{NUMBERS.get(counts.blanks, counts.blanks)} blanks")


def with_header(markdown: str, counts: Counts) -> str:
    """A chapter's first cell with the counted times, its paragraph or list item wrapped again."""
    found = HEADER.search(markdown)
    if not found:
        raise ValueError(f"{markdown[:40]!r} must say its time: `- **Time:** a minute to run on a CPU.`")
    text = markdown[:found.start(2)] + in_words(counts, found[2]) + markdown[found.end(2):]
    start = max(text.rfind(mark, 0, found.start() + 1) + skip for mark, skip in (("\n\n", 2), ("\n- ", 1)))
    end = min(text.find(mark, found.start()) % (len(text) + 1) for mark in ("\n\n", "\n- "))     # or the end
    indent = "  " if text[start:].startswith("- ") else ""
    block = textwrap.fill(" ".join(text[start:end].split()), 100, subsequent_indent=indent,
                          break_long_words=False, break_on_hyphens=False)
    return text[:start] + block + text[end:]


def table() -> str:
    """The chapters' counts in Markdown."""
    lines = ["| chapter | words | lines of code | blanks | minutes to read | for its blanks | CPU seconds to run |",
             "|---|---|---|---|---|---|---|"]
    for chapter in chapters():
        notebook = read(chapter)
        counts, title = count(notebook), "".join(notebook["cells"][0]["source"]).partition("\n")[0]
        short = title.removeprefix("# ").partition(":")[0].replace(" · ", " ")
        cells = (f"[{short}](../notebooks/{chapter.name})", f"{counts.words:,}", counts.lines, counts.blanks,
                 minutes_to_read(counts), counts.blank_minutes, counts.cpu_seconds or "not measured")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    return re.sub(r"^\| chapter \| words .*?(?=\n\n)", lambda _: table(), page, flags=re.M | re.S)


def save(chapter: Path, notebook: dict) -> None:
    """Write a notebook as nbformat does, so that only what has changed differs."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
    chapter.write_text(f"{text}\n", encoding="utf-8")


def write() -> None:
    for chapter in chapters():
        notebook = read(chapter)
        first = notebook["cells"][0]
        first["source"] = with_header("".join(first["source"]), count(notebook)).splitlines(keepends=True)
        save(chapter, notebook)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def measure(names: list[str]) -> None:
    import execute  # needs nbclient, which counting does without
    for name in names:
        chapter = Path(name)
        _, seconds = execute.run(chapter)
        notebook = read(chapter)
        notebook["metadata"]["cpu_seconds"] = seconds
        save(chapter, notebook)
        print(f"{chapter.name}: {seconds} CPU seconds", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2:])
    elif sys.argv[1:] == ["--write"]:
        write()
    print(table())
