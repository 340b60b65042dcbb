"""What the lesson in relations needs: `python notebooks/experiments/relations.py`, some fifteen minutes on one core.

Trains `tiny` up to its lesson, from the start that is shipped, and then the lesson in five ways: as it is; with every
direction as frequent as any; with siblings of no more weight than another loss; with 3,000 pairs of siblings, again and
again; and by rule, without siblings: the false text of a picture is its own caption with the two objects exchanged, and
no scene is asked whether that is false. Writes relations.json beside itself: the loss of siblings, and on questions of
the validation split how often ITM scores the true caption above one with another relation.
"""
import json
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import torch

from emojiscenes import scenes
from emojiscenes.scenes import Drawn, Scenes
from minalbef import checkpoint, load, train
from minalbef.data import data_folder
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.run import Run
from minalbef.scenes import evaluation, questions
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import ScenePretrain, siblings_of

PATH = Path(__file__).with_suffix(".json")
STEPS, EVERY, ASKED, PAIRS = 350, 50, 500, 3_000        # of the lesson, steps a row, questions, repeated pairs
WAYS: dict[str, Callable[[], AbstractContextManager]] = {
    "as it is": nullcontext,
    "every direction as frequent as any": lambda: mock.patch.object(scenes, "LESSON", ("",)),
    "siblings weigh what each other loss does": lambda: mock.patch.object(
        ScenePretrain, "weights", lambda self, step: {}),
    f"{PAIRS:,} pairs, repeated": nullcontext,
    "by rule, objects exchanged in the caption": nullcontext}


class Exchanged(ScenePretrain):
    """Pretraining that, once it has `false` texts, gives each picture its own in place of its sibling's."""

    false: tuple[torch.Tensor, torch.Tensor] | None = None           # tokens and keep, (b, l)

    def pair(self, image, text, keep, sims, positives, draws, hard):
        found = super().pair(image, text, keep, sims, positives, draws, hard)
        siblings = siblings_of(draws)
        if self.false is None:
            return found
        tokens, keep = self.false
        rows, images = (x.clone() for x in found.rows)                # of texts, of images; siblings come last
        rows[-len(tokens):], images[-len(tokens):] = len(found.texts) + siblings, siblings
        texts = torch.cat([found.texts, self.student.encode_text(tokens, keep)])
        return found._replace(texts=texts, keep=torch.cat([found.keep, keep]), rows=(rows, images))


class OnePicture:
    """The first scene of each of the lesson's siblings."""

    def __init__(self, lesson: Scenes):
        self.lesson, self.names = lesson, lesson.names

    def __len__(self) -> int:
        return len(self.lesson)

    def draw(self, index: int) -> Drawn:
        return self.lesson.draw(2 * index)


def exchange(text: str, names: tuple[str, ...]) -> str:
    """"a cat left of a big dog" -> "a big dog left of a cat". names: of objects"""
    first, second = list(re.finditer(rf"\b(?:an?|one) (?:\w+ )?(?:{'|'.join(names)})\b", text))[-2:]
    return text[:first.start()] + second[0] + text[first.end():second.start()] + first[0] + text[second.end():]


def main() -> None:
    torch.set_num_threads(1)
    code, config, cpu = commit(), preset("tiny"), torch.device("cpu")
    task, tokenizer, config = pretrain.begin(config, make=Exchanged)
    task.start(load(data_folder() / "tiny" / "start").model)
    batches = SceneBatches(config, tokenizer)
    optimiser = torch.optim.AdamW(train.parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
    source = questions.scenes(Run(task.student, tokenizer, config, ""), "validation", 1401, counts=(0.2, 0.4, 0.4))
    drawn = [source.one_change(i, "relation") for i in range(ASKED)]
    foils = {"relation": [(one.scene, one.text, foil) for one, _, foil in drawn]}

    def step(number: int) -> float:
        batch = batches(number)
        if isinstance(batches.lesson, OnePicture):
            texts = [exchange(one.text, batches.lesson.names) for one in batches.batches[number % config.bucket]]
            task.false = tokenizer.encode(texts, batch.tokens.shape[1])
        losses, _ = train.train_step(task, task, optimiser, batch, number, config, cpu)
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
        if "rule" in name:
            batches.lesson = OnePicture(batches.lesson)
        rows, losses = [], []
        with way():
            for number in lesson:
                losses.append(step(number))
                if len(losses) % EVERY == 0:
                    run = Run(task.student.eval(), tokenizer, config, "")
                    right = evaluation.one_change(run, foils)["itm"]["relation"].mean()
                    rows.append({"step": len(losses), "loss": round(sum(losses[-EVERY:]) / EVERY, 3),
                                 "relation": round(right.item(), 3)})
                    task.train()
                    print(name, rows[-1], f"CPU {time.process_time():.0f} s", flush=True)
        found[name] = rows
    (PATH.parent / "state.pt").unlink()
    about = {"command": "python notebooks/experiments/relations.py", "date": now(), "device": describe_device(),
             "commit": code, "torch": torch.__version__, "cpu_seconds": round(time.process_time()), "lessons": found}
    checkpoint.write_atomically(PATH, lambda path: path.write_text(json.dumps(about, indent=1) + "\n", "utf-8"))


if __name__ == "__main__":
    main()
