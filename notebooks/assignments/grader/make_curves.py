"""Makes a5_curves.csv: four short runs of the package on a CPU, one as it should be, three with a planted bug. Seed 0.

    python notebooks/assignments/grader/make_curves.py

All start from the shipped encoders, with new projections, fusion and heads; the image encoder stays as it is, so its
tokens are computed once. Instructors only: RUNS is the key to assignment 5.
"""
import csv
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import minalbef
from minalbef import train
from minalbef.data import data_folder
from minalbef.ema import make_teacher
from minalbef.pretrain import Pretrain
from minalbef.scenes.batches import SceneBatches

STEPS, EVERY = 200, 4


class OwnNegative(Pretrain):
    """ITM's wrong text and wrong picture are the right ones."""

    def pair(self, image, text, keep, sims, positives, *rest):
        others = ~torch.eye(len(image), dtype=torch.bool)
        return super().pair(image, text, keep, sims, [others, others], *rest)


class Early(Pretrain):
    """Keys join the queue before the loss and without their ids: each query finds its own key again, as a negative."""

    def compare(self, features, teacher_features, carry, *rest):
        self.queue.push(*carry[:2], -1 - carry[2])
        return super().compare(features, teacher_features, carry, *rest)

    def after_step(self, carry):
        super().after_step([part[:0] for part in carry])


class Still(Pretrain):
    """The teacher stays where it began."""

    def after_step(self, carry):
        teacher, self.teacher = self.teacher, make_teacher(self.student)
        super().after_step(carry)
        self.teacher = teacher


RUNS = {"clean": Pretrain, "A": Early, "B": OwnNegative, "C": Still}


def main():
    """Train all, and write what they logged."""
    begun = minalbef.load(data_folder() / "tiny")
    config = replace(begun.config, fusion_depth=1, batch=32, epoch=32 * STEPS, queue_size=256, bucket=1, mask_rate=0.3,
                     match_from=0.0, hard_from=1.0, queue_from=0.4, lesson_from=1.0, siblings_from=1.0,
                     warmup_steps=20)
    source = SceneBatches(config, begun.tokenizer)
    batches = [source(step) for step in range(STEPS)]
    with torch.no_grad():
        seen = [begun.model.encode_image(batch.image) for batch in batches]
    with (Path(__file__).parent / "a5_curves.csv").open("w", newline="", encoding="utf-8") as file:
        log = csv.writer(file, lineterminator="\n")
        log.writerow(("run", "step", "itc", "itm", "mlm", "temperature", "gradient"))
        for name, kind in RUNS.items():
            for step, values in run(kind, config, begun.model, batches, seen):
                log.writerow((name, step, *(f"{value:.4g}" for value in values)))


def run(kind: type[Pretrain], config: minalbef.Config, begun: minalbef.ALBEF, batches: list, seen: list[Tensor]):
    """Train -> (step, means of losses, temperature and the gradient's norm before clipping), every EVERY steps."""
    torch.manual_seed(0)
    task = kind(config)
    task.student.text_encoder.load_state_dict(begun.text_encoder.state_dict())
    task.student.image_encoder = nn.Identity()
    task.teacher, values = make_teacher(task.student), []
    optimiser = torch.optim.AdamW(train.parameter_groups(task, config), lr=config.lr, betas=config.betas)
    for step, (batch, image) in enumerate(zip(batches, seen)):
        for group in optimiser.param_groups:
            group["lr"] = train.lr_at(step, config) * group["share"]
        losses, carry = task(replace(batch, image=image), 0.0, task.draws(step))
        optimiser.zero_grad()
        sum(losses.values()).backward()
        length = nn.utils.clip_grad_norm_(task.student.parameters(), config.clip)
        optimiser.step()
        task.after_step(carry)
        values.append([*(losses[name].item() for name in ("itc", "itm", "mlm")), task.student.temperature.item(),
                       length.item()])
        if (step + 1) % EVERY == 0:
            yield step + 1, torch.tensor(values[-EVERY:]).mean(0).tolist()


if __name__ == "__main__":
    main()
