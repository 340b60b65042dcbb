"""What students are given: one folder, and its zip, with package, chapters, releases and
grader, and no answer."""
import shutil
import zipfile
from pathlib import Path

ASSIGNMENTS = Path(__file__).parents[1]
ROOT = ASSIGNMENTS.parents[1]
GIVEN = ("pyproject.toml", "LICENSE", "minalbef", "data/emojiscenes", "data/tiny",
         "data/tiny-paper", "docs", "notebooks/experiments")
GRADER = ("__main__.py", "check.py", "submission.py", "apart.py", "apart_arguments.py",
          "apart_child.py", "apart_package.py", "apart_rebuild.py", "apart_run.py",
          "apart_sandbox.py", "grading.py", "properties.py", "a5_curves.csv",
          "a6_statements.csv")
NEVER = ("__pycache__", ".ipynb_checkpoints", "*.pyc", ".DS_Store")


def write(course: Path, at: Path) -> Path:
    """A folder to give to students, from the releases in a course's folder -> its zip, beside
    it.

    FileNotFoundError where the course has no release yet.
    """
    if not any((course / "release").glob("a*/*.ipynb")):
        raise FileNotFoundError(f"{course}/release holds no assignment; "
                                "`make course` makes it")
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    for name in GIVEN:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, at / name,
                            ignore=shutil.ignore_patterns(*NEVER))
        else:
            shutil.copy(ROOT / name, at / name)
    for chapter in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        shutil.copy(chapter, at / "notebooks")
    shutil.copytree(ROOT / "notebooks" / "solutions", at / "notebooks" / "solutions",
                    ignore=shutil.ignore_patterns(*NEVER))
    shutil.copytree(course / "release", at / "assignments",
                    ignore=shutil.ignore_patterns(*NEVER))
    if (course / "package" / "release").exists():
        shutil.copytree(course / "package" / "release", at / "package",
                        ignore=shutil.ignore_patterns(*NEVER))
    # for `python -m grader check`; nobody works in these
    (at / "grader" / "release").mkdir(parents=True)
    for name in GRADER:
        shutil.copy(ASSIGNMENTS / "grader" / name, at / "grader")
    shutil.copytree(at / "assignments", at / "grader" / "release", dirs_exist_ok=True)
    if (at / "package").exists():
        shutil.copytree(at / "package", at / "grader" / "release" / "package")
    shutil.copy(ASSIGNMENTS / "student_readme.md", at / "README.md")
    return packed(at)


def packed(folder: Path) -> Path:
    """The zip of a folder, with the folder's name in front of every path."""
    archive = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(folder.parent))
    return archive
