"""Part 4: samples a second, share of the card's peak, and whether the host keeps up with the GPU."""
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from minalbef.bench.step import measure_step
from minalbef.gpu_check.parts import FAIL, Result, Setting, verdict, write_result
from minalbef.presets import preset

FEW = 2                               # rows: the GPU has so little to do that the host's time shows
ROWS = (FEW, 16, 32, 64, 128, 256, 512)
STEPS = 10
RESERVE = 0.15                        # share of the time that is left for the last figure


class Mode(NamedTuple):
    """Precision and compilation of a step."""

    name: str
    precision: str
    tf32: bool = False
    compile: bool = False


# what you train in comes first, in case time runs out
MODES = (Mode("bf16", "bf16"), Mode("tf32", "fp32", tf32=True),
         Mode("bf16, compiled", "bf16", compile=True), Mode("fp32", "fp32"))


def check(setting: Setting) -> Result:
    """Measure steps of `paper-4m` with real captions' lengths, in every mode, up to what fits.

    PASS if there is a figure in bf16, and no compilation after the first steps.
    """
    rows = []
    for mode in MODES:
        rows += measure_mode(mode, setting)
        result = summarise(rows)
        write_result(setting.folder, result._replace(finished=False))    # compiling may be killed
    return result


def summarise(rows: list[dict]) -> Result:
    """The verdict, and the best figure in bf16."""
    bf16 = [row for row in rows if "ms" in row and row["mode"].startswith("bf16")]
    if not bf16:
        return Result(FAIL, f"no figure in bf16: {rows[0]['problem']}", {"steps": rows})
    best = max(bf16, key=lambda row: row["samples_per_second"])
    figure = (f"{best['samples_per_second']:.0f} samples/s in {best['mode']} with {best['rows']} "
              f"rows, {best['tflops']:.3g} TFLOP/s")
    if best["share_of_peak"]:
        figure += f", {best['share_of_peak']:.0%} of the card's peak"
    figure += f"; a step takes {best['ms']:.0f} ms, and the host {best['host_ms']:.0f}"
    faults = [fault for row in rows for fault in row.get("faults", [])]
    if faults:
        figure += f"; {faults[0]}"
    return Result(verdict(not faults), figure, {"best": best, "steps": rows})


def measure_mode(mode: Mode, setting: Setting) -> list[dict]:
    """A row of figures for each number of rows, up to what fits or the time allows."""
    results: list[dict[str, Any]] = []
    for rows in ROWS:
        if setting.seconds_left() < RESERVE * setting.seconds:
            break
        print(f"{mode.name}, {rows} rows", flush=True)
        row: dict[str, Any] = {"mode": mode.name, "rows": rows}
        results.append(row)
        try:
            row |= measure(mode, rows, setting)
        except torch.OutOfMemoryError as error:
            row["problem"] = str(error).splitlines()[0]
            break
        finally:
            gc.collect()                         # the failed step's tensors, too
            torch.cuda.empty_cache()
        row["host_ms"] = results[0]["ms"]
    return results


def measure(mode: Mode, rows: int, setting: Setting) -> dict[str, Any]:
    """Figures of a step."""
    config = preset("paper-4m", **{**setting.changes, "batch": rows, "compile": mode.compile,
                                   "precision": mode.precision})
    torch.cuda.reset_peak_memory_stats()
    with precision_of_products(mode.tf32):
        step = measure_step(config, str(setting.device), STEPS)
    return {
        "samples_per_second": step["samples_per_second"],
        "ms": 1e3 * step["seconds_per_step"],
        "tflops": step["flops_per_step"] / step["seconds_per_step"] / 1e12,
        "share_of_peak": step["share_of_bf16_peak"],
        "share_of_product": step["share_of_matmul_peak"],
        "peak_gb": step["peak_memory_mb"] / 1e3,
        "faults": step["faults"],
    }


@contextmanager
def precision_of_products(tf32: bool) -> Iterator[None]:
    """Meanwhile products of fp32 are in TF32, or aren't."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
