"""What students' files must not hold: the lines of answers, hidden tests, mistakes and graders."""

import json
from pathlib import Path

import bundle
import course
import package

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"


def text_of(path: Path) -> str:
    """A file's text; of a notebook its cells' sources."""
    if path.suffix == ".ipynb":
        return "\n".join(
            "".join(cell["source"])
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        )
    return (
        path.read_text(encoding="utf-8")
        if path.suffix in (".py", ".md", ".toml", ".txt", ".csv", ".json")
        else ""
    )


def secret_lines() -> set[str]:
    """Lines of answers, hidden tests, mistakes and graders that stand nowhere else."""
    files = [
        path
        for path in ASSIGNMENTS.rglob("*.py")
        if path.name
        in (
            "solution.py", "hidden.py", "mistakes.py", "package_mistakes.py", "package_right.py",
            "package_adapters.py", "package_tests.py", "course.py", "package.py", "report.py",
        )
    ]
    public = "\n".join(
        text_of(path)
        for path in (
            *ROOT.glob("minalbef/**/*.py"),
            *ROOT.glob("notebooks/[0-9]*.ipynb"),
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("notebooks/experiments/*.py"),
            *ASSIGNMENTS.glob("a*/student.py"),
            *(course.GRADER / name for name in bundle.GRADER),
            package.HERE / "package_conftest.py",
        )
    )
    public += "\n".join(package.files().values())
    secret = {
        line.strip()
        for path in files
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line.strip()) > 30
    }
    return {line for line in secret if line not in public}
