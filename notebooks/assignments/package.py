"""A package to fill: the taught modules without their bodies, and typed seams through which a student's own are graded.

`python package.py write FOLDER` writes FOLDER/release for students and FOLDER/source, with solutions and all tests, and
checks both; `python package.py grade FOLDER` grades every FOLDER/submitted/NAME into FOLDER/graded/NAME.json. The seams
stand in package_adapters.py, what they must do in package_tests.py, what must lose points in package_mistakes.py, and
what must not in package_right.py.
"""
import ast
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from types import CodeType, ModuleType
from typing import Any

from grading import refused
from package_mistakes import MISTAKES
from package_right import RIGHT

HERE = Path(__file__).parent
Files = dict[str, str]                # contents by path
BLANKED = {                           # what students write; all else of these modules is given
    "config": [],
    "presets": [],
    "layers": ["Attention.keys_values", "Attention.forward", "MLP.forward"],
    "vision": ["PatchEmbed.forward", "Block.forward", "ViT.attend"],
    "text": ["TextLayer.forward"],
    "fusion": ["FusionLayer.read", "FusionLayer.look"],
    "losses": ["soft_cross_entropy", "distilled_cross_entropy", "itc_targets", "itc_loss", "hard_negatives", "itm_loss",
               "mlm_loss"],
    "masking": ["mask_words"],
    "ema": ["make_teacher", "update_teacher"],
    "feature_queue": ["FeatureQueue.features", "FeatureQueue.push"]}


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


@cache
def files(solved: bool = False, hidden: bool = False) -> Files:
    """A release: the package, its seams and their tests. `solved`: with bodies; `hidden`: with graders' tests, too."""
    made = {"mine/__init__.py": '"""Your own parts of ALBEF. Write where it says raise NotImplementedError."""\n'}
    for name, blanked in BLANKED.items():
        source = (HERE.parents[1] / "minalbef" / f"{name}.py").read_text()
        blank = dict.fromkeys(blanked, "raise NotImplementedError")
        made[f"mine/{name}.py"] = source if solved else refilled(source, blank)
    made |= {"adapters.py": (HERE / "package_adapters.py").read_text(),
             "test_mine.py": (HERE / "package_tests.py").read_text()}
    if not hidden:
        hidden_part = r"\n+ *### BEGIN HIDDEN.*?### END HIDDEN TESTS"
        made["test_mine.py"] = re.sub(hidden_part, "", made["test_mine.py"], flags=re.S)
    made = {path: re.sub(r"^(from|import) minalbef\b", r"\1 mine", text, flags=re.M) for path, text in made.items()}
    return made | {"conftest.py": (HERE / "package_conftest.py").read_text()}


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


def grade(submission: Files, seed: str, check: bool = True) -> dict[str, Any]:
    """Points by seam and in all, from a process of its own; `check`: refuse imports that an answer may not use."""
    ours = files(hidden=True)
    points = [int(n) for n in re.findall(r"@points\((\d+)\)", ours["test_mine.py"])]
    own = {path: text for path, text in submission.items()
           if re.fullmatch(r"adapters\.py|mine/(?!config\.py)[\w/]+\.py", path)}
    why = [f"{path} {reason}" for path, text in own.items() if check and
           (reason := refused(re.sub(r"^(\s*)(from|import) (mine|copy)\b", r"\1\2 torch", text, flags=re.M)))]
    nothing = {"points": 0, "of": sum(points), "seams": {}}
    if why:
        return nothing | {"says": "; ".join(why)}
    with tempfile.TemporaryDirectory() as folder:
        save({**ours, **own}, Path(folder))
        scores = Path(folder) / "scores.json"
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {"MINE_SEED": seed, "MINE_SCORES": str(scores), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "test_mine.py"]
        try:
            run = subprocess.run(call, cwd=folder, env=env, text=True, timeout=300,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            return nothing | {"says": "the tests took more than five minutes"}
        return json.loads(scores.read_text()) if scores.exists() else nothing | {"says": run.stdout[-1000:]}


@cache
def _compiled(text: str, name: str) -> CodeType:
    return compile(text, f"<{name}>", "exec")


def save(made: Files, folder: Path) -> None:
    for path, text in made.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def write(folder: Path) -> None:
    """Write both versions, and check that the tests tell right from wrong; SystemExit where they do not."""
    for name, made in (("release", files()), ("source", files(True, True))):
        shutil.rmtree(folder / name, ignore_errors=True)
        save(made, folder / name)
    if not (folder / "secret.txt").exists():                     # the instructor's from then on
        (folder / "secret.txt").write_text(secrets.token_hex())
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
            raise SystemExit(f"{seam}: its tests do not tell right from wrong; see tests/test_course.py")
    if [has["points"] for has in scores.values()] != [scores["solution"]["of"], 0, 0]:
        raise SystemExit("the package: the solution must have all points, the blank release and the cheat none")


def grade_all(folder: Path) -> None:
    """Grade what was handed in; a submission graded twice has the same inputs."""
    for student in sorted(path for path in (folder / "submitted").iterdir() if path.is_dir()):
        made = {path.relative_to(student).as_posix(): path.read_text() for path in student.rglob("*.py")}
        scores = grade(made, (folder / "secret.txt").read_text() + student.name)
        save({f"{student.name}.json": json.dumps({"student": student.name, **scores}, indent=1) + "\n"},
             folder / "graded")
        print(f"{student.name}: {scores['points']} of {scores['of']} {scores.get('says', '')}")


if __name__ == "__main__":
    {"write": write, "grade": grade_all}[sys.argv[1]](Path(sys.argv[2]).resolve())
