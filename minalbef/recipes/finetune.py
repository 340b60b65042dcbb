"""Fine-tuning of a pretrained run for a task.

It trains on the embedded scenes, on prepared sets, or on your own batches.
"""
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from minalbef import train
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.datasets.store import (
    Folders,
    check_upright,
    folders_of,
    open_records,
    place_of,
    read_about,
    sets_upright,
)
from minalbef.evaluation.validation import Validation
from minalbef.presets import preset
from minalbef.recipes import launch
from minalbef.recipes.own_code import origin_of_code
from minalbef.recipes.pretrain import for_scenes, train_run
from minalbef.recipes.sets import TrainingSets
from minalbef.scenes.batches import SceneBatches, least_rows
from minalbef.scenes.questions import need_scenes
from minalbef.scenes.task_problems import ProblemBatches
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint, distributed, writing
from minalbef.system.limits import nearest
from minalbef.system.settings import read_changes, replace_checked, require_config
from minalbef.system.training import check_negatives
from minalbef.tasks.base import TaskModule
from minalbef.tasks.run import load
from minalbef.tasks.table import TASKS, find_task
from minalbef.weights import starts

# on scenes, from `tiny`: larger images, so that position embeddings are resized, and distillation,
# both as in the paper; none of what makes tiny's pretraining cheaper
TUNING: dict[str, Any] = dict(
    image_size=64,
    epochs=4.0,
    epoch=20_000,
    batch=64,
    lr=1e-3,
    lr_start=0.0,
    lr_end=5e-5,
    warmup_steps=50,
    alpha=0.4,
    match_from=0.0,
    queue_from=0.0,
    hard_from=0.0,
    siblings_from=0.0,
    equal_texts_match=False,
    queue_size=1024,
    mlm_every=1,
    share_stem=False,
    muon_lr=0.0,
    save_every=250,
    validate_every=0.0,
)
# sizes of the model, which a run takes from its source and no option can change
SIZES = ("image_encoder patch_size image_width image_depth image_heads image_mlp_ratio stem "
         "text_encoder vocab_size positions text_width text_depth text_heads text_mlp_ratio "
         "fusion_depth fuse_cls embed_dim image_proj_dropout text_proj_dropout").split()
# on prepared sets a run also takes these settings from its source, unless you change them
SOURCE_FIELDS = [*SIZES, "pos_scale", "dropout", "init_std", "queue_size", "equal_texts_match",
                 "image_start", "text_start", "freeze"]


# the first weights


def begin(task: TaskModule, source: str | Path, config: Config) -> None:
    """Initialise student and teacher from a run, in place; position embeddings are resized.

    Without a teacher in the run, the teacher starts as a copy of the student.
    """
    source_config, source_task, _, weights = checkpoint.read_run(source)
    if find_task(source_task, source).pairs:
        model = TASKS[source_task].module(source_config).student
        checkpoint.fit_weights(model, weights, source, TASKS[source_task].lacks)
        task.start(model.albef)
        return
    albef = at_size(load(source).model, config)
    teacher = None
    teacher_weights = checkpoint.read_teacher(source)
    if teacher_weights:
        teacher = ALBEF(config)
        by_name = {name.removeprefix("albef."): value for name, value in teacher_weights.items()}
        resized = checkpoint.resize_weights(by_name, config)
        # a teacher's file has no match head: the student's stands in for it
        weights = albef.state_dict() | resized
        checkpoint.fit_weights(teacher, weights, f"the teacher of {source}")
    task.start(albef, teacher)


def at_size(albef: ALBEF, config: Config) -> ALBEF:
    """The same model for images of config.image_size."""
    model = ALBEF(config)
    resized = checkpoint.resize_weights(albef.state_dict(), config)
    checkpoint.fit_weights(model, resized, "the run")
    return model.eval()


# settings


def settings(task: str, source: str | Path, changes: Sequence[str] = (), data: Folders = (),
             name: str = "") -> Config:
    """The settings to fine-tune a run for a task: the run's, the recipe's, then your changes.

    On the embedded scenes the recipe is TUNING with the task's own settings. On prepared sets it is
    the preset `name`, by default the task's. There the batch is at most the source's, and images
    grow as in the paper, from 256 to 384 pixels, except after fine-tuning for retrieval or
    grounding, where the size stays.
    Raises ValueError for what does not exist or does not fit together.
    """
    data = folders_of(data)
    names = list(SCENE_TASKS)
    if data:
        names = [name for name, row in TASKS.items() if row.begins_from]
    find_task(task, among=names)
    base, source_task, _, _ = checkpoint.read_run(source)
    sources = TASKS[task].begins_from if data else ("pretrain",)
    if source_task not in sources:
        raise ValueError(f"{source} is a run of {source_task}, and {task} begins from one of "
                         f"{', '.join(sources)}; name it with --from")
    if data:
        config = set_recipe(task, base, source_task, data, name)
    else:
        need_scenes(base, source)
        recipe = {**TUNING, **SCENE_TASKS[task].settings}
        config = replace(base, data_fraction=1.0, **recipe, name=f"{base.name}-{task}")
    config = replace_checked(config, **read_changes(tuple(changes)))
    if data:
        check_upright(config, data)
    else:
        for_scenes(config)
    problem = ""
    if config.validate_every and not TASKS[task].validation_figures:
        problem = (f"validate_every={config.validate_every:g}: {task} has no validation, as in the "
                   "original; leave it out, and evaluate the finished run")
    elif config.data_fraction < 1:
        problem = (f"data_fraction={config.data_fraction} is for pretraining; to fine-tune on part "
                   "of a set, prepare it with --data-fraction, and on fewer scenes, set epoch")
    for field in SIZES:
        value = getattr(config, field)
        source_value = getattr(base, field)
        if value != source_value:
            problem = (f"{field}={value}: the model of {source} has {source_value}, which training "
                       "cannot change; leave it out")
    if problem:
        raise ValueError(problem)
    return config


def set_recipe(task: str, base: Config, source_task: str, data: Sequence[str | Path],
               name: str = "") -> Config:
    """The paper's recipe for a task on prepared sets, in the sizes of the run to start from.

    Small models take larger steps: learning rates grow as the run's own is above its preset's.
    base, source_task: the run's settings and its task. name: a preset, by default the first set's
    """
    if not name:
        about = read_about(place_of(data[0])[0])
        name = TASKS[task].preset_of_set.get(about.get("set", ""), TASKS[task].preset)
    if not name:
        raise ValueError(f"task {task!r} has no recipe for prepared sets: name one with --preset "
                         "(settings(..., name=...) in Python), or give its Task presets")
    paper = preset(name)
    image_size = base.image_size
    growth = 1.0
    if TASKS[source_task].preset:
        before = preset(TASKS[source_task].preset)
        image_size = image_size * max(before.image_size, paper.image_size) // before.image_size
        growth = max(1.0, base.lr / before.lr)
        image_size = max(1, image_size // base.patch_size) * base.patch_size
    validated = TASKS[task].validation_figures
    return replace(
        paper,
        **{field: getattr(base, field) for field in SOURCE_FIELDS},
        name=f"{base.name}-{name}",
        image_size=min(paper.image_size, image_size),
        batch=min(paper.batch, base.batch),
        text_length=min(paper.text_length, base.positions),
        lr=paper.lr * growth,
        lr_start=paper.lr_start * growth,
        lr_end=paper.lr_end * growth,
        epoch=len(open_records(task, data)),
        upright=sets_upright(data),
        validate_every=paper.validate_every if validated else 0.0,
    )


# training


def finetune(task: str, source: str | Path, folder: str | Path, config: Config | None = None,
             data: Folders = (), baseline: str = "", workers: int = 0, most_bad: float = 0.01,
             assign: int = 20_000, quiet: bool = False,
             batches: Callable[[int], Any] | None = None,
             validation: Validation | None = None) -> None:
    """Fine-tune a run for a task, into a run folder; called again, it resumes from the last
    checkpoint.

    task: a name of tasks.table.TASKS. source: the run to start from
    config: by default that of `settings(task, source)`
    data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken. None: the
        embedded scenes
    baseline: on scenes, a baseline of the task to train instead
    workers, most_bad: see loader.RecordBatches
    assign: captions to train NLVR2's text assignment on first, on scenes
    batches: step -> this process's batch, in place of data, such as loader.RecordBatches of your
        own Dataset
    validation: for your own batches, see recipes.validate; data have theirs, by
        config.validate_every
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    source = checkpoint.run_folder(source)
    folder = Path(folder)
    if data and batches is not None:
        raise ValueError("data and batches: name one of them to train on")
    if folder.resolve() == source.resolve():
        raise ValueError(f"{folder} is the run to begin from, and would be overwritten; choose "
                         "another folder with --run")
    if config is None:
        config = settings(task, source, (), data)
    require_config(config)
    writing.check_folder(folder)
    device = distributed.join(config.device)
    check_negatives(task, find_task(task).least_rows, config)
    config = checkpoint.settle_precision(config, folder, device)
    _, _, tokenizer, weights = checkpoint.read_run(source)
    origin = {"tokenizer": tokenizer.digest(), "source": checkpoint.digest_of(weights)}
    differs: dict[str, Any] = {}
    if baseline:
        differs = trained_baselines(task, baseline)[baseline]
    sets = None
    if data:
        sets = TrainingSets(task, data, config, tokenizer, folder, source)
    torch.manual_seed(config.seed)               # of new layers
    module = differs.get("module", find_task(task).module)(config)
    begin(module, source, config)
    starts.freeze(module.student, config)
    if config.freeze and (config.image_start or config.text_start):
        module.student.from_start = starts.still_as_started(module.student, config)
    first = None
    if sets:
        albef: Any = getattr(module.student, "albef", module.student)
        sets.compute_tokens(albef.to(device), quiet)
        batches = sets.batches(workers, most_bad)
        validation = sets.validation(workers)
    elif batches is None:
        batches = ProblemBatches(task, config, tokenizer, differs.get("hide", ""))
        assign = differs.get("assign", assign)
        if TASKS[task].pretraining and assign:
            first = partial(train_text_assignment, task, module, source, folder, config, assign,
                            dict(origin), quiet)
    if baseline:
        origin["baseline"] = baseline
    origin |= origin_of_code(find_task(task).module, module, (type(module),))
    with writing.lock(folder):
        train_run(task, module, tokenizer, config, folder, batches, sets, first,
                  title=baseline.replace("_", " ") or task, quiet=quiet, origin=origin,
                  random=checkpoint.untrained_parts(source), validation=validation)


def train_text_assignment(task: str, module: TaskModule, source: Path, folder: Path,
                          config: Config, captions: int, origin: dict[str, str], quiet: bool
                          ) -> None:
    """Start a module from the pretraining of its task on scenes, in place: text assignment."""
    pretraining = TASKS[TASKS[task].pretraining]
    check_negatives(pretraining.name, pretraining.least_rows, config)
    assignment = pretraining.module(config)
    begin(assignment, source, config)
    recipe = replace(config, epochs=1.0, epoch=captions)
    batches = SceneBatches(recipe, checkpoint.read_run(source)[2])
    train.fit(assignment, batches, recipe, folder / "assign", quiet=quiet,
              title=pretraining.name.replace("_", " "), origin=origin)
    module.start(assignment.student.albef)


# baselines on scenes


def trained_baselines(task: str, *names: str) -> dict[str, dict[str, Any]]:
    """The baselines of a task on scenes that are trained as it is: what differs, by name.

    Raises ValueError if one of `names` isn't among them.
    """
    baselines = dict(SCENE_TASKS[task].trained_baselines)
    for name in names:
        if name not in baselines:
            raise ValueError(f"{task} has no baseline {name!r}{nearest(name, baselines)} to train; "
                             f"it has {', '.join(baselines) or 'none'}")
    return baselines


def finetune_with_baselines(task: str, source: Path, folder: Path, changes: tuple[str, ...] = (),
                            baselines: tuple[str, ...] = (), processes: int | None = None) -> None:
    """Train a task on scenes, and baselines of it, each in several processes.

    baselines: their names, or "all". processes: by default `count_processes`
    Raises ValueError for an unknown task, option or baseline, SystemExit where training failed.
    """
    config = settings(task, source, changes)     # refuse a wrong option before any process starts
    names = [name for name in baselines if name != "all"]
    available = trained_baselines(task, *names)
    if "all" in baselines:
        names = list(available)
    if processes is None:
        processes = count_processes(task, config)
    words = ["finetune", task, *changes, "--from", str(source), "--no-evaluate", "--run"]
    runs = [[str(folder)]]
    runs += [[str(folder / name), "--baselines", name] for name in dict.fromkeys(names)]
    for run in runs:
        if status := launch.launch([*words, *run], processes):
            raise SystemExit(status)


def count_processes(task: str, config: Config) -> int:
    """How many processes train a task on scenes by default, see launch.fitting_processes."""
    kinds = len(SCENE_TASKS[task].problems)
    batches = [(config.batch, kinds), (config.batch, config.accumulate)]
    if TASKS[task].pretraining:
        batches.append((config.batch, least_rows(config)))
    return launch.fitting_processes(*batches)
