"""One run of an ablation: pretraining as a row has it, the questions it is asked, and its record."""
import json
import multiprocessing
import signal
import threading
import time
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate_records import RunKey
from ablate_rows import ROWS, FiniteScenes, Row
from minalbef import load, train
from minalbef.config import Config
from minalbef.data import data_folder
from minalbef.ema import make_teacher
from minalbef.losses import itc_loss
from minalbef.presets import preset
from minalbef.pretrain import Draws, Keys, PretrainBatch
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import FastScenePretrain
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.writing import write_atomically
from minalbef.tasks.run import Run
from outcomes import look, outcomes, outcomes_of_tasks
from second import SECOND

LOOKS = 5                             # how often a run is looked at while it learns


class Variant(FastScenePretrain):
    """Pretraining as a row has it."""

    def __init__(self, row: Row, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.row = row
        self.itc_alpha = 0.0                     # MLM may have another

    def forward(self, batch: PretrainBatch, alpha: float, draws: Draws
                ) -> tuple[dict[str, Tensor], Keys]:
        """ScenePretrain's losses, without those that the row leaves out and with its weights."""
        match = batch.match if self.row.truth else None
        batch = replace(batch, match=match)
        self.itc_alpha = alpha if self.row.teach_itc else 0.0
        word_alpha = alpha if self.row.teach_words else 0.0
        losses, carry = super().forward(batch, word_alpha, draws)
        if not self.row.itc:
            del losses["itc"]
        weights = {"itc": self.row.weight, "mlm": self.row.weight * self.row.words_weight}
        for name in losses.keys() & weights.keys():
            losses[name] = losses[name] * weights[name]
        return losses, carry

    def itc_loss(self, sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor) -> Tensor:
        """ITC with an alpha of its own: forward passes on that of MLM."""
        loss = smooth_itc_loss if self.row.smooth else itc_loss
        return loss(sim, teacher_sim, self.itc_alpha, positive)


def smooth_itc_loss(sim: Tensor, teacher_sim: Tensor, alpha: float, positive: Tensor) -> Tensor:
    """ITC with label smoothing: a share alpha of its targets is spread evenly over all keys.

    sim, teacher_sim, positive: (b, k), see losses.itc_loss  -> scalar
    """
    return itc_loss(sim, torch.zeros_like(teacher_sim), alpha, positive)


def smooth_words(task: Variant) -> None:
    """Label smoothing in MLM: the teacher gives all words the same logit. In place."""
    vocab = task.config.vocab_size
    task.teacher.word_logits = lambda fused: fused.new_zeros(*fused.shape[:-1], vocab)


class LookBatches:
    """Batches of a row; before some of the steps, `look` measures the task and notes it in a file."""

    def __init__(self, row: Row, task: Variant, tokenizer: Tokenizer, folder: Path):
        self.task = task
        self.tokenizer = tokenizer
        self.path = folder / "looks.jsonl"
        self.seconds = 0.0                       # CPU seconds that looking took
        self.batches = SceneBatches(task.config, tokenizer)
        self.scenes = self.batches.before
        self.scenes.noise = row.noise
        if row.scenes:
            self.batches.before = FiniteScenes(self.scenes, task.config.epoch)

    def __call__(self, step: int) -> PretrainBatch:
        interval = -(-self.task.config.steps // LOOKS)
        if step and step % interval == 0:
            self.look(step)
        return self.batches(step)

    def look(self, step: int) -> None:
        """Measure the task as it is before a step, and note it."""
        start = time.process_time()
        looks = [row for row in self.read() if row["step"] < step]
        looks.append(look(self.task, self.tokenizer, self.scenes, step))
        text = "".join(json.dumps(row) + "\n" for row in looks)
        write_atomically(self.path, lambda path: path.write_text(text, encoding="utf-8"))
        self.seconds += time.process_time() - start

    def read(self) -> list[dict]:
        """What was noted, by step."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def begin(row: Row, changes: dict) -> tuple[Variant, Tokenizer, Config]:
    """A row's task before training; its image encoder comes from the shipped warm start."""
    config = preset("tiny", **SECOND | {"save_every": 100} | changes)
    task, tokenizer, config = pretrain.begin(config, make=partial(Variant, row))
    if row.warm:
        start = load(data_folder() / "tiny" / "start").model
        task.student.image_encoder.load_state_dict(start.image_encoder.state_dict())
    task.teacher = make_teacher(task.student)
    if row.smooth:
        smooth_words(task)
    return task, tokenizer, config


def recipe(key: RunKey) -> dict:
    """The options of the preset that a run changes."""
    row = ROWS[key.row]
    scenes = min(row.scenes or key.samples, key.samples)
    epochs = (key.samples + 0.5) / scenes        # half a sample more, so that no step is lost
    return row.changes | {"seed": key.seed, "epoch": scenes, "epochs": epochs, "warm_steps": 0}


def train_row(key: RunKey, folder: Path) -> dict:
    """Train a run and ask it all questions: -> its record.

    cpu_seconds: of training alone; None for a run that was resumed. failed: why it has no outcomes
    """
    row = ROWS[key.row]
    record = key._asdict() | {"date": now(), "device": describe_device(), "commit": commit()}
    changes = recipe(key)
    task, tokenizer, config = begin(row, changes)
    switches = asdict(row)
    for name in ("about", "group", "changes", "samples"):
        del switches[name]
    record |= {"steps": config.steps, "changes": changes | switches}

    batches = LookBatches(row, task, tokenizer, folder)
    resumed = (folder / "state.pt").exists()
    start = time.process_time()
    try:
        train.fit(task, batches, config, folder, quiet=True)
    except FloatingPointError as error:
        return record | {"failed": str(error)}
    seconds = time.process_time() - start - batches.seconds
    batches.look(config.steps)
    record["cpu_seconds"] = None if resumed else round(seconds, 1)
    record["looks"] = batches.read()

    vars(task.teacher).pop("word_logits", None)          # which smooth_words put there
    record["outcomes"] = outcomes(Run(task.student.eval(), tokenizer, config, folder), key.seed)
    if row.group == "paper":
        teacher = Run(task.teacher, tokenizer, config, folder)
        record["teacher_outcomes"] = outcomes(teacher, key.seed)
    if key.with_tasks:
        for name, alpha in (("tasks", 0.0), ("tasks_distilled", 0.4)):
            record[name] = outcomes_of_tasks(task, tokenizer, folder / name, alpha, key.seed)
    return record


def work(key: RunKey, folder: Path) -> None:
    """What the process of a run does: train it, and write folder/result.json.

    When the process that started it is gone, it stops as on SIGTERM.
    """
    threading.Thread(target=stop_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    if result.exists():               # ablate.py was killed before it had copied the result
        return
    try:
        text = json.dumps(train_row(key, folder))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    write_atomically(result, lambda path: path.write_text(text, encoding="utf-8"))


def stop_with_parent() -> None:
    """Wait until the parent process ends, and then raise SIGTERM here."""
    wait([multiprocessing.parent_process().sentinel])
    signal.raise_signal(signal.SIGTERM)
