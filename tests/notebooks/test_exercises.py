"""A solution runs what its exercise says: the settings in the exercise's text are compared with those in the code.

An exercise names its settings in `code`: `train_for(1, True, text_heads=6)`, `steps=1600`. Each stands in the
solution's code, under the same name. The other way round, where a solution calls the chapter's functions with other
numbers than the chapter does, the exercise says so. What follows "With more time" in an exercise is for the reader
alone: no solution has to run it.
"""
import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
Settings = list[tuple[str, object]]


def cells(path: Path) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]


def parse(code: str) -> ast.Module:
    """A cell's code without its magics."""
    return ast.parse("\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in code.splitlines()))


def exercises(chapter: Path) -> list[str]:
    """The exercises of a chapter that have a solution: all but the open ones."""
    text = "\n".join(source for kind, source in cells(chapter) if kind == "markdown")
    below = re.split(r"^## .*[Ee]xercises.*$", text, maxsplit=1, flags=re.M)[1].split("\n## ")[0]
    found = re.findall(r"^[-*] (.*(?:\n(?![-*#]).+)*)", below, re.M)
    return [one for one in found if not one.startswith("**Open")]


def solutions(chapter: Path) -> list[str]:
    """The code that answers each exercise: what stands below its heading, after what stands above all headings."""
    parts = [[]]
    for kind, source in cells(chapter.parent / "solutions" / chapter.name):
        if kind == "markdown" and source.startswith("## "):
            parts.append([])
        elif kind == "code":
            parts[-1].append(source)
    first, *rest = ["\n".join(part) for part in parts]
    return [f"{first}\n{part}" for part in rest]


def part_to_run(text: str) -> str:
    """What stands before "With more time"."""
    return re.split(r"With\s+more\s+time", text)[0]


def constant(node: ast.AST) -> bool:
    """Whether an expression has its value in itself: numbers, strings, tuples of them, products; not `...`."""
    allowed = (ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    inner = list(ast.walk(node))
    return all(isinstance(one, allowed) for one in inner) and not any(
        isinstance(one, ast.Constant) and one.value is ... for one in inner)


def value(node: ast.AST) -> object:
    found = eval(compile(ast.fix_missing_locations(ast.Expression(node)), "setting", "eval"))
    return tuple(found) if isinstance(found, list) else found


def defaults(function: ast.FunctionDef) -> list[tuple[str, ast.AST]]:
    given = function.args.args[len(function.args.args) - len(function.args.defaults):]
    return [(argument.arg, default) for argument, default in zip(given, function.args.defaults)]


def functions(code: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.walk(parse(code)) if isinstance(node, ast.FunctionDef)}


def arguments(call: ast.Call, known: dict[str, ast.FunctionDef]) -> list[tuple[str, ast.AST]]:
    """The arguments of a call by their names; those by position have names if the function is known."""
    function = known.get(called(call))
    names = [one.arg for one in function.args.args] if function else []
    starred = next((i for i, one in enumerate(call.args) if isinstance(one, ast.Starred)), None)
    if starred is not None:                  # what it holds isn't known, so count from the end
        names = names[:starred] + [""] + names[len(names) - len(call.args) + starred + 1:]
    found = [*zip(names, call.args), *((one.arg, one.value) for one in call.keywords if one.arg)]
    return [(name, either) for name, one in found
            for either in ((one.body, one.orelse) if isinstance(one, ast.IfExp) else (one,))]


def called(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def looped(target: ast.AST, over: ast.AST) -> list[tuple[str, ast.AST]]:
    """The names and values of a loop, `for steps in (20, 40)`, also in tuples, and over a range."""
    if isinstance(over, ast.Call) and called(over) == "range" and all(map(constant, over.args)):
        over = ast.Tuple([ast.Constant(i) for i in range(*map(value, over.args))], ast.Load())
    if not isinstance(over, ast.Tuple | ast.List):
        return []
    if isinstance(target, ast.Name):
        return [(target.id, one) for one in over.elts]
    pairs = [zip(target.elts, one.elts) for one in over.elts if isinstance(one, ast.Tuple)]
    return [(name.id, one) for pair in pairs for name, one in pair if isinstance(name, ast.Name)]


def given(code: str, known: dict[str, ast.FunctionDef]) -> list[tuple[str, ast.AST]]:
    """Every name that code gives a value: arguments, defaults, entries of a dict, assignments, loops."""
    found = []
    for node in ast.walk(parse(code)):
        if isinstance(node, ast.Call):
            found += arguments(node, known)
        elif isinstance(node, ast.FunctionDef):
            found += defaults(node)
        elif isinstance(node, ast.Dict):
            found += [(key.value, one) for key, one in zip(node.keys, node.values) if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.append((node.targets[0].id, node.value))
        elif isinstance(node, ast.For | ast.comprehension):
            found += looped(node.target, node.iter)
    return found


def answers(chapter: Path) -> list[tuple[str, str]]:
    """What a solution expects, and what its code printed or its figures say, for each exercise."""
    parts = []
    book = json.loads((chapter.parent / "solutions" / chapter.name).read_text("utf-8"))
    for cell in book["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("## "):
            parts.append((re.search(r"^Expected:.*?(?=\n\n|\Z)", source, re.M | re.S)[0], []))
        elif parts:
            shown = cell.get("outputs", [])
            parts[-1][1].extend("".join(one.get("text", [])) for one in shown)
            parts[-1][1].extend(one.get("metadata", {}).get("image/png", {}).get("alt", "") for one in shown)
    return [(expected, "\n".join(printed)) for expected, printed in parts]


def not_printed(expected: str, printed: str) -> list[str]:
    """Figures with a decimal point that a solution expects and that its cells don't show; formulas are free."""
    prose = re.sub(r"\$[^$]*\$|`[^`]*`", "", part_to_run(expected))
    return [figure for figure in re.findall(r"\d\.\d+", prose) if figure not in printed]


def spans(text: str) -> list[str]:
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def named(text: str, known: dict[str, ast.FunctionDef]) -> tuple[Settings, set[str]]:
    """What an exercise's text sets: names with values, and names that it leaves to the reader, as in `seed=...`."""
    fixed, free = [], set()
    for span in spans(text):
        try:
            nodes = given(span, known)
        except SyntaxError:                  # a command, or a part of one
            nodes = [(name, ast.Constant(word)) for name, word in re.findall(r"(\w+)=([^\s,)]+)", span)]
        fixed += [(name, value(node)) for name, node in nodes if constant(node)]
        free |= {name for name, node in nodes if not constant(node)} | {span}
    return fixed, free


def not_run(exercise: str, solution: str, known: dict[str, ast.FunctionDef]) -> Settings:
    """Settings that an exercise names and that its solution doesn't have; `...` for a name without any value."""
    fixed, free = named(part_to_run(exercise), known)
    nodes = given(solution, known | functions(solution))
    ran = [(name, value(node)) for name, node in nodes if constant(node)]
    names = {name for name, _ in nodes}
    left_open = {name for span in spans(part_to_run(exercise)) for name in re.findall(r"(\w+)=\.\.\.", span)}
    return [one for one in fixed if one not in ran] + [(name, ...) for name in sorted(free & left_open - names)]


def not_said(exercise: str, solution: str, known: dict[str, ast.FunctionDef]) -> Settings:
    """Settings of a solution that are neither the chapter's nor the exercise's.

    Of the functions that the exercise names: what the solution hands to them, and defaults where it defines them anew.
    """
    fixed, _ = named(part_to_run(exercise), known)
    _, free = named(exercise, known)
    asked = {name for span in spans(exercise) for name in re.findall(r"(\w+)\(", span)} & known.keys()
    nodes = [(name, pair) for name, function in functions(solution).items() for pair in defaults(function)]
    nodes += [(called(node), pair) for node in ast.walk(parse(solution)) if isinstance(node, ast.Call)
              for pair in arguments(node, known | functions(solution))]
    found = []
    for function, (name, node) in nodes:
        if function in asked and constant(node) and name not in free:
            usual = {one.arg: [] for one in known[function].args.args}       # others are the solution's own
            usual |= {one: [value(default)] for one, default in defaults(known[function]) if constant(default)}
            if name in usual and value(node) not in usual[name] and (name, value(node)) not in fixed:
                found.append((name, value(node)))
    return found


PAIRS = [pytest.param(chapter, place, id=f"{chapter.stem}-{place}") for chapter in NOTEBOOKS
         for place in range(len(exercises(chapter)))]


@pytest.mark.parametrize("chapter, place", PAIRS)
def test_a_solution_runs_what_its_exercise_says_and_nothing_else(chapter, place):
    exercise, solution = exercises(chapter)[place], solutions(chapter)[place]
    known = functions("\n".join(source for kind, source in cells(chapter) if kind == "code"))
    assert not_run(exercise, solution, known) == [], "named in the exercise, and not in the solution's code"
    assert not_said(exercise, solution, known) == [], "in the solution's code, and not named in the exercise"


@pytest.mark.parametrize("chapter, place", PAIRS)
def test_what_a_solution_expects_is_what_its_cells_show(chapter, place):
    assert not_printed(*answers(chapter)[place]) == []


def test_a_figure_of_another_run_would_be_seen():
    assert not_printed("Expected: 0.12 and\n0.5, of $0.3 + 1$. With more time 0.7.", "loss 0.12, 0.55") == []
    assert not_printed("Expected: 0.12 and 0.5.", "loss 0.13, 0.55") == ["0.12"]


KNOWN = functions("def tune(model, steps=48, seed=0): pass\ndef start(width, seed=0): pass")
ASKED = "Twice as long, `tune(start(8), steps=96)`, with `lr=0.1`. With more time, `tune(..., seed=...)`, `steps=960`."


def test_other_settings_in_a_solution_would_be_seen():
    right = "tune(start(8), 96)\nsettings = dict(lr=0.1)"
    assert not_run(ASKED, right, KNOWN) == not_said(ASKED, right, KNOWN) == []
    assert not_run(ASKED, right.replace("96", "72"), KNOWN) == [("steps", 96)]
    assert not_said(ASKED, right.replace("96", "72"), KNOWN) == [("steps", 72)]
    assert not_run(ASKED, right.replace("lr", "rate"), KNOWN) == [("lr", 0.1)]
    shorter = "def tune(model, steps=16, seed=0): pass\n" + right
    assert not_run(ASKED, shorter, KNOWN) == [] and not_said(ASKED, shorter, KNOWN) == [("steps", 16)]
    assert not_run("Vary `tune(model, seed=...)`.", "tune(one)", KNOWN) == [("seed", ...)]


def test_settings_are_found_wherever_a_solution_may_give_them():
    for code in ("f(a=1)", "dict(a=1)", "x = {'a': 1}", "a = 1", "for a in (2, 1): pass", "[a for a in range(3)]",
                 "for name, a in (('x', 2), ('y', 1)): pass", "def f(b, a=1): pass", "g(0, 1)", "g(*x, 1)",
                 "f(a=1 if b else 2)"):
        nodes = given(code, functions("def g(b, a): pass"))
        assert ("a", 1) in [(name, value(node)) for name, node in nodes if constant(node)], code
