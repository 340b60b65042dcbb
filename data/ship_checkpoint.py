"""Copy a finished run into data/tiny, the checkpoint that ships, and write its model card.

`python data/ship_checkpoint.py runs/demo`. With `--add runs/tiny/evaluation` the shipped report and
its card get the figures that an evaluation of the shipped model has and they lack; none changes.
"""
import argparse
import json
import shutil
from pathlib import Path

from PIL import Image

from emojiscenes.grammar import phrase
from emojiscenes.language import Noun, Object, Scene, There, holds
from emojiscenes.scenes import paint
from minalbef import Run, load
from minalbef.recipes import report, search
from minalbef.scenes import tables
from minalbef.viz.plots import Plot

QUERY = Noun("rocket", size="big", place="right")        # the README's first figure
EXAMPLE = Scene((Object("rocket", 0.6, 0.45, 0.42, "noto"),), "blue")
TINY = Path(__file__).parent / "tiny"
FILES = ("config.json", "tokenizer.json", "model.safetensors", "report.json", "metrics.csv")


def evaluation(facts: dict) -> str:
    """The command that repeats a report's figures, with the seed of its test scenes."""
    return f"minalbef evaluate tiny --seed {facts['scenes_seed']}"


def added_rows(facts: dict) -> str:
    """The card's rows on figures that were measured later than the others."""
    rows = ""
    for name, about in facts.get("added", {}).items():
        place = f"commit {about['commit']}, {about['date']}, {about['device']}"
        rows += f"| figures of the {name} test, added later | `{about['command']}`, {place} |\n"
    return rows


def card(facts: dict, summary: str) -> str:
    """The model card, all of it out of the run's report."""
    seconds = [f"{step.replace('_', ' ')} {value:.0f}" for step, value in facts["seconds"].items()]
    return f"""# Model card: tiny

A small ALBEF, trained on emoji scenes by the command below; it ships so that notebooks and searches
have a model.

| | |
|---|---|
| trained and evaluated by | `{facts["command"]}` |
| seed of training | {facts["seed"]} |
| figures below, again | `{evaluation(facts)}` |
| commit | {facts["commit"]} |
| date | {facts["date"]} |
| hardware | {facts["device"]} |
| seconds | {", ".join(seconds)} |
{added_rows(facts)}
```
{summary}
```

## Figures, on scenes it never saw

```
{tables.summary_table(facts)}
```

## Meant for, and not

For learning how such models work. It has seen some 50 kinds of emoji on plain backgrounds and a
grammar of a hundred-odd words: it knows nothing of photographs, of other words, or of people. The
drawings have [licences](../emojiscenes/artwork/LICENCES.md) of their own; the weights are under the
project's MIT licence.
"""


def add_figures(shipped: dict, newer: dict) -> dict:
    """A report with the figures that a newer one has and it lacks; all others stay as they are.

    "added" says of each how it was measured. Raises ValueError for an evaluation of other scenes.
    """
    seed = shipped.get("scenes_seed", shipped.get("exam_seed"))
    if newer["scenes_seed"] != seed:
        raise ValueError(f"the newer evaluation has seed {newer['scenes_seed']}, not {seed}: "
                         f"`minalbef evaluate tiny --seed {seed}`")
    whole = {**shipped, "added": dict(shipped.get("added", {}))}
    for name in newer["intervals"]:
        if name in shipped["intervals"]:
            continue
        whole[name] = newer[name]
        whole["added"][name] = {key: newer[key] for key in ("command", "commit", "date", "device")}
        for part in ("intervals", "counts"):
            whole[part] = {**whole[part], name: newer[part][name]}
    return whole


def write_card(model: Run) -> None:
    """Write the card of the shipped model from its report."""
    model.path = Path("data/tiny")
    text = card(report.read_report(TINY), model.summary())
    (TINY / "README.md").write_text(text, encoding="utf-8")


def search_for_query(model: Run) -> tuple[list[search.Hit], list[bool]]:
    """The best scenes for QUERY, and whether it is true of each."""
    hits = search.search(model, phrase(QUERY))
    scenes = [hit.example.scene for hit in hits if hit.example]
    return hits, [holds(There(QUERY), scene) is True for scene in scenes]


def draw_search(model: Run) -> Plot:
    """The README's first figure. Prints the sentence that the README needs below it."""
    hits, true = search_for_query(model)
    print(f"below README's first figure: {describe_search(true)}")
    return search.figure(phrase(QUERY), hits, true)


def describe_search(true: list[bool]) -> str:
    """How many of the best scenes are right, as the README says it."""
    return f"{sum(true)} of the best {len(true)} of 2,000 unseen scenes are right (green)"


def ship(run: Path) -> None:
    """Ship the run folder `run`."""
    model = load(run)
    TINY.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(run / name, TINY / name)
    shutil.copytree(run / "start", TINY / "start", dirs_exist_ok=True)
    Image.fromarray(paint(EXAMPLE, 96)).save(TINY / "example.png")
    draw_search(model).save(TINY / "search.png")
    write_card(model)


def add(folder: Path) -> None:
    """Add what the report in `folder` has, and the shipped one lacks, to it and to the card."""
    path = TINY / "report.json"
    shipped = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(add_figures(shipped, report.read_report(folder)), indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    write_card(load(TINY))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--add", action="store_true")
    given = parser.parse_args()
    if given.add:
        add(given.run)
    else:
        ship(given.run)
