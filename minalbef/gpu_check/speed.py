"""Part 4: samples a second, share of the card's peak, and whether the host keeps up."""
import gc
from typing import Any, NamedTuple

import torch

from minalbef.bench.step import measure_step
from minalbef.gpu_check.parts import FAIL, Result, Setting, pass_or_fail, write_result
from minalbef.gpu_check.small_steps import fp32_products
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
    rows: list[dict] = []
    result = Result(FAIL, "there was no time for a step")
    for mode in MODES:
        for count in ROWS:
            if setting.seconds_left() < RESERVE * setting.seconds:
                break
            rows.append(measure_or_explain(mode, count, setting))
            result = summarise(rows)
            write_result(setting.folder, result._replace(finished=False))    # it may be killed
            if "problem" in rows[-1]:
                break
    return result


def summarise(rows: list[dict]) -> Result:
    """The verdict, and the best figure in bf16."""
    bf16 = [row for row in rows if "ms" in row and row["mode"].startswith("bf16")]
    if not bf16:
        return Result(FAIL, f"no figure in bf16: {rows[0]['problem']}", {"steps": rows})
    best = max(bf16, key=lambda row: row["samples_per_second"])
    host = next(row["ms"] for row in bf16 if row["mode"] == best["mode"])
    figure = (f"{best['samples_per_second']:.0f} samples/s in {best['mode']} with {best['rows']} "
              f"rows, {best['tflops']:.3g} TFLOP/s")
    if best["share_of_peak"]:
        figure += f", {best['share_of_peak']:.0%} of the card's peak"
    figure += f"; a step takes {best['ms']:.0f} ms, and the host {host:.0f}"
    faults = [fault for row in rows for fault in row.get("faults", [])]
    if faults:
        figure += f"; {faults[0]}"
    details = {"best": best, "host_ms": host, "steps": rows}
    return Result(pass_or_fail(not faults), figure, details)


def measure_or_explain(mode: Mode, rows: int, setting: Setting) -> dict[str, Any]:
    """Figures of a step with so many rows; or the "problem" where they don't fit."""
    print(f"{mode.name}, {rows} rows", flush=True)
    row: dict[str, Any] = {"mode": mode.name, "rows": rows}
    try:
        row |= measure_rows(mode, rows, setting)
    except torch.OutOfMemoryError as error:
        row["problem"] = str(error).splitlines()[0]
    finally:
        gc.collect()                             # the failed step's tensors, too
        torch.cuda.empty_cache()
    return row


def measure_rows(mode: Mode, rows: int, setting: Setting) -> dict[str, Any]:
    """Figures of a step."""
    config = preset("paper-4m", **{**setting.changes, "batch": rows, "compile": mode.compile,
                                   "precision": mode.precision})
    torch.cuda.reset_peak_memory_stats()
    with fp32_products(mode.tf32):
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
