"""Pretraining: on the embedded scenes after a warm start, or on prepared sets.

On prepared sets it starts from DeiT and BERT, or from scratch.
"""
import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from emojiscenes.painting import all_names
from emojiscenes.scenes import Scenes
from minalbef import checkpoint, distributed, train, writing
from minalbef.config import Config, other_settings, read_changes, require_config
from minalbef.datasets.loader import Ahead, RecordBatches, count_unreadable
from minalbef.datasets.store import (
    Folders,
    check_upright,
    folders_of,
    open_records,
    place_of,
    sets_upright,
)
from minalbef.ema import make_teacher
from minalbef.evaluation.validation import BEST, Validation
from minalbef.fast.pretrain import fast_form, in_form
from minalbef.masking import mask_rates
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.recipes import launch
from minalbef.recipes.freeze import freeze_encoders
from minalbef.recipes.own_code import origin_of_code
from minalbef.recipes.provenance import hashes_of, origin_of, record_training
from minalbef.recipes.report import FEW, describe_run, enough_epochs, still_guesses
from minalbef.recipes.validate import (
    check_validation,
    is_own,
    validate_pretraining,
    validation_hash,
    validation_interval,
)
from minalbef.recipes.vocabulary import cut_warning, record_words, sample_texts
from minalbef.run import load
from minalbef.scenes.batches import SceneBatches, least_rows
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.scenes.warm_start import LabelBatches, WarmStart
from minalbef.tasks.retrieval import collate
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer
from minalbef.weights import pretrained

LOG = logging.getLogger("minalbef")
CAPTIONS = 10_000                     # enough for every word of the grammar to be seen
PAINTERS = 4                          # workers that paint scenes for a GPU, by default
LONGER = "epochs=%d in place of the preset's %g: %d steps, since fewer teach hardly anything"
LEAST = 3                             # kinds of objects: as many as one scene shows
# what pretraining's initial weights were trained on
NO_TRAINING: dict[str, Any] = {"pretrained": {}, "tuned": {}}


def settings(name: str, changes: Sequence[str] = (), data: Folders = ()) -> Config:
    """A preset's settings to pretrain with, with your changes, such as "batch=32".

    data: prepared sets; there an epoch is all their records, unless you change it, and of your own
        sets and the shipped clip art there are so many epochs that FEW steps are made
    """
    data = folders_of(data)
    changed = read_changes(tuple(changes))
    config = preset(name, **changed)
    if not data:
        check_validation("pretrain", config, data)
        return for_scenes(config)
    epoch = config.epoch
    if "epoch" not in changed:
        epoch = len(open_records("retrieval", data, config.share))
    if "upright" not in changed:
        config = replace(config, upright=sets_upright(data))
    check_upright(config, data)
    config = replace(config, epoch=epoch, objects=0)
    if "epochs" not in changed and is_own(data) and config.steps < FEW:
        epochs = enough_epochs(config)
        if os.environ.get("RANK", "0") == "0":
            LOG.info(LONGER, epochs, config.epochs, FEW)
        config = replace(config, epochs=float(epochs))
    if "validate_every" not in changed:
        config = replace(config, validate_every=validation_interval(config, data))
    return config


def for_scenes(config: Config) -> Config:
    """The same config, checked: raises ValueError where scenes or warm start have no objects."""
    if not config.objects:
        raise ValueError(f"preset {config.name} with objects=0 trains on photographs: name a "
                         "prepared set with --data; for the embedded scenes it takes kinds of "
                         "objects, as the presets tiny and small have them")
    kinds = len(all_names())
    rest = kinds - config.objects
    if config.warm_steps and config.warm_objects == "other" and rest < LEAST:
        raise ValueError(f"objects={config.objects} leaves {rest} kinds for the warm start to see; "
                         f"take at most objects={kinds - LEAST}, or warm_objects=same")
    return config


def count_processes(config: Config) -> int:
    """How many processes pretrain on scenes by default, see launch.fitting_processes."""
    batches = [(config.batch, least_rows(config))]
    if config.warm_steps:
        batches.append((config.warm_batch, 1))
    return launch.fitting_processes(*batches)


def read_captions(config: Config, data: Sequence[str | Path] = (), vocab: Path | None = None
                  ) -> tuple[Tokenizer, Tensor]:
    """A tokenizer trained on a run's captions, or BERT's, and each word piece's mask rate, (v,)."""
    if data:
        records = open_records("retrieval", data, config.share)
        texts = sample_texts(records, config.seed, CAPTIONS)
    else:
        scenes = Scenes("train", seed=config.seed, objects=config.objects, epoch=config.epoch)
        texts = [scenes.draw(i).text for i in range(CAPTIONS)]
    if vocab:
        tokenizer = Tokenizer.from_vocab(vocab)
    else:
        tokenizer = Tokenizer.train(texts, config.vocab_size)
    tokens, keep = tokenizer.encode(texts, config.text_length)
    rates = mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)
    return tokenizer, rates


def begin(config: Config, data: Sequence[str | Path] = (), vocab: Path | None = None,
          vit: str | None = None, bert: str | None = None,
          make: Callable[..., Pretrain] | None = None) -> tuple[Pretrain, Tokenizer, Config]:
    """The task with its first weights, its tokenizer, and the settings with the tokenizer's size.

    See `pretrain`. Raises ValueError for what does not fit together.
    """
    tokenizer, rates = read_captions(config, data, vocab)
    config = replace(config, vocab_size=len(tokenizer))
    torch.manual_seed(config.seed)
    if make in (None, Pretrain, ScenePretrain):
        make = in_form(make or usual_task(config), config)
    task = make(config, special=tokenizer.special, mask=tokenizer.mask, rates=rates)
    if vit:
        image_encoder: Any = task.student.image_encoder
        pretrained.load_vit(image_encoder, vit)
    if bert:
        pretrained.load_bert(task.student, bert)
    loaded = vit or bert
    if loaded and getattr(task, "teacher", None) is not None:    # a task of yours may have none
        task.teacher = make_teacher(task.student)
    return task, tokenizer, config


def usual_task(config: Config) -> Any:
    """The paper's pretraining, or that with a loss for minimal pairs where batches have some."""
    return ScenePretrain if config.objects and config.siblings else Pretrain


def pretrain(config: Config, folder: str | Path, data: Folders = (), vocab: Path | None = None,
             vit: str | None = None, bert: str | None = None, workers: int = 0,
             most_bad: float = 0.01, quiet: bool = False,
             make: Callable[..., Pretrain] | None = None,
             freeze: Collection[str] = ()) -> None:
    """Pretrain into a run folder; called again, it resumes from the last checkpoint.

    data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken. None: the
        embedded scenes
    vocab: BERT's vocab.txt, which `bert` needs; without it, a tokenizer is trained on the captions
    vit, bert: initial weights, files or names, see weights.pretrained
    workers: processes that open or paint images ahead. most_bad: see loader.RecordBatches
    make: the task, called as Pretrain is, with config, special, mask and rates; by default Pretrain,
        and with config.siblings ScenePretrain, which has a loss for minimal pairs
    freeze: encoders that stay as they are: "image", "text"
    With another image encoder, set warm_steps=0.
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    require_config(config)
    folder = Path(folder)
    data = folders_of(data)
    if data:
        check_upright(config, data)
    else:
        for_scenes(config)
    launch.follow_launcher()
    device = distributed.join(config.device)
    if device.type == "cuda" and not data:
        workers = workers or PAINTERS
    if make is None:                             # a task of yours may have no ITM
        launch.check_rows(TASKS["pretrain"], config)
    config = checkpoint.settle_precision(config, folder, device)
    with writing.lock(folder, config):
        splits = hashes_of(data)
        task, tokenizer, config = begin(config, data, vocab, vit, bert, make)
        random = [name for name, given in (("image", vit), ("text", bert)) if not (given or make)]
        frozen = freeze_encoders(task, freeze, random)
        if distributed.rank() == 0:
            new = checkpoint.begin_run(folder, config, tokenizer, "pretrain")
            if new and data:
                record_training(folder, "pretrained", splits, NO_TRAINING)
        validation = None
        batches: Callable[[int], Any]
        if data:
            records = open_records("retrieval", data, config.share)
            batches = RecordBatches(records, collate, config, tokenizer, workers=workers,
                                    most_bad=most_bad, folder=folder)
            if distributed.rank() == 0:
                LOG.info(describe_run(config, "pretraining"))
                if warning := cut_warning(records, tokenizer, config.text_length):
                    LOG.warning(warning)
            if hasattr(task, "validate"):                # a task that you made may not know how
                validation = validate_pretraining(data, config, tokenizer, folder, workers)
        else:
            batches = Ahead(SceneBatches(config, tokenizer), config, workers)
            apply_warm_start(task, tokenizer, config, folder, quiet, workers)
        origin = origin_of(tokenizer, splits) | frozen | validation_hash("pretrain", data, config)
        if make is not None:
            usual = usual_task(config)
            origin |= origin_of_code(make, task, (usual, fast_form(usual)))
        untrained = train.fit(task, batches, config, folder, quiet=quiet, title="ALBEF",
                              origin=origin, validation=validation)
        if distributed.rank() == 0:
            teacher = getattr(task, "teacher", None)
            checkpoint.save(folder, task.student, tokenizer, teacher, untrained=untrained)
            if data:
                record_training(folder, "pretrained", splits, NO_TRAINING)
                record_sets(folder, data, config, validation)
            guesses = still_guesses(folder)
            if guesses:
                LOG.warning(guesses)
    distributed.leave()


def record_sets(folder: Path, data: Sequence[str | Path], config: Config,
                validation: Validation | None) -> None:
    """Record the words of a run's captions, and log its validation and unreadable images."""
    records = open_records("retrieval", data, config.share)
    record_words(folder, records)
    if validation:
        record_words(folder / BEST, records)
        LOG.info(f"{validation.account()}; next: minalbef evaluate {folder / BEST} "
                 f"--data {place_of(data[0])[0]}/test")
    unreadable = count_unreadable(folder)
    if unreadable:
        LOG.warning(f"{unreadable} images could not be read and were replaced by others; they are "
                    f"listed in {folder}/unreadable*.txt")


def apply_warm_start(task: Pretrain, tokenizer: Tokenizer, config: Config, folder: Path,
                     quiet: bool = False, workers: int = 0) -> None:
    """Load the image encoder of the warm start in folder/start into student and teacher, in place.

    The warm start is trained first if it isn't there; with warm_steps=0 nothing happens.
    Raises ValueError where it was trained with other settings.
    """
    start = folder / "start"
    if (start / "model.safetensors").exists():
        differences = other_settings(checkpoint.read_run(start)[0].to_dict(), config)
        if differences:
            raise ValueError(f"{start} was made with other settings ({differences}); go on with "
                             f"the same ones, remove {start} to make it again, or choose another "
                             "folder with --run")
    elif not config.warm_steps:
        return
    else:
        warm_up(task, config, folder / "warm", quiet, workers)
        if distributed.rank() == 0:
            checkpoint.save(start, task.student, tokenizer)
    if distributed.world() > 1:
        dist.barrier()
    task.start(load(start).model)


def warm_up(task: Pretrain, config: Config, folder: Path, quiet: bool = False, workers: int = 0
            ) -> WarmStart:
    """Supervised pretraining of the task's image encoder, in place: -> the trained warm start."""
    recipe = replace(
        config, lr=config.warm_lr, weight_decay=config.warm_weight_decay, stem_lr=1.0, alpha=0.0,
        batch=config.warm_batch, epoch=config.warm_steps * config.warm_batch, epochs=1.0,
        betas=(0.9, 0.999), warmup_steps=20, accumulate=1)
    batches = LabelBatches(recipe)
    warm = WarmStart(recipe, len(batches.classes))
    ahead = Ahead(batches, recipe, workers)
    train.fit(warm, ahead, recipe, folder, quiet=quiet, title="warm start")
    image_encoder: Any = task.student.image_encoder
    warm.start(image_encoder)
    return warm
