"""Fine-tune and examine on the public sets: from a pretrained run and a prepared set to a report, in one process or many."""
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from minalbef import checkpoint, distributed, train
from minalbef.albef import ALBEF
from minalbef.checkpoint import TRAINED_ON, write_atomically
from minalbef.config import Config, nearest, read_changes, replace_checked
from minalbef.data import Record
from minalbef.datasets import public
from minalbef.datasets.loader import RecordBatches, named_unreadable
from minalbef.datasets.store import Records, read_about
from minalbef.ema import make_teacher
from minalbef.evaluation import report
from minalbef.presets import preset
from minalbef.recipes import forecast, public_exam
from minalbef.recipes.finetune import POSITIONS, at_size
from minalbef.recipes.public_exam import How
from minalbef.run import load
from minalbef.scenes.exam import exam
from minalbef.tasks import entailment, nlvr2, retrieval, vqa
from minalbef.tasks.text_assignment import TextAssignment
from minalbef.tokenizer import Tokenizer
from minalbef.vision import resize_positions

ALIGNED = ("pretrain", "retrieval", "grounding")                 # runs whose ALBEF has all its parts, but for words
# a model's own settings, which a recipe keeps: its sizes, and what you may yet change
SIZES = ("patch_size image_width image_depth image_heads image_mlp_ratio stem vocab_size positions text_width text_depth "
         "text_heads text_mlp_ratio fusion_depth fuse_cls embed_dim").split()
KEPT = [*SIZES, "pos_scale", "dropout", "init_std", "queue_size", "equal_texts_match"]
PRESETS = {"coco": "retrieval-coco", "flickr30k": "retrieval-flickr"}            # retrieval's, by set


@dataclass(frozen=True)
class Plan:
    """One task on a public set.

    make: config -> the task, as train.fit wants it, with its `student`. records: the kinds it learns from. preset: the paper's
    begin: runs to begin from. examine: of public_exam; None: it is only a step on the way. runs: whose models it examines
    """

    make: Callable[[Config], nn.Module]
    collate: Callable
    records: tuple[type, ...]
    preset: str
    begin: tuple[str, ...]
    examine: Callable | None
    runs: tuple[str, ...]


PLANS = {
    "retrieval": Plan(retrieval.Retrieval, retrieval.collate, (Record,), "retrieval-coco", ALIGNED,
                      public_exam.examine_retrieval, ALIGNED),
    "entailment": Plan(entailment.Entailment, entailment.collate, (entailment.EntailmentRecord,), "entailment", ALIGNED,
                       public_exam.examine_entailment, ("entailment",)),
    "vqa": Plan(vqa.VQA, vqa.collate, (vqa.VQARecord,), "vqa", ("pretrain",), public_exam.examine_vqa, ("vqa",)),
    "text_assignment": Plan(TextAssignment, retrieval.collate, (Record,), "nlvr2-assign", ALIGNED, None, ()),
    "nlvr2": Plan(nlvr2.NLVR2, nlvr2.collate, (nlvr2.NLVR2Record,), "nlvr2", (*ALIGNED, "text_assignment"),
                  public_exam.examine_nlvr2, ("nlvr2",)),
    "grounding": Plan(retrieval.Retrieval, retrieval.collate, (public.GroundingRecord, Record), "grounding", ALIGNED,
                      public_exam.examine_grounding, ALIGNED)}


# data


def place_of(data: str | Path, split: str) -> tuple[Path, str]:
    """prepared/coco, or one of its splits as prepared/coco/test -> the folder and the split, by default the one given."""
    path = Path(data)
    named = not (path / "about.json").exists() and (path.parent / "about.json").exists()
    return (path.parent, path.name) if named else (path, split)


def open_records(task: str, data: Sequence[str | Path], split: str) -> Dataset:
    """Records of prepared sets, one after the other. Raises ValueError for records of another task."""
    opened = [Records(*place_of(one, split)) for one in data]
    for records in opened:
        if records.kind not in (kinds := PLANS[task].records):
            raise ValueError(f"{records.path} holds records of {records.kind.__name__}, and {task} learns from "
                             f"{' or '.join(kind.__name__ for kind in kinds)}: name a set that was prepared for it with --data")
    return opened[0] if len(opened) == 1 else ConcatDataset(opened)


def task_of(kind: type) -> str:
    """Which task's exam records of a kind are for."""
    return next(task for task, plan in PLANS.items() if plan.records[0] is kind)


# training


def recipe(task: str, data: Sequence[str | Path], source: Path, name: str = "", changes: Sequence[str] = ()) -> Config:
    """The settings to train with: the source's model, and all else as the preset has it, and your changes.

    A small run takes no larger batch than in its own training, and pictures larger by as much as the paper's, 384
    pixels after 256; one that was tuned for retrieval or grounding keeps its size.
    name: of the preset, by default the task's. Raises ValueError for what does not exist or does not fit together.
    """
    if task not in PLANS:
        raise ValueError(f"no task {task!r}{nearest(task, PLANS)}; there are {', '.join(PLANS)}")
    base, kind, _, _ = checkpoint.read_run(source)
    if kind not in (begin := PLANS[task].begin):
        raise ValueError(f"{source} is a run of {kind}, and {task} begins from one of {', '.join(begin)}; name it with --from")
    if not name:
        about = read_about(place_of(data[0], "train")[0])
        name = PRESETS.get(about.get("set"), PLANS[task].preset) if task == "retrieval" else PLANS[task].preset
    paper, size = preset(name), base.image_size
    if kind in ("pretrain", "text_assignment"):
        size = max(1, size * paper.image_size // Config.image_size // base.patch_size) * base.patch_size
    config = replace(paper, **{field: getattr(base, field) for field in KEPT}, name=f"{base.name}-{name}",
                     image_size=min(paper.image_size, size), batch=min(paper.batch, base.batch),
                     text_length=min(paper.text_length, base.positions), epoch=len(open_records(task, data, "train")))
    config = replace_checked(config, **read_changes(changes))
    for field in SIZES:
        if (value := getattr(config, field)) != (own := getattr(base, field)):
            raise ValueError(f"{field}={value}: the model of {source} has {own}, which training cannot change; leave it out")
    return config


def begin(task: nn.Module, source: Path, config: Config) -> None:
    """Give student and teacher what a run knows, its teacher if it has one; positions are resized. In place."""
    base, kind, tokenizer, weights = checkpoint.read_run(source)
    if kind == "text_assignment":
        model = TextAssignment(base).student
        checkpoint.fit_weights(model, weights | checkpoint.expected_absent(model.state_dict(), weights, kind), source)
        task.start(model.albef)
        return
    albef = at_size(load(source).model, config)
    teacher = None
    if (path := Path(source) / "teacher.safetensors").exists():
        teacher = ALBEF(config)                  # what a teacher's file lacks, a student's has: the match head
        held = resized({name.removeprefix("albef."): value for name, value in checkpoint.load_file(path).items()}, config)
        checkpoint.fit_weights(teacher, albef.state_dict() | held, path)
    if isinstance(task, TextAssignment):
        task.start(albef)
    elif isinstance(task, nlvr2.NLVR2):
        task.start(albef, teacher)
    else:
        fill(task.student, albef)
        task.teacher = make_teacher(task.student)
        if teacher is not None:
            fill(task.teacher, teacher)


def fill(model: nn.Module, albef: ALBEF) -> None:
    """Weights for a task's model. In place."""
    getattr(model, "albef", model).load_state_dict(albef.state_dict())
    if isinstance(model, vqa.VQAModel):
        model.decoder_from(albef)


def resized(weights: dict, config: Config) -> dict:
    """The weights with the image's positions for pictures of config.image_size."""
    return weights | {name: resize_positions(weights[name], config.grid) for name in (POSITIONS, f"albef.{POSITIONS}")
                      if name in weights}


def finetune_public(task: str, data: Sequence[str | Path], source: Path, run: Path, name: str = "", changes: Sequence[str] = (),
                    workers: int = 0, most_bad: float = 0.01, quiet: bool = False) -> None:
    """Train a run for a task on prepared sets, into a run folder; called again, it goes on where it stopped, to the step.

    task: one of PLANS. data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken
    source: a run folder, converted ones too. name: of the preset. workers, most_bad: see loading.RecordBatches
    Raises ValueError for what does not fit together, and when too many pictures cannot be read.
    """
    config = recipe(task, data, source, name, changes)
    if run.resolve() == Path(source).resolve():
        raise ValueError(f"{run} is the run to begin from, and would be overwritten; choose another folder with --run")
    distributed.start(config.device)
    torch.manual_seed(config.seed)
    records, tokenizer = open_records(task, data, "train"), checkpoint.read_run(source)[2]
    module = PLANS[task].make(config)
    begin(module, source, config)
    batches = RecordBatches(records, PLANS[task].collate, config, tokenizer, workers=workers, most_bad=most_bad, folder=run)
    if distributed.rank() == 0:
        print(forecast.forecast(config, task), flush=True)
    train.fit(module, batches, config, run, quiet=quiet, title=task)
    if distributed.rank() == 0:
        checkpoint.save(run, module.student, tokenizer, module.teacher, task)
        record_training(run, "tuned", data, trained_on(source))
    distributed.stop()


def record_training(run: Path, phase: str, data: Sequence[str | Path], before: dict) -> None:
    """Write down in a run folder what it was trained on: `data`, and what the run that it was begun from says, `before`.

    phase: "pretrained" or "tuned". Each split has the hash of its records, which tells it under another name, too.
    """
    splits = {f"{read_about(folder)['set']}/{split}": hash_of(folder, split)
              for folder, split in (place_of(one, "train") for one in data)}
    known = before | {phase: (before[phase] or {}) | splits, "unreadable": named_unreadable(run)}
    write_atomically(run / TRAINED_ON, lambda path: path.write_text(json.dumps(known, indent=1) + "\n"))


def trained_on(run: str | Path) -> dict:
    """{"pretrained": {"coco/train": hash}, "tuned": {}}. Pretraining is None in a run that does not say, as converted ones."""
    path = Path(run) / TRAINED_ON
    return json.loads(path.read_text()) if path.exists() else {"pretrained": None, "tuned": {}}


def hash_of(folder: Path, split: str) -> str:
    """Of a prepared split's records."""
    with open(folder / f"{split}.jsonl", "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


# examining


def load_model(task: str, run: Path, image_size: int | None = None) -> tuple[nn.Module, Tokenizer, str]:
    """A run's model for a task, in evaluation mode, its tokenizer, and which kind of run it is.

    image_size: resize the positions for such pictures. Raises ValueError for a run of another task.
    """
    config, kind, tokenizer, weights = checkpoint.read_run(run)
    if kind not in (runs := PLANS[task].runs):
        raise ValueError(f"{run} is a run of {kind}, and this set examines {task}: name a run of {' or '.join(runs)}, such as "
                         f"`minalbef finetune {task} --data FOLDER --from RUN` makes")
    config = replace_checked(config, image_size=image_size or config.image_size)
    model = PLANS[task].make(config).student
    lacking = checkpoint.expected_absent(model.state_dict(), weights, kind)
    checkpoint.fit_weights(model, resized(weights, config) | lacking, run)
    return model.eval(), tokenizer, kind


def listed(task: str, folder: Path, answers: Path | None, free: bool) -> list[str] | None:
    """The answers to choose among, by default the set's; None to write freely, and for other tasks than VQA.

    Raises ValueError for a list that is not there, or that nothing asks for.
    """
    if task != "vqa" or free:
        if answers:
            raise ValueError(f"{answers} is of no use to {task}{' that writes freely' * free}; leave --answers out")
        return None
    if not (path := answers or folder / "answers.json").exists():
        raise ValueError(f"{path} is not there: name a list of answers with --answers, or let the model write with --free")
    return public.answer_list(path)


def evaluate_public(run: Path, data: str | Path, split: str = "test", out: Path | None = None, answers: Path | None = None,
                    free: bool = False, image_size: int | None = None, top: int = 0, layer: int | str | None = None,
                    original: bool = False, tuned: Sequence[str] = (), batch: int = 32, workers: int = 0,
                    command: str = "") -> dict | None:
    """Examine a run on a prepared split, and write report.json: -> the report, None in all processes but the first.

    data: a folder of `minalbef prepare`, whose records say the task
    out: where to write, by default RUN/SET-SPLIT, of the shipped model in runs/tiny
    answers: VQA's list, by default the set's; free: write answers instead. top, by default the paper's for the set, layer,
    original, batch, workers: see public_exam.How. tuned: the sets that a run was trained on, where it does not say
    VQA's answers go to vqa_result.json, as the official server takes them.
    Raises ValueError for a run of another task, and for a picture that cannot be read.
    """
    clock, (folder, split) = time.perf_counter(), place_of(data, split)
    records, name = Records(folder, split), read_about(folder)["set"]
    task = task_of(records.kind)
    chosen = listed(task, folder, answers, free)
    model, tokenizer, kind = load_model(task, run, image_size)
    config = getattr(model, "albef", model).config
    top = top or preset(PRESETS.get(name, PLANS[task].preset)).top
    how = How(batch, workers, distributed.start("cpu" if config.device == "cpu" else "auto"), top, chosen, original, layer)
    samples, more = PLANS[task].examine(model.to(how.device), tokenizer, records, how)
    simple = samples.pop("baselines", None)
    figures, intervals, counts = exam.summarise({"test": samples} | ({"baselines": simple} if simple else {}))
    written, out = None, out or checkpoint.output_folder(run) / f"{name}-{split}"
    if distributed.rank() == 0:
        if (submission := more.pop("submission", None)) is not None:
            write_atomically(out / "vqa_result.json", lambda path: path.write_text(json.dumps(submission) + "\n"))
        seen = trained_on(run)
        again = hash_of(folder, split) in {**(seen["pretrained"] or {}), **seen["tuned"]}.values()
        if tuned:
            seen["pretrained" if kind == "pretrain" else "tuned"] = dict.fromkeys(tuned)
        words = public_exam.protocol(kind, name, split, [*seen["tuned"]], seen["pretrained"], again)
        about = {"run": str(run), "set": name, "split": split, "protocol": words, **more}
        written = report.write_report(out, task, {**about, **figures, "intervals": intervals, "counts": counts}, config,
                                      {"evaluate": time.perf_counter() - clock}, command, config.seed)
    distributed.stop()
    return written
