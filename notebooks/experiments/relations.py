"""What the lesson in relations needs: `python notebooks/experiments/relations.py`, 15 minutes.

Trains `tiny` up to its lesson, from the start that is shipped, and then the lesson in five ways: as
it is; with every direction as frequent as any; with siblings of no more weight than another loss;
with 3,000 pairs of siblings, again and again; and by rule, without siblings: the false caption of
an image is its own with the two objects exchanged, and no scene is asked whether that is false.
Writes relations.json beside itself: the loss of siblings, and on questions of the validation split
how often ITM scores the true caption above one with another relation.
"""
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from emojiscenes import scenes
from emojiscenes.scenes import Drawn, Scenes
from minalbef import load, train
from minalbef.data import data_folder
from minalbef.fast.pretrain import Encoded, Pool
from minalbef.presets import preset
from minalbef.pretrain import Negatives, Pairs, PretrainBatch
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import evaluation, questions
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import FastScenePretrain, ScenePretrain, has_siblings
from minalbef.system import checkpoint
from minalbef.tasks.run import Run
from results import write_json
from second import SECOND

PATH = Path(__file__).with_suffix(".json")
STEPS = 350                           # of the lesson
EVERY = 50                            # steps a row of figures
QUESTIONS = 500
PAIRS = 3_000                         # that one way of the lesson repeats
AS_IT_IS = "as it is"
EVEN = "every direction as frequent as any"
UNWEIGHTED = "siblings weigh what each other loss does"
REPEATED = f"{PAIRS:,} pairs, repeated"
BY_RULE = "by rule, objects exchanged in the caption"


class Exchanged(FastScenePretrain):
    """Pretraining that, once it has `false` captions, takes an image's own in place of its sibling's."""

    false: tuple[Tensor, Tensor] | None = None           # tokens and keep, (s, l)

    def fetch(self, encoded: Encoded, keep: Tensor, negatives: Negatives
              ) -> tuple[Pool, Negatives]:
        """ITM's rows, and behind them the false captions."""
        pool, negatives = super().fetch(encoded, keep, negatives)
        if self.false is not None:
            tokens, false_keep = self.false
            false = self.student.encode_text(tokens, false_keep)
            pool = pool._replace(text=torch.cat([pool.text, false]),
                                 keep=torch.cat([pool.keep, false_keep]))
        return pool, negatives

    def pair(self, negatives: Negatives, batch: PretrainBatch) -> Pairs:
        """ITM's pairs, of which the siblings' take the false captions."""
        pairs = super().pair(negatives, batch)
        if self.false is None or not has_siblings(batch):
            return pairs
        count = len(self.false[0])                       # siblings are the last rows
        siblings = pairs.images[-count:]
        texts = torch.cat([pairs.texts[:-count], len(batch.tokens) + siblings])
        return pairs._replace(texts=texts)


class FirstSiblings:
    """The first scene of each of the lesson's siblings."""

    def __init__(self, lesson: Scenes):
        self.lesson = lesson
        self.names = lesson.names

    def __len__(self) -> int:
        return len(self.lesson)

    def draw(self, index: int) -> Drawn:
        return self.lesson.draw(2 * index)


def exchange(text: str, names: tuple[str, ...]) -> str:
    """"a cat left of a big dog" -> "a big dog left of a cat". names: of objects"""
    thing = rf"\b(?:an?|one) (?:\w+ )?(?:{'|'.join(names)})\b"
    first, second = list(re.finditer(thing, text))[-2:]
    before = text[:first.start()]
    between = text[first.end():second.start()]
    return before + second[0] + between + first[0] + text[second.end():]


class Training:
    """`tiny` as it was until 2026-11-30, from the shipped start, on batches that may be replaced."""

    def __init__(self) -> None:
        config = preset("tiny", **SECOND)
        self.task, self.tokenizer, self.config = pretrain.begin(config, make=Exchanged)
        self.task.start(load(data_folder() / "tiny" / "start").model)
        self.batches = SceneBatches(self.config, self.tokenizer)
        self.optimiser = torch.optim.AdamW(train.parameter_groups(self.task, self.config),
                                           lr=self.config.lr, betas=self.config.betas, fused=True)

    def step(self, number: int) -> float:
        """Train a step: -> the loss of siblings, 0 in a step without them."""
        batch = self.batches(number)
        lesson = self.batches.lesson
        if isinstance(lesson, FirstSiblings):
            pairs = self.batches.batches[number % self.config.bucket]
            texts = [exchange(pair.text, lesson.names) for pair in pairs]
            self.task.false = self.tokenizer.encode(texts, batch.tokens.shape[1])
        losses, _ = train.train_step(self.task, self.task, self.optimiser, batch, number,
                                     self.config, torch.device("cpu"))
        return losses["siblings"].item() if "siblings" in losses else 0.0

    def save(self, step: int) -> None:
        checkpoint.save_state(PATH.parent, self.task, self.optimiser, step, self.config)

    def load(self) -> None:
        checkpoint.load_state(PATH.parent, self.task, self.optimiser, self.config)
        self.batches = SceneBatches(self.config, self.tokenizer)


def changed(way: str) -> AbstractContextManager:
    """What is patched while the lesson goes on in a way."""
    if way == EVEN:
        return mock.patch.object(scenes, "LESSON", ("",))
    if way == UNWEIGHTED:
        return mock.patch.object(ScenePretrain, "weights", lambda task, step: {})
    return nullcontext()


def train_lesson(training: Training, way: str, numbers: Sequence[int], foils: dict) -> list[dict]:
    """Train the steps `numbers` in a way: -> every 50 steps the loss, and ITM's accuracy on foils."""
    if way == REPEATED:
        training.batches.lesson.sibling_pairs = PAIRS
    if way == BY_RULE:
        training.batches.lesson = FirstSiblings(training.batches.lesson)
    rows = []
    losses = []
    with changed(way):
        for number in numbers:
            losses.append(training.step(number))
            if len(losses) % EVERY == 0:
                run = Run(training.task.student.eval(), training.tokenizer, training.config, "")
                right = evaluation.one_change(run, foils)["itm"]["relation"].mean()
                rows.append({"step": len(losses),
                             "loss": round(sum(losses[-EVERY:]) / EVERY, 3),
                             "relation": round(right.item(), 3)})
                training.task.train()
                print(way, rows[-1], f"CPU {time.process_time():.0f} s", flush=True)
    return rows


def main() -> None:
    """Train up to the lesson, then the lesson in all ways."""
    torch.set_num_threads(1)
    code = commit()
    training = Training()
    run = Run(training.task.student, training.tokenizer, training.config, "")
    source = questions.scenes(run, "validation", 1401, counts=(0.2, 0.4, 0.4))
    relations = [source.one_change(i, "relation") for i in range(QUESTIONS)]
    foils = {"relation": [(pair.scene, pair.text, foil) for pair, _, foil in relations]}
    config = training.config
    lesson = [number for number in range(config.steps) if config.in_lesson(number)][:STEPS]
    for number in range(lesson[0]):
        training.step(number)
    training.save(lesson[0])
    lessons = {}
    for way in (AS_IT_IS, EVEN, UNWEIGHTED, REPEATED, BY_RULE):
        training.load()
        lessons[way] = train_lesson(training, way, lesson, foils)
    (PATH.parent / "state.pt").unlink()
    write_json(PATH, {
        "command": "python notebooks/experiments/relations.py",
        "date": now(),
        "device": describe_device(),
        "commit": code,
        "torch": torch.__version__,
        "cpu_seconds": round(time.process_time()),
        "lessons": lessons,
    })


if __name__ == "__main__":
    main()
