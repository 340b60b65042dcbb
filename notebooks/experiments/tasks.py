"""What five tasks make of a pretrained model: the table of docs/tasks.md. `make tasks` trains them and calls this."""
import json
from pathlib import Path

from minalbef.cli.main import run_script
from minalbef.recipes import report
from minalbef.scenes import tables
from minalbef.scenes.jobs import JOBS
from results import write_json, write_tables


def gather(folder: Path, out: Path, page: Path | None = None) -> str:
    """Gather the reports of fine-tuned runs, folder/TASK/report.json, in one file. -> their table, put into page too

    Runs of further seeds are folder/TASK-seed1 and so on; folder/TASK/fresh has figures of a fresh test set. Figures
    of a task or seed that did not run here stay in `out`; the table names the commit of each task.
    Raises ValueError if there is no report, or if the page lacks the two lines that enclose the table.
    """
    held = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    reports = []
    for task in JOBS:
        ran = [path.parent for name in (task, f"{task}-seed*") for path in sorted(folder.glob(f"{name}/report.json"))]
        old = [one for one in held if one["task"] == task]
        by_seed = {one["seed"]: one for one in [*old, *map(with_fresh, ran)]}
        reports += by_seed.values()
    if not reports:
        raise ValueError(f"{folder} has no report of a task, such as {folder / next(iter(JOBS))}/report.json; "
                         "`minalbef finetune TASK` writes one")
    table = tables.task_table(reports)
    if page:
        write_tables(page, tasks=table)
    write_json(out, reports)
    return table


def with_fresh(run: Path) -> dict:
    """A run's report, and that of its fresh test set as "fresh"."""
    found = report.read_report(run)
    if (run / "fresh" / "report.json").exists():
        found["fresh"] = {part: value for part, value in report.read_report(run / "fresh").items() if part != "config"}
    return found


def main(run: Path = Path("runs"), out: Path | None = None, page: Path | None = None) -> None:
    """Gather the reports of the five fine-tuned runs, and print their table.

    Args:
        run: the folder that holds the runs, by task
        out: where to write all reports in one file; by default tasks.json in that folder
        page: a Markdown file whose table of tasks to replace, such as docs/tasks.md
    """
    print(gather(run, out or run / "tasks.json", page))


if __name__ == "__main__":
    run_script(main)
