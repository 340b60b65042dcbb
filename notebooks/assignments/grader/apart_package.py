"""A package to fill, graded apart: it runs in a process of its own, its tests and the table
of points do not."""
import hashlib
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import apart
import torch
from grading import refused

Files = dict[str, str]                # contents by path


def seams_of(tests: ModuleType) -> dict[str, Callable]:
    """The tests of a package, by the seam that they grade."""
    return {name.removeprefix("test_"): test
            for name, test in vars(tests).items() if hasattr(test, "points")}


def answered(submission: Files) -> Files:
    """What of a submission counts: the seams and the modules, but for the configuration's,
    which are given."""
    return {path: text for path, text in submission.items()
            if re.fullmatch(r"adapters\.py|mine/(?!(?:config|limits|settings)\.py)[\w/]+\.py", path)}


def why_refused(files: Files) -> str:
    """Which modules import what an answer may not; a package may import itself."""
    reasons = []
    for path, text in files.items():
        if reason := refused(text, "mine"):
            reasons.append(f"{path} {reason}")
    return "; ".join(reasons)


def grade(submission: Files, release: Files, tests: ModuleType, seed: str,
          check: bool = True, seconds: float = apart.SECONDS) -> dict[str, Any]:
    """Points by seam and in all, of a submission over the files that were given.

    check: refuse imports that an answer may not use; seconds: of the processor, for all calls
    of one seam
    """
    by_seam = seams_of(tests)
    of = sum(test.points for test in by_seam.values())
    files = answered(submission)
    if check and (why := why_refused(files)):
        return {"points": 0, "of": of, "seams": {}, "says": why}
    seams = {}
    total = 0
    with apart.Session(files={**release, **files}, seconds=seconds) as session:
        for name, test in by_seam.items():
            session.fresh()
            digest = hashlib.sha256(f"{seed} test_{name}".encode()).digest()
            g = torch.Generator().manual_seed(int.from_bytes(digest[:6]))
            points = test.points
            says = ""
            try:
                test(session.seams(), g)
            except Exception as problem:
                points = 0
                says = f"{type(problem).__name__}: {problem}"
            total += points
            seams[name] = {"points": points, "of": test.points, "says": says}
    return {"points": total, "of": of, "seams": seams}
