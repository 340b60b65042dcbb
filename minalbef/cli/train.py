"""`minalbef demo`, `pretrain` and `finetune` on the command line."""
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from minalbef.cli.limits import refuse

Changes = Annotated[tuple[str, ...], tyro.conf.Positional]
From = Annotated[Path | None, tyro.conf.arg(name="from")]
CHANGE = re.compile(r"\w+=")          # how a change of an option begins
Section = TypeVar("Section")
# a section, whose flags go without its name
Flags = Annotated[Section, tyro.conf.OmitArgPrefixes]


def demo(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"),
         processes: int | None = None, size: float = 1.0) -> None:
    """Train a small ALBEF in minutes, evaluate it, and write a page that shows the results.

    Warm start, pretraining and evaluation on the embedded scenes.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start
        run: the folder to write
        processes: how many to train in, one thread each; by default one a GPU, or two on a CPU,
            or the most that can share a batch
        size: share of the test set, for a quick look
    """
    from minalbef.cli.measure import EvaluateScenes, evaluate
    from minalbef.recipes import launch
    from minalbef.recipes.pretrain import count_processes, settings
    config = settings(preset, changes)   # refuses a wrong option before any process starts
    if processes is None:
        processes = count_processes(config)
    words = ["pretrain", *changes, "--preset", preset, "--run", str(run)]
    if status := launch.launch(words, processes):
        raise SystemExit(status)
    evaluate(str(run), scenes=EvaluateScenes(size=size))


@dataclass(frozen=True)
class PretrainSets:
    """Of prepared sets, which --data names."""

    vocab: Path | None = None
    """BERT's vocab.txt; without it, word pieces are learnt from the captions"""
    vit: str | None = None
    """weights for the image encoder: a file, a folder, a package, a name such as
    deit_base_patch16_224, or a run, such as tiny/start"""
    bert: str | None = None
    """for text encoder and fusion, such as google-bert/bert-base-uncased"""
    freeze: tuple[str, ...] = ()
    """encoders that stay as they are, image or text, or the lowest layers of one: text:3"""
    most_bad: float = 0.01
    """share of unreadable images above which training stops"""


def pretrain(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"),
             data: tuple[Path, ...] = (), workers: int = 0,
             sets: Flags[PretrainSets] = PretrainSets()) -> None:
    """Pretrain on the embedded scenes or on prepared sets, or resume.

    In several processes: torchrun -m -- minalbef pretrain.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: tiny, desk overnight, small with a GPU; for prepared sets clipart, base or paper-4m
        run: the folder to write
        data: sets of `minalbef prepare`, or splits, such as prepared/coco prepared/shards
        workers: processes that open images ahead, or paint them, for each that trains
    """
    from minalbef.recipes import launch
    from minalbef.recipes import pretrain as recipe
    launch.follow_launcher()
    data, changes = part_changes(data, changes)
    config = recipe.settings(preset, changes, data, sets.vit, sets.bert, sets.freeze)
    recipe.pretrain(config, run, data, sets.vocab, workers, sets.most_bad)
    if ends_here() and data:
        print(f"next: minalbef doctor {run} --data {' '.join(map(str, data))}")
    elif ends_here():
        print(f"next: minalbef evaluate {run}")


@dataclass(frozen=True)
class FinetuneScenes:
    """Of the embedded scenes, on which a task is trained without --data."""

    baselines: tuple[str, ...] = ()
    """which to train as well, each for as long; "all" for every one the task has"""
    processes: int | None = None
    """how many to train in, one thread each; by default one a GPU, two on a CPU"""
    size: float = 1.0
    """share of the test set, for a quick look"""
    no_evaluate: bool = False
    """only train the task, or the one of --baselines, in this process or torchrun's"""


@dataclass(frozen=True)
class FinetuneSets:
    """Of prepared sets, which --data names."""

    preset: str = ""
    """the recipe, by default the paper's for the task and the set"""
    workers: int = 0
    """processes that open images, for each that trains"""
    freeze: tuple[str, ...] = ()
    """encoders that stay as they are, image or text, or the lowest layers of one: text:3"""
    most_bad: float = 0.01
    """share of unreadable images above which training stops"""


def finetune(task: str, changes: Changes = (), /, source: From = None, run: Path | None = None,
             data: tuple[Path, ...] = (), scenes: Flags[FinetuneScenes] = FinetuneScenes(),
             sets: Flags[FinetuneSets] = FinetuneSets()) -> None:
    """Fine-tune a pretrained run for a task.

    On the embedded scenes it is evaluated with its baselines, too. On prepared sets, in several
    processes: torchrun -m -- minalbef finetune.

    Args:
        task: {scene_tasks}; on prepared sets {other_tasks}, too
        changes: options to change, such as lr=5e-4 epochs=2
        source: the pretrained run to start from; by default runs/demo, or else the shipped model
        run: the folder to write, by default runs/TASK
        data: sets of `minalbef prepare`, or splits of them, such as prepared/coco
    """
    from minalbef.recipes import finetune as recipe
    from minalbef.recipes import launch
    launch.follow_launcher()
    data, changes = part_changes(data, changes)
    source = source_of(source)
    run = run or Path("runs", task)
    if not data:
        finetune_on_scenes(task, changes, source, run, scenes)
        return
    if sets.freeze:
        changes = (*changes, f"freeze={','.join(sets.freeze)}")
    config = recipe.settings(task, source, changes, data, sets.preset)
    recipe.finetune(task, source, run, config, data, workers=sets.workers, most_bad=sets.most_bad)
    if ends_here():
        from minalbef.datasets.store import place_of
        from minalbef.evaluation.validation import BEST
        weights = run / BEST if (run / BEST).exists() else run
        print(f"next: minalbef evaluate {weights} --data {place_of(data[0])[0]}/test")


def finetune_on_scenes(task: str, changes: tuple[str, ...], source: Path, run: Path,
                       scenes: FinetuneScenes) -> None:
    """Fine-tune on the embedded scenes, and evaluate unless the flags say otherwise."""
    from minalbef.recipes import evaluate, report
    from minalbef.recipes import finetune as recipe
    from minalbef.scenes import tables
    if scenes.no_evaluate:
        refuse("of no use with --no-evaluate; leave it out (several processes: torchrun -m -- "
               "minalbef finetune)", processes=scenes.processes, size=scenes.size != 1)
        refuse("with --no-evaluate, one model is trained; name one baseline, or none for the task "
               "itself", baselines=scenes.baselines[1:])
        baseline = "".join(scenes.baselines)
        config = recipe.settings(task, source, changes)
        recipe.finetune(task, source, run, config, baseline=baseline)
        return
    recipe.finetune_with_baselines(task, source, run, changes, scenes.baselines, scenes.processes)
    figures = evaluate.evaluate(run, None, None, report.command(), source=source,
                                size=scenes.size)
    if figures:
        print(tables.task_table([figures]))


def ends_here() -> bool:
    """Whether a training process is the first, and its command ends with it: `launch` goes on."""
    from minalbef.recipes.launch import followed
    return os.environ.get("RANK", "0") == "0" and not followed()


def part_changes(data: tuple[Path, ...],
                 changes: tuple[str, ...]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Sets and changes of options, where some changes follow --data, which takes them for sets.

    A change is such as epochs=17, and no path that exists.
    Raises ValueError if no set is left.
    """
    sets = []
    for path in data:
        if CHANGE.match(str(path)) and not path.exists():
            changes = (*changes, str(path))
        else:
            sets.append(path)
    if data and not sets:
        raise ValueError(f"--data {' '.join(map(str, data))} names no prepared set, but changes of "
                         "options; put these before --data, and a set such as prepared/coco after "
                         "it")
    return tuple(sets), changes


def source_of(run: Path | None) -> Path:
    """The pretrained run to use: the one named, or else runs/demo, or else the shipped model."""
    from minalbef.system import checkpoint
    if run is None:
        demo = Path("runs/demo")
        run = demo if (demo / "model.safetensors").exists() else Path("tiny")
    return checkpoint.run_folder(run)
