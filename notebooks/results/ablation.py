"""Pretraining without one part at a time, at a small budget: `python notebooks/results/ablation.py` from the root.

Writes ablation.json beside itself, run by run, and skips runs that are there: you can stop it, or ask for more seeds.
"""
import argparse
import json
import shlex
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from minalbef import Run, checkpoint, load, train
from minalbef.data import data_folder
from minalbef.ema import make_teacher
from minalbef.masking import mask_rates
from minalbef.presets import preset
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.exam import exam, questions
from minalbef.scenes.scenes import Scenes
from minalbef.tasks.pretrain import Pretrain

PATH = Path(__file__).with_suffix(".json")
# arm: which loss is left out, and which options change
ARMS = {"all parts": ("", {}), "no ITC": ("itc", dict(match_from=0.0, hard_from=1.0)), "no ITM": ("itm siblings", {}),
        "no MLM": ("mlm", {}), "even negatives": ("", dict(hard_from=1.0)), "no queue": ("", dict(queue_from=1.0)),
        "no siblings": ("", dict(siblings=0.0)), "distillation": ("", dict(alpha=0.4))}
TEST = dict(split="test", seed=1400)  # scenes that nothing else was chosen or examined on


class Without(Pretrain):
    """Pretraining without one of its losses; what it needs is still computed, so a step costs nearly the same."""

    leave_out = ""

    def forward(self, *inputs):
        losses, carry = super().forward(*inputs)
        return {name: loss for name, loss in losses.items() if name not in self.leave_out.split()}, carry


def digits(values: Tensor) -> str:
    """Each question's outcome in a letter, 0 wrong, 1 half, 2 right: what a bootstrap draws from."""
    return "".join(str(round(2 * value)) for value in values.tolist())


def questioned(run: Run) -> dict[str, str]:
    """Outcomes, question by question, the same questions for every run."""
    plain = questions.plain(run, **TEST, count=300)
    found = exam.hits(exam.compete(run, plain, match=False), 0.0)
    groups = exam.hits(exam.compete(run, questions.families(run, **TEST, count=75), 4), 0.0)
    true, false = questions.match_odds(run, [one.scene for one in plain] * 2,
                                       [one.text for one in (*plain, *plain[1:], plain[0])]).chunk(2)
    changes = exam.one_change(run, questions.foils(run, **TEST, count=60))
    return {"plain by ITC": digits((found["itc_i2t_r1"] + found["itc_t2i_r1"])[0] / 2),
            "families by ITM": digits((groups["rerank_i2t_r1"] + groups["rerank_t2i_r1"]).flatten() / 2),
            "another's caption refused by ITM": digits((true > false).float()),
            **{f"another {kind} refused by ITM": digits(value) for kind, value in changes.items()}}


def measure(arm: str, seed: int, pairs: int) -> dict:
    """Train one arm from the shipped warm start of the image encoder, all else fresh, and examine it."""
    leave_out, changes = ARMS[arm]
    start = load(data_folder() / "tiny" / "start")
    config = preset("tiny", vocab_size=len(start.tokenizer), seed=seed, epoch=pairs, save_every=10 ** 6, **changes)
    torch.manual_seed(seed)
    scenes = Scenes("train", seed=seed, objects=config.objects, epoch=config.epoch)
    captions = start.tokenizer.encode([scenes.draw(i).text for i in range(2000)], config.text_length)
    task = Without(config, rates=mask_rates(*captions, config.vocab_size, config.mask_rate, config.mask_power))
    task.leave_out = leave_out
    task.student.image_encoder.load_state_dict(start.model.image_encoder.state_dict())
    task.teacher = make_teacher(task.student)
    clock = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train.fit(task, SceneBatches(config, start.tokenizer), config, Path(folder), quiet=True)
        last = (Path(folder) / "metrics.csv").read_text(encoding="utf-8").splitlines()
    losses = dict(zip(last[0].split(","), last[-1].split(",")))
    seconds = time.process_time() - clock
    task.student.eval()
    run = Run(task.student, start.tokenizer, config, PATH)
    return {"arm": arm, "seed": seed, "pairs": pairs, "cpu_seconds": round(seconds, 1),
            "losses": {name: float(losses[name]) for name in ("itc", "itm", "siblings", "mlm") if losses.get(name)},
            "outcomes": questioned(run)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for seed in given.seeds:
        for arm in given.arms:
            known = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"runs": []}
            if any((one["arm"], one["seed"], one["pairs"]) == (arm, seed, given.pairs) for one in known["runs"]):
                continue
            runs = [*known["runs"], measure(arm, seed, given.pairs)]
            about = {"command": shlex.join(["python", *sys.argv]), "date": now(),
                     "device": describe_device(), "commit": commit(), "torch": torch.__version__,
                     "seeds": sorted({one["seed"] for one in runs}), "runs": runs}
            checkpoint.write_atomically(PATH, lambda path: path.write_text(json.dumps(about, indent=1) + "\n", "utf-8"))
            print(f"{arm}, seed {seed}: {runs[-1]['cpu_seconds']} CPU s, process {time.process_time():.0f}", flush=True)


if __name__ == "__main__":
    main()
