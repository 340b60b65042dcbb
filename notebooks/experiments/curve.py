"""What does it take? Learning curves of long runs: `python notebooks/experiments/curve.py NAME`.

fresh: the paper's objectives alone, on five times the scenes of `tiny`, each seen once
repeated: as many steps on `tiny`'s number of scenes, each seen five times
desk, small: the presets; small needs a GPU
tiny: the preset as it was until 2026-11-30, when it had desk's recipe

fresh and repeated have the shape and the schedule that tiny had when they were run.

Stops at ten points, evaluates on validation scenes, writes curve_NAME.json beside itself and goes
on, by exact resume. Killed, it goes on when it is called again.
"""
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from minalbef import preset
from minalbef.config import Config
from minalbef.pretrain import Draws
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.evaluation import evaluate_scenes
from minalbef.scenes.pretrain import FastScenePretrain
from minalbef.system import checkpoint
from minalbef.system.metrics import read_metrics
from minalbef.tasks.run import Run
from minalbef.train import Stopped
from results import flatten, write_json
from second import SECOND

# tiny as it was when fresh and repeated were run: one layer of text, three of fusion
TINY = preset("tiny", **SECOND | dict(
    text_depth=1, fusion_depth=3, warm_steps=1000, epoch=179_200, match_from=0.07, hard_from=0.13,
    queue_from=0.18, lesson_from=0.18, siblings_from=0.38))
TIMES = 5                             # tiny's samples: some 100 minutes beside another run
POINTS = 10                           # of a run
SIZE = 0.5                            # share of the validation set's size
# the first phases take as many steps as tiny's, however long the run
PHASES = {name: getattr(TINY, name) / TIMES for name in ("match_from", "hard_from", "queue_from")}
RUNS: dict[str, Config] = {
    "fresh": replace(TINY, siblings=0.0, epoch=TIMES * TINY.epoch, **PHASES),
    "repeated": replace(TINY, siblings=0.0, epochs=float(TIMES), **PHASES),
    "tiny": preset("tiny", **SECOND),
    "desk": preset("desk"),
    "small": preset("small"),
}
FIGURES = """
plain.itc_i2t_r1 plain.itc_t2i_r1
plain.rerank_i2t_r1 plain.rerank_t2i_r1
plain.rerank_plus_i2t_r1 plain.rerank_plus_t2i_r1
families.itc_i2t_r1 families.itc_t2i_r1
families.rerank_i2t_r1 families.rerank_t2i_r1
itm_one_change_accuracy.relation itm_one_change_accuracy.relation_in_one_half
itm_one_change_accuracy.place itm_one_change_accuracy.size
itm_one_change_accuracy.count itm_one_change_accuracy.background
itc_one_change_accuracy.relation
mlm_accuracy.object
pointing_itm pointing_mlm
""".split()


def train_until(step: int, config: Config, folder: Path) -> None:
    """Train a run from where it is until that many steps are done."""

    class Pausing(FastScenePretrain):
        """Asks `fit` to stop before the next step."""

        def draws(self, number: int) -> Draws:
            if number + 1 == step < config.steps:
                signal.raise_signal(signal.SIGINT)
            return super().draws(number)

    try:
        pretrain.pretrain(config, folder, make=Pausing)
    except Stopped:
        if checkpoint.read_state(folder / "state.pt")["step"] != step:
            raise                     # the user stopped it, not we


def follow(name: str, config: Config, folder: Path, out: Path) -> None:
    """Train a run to its end, and write a row of figures at each point that has none yet."""
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []
    for point in range(len(rows) + 1, POINTS + 1):
        step = config.steps * point // POINTS
        train_until(step, config, folder)
        rows.append({"step": step, "samples": step * config.batch} | figures(config, folder))
        write_json(out, {
            "command": f"python notebooks/experiments/curve.py {name}",
            "date": now(),
            "device": describe_device(),
            "commit": commit(),
            "split": "validation",
            "size": SIZE,
            "config": config.to_dict(),
            "rows": rows,
        })
        print(name, rows[-1], flush=True)


def figures(config: Config, folder: Path) -> dict[str, float]:
    """Seconds of training up to here, and what the model can do on validation scenes."""
    task, tokenizer, config = pretrain.begin(config)
    task.load_state_dict(checkpoint.read_state(folder / "state.pt")["task"])
    run = Run(task.student.eval(), tokenizer, config, folder)
    report = flatten(evaluate_scenes(run, 1500, SIZE, "validation"))
    seconds = float(read_metrics(folder)[-1]["seconds"])
    return {"seconds": seconds} | {name: report[name] for name in FIGURES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    (name,) = sys.argv[1:]
    follow(name, RUNS[name], Path("runs", "curve", name), Path(__file__).with_name(f"curve_{name}.json"))
