"""Part 5: does a step need the memory that `minalbef plan` counts?"""
import gc
from typing import Any, NamedTuple

import torch

from minalbef.bench.step import Steps
from minalbef.fast import loop
from minalbef.gpu_check.parts import PASS, Result, Setting, pass_or_fail
from minalbef.presets import preset
from minalbef.recipes.cost import memory_bytes

GB = 1e9
STEPS = 3
CLOSE = 0.1                           # largest difference, as a share of the plan


class Case(NamedTuple):
    """A way to train `paper-4m` in bf16."""

    name: str
    rows: int
    accumulate: int = 1
    checkpointing: bool = False


CASES = (Case("plain", 64), Case("two micro-batches", 128, accumulate=2),
         Case("checkpointing", 256, checkpointing=True))


def check(setting: Setting) -> Result:
    """Compare the peak of memory with the plan's; PASS if all that fit are within CLOSE of it."""
    rows = []
    for case in CASES:
        print(case.name, flush=True)
        rows.append(measure_case(case, setting))
        gc.collect()
        torch.cuda.empty_cache()
    figures = []
    for row in rows:
        figures.append(f"{row['case']} {row['measured_gb']:.3g} GB, planned "
                       f"{row['planned_gb']:.3g}")
    passed = all(row["verdict"] == PASS for row in rows)
    return Result(pass_or_fail(passed), "; ".join(figures), {"cases": rows})


def measure_case(case: Case, setting: Setting) -> dict[str, Any]:
    """Planned and measured memory of one case, with half the rows until it fits."""
    rows = case.rows
    while True:
        config = preset("paper-4m", **{
            **setting.changes, "batch": rows, "precision": "bf16",
            "accumulate": case.accumulate, "checkpointing": case.checkpointing})
        planned = memory_bytes(config, rows // case.accumulate, True, False, 1, case.accumulate,
                               case.checkpointing)["all"]
        torch.cuda.reset_peak_memory_stats()
        try:
            work = Steps(config, str(setting.device), full_texts=True)
            with loop.recompute_and_compile(work.task, config):
                for _ in range(STEPS):
                    work()
            break
        except torch.OutOfMemoryError:
            if rows <= 2 * case.accumulate:
                raise
            rows //= 2
        gc.collect()
        torch.cuda.empty_cache()
    peak = torch.cuda.max_memory_allocated(setting.device)
    return {"case": case.name, "rows": rows, "planned_gb": planned / GB, "measured_gb": peak / GB,
            "ratio": peak / planned, "verdict": pass_or_fail(abs(peak / planned - 1) <= CLOSE)}
