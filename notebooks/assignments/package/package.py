"""A package to fill: the taught modules without their bodies, and typed seams through which a student's own are graded.

`python package.py write FOLDER` writes FOLDER/release for students and FOLDER/source, with solutions and all tests, and
checks both; `python package.py grade FOLDER` grades every FOLDER/submitted/NAME into FOLDER/graded/NAME.json. The seams
stand in package_adapters.py, what they must do in package_tests.py, what must lose points in package_mistakes.py, and
what must not in package_right.py.
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
BLANKED = {                           # what students write; all else of these modules is given
    "config": [],
    "presets": [],
    "layers": ["Attention.keys_values", "Attention.forward", "Attention.attend", "MLP.forward"],
    "vision": ["PatchEmbed.forward", "Block.forward", "ViT.attend"],
    "text": ["TextLayer.forward"],
    "fusion": ["FusionLayer.read", "FusionLayer.look"],
    "losses": ["soft_cross_entropy", "distilled_cross_entropy", "itc_targets", "itc_loss", "hard_negatives", "itm_loss",
               "mlm_loss"],
    "masking": ["mask_words"],
    "ema": ["make_teacher", "update_teacher"],
    "feature_queue": ["FeatureQueue.features", "FeatureQueue.push"]}
LEFT_OUT = {                          # they would give away what students write
    "vision": ["image_cls", "attend_cls", "first_of_block"],
    "text": ["text_cls", "first_of_layer"]}


def functions(source: str) -> dict[str, ast.FunctionDef]:
    """All functions and methods by name, such as MLP.forward."""
    tree = ast.parse(source)
    methods = {f"{c.name}.{f.name}": f for c in tree.body if isinstance(c, ast.ClassDef) for f in c.body
               if isinstance(f, ast.FunctionDef)}
    return methods | {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}


def refilled(source: str, bodies: dict[str, str]) -> str:
    """Other bodies for functions, by name; their signatures and docstrings stay. KeyError for one that is not there."""
    lines, found = source.splitlines(), functions(source)
    for name, body in sorted(bodies.items(), key=lambda item: -found[item[0]].lineno):
        node = found[name]
        start = node.body[0].end_lineno if ast.get_docstring(node) else node.body[0].lineno - 1
        lines[start:node.end_lineno] = indent(dedent(body).strip(), " " * node.body[0].col_offset).splitlines()
    return "\n".join(lines) + "\n"


def without(source: str, names: list[str]) -> str:
    """A module without some of its functions. KeyError for one that is not there."""
    lines, found = source.splitlines(), functions(source)
    for node in sorted((found[name] for name in names), key=lambda node: -node.lineno):
        del lines[node.lineno - 1:node.end_lineno]
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).rstrip() + "\n"


@cache
def files(solved: bool = False, hidden: bool = False) -> Files:
    """A release: the package, its seams and their tests. `solved`: with bodies; `hidden`: with graders' tests, too."""
    made = {"mine/__init__.py": '"""Your own parts of ALBEF. Write where it says raise NotImplementedError."""\n'}
    for name, blanked in BLANKED.items():
        source = (HERE.parents[2] / "minalbef" / f"{name}.py").read_text(encoding="utf-8")
        source = without(source, LEFT_OUT.get(name, []))
        blank = dict.fromkeys(blanked, "raise NotImplementedError")
        made[f"mine/{name}.py"] = source if solved else refilled(source, blank)
    made |= {"adapters.py": (HERE / "package_adapters.py").read_text(encoding="utf-8"),
             "test_mine.py": (HERE / "package_tests.py").read_text(encoding="utf-8")}
    if not hidden:
        hidden_part = r"\n+ *### BEGIN HIDDEN.*?### END HIDDEN TESTS"
        made["test_mine.py"] = re.sub(hidden_part, "", made["test_mine.py"], flags=re.S)
    made = {path: re.sub(r"^(from|import) minalbef\b", r"\1 mine", text, flags=re.M) for path, text in made.items()}
    return made | {"conftest.py": (HERE / "package_conftest.py").read_text(encoding="utf-8")}


def cheat() -> Files:
    """A submission whose every body calls minalbef."""
    made = dict(files())
    for module, names in BLANKED.items():
        known, bodies = functions(made[f"mine/{module}.py"]), {}
        for name in names:
            given = ", ".join(arg.arg for arg in known[name].args.args)
            bodies[name] = f"from minalbef import {module} as theirs\nreturn theirs.{name}({given})"
        made[f"mine/{module}.py"] = refilled(made[f"mine/{module}.py"], bodies)
    return made


def variants(seam: str) -> tuple[dict[str, Files], dict[str, Files]]:
    """The solution with each mistake of a seam, and with each other right answer, by what they are."""
    solution, path = files(True, True), f"mine/{seam.split('.')[0]}.py"
    wrong, right = {}, {}
    for what, (old, new) in MISTAKES[seam].items():
        if solution[path].count(old) != 1:
            raise ValueError(f"{seam}, mistake '{what}': "
                             f"{old!r} stands {solution[path].count(old)} times in {path}, not once")
        wrong[what] = solution | {path: solution[path].replace(old, new)}
    for what, bodies in RIGHT[seam].items():
        right[what] = dict(solution)
        for name, body in bodies.items():
            at = next(p for p in solution if p.startswith("mine/") and name in functions(solution[p]))
            right[what][at] = refilled(right[what][at], {name: body})
    return wrong, right


def tried(made: Files, seam: str, seed: int = 0) -> Exception | None:
    """What the tests of one seam raise here, minalbef open, on inputs of a seed; None where it keeps its points."""
    import torch  # here and not above: who grades many submissions waits for their torch alone

    names = {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): text for path, text in made.items()
             if path != "conftest.py"}
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


def grade(submission: Files, seed: str, check: bool = True, seconds: float = 60) -> dict[str, Any]:
    """Points by seam and in all. The package runs in a process of its own; its tests, and the table of points, do not.

    check: refuse imports that an answer may not use; seconds: of the processor, for all calls of one seam
    """
    import apart_package  # here and not above: who only writes a release waits for no torch
    import package_tests

    given = {path: text for path, text in files().items() if re.fullmatch(r"adapters\.py|mine/\w+\.py", path)}
    return apart_package.grade(submission, given, package_tests, seed, check, seconds)


@cache
def _compiled(text: str, name: str) -> CodeType:
    return compile(text, f"<{name}>", "exec")


def save(made: Files, folder: Path) -> None:
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def write(folder: Path) -> None:
    """Write both versions, and check that the tests tell right from wrong; SystemExit where they do not."""
    for name, made in (("release", files()), ("source", files(True, True))):
        shutil.rmtree(folder / name, ignore_errors=True)
        save(made, folder / name)
    if not (folder / "secret.txt").exists():                     # the instructor's from then on
        (folder / "secret.txt").write_text(secrets.token_hex(), encoding="utf-8")
    scores = {"solution": grade(files(True), "0"), "blank": grade(files(), "0"),
              "cheat": grade(cheat(), "0", check=False)}
    print("\na package to fill:",
          ", ".join(f"{student} {has['points']} of {has['of']}" for student, has in scores.items()))
    for seam in MISTAKES:
        wrong, right = variants(seam)
        lost = sum(tried(made, seam) is not None for made in wrong.values())
        kept = sum(tried(made, seam) is None for made in right.values())
        print(f"  {seam}: {lost} of {len(wrong)} mistakes lose its points, "
              f"{kept} of {len(right)} other answers keep them")
        if lost < len(wrong) or kept < len(right):
            raise SystemExit(f"{seam}: its tests do not tell right from wrong; see tests/notebooks/test_course.py")
    if [has["points"] for has in scores.values()] != [scores["solution"]["of"], 0, 0]:
        raise SystemExit("the package: the solution must have all points, the blank release and the cheat none")


def grade_all(folder: Path) -> None:
    """Grade what was handed in; a submission graded twice has the same inputs. Refused where there is no sandbox."""
    apart_sandbox.choose()
    for student in sorted(path for path in (folder / "submitted").iterdir() if path.is_dir()):
        made, why = handed_in(student)
        scores = grade(made, (folder / "secret.txt").read_text(encoding="utf-8") + student.name) if not why else {
            "points": 0, "of": 50, "seams": {}, "says": why}
        save({f"{student.name}.json": json.dumps({"student": student.name, **scores}, indent=1) + "\n"},
             folder / "graded")
        print(f"{student.name}: {scores['points']} of {scores['of']} {scores.get('says', '')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["write", "grade"])
    parser.add_argument("folder", type=lambda path: Path(path).resolve())
    parser.add_argument("--unsafe", action="store_true", help=apart_sandbox.MEANS)
    asked = parser.parse_args()
    if asked.unsafe:
        apart_sandbox.without()
    if asked.action == "write":
        apart_sandbox.trust_ours()
        write(asked.folder)
    else:
        try:
            grade_all(asked.folder)
        except apart_sandbox.Refused as problem:
            raise SystemExit(str(problem)) from None
