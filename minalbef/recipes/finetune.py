"""Fine-tuning: from a pretrained run to a task's, on the embedded scenes, on prepared sets, or on your own batches."""
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minalbef import checkpoint, distributed, train, writing
from minalbef.albef import ALBEF
from minalbef.config import Config, nearest, read_changes, replace_checked, require_config
from minalbef.datasets.loader import RecordBatches
from minalbef.datasets.store import (
    Folders,
    check_upright,
    folders_of,
    open_records,
    place_of,
    read_about,
    sets_upright,
)
from minalbef.evaluation.validation import BEST, Validation
from minalbef.presets import preset
from minalbef.recipes import launch
from minalbef.recipes.forecast import forecast, still_guesses
from minalbef.recipes.provenance import hashes_of, origin_of, record_training, trained_on
from minalbef.recipes.validate import check_validation, validate_task, validation_hash
from minalbef.recipes.vocabulary import (
    record_words,
    sample_texts,
    trained_words,
    vocabulary_warning,
)
from minalbef.run import load
from minalbef.scenes.batches import ProblemBatches, SceneBatches
from minalbef.scenes.questions import need_scenes
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.tasks.base import TaskModule
from minalbef.tasks.table import TASKS, find_task

LOG = logging.getLogger("minalbef")
# on scenes, from `tiny`: larger images, so that positions are resized, and distillation, both as in the paper
TUNING = dict(image_size=64, epochs=4.0, epoch=20_000, batch=64, lr=1e-3, lr_start=0.0, lr_end=5e-5, warmup_steps=50,
              alpha=0.4, match_from=0.0, queue_from=0.0, hard_from=0.0, siblings_from=0.0, equal_texts_match=False,
              save_every=250, validate_every=0.0)
# on prepared sets a run takes from its source: sizes, which are fixed, and settings that you can change
SIZES = ("patch_size image_width image_depth image_heads image_mlp_ratio stem vocab_size positions text_width "
         "text_depth text_heads text_mlp_ratio fusion_depth fuse_cls embed_dim").split()
KEPT = [*SIZES, "pos_scale", "dropout", "init_std", "queue_size", "equal_texts_match"]


def begin(task: TaskModule, source: str | Path, config: Config) -> None:
    """Initialise student and teacher from a run, its teacher if it has one, with positions resized. In place."""
    base, kind, _, weights = checkpoint.read_run(source)
    if find_task(kind, source).pairs:
        model = TASKS[kind].module(base).student
        checkpoint.fit_weights(model, weights, source, TASKS[kind].lacks)
        return task.start(model.albef)
    albef, teacher = at_size(load(source).model, config), None
    if weights := checkpoint.read_teacher(source):
        teacher = ALBEF(config)                  # what a teacher's file lacks, a student's has: the match head
        held = {name.removeprefix("albef."): value for name, value in weights.items()}
        resized = checkpoint.resize_weights(held, config)
        checkpoint.fit_weights(teacher, albef.state_dict() | resized, f"the teacher of {source}")
    task.start(albef, teacher)


def at_size(albef: ALBEF, config: Config) -> ALBEF:
    """The same model for images of config.image_size."""
    model = ALBEF(config)
    checkpoint.fit_weights(model, checkpoint.resize_weights(albef.state_dict(), config), "the run")
    return model.eval()


def settings(task: str, source: str | Path, changes: Sequence[str] = (), data: Folders = (),
             name: str = "") -> Config:
    """The settings to fine-tune a run for a task: the model's from the run, then the recipe's, then your changes.

    On the embedded scenes the recipe is TUNING and the job's; on prepared sets a preset, by default the task's, `name`.
    There the batch is at most the source's, and images grow as in the paper, from 256 to 384 pixels, except after
    fine-tuning for retrieval or grounding, where the size stays.
    Raises ValueError for what does not exist or does not fit together.
    """
    data = folders_of(data)
    known = [name for name, row in TASKS.items() if row.begins_from] if data else list(SCENE_TASKS)
    if task not in known:
        raise ValueError(f"no task {task!r}{nearest(task, known)}; there are {', '.join(known)}")
    base, kind, _, _ = checkpoint.read_run(source)
    if kind not in (sources := TASKS[task].begins_from if data else ("pretrain",)):
        raise ValueError(f"{source} is a run of {kind}, and {task} begins from one of {', '.join(sources)}; "
                         "name it with --from")
    if data:
        config = _paper(task, base, kind, data, name)
    else:
        need_scenes(base, source)
        config = replace(base, share=1.0, **TUNING | SCENE_TASKS[task].settings, name=f"{base.name}-{task}")
    config = replace_checked(config, **read_changes(tuple(changes)))
    if data:
        check_upright(config, data)
    check_validation(task, config, data)
    if config.share < 1:
        raise ValueError(f"share={config.share} is for pretraining; to fine-tune on part of a set, prepare it with "
                         "--share, and on fewer scenes, set epoch")
    for field in SIZES:
        if (value := getattr(config, field)) != (fixed := getattr(base, field)):
            raise ValueError(f"{field}={value}: the model of {source} has {fixed}, which training cannot change; "
                             "leave it out")
    return config


def preset_of(task: str, prepared: str) -> str:
    """The preset of a task's recipe on a prepared set. Raises ValueError for a task without one."""
    name = TASKS[task].preset_of_set.get(prepared, TASKS[task].preset)
    if not name:
        raise ValueError(f"task {task!r} has no recipe for prepared sets: name one with --preset "
                         "(settings(..., name=...) in Python), or give its Task presets")
    return name


def _paper(task: str, base: Config, kind: str, data: Sequence[str | Path], name: str) -> Config:
    """The paper's recipe for a task and a set, in the sizes of the run to begin from."""
    if not name:
        about = read_about(place_of(data[0])[0])
        name = preset_of(task, about.get("set"))
    paper, size = preset(name), base.image_size
    if begun := TASKS[kind].preset:
        before = preset(begun).image_size
        size = size * max(before, paper.image_size) // before
        size = max(1, size // base.patch_size) * base.patch_size
    return replace(paper, **{field: getattr(base, field) for field in KEPT}, name=f"{base.name}-{name}",
                   image_size=min(paper.image_size, size), batch=min(paper.batch, base.batch),
                   text_length=min(paper.text_length, base.positions),
                   epoch=len(open_records(task, data)), upright=sets_upright(data),
                   validate_every=paper.validate_every if TASKS[task].validation_figures else 0.0)


def finetune(task: str, source: str | Path, folder: str | Path, config: Config | None = None,
             data: Folders = (), rival: str = "", workers: int = 0, most_bad: float = 0.01, assign: int = 20_000,
             quiet: bool = False, batches: Callable[[int], Any] | None = None,
             validation: Validation | None = None) -> None:
    """Fine-tune a run for a task, into a run folder; called again, it resumes from the last checkpoint.

    task: a name of tasks.table.TASKS. source: the run to begin from. config: by default `settings(task, source)`'s
    data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken. None: the embedded scenes
    rival: of scenes, train this baseline of the job's instead. workers, most_bad: see loader.RecordBatches
    assign: number of captions of NLVR2's text assignment pretraining on scenes
    batches: step -> this process's batch, in place of data, such as loader.RecordBatches of your own Dataset
    validation: of your own batches, see recipes.validate; that of data goes by config.validate_every
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    folder, source, data = Path(folder), checkpoint.run_folder(source), folders_of(data)
    if data and batches is not None:
        raise ValueError("data and batches: name one of them to train on")
    if config is None:
        config = settings(task, source, (), data)
    require_config(config)
    differs = rivals_of(task, rival)[rival] if rival else {}
    if folder.resolve() == source.resolve():
        raise ValueError(f"{folder} is the run to begin from, and would be overwritten; choose another folder with "
                         "--run")
    if data:
        check_upright(config, data)
    writing.check_folder(folder)
    launch.follow_launcher()
    distributed.start(config.device)
    tokenizer = checkpoint.read_run(source)[2]
    torch.manual_seed(config.seed)               # of new layers
    module = differs.get("module", find_task(task).module)(config)
    begin(module, source, config)
    splits = hashes_of(data)
    origin = origin_of(tokenizer, splits, source)
    if data:
        batches = RecordBatches(open_records(task, data), TASKS[task].collate, config, tokenizer, workers=workers,
                                most_bad=most_bad, folder=folder)
        validation = validate_task(task, data, config, tokenizer, folder, source, workers)
        origin |= validation_hash(task, data, config)
        if distributed.rank() == 0:
            LOG.info(forecast(config, task))
            texts = sample_texts(open_records(task, data), config.seed)
            warning = vocabulary_warning(tokenizer, texts, source)
            if warning:
                LOG.warning(warning)
    elif batches is None:
        batches = ProblemBatches(task, config, tokenizer, differs.get("hide", ""))
        pretraining, assign = TASKS[task].pretraining, differs.get("assign", assign)
        if pretraining and assign:
            assignment = TASKS[pretraining].module(config)
            recipe = replace(config, epochs=1.0, epoch=assign)
            begin(assignment, source, config)
            train.fit(assignment, SceneBatches(recipe, tokenizer), recipe, folder / "assign", quiet=quiet,
                      title=pretraining.replace("_", " "), origin=origin)
            module.start(assignment.student.albef)
    if rival:
        origin["baseline"] = rival
    before, first = checkpoint.untrained_parts(source), distributed.rank() == 0
    with writing.lock(folder, config):
        if first and checkpoint.begin_run(folder, config, tokenizer, task) and splits:
            record_training(folder, "tuned", splits, trained_on(source))
        title = rival.replace("_", " ") or task
        untrained = train.fit(module, batches, config, folder, quiet=quiet, title=title,
                              origin=origin, random=before, validation=validation)
        if first:
            teacher = getattr(module, "teacher", None)
            checkpoint.save(folder, module.student, tokenizer, teacher, task, untrained)
            if splits:
                record_training(folder, "tuned", splits, trained_on(source))
                words = trained_words(source, checkpoint.read_run(source)[0])
                record_words(folder, open_records(task, data), words)
                if validation:
                    record_words(folder / BEST, open_records(task, data), words)
            if guesses := still_guesses(folder):
                LOG.warning(guesses)
            if validation:
                LOG.info(validation.account())
    distributed.stop()


def rivals_of(task: str, *names: str) -> dict[str, dict]:
    """The baselines of a task on scenes that are trained. Raises ValueError if one of `names` is none of them."""
    rivals = SCENE_TASKS[task].trained
    for name in names:
        if name not in rivals:
            raise ValueError(f"{task} has no baseline {name!r}{nearest(name, rivals)} to train; "
                             f"it has {', '.join(rivals) or 'none'}")
    return rivals


def tune_all(task: str, source: Path, folder: Path, changes: tuple[str, ...] = (), baselines: tuple[str, ...] = (),
             processes: int | None = None) -> None:
    """Train a task on scenes and the named baselines of its job ("all": every one), each in several processes.

    Raises ValueError for an unknown task, option or baseline, SystemExit where training failed.
    """
    settings(task, source, changes)                      # refuse a wrong option before any process starts
    rivals = rivals_of(task, *(name for name in baselines if name != "all"))
    for name in ("", *(rivals if "all" in baselines else dict.fromkeys(baselines))):
        arguments = ["tune", task, *changes, "--from", str(source), "--run", str(folder / name)]
        arguments += ["--rival", name] if name else []
        if status := launch.launch(arguments, processes):
            raise SystemExit(status)
