"""Pretraining on the embedded scenes: tokenizer, warm start, ALBEF; each resumes from its last checkpoint."""
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from minalbef import checkpoint, distributed, train, writing
from minalbef.config import Config, other_settings
from minalbef.datasets.loader import Ahead
from minalbef.ema import make_teacher
from minalbef.masking import mask_rates
from minalbef.recipes import launch, report
from minalbef.run import Run, load
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.exam import exam, questions
from minalbef.scenes.painting import all_names
from minalbef.scenes.scenes import Scenes
from minalbef.scenes.warm_start import LabelBatches, WarmStart
from minalbef.tasks.pretrain import Pretrain
from minalbef.tokenizer import Tokenizer

CAPTIONS = 10_000                     # enough for every word of the grammar to be seen
PAINTERS = 4                          # workers that paint scenes for a GPU, by default
LEAST = 3                             # kinds of objects: as many as one scene shows


def for_scenes(config: Config) -> Config:
    """The same config. Raises ValueError where there are no kinds of objects for scenes or the warm start."""
    if not config.objects:
        raise ValueError(f"preset {config.name} with objects=0 trains on photographs: name a prepared set with --data; "
                         "for the embedded scenes it takes kinds of objects, as the presets tiny and small have them")
    left = len(all_names()) - config.objects
    if config.warm_steps and config.warm_objects == "other" and left < LEAST:
        raise ValueError(f"objects={config.objects} leaves {left} kinds for the warm start to see; take at most "
                         f"objects={len(all_names()) - LEAST}, or warm_objects=same")
    return config


def read_captions(config: Config) -> tuple[Tokenizer, Tensor]:
    """A tokenizer trained on the captions of a run, and the mask rate of each of its word pieces, (v,)."""
    scenes = Scenes("train", seed=config.seed, objects=config.objects, epoch=config.epoch)
    texts = [scenes.draw(i).text for i in range(CAPTIONS)]
    tokenizer = Tokenizer.train(texts, config.vocab_size)
    tokens, keep = tokenizer.encode(texts, config.text_length)
    return tokenizer, mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)


def pretrain(config: Config, folder: str | Path, quiet: bool = False, workers: int = 0,
             make: Callable[..., Pretrain] = Pretrain) -> None:
    """Warm start, then ALBEF, into a run folder; called again, it resumes. workers: processes that paint ahead.

    make: the task, called as Pretrain is, with config, special, mask and rates
    With another image encoder, set warm_steps=0.
    Raises ValueError for a config that is not of the embedded scenes.
    """
    folder = Path(folder)
    for_scenes(config)
    launch.follow_launcher()
    if distributed.start(config.device).type == "cuda":
        workers = workers or PAINTERS
    with writing.lock(folder, config):
        torch.manual_seed(config.seed)
        tokenizer, rates = read_captions(config)
        config = replace(config, vocab_size=len(tokenizer))
        task = make(config, special=tokenizer.special, mask=tokenizer.mask, rates=rates)
        start = folder / "start"
        if (start / "model.safetensors").exists():
            if other := other_settings(checkpoint.read_run(start)[0].to_dict(), config):
                raise ValueError(f"{start} was made with other settings ({other}); go on with the same ones, "
                                 f"remove {start} to make it again, or choose another folder with --run")
        elif config.warm_steps:
            warm_up(task, config, folder / "warm", quiet, workers)
            if distributed.rank() == 0:
                checkpoint.save(start, task.student, tokenizer)
        if distributed.world() > 1:
            dist.barrier()
        if config.warm_steps:
            task.student.load_state_dict(load(start).model.state_dict())
            task.teacher = make_teacher(task.student)
        batches = Ahead(SceneBatches(config, tokenizer), config, workers)
        train.fit(task, batches, config, folder, quiet=quiet, title="ALBEF")
        if distributed.rank() == 0:
            checkpoint.save(folder, task.student, tokenizer, task.teacher)
    distributed.stop()


def warm_up(task: Pretrain, config: Config, folder: Path, quiet: bool = False, workers: int = 0) -> WarmStart:
    """Supervised pretraining of the task's image encoder, in place: -> the trained warm start."""
    recipe = replace(config, lr=config.warm_lr, weight_decay=config.warm_weight_decay, batch=config.warm_batch,
                     epoch=config.warm_steps * config.warm_batch, epochs=1.0, alpha=0.0, stem_lr=1.0,
                     betas=(0.9, 0.999), warmup_steps=20, accumulate=1)
    batches = LabelBatches(recipe)
    warm = WarmStart(recipe, len(batches.classes))
    train.fit(warm, Ahead(batches, recipe, workers), recipe, folder, quiet=quiet, title="warm start")
    warm.start(task.student.image_encoder)
    return warm


def examine_run(folder: Path, size: float, seed: int, command: str, among: int | None = None, split: str = "test",
                out: Path | None = None) -> dict:
    """Evaluate a finished run and its warm start, on a GPU if there is one; write report.json. -> the report

    size, seed, among, split: see `exam.examine`. out: where to write, by default the run's folder
    Raises ValueError for a run that was not trained on the embedded scenes.
    """
    def opened(place: Path) -> Run:
        run = load(place)
        run.model.to(distributed.device_at_hand(run.config.device))
        return run

    clock, run = time.perf_counter(), opened(folder)
    questions.need_scenes(run.config, folder)
    figures = exam.examine(run, seed, size, split, among or exam.BLOCK)
    if (folder / "start").exists():
        figures["start"] = exam.examine_start(opened(folder / "start"), seed, size, split)
    seconds = {"warm_start": train.seconds(folder / "warm"), "train": train.seconds(folder),
               "evaluate": time.perf_counter() - clock}
    return report.write_report(out or folder, "pretrain", figures, run.config, seconds, command, run.config.seed)
