"""docs/losses.md: every figure is that of the shipped metrics, of the formulas, or what `doctor` says."""
import json
import math
import re
from pathlib import Path
from statistics import fmean

import pytest

from minalbef import checkpoint
from minalbef.evaluation.validation import TABLE
from minalbef.metrics import read_numbers
from minalbef.presets import preset
from minalbef.recipes import doctor
from minalbef.recipes.report import GUESSING

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
ROWS = read_numbers(checkpoint.run_folder("tiny") / "metrics.csv")


def experiment(name: str) -> dict:
    return json.loads((ROOT / "notebooks" / "experiments" / name).read_text(encoding="utf-8"))


def mean(rows: list[dict], first: int, last: int, name: str) -> float | None:
    """A loss between two steps; None where it isn't trained."""
    values = [row[name] for row in rows if first <= row["step"] <= last and name in row]
    return fmean(values) if values else None


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, as cells."""
    lines = PAGE.partition(f"## {heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def steps(cell: str) -> tuple[int, int]:
    first, last = cell.replace(",", "").split(" to ")
    return int(first), int(last)


def test_the_course_of_tiny_is_that_of_its_metrics():
    rows = table("A run that learns")
    assert len(rows) == 12 and ROWS[-1]["step"] == 1900 == steps(rows[-1][0])[1]
    for cell, _, *figures in rows:
        found = [mean(ROWS, *steps(cell), name) for name in ("itc", "itm", "mlm", "siblings")]
        assert figures == ["" if value is None else f"{value:.2f}" for value in found], cell


def test_the_words_of_that_table_are_its_presets_phases():
    config = preset("tiny")
    begins = {words: steps(cell)[0] for cell, words, *_ in reversed(table("A run that learns"))}
    for field, words in (("match_from", "ITM and MLM begin, with even negatives"),
                         ("hard_from", "hard negatives begin"),
                         ("lesson_from", "the queue, 320 keys; lesson in relations"),
                         ("siblings_from", "minimal pairs of the first kinds"),
                         ("more_kinds_from", "minimal pairs of all kinds")):
        assert begins[words] - 10 <= config.step_of(getattr(config, field)) < begins[words] + 10, words
    assert config.queue_from == config.lesson_from and config.queue_size + config.batch == 320


def test_the_jumps_and_the_plateaus_are_those_of_the_table():
    cells = {row[0]: row[2:] for row in table("A run that learns")}
    assert (f"ITM from {cells['141 to 150'][1]} to {cells['151 to 160'][1]} with hard negatives, ITC from "
            f"{cells['231 to 240'][0]} to {cells['251 to 320'][0]} with the queue, minimal pairs from "
            f"{cells['481 to 640'][3]} to {cells['651 to 800'][3]} with new kinds") in TEXT
    lesson, kinds = mean(ROWS, 241, 400, "itm"), mean(ROWS, 661, 720, "itm")
    assert 0.9 * GUESSING < min(lesson, kinds) and max(lesson, kinds) < GUESSING
    assert f"({lesson:.2f} in steps 241 to 400, {kinds:.2f} in 661 to 720)" in TEXT
    tenths = [mean(ROWS, first, first + 99, "itm") for first in range(801, 1900, 100)]
    assert max(tenths) < 0.5 and "leaves it again: for good after 800 steps" in TEXT
    assert mean(ROWS, 251, 380, "siblings") == pytest.approx(math.log(2), abs=0.03)
    assert mean(ROWS, 381, 480, "siblings") > 2 * mean(ROWS, 481, 580, "siblings")


def test_levels_of_guessing_are_their_formulas():
    words = checkpoint.read_run("tiny")[0].vocab_size
    assert GUESSING == pytest.approx(math.log(3) / 3 + 2 * math.log(1.5) / 3)
    paper = preset("paper-4m")
    keys = paper.batch + paper.queue_size
    for text in (f"{math.log(64):.2f} for 64; {math.log(320):.2f} for `tiny`'s 320; {math.log(keys):.2f} for the "
                 f"paper's {keys:,}", f"| {GUESSING:.3f}: one pair in three is true",
                 f"{math.log(words):.2f} for `tiny`'s {words}; {math.log(30_522):.2f} for BERT's 30,522",
                 f"ln 2 = {math.log(2):.3f}"):
        assert text in TEXT
    assert ROWS[0]["itc"] > math.log(64) and f"the temperature, {preset('tiny').temperature}." in TEXT


def test_relations_stand_at_ln_2_as_in_the_trials_of_the_lesson():
    lessons = experiment("relations.json")["lessons"]
    loss = {name: {row["step"]: row["loss"] for row in rows} for name, rows in lessons.items()}
    assert len(loss) == 5 and sum(f"{trial[150]:.2f}" == "0.70" for trial in loss.values()) == 4
    learn = [trial for trial in loss.values() if trial[350] < 0.6]
    at = {step: sorted((f"{trial[step]:.2f}" for trial in learn), reverse=True) for step in (300, 350)}
    def listed(values: list[str]) -> str:
        return f"{values[0]}, {values[1]} and {values[2]}"
    assert len(learn) == 3 and f"it is {listed(at[300])} after 300 and {listed(at[350])} after 350" in TEXT


def test_the_collapsed_run_is_as_it_was_measured():
    found = experiment("collapsed.json")
    for cell, *figures in table("A run that doesn't: ITC collapsed"):
        itc, itm, mlm = (mean(found["rows"], *steps(cell), name) for name in ("itc", "itm", "mlm"))
        assert figures == [f"{itc:.2f}", f"{itm:.3f}", f"{mlm:.2f}"], cell
    search = found["search"]
    assert (f"{search['texts']} captions find {search['firsts']} different images first, of {search['images']}, one "
            f"of them for {search['favourite']:.0%} of the captions") in TEXT
    assert found["command"].removesuffix(" --run runs/collapsed") in TEXT
    assert f"{found['cpu_seconds']} CPU seconds" in TEXT and found["date"][:10] in TEXT
    assert search["firsts"] <= doctor.COLLAPSED * search["images"], "the doctor calls it collapsed"


def test_of_the_shipped_model_and_its_start_doctor_says_what_the_page_says():
    tiny, start = (doctor.examine(run) for run in ("tiny", checkpoint.run_folder("tiny") / "start"))
    assert not tiny.findings
    says = r"where `tiny` finds (\d+). Before any training on captions, it's (\d+) "
    printed, before = re.search(says, TEXT).groups()
    firsts = [int(re.search(r"find ([\d,]+) different", run.notes[-1])[1]) for run in (tiny, start)]
    assert firsts == [pytest.approx(int(printed), abs=3), int(before)], "another processor rounds otherwise"


def test_the_bounds_of_findings_are_doctors():
    assert doctor.COLLAPSED == 0.2 and "fewer than a fifth of what they could be" in TEXT
    assert doctor.UNKNOWN == 0.001 and doctor.UNUSUAL == 0.02
    assert "[UNK] in 1 word of 1,000; 2% of the captions" in TEXT and TABLE in PAGE
