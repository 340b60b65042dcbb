"""The paper's Table 1 beside ours: the tables of reports/ablation_table1.md.

From table1.jsonl, by the rules of registered_table1.md.
"""
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from effects import by_seed, half_width
from results import table_of

HERE = Path(__file__).parent
CLAIMS = HERE / "registered_table1.md"
# our row -> what it adds
STEPS = {
    "itm-mlm": "MLM + ITM",
    "itc": "+ ITC",
    "hard": "+ hard negatives",
    "distil-itc": "+ distillation in ITC",
    "distil": "+ distillation in MLM",
    "distil@distilled": "+ distillation in fine-tuning",
}
RETRIEVAL = ("text retrieval", "image retrieval")
COLUMNS = (*RETRIEVAL, "entailment", "nlvr2", "vqa")                     # of the paper
TITLES = {"nlvr2": "NLVR2", "vqa": "VQA"}
# the paper's Table 1: retrieval on Flickr30k, the mean of R@1, 5 and 10; then SNLI-VE, NLVR2, VQA.
# Of our notes: they weren't checked against the paper
PAPER = {
    "itm-mlm": (93.96, 88.55, 77.06, 77.51, 71.40),
    "itc": (96.55, 91.69, 79.15, 79.88, 73.29),
    "hard": (97.01, 92.16, 79.77, 80.35, 73.81),
    "distil-itc": (97.33, 92.43, 79.99, 80.34, 74.06),
    "distil": (97.47, 92.58, 80.12, 80.44, 74.42),
    "distil@distilled": (97.83, 92.65, 80.30, 80.50, 74.54),
}


def retrieval_by_seed(records: Sequence[dict], row: str, name: str) -> dict[int, float]:
    """R@1 of 300, re-ranked: of texts by image, or of images by text.

    Fine-tuning doesn't move the pretrained model's retrieval, so row@distilled has none.
    """
    figures = {}
    for record in records:
        if record["row"] == row and "outcomes" in record:
            digits = record["outcomes"]["both"]
            half = len(digits) // 2            # all images are asked first, then all texts
            part = digits[:half] if name == RETRIEVAL[0] else digits[half:]
            figures[record["seed"]] = statistics.mean(map(int, part)) / 9
    return figures


def figure_by_seed(records: Sequence[dict], row: str, name: str) -> dict[int, float]:
    """A row's retrieval, or its figure of effects.py, by seed; empty where it wasn't asked."""
    if name in RETRIEVAL:
        return retrieval_by_seed(records, row, name)
    return by_seed(records, row, name)


def rows_table(records: Sequence[dict]) -> str:
    """Our rows, means over seeds, as Markdown."""
    names = (*COLUMNS, "grounding", "tasks")
    lines = []
    for row, step in STEPS.items():
        means = []
        for name in names:
            figures = figure_by_seed(records, row, name)
            means.append(f"{statistics.mean(figures.values()):.2f}" if figures else "")
        lines.append([step, len(figures), *means])
    return table_of(["row", "seeds", *(TITLES.get(name, name) for name in names)], lines)


def steps_table(records: Sequence[dict]) -> str:
    """What each step adds to the row above, in points: ours by seed, then the paper's."""
    lines = []
    for above, row in pairwise(STEPS):
        cells = []
        for place, name in enumerate(COLUMNS):
            more, less = (figure_by_seed(records, each, name) for each in (row, above))
            gains = [100 * (more[seed] - less[seed]) for seed in more.keys() & less.keys()]
            gain_words = "–"
            if len(gains) > 1:
                gain_words = f"{statistics.mean(gains):+.1f} ± {half_width(gains):.1f}"
            cells.append(f"{gain_words}; {PAPER[row][place] - PAPER[above][place]:+.2f}")
        lines.append([STEPS[row], *cells])
    titles = [f"{TITLES.get(name, name)}: ours; paper" for name in COLUMNS]
    return table_of(["step", *titles], lines)
