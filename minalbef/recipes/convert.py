"""From the original's checkpoints to run folders or to further pretraining, and back."""
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.ema import make_teacher
from minalbef.fast.pretrain import in_form
from minalbef.feature_queue import FeatureQueue
from minalbef.pretrain import Pretrain
from minalbef.system import checkpoint
from minalbef.system.checkpoint import part_of
from minalbef.system.settings import replace_checked
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.nlvr2 import PairModel, add_shared, drop_shared
from minalbef.tasks.table import TASKS
from minalbef.weights import key_table
from minalbef.weights.original import (
    HEADS,
    OriginalFile,
    Report,
    fill,
    read_file,
    read_original,
    task_of,
)

# of bert-base-uncased
BERT_SPECIAL = (0, 100, 101, 102, 103)           # [PAD] [UNK] [CLS] [SEP] [MASK]
BERT_MASK = 103
# files of a run folder: a folder that holds any of them is not converted into
WRITES = ("config.json", "tokenizer.json", "model.safetensors", "teacher.safetensors",
          "queue.safetensors", "state.pt", "report.json")
VOCAB = "https://huggingface.co/google-bert/bert-base-uncased/resolve/main/vocab.txt"
TASK_PARTS = {"decoder", "head"}                 # a task's own, beside its ALBEF
TEXT_LAYERS = "text_encoder.layers."


def to_run(source: str | Path, folder: str | Path, vocab: str | Path | None,
           image_size: int | None = None, image_heads: int = HEADS,
           text_heads: int = HEADS) -> Report:
    """One of the original's checkpoints, of any task, as a run folder.

    Everything in it is converted, teacher and queue included.
    vocab: the vocab.txt that the model was trained with
    Raises ValueError without a vocabulary, for one of another size, and for a folder that holds a
    run.
    """
    present = [name for name in WRITES if (Path(folder) / name).exists()]
    if present:
        raise ValueError(f"{folder} holds a run already ({', '.join(present)}), which would be "
                         "overwritten; name a new folder, or remove that one first")
    if vocab is None:
        raise ValueError("the checkpoint does not hold its vocabulary: fetch bert-base-uncased's "
                         f"from {VOCAB} and name it with --vocab vocab.txt")
    tokenizer = Tokenizer.from_vocab(vocab)
    file = read_original(source, image_size, image_heads, text_heads)
    if len(tokenizer) != file.config.vocab_size:
        raise ValueError(f"{vocab} has {len(tokenizer)} pieces and the model "
                         f"{file.config.vocab_size} words: it was trained with another "
                         f"vocabulary; bert-base-uncased's is at {VOCAB}")
    report = check_weights(file)
    files = {"queue": file.original.queue}
    for name, weights in (("model", file.original.student), ("teacher", file.original.teacher)):
        files[name] = run_weights(weights, file.task)
    # prepared sets say how to open their images; any other images are the user's own
    config = replace(file.config, upright=True)
    checkpoint.save_weights(folder, config, tokenizer, file.task,
                            {name: weights for name, weights in files.items() if weights})
    return replace(report, loaded=tuple(file.original.ours), unexpected=(),
                   resized=file.resized)


def check_weights(file: OriginalFile) -> Report:
    """Check names and shapes of a checkpoint's weights by loading them: -> what became of each.

    Raises ValueError for weights that don't fit.
    """
    with torch.device("meta"), warnings.catch_warnings():        # which takes no memory
        warnings.simplefilter("ignore")
        model: nn.Module
        if TASKS[file.task].pairs:
            model = PairModel(file.config, nn.Identity())
        else:
            model = ALBEF(file.config)
        report = fill(model, file)
        if file.original.teacher:
            fill(model, file, teacher=True)
    return report


def run_weights(weights: dict[str, Tensor], task: str) -> dict[str, Tensor]:
    """Weights of a checkpoint under the names that a run folder has."""
    if TASKS[task].pairs:
        weights = drop_shared(weights)
    if TASK_PARTS.isdisjoint(map(part_of, weights)):
        return dict(weights)
    names = {name: name if part_of(name) in TASK_PARTS else f"albef.{name}" for name in weights}
    return {names[name]: value for name, value in weights.items()}


def pretrain_from_original(source: str | Path | dict[str, Tensor],
                           special: tuple[int, ...] = BERT_SPECIAL, mask: int = BERT_MASK,
                           image_size: int | None = None, image_heads: int = HEADS,
                           text_heads: int = HEADS, **changes: Any) -> Pretrain:
    """The pretraining task with student, teacher and queue as the file has them.

    Every slot of the queue is filled. A file without a teacher gives a copy of the student as the
    teacher, one without a queue an empty queue.
    special, mask: ids of the tokenizer, by default those of bert-base-uncased
    changes: options of training
    Raises ValueError for a downstream task's file.
    """
    file = read_original(source, image_size, image_heads, text_heads)
    if file.task != "pretrain":
        raise ValueError(f"{file.source} is of {file.task} and lacks "
                         f"{', '.join(TASKS[file.task].lacks)}; "
                         "pretraining goes on from a checkpoint of pretraining")
    config = replace_checked(file.config, **changes)
    task = in_form(Pretrain, config)(config, special, mask)
    fill(task.student, file)
    task.teacher = make_teacher(task.student)
    if file.original.teacher:
        fill(task.teacher, file, teacher=True)
    if file.original.queue:
        fill_queue(task.queue, file.original.queue)
    return task


def fill_queue(queue: FeatureQueue, tensors: dict[str, Tensor]) -> None:
    """Fill every slot, as an original's file has them. In place.

    Features without ids get -1, which is no image's.
    """
    ids = tensors.get("ids", torch.full_like(queue.ids, -1))
    queue.load_state_dict({
        "image": tensors["image"],
        "text": tensors["text"],
        "ids": ids,
        "_extra_state": {"pointer": int(tensors["pointer"]), "filled": len(ids)},
    })


def to_original(source: str | Path, out: str | Path) -> tuple[int, list[str]]:
    """A run folder, or one of our .safetensors files, as the original's checkpoint.

    That is {"model": state dict}.
    -> how many keys it has, and which of our parts it has no place for
    Raises ValueError for a model that the original cannot build.
    """
    source = Path(source)
    teacher: dict[str, Tensor] = {}
    queue: dict[str, Tensor] = {}
    if source.suffix == ".safetensors":
        student = read_file(source)
        task = task_of({name.removeprefix("albef."): value for name, value in student.items()})
    else:
        config, task, _, student, step = checkpoint.open_run(source)
        if not config.fuse_cls:
            raise ValueError(f"{source} fuses without the image's [CLS] (fuse_cls=False); "
                             "the original always reads it")
        checkpoint.warn_unfinished(source, config, step)
        teacher = checkpoint.read_teacher(source)
        queue = read_queue(source, task)
    dropped = set(map(part_of, student)) & set(TASKS[task].lacks)
    student = original_weights(student, task, dropped)
    teacher = original_weights(teacher, task, dropped)
    text_layers = {name.split(".")[2] for name in student if name.startswith(TEXT_LAYERS)}
    state = key_table.write(student, teacher, queue, len(text_layers), task == "pretrain",
                            TASKS[task].original_head)
    checkpoint.write_atomically(Path(out), lambda path: torch.save({"model": state}, path))
    return len(state), sorted(dropped)


def original_weights(weights: dict[str, Tensor], task: str,
                     dropped: set[str]) -> dict[str, Tensor]:
    """A run's weights as the original's file of the task holds them, without some parts."""
    result = {}
    for name, value in weights.items():
        if part_of(name) not in dropped:
            result[name.removeprefix("albef.")] = value
    return add_shared(result) if TASKS[task].pairs else result


def read_queue(source: Path, task: str) -> dict[str, Tensor]:
    """The queue of a run folder, converted or in training, if it has one.

    Nothing before it is full, since the original reads every slot.
    """
    if (source / "queue.safetensors").exists():
        return read_file(source / "queue.safetensors")
    if not (source / "state.pt").exists():
        return {}
    state = checkpoint.read_state(source / "state.pt", mmap=True)["task"]
    slots = state.get("queue._extra_state")
    if not slots or slots["filled"] < len(state["queue.ids"]):
        return {}
    queue = {
        "image": state["queue.image"],
        "text": state["queue.text"],
        "pointer": torch.tensor([slots["pointer"]]),
    }
    if task != "pretrain":
        queue["ids"] = state["queue.ids"]
    return queue
