"""What students' files must not hold: the lines of answers, hidden tests, mistakes and graders."""

import json
from pathlib import Path

import bundle
import course
import package

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"


SECRET = (
    "solution.py", "hidden.py", "mistakes.py", "package_mistakes.py", "package_right.py",
    "package_adapters.py", "package_tests.py", "course.py", "package.py", "report.py",
)
TEXTS = (".py", ".md", ".toml", ".txt", ".csv", ".json")


def text_of(path: Path) -> str:
    """A file's text; of a notebook its cells' sources."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells)
    return path.read_text(encoding="utf-8") if path.suffix in TEXTS else ""


def secret_lines() -> set[str]:
    """Lines of answers, hidden tests, mistakes and graders that stand nowhere else."""
    public = [
        *ROOT.glob("minalbef/**/*.py"),
        *ROOT.glob("notebooks/[0-9]*.ipynb"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("notebooks/experiments/*.py"),
        *ASSIGNMENTS.glob("a*/student.py"),
        *(course.GRADER / name for name in bundle.GRADER),
        package.HERE / "package_conftest.py",
    ]
    text = "\n".join([*map(text_of, public), *package.files().values()])
    secret = set()
    for name in SECRET:
        for path in ASSIGNMENTS.rglob(name):
            lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
            secret |= {line for line in lines if len(line) > 30 and line not in text}
    return secret
