"""The code of yours that a run is trained with, as part of its origin: it goes on with no other."""
import ast
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn

LIBRARIES = ("minalbef", "emojiscenes", "torch", *sys.stdlib_module_names)


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
        for name, value in (*enumerate(make.args, 1), *make.keywords.items()):
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
    hashes = {}
    for name, text in sorted(texts.items()):
        data = text.encode("utf-8", "surrogatepass")
        hashes[name] = hashlib.blake2b(data, digest_size=16).hexdigest()
    return hashes


def used_by(function: FunctionType) -> Iterator[Any]:
    """What a function may call: the values of its closure, its defaults, and all it names."""
    names = names_in(function.__code__)
    yield from function.__defaults__ or ()
    for cell in function.__closure__ or ():
        with suppress(ValueError):               # a variable that hasn't been set
            yield cell.cell_contents
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


def source_of(part: type | FunctionType) -> str:
    """The code of a function or class as text, without comments and layout.

    Of a lambda it is its line, and nothing where there is no source, as in `python -c`. A
    function's text ends with the constants it uses, by PEP 8 in capitals.
    """
    text = ""
    with suppress(OSError, TypeError, SyntaxError):
        text = textwrap.dedent(inspect.getsource(part))
        text = ast.unparse(ast.parse(text))
    if isinstance(part, FunctionType):
        for name in sorted(set(names_in(part.__code__))):
            if name.isupper():
                text += f"\n{name} = {describe_value(part.__globals__.get(name))}"
    return text


def is_yours(module: str | None) -> bool:
    """Whether a module is neither of minalbef, torch or Python, nor of an installed package."""
    top = (module or "").partition(".")[0]
    if top == "__main__":                        # in a notebook, of a file of Jupyter's
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return top not in LIBRARIES and "site-packages" not in file


def describe_value(value: Any) -> str:
    """An argument or a constant as JSON, with the names of functions, classes and other types."""
    def describe(part: Any) -> Any:
        if isinstance(part, frozenset | set):
            return sorted(map(describe_value, part))
        return name_of(part if isinstance(part, type | FunctionType) else type(part))

    return json.dumps(value, default=describe, skipkeys=True)


def name_of(part: type | FunctionType) -> str:
    """The module and the name in it of a function or class."""
    return f"{part.__module__}.{part.__qualname__}"
