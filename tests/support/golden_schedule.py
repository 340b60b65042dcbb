"""Learning rates beside the recorded calls of the original's scheduler."""
import re

from golden_rule import figures, off
from minalbef.config import Config
from minalbef.train import lr_at

RUNS = ("Pretrain", "Retrieval_flickr", "VQA", "NLVR_pretrain")
EPOCH = 2_103                           # steps; more than the longest warm-up, and no round number


def run(name: str, **changes) -> Config:
    """The settings of one of the original's runs."""
    theirs = figures("schedule")[name]["schedular"]
    return Config(**dict(lr=theirs["lr"], lr_start=theirs["warmup_lr"], lr_end=theirs["min_lr"],
                         epochs=theirs["epochs"], warmup_steps=100 * theirs["warmup_epochs"], epoch=4 * EPOCH + 3,
                         batch=4, schedule="stairs") | changes)


def begins(event: str) -> int:
    """The first step that is trained at the rate which the original's scheduler was given in this event."""
    epoch, step = (int(found[1]) if (found := re.search(rf"{word} (\d+)", event)) else 0 for word in ("epoch", "iter"))
    after = 0 if event == "initial" or event.startswith("start") else step + 1 if "iter" in event else EPOCH
    return epoch * EPOCH + after


def schedules() -> dict[str, float]:
    """The rate between events, at the first, the middle and the last step: {run: worst difference over tolerance}."""
    differences = {}
    for name in RUNS:
        config, events = run(name), figures("schedule")[name]["events"]
        starts = [begins(one["event"]) for one in events]
        ends = [*starts[1:], max(starts[-1] + 1, config.epochs * EPOCH)]   # some runs end with an event
        differences[name] = max(off(lr_at(step, config), one["lr"], 0, 1e-8)
                                for one, start, end in zip(events, starts, ends)
                                for step in (start, (start + end) // 2, end - 1))
    return differences
