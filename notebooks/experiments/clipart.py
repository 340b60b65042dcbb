"""What the preset `clipart` finds, over seeds, with the shipped start and without.

`python notebooks/experiments/clipart.py`; 25 minutes on one core.
"""
import re
import shlex
import sys
from pathlib import Path

from learn import summarise
from minalbef import Run, load
from minalbef.cli.main import run_script
from minalbef.cli.train import Changes
from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from minalbef.evaluation.validation import BEST
from minalbef.recipes import launch
from minalbef.recipes.evaluate import evaluate
from minalbef.recipes.pretrain import settings
from minalbef.recipes.report import train_seconds
from minalbef.recipes.search import search_features
from minalbef.system.images import list_images
from minalbef.system.metrics import read_metrics
from results import flatten, write_json

OUT = Path(__file__).with_suffix(".json")
# queries of one word, of things that people draw
WORDS = ("dog cat bird fish horse car boat ship truck plane flower tree apple cake pizza house hat "
         "guitar ball sun moon cloud heart woman man smiley computer book map sign fruit animal "
         "food insect").split()
SHOWN = 5                             # answers to a query that are looked at
STARTS = {"the shipped start": ("--vit", "tiny/start"), "from scratch": ()}


def train(changes: tuple[str, ...], start: tuple[str, ...], seed: int, data: Path, run: Path
          ) -> None:
    """Train a run, unless it is finished."""
    words = ["pretrain", *changes, f"seed={seed}", "--preset", "clipart", "--data", str(data),
             *start, "--run", str(run), "--quiet"]
    status = launch.launch(words, 1)
    if status:
        raise SystemExit(status)


def measure(run: Path, data: Path) -> dict[str, float]:
    """The figures of a run's best weights, on the drawings of the test split."""
    report = evaluate(run / BEST, data)
    assert report is not None
    losses = [float(row["itm"]) for row in read_metrics(run) if row.get("itm")]
    figures = flatten({"test": report["test"]}) | ask(load(run / BEST), data)
    return figures | {"itm": sum(losses[-10:]) / 10, "seconds": train_seconds(run)}


def ask(run: Run, data: Path) -> dict[str, float]:
    """How many of WORDS find different test drawings first, and how many find one with the word."""
    captions: dict[Path, str] = {}
    for record in Records(data, "test"):
        captions[record.image.path.resolve()] = record.text
    folder = data.resolve() / "images" / "test"
    paths = [Path(path) for path in list_images(folder)]
    features = run.embed_images(paths)
    firsts = set()
    hits_of_words = queries = 0
    for word in WORDS:
        hits = search_features(run, word, paths, features, folder, SHOWN)
        firsts.add(hits[0].path)
        if any(names(word, caption) for caption in captions.values()):
            queries += 1
            hits_of_words += any(names(word, captions[hit.path.resolve()]) for hit in hits)
    return {"words.firsts": float(len(firsts)), "words.asked": float(queries),
            "words.found": float(hits_of_words)}


def names(word: str, caption: str) -> bool:
    """Whether a caption has the word, or its plural."""
    return re.search(rf"\b{word}s?\b", caption, re.I) is not None


def table(results: dict) -> str:
    """The table of docs/own_images.md: means over seeds, and from the lowest to the highest."""
    heads = [f"{name}, {len(rows)} seed{'s' * (len(rows) > 1)}"
             for name, rows in results["seeds"].items()]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    figures = results["figures"]
    for label, name, times, digits in ROWS:
        cells = []
        for start in figures:
            mean, low, high = (times * figures[start][name][part] for part in
                               ("mean", "low", "high"))
            span = f" ({low:.{digits}f} to {high:.{digits}f})" if low < high else ""
            cells.append(f"{mean:.{digits}f}{span}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


ROWS = (
    ("R@10, ITC, image to text", "test.itc_i2t_r10", 100, 1),
    ("R@10, ITC, text to image", "test.itc_t2i_r10", 100, 1),
    ("R@10, re-ranked by ITM and ITC, image to text", "test.rerank_plus_i2t_r10", 100, 1),
    ("R@10, re-ranked by ITM and ITC, text to image", "test.rerank_plus_t2i_r10", 100, 1),
    (f"of {len(WORDS)} words, different first answers", "words.firsts", 1, 0),
    ("words that find one among their first 5", "words.found", 1, 0),
    ("ITM's loss at the end of training (guessing: 0.637)", "itm", 1, 2),
    ("minutes of training", "seconds", 1 / 60, 1),
)


def main(changes: Changes = (), /, seeds: int = 3, run: Path = Path("runs/clipart"),
         out: Path = OUT) -> None:
    """Train with the shipped start and from scratch, and write the figures.

    Args:
        changes: options of the preset to change
        seeds: how many with the shipped start, from 0; from scratch it's one
        run: the folder for the set and the runs; finished ones are not trained again
        out: the file of figures to write
    """
    data = run / "prepared" / "clipart"
    if not data.exists():
        prepare("clipart", out=data.parent)
    settings("clipart", changes, [data])             # refuse a wrong option before anything starts
    rows_of: dict[str, list[dict[str, float]]] = {}
    for name, start in STARTS.items():
        rows_of[name] = []
        for seed in range(seeds if start else 1):
            folder = run / f"{name.split()[-1]}-{seed}"
            train(changes, start, seed, data, folder)
            rows_of[name].append(measure(folder, data))
    facts = evaluate(folder / BEST, data)
    assert facts is not None
    results = {
        "command": shlex.join(["python", *sys.argv]),
        "date": facts["date"], "device": facts["device"], "commit": facts["commit"],
        "figures": {name: summarise(rows) for name, rows in rows_of.items()},
        "seeds": rows_of,
    }
    write_json(out, results)
    print(table(results))


if __name__ == "__main__":
    run_script(main)
