"""The loop: one for every task. All that changes state in training stands here, after the optimiser's step."""
import math
import os
import signal
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as recompute

from minalbef import checkpoint, distributed, writing
from minalbef.config import Config
from minalbef.data import Rows
from minalbef.draws import seed_random
from minalbef.fusion import FusionLayer
from minalbef.metrics import Log
from minalbef.text import TextLayer
from minalbef.vision import Block

NO_DECAY = ("temperature", "cls_token", "pos_embed")
STAIR = 100                                              # steps between the rises of the original's warm-up
LAYERS = (Block, TextLayer, FusionLayer)


@runtime_checkable
class Trainable(Protocol):
    """What `fit` calls of a task besides the module itself; tasks.base.Task says more."""

    def draws(self, step: int) -> Any: ...
    def after_step(self, carry: Any) -> None: ...


class Validates(Protocol):
    """What `fit` calls of a validation; evaluation.validation has the one that recipes use."""

    def resume(self, step: int) -> None: ...
    def due(self, step: int) -> bool: ...
    def __call__(self, task: nn.Module, step: int, untrained: Collection[str]) -> None: ...


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: the run was saved and can go on."""


def lr_at(step: int, config: Config) -> float:
    """Learning rate of a step: a straight warm-up, then a cosine to the end.

    schedule="stairs" moves in jumps, as the original does. In the first epoch the rate rises after steps 100, 200 and
    so on, up to warmup_steps, and then stays; later epochs each have one rate, that of the cosine over whole epochs.
    (Its scripts set it at the start of an epoch, or at the end of the one before: the steps between are the same.)
    """
    if config.schedule == "stairs":
        epoch, i = divmod(step, max(1, config.epoch // config.batch))            # drops an epoch's last, partial batch
        risen, whole = max(0, i - 1) // STAIR * STAIR, 0 if epoch else config.warmup_steps
        share = epoch / config.epochs
    else:
        risen, whole = step, config.warmup_steps
        share = (step - whole) / max(1, config.steps - whole)
    if risen < whole:
        return config.lr_start + (config.lr - config.lr_start) * risen / whole
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def alpha_at(step: int, config: Config) -> float:
    """Weight of the teacher's soft targets at a step: a ramp from 0 over the first epoch (section 3.3), or constant."""
    if not config.alpha_ramp:
        return config.alpha
    return config.alpha * min(1.0, step * config.batch / config.epoch)


def parameter_groups(task: nn.Module, config: Config) -> list[dict]:
    """AdamW's groups: decay for matrices alone; temperature and stem each at their share of the rate.

    With decay_all all that is not 1-D decays: temperature, class token and positions too, as in the original.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in task.named_parameters():
        if p.requires_grad:
            last = name.rsplit(".", 1)[-1]
            free = p.ndim == 1 or not config.decay_all and (p.ndim == 0 or last in NO_DECAY)
            decay = 0.0 if free else config.weight_decay
            share = config.stem_lr if ".patch_embed." in name else 1.0
            share = config.temperature_lr if last == "temperature" else share
            groups.setdefault((decay, share), []).append(p)
    return [dict(params=params, weight_decay=decay, share=share) for (decay, share), params in groups.items()]


def backward(model: nn.Module, task: nn.Module, batch: Any, alpha: float, draws: Any, config: Config,
             device: torch.device, weights: Mapping[str, float] | None = None) -> tuple[dict[str, Tensor], Any]:
    """A step's losses, and their gradients accumulated over config.accumulate passes: -> losses, carry.

    batch and draws, if they are Rows, are cut where they are made, and sent to the device pass by pass.
    model: the task, or DDP around it, which reduces the gradients in the last pass.
    weights: of losses by name, in their sum; 1 where it says nothing

    Dropout aside, passes give what the whole batch gives wherever a loss is a mean over examples: masked words (counted
    over all passes), answers, entailment, NLVR2. They are not equivalent where a loss compares rows
    of the batch: ITC contrasts a row with its pass and the queue, and ITM and text assignment draw negatives from the
    pass. Where passes have siblings in unequal number, their loss is the mean of the passes' means. The warm start's
    BatchNorm, too, sees one pass.
    """
    n, rows, passes = config.accumulate, config.batch // distributed.world(), [(batch, draws)]
    def part(one: Any, i: int) -> Any:
        return one.part(i, n, rows) if isinstance(one, Rows) else one
    if n > 1:
        passes = [(part(batch, i), part(draws, i)) for i in range(n)]
    if prepare := getattr(task, "prepare", None):
        passes = prepare(passes)
    low = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    found, carries = [], []
    for i, given in enumerate(passes):
        some, drawn = (one.to(device) if isinstance(one, Rows) else one for one in given)
        with model.no_sync() if isinstance(model, DistributedDataParallel) and i + 1 < n else nullcontext():
            with low:
                losses, carry = model(some, alpha, drawn)
            (sum((weights or {}).get(name, 1.0) * loss for name, loss in losses.items()) / n).backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
        carries.append(carry)
    if n == 1:
        return found[0], carries[0]
    losses = {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}
    return losses, None if carries[0] is None else tuple(map(torch.cat, zip(*carries)))


def train_step(model: nn.Module, task: nn.Module, optimiser: torch.optim.Optimizer, batch: Any, step: int,
               config: Config, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """One step of the optimiser, on `parameter_groups`: -> losses by name, and the gradient's norm before clipping.

    model: the task, or DDP around it. Everything that training changes, it changes here.
    """
    assert isinstance(task, Trainable)
    for group in optimiser.param_groups:
        group["lr"] = lr_at(step, config) * group["share"]
    if config.dropout:       # torch's generators: steps and ranks drop different units, a resumed run the same
        torch.manual_seed(int(2 ** 32 * seed_random("dropout", config.seed, step, distributed.rank()).random()))
    losses, carry = backward(model, task, batch, alpha_at(step, config), task.draws(step), config, device,
                             getattr(task, "weights", lambda step: None)(step))
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    task.after_step(carry)
    return losses, norm


@contextmanager
def lean(task: nn.Module, config: Config) -> Iterator[None]:
    """Meanwhile the encoders' layers, the teacher's too, run as config.compile and config.checkpointing say.

    Layers alone: a gather among processes must not run twice, and layers of a kind share one compiled form. Weights
    keep their names.
    """
    layers = [layer for layer in task.modules() if isinstance(layer, LAYERS)]
    for layer in layers:
        if config.compile:
            vars(layer)["forward"] = torch.compile(layer.forward)
        if config.checkpointing and any(p.requires_grad for p in layer.parameters()):
            vars(layer)["forward"] = partial(again, layer.forward, config.dropout > 0)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)     # the instance's; the class's shows again


@contextmanager
def evaluating(task: nn.Module) -> Iterator[None]:
    """Meanwhile the task is in evaluation mode, and its layers are neither compiled nor recomputed.

    Evaluation's shapes would fill the compiled layers' cache, and training then falls back to eager.
    """
    forwards = {layer: vars(layer).pop("forward") for layer in task.modules() if "forward" in vars(layer)}
    modes = {module: module.training for module in task.modules()}
    task.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for layer, forward in forwards.items():
            vars(layer)["forward"] = forward


def again(run: Callable[..., Any], drops: bool, *args: Any, **options: Any) -> Any:
    """Activation checkpointing: a layer is recomputed in the backward pass. drops: by the same dropout."""
    if not torch.is_grad_enabled():
        return run(*args, **options)
    return recompute(run, *args, use_reentrant=False, preserve_rng_state=drops, **options)


@contextmanager
def catch_signals(aloud: bool = True) -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in the list instead of ending; a second Ctrl-C kills as usual. aloud: say so."""
    seen: list[int] = []
    before: dict[int, Any] = {}
    def note(number: int, frame: object) -> None:
        if aloud and not seen and distributed.rank() == 0:       # os.write: print may be what was interrupted
            os.write(2, b"\nstopping when this step is done, to save it; a second Ctrl-C ends at once\n")
        seen.append(number)
        if number == signal.SIGINT:              # SIGTERM comes twice where a whole group is terminated
            signal.signal(number, before[number])
    for caught in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):               # not the main thread: a notebook's widget, say
            before[caught] = signal.signal(caught, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit(task: nn.Module, batches: Callable[[int], Any], config: Config, folder: Path, log_every: int = 10,
        quiet: bool = False, title: str = "train", validation: Validates | None = None,
        origin: Mapping[str, str] | None = None,
        random: Collection[str] | None = None) -> tuple[str, ...]:
    """Train to config.steps on config.device, to which the task is moved, from `folder`'s checkpoint if it has one.

    -> parts of the student that no step has trained, see `untrained_parts`

    task: a tasks.base.TaskModule. batches(step) -> the batch of a step, for this process.
    task.prepare([(batch, draws)]) of a step's passes, if it has that -> the same, made ready on the CPU.
    validation: called after the steps that it says are due. The state is saved first: a run that is
    killed meanwhile goes on with that validation, and no figure is of weights that are lost.
    origin: what the run is made of besides its settings, such as its tokenizer's hash; it is kept,
    and compared on resume.
    random: parts of the student that begin at random initialisation; without it, any may
    Writes metrics.csv and state.pt (atomically, every config.save_every steps, before validation and when stopped).

    Raises Stopped after Ctrl-C or SIGTERM, FloatingPointError when a loss or its gradient is not finite (found when
    losses are logged; the last checkpoint stands), OSError when the folder cannot be written, ValueError for a device
    that is not there, a batch that processes cannot share, a folder of another run or one that is being written.
    """
    if not isinstance(task, Trainable):
        raise TypeError(f"{type(task).__name__} lacks draws(step) or after_step(carry); see train.Trainable")
    if config.batch % (config.accumulate * distributed.world()):
        times = f" times accumulate={config.accumulate}" if config.accumulate > 1 else ""
        raise ValueError(f"{title}: batch={config.batch} is not a multiple of {distributed.world()} processes{times}; "
                         "take one that is")
    device = distributed.device_of(config.device)
    task.to(device).train()
    with writing.lock(folder, config):
        optimiser = torch.optim.AdamW(parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
        start = checkpoint.load_state(folder, task, optimiser, config, origin)
        if (least := -distributed.longest(-start)) != (most := distributed.longest(start)):
            raise ValueError(f"a process would go on from step {least}, another from {most}: "
                             f"all machines must see the same {folder}")
        model, log = wrap(task, device), Log(folder, start, log_every, config, quiet, title)
        with catch_signals() as stopped, lean(task, config):
            if validation:
                validation.resume(start)
                if validation.due(start):
                    validation(task, start, untrained_parts(task, optimiser, random))
                    log.skip()
            for step in range(start, config.steps):
                losses, norm = train_step(model, task, optimiser, batches(step), step, config, device)
                stop = bool(distributed.total(torch.tensor(float(bool(stopped)))) > 0)   # on the CPU: waits for no GPU
                due = validation is not None and validation.due(step + 1)
                save = stop or due or (step + 1) % config.save_every == 0 or step + 1 == config.steps
                log.step(step, losses, norm, lr_at(step, config), alpha_at(step, config), save)
                if save and distributed.rank() == 0:
                    checkpoint.save_state(folder, task, optimiser, step + 1, config, origin,
                                          untrained_parts(task, optimiser, random))
                if stop:
                    raise Stopped(f"stopped after step {step + 1} of {config.steps}; "
                                  "the same command goes on from there")
                if validation and due:
                    validation(task, step + 1, untrained_parts(task, optimiser, random))
                    log.skip()
        log.close()
        return untrained_parts(task, optimiser, random)


def untrained_parts(task: nn.Module, optimiser: torch.optim.Optimizer,
                    random: Collection[str] | None = None) -> tuple[str, ...]:
    """Parts of the task's student of which no weight had a gradient in any step.

    Such is a head without its loss. random: look at these parts alone, see `fit`
    """
    reached: dict[str, bool] = {}
    for name, p in getattr(task, "student", task).named_parameters():
        if p.requires_grad:                      # what is frozen was meant to stay
            part = checkpoint.part_of(name)
            reached[part] = reached.get(part, False) or p in optimiser.state
    asked = reached if random is None else random
    return tuple(part for part, trained in reached.items() if not trained and part in asked)


def wrap(task: nn.Module, device: torch.device) -> nn.Module:
    """The task in DDP, where several processes train it."""
    if distributed.world() == 1:
        return task
    # find_unused_parameters: losses that begin later, and heads of other tasks, give no gradient
    with warnings.catch_warnings():              # torch 2.13 renames broadcast_buffers; older ones lack the new name
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(task, [device] if device.type == "cuda" else None, broadcast_buffers=False,
                                       find_unused_parameters=True)
