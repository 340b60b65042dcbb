"""What recipes read, side by side: `python notebooks/experiments/columns.py today third`.

Prints a column for each: of records of the speed board (speed/records), or of what learn.py wrote
(learn, learn_paper).
"""
import json
from pathlib import Path

from minalbef.cli.main import run_script
from results import table_of

HERE = Path(__file__).parent
RECORDS = HERE / "speed" / "records"
WIDE = 0.1                             # a spread over seeds that is shown beside the mean
# what learn.py's files are of
LEARNT = {"learn": "`tiny`", "learn_paper": "the paper's objectives alone"}


def by_kind(figure: str, *kinds: str) -> tuple[str, ...]:
    """The report's names of a figure, by kind."""
    return tuple(f"{figure}.{kind}" for kind in kinds)


def stress(answer: str, *kinds: str) -> tuple[str, ...]:
    """The report's names of answers to the stress test's questions."""
    return by_kind(f"stress.{answer}", *kinds)


EDGES = ("relation_at_left_edge", "relation_at_right_edge", "relation_at_top_edge",
         "relation_at_bottom_edge")
COLOURS = ("false_colour_of_background", "false_colour_of_other_object",
           "false_colour_seen_nowhere")
KINDS = ("relation", "size", "count", "place", "background")
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("R@1 of 500, ITC, image to text / text to image", ("plain.itc_i2t_r1", "plain.itc_t2i_r1")),
    ("the same, ITC and ITM", ("plain.rerank_plus_i2t_r1", "plain.rerank_plus_t2i_r1")),
    ("in an unseen style, ITC", ("unseen_style.itc_i2t_r1", "unseen_style.itc_t2i_r1")),
    ("in a family of 4, ITC", ("families.itc_i2t_r1", "families.itc_t2i_r1")),
    ("in a family of 4, ITM", ("families.rerank_i2t_r1", "families.rerank_t2i_r1")),
    ("one change, ITM: " + " / ".join(KINDS),
     by_kind("itm_one_change_accuracy", *KINDS)),
    ("one change, ITC: relation", ("itc_one_change_accuracy.relation",)),
    ("true relation accepted at the left / right / top / bottom edge",
     stress("true_accepted", *EDGES)),
    ("true relation accepted in an unseen style",
     stress("true_accepted", "relation_in_unseen_style")),
    ("another direction accepted: anywhere / within one half",
     ("itm_accepted.other_direction", "itm_accepted.other_direction_in_one_half")),
    ("another direction accepted: at right angles, straight",
     stress("false_accepted", "relation_at_right_angles")),
    ("three of a kind preferred to two", stress("true_preferred", "three_of_a_kind_not_two")),
    ('"left of a dog" accepted where there is a cat',
     stress("false_accepted", "left_of_a_cat_not_of_a_dog")),
    ("false colour accepted: the background's / another object's / one that is nowhere",
     stress("false_accepted", *COLOURS)),
    ("short caption preferred to the same with a false addition",
     stress("true_preferred", "half_truth")),
    ('"A and B, the A left of the B", foil accepted',
     stress("false_accepted", "relation_after_both_names")),
    ('"left of a B is an A", preferred to its foil',
     stress("true_preferred", "relation_before_both_names")),
    ('"not", preferred to its foil', stress("true_preferred", "negation")),
    ("masked word: object / size / place / relation",
     by_kind("mlm_accuracy", "object", "size", "place", "relation")),
    ("pointing, ITM / MLM", ("pointing_itm", "pointing_mlm")),
)


def cell(figures: dict[str, dict[str, float]], names: tuple[str, ...]) -> str:
    """The means of some figures, each with its spread if its seeds differ much."""
    return " / ".join(with_spread(figures[name]) for name in names if name in figures)


def with_spread(figure: dict[str, float]) -> str:
    mean = f"{figure['mean']:.2f}"
    if figure["high"] - figure["low"] <= WIDE:
        return mean
    return f"{mean} ({figure['low']:.2f} to {figure['high']:.2f})"


def table(records: list[dict]) -> str:
    """A row for each question, a column for each record."""
    heads = [f"{record['what']}, {record['seeds_trained']} seeds" for record in records]
    rows = []
    for label, names in ROWS:
        row = [label]
        for record in records:
            row.append(cell(record["figures"], names))
        rows.append(row)
    if all("cpu" in record for record in records):
        times = [round(record["cpu"]) for record in records]
        rows.append(["CPU seconds of training, one process", *times])
    return table_of(["", *heads], rows)


def read(name: str) -> dict:
    """A record of the board by its name, or a result of learn.py."""
    path = RECORDS / f"{name}.json"
    if path.exists():
        record = json.loads(path.read_text(encoding="utf-8"))
        return record | {"seeds_trained": record["n"]}
    result = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    return {"what": LEARNT[name], "seeds_trained": result["seeds"], "figures": result["figures"]}


def main(names: tuple[str, ...], /) -> None:
    """Print the table.

    Args:
        names: of the records or results, in the order of the columns
    """
    print(table([read(name) for name in names]))


if __name__ == "__main__":
    run_script(main)
