"""The tasks on prepared public sets: fine-tuned from a run and evaluated, on one rank or many."""
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from torch.utils.data import ConcatDataset, Dataset

from minalbef import checkpoint, distributed
from minalbef.checkpoint import TRAINED_ON, write_atomically
from minalbef.config import Config, nearest, read_changes, replace_checked
from minalbef.datasets import public
from minalbef.datasets.loader import RecordBatches, count_unreadable
from minalbef.datasets.store import Records, read_about
from minalbef.evaluation import intervals
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import forecast, report
from minalbef.recipes.finetune import finetune
from minalbef.tasks.base import TASKS, load_model

# what a fine-tuned run takes from its source: sizes, which are fixed, and settings that you can change
SIZES = ("patch_size image_width image_depth image_heads image_mlp_ratio stem vocab_size positions text_width "
         "text_depth text_heads text_mlp_ratio fusion_depth fuse_cls embed_dim").split()
KEPT = [*SIZES, "pos_scale", "dropout", "init_std", "queue_size", "equal_texts_match"]
PRESETS = {"coco": "retrieval-coco", "flickr30k": "retrieval-flickr"}            # retrieval's, by set


# data


def place_of(data: str | Path, split: str) -> tuple[Path, str]:
    """prepared/coco, or one of its splits, as prepared/coco/test -> the folder and the split, by default `split`."""
    path = Path(data)
    named = not (path / "about.json").exists() and (path.parent / "about.json").exists()
    return (path.parent, path.name) if named else (path, split)


def open_records(task: str, data: Sequence[str | Path], split: str) -> Dataset:
    """Records of prepared sets, one after the other. Raises ValueError for records of another task."""
    opened = [Records(*place_of(one, split)) for one in data]
    for records in opened:
        if records.kind not in (kinds := TASKS[task].records):
            raise ValueError(f"{records.path} holds records of {records.kind.__name__}, and {task} learns from "
                             f"{' or '.join(kind.__name__ for kind in kinds)}: name a set prepared for it with --data")
    return opened[0] if len(opened) == 1 else ConcatDataset(opened)


def task_of(kind: type) -> str:
    """The task that records of a kind evaluate."""
    return next(task for task, row in TASKS.items() if row.evaluate and row.records[0] is kind)


# training


def recipe(task: str, data: Sequence[str | Path], source: Path, name: str = "", changes: Sequence[str] = ()) -> Config:
    """The settings to train with: the model's from its source, all others from the preset, and your changes.

    The batch is at most the source's, and images grow as in the paper, from 256 to 384 pixels, except after
    fine-tuning for retrieval or grounding, where the size stays.
    name: of the preset, by default the task's. Raises ValueError for what does not exist or does not fit together.
    """
    if task not in (tuned := [name for name, row in TASKS.items() if row.begin]):
        raise ValueError(f"no task {task!r}{nearest(task, tuned)}; there are {', '.join(tuned)}")
    base, kind, _, _ = checkpoint.read_run(source)
    if kind not in (begin := TASKS[task].begin):
        raise ValueError(f"{source} is a run of {kind}, and {task} begins from one of {', '.join(begin)}; "
                         "name it with --from")
    if not name:
        about = read_about(place_of(data[0], "train")[0])
        name = PRESETS.get(about.get("set"), TASKS[task].preset) if task == "retrieval" else TASKS[task].preset
    paper, size = preset(name), base.image_size
    if kind in ("pretrain", "text_assignment"):
        size = max(1, size * paper.image_size // Config.image_size // base.patch_size) * base.patch_size
    config = replace(paper, **{field: getattr(base, field) for field in KEPT}, name=f"{base.name}-{name}",
                     image_size=min(paper.image_size, size), batch=min(paper.batch, base.batch),
                     text_length=min(paper.text_length, base.positions), epoch=len(open_records(task, data, "train")))
    config = replace_checked(config, **read_changes(changes))
    for field in SIZES:
        if (value := getattr(config, field)) != (fixed := getattr(base, field)):
            raise ValueError(f"{field}={value}: the model of {source} has {fixed}, which training cannot change; "
                             "leave it out")
    return config


def finetune_public(task: str, data: Sequence[str | Path], source: Path, run: Path, name: str = "",
                    changes: Sequence[str] = (), workers: int = 0, most_bad: float = 0.01, quiet: bool = False) -> None:
    """Train a run for a task on prepared sets, into a run folder; called again, it resumes from the last checkpoint.

    task: one of TASKS. data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken
    source: a run folder, converted ones too. name: of the preset. workers, most_bad: see loader.RecordBatches
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    config = recipe(task, data, source, name, changes)
    if run.resolve() == Path(source).resolve():
        raise ValueError(f"{run} is the run to begin from, and would be overwritten; choose another folder with --run")
    distributed.start(config.device)
    records, tokenizer = open_records(task, data, "train"), checkpoint.read_run(source)[2]
    batches = RecordBatches(records, TASKS[task].collate, config, tokenizer, workers=workers, most_bad=most_bad,
                            folder=run)
    if distributed.rank() == 0:
        print(forecast.forecast(config, task), flush=True)
    finetune(task, batches, source, run, config, quiet)
    if distributed.rank() == 0:
        record_training(run, "tuned", data, trained_on(source))
    distributed.stop()


def record_training(run: Path, phase: str, data: Sequence[str | Path], before: dict) -> None:
    """Record in a run folder what it was trained on: `data`, and what the run that it began from records, `before`.

    phase: "pretrained" or "tuned". The hash of a split's records identifies it under another name, too.
    """
    splits = {f"{read_about(folder)['set']}/{split}": hash_of(folder, split)
              for folder, split in (place_of(one, "train") for one in data)}
    known = before | {phase: (before[phase] or {}) | splits, "unreadable": count_unreadable(run)}
    write_atomically(run / TRAINED_ON, lambda path: path.write_text(json.dumps(known, indent=1) + "\n"))


def trained_on(run: str | Path) -> dict:
    """{"pretrained": {"coco/train": hash}, "tuned": {}}; "pretrained" is None if unknown, as in converted runs."""
    path = Path(run) / TRAINED_ON
    return json.loads(path.read_text()) if path.exists() else {"pretrained": None, "tuned": {}}


def hash_of(folder: Path, split: str) -> str:
    """The hash of a prepared split's records."""
    with open(folder / f"{split}.jsonl", "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def listed(task: str, folder: Path, answers: Path | None, free: bool) -> list[str] | None:
    """The candidate answers, by default the set's; None for open-ended answers, and for other tasks than VQA.

    Raises ValueError for a list that is missing, or that isn't used.
    """
    if task != "vqa" or free:
        if answers:
            user = f"{task} that writes freely" if free else task
            raise ValueError(f"{answers} is of no use to {user}; leave --answers out")
        return None
    if not (path := answers or folder / "answers.json").exists():
        raise ValueError(f"{path} is not there: name a list of answers with --answers, or let the model write freely "
                         "with --free")
    return public.answer_list(path)


def evaluate_public(run: Path, data: str | Path, split: str = "test", out: Path | None = None,
                    answers: Path | None = None, free: bool = False, image_size: int | None = None, top: int = 0,
                    layer: int | str | None = None, original: bool = False, tuned: Sequence[str] = (),
                    batch: int = 32, workers: int = 0, command: str = "") -> dict | None:
    """Evaluate a run on a prepared split, and write report.json: -> the report, on rank 0 alone, None elsewhere.

    data: a folder of `minalbef prepare`, whose records decide the task
    out: where to write, by default RUN/SET-SPLIT, for the shipped model in runs/tiny
    answers: VQA's candidates, by default the set's; free: open-ended answers instead
    top (by default the paper's for the set), layer, original, batch, workers: see evaluation.loop.How
    tuned: the sets that the run was trained on, if it doesn't record them
    VQA's answers go to vqa_result.json, in the official server's format.
    Raises ValueError for a run of another task, and for an image that cannot be read.
    """
    clock, (folder, split) = time.perf_counter(), place_of(data, split)
    records, name = Records(folder, split), read_about(folder)["set"]
    task = task_of(records.kind)
    chosen = listed(task, folder, answers, free)
    model, tokenizer, kind = load_model(task, run, image_size)
    config = getattr(model, "albef", model).config
    top = top or preset(PRESETS.get(name, TASKS[task].preset)).top
    how = How(batch, workers, distributed.start("cpu" if config.device == "cpu" else "auto"), top=top,
              answers=chosen, original=original, layer=layer)
    samples, more = TASKS[task].evaluate(model.to(how.device), tokenizer, records, how)
    simple = samples.pop("baselines", None)
    figures, spans, counts = intervals.summarise({"test": samples} | ({"baselines": simple} if simple else {}))
    written, out = None, out or report.output_folder(run) / f"{name}-{split}"
    if distributed.rank() == 0:
        if (submission := more.pop("submission", None)) is not None:
            write_atomically(out / "vqa_result.json", lambda path: path.write_text(json.dumps(submission) + "\n"))
        seen = trained_on(run)
        again = hash_of(folder, split) in {**(seen["pretrained"] or {}), **seen["tuned"]}.values()
        if tuned:
            seen["pretrained" if kind == "pretrain" else "tuned"] = dict.fromkeys(tuned)
        words = protocol(kind, name, split, [*seen["tuned"]], seen["pretrained"], again)
        about = {"run": str(run), "set": name, "split": split, "protocol": words, **more}
        written = report.write_report(out, task, {**about, **figures, "intervals": spans, "counts": counts}, config,
                                      {"evaluate": time.perf_counter() - clock}, command, config.seed)
    distributed.stop()
    return written


# in words


def protocol(kind: str, name: str, split: str, tuned: Sequence[str], pretrained: Iterable[str] | None = (),
             again: bool = False) -> str:
    """In words, what a run was trained on, and whether that includes the test set.

    tuned, pretrained: sets or splits; pretrained=None: not recorded. again: they include the split, under any name
    """
    if kind != "pretrain" and not tuned:
        return f"fine-tuned for {kind}, on which set the run does not say: name it with --tuned-on"
    if kind == "pretrain" and pretrained is None:
        return "the pretrained model as it is; what it was trained on is not recorded: name it with --tuned-on"
    phases = {"pretrained": pretrained, "fine-tuned": tuned}
    parts = [f"{phase} on {', '.join(sorted(sets))}" for phase, sets in phases.items() if sets]
    words = ", ".join(parts) or "the pretrained model as it is"
    seen = [*(pretrained or ()), *tuned]
    if again or f"{name}/{split}" in seen:
        return f"{words}: it was trained on what it is asked here"
    if name in {one.partition("/")[0] for one in tuned}:
        return words
    if name in {one.partition("/")[0] for one in seen}:
        return f"{words}: not zero-shot, for it was pretrained on {name}"
    unsaid = "; what it was pretrained on is not recorded" if pretrained is None else ""
    return f"zero-shot: {words}{f', not on {name}' if seen else ''}{unsaid}"


def table(found: dict) -> str:
    """A report of `evaluate_public` as text: each figure with its 95% interval and chance level, and the protocol."""
    lines = [f"{found['task']} on {found['set']}/{found['split']}, {found['protocol']}"]
    def add(where: str, figures: dict, intervals: dict, chance: dict):
        for key, value in figures.items():
            if isinstance(value, dict):
                add(f"{where}{key} ", value, intervals[key], chance.get(key, {}))
            else:
                low, high = intervals[key]
                guessed = f"  chance {100 * chance[key]:.2f}" if key in chance else ""
                lines.append(f"  {where + key.replace('_', ' '):36} {100 * value:6.2f}  "
                             f"({100 * low:.2f} to {100 * high:.2f}){guessed}")
    for part, where, chance in (("test", "", found.get("chance", {})), ("baselines", "baseline: ", {})):
        add(where, found.get(part, {}), found["intervals"].get(part, {}), chance)
    if found.get("lacking"):
        lines.append(f"  {found['lacking']:,} questions have none of their answers among the "
                     f"{found['answers']:,} listed")
    lines += [f"  layer {layer}: {100 * figure:.2f}" for layer, figure in found.get("layers", {}).items()]
    if found["task"] == "vqa" and not found["test"]:
        lines.append("  the right answers are secret: send vqa_result.json to the official server")
    return "\n".join(lines)
