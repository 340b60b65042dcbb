"""The training loop, one for every task. All state changes here, after the optimiser's step."""
import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.config import Config
from minalbef.data import Rows
from minalbef.ema import Trainable
from minalbef.fast import loop
from minalbef.fast.muon import Muon, is_hidden
from minalbef.system import checkpoint, distributed, writing
from minalbef.system.interrupt import Stopped, catch_signals
from minalbef.system.metrics import Log
from minalbef.system.training import (
    Validates,
    any_process,
    check_start,
    check_task,
    spare_old,
    untrained_parts,
)

NO_DECAY = ("temperature", "cls_token", "pos_embed")
STAIR = 100                           # steps between the rises of the original's warm-up


def fit(task: Trainable, batches: Callable[[int], Any], config: Config, folder: Path,
        log_every: int = 10, quiet: bool = False, title: str = "train",
        validation: Validates | None = None, origin: Mapping[str, str] | None = None,
        random: Collection[str] | None = None) -> tuple[str, ...]:
    """Train to config.steps on config.device, from the checkpoint in `folder` if there is one.

    -> parts of the student that no step has trained, see `untrained_parts`

    task: it is moved to the device. batches(step) -> the batch of a step, for this process
    validation: called after the steps that are due. The state is saved first: a run that is killed
        meanwhile resumes with that validation, and no figure is of weights that are lost.
    origin: what the run is made of besides its settings, such as its tokenizer's hash; it is kept,
        and compared on resume.
    random: parts of the student that begin at random initialisation; by default any may
    Writes metrics.csv and state.pt (atomically, every config.save_every steps, before validation
    and when stopped). Layers stay compiled afterwards, with config.compile.

    Raises Stopped after Ctrl-C or SIGTERM, FloatingPointError when a loss or its gradient is not
    finite (noticed when losses are logged; the last checkpoint stands), OSError when the folder
    can't be written, ValueError for a device that isn't there, a batch that processes can't share,
    a folder of another run or one that is being written.
    """
    check_task(task, config, title)
    device = distributed.device_of(config.device)
    task.to(device).train()
    config = checkpoint.settle_precision(config, folder, device)
    with writing.lock(folder):
        optimiser = choose_optimiser(task, config)
        start = checkpoint.load_state(folder, task, optimiser, config, origin)
        check_start(start, folder)
        model = loop.wrap(task, device)
        log = Log(folder, start, log_every, config, quiet, title)
        with catch_signals() as signals, loop.recompute_and_compile(task, config), spare_old():
            if validation:
                validation.resume(start)
            if validation and validation.due(start):
                log.validated(validation(task, start, untrained_parts(task, optimiser, random)))
            for step in range(start, config.steps):
                losses, norm = train_step(model, task, optimiser, batches(step), step, config,
                                          device)
                stop = any_process(bool(signals))
                due = validation is not None and validation.due(step + 1)
                last = step + 1 == config.steps
                save = stop or due or last or (step + 1) % config.save_every == 0
                log.step(step, losses, norm, lr_at(step, config), alpha_at(step, config), save)
                if save and distributed.rank() == 0:
                    checkpoint.save_state(folder, task, optimiser, step + 1, config, origin,
                                          untrained_parts(task, optimiser, random))
                if stop:
                    raise Stopped(f"stopped after step {step + 1} of {config.steps}; "
                                  "the same command goes on from there")
                if validation and due:
                    untrained = untrained_parts(task, optimiser, random)
                    log.validated(validation(task, step + 1, untrained))
        log.close()
        return untrained_parts(task, optimiser, random)


def train_step(model: nn.Module, task: Trainable, optimiser: torch.optim.Optimizer, batch: Any,
               step: int, config: Config, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """One optimiser step on `parameter_groups`: -> losses by name, the gradient's norm unclipped.

    model: the task, or DDP around it. Everything that training changes, it changes here.
    """
    lr = lr_at(step, config)
    for group in optimiser.param_groups:
        group["lr"] = lr * group["lr_scale"]
    if config.dropout:
        torch.manual_seed(dropout_seed(config.seed, step))
    alpha = alpha_at(step, config)
    weights = task.weights(step)
    draws = task.draws(step)
    if config.fast:
        losses, carry = loop.backward(model, task, batch, alpha, draws, config, device, weights)
    else:
        batch, draws = [part.to(device) if isinstance(part, Rows) else part
                        for part in (batch, draws)]
        half = config.precision == "bf16"        # `settle_precision` has replaced "auto"
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses, carry = task(batch, alpha, draws)
        total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        total.backward()
        losses = {name: loss.detach() for name, loss in losses.items()}
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if config.clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), config.clip, norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    task.after_step(carry)
    return losses, norm


def dropout_seed(seed: int, step: int) -> int:
    """Steps and processes drop different units, and a resumed run the same ones."""
    name = f"dropout/{seed}/{step}/{distributed.rank()}"
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int(2 ** 32 * Random(int.from_bytes(digest, "big")).random())


def lr_at(step: int, config: Config) -> float:
    """Learning rate of a step: a linear warm-up, then a cosine to the end.

    schedule="stairs" moves in jumps, as the original does. In the first epoch the rate rises after
    steps 100, 200 and so on, up to warmup_steps, and then stays; each later epoch has one rate,
    that of the cosine over whole epochs. (The original's scripts set it at the start of an epoch or
    at the end of the one before: the steps between are the same.)
    """
    if config.schedule == "stairs":
        epoch, i = divmod(step, max(1, config.epoch // config.batch))    # no partial batches
        ramp = max(0, i - 1) // STAIR * STAIR
        warmup = 0 if epoch else config.warmup_steps
        progress = epoch / config.epochs
    else:
        ramp = step
        warmup = config.warmup_steps
        progress = (step - warmup) / max(1, config.steps - warmup)
    if ramp < warmup:
        return config.lr_start + (config.lr - config.lr_start) * ramp / warmup
    cosine = 1 + math.cos(math.pi * min(1.0, progress))
    return config.lr_end + (config.lr - config.lr_end) * cosine / 2


def alpha_at(step: int, config: Config) -> float:
    """Weight of the teacher's soft targets at a step: constant, or a ramp over the first epoch."""
    if not config.alpha_ramp:
        return config.alpha
    return config.alpha * min(1.0, step * config.batch / config.epoch)   # section 3.3


def parameter_groups(task: nn.Module, config: Config) -> list[dict]:
    """AdamW's groups by weight decay, and by `lr_scale`: its learning rate over the step's.

    Matrices alone decay; temperature, stem and loaded weights have their own scale. With decay_all,
    whatever is not 1-D decays: temperature, class token and positions too, as in the original.
    With config.muon_lr, groups of matrices that Muon trains have "muon".
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, p in task.named_parameters():
        if not p.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        decays = p.ndim != 1
        if not config.decay_all and (p.ndim == 0 or last in NO_DECAY):
            decays = False
        lr_scale = 1.0
        if ".patch_embed." in name:
            lr_scale = config.stem_lr
        if last == "temperature":
            lr_scale = config.temperature_lr
        decay = config.weight_decay if decays else 0.0
        loaded = name.removeprefix("student.") in getattr(task, "loaded", ())
        if loaded:
            lr_scale *= config.pretrained_lr
        muon = config.muon_lr > 0 and is_hidden(name, p) and not loaded
        if muon:
            lr_scale *= config.muon_lr
        groups.setdefault((decay, lr_scale, muon), []).append(p)
    result = []
    for (decay, lr_scale, muon), params in groups.items():
        group = dict(params=params, weight_decay=decay, lr_scale=lr_scale)
        result.append(group | {"muon": True} if muon else group)
    return result


def choose_optimiser(task: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW on the groups above; with config.muon_lr, Muon on those of matrices."""
    kind = Muon if config.muon_lr else torch.optim.AdamW
    return kind(parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
