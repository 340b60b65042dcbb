"""A package to fill, graded apart: it runs in a process of its own, its tests and the table of points do not."""
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
    return {name.removeprefix("test_"): test for name, test in vars(tests).items() if hasattr(test, "points")}


def answered(submission: Files) -> Files:
    """What of a submission counts: the seams and the modules, but for the configuration, which is given."""
    return {path: text for path, text in submission.items()
            if re.fullmatch(r"adapters\.py|mine/(?!config\.py)[\w/]+\.py", path)}


def why_refused(own: Files) -> str:
    """Which modules import what an answer may not; a package may import itself."""
    reasons = {path: refused(text, "mine") for path, text in own.items()}
    return "; ".join(f"{path} {reason}" for path, reason in reasons.items() if reason)


def grade(submission: Files, given: Files, tests: ModuleType, seed: str, check: bool = True,
          seconds: float = apart.SECONDS) -> dict[str, Any]:
    """Points by seam and in all, of a submission over the files that were given.

    check: refuse imports that an answer may not use; seconds: of the processor, for all calls of one seam
    """
    by_seam = seams_of(tests)
    of = sum(test.points for test in by_seam.values())
    own = answered(submission)
    if check and (why := why_refused(own)):
        return {"points": 0, "of": of, "seams": {}, "says": why}
    seams = {}
    with apart.Session(files={**given, **own}, seconds=seconds) as session:
        for name, test in by_seam.items():
            session.fresh()
            words = f"{seed} test_{name}".encode()
            g = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(words).digest()[:6]))
            seams[name] = {"points": test.points, "of": test.points, "says": ""}
            try:
                test(session.seams(), g)
            except Exception as problem:
                seams[name] |= {"points": 0, "says": f"{type(problem).__name__}: {problem}"}
    return {"points": sum(seam["points"] for seam in seams.values()), "of": of, "seams": seams}
