"""The circuit of "left of" through training.

`python notebooks/experiments/circuit_training.py --seed 4` measures the checkpoints that `python
notebooks/experiments/checkpoints.py tiny --seed 4` keeps, a minute of a core for each seed. What it
asks was written down before it ran, in registered_circuit.md. At each checkpoint, with the questions of circuit.py:

objects, relations: how often the true scene is preferred, by ITM, and relations by ITC, too
place, fits: what one direction of an object's word tells, and the answers that it turns
head: the head of fusion without which most relations are wrong, and how many that costs

Writes circuit_training.json beside itself, where the figures of other seeds and of other processors
stay.
"""
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checkpoints import FOLDER, spaced_steps, step_folder
from circuit import (
    CHOOSING,
    CHOSEN_BY,
    TESTED_BY,
    TESTING,
    Pair,
    Questions,
    draw,
    heads_of,
    means_of,
    measure_direction,
    paint,
    without,
)
from minalbef import Run, load
from minalbef.cli.main import run_script
from minalbef.recipes.report import commit, describe_device, now
from results import table_of, write_json

PATH = Path(__file__).with_suffix(".json")
OBJECTS, RELATIONS, PLACE = 0.90, 0.75, 0.5      # what counts as learnt; of place, the end's share
SHOWN = (380, 570, 760, 950, 1330, 1900)         # in the page's table

Checkpoint = dict[str, Any]
Painted = dict[str, tuple[list[Pair], list[Tensor]]]


def paint_questions(run: Run) -> Painted:
    """The questions and their images, which are the same for all checkpoints of all seeds."""
    pairs_of = {
        "chosen_by": draw(run, "relation", CHOOSING, CHOSEN_BY, sideways=True),
        "relation": draw(run, "relation", TESTING, TESTED_BY, sideways=True),
        "object": draw(run, "object", TESTING, TESTED_BY),
        "others": draw(run, "object", TESTING, TESTED_BY, sideways=True),
    }
    return {name: (pairs, paint(run, pairs)) for name, pairs in pairs_of.items()}


def measure(run: Run, painted: Painted) -> Checkpoint:
    """What a checkpoint knows, and what the direction and the heads do there."""
    questions = {name: Questions(run, *part) for name, part in painted.items()}
    relations = questions["relation"]
    right = relations.right()
    means = means_of(relations)
    alone = {str(head): without([head], relations, means) for head in heads_of(run)}
    costly = min(alone, key=lambda head: alone[head])
    return {
        "object": round(questions["object"].right(), 3),
        "relation": round(right, 3),
        "relation_by_itc": round(relations.right_by_itc(), 3),
        "head": costly,
        "cost": round(right - alone[costly], 3),
        "directions": {what: measure_direction(questions["chosen_by"], relations,
                                               questions["others"], what)
                       for what in ("place", "fits")},
    }


def tenths(folder: Path) -> dict[int, Path]:
    """A run's checkpoints by step: `start`, and those after each tenth of its steps.

    Raises ValueError for a run that lacks one of them.
    """
    parts = {0: folder / "start"}
    if parts[0].exists():
        for step in spaced_steps(load(parts[0]).config, 10):
            parts[step] = step_folder(folder, step)
    missing = [part.name for part in parts.values() if not part.exists()]
    if missing:
        raise ValueError(f"{folder} lacks {missing[0]}; "
                         "`python notebooks/experiments/checkpoints.py "
                         f"tiny --seed {folder.name.removeprefix('tiny-')}` makes it")
    return parts


def measure_run(folder: Path, painted: Painted) -> list[Checkpoint]:
    """The figures of a run's checkpoints, from `start` on."""
    checkpoints = []
    for step, part in tenths(folder).items():
        checkpoints.append({"step": step, **measure(load(part), painted)})
        print(folder.name, json.dumps(checkpoints[-1]), flush=True)
    return checkpoints


# what follows from it


def first(checkpoints: Sequence[Checkpoint], learnt: Callable[[Checkpoint], bool]) -> int | None:
    """The step of the first checkpoint at which something is learnt; None: at none."""
    return next((each["step"] for each in checkpoints if learnt(each)), None)


def firsts(checkpoints: Sequence[Checkpoint]) -> dict[str, int | None]:
    """When objects, place, relations by ITM and relations by ITC are learnt, as registered."""
    enough = PLACE * checkpoints[-1]["directions"]["place"]["explained"]
    return {
        "objects": first(checkpoints, lambda each: each["object"] >= OBJECTS),
        "place": first(checkpoints,
                       lambda each: each["directions"]["place"]["explained"] >= enough),
        "relations": first(checkpoints, lambda each: each["relation"] >= RELATIONS),
        "relations_by_itc": first(checkpoints, lambda each: each["relation_by_itc"] >= RELATIONS),
    }


def after_relations(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints from the first on that knows relations."""
    begin = firsts(checkpoints)["relations"]
    return [each for each in checkpoints if begin is not None and each["step"] >= begin]


def verdicts(checkpoints: Sequence[Checkpoint]) -> dict[str, bool]:
    """Of a seed, which of the registered claims hold."""
    first_steps = firsts(checkpoints)
    later = after_relations(checkpoints)
    relations = first_steps["relations"]
    if relations is None:
        raise ValueError("the run never reached relations of "
                         f"{RELATIONS}: the claims are about those that do")

    def earlier(name: str) -> bool:
        step = first_steps[name]
        return step is not None and step < relations

    turned = {each["directions"]["place"]["moved"] >= 0.5 for each in later}
    by_itc = first_steps["relations_by_itc"]
    costly = [each["cost"] >= 0.10 for each in checkpoints if each["relation"] >= RELATIONS]
    return {
        "places come before comparison": earlier("place"),
        "objects come before relations": earlier("objects"),
        "the way is chosen at once": len(turned) == 1,
        "ITC follows": by_itc is None or by_itc > relations,
        "the reading begins in one head and spreads":
            any(costly) and checkpoints[-1]["cost"] < 0.10,
    }


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """A row for each run, with its place's moves at the steps of SHOWN. runs: of the JSON"""
    head = ["seed", "processor", "learnt at step: objects, places, relations, ITC"]
    for step in SHOWN:
        head.append(f"moved (control) at {step}")
    rows = []
    for seed, records in runs.items():
        for record in records:
            checkpoints = record["checkpoints"]
            learnt = ", ".join(str(step or "never") for step in firsts(checkpoints).values())
            line = [seed, processor_of(record), learnt]
            for checkpoint in checkpoints:
                if checkpoint["step"] in SHOWN:
                    place = checkpoint["directions"]["place"]
                    line.append(f"{place['moved']:.2f} ({place['control']:.2f})")
            rows.append(line)
    return table_of(head, rows)


def processor_of(record: dict[str, Any]) -> str:
    """The short name of the processor that a record is of."""
    name = record["device"].partition(" (x86_64)")[0]
    return name.replace("(R)", "").removesuffix(" Processor")


def main(seed: tuple[int, ...] = (4,), out: Path = PATH) -> None:
    """Measure the checkpoints of tiny's seeds.

    Args:
        seed: one or more whose checkpoints there are
        out: the file to write
    """
    torch.set_num_threads(1)
    painted = None
    for number in seed:
        folder = FOLDER / f"tiny-{number}"
        painted = painted or paint_questions(load(tenths(folder)[0]))
        record = {
            "command": shlex.join(["python", *sys.argv]), "date": now(),
            "device": describe_device(), "commit": commit(), "questions": TESTED_BY,
            "checkpoints": measure_run(folder, painted),
        }
        runs = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        records = {processor_of(each): each for each in runs.get(str(number), [])}
        records[processor_of(record)] = record
        runs[str(number)] = list(records.values())
        write_json(out, runs)


if __name__ == "__main__":
    run_script(main)
