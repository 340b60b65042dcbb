"""`minalbef pretrain`, `finetune` and `evaluate` on public sets: the flags that --data brings, and what they call."""
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Sets:
    """On sets that `minalbef prepare` wrote. In several processes: torchrun -m -- minalbef pretrain.

    Args:
        data: prepared sets to train on, such as prepared/coco prepared/shards, or splits of them
        vocab: BERT's vocab.txt; without it, word pieces are learnt from the captions
        vit: weights to start the image encoder from, a file, a folder or a name such as deit_base_patch16_224
        bert: weights to start text encoder and fusion from, a file, a folder or a name such as
            google-bert/bert-base-uncased
        workers: processes that open pictures ahead, or paint them, for each that trains
        most_bad: share of unreadable pictures above which training stops; those below it are named in unreadable.txt
    """

    data: tuple[Path, ...] = ()
    vocab: Path | None = None
    vit: str | None = None
    bert: str | None = None
    workers: int = 0
    most_bad: float = 0.01

    def pretrain(self, preset: str, changes: tuple[str, ...], run: Path, quiet: bool) -> None:
        from minalbef.recipes import public_pretrain
        if not self.data:
            raise ValueError("a public set must be named, with --data prepared/SET")
        public_pretrain.pretrain(self.data, run, preset, changes, self.vocab, self.vit, self.bert, self.workers,
                                 self.most_bad, quiet)


@dataclass(frozen=True)
class Study:
    """On a set that `minalbef prepare` wrote. In several processes: torchrun -m -- minalbef finetune.

    Args:
        data: prepared sets to train on, such as prepared/coco, or splits of them; text_assignment is a task here, too
        preset: the recipe, by default the paper's for the task and the set
        workers: processes that open pictures, for each that trains
        most_bad: share of unreadable pictures above which training stops; those below it are named in unreadable.txt
    """

    data: tuple[Path, ...] = ()
    preset: str = ""
    workers: int = 0
    most_bad: float = 0.01

    def finetune(self, task: str, changes: tuple[str, ...], source: Path, run: Path, quiet: bool) -> None:
        from minalbef.recipes import public_tasks
        from minalbef.tasks.base import TASKS
        if not self.data:
            raise ValueError("a public set must be named, with --data prepared/SET")
        public_tasks.finetune_public(task, self.data, source, run, self.preset, changes, self.workers, self.most_bad,
                                     quiet)
        if os.environ.get("RANK", "0") == "0":
            following = f"minalbef finetune nlvr2 --from {run} --data prepared/nlvr2"
            if TASKS[task].evaluate:
                following = f"minalbef evaluate {run} --data {public_tasks.place_of(self.data[0], 'train')[0]}/test"
            print(f"{run} is trained; next: {following}")


@dataclass(frozen=True)
class Exam:
    """On a set that `minalbef prepare` wrote. In several processes: torchrun -m -- minalbef evaluate.

    Args:
        data: the prepared split, such as prepared/coco/test; what it holds says the task
        answers: VQA: the list to choose from, by default the set's
        free: VQA: write the answer instead
        top: candidates of the second stage, by default the paper's for the set
        layer: grounding: of fusion's layers, from 0, whose map chooses; "all" tries every one; by default the middle
        image_size: side of the pictures in pixels, by default the run's
        original: score as the original does: VQA's first word twice, and no overlap of boxes below a pixel
        tuned_on: sets that a run was trained on which does not say so, as converted ones do not: they name the protocol
        batch: records that are read at once
        workers: processes that open pictures ahead
    """

    data: Path | None = None
    answers: Path | None = None
    free: bool = False
    top: int = 0
    layer: int | Literal["all"] | None = None
    image_size: int | None = None
    original: bool = False
    tuned_on: tuple[str, ...] = ()
    batch: int = 32
    workers: int = 0

    def evaluate(self, run: Path, command: str, out: Path | None = None) -> None:
        from minalbef.recipes import public_tasks
        if not self.data:
            raise ValueError("a public set must be named, with --data prepared/SET/test")
        found = public_tasks.evaluate_public(
            run, self.data, out=out, answers=self.answers, free=self.free, top=self.top, image_size=self.image_size,
            layer=self.layer, original=self.original, tuned=self.tuned_on, batch=self.batch, workers=self.workers,
            command=command)
        if found:                                # in the first process
            print(public_tasks.table(found))
