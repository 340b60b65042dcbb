"""Why the lesson in relations works: `python notebooks/experiments/lesson.py`, an hour of one core.

Trains `tiny` with five seeds up to its lesson, from the start that is shipped, and keeps that in
runs/lesson. Then lessons alone: ITM's loss of siblings, 16 pairs a step, while the image encoder
stands still. ARMS says what differs. What it asks was written down before it ran, in
registered_lesson.md; reports/lesson.md has its tables.

Writes lesson.json beside itself after each run, and goes on from there when it is called again.
"""
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lesson_parts import POOL, Questions, Siblings, Start, ask, draw_pool
from minalbef import train
from minalbef.cli.main import run_script
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.pretrain import ScenePretrain
from results import write_json

PATH = Path(__file__).with_suffix(".json")
EVERY = 25                            # steps a row of figures, and of the running loss
BOUND = 0.68                          # of the running loss: below it the plateau has been left
AFTER = 50                            # steps that a run goes on then
FULL = 350                            # steps of the lesson as it is in tiny


class Arm(NamedTuple):
    """How the pairs of a lesson alone are drawn. All at 0: every direction as frequent as any."""

    mirrored: float = 0.0             # share of pairs that are mirror images, not any two scenes
    said_alone: bool = False          # both captions of a mirrored pair say "left", or "above"
    words: float = 0.0                # share of "left" and "above" over that of "right" and "below"
    labels: float = 0.0               # true pairs weigh 1 + labels, false ones 1 - labels
    rate: float = 1.0                 # times that of the lesson's first step
    pairs: int = 16                   # a step
    steps: int = 450                  # at most
    until: float = 0.0                # go on to this accuracy of relations, not to AFTER


SKEWS = (0.0, 0.2, 0.35, 0.5, 2 / 3, 0.8, 0.9, 1.0)
ARMS = {f"skew {skew:.2f}": Arm(mirrored=skew, said_alone=True) for skew in SKEWS}
CONTROLS = {
    "words": Arm(words=0.8),
    "images": Arm(mirrored=0.8),
    "labels": Arm(labels=0.8),
}
WEIGHTS = {"weight 10": 10.0, "weight 1": 1.0}     # of siblings, in the full step, skew as tiny's
WITHOUT = {
    "longer": Arm(steps=1500, until=0.95),
    "warmer": Arm(rate=3.0, steps=750, until=0.95),
    "larger": Arm(pairs=64, steps=400, until=0.95),
}
PARTS: tuple[dict[str, Any], ...] = (ARMS, CONTROLS, WEIGHTS, WITHOUT)


class Lessons:
    """What the lessons of a seed are drawn from."""

    def __init__(self, start: Start, pool: dict[bool, Siblings]):
        self.start = start
        self.asked = ask(start)
        sorts = [pool[False], pool[True]]
        self.image = torch.cat([start.read(sort.images) for sort in sorts])
        ways = [sorts[0].texts[i] + sorts[1].texts[i] for i in range(2)]
        self.words = start.encode(ways[0] + ways[1]).view(2, len(ways[0]), -1)

    def draw(self, arm: Arm, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images and ids of a step, (2 pairs, 1 + n, d) and (2 pairs, l), siblings side by side."""
        def chance(share: Tensor | float) -> Tensor:
            return torch.rand(arm.pairs, 1, generator=draws) < share

        mirrored = chance(arm.mirrored)                          # (pairs, 1)
        group = torch.randint(POOL, (arm.pairs, 1), generator=draws) + POOL * mirrored
        rows = (2 * group + torch.arange(2)).flatten()
        rare = torch.rand(arm.pairs, 2, generator=draws) >= (1 + arm.words) / 2
        if arm.said_alone:
            rare &= ~mirrored
        return self.image[rows], self.words[rare.flatten().long(), rows]


def record_run(start: Start, step: Callable[[int], float], steps: int,
               questions: Callable[[], dict[str, Questions]], until: float = 0.0) -> dict[str, Any]:
    """Call `step` up to `steps` times: -> when the plateau was left, and a row every 25 steps.

    step: trains step i, -> its loss, of which ln 2 is a guess
    questions: -> the questions, their images as the encoder has them by then. until: see Arm
    """
    losses: list[float] = []
    rows = []
    end = None
    for i in range(steps):
        losses.append(step(i))
        running = sum(losses[-EVERY:]) / EVERY
        if end is None and i + 1 >= EVERY and running < BOUND:
            end = i + 1
        if (i + 1) % EVERY:
            continue
        start.task.eval()
        rows.append({"step": i + 1, "loss": round(running, 4)} |
                    {name: round(part.right(start), 3) for name, part in questions().items()})
        start.task.train()
        print(json.dumps(rows[-1]), flush=True)
        if until and rows[-1]["relation"] >= until or not until and end and i + 1 >= end + AFTER:
            break
    return {"left": end, "rows": rows}


def train_alone(start: Start, lessons: Lessons, arm: Arm) -> dict[str, Any]:
    """A lesson alone, in an arm's way.

    The loss that is recorded weighs true and false alike, whose shares are taken off the logits.
    """
    start.load()
    draws = torch.Generator().manual_seed(start.config.seed)
    count = 2 * arm.pairs
    rows = torch.arange(count)
    texts, images = torch.cat([rows, rows ^ 1]), torch.cat([rows, rows])
    labels = torch.cat([torch.ones(count), torch.zeros(count)]).long()
    shares = torch.tensor([1 - arm.labels, 1 + arm.labels])
    weights = shares[labels]
    for group in start.optimiser.param_groups:
        group["lr"] = arm.rate * train.lr_at(start.first, start.config) * group["lr_scale"]

    def step(i: int) -> float:
        logits = start.match(*lessons.draw(arm, draws), texts, images)
        losses = F.cross_entropy(logits, labels, reduction="none")
        (losses * weights).mean().backward()
        nn.utils.clip_grad_norm_(start.task.parameters(), start.config.clip)
        start.optimiser.step()
        start.optimiser.zero_grad(set_to_none=True)
        return F.cross_entropy(logits.detach() - shares.log(), labels).item()

    return record_run(start, step, arm.steps, lambda: lessons.asked, arm.until)


def train_full(start: Start, weight: float) -> dict[str, Any]:
    """The lesson as it is in `tiny`, beside all other losses; siblings weigh `weight`."""
    start.load()
    questions = ask(start)

    def step(i: int) -> float:
        return start.full_step(start.first + i)

    def look_again() -> dict[str, Questions]:            # the image encoder learns, too
        return {name: part._replace(image=start.read(part.pixels))
                for name, part in questions.items()}

    with mock.patch.object(ScenePretrain, "weights", lambda task, step: {"siblings": weight}):
        return record_run(start, step, FULL, look_again)


def main(arm: tuple[str, ...] = (), seed: tuple[int, ...] = (0, 1, 2, 3, 4), out: Path = PATH
         ) -> None:
    """Train the lessons that the file doesn't have yet.

    Args:
        arm: these alone, such as words
        seed: one or more, of each arm
        out: the file to write
    """
    torch.set_num_threads(1)
    names = [name for part in PARTS for name in part]
    if unknown := set(arm) - set(names):
        raise ValueError(f"no arm {min(unknown)!r}; there are {', '.join(names)}")
    for part in PARTS:
        for number in seed:
            runs = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
            names_of_runs = {run["arm"] for run in runs if run["seed"] == number}
            arms = {}
            for name, way in part.items():
                if name not in names_of_runs and (not arm or name in arm):
                    arms[name] = way
            if not arms:
                continue
            start = Start(number)
            lessons = None if part is WEIGHTS else Lessons(start, draw_pool())
            for name, way in arms.items():
                clock = time.process_time()
                if lessons is None:
                    result = train_full(start, way)
                else:
                    result = train_alone(start, lessons, way)
                runs.append({
                    "arm": name, "seed": number, "command": shlex.join(["python", *sys.argv]),
                    "date": now(), "device": describe_device(), "commit": commit(),
                    "cpu_seconds": round(time.process_time() - clock), **result})
                write_json(out, runs)
                print(f"{name}, seed {number}: left after {result['left']} steps", flush=True)


if __name__ == "__main__":
    run_script(main)
