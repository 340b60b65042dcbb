"""What the lesson in relations needs: `python notebooks/results/relations.py`, some ten minutes on one core.

Trains `tiny` up to its lesson, from the start that is shipped, and then the lesson in four ways: as it is; with every
direction as frequent as any; with siblings of no more weight than another loss; and with 3,000 pairs of siblings, again
and again. Writes relations.json beside itself: the loss of siblings, and on questions of the validation split how often
ITM scores the true caption above one with another relation.
"""
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import torch

from minalbef import checkpoint, load, train
from minalbef.data import data_folder
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.run import Run
from minalbef.scenes import scenes
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.exam import exam, questions
from minalbef.tasks.pretrain import Pretrain

PATH = Path(__file__).with_suffix(".json")
STEPS, EVERY, ASKED, PAIRS = 350, 50, 500, 3_000        # of the lesson, steps a row, questions, repeated pairs
WAYS: dict[str, Callable[[], AbstractContextManager]] = {
    "as it is": nullcontext,
    "every direction as frequent as any": lambda: mock.patch.object(scenes, "LESSON", ("",)),
    "siblings weigh what each other loss does": lambda: mock.patch.object(Pretrain, "weights", lambda self, step: {}),
    f"{PAIRS:,} pairs, repeated": nullcontext}


def main() -> None:
    torch.set_num_threads(1)
    code, config, cpu = commit(), preset("tiny"), torch.device("cpu")
    task, tokenizer, config = pretrain.begin(config)
    task.start(load(data_folder() / "tiny" / "start").model)
    batches = SceneBatches(config, tokenizer)
    optimiser = torch.optim.AdamW(train.parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
    source = questions.scenes(Run(task.student, tokenizer, config, ""), "validation", 1401, counts=(0.2, 0.4, 0.4))
    drawn = [source.one_change(i, "relation") for i in range(ASKED)]
    foils = {"relation": [(one.scene, one.text, foil) for one, _, foil in drawn]}

    def step(number: int) -> float:
        losses, _ = train.train_step(task, task, optimiser, batches(number), number, config, cpu)
        return losses["siblings"].item() if "siblings" in losses else 0.0

    lesson = [number for number in range(config.steps) if config.in_lesson(number)][:STEPS]
    for number in range(lesson[0]):
        step(number)
    checkpoint.save_state(PATH.parent, task, optimiser, lesson[0], config)
    found = {}
    for name, way in WAYS.items():
        checkpoint.load_state(PATH.parent, task, optimiser, config)
        batches = SceneBatches(config, tokenizer)
        if "repeated" in name:
            batches.lesson.sibling_pairs = PAIRS
        rows, losses = [], []
        with way():
            for number in lesson:
                losses.append(step(number))
                if len(losses) % EVERY == 0:
                    right = exam.one_change(Run(task.student.eval(), tokenizer, config, ""), foils)["relation"].mean()
                    rows.append({"step": len(losses), "loss": round(sum(losses[-EVERY:]) / EVERY, 3),
                                 "relation": round(right.item(), 3)})
                    task.train()
                    print(name, rows[-1], f"CPU {time.process_time():.0f} s", flush=True)
        found[name] = rows
    (PATH.parent / "state.pt").unlink()
    about = {"command": "python notebooks/results/relations.py", "date": now(), "device": describe_device(),
             "commit": code, "torch": torch.__version__, "cpu_seconds": round(time.process_time()), "lessons": found}
    checkpoint.write_atomically(PATH, lambda path: path.write_text(json.dumps(about, indent=1) + "\n", "utf-8"))


if __name__ == "__main__":
    main()
