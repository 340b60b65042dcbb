"""Learning rates beside the recorded calls of the original's scheduler."""
import re

from golden_rule import figures, off
from minalbef.config import Config
from minalbef.train import lr_at

RUNS = ("Pretrain", "Retrieval_flickr", "VQA", "NLVR_pretrain")
EPOCH = 2_103  # steps; more than the longest warm-up, and no round number


def run(name: str, **changes) -> Config:
    """The settings of one of the original's runs."""
    scheduler = figures("schedule")[name]["schedular"]
    settings = dict(
        lr=scheduler["lr"], lr_start=scheduler["warmup_lr"], lr_end=scheduler["min_lr"],
        epochs=scheduler["epochs"], warmup_steps=100 * scheduler["warmup_epochs"],
        epoch=4 * EPOCH + 3, batch=4, schedule="stairs",
    )
    return Config(**settings | changes)


def begins(event: str) -> int:
    """The first step at the rate which the original's scheduler was given in this event."""
    epoch = number_after("epoch", event)
    if event == "initial" or event.startswith("start"):
        return epoch * EPOCH
    if "iter" in event:
        return epoch * EPOCH + number_after("iter", event) + 1
    return epoch * EPOCH + EPOCH


def number_after(word: str, event: str) -> int:
    match = re.search(rf"{word} (\d+)", event)
    return int(match[1]) if match else 0


def schedules() -> dict[str, float]:
    """The rate between events, at the first, the middle and the last step.

    -> {run: worst difference over tolerance}
    """
    differences = {}
    for name in RUNS:
        config = run(name)
        events = figures("schedule")[name]["events"]
        starts = [begins(record["event"]) for record in events]
        # some runs end with an event
        ends = [*starts[1:], max(starts[-1] + 1, config.epochs * EPOCH)]
        differences[name] = 0.0
        for record, start, end in zip(events, starts, ends):
            for step in (start, (start + end) // 2, end - 1):
                difference = off(lr_at(step, config), record["lr"], 0, 1e-8)
                differences[name] = max(differences[name], difference)
    return differences
