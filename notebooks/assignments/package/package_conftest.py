"""How test_mine.py counts your points: minalbef is closed, inputs come from MINE_SEED.
Graders run it elsewhere."""
import hashlib
import importlib
import importlib.abc
import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCORES: dict[str, dict[str, Any]] = {}


class Closed(importlib.abc.MetaPathFinder):
    """Whoever imports minalbef hears why not."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == "minalbef":
            raise ImportError("minalbef is closed while your package is graded: "
                              "write it yourself")


sys.meta_path.insert(0, Closed())


@pytest.fixture
def adapters() -> ModuleType:
    """The seams; imported here, so that a mistake in an import is said and no crash."""
    return importlib.import_module("adapters")


@pytest.fixture
def g(request: pytest.FixtureRequest) -> torch.Generator:
    """Random numbers of a submission's and a test's own."""
    words = f"{os.environ.get('MINE_SEED', '0')} {request.node.name}"
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(words.encode()).digest()[:6]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item,
                              call: pytest.CallInfo) -> Generator[None, Any, Any]:
    report = yield
    if call.when != "teardown":
        of = item.function.points
        right = call.when == "call" and report.passed
        says = f"{call.excinfo.typename}: {call.excinfo.value}" if call.excinfo else ""
        score = {"points": of if right else 0, "of": of, "says": says}
        SCORES[item.name.removeprefix("test_")] = score
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    total = {what: sum(seam[what] for seam in SCORES.values())
             for what in ("points", "of")}
    scores = json.dumps({**total, "seams": SCORES}, indent=1)
    path = Path(os.environ.get("MINE_SCORES", "scores.json"))
    path.write_text(scores + "\n", encoding="utf-8")
    terminalreporter.write_line(f"{total['points']} of {total['of']} points")
