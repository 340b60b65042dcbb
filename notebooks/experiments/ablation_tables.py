"""The tables of reports/ablation_spoilt.md, ablation_sweeps.md and ablation_choices.md.

From ablation.jsonl, sweeps.json and sharing.json, which other scripts of this folder wrote.
"""
import statistics
from collections.abc import Sequence
from operator import sub

import numpy as np

from effects import by_seed, half_width
from results import joined, table_of

SPOILT = {"wrong": "one thing wrong", "missing": "words missing", "foreign": "another scene's"}
PERCENT = (20, 40)
# how the names of rows of spoilt captions end, and the row of clean captions
REMEDIES = {
    "nothing": ("", "hard"),
    "lower weights": ("-light", "light"),
    "distillation in ITC": ("-itc", "distil-itc"),
    "distillation": ("-distil", "distil"),
    "even negatives": ("-even", "itc"),
    "label smoothing": ("-smooth", "smooth"),
}
SCORES = ("retrieval", "by ITC", "by ITM")
BELIEFS = {
    "teacher_right": "true texts, caption true",
    "teacher_right_spoilt": "true texts, caption false",
    "teacher_own_spoilt": "the false caption",
}
OPTIONS = {
    "no-queue": "no queue",
    "fuse-cls": "the image's [CLS] in fusion",
    "text2": "a second text layer",
}
OPTION_FIGURES = ("relation", "place", "families", "size", "background", "by ITC", "retrieval",
                  "pointing")
PAIRS = {"300": "pairs300", "1,000": "pairs1000", "3,000": "pairs3000", "10,000": "pairs10000",
         "new": "full"}
SWEEPS = {
    "queue": {"256": "queue256", "1,024": "full", "4,096": "queue4096"},
    "temperature": {"0.03": "temp0.03", "0.07": "temp0.07", "0.2": "temp0.2", "learnt": "full"},
    "layers of text / fusion": {"0 / 4": "layers0-4", "1 / 3": "full", "2 / 2": "layers2-2",
                                "3 / 1": "layers3-1"},
    "minimal pairs": PAIRS,
}
SWEEP_FIGURES = ("by ITC", "retrieval", "families", "relation", "place", "words")
KINDS = ("relation", "place", "count")
SHARES = ("nothing", "keys and values", "everything")


def with_half(values: Sequence[float], form: str = ".2f") -> str:
    """A mean and half of its 95% interval."""
    return f"{statistics.mean(values):{form}} ± {half_width(values):.2f}"


def seeds_of(records: Sequence[dict], row: str, name: str, count: int = 8) -> list[float]:
    """A row's figure for its first seeds."""
    return list(by_seed(records, row, name).values())[:count]


def gain(records: Sequence[dict], row: str, baseline: str, name: str) -> list[float]:
    """What `row` has over `baseline`, seed by seed."""
    return list(map(sub, seeds_of(records, row, name), seeds_of(records, baseline, name)))


def spoilt_table(records: Sequence[dict]) -> str:
    """Three figures by kind of spoilt captions and remedy, at 0, 20 and 40%, eight seeds."""
    rows = []
    for kind, words in SPOILT.items():
        for remedy in ("nothing", "distillation", "label smoothing"):
            end, clean = REMEDIES[remedy]
            names = (clean, f"{kind}20{end}", f"{kind}40{end}")
            line = [words, remedy]
            for score in SCORES:
                cells = [with_half(seeds_of(records, name, score)) for name in names]
                line.append(", ".join(cells))
            rows.append(line)
    head = ["captions", "remedy"]
    for score in SCORES:
        head.append(f"{score}: 0, 20, 40%")
    return table_of(head, rows)


def six_sets(records: Sequence[dict], remedy: str, name: str) -> np.ndarray:
    """A figure's mean over the six spoilt sets, for each of three seeds."""
    end = REMEDIES[remedy][0]
    sets = []
    for kind in SPOILT:
        for percent in PERCENT:
            sets.append(seeds_of(records, f"{kind}{percent}{end}", name, 3))
    return np.mean(sets, 0)


def remedies_table(records: Sequence[dict]) -> str:
    """Each remedy on clean and on spoilt captions, three seeds, and its gain seed by seed."""
    rows = []
    for remedy, (_, clean) in REMEDIES.items():
        cells = []
        for name in SCORES:
            spoilt = six_sets(records, remedy, name)
            gains = joined(spoilt - six_sets(records, "nothing", name), "+.2f")
            before = np.mean(seeds_of(records, clean, name, 3))
            cells.append(f"{before:.2f}, {spoilt.mean():.3f} ({gains})")
        rows.append([remedy, *cells])
    return table_of(["remedy", *(f"{name}: clean, spoilt (gain)" for name in SCORES)], rows)


def mean_looks(records: Sequence[dict], row: str, key: str, count: int = 8) -> np.ndarray:
    """What was seen at each look during a row's runs, a mean over its first seeds."""
    runs = []
    for record in records:
        if record["row"] == row and record["seed"] < count and "looks" in record:
            runs.append([look[key] for look in record["looks"]])
    return np.mean(runs, 0)


def beliefs_table(records: Sequence[dict]) -> str:
    """The teacher's probability at five points of a run, mean over seeds, where 40% are spoilt."""
    rows = []
    for kind in ("wrong", "foreign"):
        for remedy in ("nothing", "distillation"):
            row = f"{kind}40{REMEDIES[remedy][0]}"
            cells = []
            for key in BELIEFS:
                means = mean_looks(records, row, key)
                cells.append(joined(means, ".3f"))
            rows.append([SPOILT[kind], remedy, *cells])
    return table_of(["captions", "remedy", *BELIEFS.values()], rows)


def options_table(records: Sequence[dict]) -> str:
    """Three options of tiny's recipe against `full`, five seeds, with plain 95% intervals."""
    rows = []
    for row, words in OPTIONS.items():
        cells = [with_half(gain(records, row, "full", name), "+.2f") for name in OPTION_FIGURES]
        rows.append([words, *cells])
    return table_of(["against `full`", *OPTION_FIGURES], rows)


def rerank_table(results: dict) -> str:
    """R@1 by the number of candidates that ITM re-ranks."""
    rows = []
    for top, ways in results.items():
        cells = []
        for way in ("i2t", "t2i"):
            low, high = ways[way]["interval"]
            cells.append(f"{ways[way]['r1']:.3f} [{low:.2f}, {high:.2f}]")
        rows.append([top, *cells])
    return table_of(["candidates", "image to text", "text to image"], rows)


def layer_table(results: dict) -> str:
    """Pointing by the layer of fusion that Grad-CAM reads."""
    rows = []
    for name in results["itm"]:
        cells = []
        for score in ("itm", "mlm"):
            low, high = results[score][name]["interval"]
            cells.append(f"{results[score][name]['pointing']:.2f} [{low:.2f}, {high:.2f}]")
        rows.append([name if name == "all" else int(name) + 1, *cells])
    return table_of(["fusion's layer", "the match", "a masked word"], rows)


def sweeps_table(records: Sequence[dict]) -> str:
    """Four sweeps: mean and standard deviation of three seeds; ITC's difference to `full`."""
    rows = []
    for knob, values in SWEEPS.items():
        for value, row in values.items():
            cells = []
            for name in SWEEP_FIGURES:
                shares = seeds_of(records, row, name, 3)
                cells.append(f"{statistics.mean(shares):.2f} ± {statistics.stdev(shares):.2f}")
            against = ""
            if row != "full":
                against = with_half(gain(records, row, "full", "by ITC")[:3], "+.2f")
            rows.append([knob, value, *cells, against])
    return table_of(["swept", "value", *SWEEP_FIGURES, "by ITC, against `full`"], rows)


def kinds_table(records: Sequence[dict]) -> str:
    """When each kind of change is refused, by the number of minimal pairs: five points of a run."""
    rows = []
    for value, row in {**PAIRS, "none": "no-siblings"}.items():
        cells = []
        for kind in KINDS:
            means = mean_looks(records, row, kind, 3)
            cells.append(joined(means))
        rows.append([value, *cells])
    return table_of(["pairs", *(f"{kind}: 20, 40, 60, 80, 100%" for kind in KINDS)], rows)


def sharing_table(runs: Sequence[dict]) -> str:
    """NLVR2's accuracy by what a pair's layers share, seed by seed."""
    rows = []
    for assign, words in ((True, "with text assignment"), (False, "without")):
        cells = []
        for share in SHARES:
            accuracies = []
            for run in runs:
                if (run["share"], run["assign"]) == (share, assign):
                    accuracies.append(statistics.mean(map(int, run["answers"])) / 9)
            seeds = joined(accuracies, between=", ")
            cells.append(f"{statistics.mean(accuracies):.2f} ({seeds})")
        rows.append([words, *cells])
    return table_of(["the two layers share", *SHARES], rows)
