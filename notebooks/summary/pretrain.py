"""What to keep of chapter 08: the loop, which trains all of it.

`python notebooks/summary/pretrain.py` takes 40 steps from the warm start, in seconds.
"""
import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import minalbef
from minalbef.data import data_folder
from objectives import ALBEF, Batch, draw_masks, losses, scenes_batch

Draws = Callable[[int, Batch], tuple[tuple[Tensor, Tensor], Tensor]]


def parameter_groups(model: nn.Module, config: minalbef.Config) -> list[dict]:
    """Matrices alone decay; the stem and the temperature have a smaller rate: `share`."""
    groups = []
    for name, p in model.named_parameters():
        share = config.stem_lr if ".patch_embed." in name else 1.0
        if name == "temperature":
            share = config.temperature_lr
        decays = p.ndim > 1 and not name.endswith(("cls_token", "pos_embed"))
        groups.append(dict(params=[p], share=share,
                           weight_decay=config.weight_decay if decays else 0.0))
    return groups


def rate_at(step: int, config: minalbef.Config) -> float:
    """A linear warm-up, then half a cosine."""
    if step < config.warmup_steps:
        return config.lr * step / config.warmup_steps
    progress = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def after_step(student: ALBEF, teacher: ALBEF, config: minalbef.Config) -> None:
    """Clamp the temperature, and move the teacher a little towards the student."""
    student.temperature.clamp_(config.temperature_min, config.temperature_max)
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - config.teacher_momentum)


def train(student: ALBEF, batches: Callable[[int], Batch], draws: Draws,
          config: minalbef.Config) -> list[dict[str, float]]:
    """Pretraining in place: -> the losses of every step. All state changes behind the losses."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    queue = (torch.zeros(0, config.embed_dim), torch.zeros(0, config.embed_dim))
    optimiser = torch.optim.AdamW(parameter_groups(student, config), betas=config.betas)
    log = []
    for step in range(config.steps):
        batch = batches(step)
        alpha = config.alpha * min(1.0, step * config.batch / config.epoch)
        found, keys = losses(student, teacher, queue, batch, alpha, *draws(step, batch))
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, config) * group["share"]
        optimiser.zero_grad()
        sum(found.values()).backward()
        nn.utils.clip_grad_norm_(student.parameters(), config.clip)
        optimiser.step()
        after_step(student, teacher, config)
        queue = tuple(torch.cat(both)[:config.queue_size] for both in zip(keys, queue))
        log.append({name: loss.item() for name, loss in found.items()})
    return log


def main() -> None:
    tiny = minalbef.load("tiny")
    config = minalbef.preset("tiny", vocab_size=len(tiny.tokenizer), batch=32, epoch=40 * 32,
                             warmup_steps=10, alpha=0.4)
    torch.manual_seed(0)
    student = ALBEF(config)
    student.load_state_dict(minalbef.ALBEF(config).state_dict())          # as it is initialised
    start = minalbef.load(data_folder() / "tiny" / "start")
    student.image_encoder.load_state_dict(start.model.image_encoder.state_dict())

    log = train(student, lambda step: scenes_batch(tiny, step * config.batch, config.batch),
                lambda step, batch: (draw_masks(batch.tokens, tiny), torch.rand(2, 32, 32)), config)
    for name in log[0]:
        first, last = (sum(row[name] for row in part) / 5 for part in (log[:5], log[-5:]))
        print(f"{name}: {first:.2f} in the first five steps, {last:.2f} in the last five")
    keys = config.batch, config.batch + config.queue_size
    print(f"itc has ever more keys: a guess costs {math.log(keys[0]):.2f} at first, and "
          f"{math.log(keys[1]):.2f} once the queue is full")


if __name__ == "__main__":
    main()
