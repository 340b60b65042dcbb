"""What does it take? Learning curves of long runs: `python notebooks/experiments/curve.py NAME`; killed, it goes on.

fresh: the paper's objectives alone, on five times the scenes of `tiny`, each seen once
repeated: as many steps on `tiny`'s number of scenes, each seen five times
tiny, desk, small: the presets; small needs a GPU

fresh and repeated have the shape and the schedule that tiny had when they were run.

Stops at ten points, evaluates on validation scenes, writes curve_NAME.json beside itself and goes on, by exact resume.
"""
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from minalbef import checkpoint, preset
from minalbef.config import Config
from minalbef.metrics import read_metrics
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.run import Run
from minalbef.scenes import evaluation
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.train import Stopped
from results import flatten

# tiny as it was when fresh and repeated were run: one layer of text, three of fusion
TINY = preset("tiny", text_depth=1, fusion_depth=3, warm_steps=1000, epoch=179_200, match_from=0.07, hard_from=0.13,
              queue_from=0.18, lesson_from=0.18, siblings_from=0.38)
TIMES = 5                             # tiny's samples; a step takes .4 s beside another run, so some 100 minutes
POINTS, SIZE = 10, 0.5                # of a run; share of the test set's size
# the beginning takes as many steps as tiny's, however long the run
PHASES = {name: getattr(TINY, name) / TIMES for name in ("match_from", "hard_from", "queue_from")}
RUNS: dict[str, Config] = {
    "fresh": replace(TINY, siblings=0.0, epoch=TIMES * TINY.epoch, **PHASES),
    "repeated": replace(TINY, siblings=0.0, epochs=float(TIMES), **PHASES),
    **{name: preset(name) for name in ("tiny", "desk", "small")}}
FIGURES = """plain.itc_i2t_r1 plain.itc_t2i_r1 plain.rerank_i2t_r1 plain.rerank_t2i_r1 plain.rerank_plus_i2t_r1
plain.rerank_plus_t2i_r1 families.itc_i2t_r1 families.itc_t2i_r1 families.rerank_i2t_r1 families.rerank_t2i_r1
itm_one_change_accuracy.relation itm_one_change_accuracy.relation_in_one_half itm_one_change_accuracy.place
itm_one_change_accuracy.size itm_one_change_accuracy.count itm_one_change_accuracy.background
itc_one_change_accuracy.relation mlm_accuracy.object pointing_itm pointing_mlm""".split()


def follow(name: str, config: Config, folder: Path, out: Path) -> None:
    """Train a run from where it is to its end, and write a row of figures at each point that is not written yet."""
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"] if out.exists() else []
    for point in range(len(rows) + 1, POINTS + 1):
        last = config.steps * point // POINTS

        class Pausing(ScenePretrain):
            """Asks `fit` to stop once it has done the point's last step."""

            def draws(self, step: int):
                if step + 1 == last < config.steps:
                    signal.raise_signal(signal.SIGINT)
                return super().draws(step)

        try:
            pretrain.pretrain(config, folder, make=Pausing)
        except Stopped:
            if checkpoint.read_state(folder / "state.pt")["step"] != last:
                raise                            # by a hand, not by us
        rows.append({"step": last, "samples": last * config.batch} | figures(config, folder))
        about = {"command": f"python notebooks/experiments/curve.py {name}", "date": now(), "device": describe_device(),
                 "commit": commit(), "split": "validation", "size": SIZE, "config": config.to_dict(), "rows": rows}
        text = json.dumps(about, indent=1) + "\n"
        checkpoint.write_atomically(out, lambda path: path.write_text(text, encoding="utf-8"))
        print(name, rows[-1], flush=True)


def figures(config: Config, folder: Path) -> dict[str, float]:
    """Seconds of training up to here, and what the model can do on validation scenes."""
    task, tokenizer, config = pretrain.begin(config)
    task.load_state_dict(checkpoint.read_state(folder / "state.pt")["task"])
    found = flatten(evaluation.evaluate(Run(task.student.eval(), tokenizer, config, folder), 1500, SIZE,
                                        "validation"))
    return {"seconds": float(read_metrics(folder)[-1]["seconds"])} | {name: found[name] for name in FIGURES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    name, = sys.argv[1:]
    follow(name, RUNS[name], Path("runs", "curve", name), Path(__file__).with_name(f"curve_{name}.json"))
