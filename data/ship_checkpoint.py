"""Copy a finished run into data/tiny, the checkpoint that ships with the package, and write its model card."""
import shutil
import sys
from pathlib import Path

from PIL import Image

from emojiscenes.language import Object, Scene
from emojiscenes.scenes import paint
from minalbef import load
from minalbef.recipes import report, search
from minalbef.scenes import tables

SENTENCE = "a big rocket on a blue background"           # the README's
EXAMPLE = Scene((Object("rocket", 0.6, 0.45, 0.42, "noto"),), "blue")
FILES = ("config.json", "tokenizer.json", "model.safetensors", "report.json", "metrics.csv")


def evaluation(facts: dict) -> str:
    """The command that gives a report's figures again: they depend on the seed of the test scenes."""
    return f"minalbef evaluate tiny --seed {facts['scenes_seed']}"


def card(facts: dict, summary: str) -> str:
    """The model card, all of it out of the run's report."""
    return f"""# Model card: tiny

A small ALBEF, trained on emoji scenes by the command below; it ships so that notebooks and searches have a model.

| | |
|---|---|
| trained and evaluated by | `{facts["command"]}` |
| seed of training | {facts["seed"]} |
| figures below, again | `{evaluation(facts)}` |
| commit | {facts["commit"]} |
| date | {facts["date"]} |
| hardware | {facts["device"]} |
| seconds | {", ".join(f"{name.replace('_', ' ')} {value:.0f}" for name, value in facts["seconds"].items())} |

```
{summary}
```

## Figures, on scenes it never saw

```
{tables.summary_table(facts)}
```

## Meant for, and not

For learning how such models work. It has seen some 50 kinds of emoji on plain backgrounds and a grammar of
a hundred-odd words: it knows nothing of photographs, of other words, or of people. The drawings have licences of their
own, see ../emoji/LICENCES.md; the weights are under the project's MIT licence.
"""


def main(run: Path):
    """Ship the run folder `run`."""
    target, facts, model = Path(__file__).parent / "tiny", report.read_report(run), load(run)
    target.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(run / name, target / name)
    shutil.copytree(run / "start", target / "start", dirs_exist_ok=True)
    Image.fromarray(paint(EXAMPLE, 96)).save(target / "example.png")
    search.figure(SENTENCE, search.search(model, SENTENCE)).save(target / "search.png")
    model.path = Path("data/tiny")
    (target / "README.md").write_text(card(facts, model.summary()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
