"""The loop: one for every task. All that changes state in training stands here, after the optimiser's step."""
import csv
import math
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from minalbef import checkpoint, distributed
from minalbef.config import Config

NO_DECAY = ("temperature", "cls_token", "pos_embed")
STAIR = 100                                              # steps between the rises of the original's warm-up


class Stopped(Exception):
    """Ctrl-C or SIGTERM: the run was saved and can go on."""


def lr_at(step: int, config: Config) -> float:
    """Learning rate of a step: a straight warm-up, then a cosine to the end.

    schedule="stairs" moves as the original does, in jumps. In the first epoch the rate rises after steps 100, 200 and so
    on, up to warmup_steps, and then stays; later epochs each have one rate, that of the cosine over whole epochs. (Its
    scripts set it at the start of an epoch, or at the end of the one before: the steps between are trained alike.)
    """
    if config.schedule == "stairs":
        epoch, i = divmod(step, max(1, config.epoch // config.batch))            # an epoch's last, partial batch is dropped
        risen, whole = max(0, i - 1) // STAIR * STAIR, 0 if epoch else config.warmup_steps
        share = epoch / config.epochs
    else:
        risen, whole = step, config.warmup_steps
        share = (step - whole) / max(1, config.steps - whole)
    if risen < whole:
        return config.lr_start + (config.lr - config.lr_start) * risen / whole
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def alpha_at(step: int, config: Config) -> float:
    """Trust in the teacher at a step: up from 0 over the first epoch (section 3.3)."""
    return config.alpha * min(1.0, step * config.batch / config.epoch)


def parameter_groups(task: nn.Module, config: Config) -> list[dict]:
    """AdamW's groups: decay for matrices alone; temperature and stem each at their share of the rate.

    With decay_all everything decays that is not 1-D, and so, as in the original, the temperature, class token and positions.
    """
    groups: dict[tuple[float, float], list] = {}
    for name, p in task.named_parameters():
        if p.requires_grad:
            last = name.rsplit(".", 1)[-1]
            free = p.ndim == 1 or not config.decay_all and (p.ndim == 0 or last in NO_DECAY)
            decay = 0.0 if free else config.weight_decay
            share = config.temperature_lr if last == "temperature" else config.stem_lr if ".patch_embed." in name else 1.0
            groups.setdefault((decay, share), []).append(p)
    return [dict(params=params, weight_decay=decay, share=share) for (decay, share), params in groups.items()]


def fit(task: nn.Module, batches, config: Config, folder: Path, log_every: int = 10, quiet: bool = False,
        title: str = "train") -> None:
    """Train to config.steps, from `folder`'s checkpoint if it has one.

    task(batch, alpha, draws) -> named losses and a carry; task.draws(step) -> all chance of a step, for this process;
    task.after_step(carry) -> what changes besides weights. batches(step) -> the batch of a step, for this process.
    Writes metrics.csv and state.pt (atomically, every config.save_every steps and when stopped).

    Raises Stopped after Ctrl-C or SIGTERM, FloatingPointError when a loss or its gradient is not finite (the last
    checkpoint stands), OSError when the folder cannot be written.
    """
    if config.batch % distributed.world():
        raise ValueError(f"batch={config.batch} is not a multiple of {distributed.world()} processes; take one that is")
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
    start = checkpoint.load_state(folder, task, optimiser, config)
    model = task
    if distributed.world() > 1:                  # parameters of a phase not begun have no gradient yet
        with warnings.catch_warnings():          # torch 2.13 renames broadcast_buffers; older ones lack the new name
            warnings.simplefilter("ignore", FutureWarning)
            model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True, broadcast_buffers=False)
    log = _Log(folder / "metrics.csv", start, log_every, config, quiet, title)
    with _Signals() as stopped:
        for step in range(start, config.steps):
            lr, alpha = lr_at(step, config), alpha_at(step, config)
            for group in optimiser.param_groups:
                group["lr"] = lr * group["share"]
            losses, carry = model(batches(step), alpha, task.draws(step))
            loss = sum(losses.values())
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
            if not torch.isfinite(loss + norm):  # the gradient's norm is that of all processes: they stop together
                raise FloatingPointError(
                    f"step {step}: the loss or its gradient is not finite ("
                    f"{', '.join(f'{k} {v:.3g}' for k, v in {**losses, 'gradient': norm}.items())}); "
                    f"{folder} keeps the last good checkpoint; try a lower lr (now {lr:.2g}), or clip=1")
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            task.after_step(carry)
            log.step(step, losses, lr, alpha)
            stop = distributed.total(torch.tensor(float(bool(stopped)))) > 0
            if stop or (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                if distributed.rank() == 0:
                    checkpoint.save_state(folder, task, optimiser, step + 1, config)
            if stop:
                raise Stopped(f"stopped after step {step + 1} of {config.steps}; the same command goes on from there")
    log.close()


def seconds(folder: Path) -> float:
    """How long a folder's training took, crashes and pauses left out."""
    path = folder / "metrics.csv"
    return float(list(csv.DictReader(path.open()))[-1]["seconds"]) if path.exists() else 0.0


class _Signals:
    """Remember Ctrl-C and SIGTERM instead of dying of them; a second Ctrl-C kills as usual."""

    def __enter__(self) -> list:
        self.seen, self.before = [], {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self.note)
            except ValueError:                   # not the main thread: a notebook's widget, say
                pass
        return self.seen

    def note(self, number, frame):
        self.seen.append(number)
        signal.signal(number, self.before[number])

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


class _Log:
    """metrics.csv and the progress bar, on the first process."""

    def __init__(self, path: Path, start: int, every: int, config: Config, quiet: bool, title: str):
        self.path, self.every, self.config, self.on = path, every, config, distributed.rank() == 0
        self.sums, self.count = {}, 0
        if not self.on:
            return
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        self.rows = [row for row in rows if int(row["step"]) <= start]      # a crash may have logged beyond its save
        self.seconds = float(self.rows[-1]["seconds"]) if self.rows else 0.0
        self.clock = self.last = time.perf_counter()
        # on a terminal a bar; in a log file a line now and then
        self.bar = tqdm(total=config.steps, initial=start, desc=title, unit="step", disable=quiet, file=sys.stderr,
                        mininterval=0.2 if sys.stderr.isatty() else 15, dynamic_ncols=True)

    def step(self, step: int, losses: dict, lr: float, alpha: float):
        if self.on:
            self.bar.update()
        self.count += 1
        for name, value in losses.items():
            self.sums.setdefault(name, []).append(value.detach())
        if (step + 1) % self.every and step + 1 < self.config.steps:
            return
        means = torch.stack([torch.stack(values).mean() for values in self.sums.values()])
        means = dict(zip(self.sums, (distributed.total(means) / distributed.world()).tolist()))
        count, self.sums, self.count = self.count, {}, 0
        if not self.on:
            return
        now = time.perf_counter()
        rate = count * self.config.batch / (now - self.last)
        self.rows.append({"step": step + 1, "samples": (step + 1) * self.config.batch,
                          "seconds": round(self.seconds + now - self.clock, 2), "lr": f"{lr:.3g}",
                          "alpha": round(alpha, 4), "samples_per_second": round(rate, 1),
                          **{name: round(value, 4) for name, value in means.items()}})
        self.bar.set_postfix({**{k: f"{v:.2f}" for k, v in means.items()}, "lr": f"{lr:.1e}",
                              "samples/s": f"{rate:.0f}"}, refresh=False)
        self.last = now
        self.write()

    def write(self):
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        def table(path: Path):
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, names, restval="")
                writer.writeheader()
                writer.writerows(self.rows)
        checkpoint.write_atomically(self.path, table)

    def close(self):
        if self.on:
            self.bar.close()
