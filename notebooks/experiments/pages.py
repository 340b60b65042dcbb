"""Write the tables of all pages from what was measured: `python notebooks/experiments/pages.py`.

Takes seconds and trains nothing. Call it after a script has measured anew; a table stands where its
page has the lines <!-- NAME --> and <!-- end of NAME -->.
"""
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ablation_tables
import circuit
import circuit_failures
import circuit_training
import clipart
import closeup
import columns
import curve_tables
import effects
import learn_table
import lesson_tables
import loose
import missed
import stress
import table1
from ablate_records import read_records
from minalbef.cli.main import run_script
from minalbef.evaluation import choices
from minalbef.scenes.tables import task_table
from results import write_tables

HERE = Path(__file__).parent
Tables = dict[str, str]               # by the name of their place
# the second recipe with and without minimal pairs: reports/minimal_pairs.md
RECIPES = {
    "the paper's objectives alone": "second/learn_paper.json",
    "4,800 minimal pairs, repeated": "second/learn_pairs.json",
    "minimal pairs, never repeated": "second/learn.json",
}


def read(name: str) -> Any:
    """A file of results."""
    return json.loads((HERE / name).read_text(encoding="utf-8"))


@cache
def ablation_records() -> list[dict]:
    """The records of the ablation."""
    return read_records(HERE / "ablation.jsonl")


def ablation() -> Tables:
    claims = effects.read_claims(effects.CLAIMS)
    return {"claims": effects.claims_table(ablation_records(), claims)}


def ablation_rows() -> Tables:
    records = ablation_records()
    count = len(effects.read_claims(effects.CLAIMS))
    return {
        "rows": effects.rows_table(records),
        "beside": effects.unregistered_table(records, count),
    }


def ablation_spoilt() -> Tables:
    records = ablation_records()
    return {
        "spoilt": ablation_tables.spoilt_table(records),
        "remedies": ablation_tables.remedies_table(records),
        "beliefs": ablation_tables.beliefs_table(records),
    }


def ablation_sweeps() -> Tables:
    records = ablation_records()
    return {
        "sweeps": ablation_tables.sweeps_table(records),
        "kinds": ablation_tables.kinds_table(records),
        "options": ablation_tables.options_table(records),
    }


def ablation_choices() -> Tables:
    sweeps = read("sweeps.json")
    return {
        "rerank": ablation_tables.rerank_table(sweeps["rerank"]),
        "layer": ablation_tables.layer_table(sweeps["layer"]),
        "sharing": ablation_tables.sharing_table(read("sharing.json")["runs"]),
    }


def ablation_loose() -> Tables:
    records = loose.read_all()
    claims = loose.read_loose_claims(HERE / "registered_loose.md")
    return {
        "loose": loose.claims_table(records, claims),
        "loose_rows": loose.rows_table(records),
    }


def ablation_table1() -> Tables:
    records = read_records(HERE / "table1.jsonl")
    claims = effects.read_claims(table1.CLAIMS)
    return {
        "table1_claims": effects.claims_table(records, claims),
        "table1_steps": table1.steps_table(records),
        "table1": table1.rows_table(records),
    }


def circuits() -> Tables:
    return {
        "circuit": circuit.table(read("circuit.json")["models"]),
        "circuit_again": circuit.table(read("circuit_again.json")["models"]),
        "failures": circuit_failures.table(read("circuit_failures.json")["models"]),
    }


def curves() -> Tables:
    return {
        "curves": curve_tables.curves_table(),
        "ends": curve_tables.ends_table(),
        "forecast": curve_tables.forecast_table(read("forecast.json")),
    }


def lesson() -> Tables:
    runs = read("lesson.json")
    return {
        "claims": lesson_tables.claims_table(runs),
        "lengths": lesson_tables.lengths_table(runs),
        "toy": lesson_tables.toy_table(read("lesson_toy.json")),
    }


def minimal_pairs() -> Tables:
    recipes = {title: read(name) for title, name in RECIPES.items()}
    return {"recipes": learn_table.comparison(recipes)}


def results() -> Tables:
    records = [columns.read(name) for name in ("today", "learn", "learn_paper")]
    return {
        "learn": learn_table.table(read("learn.json")),
        "columns": columns.table(records),
    }


def own_pairs() -> Tables:
    """Of kinds of change the group score alone; text and image scores over all kinds."""
    table = choices.table(read("pairs.json")).split("\n\n")[1]
    lines = [line for line in table.split("\n") if not re.match(r"\| (text|image) \w+ \|", line)]
    return {"pairs": "\n".join(lines)}


def speed_board() -> Tables:
    records = [columns.read(name) for name in ("today", "third", "third-again", "in-batch")]
    return {"columns": columns.table(records)}


def tried() -> Tables:
    before, now = (columns.read(name)["figures"] for name in ("today", "learn"))
    return {"missed": missed.table(before, now)}


# page -> its tables
PAGES: dict[str, Callable[[], Tables]] = {
    "reports/ablation.md": ablation,
    "reports/ablation_choices.md": ablation_choices,
    "reports/ablation_loose.md": ablation_loose,
    "reports/ablation_rows.md": ablation_rows,
    "reports/ablation_spoilt.md": ablation_spoilt,
    "reports/ablation_sweeps.md": ablation_sweeps,
    "reports/ablation_table1.md": ablation_table1,
    "reports/circuit.md": circuits,
    "reports/circuit_training.md":
        lambda: {"training": circuit_training.table(read("circuit_training.json"))},
    "reports/curves.md": curves,
    "reports/lesson.md": lesson,
    "reports/minimal_pairs.md": minimal_pairs,
    "reports/relations.md": lambda: closeup.tables(read("closeup.json")),
    "reports/stress.md": lambda: {"stress": stress.table(read("stress.json")["questions"])},
    "speed/README.md": speed_board,
    "tried.md": tried,
    "../../docs/choices.md": own_pairs,
    "../../docs/own_images.md": lambda: {"clipart": clipart.table(read("clipart.json"))},
    "../../docs/results.md": results,
    "../../docs/tasks.md": lambda: {"tasks": task_table(read("tasks.json"))},
}


def main() -> None:
    """Write the tables of all pages from what was measured."""
    for name, tables in PAGES.items():
        write_tables(HERE / name, **tables())


if __name__ == "__main__":
    run_script(main)
