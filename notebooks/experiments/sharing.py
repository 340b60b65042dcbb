"""What should the two layers of a pair share in NLVR2? The paper's Table 7.

`python notebooks/experiments/sharing.py`.

Nothing, the keys and values of cross-attention (the released code's choice, and minalbef's), or
everything; each after text assignment, which has the same layers, and without it. From the shipped
checkpoint, with the same seeds, batches and questions. Writes sharing.json beside itself, run by
run, and skips runs that are there.
"""
import copy
import json
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from minalbef import load, train
from minalbef.ema import make_teacher
from minalbef.recipes import finetune
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import task_problems
from minalbef.scenes.batches import ProblemBatches, SceneBatches
from minalbef.tasks.nlvr2 import NLVR2, PairFusion, PairModel
from minalbef.tasks.text_assignment import TextAssignment
from outcomes import BUDGET, TASK_STEPS, digits
from results import write_json

PATH = Path(__file__).with_suffix(".json")
SHARES = ("nothing", "keys and values", "everything")
SEEDS = 3
TEST_SEED = 2100                      # of the questions, plus the run's seed


class UntiedFusion(PairFusion):
    """A pair's layers have keys and values of their own."""

    def keys_values(self, images: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        image_tokens, pairs = images
        image_tokens = image_tokens[:, self.first:]
        result = []
        for i, layer in enumerate(self.layers):
            keys, values = layer.cross.k(image_tokens), layer.cross.v(image_tokens)
            rows = pairs[:, i % 2]
            result.append((keys[rows], values[rows]))
        return result


def share(model: PairModel, what: str) -> PairModel:
    """The same model, whose pairs share `what` from now on; its weights are as they were. In place."""
    layers = model.albef.fusion.layers
    for first, second in zip(layers[::2], layers[1::2]):
        if what == "nothing":
            second.cross.k, second.cross.v = copy.deepcopy((first.cross.k, first.cross.v))
        if what == "everything":
            for name, part in second.named_modules():
                part._parameters.update(first.get_submodule(name)._parameters)
    if what == "nothing":
        model.albef.fusion = UntiedFusion(model.albef.config)
        model.albef.fusion.layers = layers
    return model


def run(what: str, assign: bool, seed: int, folder: Path) -> dict:
    """Train a model and ask it: its answers, and the CPU seconds of its training."""
    config = finetune.settings("nlvr2", "tiny", (*BUDGET, f"seed={seed}"))
    tiny = load("tiny")
    start = time.process_time()
    albef = finetune.at_size(tiny.model, config)
    torch.manual_seed(seed)
    task = NLVR2(config)
    task.start(albef)
    share(task.student, what)
    if assign:
        recipe = replace(config, epochs=1.0, epoch=64 * TASK_STEPS)
        assignment = TextAssignment(config)
        assignment.start(albef)
        share(assignment.student, what)
        batches = SceneBatches(recipe, tiny.tokenizer)
        train.fit(assignment, batches, recipe, folder / "assign", quiet=True)
        task.student.albef.load_state_dict(assignment.student.albef.state_dict())
    task.teacher = make_teacher(task.student)
    problems = ProblemBatches("nlvr2", config, tiny.tokenizer)
    train.fit(task, problems, config, folder / "task", quiet=True)
    seconds = time.process_time() - start
    draw = task_problems.draws(config, "test", TEST_SEED + seed, 0.3)
    samples = task_problems.evaluate_problems("nlvr2", task.student.eval(), tiny.tokenizer, draw).samples
    return {"seconds": round(seconds, 1), "answers": digits(samples["accuracy"])}


def main() -> None:
    """Train the runs that sharing.json lacks."""
    runs = json.loads(PATH.read_text(encoding="utf-8"))["runs"] if PATH.exists() else []
    finished = {(record["share"], record["assign"], record["seed"]) for record in runs}
    for seed, assign, what in product(range(SEEDS), (True, False), SHARES):
        if (what, assign, seed) in finished:
            continue
        record = {"share": what, "assign": assign, "seed": seed, "commit": commit(), "date": now(),
                  "device": describe_device()}
        with tempfile.TemporaryDirectory() as folder:
            record |= run(what, assign, seed, Path(folder))
        runs.append(record)
        write_json(PATH, {"command": "python notebooks/experiments/sharing.py", "runs": runs})
        answers = record["answers"]
        print(what, assign, seed, sum(map(int, answers)) / 9 / len(answers), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
