"""The training loop, one for every task. All state changes here, after the optimiser's step."""
import gc
import math
import os
import signal
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minalbef import checkpoint, distributed, writing
from minalbef.config import Config
from minalbef.data import Rows
from minalbef.draws import seed_random
from minalbef.layers import Layer
from minalbef.metrics import Log

NO_DECAY = ("temperature", "cls_token", "pos_embed")
# compiled forms of a layer: fusion layers have 14, and torch leaves those past its limit uncompiled
VARIANTS = 64
# Newton-Schulz iterations towards the nearest orthogonal matrix: X <- aX + (bXX' + c(XX')^2)X.
# The coefficients are You Jiacheng's (x.com/YouJiacheng/status/1905861218138804534)
ITERATIONS = ((4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
              (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012))
NESTEROV = 0.95                       # Muon's momentum
RMS = 0.2                             # of Muon's updates, about that of AdamW's: they share a rate
STAIR = 100                           # steps between the rises of the original's warm-up
STOPPING = b"\nstopping when this step is done, to save it; a second Ctrl-C ends at once\n"


@runtime_checkable
class Trainable(Protocol):
    """What `fit` calls of a task besides the module itself; tasks.base.TaskModule says more."""

    def draws(self, step: int) -> Any: ...
    def after_step(self, carry: Any) -> None: ...


class Validates(Protocol):
    """What `fit` calls of a validation; recipes use the one in evaluation.validation."""

    def resume(self, step: int) -> None: ...
    def due(self, step: int) -> bool: ...
    def __call__(self, task: nn.Module, step: int, untrained: Collection[str]
                 ) -> Mapping[str, float] | None: ...


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM: the run was saved and can go on."""


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
    """AdamW's groups by weight decay, and by `share`: a group's learning rate over the step's.

    Matrices alone decay; temperature and stem each have a share of their own. With decay_all,
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
        share = 1.0
        if ".patch_embed." in name:
            share = config.stem_lr
        if last == "temperature":
            share = config.temperature_lr
        decay = config.weight_decay if decays else 0.0
        muon = config.muon_lr > 0 and is_hidden(name, p)
        if muon:
            share *= config.muon_lr
        groups.setdefault((decay, share, muon), []).append(p)
    return [dict(params=params, weight_decay=decay, share=share) | (dict(muon=True) if muon else {})
            for (decay, share, muon), params in groups.items()]


def is_hidden(name: str, p: nn.Parameter) -> bool:
    """Whether a weight is a matrix from features to features, or a convolution between them."""
    if p.ndim == 4:
        return p.shape[1] > 3                            # not of pixels
    return p.ndim == 2 and (".blocks." in name or ".layers." in name)


def choose_optimiser(task: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW on the groups above; with config.muon_lr, Muon on those of matrices."""
    kind = Muon if config.muon_lr else torch.optim.AdamW
    return kind(parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)


class Muon(torch.optim.AdamW):
    """AdamW, and Muon (Jordan et al. 2024) for groups with "muon": all directions of a matrix move.

    The momentum's singular values are replaced by ones, nearly. torch.optim.Muon does this to one
    matrix at a time; here those of one shape go together, which is faster on a CPU (tried.md), and
    convolutions count as matrices (out, in x height x width).
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step of all groups; the matrices' gradients are None afterwards."""
        for group in self.param_groups:
            if group.get("muon"):
                self.step_matrices(group)
        return super().step(closure)                     # skips weights without a gradient

    def step_matrices(self, group: dict[str, Any]) -> None:
        """Muon's step, with decay as in AdamW, in place."""
        by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:                                # AdamW expects its count of steps
                state.update(step=torch.tensor(0.0), momentum=torch.zeros_like(p))
            state["step"] += 1
            state["momentum"].lerp_(p.grad, 1 - NESTEROV)
            update = p.grad.lerp(state["momentum"], NESTEROV).flatten(1)
            by_shape.setdefault(update.shape, []).append((p, update))
            p.grad = None
        for shape, pairs in by_shape.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            rate = group["lr"] * RMS * max(shape) ** 0.5
            for (p, _), update in zip(pairs, updates):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(update.view_as(p), alpha=rate)


def orthogonalise(matrices: Tensor) -> Tensor:
    """(n, a, b): the same with singular values of 0.9 to 1.15, but for those that are near zero."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for a, b, c in ITERATIONS:
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x if wide else x.mT


def split_batch(batch: Any, draws: Any, config: Config) -> list[tuple[Any, Any]]:
    """A step's micro-batches, each with its draws; what isn't Rows goes to all of them."""
    count = config.accumulate
    if count == 1:
        return [(batch, draws)]
    rows = config.batch // distributed.world()

    def cut(examples: Any, i: int) -> Any:
        return examples.part(i, count, rows) if isinstance(examples, Rows) else examples

    return [(cut(batch, i), cut(draws, i)) for i in range(count)]


def backward(model: nn.Module, task: nn.Module, batch: Any, alpha: float, draws: Any,
             config: Config, device: torch.device, weights: Mapping[str, float] | None = None
             ) -> tuple[dict[str, Tensor], Any]:
    """A step's losses, and their gradients accumulated over micro-batches: -> losses, carry.

    batch and draws, if they are Rows, are cut where they are made, and each micro-batch is sent to
    the device in turn.
    model: the task, or DDP around it, which reduces the gradients in the last micro-batch
    weights: of losses by name, in their sum; those not listed weigh 1

    Dropout aside, micro-batches are equivalent to the whole batch wherever a loss is a mean over
    examples: masked words (counted over all micro-batches), answers, entailment, NLVR2. They are
    not where a loss compares rows: ITC contrasts a row with its micro-batch and the queue, and ITM
    and text assignment draw negatives from the micro-batch. Where micro-batches have siblings in
    unequal number, their loss is the mean of the micro-batches' means. The warm start's BatchNorm,
    too, sees one micro-batch.
    """
    passes = split_batch(batch, draws, config)
    prepare = getattr(task, "prepare", None)
    if prepare:
        passes = prepare(passes)
    half = distributed.precision_on(device, config.precision) == "bf16"
    weights = weights or {}
    losses_of: list[dict[str, Tensor]] = []
    carries = []
    for i, (rows, noise) in enumerate(passes):
        rows = rows.to(device) if isinstance(rows, Rows) else rows
        noise = noise.to(device) if isinstance(noise, Rows) else noise
        last = i + 1 == len(passes)
        reduces = last or not isinstance(model, DistributedDataParallel)
        synchronise = nullcontext() if reduces else model.no_sync()  # type: ignore[operator]
        copies = half_weights(task) if half else nullcontext()
        with synchronise, copies:                # checkpointing needs the copies in backward, too
            losses, carry = model(rows, alpha, noise)
            total = sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
            (total / len(passes)).backward()
        losses_of.append({name: loss.detach() for name, loss in losses.items()})
        carries.append(carry)
    if len(passes) == 1:
        return losses_of[0], carries[0]
    means = {}
    for name in losses_of[0]:
        means[name] = torch.stack([losses[name] for losses in losses_of]).mean()
    if carries[0] is None:
        return means, None
    return means, tuple(map(torch.cat, zip(*carries)))


class CastWeights(torch.autograd.Function):
    """bf16 copies of weights, and their gradients as fp32: a kernel or two for all of them."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        copies = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
        torch._foreach_copy_(copies, weights)
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        half = [grad for grad in grads if grad is not None]
        full = [torch.empty_like(grad, dtype=torch.float32) for grad in half]
        torch._foreach_copy_(full, half)
        copies = iter(full)
        return tuple(None if grad is None else next(copies) for grad in grads)


@contextmanager
def half_weights(module: nn.Module) -> Iterator[None]:
    """Meanwhile the module computes in bf16, with copies of its weights; parameters stay in fp32.

    Their gradients arrive in fp32. Tokens are bf16 from layer to layer, sums in norms and softmax
    are fp32 inside their kernels, and losses upcast before they compare (`layers.full`). Autocast
    would cast each weight by a kernel of its own, a teacher's anew at every use, and tokens back
    and forth around each norm: nearly half of a step's kernels, and a tenth of its memory.

    Numbers (the temperature) have no copy, nor has BatchNorm, whose running statistics are fp32.
    """
    places = []
    for parts in parts_by_layer(module):
        names = [(part, name) for part in parts for name in weight_names(part)]
        copies = CastWeights.apply(*[part._parameters[name] for part, name in names])
        for (part, name), copy in zip(names, copies):
            part.__dict__[name] = copy           # Python finds it before nn.Module's parameter
        places += names
    try:
        yield
    finally:
        for part, name in places:
            del part.__dict__[name]


def parts_by_layer(module: nn.Module) -> list[list[nn.Module]]:
    """The modules of each Layer, and those outside of layers.

    A layer's copies are made together, and not the whole model's: in the backward pass DDP sends a
    layer's gradients while those of the next are computed.
    """
    outside: list[nn.Module] = []
    groups = [outside]
    seen: set[nn.Module] = set()

    def walk(part: nn.Module, group: list[nn.Module]) -> None:
        if part in seen:
            return
        seen.add(part)
        if isinstance(part, Layer):
            group = []
            groups.append(group)
        group.append(part)
        for child in part.children():
            walk(child, group)

    walk(module, outside)
    return groups


def weight_names(part: nn.Module) -> list[str]:
    """A module's own parameters that are copied."""
    if part._buffers:                            # named_buffers() takes milliseconds a step
        return []
    return [name for name, p in part._parameters.items() if p is not None and p.ndim]


def train_step(model: nn.Module, task: nn.Module, optimiser: torch.optim.Optimizer, batch: Any,
               step: int, config: Config, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """One optimiser step on `parameter_groups`: -> losses by name, the gradient's norm unclipped.

    model: the task, or DDP around it. Everything that training changes, it changes here.
    """
    assert isinstance(task, Trainable)
    for group in optimiser.param_groups:
        group["lr"] = lr_at(step, config) * group["share"]
    if config.dropout:       # steps and ranks drop different units, and a resumed run the same ones
        generator = seed_random("dropout", config.seed, step, distributed.rank())
        torch.manual_seed(int(2 ** 32 * generator.random()))
    weights = getattr(task, "weights", lambda step: None)(step)
    losses, carry = backward(model, task, batch, alpha_at(step, config), task.draws(step), config,
                             device, weights)
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if config.clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), config.clip, norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    task.after_step(carry)
    return losses, norm


@contextmanager
def recompute_and_compile(task: nn.Module, config: Config) -> Iterator[None]:
    """Meanwhile the encoders' layers run as config.checkpointing and config.compile say.

    Layers alone: a gather among processes must not run twice, and layers of a kind share one
    compiled form. The teacher's are compiled, too, and all stay compiled afterwards. Weights keep
    their names.
    """
    layers = [layer for layer in task.modules() if isinstance(layer, Layer)]
    for layer in layers:
        if config.compile:
            layer.compile()
        trained = any(p.requires_grad for p in layer.parameters())
        layer.recompute = config.checkpointing and trained
    limit = nullcontext()
    if config.compile:
        limit = torch._dynamo.config.patch(recompile_limit=VARIANTS)
    try:
        with limit:
            yield
    finally:
        for layer in layers:
            layer.recompute = False


@contextmanager
def evaluation_mode(task: nn.Module) -> Iterator[None]:
    """Meanwhile the task is in evaluation mode, and its layers run as if they weren't compiled.

    Evaluation's shapes would fill the compiled layers' cache; training would fall back to eager.
    """
    modes = {module: module.training for module in task.modules()}
    task.eval()
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def spare_old() -> Iterator[None]:
    """Meanwhile the garbage collector leaves alone what exists now, modules and libraries.

    It would look through all of it every few steps, which stalls one for .2 seconds.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def catch_signals(aloud: bool = True) -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in the list instead of ending; a second Ctrl-C kills as usual.

    aloud: say that the first one was noted
    """
    numbers: list[int] = []
    handlers: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        if aloud and not numbers and distributed.rank() == 0:
            os.write(2, STOPPING)                # not print, which may be what was interrupted
        numbers.append(number)
        if number == signal.SIGINT:              # a terminated group may get SIGTERM twice
            signal.signal(number, handlers[number])

    for stop in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):               # not the main thread: a notebook's widget, say
            handlers[stop] = signal.signal(stop, note)
    try:
        yield numbers
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def fit(task: nn.Module, batches: Callable[[int], Any], config: Config, folder: Path,
        log_every: int = 10, quiet: bool = False, title: str = "train",
        validation: Validates | None = None, origin: Mapping[str, str] | None = None,
        random: Collection[str] | None = None) -> tuple[str, ...]:
    """Train to config.steps on config.device, from the checkpoint in `folder` if there is one.

    -> parts of the student that no step has trained, see `untrained_parts`

    task: a tasks.base.TaskModule; it is moved to the device. batches(step) -> the batch of a
        step, for this process. task.prepare([(batch, draws)]), if there is one, gets a step's
        micro-batches and returns them ready, on the CPU. task.unused_parts, if there is one, names
        the student's parts that no step trains, such as heads of other tasks, where every step
        trains all the others; None where that isn't so. Several GPUs are then a little slower.
    validation: called after the steps that are due. The state is saved first: a run that is killed
        meanwhile resumes with that validation, and no figure is of weights that are lost.
    origin: what the run is made of besides its settings, such as its tokenizer's hash; it is kept,
        and compared on resume.
    random: parts of the student that begin at random initialisation; by default any may
    Writes metrics.csv and state.pt (atomically, every config.save_every steps, before validation
    and when stopped; of a task on a GPU in the background). Layers stay compiled afterwards, with
    config.compile.

    Raises Stopped after Ctrl-C or SIGTERM, FloatingPointError when a loss or its gradient is not
    finite (noticed when losses are logged; the last checkpoint stands), OSError when the folder
    can't be written (in the background: noticed at the next save), ValueError for a device that
    isn't there, a batch that processes can't share, a folder of another run or one that is being
    written.
    """
    check_task(task, config, title)
    device = distributed.device_of(config.device)
    task.to(device).train()
    config = checkpoint.settle_precision(config, folder, device)
    with writing.lock(folder, config):
        optimiser = choose_optimiser(task, config)
        start = checkpoint.load_state(folder, task, optimiser, config, origin)
        check_start(start, folder)
        model = wrap(task, device)
        log = Log(folder, start, log_every, config, quiet, title)
        writer = checkpoint.StateWriter(background=device.type != "cpu")
        with catch_signals() as signals, recompute_and_compile(task, config), writer, spare_old():
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
                                          untrained_parts(task, optimiser, random), writer)
                if stop or due:
                    writer.wait()
                if stop:
                    raise Stopped(f"stopped after step {step + 1} of {config.steps}; "
                                  "the same command goes on from there")
                if validation and due:
                    untrained = untrained_parts(task, optimiser, random)
                    log.validated(validation(task, step + 1, untrained))
        log.close()
        return untrained_parts(task, optimiser, random)


def check_task(task: nn.Module, config: Config, title: str) -> None:
    """Raises TypeError for what `fit` can't train, ValueError for a batch that can't be shared."""
    if not isinstance(task, Trainable):
        raise TypeError(f"{type(task).__name__} lacks draws(step) or after_step(carry); "
                        "see train.Trainable")
    world = distributed.world()
    if config.batch % (config.accumulate * world):
        times = f" times accumulate={config.accumulate}" if config.accumulate > 1 else ""
        raise ValueError(f"{title}: batch={config.batch} is not a multiple of {world} processes"
                         f"{times}; take one that is")


def check_start(start: int, folder: Path) -> None:
    """Raises ValueError where processes would resume from different steps."""
    least = -distributed.longest(-start)
    most = distributed.longest(start)
    if least != most:
        raise ValueError(f"a process would go on from step {least}, another from {most}: "
                         f"all machines must see the same {folder}")


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. On the CPU: no GPU is waited for."""
    return distributed.longest(int(flag)) > 0


def untrained_parts(task: nn.Module, optimiser: torch.optim.Optimizer,
                    random: Collection[str] | None = None) -> tuple[str, ...]:
    """Parts of the task's student of which no weight has had a gradient in any step.

    A head without its loss is one. random: look at these parts alone, see `fit`
    """
    trained: dict[str, bool] = {}
    for name, p in getattr(task, "student", task).named_parameters():
        if p.requires_grad:                      # a frozen weight is meant to stay
            part = checkpoint.part_of(name)
            trained[part] = trained.get(part, False) or p in optimiser.state
    candidates = trained if random is None else random
    return tuple(part for part in trained if not trained[part] and part in candidates)


def wrap(task: nn.Module, device: torch.device) -> nn.Module:
    """The task in DDP, where several processes train it."""
    if distributed.world() == 1:
        return task
    if device.type == "cuda":
        return in_ddp(task, [device], getattr(task, "unused_parts", None))
    # unless it searches, DDP regroups the gradients after the first step: a run of three processes
    # that is resumed would sum them in another order than one that was never stopped
    return in_ddp(task, None, None)


def in_ddp(task: nn.Module, devices: list[torch.device] | None,
           unused_parts: Collection[str] | None) -> nn.Module:
    """The task in DDP, which searches each step for weights without a gradient if not told of them.

    If it finds any, it waits for the GPU.
    unused_parts: see `fit`
    """
    unused = []
    for name, _ in task.named_parameters():
        if checkpoint.part_of(name.removeprefix("student.")) in (unused_parts or ()):
            unused.append(name)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, unused)
    with warnings.catch_warnings():              # torch 2.13 renames broadcast_buffers
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(task, devices, broadcast_buffers=False,
                                       find_unused_parameters=unused_parts is None,
                                       gradient_as_bucket_view=True)
