"""Evaluation: a run on the embedded test set, after pretraining or a task, or on a prepared set; to report.json."""
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minalbef import checkpoint, distributed
from minalbef.albef import ALBEF
from minalbef.checkpoint import write_atomically
from minalbef.config import check_range
from minalbef.datasets import public
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.evaluation import choices, intervals
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.recipes.finetune import at_size
from minalbef.recipes.provenance import hash_of, protocol, trained_on
from minalbef.run import Run, load
from minalbef.scenes import evaluation, questions, task_problems
from minalbef.scenes.records import minimal_pairs
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.tasks.table import TASKS, load_model

LOG = logging.getLogger("minalbef")


def evaluate(run: str | Path, data: str | Path | None = None, out: str | Path | None = None,
             **options: Any) -> dict | None:
    """Evaluate a run and write report.json: -> the report, in the first process alone.

    data: a folder of `minalbef prepare`, or a split of it, by default its "test"; None: the embedded scenes, for a
        run that was trained on them
    out: where to write, by default the run's folder, or in it evaluation/ for a part of the test and SET-SPLIT for a
        set; of the shipped model in runs/tiny
    options: those of `evaluate_set`, or without data of `evaluate_run`
    """
    run, out = checkpoint.run_folder(run), Path(out) if out else None
    if data is not None:
        return evaluate_set(run, data, out=out, **options)
    check_range(f"size={options.get('size', 1)}", options.get("size", 1), 0.001, 1)
    part = options.keys() & {"seed", "size", "split", "among"}
    return evaluate_run(run, out=out or report.output_folder(run, whole=not part), **options)


def evaluate_run(folder: Path, command: str = "", source: Path | None = None, seed: int = 0, size: float = 1.0,
                 split: str = "test", among: int | None = None, out: Path | None = None) -> dict:
    """Evaluate a run of scenes on unseen ones, on a GPU if there is one; write report.json. -> the report

    source: the pretrained run that a task's began from, for its baselines; without it they are left out
    seed, size, split, among: see `evaluation.evaluate`. out: where to write, by default the run's folder
    Raises ValueError for a run that was not trained on the embedded scenes.
    """
    clock = time.perf_counter()
    config, kind, _, _, step = checkpoint.open_run(folder)
    if among and kind != "pretrain":
        raise ValueError(f"--among is for runs of pretraining; {folder} is one of a task, whose test set is fixed")
    questions.need_scenes(config, folder)
    warn_of_untrained(folder)
    if kind == "pretrain":
        figures = evaluation.evaluate(_on_device(folder), seed, size, split, among or evaluation.BLOCK)
        if (folder / "start").exists():
            figures["start"] = evaluation.evaluate_start(_on_device(folder / "start"), seed, size, split)
        seconds = {"warm_start": report.train_seconds(folder / "warm"), "train": report.train_seconds(folder)}
    elif kind in SCENE_TASKS:
        figures = evaluate_task(kind, folder, source, seed, size, split)
        seconds = {"train": report.train_seconds(folder) + report.train_seconds(folder / "assign")}
    else:
        raise ValueError(f"{folder} is a run of {kind}; `minalbef finetune` makes those of {', '.join(SCENE_TASKS)}")
    if step is not None:                                         # training hasn't ended
        figures["step"] = step
    seconds["evaluate"] = time.perf_counter() - clock
    return report.write_report(out or folder, kind, figures, config, seconds, command, config.seed)


def warn_of_untrained(run: Path) -> None:
    """Say which parts of a run its training never reached, as the match head's without ITM."""
    if untrained := checkpoint.untrained_parts(run):
        LOG.warning(f"{run} never trained its {', '.join(untrained)}: figures that rest on it are of random weights")


def _on_device(folder: Path) -> Run:
    run = load(folder)
    run.model.to(distributed.device_at_hand(run.config.device))
    return run


def evaluate_task(task: str, folder: Path, source: Path | None, seed: int = 0, size: float = 1.0,
                  split: str = "test") -> dict:
    """The figures of a fine-tuned run and of every baseline there is, with intervals.

    A map or the like that was chosen on validation problems is noted as "map".
    """
    model, tokenizer, _ = load_model(task, folder)
    scene_task, config = SCENE_TASKS[task], getattr(model, "albef", model).config
    draw = task_problems.draws(config, split, seed, size)
    found = task_problems.evaluate(task, model, tokenizer, draw)
    baselines = dict(found.baselines)
    if scene_task.baselines:
        baselines |= scene_task.baselines(draw)
    torch.manual_seed(seed)                              # of random weights
    for name, other, hide in baseline_models(task, model, folder, source):
        baselines[name] = task_problems.evaluate(task, other, tokenizer, draw, hide).samples
    figures, spans, counts = intervals.summarise({"test": found.samples, "baselines": baselines})
    if found.chosen:
        figures["map"] = found.chosen
    return figures | dict(source=str(source or ""), split=split, scenes_seed=seed, intervals=spans, counts=counts)


def baseline_models(task: str, model: nn.Module, folder: Path, source: Path | None
                    ) -> Iterator[tuple[str, nn.Module, str]]:
    """The models that a task's run is compared with, where there are any: name, model, hidden input."""
    config = getattr(model, "albef", model).config
    for name, differs in SCENE_TASKS[task].trained.items():
        if (folder / name / "model.safetensors").exists():
            yield name, load_model(task, folder / name)[0], differs.get("hide", "")
    for name, (which, hide) in SCENE_TASKS[task].untrained.items():
        if which == "tuned":
            yield name, model, hide
        elif which == "random":
            yield name, ALBEF(config).eval(), hide
        elif source:
            run = source / "start" if which == "start" else source
            if run.exists():
                yield name, at_size(load(run).model, config), hide


def listed(task: str, folder: Path, answers: Path | None, free: bool) -> list[str] | None:
    """The candidate answers, by default the set's; None for open-ended answers, and for tasks that choose none.

    Raises ValueError for a list that is missing, or that isn't used.
    """
    if TASKS[task].candidates != "answers" or free:
        if answers:
            user = f"{task} that writes freely" if free else task
            raise ValueError(f"{answers} is of no use to {user}; leave --answers out")
        return None
    if not (path := answers or folder / "answers.json").exists():
        raise ValueError(f"{path} is not there: name a list of answers with --answers, or let the "
                         "model write freely with --free; a set that is prepared with its training "
                         "questions has a list of their answers")
    return public.answer_list(path)


def evaluate_set(run: Path, data: str | Path, split: str = "test", out: Path | None = None,
                 answers: Path | None = None, free: bool = False, image_size: int | None = None, top: int = 0,
                    layer: int | str | None = None, original: bool = False, tuned: Sequence[str] = (),
                    batch: int = 32, workers: int = 0, command: str = "") -> dict | None:
    """Evaluate a run on a prepared split, and write report.json: -> the report, on rank 0 alone, None elsewhere.

    data: a folder of `minalbef prepare`, whose records decide the task, or that it is a choice among captions
    out: where to write, by default RUN/SET-SPLIT, for the shipped model in runs/tiny
    answers: VQA's candidates, by default the set's; free: open-ended answers instead
    top (by default the paper's for the set), layer, original, batch, workers: see evaluation.loop.How
    tuned: the sets that the run was trained on, if it doesn't record them
    VQA's answers go to vqa_result.json, in the official server's format.
    Raises ValueError for a run of another task, and for an image that cannot be read.
    """
    clock, (folder, split) = time.perf_counter(), place_of(data, split)
    records, name = Records(folder, split), read_about(folder)["set"]
    choice = records.kind is choices.ChoiceRecord                # scored by ITC and ITM, as retrieval is
    task = "retrieval" if choice else next(
        task for task, row in TASKS.items() if row.evaluate and row.records[0] is records.kind)
    candidates = listed(task, folder, answers, free)
    model, tokenizer, kind = load_model(task, run, image_size)
    if distributed.rank() == 0:
        warn_of_untrained(run)
    config = getattr(model, "albef", model).config
    recipe = TASKS[task].preset_of_set.get(name, TASKS[task].preset)
    top = top or (preset(recipe).top if recipe else config.top)
    how = How(batch, workers, distributed.start("cpu" if config.device == "cpu" else "auto"), top=top,
              answers=candidates, original=original, layer=layer)
    model.to(how.device)
    samples, more = (choices.evaluate(Run(model, tokenizer, config, run),
                                      records, replace(how, weight=report.similarity_weight(run))) if choice else
                     TASKS[task].evaluate(model, tokenizer, records, how))
    simple = samples.pop("baselines", None)
    figures, spans, counts = intervals.summarise({"test": samples} | ({"baselines": simple} if simple else {}))
    written, out = None, out or report.output_folder(run) / f"{name}-{split}"
    if distributed.rank() == 0:
        if (submission := more.pop("submission", None)) is not None:
            text = json.dumps(submission) + "\n"
            write_atomically(out / "vqa_result.json", lambda path: path.write_text(text, encoding="utf-8"))
        seen = trained_on(run)
        again = hash_of(folder, split) in {**(seen["pretrained"] or {}), **seen["tuned"]}.values()
        if tuned:
            seen["pretrained" if kind == "pretrain" else "tuned"] = dict.fromkeys(tuned)
        words = protocol(kind, name, split, [*seen["tuned"]], seen["pretrained"], again)
        about = {"run": str(run), "set": name, "split": split, "protocol": words, **more}
        if (step := checkpoint.open_run(run).step) is not None:          # training hasn't ended
            about["step"] = step
        written = report.write_report(out, "choice" if choice else task,
                                      {**about, **figures, "intervals": spans, "counts": counts}, config,
                                      {"evaluate": time.perf_counter() - clock}, command, config.seed)
    distributed.stop()
    return written


def evaluate_pairs(folder: Path, command: str = "", seed: int = 0, size: float = 1.0, split: str = "test",
                   out: Path | None = None) -> dict:
    """Evaluate a run of scenes on 500 minimal pairs of each kind; write report.json: -> the report.

    seed, size, split: see `evaluation.evaluate`. out: where to write, by default RUN/minimal-pairs-SPLIT
    Raises ValueError for a run of something else than scenes, and for one without ITC and ITM.
    """
    clock, (model, tokenizer, _) = time.perf_counter(), load_model("retrieval", folder)
    warn_of_untrained(folder)
    questions.need_scenes(config := model.config, folder)
    run = Run(model.to(device := distributed.device_at_hand(config.device)), tokenizer, config, folder)
    source = questions.scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    samples, more = choices.evaluate(run, minimal_pairs(source, max(4, int(500 * size))),
                                     How(device=device, weight=report.similarity_weight(folder)))
    figures, spans, counts = intervals.summarise({"baselines": samples.pop("baselines"), "test": samples})
    more |= {"set": "minimal-pairs", "split": split, "scenes_seed": seed, "protocol": "newly drawn scenes"}
    return report.write_report(out or report.output_folder(folder) / f"minimal-pairs-{split}", "choice",
                               {**more, **figures, "intervals": spans, "counts": counts}, config,
                               {"evaluate": time.perf_counter() - clock}, command, config.seed)


def table(found: dict) -> str:
    """A report of `evaluate_set` as text: each figure with its 95% interval and chance level, and the protocol."""
    if found["task"] == "choice":
        return choices.table(found)
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
    lines += [f"  {way + ' r mean':36} {100 * figure:6.2f}" for way, figure in found.get("r_mean", {}).items()]
    if found.get("lacking"):
        lines.append(f"  {found['lacking']:,} questions have none of their answers among the "
                     f"{found['answers']:,} listed")
    lines += [f"  --layer {layer}: {100 * figure:.2f}" for layer, figure in found.get("layers", {}).items()]
    if not found["test"]:
        lines.append("  the right answers are secret: send vqa_result.json to the official server")
    return "\n".join(lines)
