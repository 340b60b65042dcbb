"""A package to fill: the taught modules without their bodies, and typed seams through which a
student's own are graded.

`python package.py write FOLDER` writes FOLDER/release for students and FOLDER/source, with
solutions and all tests, and checks both; `python package.py grade FOLDER` grades every
FOLDER/submitted/NAME into FOLDER/graded/NAME.json. The seams stand in package_adapters.py, what
they must do in package_tests.py, what must lose points in package_mistakes.py, and what must
not in package_right.py.
"""
import argparse
import ast
import json
import re
import secrets
import shutil
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from types import CodeType, ModuleType
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "grader"))
import apart_sandbox  # noqa: E402
from package_mistakes import MISTAKES  # noqa: E402
from package_right import RIGHT  # noqa: E402
from submission import handed_in  # noqa: E402

Files = dict[str, str]                # contents by path
# what students write; all else of these modules is given. In this order, each imports those before
BLANKED = {
    "limits": [],
    "gelu": [],
    "config": [],
    "settings": [],
    "presets": [],
    "layers": ["Attention.forward", "MLP.forward"],
    "vision": ["PatchEmbed.forward", "Block.forward", "ViT.attend"],
    "text": ["TextLayer.forward"],
    "fusion": ["FusionLayer.forward"],
    "losses": ["soft_cross_entropy", "distilled_cross_entropy", "itc_targets",
               "itc_loss", "hard_negatives", "itm_loss", "mlm_loss"],
    "masking": ["mask_words"],
    "ema": ["make_teacher", "update_teacher"],
    "feature_queue": ["FeatureQueue.features", "FeatureQueue.push"]}
# where modules stand that aren't at the top of minalbef
PLACES = {"limits": "system/limits", "settings": "system/settings", "gelu": "fast/gelu"}
PACKAGE_DOCSTRING = ('"""Your own parts of ALBEF. Write where it says raise '
                     'NotImplementedError."""\n')


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """All functions and methods by name, such as MLP.forward."""
    tree = ast.parse(source)
    nodes = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            nodes[node.name] = node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    nodes[f"{node.name}.{method.name}"] = method
    return nodes


def refilled(source: str, bodies: dict[str, str]) -> str:
    """Other bodies for functions, by name; their signatures and docstrings stay. KeyError
    for one that is not there."""
    lines = source.splitlines()
    nodes = functions(source)
    for name, body in sorted(bodies.items(), key=lambda item: -nodes[item[0]].lineno):
        node = nodes[name]
        first = node.body[0]
        start = first.end_lineno if ast.get_docstring(node) else first.lineno - 1
        text = indent(dedent(body).strip(), " " * first.col_offset)
        lines[start:node.end_lineno] = text.splitlines()
    return "\n".join(lines) + "\n"


@cache
def files(solved: bool = False, hidden: bool = False) -> Files:
    """A release: the package, its seams and their tests. `solved`: with bodies; `hidden`:
    with graders' tests, too."""
    release = {"mine/__init__.py": PACKAGE_DOCSTRING}
    for name, blanked in BLANKED.items():
        source = text_of(HERE.parents[2] / "minalbef" / f"{PLACES.get(name, name)}.py")
        if not solved:
            source = refilled(source, dict.fromkeys(blanked, "raise NotImplementedError"))
        release[f"mine/{name}.py"] = source
    release["adapters.py"] = text_of(HERE / "package_adapters.py")
    tests = text_of(HERE / "package_tests.py")
    if not hidden:
        hidden_part = r"\n+ *### BEGIN HIDDEN.*?### END HIDDEN TESTS"
        tests = re.sub(hidden_part, "", tests, flags=re.S)
    release["test_mine.py"] = tests
    for path, text in release.items():
        release[path] = re.sub(r"^(from|import) minalbef\b(\.system|\.fast)?", r"\1 mine", text,
                               flags=re.M)
    release["conftest.py"] = text_of(HERE / "package_conftest.py")
    return release


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def cheat() -> Files:
    """A submission whose every body calls minalbef."""
    submission = dict(files())
    for module, names in BLANKED.items():
        nodes = functions(submission[f"mine/{module}.py"])
        bodies = {}
        for name in names:
            arguments = ", ".join(arg.arg for arg in nodes[name].args.args)
            bodies[name] = (f"from minalbef import {module} as theirs\n"
                            f"return theirs.{name}({arguments})")
        submission[f"mine/{module}.py"] = refilled(submission[f"mine/{module}.py"],
                                                   bodies)
    return submission


def variants(seam: str) -> tuple[dict[str, Files], dict[str, Files]]:
    """The solution with each mistake of a seam, and with each other right answer, by what
    they are."""
    solution = files(True, True)
    path = f"mine/{seam.split('.')[0]}.py"
    wrong = {}
    right = {}
    for what, (old, new) in MISTAKES[seam].items():
        if solution[path].count(old) != 1:
            raise ValueError(f"{seam}, mistake '{what}': {old!r} stands "
                             f"{solution[path].count(old)} times in {path}, not once")
        wrong[what] = solution | {path: solution[path].replace(old, new)}
    for what, bodies in RIGHT[seam].items():
        right[what] = dict(solution)
        for name, body in bodies.items():
            for at in solution:
                if at.startswith("mine/") and name in functions(solution[at]):
                    right[what][at] = refilled(right[what][at], {name: body})
    return wrong, right


def tried(submission: Files, seam: str, seed: int = 0) -> Exception | None:
    """What the tests of one seam raise here, minalbef open, on inputs of a seed; None where
    it keeps its points."""
    # here and not above: who grades many submissions waits for their torch alone
    import torch

    names = {}
    for path, text in submission.items():
        if path != "conftest.py":
            name = path.removesuffix(".py").replace("/", ".")
            names[name.removesuffix(".__init__")] = text
    try:
        for name, text in names.items():
            module = sys.modules[name] = ModuleType(name)
            module.__path__ = []
            exec(_compiled(text, name), vars(module))
        test = getattr(sys.modules["test_mine"], f"test_{seam.split('.')[-1]}")
        test(sys.modules["adapters"], torch.Generator().manual_seed(seed))
    except Exception as problem:
        return problem
    finally:
        for name in names:
            sys.modules.pop(name, None)


def grade(submission: Files, seed: str, check: bool = True,
          seconds: float = 60) -> dict[str, Any]:
    """Points by seam and in all. The package runs in a process of its own; its tests, and the
    table of points, do not.

    check: refuse imports that an answer may not use; seconds: of the processor, for all calls
    of one seam
    """
    # here and not above: who only writes a release waits for no torch
    import apart_package
    import package_tests

    release = dict(files())
    del release["test_mine.py"], release["conftest.py"]
    return apart_package.grade(submission, release, package_tests, seed, check, seconds)


@cache
def _compiled(text: str, name: str) -> CodeType:
    return compile(text, f"<{name}>", "exec")


def save(contents: Files, folder: Path) -> None:
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def write(folder: Path) -> None:
    """Write both versions, and check that the tests tell right from wrong; SystemExit where
    they do not."""
    for name, submission in (("release", files()), ("source", files(True, True))):
        shutil.rmtree(folder / name, ignore_errors=True)
        save(submission, folder / name)
    # the instructor's from then on
    if not (folder / "secret.txt").exists():
        (folder / "secret.txt").write_text(secrets.token_hex(), encoding="utf-8")
    scores = {"solution": grade(files(True), "0"), "blank": grade(files(), "0"),
              "cheat": grade(cheat(), "0", check=False)}
    print("\na package to fill:")
    for student, score in scores.items():
        print(f"  {student} {score['points']} of {score['of']}")
    for seam in MISTAKES:
        wrong, right = variants(seam)
        failures = [tried(submission, seam) for submission in wrong.values()]
        passes = [tried(submission, seam) for submission in right.values()]
        print(f"  {seam}: {len(wrong) - failures.count(None)} of {len(wrong)} mistakes "
              f"lose its points, {passes.count(None)} of {len(right)} other answers "
              "keep them")
        if None in failures or any(passes):
            raise SystemExit(f"{seam}: its tests do not tell right from wrong; see "
                             "tests/notebooks/test_course.py")
    points = [score["points"] for score in scores.values()]
    if points != [scores["solution"]["of"], 0, 0]:
        raise SystemExit("the package: the solution must have all points, the blank "
                         "release and the cheat none")


def grade_all(folder: Path) -> None:
    """Grade what was handed in; a submission graded twice has the same inputs. Refused where
    there is no sandbox."""
    apart_sandbox.choose()
    for student in sorted((folder / "submitted").iterdir()):
        if not student.is_dir():
            continue
        submission, why = handed_in(student)
        scores = {"points": 0, "of": 50, "seams": {}, "says": why}
        if not why:
            scores = grade(submission, text_of(folder / "secret.txt") + student.name)
        text = json.dumps({"student": student.name, **scores}, indent=1)
        save({f"{student.name}.json": text + "\n"}, folder / "graded")
        print(f"{student.name}: {scores['points']} of {scores['of']} "
              f"{scores.get('says', '')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["write", "grade"])
    parser.add_argument("folder", type=lambda path: Path(path).resolve())
    parser.add_argument("--unsafe", action="store_true", help=apart_sandbox.MEANS)
    args = parser.parse_args()
    if args.unsafe:
        apart_sandbox.without()
    if args.action == "write":
        apart_sandbox.trust_ours()
        write(args.folder)
    else:
        try:
            grade_all(args.folder)
        except apart_sandbox.Refused as problem:
            raise SystemExit(str(problem)) from None
