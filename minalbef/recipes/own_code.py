"""The code of yours that a run is trained with, as part of its origin: it goes on with no other."""
import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

LIBRARIES = ("minalbef", "emojiscenes", "torch", *sys.stdlib_module_names)
PLAIN = (bool, int, float, str, type(None))


def origin_of_code(make: Callable[..., Any], task: nn.Module, usual: tuple[type, ...]
                   ) -> dict[str, str]:
    """A task of yours as entries of a run's origin, with which alone it resumes.

    make: what made the task, maybe a partial with arguments
    usual: the classes that the task has by default, plain and fast
    -> its class, the arguments that you gave, and hashes of the functions and classes that are
       neither minalbef's nor an installed library's. {} for the default task.
    """
    origin = {}
    if type(task) not in usual:
        origin["task class"] = name_of(type(task))
    parts: list[Any] = [make]
    while isinstance(make, partial):
        for i, value in enumerate(make.args):
            origin[f"argument {i + 1}"] = describe_value(value)
        for name, value in make.keywords.items():
            origin[f"argument {name}"] = describe_value(value)
        make = make.func
    for module in task.modules():
        parts += [type(module), *vars(module).values()]
    return origin | {f"code of {name}": digest for name, digest in hash_code(parts).items()}


def hash_code(parts: list[Any]) -> dict[str, str]:
    """Hashes of your functions and classes among `parts`, and of those that they use, by name."""
    texts: dict[str, str] = {}
    seen: set[int] = set()
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        if isinstance(part, staticmethod | classmethod | MethodType):
            part = part.__func__
        elif isinstance(part, property):
            part = part.fget
        if isinstance(part, partial):
            waiting += [part.func, *part.args, *part.keywords.values()]
        if not isinstance(part, type | FunctionType) or id(part) in seen:
            continue
        seen.add(id(part))
        yours = is_yours(part.__module__)
        if yours:                                # of one name there may be several: lambdas
            texts[name_of(part)] = texts.get(name_of(part), "") + source_of(part)
        if isinstance(part, type) and (yours or part.__module__.startswith("minalbef.")):
            waiting += [*part.__bases__, *vars(part).values()]   # minalbef's may hold some of yours
        elif yours and isinstance(part, FunctionType):
            waiting += used_by(part)
    return {name: hash_text(texts[name]) for name in sorted(texts)}


def used_by(function: FunctionType) -> Iterator[Any]:
    """What a function may call: the values of its closure, its defaults, and all it names."""
    names = names_in(function.__code__)
    yield from function.__defaults__ or ()
    yield from (cell.cell_contents for cell in function.__closure__ or () if has_contents(cell))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType) and is_yours(value.__name__):
            yield from (getattr(value, inner, None) for inner in names)
        yield value


def names_in(code: CodeType) -> list[str]:
    """The names that code takes from outside, also in functions within it."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += names_in(constant)
    return names


def has_contents(cell: Any) -> bool:
    """Whether a closure's variable has been set."""
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True


def source_of(part: type | FunctionType) -> str:
    """The code of a function or class as text, without comments and layout.

    Where there is no source (a lambda has only its line), a function's bytecode stands for it, and
    a class is known by its functions. A function's text ends with the constants it uses, by PEP 8
    in capitals.
    """
    constants = ""
    if isinstance(part, FunctionType):
        for name in sorted(set(names_in(part.__code__))):
            value = part.__globals__.get(name)
            if name.isupper():
                constants += f"\n{name} = {describe_value(value)}"
    try:
        if part.__name__ == "<lambda>":
            raise OSError("its line has more than it")
        text = textwrap.dedent(inspect.getsource(part))
        return ast.unparse(ast.parse(text)) + constants
    except (OSError, TypeError, SyntaxError):
        if isinstance(part, type):
            return ""
        return "\n".join(bytecode(part.__code__)) + constants


def bytecode(code: CodeType) -> Iterator[str]:
    """A function's bytecode, and that of functions within it, in words."""
    yield code.co_code.hex()
    yield " ".join(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from bytecode(constant)
        else:
            yield describe_value(constant)


def is_yours(module: str | None) -> bool:
    """Whether a module is neither of minalbef, torch or Python, nor of an installed package."""
    top = (module or "").partition(".")[0]
    if top == "__main__":                        # in a notebook, of a file of Jupyter's
        return True
    if top in LIBRARIES:
        return False
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" not in file


def describe_value(value: Any) -> str:
    """An argument: its value if it's plain, the name of a function or class, or else its type's."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(describe_value, value))})"
    if isinstance(value, frozenset | set):
        return f"{{{', '.join(sorted(map(describe_value, value)))}}}"
    if isinstance(value, dict):
        return describe_value([*value.items()])
    if isinstance(value, type | FunctionType):
        return name_of(value)
    return name_of(type(value))


def name_of(part: type | FunctionType) -> str:
    """The module and the name in it of a function or class."""
    return f"{part.__module__}.{part.__qualname__}"


def hash_text(text: str) -> str:
    """A hash of a text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
