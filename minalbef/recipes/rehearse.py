"""Dry run of a full-size preset on a CPU, on random weights and data: does it run, how fast, in what memory?"""
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from minalbef import train
from minalbef.config import Config
from minalbef.data import Record
from minalbef.presets import preset
from minalbef.recipes.cost import peak_memory
from minalbef.tasks import entailment, nlvr2, vqa
from minalbef.tasks.base import TASKS
from minalbef.tokenizer import Tokenizer

WORDS = ("a bird sits on the red roof of an old house while two men in green coats walk their dogs "
         "along a wide river").split()


@dataclass(frozen=True)
class Rehearsal:
    """task: of TASKS. record: image, second image, text, number -> a record to collate. least: rows a batch needs."""

    task: str
    record: Callable = lambda picture, other, text, i: Record(picture, text, i)
    least: int = 2


REHEARSALS = {
    **dict.fromkeys(("paper-4m", "paper-14m", "base"), Rehearsal("pretrain")),
    **dict.fromkeys(("retrieval-coco", "retrieval-flickr"), Rehearsal("retrieval")),
    "grounding": Rehearsal("grounding"),
    "entailment": Rehearsal("entailment", lambda picture, other, text, i: entailment.EntailmentRecord(
        picture, text, i, entailment.LABELS[i % 3])),
    "vqa": Rehearsal("vqa", lambda picture, other, text, i: vqa.VQARecord(
        picture, text, ("two dogs",) * 6 + ("red",) * 3 + ("house",), i)),
    "nlvr2-assign": Rehearsal("text_assignment", least=3),                       # each text takes two negative images
    "nlvr2": Rehearsal("nlvr2", lambda picture, other, text, i: nlvr2.NLVR2Record(
        (picture, other), text, bool(i % 2), i))}


def dry_run(name: str, steps: int = 2, say: Callable[[str], None] = print, /, **changes) -> list[dict]:
    """Train a preset for a few steps on noise: -> each step's losses, gradient norm, seconds and peak memory in GB.

    changes: of the preset, to make it smaller; batch is 2, or 3 for nlvr2-assign, where they don't say; in fp32
    say: prints a line. Memory is the process's peak so far, None where the system doesn't report it.
    Raises ValueError for a preset without a rehearsal, FloatingPointError for a loss that is not finite.
    """
    if name not in REHEARSALS:
        raise ValueError(f"no rehearsal of {name!r}; there are {', '.join(REHEARSALS)}")
    config, plan = preset(name, **{"batch": 2} | changes), REHEARSALS[name]
    config = replace(config, batch=max(config.batch, plan.least), precision="fp32", accumulate=1)
    torch.manual_seed(config.seed)
    tokenizer = Tokenizer.train([" ".join(WORDS)], min(config.vocab_size, 512))
    task = TASKS[plan.task].make(config)
    optimiser = torch.optim.AdamW(train.parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    say(f"{name}: {count / 1e6:.1f}M parameters to train, {config.image_size} x {config.image_size} pixels, "
        f"random weights, noise for pictures; batch {config.batch} in place of {preset(name).batch}")
    rows = []
    for step in range(steps):
        clock = time.perf_counter()
        losses, norm = train.train_step(task, task, optimiser, make_batch(plan, config, tokenizer, step), step, config,
                                        torch.device("cpu"))
        loss = sum(losses.values())
        if not torch.isfinite(loss + norm):
            raise FloatingPointError(f"{name}, step {step}: loss {loss:.3g} and gradient {norm:.3g} must be finite")
        rows.append({"step": step, **{part: value.item() for part, value in losses.items()}, "loss": loss.item(),
                     "gradient": norm.item(), "lr": train.lr_at(step, config),
                     "alpha": train.alpha_at(step, config), "seconds": time.perf_counter() - clock,
                     "memory_gb": peak / 1e3 if (peak := peak_memory()) else None})
        say("  " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items() if value is not None))
    return rows


def make_batch(plan: Rehearsal, config: Config, tokenizer: Tokenizer, step: int):
    """A batch of noise images and random texts longer than the limit, seeded by (seed, step)."""
    rng = np.random.default_rng([config.seed, step])
    records = []
    for i in range(config.batch):
        pictures = rng.integers(0, 256, (2, 48, 64, 3), np.uint8)             # resized to the preset's side
        text = " ".join(rng.choice(WORDS, config.text_length))
        records.append(plan.record(*pictures, text, config.batch * step + i))
    return TASKS[plan.task].collate(records, tokenizer, config.image_size, config.text_length)
