"""Pretraining: on the embedded scenes after a warm start, or on prepared sets.

On prepared sets it starts from DeiT and BERT, or from scratch.
"""
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from minalbef import train
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.ema import make_teacher
from minalbef.fast.pretrain import fast_form, in_form
from minalbef.masking import mask_rates
from minalbef.presets import preset
from minalbef.pretrain import Pretrain
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import checkpoint, distributed, writing
from minalbef.system.metrics import read_metrics
from minalbef.system.settings import other_settings, read_changes, require_config
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.training import check_negatives

if TYPE_CHECKING:                     # scenes need no reader of sets, and sets need no painter
    from minalbef.datasets.store import Folders
    from minalbef.evaluation.validation import Validation
    from minalbef.recipes.sets import TrainingSets
    from minalbef.scenes.warm_start import WarmStart

LOG = logging.getLogger("minalbef")
CAPTIONS = 10_000                     # enough for every word of the grammar to be seen
PAINTERS = 4                          # workers that paint scenes for a GPU, by default
LEAST = 3                             # kinds of objects: as many as one scene shows
ROWS = 2                              # of a pass, for ITM: a row's negatives are other rows
GUESSING = -math.log(1 / 3) / 3 - 2 * math.log(2 / 3) / 3    # 0.637: ITM at 1 true pair in 3
MARGIN = 0.01                         # ITM has learnt something when its loss is lower by this
SHORT = 100                           # steps: ITM's loss of a shorter run says nothing


def settings(name: str, changes: Sequence[str] = (), data: "Folders" = (), vit: str | None = None,
             bert: str | None = None, freeze: Sequence[str] = ()) -> Config:
    """A preset's settings to pretrain with, with your changes, such as "batch=32".

    data: prepared sets, see sets.pretraining_settings
    vit, bert, freeze: the settings image_start, text_start and freeze, as flags
    Sizes are those of the weights that it starts from, unless you change them.
    """
    changed = read_changes(tuple(changes))
    flags = {"image_start": vit, "text_start": bert, "freeze": ",".join(freeze)}
    changed |= {name: value for name, value in flags.items() if value}
    config = preset(name, **changed)
    if config.image_start or config.text_start:
        from minalbef.weights import starts
        config = starts.fit_sizes(config, changed)
    if data:
        from minalbef.recipes.sets import pretraining_settings
        return pretraining_settings(config, data, changed)
    return for_scenes(config)


def for_scenes(config: Config) -> Config:
    """The same config. Raises ValueError where it can't train on scenes, or lacks objects."""
    from emojiscenes.painting import all_names
    kinds = len(all_names())
    rest = kinds - config.objects
    problem = ""
    if not config.objects:
        problem = (f"preset {config.name} with objects=0 trains on photographs: name a prepared "
                   "set with --data; for the embedded scenes it takes kinds of objects, as the "
                   "presets tiny and small have them")
    elif config.validate_every:
        problem = (f"validate_every={config.validate_every:g} is for prepared sets, which --data "
                   "names; scenes are new in every batch, so the training losses are validation "
                   "losses: leave it out")
    elif config.warm_steps and config.warm_objects == "other" and rest < LEAST:
        problem = (f"objects={config.objects} leaves {rest} kinds for the warm start to see; "
                   f"take at most objects={kinds - LEAST}, or warm_objects=same")
    if problem:
        raise ValueError(problem)
    return config


def count_processes(config: Config) -> int:
    """How many processes pretrain on scenes by default, see launch.fitting_processes."""
    from minalbef.recipes import launch
    from minalbef.scenes.batches import least_rows
    batches = [(config.batch, least_rows(config))]
    if config.warm_steps:
        batches.append((config.warm_batch, 1))
    return launch.fitting_processes(*batches)


def read_captions(config: Config, data: "Folders" = (), vocab: Path | None = None
                  ) -> tuple[Tokenizer, Tensor]:
    """A tokenizer trained on a run's captions, or BERT's, and each word piece's mask rate, (v,)."""
    if data:
        from minalbef.datasets.store import folders_of, open_records
        from minalbef.recipes.vocabulary import sample_texts
        records = open_records("pretrain", folders_of(data), config.data_fraction)
        texts = sample_texts(records, config.seed, CAPTIONS)
    else:
        from emojiscenes.scenes import Scenes
        scenes = Scenes("train", seed=config.seed, objects=config.objects, epoch=config.epoch)
        texts = [scenes.draw(i).text for i in range(CAPTIONS)]
    if vocab:
        tokenizer = Tokenizer.from_vocab(vocab)
    else:
        tokenizer = Tokenizer.train(texts, config.vocab_size)
    tokens, keep = tokenizer.encode(texts, config.text_length)
    rates = mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)
    return tokenizer, rates


def begin(config: Config, data: "Folders" = (), vocab: Path | None = None,
          make: Callable[..., Pretrain] | None = None) -> tuple[Pretrain, Tokenizer, Config]:
    """The task with its first weights, its tokenizer, and the settings with the tokenizer's size.

    See `pretrain`. Raises ValueError for what does not fit together.
    """
    from minalbef.weights import frozen, starts
    tokenizer, rates = read_captions(config, data, vocab or starts.vocabulary(config))
    config = replace(config, vocab_size=len(tokenizer))
    torch.manual_seed(config.seed)
    if make is None:                             # what a task of yours makes may be trained already
        starts.check_frozen(config)
        frozen.check_recipe(config)
    if make in (None, Pretrain, ScenePretrain):
        make = in_form(make or usual_task(config), config)
    task = make(config, special=tokenizer.special, mask=tokenizer.mask, rates=rates)
    if config.class_names:
        frozen.add_classes(task, tokenizer, config)
    task.loaded = starts.load(task.student, config)
    starts.freeze(task.student, config)
    task.student.from_start = starts.kept_weights(task.student, task.loaded)
    if task.loaded and getattr(task, "teacher", None) is not None:   # a task of yours may have none
        task.teacher = make_teacher(task.student)
    return task, tokenizer, config


def usual_task(config: Config) -> Any:
    """The paper's pretraining, or that of frozen encoders, or with a loss for minimal pairs."""
    if config.image_proj_dropout:
        from minalbef.weights.frozen import FrozenPretrain
        return FrozenPretrain
    return ScenePretrain if config.objects and config.siblings else Pretrain


def pretrain(config: Config, folder: str | Path, data: "Folders" = (), vocab: Path | None = None,
             workers: int = 0, most_bad: float = 0.01, quiet: bool = False,
             make: Callable[..., Pretrain] | None = None) -> None:
    """Pretrain into a run folder; called again, it resumes from the last checkpoint.

    data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken. None: the
        embedded scenes
    vocab: BERT's vocab.txt, which config.text_start needs, by default the one beside it; without
        either, a tokenizer is trained on the captions
    workers: processes that open or paint images ahead. most_bad: see loader.RecordBatches
    make: the task, called as Pretrain is, with config, special, mask and rates; by default
        Pretrain, and with config.siblings ScenePretrain, which has a loss for minimal pairs
    With another image encoder, set warm_steps=0.
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    require_config(config)
    folder = Path(folder)
    if not data:
        for_scenes(config)
    device = distributed.join(config.device)
    if make is None:                             # a task of yours may have no ITM
        check_negatives("pretrain", ROWS, config)
    config = checkpoint.settle_precision(config, folder, device)
    with writing.lock(folder):
        task, tokenizer, config = begin(config, data, vocab, make)
        sets = None
        if data:
            from minalbef.recipes.sets import TrainingSets
            sets = TrainingSets("pretrain", data, config, tokenizer, folder)
        origin = {"tokenizer": tokenizer.digest()}
        if make is not None:
            from minalbef.recipes.own_code import origin_of_code
            usual = usual_task(config)
            origin |= origin_of_code(make, task, (usual, fast_form(usual)))
        validation = None
        first = None
        batches: Callable[[int], Any]
        if sets:
            if hasattr(task.student, "image_encoder"):       # a student of yours may have none
                sets.compute_tokens(task.student.to(device), quiet)
            if measure := getattr(task, "measure", None):    # weights.frozen.FrozenPretrain
                measure(sets.records, tokenizer)
            batches = sets.batches(workers, most_bad)
            if hasattr(task, "validate"):                # a task that you made may not know how
                validation = sets.validation(workers)
        else:
            if device.type == "cuda":
                workers = workers or PAINTERS
            from minalbef.scenes.batches import SceneBatches
            batches = paint_ahead(SceneBatches(config, tokenizer), config, workers)
            first = partial(apply_warm_start, task, tokenizer, config, folder, quiet, workers)
        train_run("pretrain", task, tokenizer, config, folder, batches, sets, first,
                  title="ALBEF", quiet=quiet, origin=origin, validation=validation)


def train_run(name: str, task: Any, tokenizer: Tokenizer, config: Config, folder: Path,
              batches: Callable[[int], Any], sets: "TrainingSets | None" = None,
              first: Callable[[], None] | None = None, *, origin: dict[str, str],
              validation: "Validation | None" = None, **options: Any) -> None:
    """The frame of pretraining and fine-tuning: train into a run folder, and save it.

    name: the task's, of tasks.table.TASKS
    sets: what the batches are of; None: scenes, or your own
    first: a training that comes first, once the folder is the run's
    options: of train.fit
    """
    first_process = distributed.rank() == 0
    if sets:
        origin = origin | sets.origin()
    if first_process:
        new = checkpoint.begin_run(folder, config, tokenizer, name)
        if sets:
            if new:
                sets.record(folder)
            sets.announce()
    if first:
        first()
    untrained = train.fit(task, batches, config, folder, origin=origin, validation=validation,
                          **options)
    if first_process:
        teacher = getattr(task, "teacher", None)
        checkpoint.save(folder, task.student, tokenizer, teacher, name, untrained)
        if sets:
            sets.finish(validation)
        elif validation:
            LOG.info(validation.account())
        if guesses := still_guesses(folder):
            LOG.warning(guesses)
    distributed.leave()


def paint_ahead(batches: Callable[[int], Any], config: Config, workers: int
                ) -> Callable[[int], Any]:
    """The same batches, painted in so many worker processes."""
    if not workers:
        return batches
    from minalbef.datasets.loader import Ahead
    return Ahead(batches, config, workers)


def still_guesses(folder: Path) -> str:
    """A warning where ITM's loss ended at chance level, in the last tenth of the steps; or ""."""
    try:
        rows = [row for row in read_metrics(folder) if row.get("itm")]
        losses = [float(row["itm"]) for row in rows]
    except ValueError:                           # damaged; the run itself is saved and whole
        return ""
    if not rows or int(rows[-1]["step"]) < SHORT:
        return ""
    last = losses[-max(1, len(losses) // 10):]
    mean = sum(last) / len(last)
    if mean < GUESSING - MARGIN:
        return ""
    return (f"ITM has learnt nothing yet: its loss ended at {mean:.3f}, and guessing has "
            f"{GUESSING:.3f}. match_probability tells nothing of this run; train longer "
            "(epochs=...), or rank by similarity alone")


# the warm start


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
    settings, _, _, weights = checkpoint.read_run(start)
    albef = ALBEF(settings)
    checkpoint.fit_weights(albef, weights, start)
    task.start(albef)


def warm_up(task: Pretrain, config: Config, folder: Path, quiet: bool = False, workers: int = 0
            ) -> "WarmStart":
    """Supervised pretraining of the task's image encoder, in place: -> the trained warm start."""
    from minalbef.scenes.warm_start import LabelBatches, WarmStart
    recipe = replace(
        config, lr=config.warm_lr, weight_decay=config.warm_weight_decay, stem_lr=1.0, alpha=0.0,
        batch=config.warm_batch, epoch=config.warm_steps * config.warm_batch, epochs=1.0,
        betas=(0.9, 0.999), warmup_steps=20, accumulate=1)
    batches = LabelBatches(recipe)
    warm = WarmStart(recipe, len(batches.classes))
    ahead = paint_ahead(batches, recipe, workers)
    train.fit(warm, ahead, recipe, folder, quiet=quiet, title="warm start")
    image_encoder: Any = task.student.image_encoder
    warm.start(image_encoder)
    return warm
