"""What the assignments' tests call: a submission's own inputs, the package closed,
comparisons that name a property."""
import ast
import hashlib
import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from minalbef.evaluation.checks import check_same

MAY_IMPORT = {"__future__", "abc", "bisect", "collections", "contextlib", "copy",
              "dataclasses", "einops", "enum", "functools", "heapq", "itertools",
              "math", "matplotlib", "numbers", "numpy", "operator", "random", "re",
              "statistics", "string", "time", "torch", "typing", "warnings"}
REFUSED = {"__import__", "compile", "eval", "exec", "importlib"}
TAUGHT = ("layers vision text fusion albef losses masking ema feature_queue "
          "train evaluation.answers evaluation.gradcam evaluation.ranking "
          "tasks.grounding tasks.nlvr2").split()


def inputs() -> torch.Generator:
    """A submission's own random numbers: from the course's secret, its folder (the student's
    name) and time stamp."""
    stamp = Path("timestamp.txt")
    words = [os.environ.get("COURSE_SECRET", ""), *Path.cwd().parts[-2:],
             stamp.read_text(encoding="utf-8") if stamp.exists() else ""]
    digest = hashlib.sha256("\n".join(words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6]))


def equal(got: torch.Tensor, want: torch.Tensor | float, says: str, tol: float = 1e-4):
    """AssertionError(says) unless both have one shape and, nearly, the same values."""
    got = torch.as_tensor(got)
    want = torch.as_tensor(want)
    assert got.shape == want.shape and torch.allclose(
        got.double(), want.double(), rtol=tol, atol=tol), says


def same(answer: Callable, formula: Callable, *args: Any, says: str, tol: float = 1e-4):
    """Hold an answer against an independent formula, values and gradients:
    AssertionError(says) where they part."""
    try:
        with redirect_stdout(io.StringIO()):
            check_same(answer, formula, make_input=lambda: args, tol=tol)
    except AssertionError:
        # the numbers would tell the answer, not the mistake
        raise AssertionError(says) from None


CLOSED = ("minalbef", "emojiscenes")


@contextmanager
def closed() -> Iterator[None]:
    """Inside, every function of minalbef and its world raises, its checks apart, whatever
    name an answer gave it."""
    for name in TAUGHT:
        importlib.import_module(f"minalbef.{name}")
    loaded = [module for name, module in sys.modules.items()
              if name.split(".")[0] in CLOSED and name != "minalbef.evaluation.checks"]
    codes = {}
    for module in loaded:
        for part in vars(module).values():
            for f in vars(part).values() if inspect.isclass(part) else [part]:
                if (inspect.isfunction(f) and f.__module__.split(".")[0] in CLOSED
                        and f.__module__ != "minalbef.evaluation.checks"):
                    f = inspect.unwrap(f)
                    codes[f] = f.__code__
    for f, code in codes.items():
        f.__code__ = _refuse.__code__.replace(co_freevars=code.co_freevars)
    try:
        yield
    finally:
        for f, code in codes.items():
            f.__code__ = code


def _refuse(*args, **kwargs):
    raise AssertionError("this answer calls minalbef: write it yourself")


def cleaned(source: str) -> str:
    """Python without a notebook's magics and shell commands. A line that begins with the
    operator % stays."""
    lines = source.split("\n")
    for _ in lines:
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError as problem:
            at = (problem.lineno or 0) - 1
            magic = re.match(r"(\s*)[%!?]", lines[at]) if 0 <= at < len(lines) else None
            if not magic:
                # Python will say so itself
                break
            lines[at] = f"{magic[1]}pass"
        except (ValueError, RecursionError, MemoryError):
            break
    return "\n".join(lines)


def refused(source: str, package: str = "") -> str:
    """Why a student's cell, or a module of their package, may not run: a sentence, or nothing.

    package: its name, where imports of itself are fine
    """
    try:
        tree = ast.parse(cleaned(source))
    except SyntaxError:
        # Python will say so itself
        return ""
    may_import = MAY_IMPORT | ({package} if package else set())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not (node.level and package):
            names = ["." * node.level + (node.module or "")]
        for name in names:
            if name.split(".")[0] not in may_import:
                return (f"imports {name}; an answer may import "
                        f"{', '.join(sorted(MAY_IMPORT))}")
        if isinstance(node, ast.Name) and node.id in REFUSED:
            return (f"uses {node.id}; an answer needs none of "
                    f"{', '.join(sorted(REFUSED))}")
    return ""
