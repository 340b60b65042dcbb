"""The first hour with a GPU: does it compute what a CPU computes, how fast, and do data come in time?

    python notebooks/experiments/gpu_check.py

Prints PASS or FAIL for each check, and writes every figure as JSON. Without a GPU the CPU is
checked against itself. docs/first_gpu.md says what to do about a FAIL.
"""
import copy
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minalbef.bench.loading import jpeg
from minalbef.bench.step import WORDS, Steps, measure_step
from minalbef.cli.main import run_script
from minalbef.cli.train import Changes
from minalbef.config import Config
from minalbef.data import Record
from minalbef.datasets.loader import PREFETCH, RecordBatches
from minalbef.fast import loop
from minalbef.presets import preset
from minalbef.pretrain import collate
from minalbef.recipes.report import commit, describe_device, now
from minalbef.system import distributed
from minalbef.system.settings import read_changes
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import TASKS

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))

from golden_encoders import CONFIG  # noqa: E402
from golden_pretrain import batch_at, draws_at, gradients, task_at_start  # noqa: E402
from golden_rule import figures  # noqa: E402
from results import write_json  # noqa: E402

CPU = torch.device("cpu")
# init_std: with weights this large the losses depend on every input, also before training
SMALL = dict(image_size=64, patch_size=16, image_width=64, image_depth=2, image_heads=2,
             vocab_size=256, text_width=64, text_heads=2, text_depth=2, fusion_depth=2,
             embed_dim=32, queue_size=32, init_std=0.1, batch=8, dropout=0.0)
GOLDEN = 1e-4                         # of a loss or norm of the original's, relative


class Tolerance(NamedTuple):
    """How far a step may be from the CPU's in fp32."""

    loss: float                       # of the loss, or of 1 where it is smaller
    cosine: float                     # of the gradients, at least


# bf16 has 8 bits of mantissa: each factor of a product is off by up to 0.4%. On a CPU, with three
# seeds, the losses of these recipes in bf16 were off by at most 0.2%, and their gradients' cosine
# was at least 0.97 (2026-11-29)
TOLERANCES = {"fp32": Tolerance(1e-4, 0.9999), "bf16": Tolerance(0.01, 0.95)}
PLAIN: tuple[dict[str, Any], ...] = ({"precision": "fp32"}, {"precision": "bf16"})
# of pretraining alone
VARIANTS: tuple[dict[str, Any], ...] = (
    {"precision": "fp32", "checkpointing": True},
    {"precision": "fp32", "accumulate": 2},
    {"precision": "fp32", "compile": True},
    {"precision": "bf16", "compile": True},
)
MODES = {"bf16": {"precision": "bf16"}, "bf16, compiled": {"precision": "bf16", "compile": True},
         "bf16, checkpointing": {"precision": "bf16", "checkpointing": True},
         "fp32": {"precision": "fp32"}}
ROWS = (16, 64, 256)
FILES = 64                            # photographs of 640 x 480 pixels
RECORDS = 1_000_000                   # that they are read as
WAIT = 0.005                          # seconds for a batch: longer is a wait, shorter is a copy
MOST_WAITS = 0.05                     # share of steps
GPUS = {"base": 1, "paper-4m": 8}     # that docs/scale.md trains them on


class Result(NamedTuple):
    """What a check found."""

    passed: bool
    figure: str                       # one line
    details: Any


class Setting(NamedTuple):
    """What a check is given."""

    device: torch.device
    changes: Mapping[str, str]        # of presets, to make them small
    workers: int


def check_golden(setting: Setting) -> Result:
    """A step of the original's code, whose losses and gradient were recorded: the same here?"""
    recorded = figures("pretrain")["a04"]
    task = task_at_start().to(setting.device)
    config = replace(CONFIG, precision="fp32")
    losses, _ = loop.backward(task, task, batch_at(1), 0.4, draws_at(1), config, setting.device)
    norms = [gradient.norm() for gradient in gradients(task).values()]
    pairs = {"itc": (losses["itc"], recorded["loss_ita"]),
             "itm": (losses["itm"], recorded["loss_itm"]),
             "mlm": (losses["mlm"], recorded["loss_mlm"]),
             "gradient": (torch.stack(norms).norm(), recorded["grad_norm_total"])}
    off = {name: abs(ours.item() / theirs - 1) for name, (ours, theirs) in pairs.items()}
    worst = torch.tensor([*off.values()]).max().item()           # NaN if one of them is
    figure = f"losses and gradient of the original's step within {worst:.1e}"
    return Result(worst <= GOLDEN, figure, off)


def check_recipes(setting: Setting) -> Result:
    """Each recipe in small, in fp32, bf16, in micro-batches, compiled: as in fp32 on the CPU?"""
    rows = []
    for task in TASKS.values():
        for changes in PLAIN:
            rows.append(compare(task.name, changes, setting.device))
    for changes in VARIANTS:
        rows.append(compare("pretrain", changes, setting.device))
    wrong = [row for row in rows if not row["passed"]]
    figure = f"{len(rows) - len(wrong)} of {len(rows)} agree with the CPU"
    for precision in TOLERANCES:
        compared = [row for row in rows if row["precision"] == precision and "cosine" in row]
        loss = max((row["loss"] for row in compared), default=float("nan"))
        cosine = min((row["cosine"] for row in compared), default=float("nan"))
        figure += f"; {precision}: losses within {loss:.1e}, gradients' cosine {cosine:.5f}"
    if wrong:
        figure += f"; the first that doesn't: {wrong[0]}"
    return Result(not wrong, figure, rows)


def compare(name: str, changes: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """How far a variant of a recipe on the device is from plain layers in fp32 on the CPU."""
    row = {"recipe": name, **changes, "passed": False}
    limit = TOLERANCES[changes["precision"]]
    micro_batches = changes.get("accumulate", 1)                 # a loss may compare their rows
    config = preset(TASKS[name].preset, **SMALL, alpha_ramp=False, device="cpu",
                    precision="fp32", accumulate=micro_batches)
    plain = Steps(config, name)
    plain(0)                                     # the teacher lags behind
    batch = plain.batch(1)
    task = copy.deepcopy(plain.task).to(device)
    losses, gradient = backward(plain.task, config, batch, CPU)
    compiled = torch._dynamo.utils.counters["frames"]            # torch has no public count
    graphs = compiled["ok"]
    try:
        config = replace(config, **changes)
        other_losses, other_gradient = backward(task, config, batch, device)
    except RuntimeError as error:                # of a kernel: the others are compared
        return row | {"problem": (str(error).splitlines() or [""])[0]}
    differences = []
    for key, loss in losses.items():
        differences.append(abs(loss - other_losses[key]) / max(1.0, abs(loss)))
    largest = torch.tensor(differences).max().item()
    cosine = torch.cosine_similarity(gradient, other_gradient, 0).item()
    passed = largest <= limit.loss and cosine >= limit.cosine
    row |= {"loss": largest, "cosine": cosine, "passed": passed}
    if config.compile and compiled["ok"] == graphs:
        row |= {"passed": False, "problem": "nothing was compiled"}
    return row


def backward(task: Any, config: Config, batch: Any, device: torch.device
             ) -> tuple[dict[str, float], Tensor]:
    """The losses of step 1, and all gradients in one vector on the CPU."""
    with loop.recompute_and_compile(task, config):
        losses, _ = loop.backward(task, task, batch, config.alpha, task.draws(1), config, device)
    flat = [p.grad.flatten() for p in task.parameters() if p.grad is not None]
    values = {name: loss.item() for name, loss in losses.items()}
    return values, torch.cat(flat).double().cpu()


class Photos:
    """Records of made-up photographs; each file is read many times."""

    upright = False

    def __init__(self, folder: Path):
        file = jpeg()
        self.paths = [folder / f"{i}.jpg" for i in range(FILES)]
        for path in self.paths:
            path.write_bytes(file)

    def __len__(self) -> int:
        return RECORDS

    def __getitem__(self, i: int) -> Record:
        return Record(self.paths[i % FILES], " ".join(WORDS[:i % 12 + 4]), i)


def check_feed(setting: Setting) -> Result:
    """Do workers make the batches of one process, and does a GPU wait for them?"""
    on_gpu = setting.device.type == "cuda"
    options = {"batch": 64 if on_gpu else 8, "device": setting.device.type, **setting.changes}
    config = preset("paper-4m", **options)
    tokenizer = Tokenizer.train([" ".join(WORDS)], min(config.vocab_size, 512))
    with tempfile.TemporaryDirectory() as folder:
        photos = Photos(Path(folder))

        def batches(workers: int) -> RecordBatches:
            return RecordBatches(photos, collate, config, tokenizer, workers)
        equal = same_batches(batches(0), batches(2))
        share, rate = share_of_waits(Steps(config), batches(setting.workers), setting.workers)
    figure = f"{share:.0%} of steps wait for {setting.workers} workers, {rate:.0f} samples/s"
    if not equal:
        figure += "; workers' batches differ from those of one process"
    return Result(equal and (share <= MOST_WAITS or not on_gpu), figure,
                  {"same_batches": equal, "steps_that_wait": share, "samples_per_second": rate})


def same_batches(alone: Callable[[int], Any], together: Callable[[int], Any]) -> bool:
    """Whether two loaders make the same batches."""
    for step in range(3):
        batch, other = alone(step), together(step)
        for name, value in vars(batch).items():
            if isinstance(value, Tensor) and not torch.equal(value, getattr(other, name)):
                return False
    return True


def share_of_waits(work: Steps, batches: Callable[[int], Any], workers: int
                   ) -> tuple[float, float]:
    """The share of steps that wait for their batch, and samples a second.

    Of the second half of the steps: at first each worker has batches ready.
    """
    count = 4 * PREFETCH * workers
    waits, ends = [], []
    for step in range(count):
        start = time.perf_counter()
        batch = batches(step)
        waits.append(time.perf_counter() - start)
        work(step, batch)
        work.wait()                              # so that a wait is for data alone
        ends.append(time.perf_counter())
    half = count // 2
    late = [wait for wait in waits[half:] if wait > WAIT]
    rate = work.config.batch * half / (ends[-1] - ends[half - 1])
    return len(late) / half, rate


def check_speed(setting: Setting) -> Result:
    """Samples a second and memory of `paper-4m`; hours. PASS if bf16 is faster than fp32."""
    rows: list[dict[str, Any]] = []
    for mode, changes in MODES.items():
        for count in ROWS:
            row = measure_rows(setting, {**changes, "batch": count})
            rows.append({"mode": mode, "rows": count, **row})
            if "problem" in row:                 # more rows need more memory
                break
    best: dict[str, dict] = {}
    for row in rows:
        if "problem" in row:
            continue
        fastest = best.setdefault(row["mode"], row)
        if row["samples_per_second"] > fastest["samples_per_second"]:
            best[row["mode"]] = row
    if not {"bf16", "fp32"} <= best.keys():
        problem = next(row["problem"] for row in rows if "problem" in row)
        return Result(False, problem, rows)
    lines = []
    for mode, row in best.items():
        lines.append(f"{mode} {row['samples_per_second']:.0f} samples/s with {row['rows']} rows "
                     f"in {row['peak_memory_gb']:.3g} GB")
    rate = best["bf16"]["samples_per_second"]
    for name, gpus in GPUS.items():
        config = preset(name, **setting.changes)
        hours = config.steps * config.batch / rate / gpus / 3600
        lines.append(f"{name} takes {hours:.3g} hours on {gpus} of these, if data and network "
                     "keep up")
    faster = rate > best["fp32"]["samples_per_second"]
    return Result(faster or setting.device.type == "cpu", "; ".join(lines), rows)


def measure_rows(setting: Setting, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of `bench step` for so many rows; or the "problem" where they don't fit."""
    options = {**setting.changes, **changes, "device": setting.device.type}
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        return measure_step(preset("paper-4m", **options))
    except torch.OutOfMemoryError as error:
        return {"problem": str(error).splitlines()[0]}
    finally:
        gc.collect()                             # a failed step's tensors, too
        torch.cuda.empty_cache()


CHECKS = {"golden": check_golden, "recipes": check_recipes, "feed": check_feed,
          "speed": check_speed}


def main(changes: Changes = (), /, device: str = "auto", workers: int = 8,
         only: tuple[str, ...] = (), out: Path = Path("runs/gpu_check.json")) -> None:
    """Check a GPU before you train on it. Exit status 1 if a check fails.

    Args:
        changes: options of paper-4m and base to change, to make them small
        device: auto, cuda or cpu
        workers: processes that open images, for each GPU; as many as it has cores, less one
        only: some of the checks: golden, recipes, feed, speed
        out: the file to write
    """
    setting = Setting(distributed.device_of(device), read_changes(changes), workers)
    torch.backends.cudnn.allow_tf32 = False      # a GPU's convolutions have ten bits by default
    about = {"device": describe_device(), "date": now(), "commit": commit()}
    print(f"{setting.device.type}: {about['device']}", flush=True)
    results = {}
    for name in only or CHECKS:
        try:
            result = CHECKS[name](setting)
        except Exception as error:               # whatever it is: the other checks are made
            first = (str(error).splitlines() or [""])[0]
            result = Result(False, f"{type(error).__name__}: {first}", None)
        results[name] = result._asdict()
        print(f"{'PASS' if result.passed else 'FAIL'} {name}: {result.figure}", flush=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, about | {"checks": results})
    if not all(result["passed"] for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
