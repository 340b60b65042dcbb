"""`minalbef pretrain`, `finetune` and `tune` on the command line."""
import os
from pathlib import Path
from typing import Annotated

import tyro

from minalbef import checkpoint
from minalbef.cli.bench import PROCESSES, Changes
from minalbef.datasets.store import place_of
from minalbef.recipes import report
from minalbef.tasks.base import TASKS

From = Annotated[Path | None, tyro.conf.arg(name="from")]


def pretrain(changes: Changes = (), /, preset: str = "tiny", run: Path = Path("runs/demo"), quiet: bool = False,
             data: tuple[Path, ...] = (), vocab: Path | None = None, vit: str | None = None, bert: str | None = None,
             workers: int = 0, most_bad: float = 0.01) -> None:
    """Pretrain on the embedded scenes or on prepared sets, or resume. In parallel: torchrun -m -- minalbef pretrain.

    Args:
        changes: options of the preset to change, such as batch=32 lr=1e-3
        preset: where to start: tiny, or small with a GPU; for prepared sets base or paper-4m
        run: the folder to write
        quiet: no progress bar
        data: sets that `minalbef prepare` wrote to train on, such as prepared/coco prepared/shards, or splits of them
        vocab: BERT's vocab.txt; without it, word pieces are learnt from the captions
        vit: weights to start the image encoder from, a file, a folder or a name such as deit_base_patch16_224
        bert: weights to start text encoder and fusion from, a file, a folder or a name such as
            google-bert/bert-base-uncased
        workers: processes that open pictures ahead, or paint them, for each that trains
        most_bad: share of unreadable pictures above which training stops; those below it are named in unreadable.txt
    """
    from minalbef.recipes import pretrain as recipe
    recipe.pretrain(recipe.settings(preset, changes, data), run, data, vocab, vit, bert, workers, most_bad, quiet)


def finetune(task: str, changes: Changes = (), /, source: From = None, run: Path | None = None,
             baselines: tuple[str, ...] = (), processes: int = PROCESSES, exam: float = 1.0, quiet: bool = False,
             data: tuple[Path, ...] = (), preset: str = "", workers: int = 0, most_bad: float = 0.01) -> None:
    """Fine-tune a pretrained run for a task on the embedded scenes, evaluated with its baselines; or on prepared sets.

    In several processes, on prepared sets: torchrun -m -- minalbef finetune.

    Args:
        task: retrieval, entailment, vqa, nlvr2 or grounding; on prepared sets text_assignment, too
        changes: options to change, such as lr=5e-4 epochs=2
        source: the pretrained run to start from; by default runs/demo, or else the shipped model
        run: the folder to write, by default runs/TASK
        baselines: which to train as well, each for as long; "all" for every one the task has
        processes: how many to train in, one thread each
        exam: share of the test set, for a quick look
        quiet: no progress bar
        data: sets that `minalbef prepare` wrote to train on, such as prepared/coco, or splits of them
        preset: the recipe, by default the paper's for the task and the set
        workers: processes that open pictures, for each that trains
        most_bad: share of unreadable pictures above which training stops; those below it are named in unreadable.txt
    """
    from minalbef.recipes import evaluate
    from minalbef.recipes import finetune as recipe
    from minalbef.scenes.exam import tables
    source, run = source_of(source), run or Path("runs", task)
    if not data:
        recipe.tune_all(task, source, run, changes, baselines, processes, quiet)
        out = report.output_folder(run, exam == 1)
        return print(tables.task_table([evaluate.evaluate_run(run, report.command(), source, size=exam, out=out)]))
    recipe.tune(task, source, run, recipe.settings(task, source, changes, data, preset), data, workers=workers,
                most_bad=most_bad, quiet=quiet)
    if os.environ.get("RANK", "0") == "0":
        following = (f"evaluate {run} --data {place_of(data[0])[0]}/test" if TASKS[task].evaluate else
                     f"finetune nlvr2 --from {run} --data prepared/nlvr2")
        print(f"{run} is trained; next: minalbef {following}")


def tune(task: str, changes: Changes = (), /, source: From = None, run: Path | None = None, rival: str = "",
         quiet: bool = False) -> None:
    """The training of `finetune`, without evaluation. In several processes: torchrun -m -- minalbef tune.

    Args:
        task: retrieval, entailment, vqa, nlvr2 or grounding
        changes: options to change
        source: the pretrained run to start from; by default runs/demo, or else the shipped model
        run: the folder to write, by default runs/TASK
        rival: a baseline of the task to train instead
        quiet: no progress bar
    """
    from minalbef.recipes import finetune as recipe
    source = source_of(source)
    recipe.tune(task, source, run or Path("runs", task), recipe.settings(task, source, changes), rival=rival,
                quiet=quiet)


def source_of(run: Path | None) -> Path:
    """The pretrained run to use: the one named, or else the user's runs/demo, or else the shipped model."""
    return checkpoint.run_folder(run or ("runs/demo" if Path("runs/demo/model.safetensors").exists() else "tiny"))
