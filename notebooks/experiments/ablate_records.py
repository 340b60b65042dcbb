"""The records of an ablation: what identifies a run, and the file of results, a line a run."""
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ablate_rows import ROWS
from minalbef.system.writing import restate


class RunKey(NamedTuple):
    """What identifies a run.

    equal: its samples take the CPU seconds of the row that its group is compared with
    with_tasks: it is fine-tuned for the tasks, too
    """

    row: str
    seed: int
    samples: int
    equal: bool = False
    with_tasks: bool = False

    @property
    def folder(self) -> str:
        """Name of the folder that the run is trained in."""
        return "-".join(map(str, self))


def read_records(out: Path) -> list[dict]:
    """The records of a file of results; of a run that was done twice, the last.

    Raises ValueError for a damaged file.
    """
    if not out.exists():
        return []
    records = {}
    remedy = "remove the line, and its run is trained again"
    with restate(f"{out} is damaged", remedy, ValueError, KeyError):
        for line in out.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            key = (record["row"], record["seed"], record["samples"], record["equal"])
            records[key] = record
    return list(records.values())


def seconds_per_sample(records: Iterable[dict], row: str) -> float | None:
    """Mean CPU seconds of a sample in the row's full runs; None if there is no such run."""
    costs = []
    for record in records:
        full = record["samples"] == ROWS[row].samples and not record["equal"]
        if record["row"] == row and full and record.get("cpu_seconds"):
            costs.append(record["cpu_seconds"] / record["samples"])
    return statistics.mean(costs) if costs else None
