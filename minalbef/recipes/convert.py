"""From the original's checkpoints to run folders, to pretraining that goes on, and back to the original's keys."""
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minalbef import checkpoint
from minalbef.albef import ALBEF
from minalbef.checkpoint import part_of
from minalbef.config import replace_checked
from minalbef.ema import make_teacher
from minalbef.feature_queue import FeatureQueue
from minalbef.tasks.nlvr2 import PairModel, add_shared, drop_shared
from minalbef.tasks.pretrain import Pretrain
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer
from minalbef.weights import key_table
from minalbef.weights.original import HEADS, Report, fill, read_file, read_original, task_of

BERT_SPECIAL, BERT_MASK = (0, 100, 101, 102, 103), 103           # bert-base-uncased's [PAD] [UNK] [CLS] [SEP] [MASK]
# files of a run folder: one that holds any of them is not converted into
WRITES = ("config.json", "tokenizer.json", "model.safetensors", "teacher.safetensors",
          "queue.safetensors", "state.pt", "report.json")
VOCAB = "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"


def to_run(source: str | Path, folder: str | Path, vocab: str | Path | None, image_size: int | None = None,
           image_heads: int = HEADS, text_heads: int = HEADS) -> Report:
    """One of the original's checkpoints, of any task, as a run folder: all that it holds, teacher and queue included.

    vocab: the vocab.txt that the model was trained with
    Raises ValueError without it, for one of another size, and for a folder that holds a run.
    """
    held = [name for name in WRITES if (Path(folder) / name).exists()]
    if held:
        raise ValueError(f"{folder} holds a run already ({', '.join(held)}), which would be "
                         "overwritten; name a new folder, or remove that one first")
    if vocab is None:
        raise ValueError(f"the checkpoint does not hold its vocabulary: fetch bert-base-uncased's from {VOCAB} "
                         "and name it with --vocab vocab.txt")
    tokenizer, opened = Tokenizer.from_vocab(vocab), read_original(source, image_size, image_heads, text_heads)
    if len(tokenizer) != opened.config.vocab_size:
        raise ValueError(f"{vocab} has {len(tokenizer)} pieces and the model {opened.config.vocab_size} words: "
                         f"it was trained with another vocabulary; bert-base-uncased's is at {VOCAB}")
    with torch.device("meta"), warnings.catch_warnings():        # to check names and shapes takes no memory
        warnings.simplefilter("ignore")
        model = PairModel(opened.config, nn.Identity()) if TASKS[opened.task].pairs else ALBEF(opened.config)
        report = fill(model, opened)
        if opened.original.teacher:
            fill(model, opened, teacher=True)
    files = {"queue": opened.original.queue}
    for name, weights in (("model", opened.original.student), ("teacher", opened.original.teacher)):
        weights = drop_shared(weights) if TASKS[opened.task].pairs else weights
        prefix = "albef." if {"decoder", "head"} & set(map(part_of, weights)) else ""
        files[name] = {key if part_of(key) in ("decoder", "head") else prefix + key: value
                       for key, value in weights.items()}
    # public sets say how they are read, and other pictures are the user's own
    config = replace(opened.config, upright=True)
    checkpoint.save_weights(folder, config, tokenizer, opened.task,
                            {name: weights for name, weights in files.items() if weights})
    return replace(report, loaded=tuple(opened.original.ours), unexpected=(), resized=opened.resized)


def pretrain_from_original(source: str | Path | dict[str, Tensor], special: tuple[int, ...] = BERT_SPECIAL,
                           mask: int = BERT_MASK, image_size: int | None = None, image_heads: int = HEADS,
                           text_heads: int = HEADS, **changes: Any) -> Pretrain:
    """The pretraining task with student, teacher and queue as the file has them, every slot of the queue filled.

    special, mask: ids of the tokenizer, by default those of bert-base-uncased. changes: options of training
    Without a teacher in the file, it begins as the student; without a queue, empty.
    Raises ValueError for a task's file.
    """
    opened = read_original(source, image_size, image_heads, text_heads)
    if opened.task != "pretrain":
        raise ValueError(f"{opened.source} is of {opened.task} and lacks {', '.join(TASKS[opened.task].lacks)}; "
                         "pretraining goes on from a checkpoint of pretraining")
    task = Pretrain(replace_checked(opened.config, **changes), special, mask)
    fill(task.student, opened)
    task.teacher = make_teacher(task.student)
    if opened.original.teacher:
        fill(task.teacher, opened, teacher=True)
    if opened.original.queue:
        fill_queue(task.queue, opened.original.queue)
    return task


def fill_queue(queue: FeatureQueue, found: dict[str, Tensor]) -> None:
    """Every slot, as an original's file has them. In place. Features without ids get -1, which is no picture's."""
    whole = {"image", "text", "pointer"} <= found.keys()
    if not whole or not found["image"].shape == found["text"].shape == queue.image.shape:
        raise ValueError(f"the file's queue has {', '.join(f'{name} {tuple(x.shape)}' for name, x in found.items())}; "
                         f"wanted image, text {tuple(queue.image.shape)} and pointer")
    ids = found.get("ids", torch.full_like(queue.ids, -1))
    queue.load_state_dict({"image": found["image"], "text": found["text"], "ids": ids,
                           "_extra_state": {"pointer": int(found["pointer"]), "filled": len(ids)}})


def to_original(source: str | Path, out: str | Path) -> tuple[int, list[str]]:
    """A run folder, or a .safetensors of ours, as the original's checkpoint: {"model": state dict}.

    -> how many keys it has, and which parts of ours it has no place for.
    Raises ValueError for a model that the original cannot build.
    """
    source = Path(source)
    if source.suffix == ".safetensors":
        student, teacher, queue, task = read_file(source), {}, {}, None
    else:
        config, task, _, student, step = checkpoint.open_run(source)
        if not config.fuse_cls:
            raise ValueError(f"{source} fuses without the image's [CLS] (fuse_cls=False); the original always reads it")
        checkpoint.warn_unfinished(source, config, step)
        teacher = checkpoint.read_teacher(source)
        queue = read_file(path) if (path := source / "queue.safetensors").exists() else {}
        if not queue and (source / "state.pt").exists():
            queue = _queue_of(checkpoint.read_state(source / "state.pt", mmap=True)["task"], task)
    task = task or task_of({name.removeprefix("albef."): value for name, value in student.items()})
    dropped = set(map(part_of, student)) & set(TASKS[task].lacks)
    student, teacher = ({name.removeprefix("albef."): value for name, value in held.items()
                         if part_of(name) not in dropped} for held in (student, teacher))
    if TASKS[task].pairs:
        student, teacher = add_shared(student), add_shared(teacher)
    depth = len({found[0] for name in student if (found := re.match(r"text_encoder\.layers\.\d+\.", name))})
    state = key_table.write(student, teacher, queue, depth, task == "pretrain",
                            TASKS[task].original_head)
    checkpoint.write_atomically(Path(out), lambda path: torch.save({"model": state}, path))
    return len(state), sorted(dropped)


def _queue_of(state: dict[str, Any], task: str) -> dict[str, Tensor]:
    """The queue of a training state, if its task has one; none before it is full: the original takes every slot."""
    if "queue.ids" not in state or state["queue._extra_state"]["filled"] < len(state["queue.ids"]):
        return {}
    queue = {"image": state["queue.image"], "text": state["queue.text"],
             "pointer": torch.tensor([state["queue._extra_state"]["pointer"]])}
    return queue if task == "pretrain" else queue | {"ids": state["queue.ids"]}
