"""What five tasks make of a pretrained model: the table of docs/tasks.md.

`make tasks` fine-tunes for all of them and then calls this script.
"""
import json
from pathlib import Path

from minalbef.cli.main import run_script
from minalbef.recipes.report import read_report
from minalbef.scenes import tables
from minalbef.scenes.tasks.table import SCENE_TASKS
from results import write_json, write_tables


def gather(folder: Path, out: Path, page: Path | None = None) -> str:
    """Gather the reports of fine-tuned runs, folder/TASK/report.json, in the file `out`.

    Runs of further seeds are folder/TASK-seed1 and so on; folder/TASK/fresh has figures of a fresh
    test set. Reports in `out` of a task or seed that did not run here stay.
    page: whose table of tasks to replace  -> the table; it names the commit of each task

    Raises ValueError if there is no report, or if the page has no place for the table.
    """
    earlier = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    reports = []
    for task in SCENE_TASKS:
        by_seed = {report["seed"]: report for report in earlier if report["task"] == task}
        for run in runs_of(folder, task):
            report = report_with_fresh(run)
            by_seed[report["seed"]] = report
        reports += by_seed.values()
    if not reports:
        first = folder / next(iter(SCENE_TASKS)) / "report.json"
        raise ValueError(f"{folder} has no report of a task, such as {first}; "
                         "`minalbef finetune TASK` writes one")
    table = tables.task_table(reports)
    if page:
        write_tables(page, tasks=table)
    write_json(out, reports)
    return table


def runs_of(folder: Path, task: str) -> list[Path]:
    """The runs of a task that have a report, in the order of their seeds' folders."""
    reports = [*folder.glob(f"{task}/report.json"), *sorted(folder.glob(f"{task}-seed*/report.json"))]
    return [path.parent for path in reports]


def report_with_fresh(run: Path) -> dict:
    """A run's report, and that of its fresh test set as "fresh"."""
    report = read_report(run)
    if (run / "fresh" / "report.json").exists():
        report["fresh"] = read_report(run / "fresh")
        report["fresh"].pop("config", None)
    return report


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
