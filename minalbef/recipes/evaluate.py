"""Evaluation of a run, written to report.json.

`evaluate` is the one way there. What it evaluates is one of three things: unseen scenes, where a
pretrained run gets the figures of `scenes.evaluation` and a fine-tuned run those of its baselines,
too; minimal pairs of scenes; or a prepared set.
"""
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.datasets import public
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.datasets.tokens import with_tokens
from minalbef.evaluation import choices, intervals, loop, validation
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.recipes.finetune import at_size
from minalbef.recipes.provenance import hash_of, protocol_of
from minalbef.recipes.vocabulary import cut_warning
from minalbef.scenes import evaluation, questions, task_problems
from minalbef.scenes.records import minimal_pairs
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint, distributed
from minalbef.system.limits import check_range
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.writing import write_text
from minalbef.tasks.retrieval import LENGTH
from minalbef.tasks.run import Run, load
from minalbef.tasks.table import TASKS, load_model
from minalbef.weights import starts

LOG = logging.getLogger("minalbef")
CHOICE = "choice"                     # among captions, by the ITC and ITM of a pretrained model


class Result(NamedTuple):
    """What an evaluation hands to the report, and where that goes."""

    task: str
    config: Config
    figures: dict                     # with intervals and counts, and what else the report says
    out: Path
    seconds: dict[str, float] = {}    # of training, by phase


def evaluate(run: str | Path, data: str | Path | None = None, out: str | Path | None = None,
             command: str = "", pairs: bool = False, **options: Any) -> dict | None:
    """Evaluate a run and write report.json: -> the report, in the first process only.

    data: a folder of `minalbef prepare`, or a split of it, by default its "test"; None: the
        embedded scenes, for a run that was trained on them
    out: where to write, by default the run's folder (of the shipped model, runs/tiny); in it,
        evaluation/ for a partial evaluation, and for a set see `report.set_folder`
    pairs: of scenes, minimal pairs alone
    options: those of `measure_set`, without data those of `measure_scenes` or `measure_pairs`
    VQA's answers go to vqa_result.json, in the official server's format.
    """
    clock = time.perf_counter()
    folder = checkpoint.run_folder(run)
    target = Path(out) if out else None
    if data is not None:
        result = measure_set(folder, data, target, **options)
    elif pairs:
        result = measure_pairs(folder, target, **options)
    else:
        result = measure_scenes(folder, target, **options)
    written = None
    if distributed.rank() == 0:
        seconds = {**result.seconds, "evaluate": time.perf_counter() - clock}
        written = write_result(folder, result, seconds, command)
    distributed.leave()
    return written


def write_result(run: Path, result: Result, seconds: dict[str, float], command: str) -> dict:
    """Write report.json and VQA's answers: -> the report.

    It has the step if training hasn't ended, and the figures in validation of what was evaluated.
    Warns of figures that are no better than chance, and of parts of a run that were never trained,
    such as the match head without ITM.
    """
    figures = dict(result.figures)
    if untrained := checkpoint.untrained_parts(run):
        by_itm = result.task != "retrieval" or "rerank" in figures["r_mean"]
        LOG.warning("%s never trained its %s: %s", run, ", ".join(untrained),
                    "figures that rest on it come from random weights" if by_itm
                    else "ITC alone ranks")
    if answers := figures.pop("submission", None):
        write_text(result.out / "vqa_result.json", json.dumps(answers) + "\n")
    if in_validation := validation.figures_of(run):
        figures["validation"] = in_validation
    figures["weights"] = checkpoint.hash_of_weights(run)
    step = checkpoint.open_run(run).step
    if step is not None:
        figures["step"] = step
    written = report.write_report(result.out, result.task, figures, result.config, seconds, command)
    LOG.info("%s holds the figures", result.out / "report.json")
    if names := at_chance(figures):
        LOG.warning("no better than chance, by their 95%% intervals: %s", ", ".join(names))
    return written


def evaluate_records(run: Run, records: loop.Records, task: str, how: How) -> dict:
    """Evaluate any records by their task: -> figures with intervals and counts, and what else the
    report says.

    task: a name of TASKS, or CHOICE; the model must be that task's, and on how.device
    """
    with distributed.autocast(how.device, how.precision):
        if task == CHOICE:
            how = replace(how, weight=report.similarity_weight(run.path))
            samples, more = choices.evaluate_choices(run, records, how)
        else:
            measure: Any = TASKS[task].evaluate
            samples, more = measure(run.model, run.tokenizer, records, how)
    parts = {"test": samples}
    if baselines := samples.pop("baselines", None):
        parts["baselines"] = baselines
    return more | summarise(parts)


def summarise(parts: dict) -> dict:
    """Samples as the report's figures, with their intervals and counts."""
    figures, spans, counts = intervals.summarise(parts)
    return {**figures, "intervals": spans, "counts": counts}


# scenes


def measure_scenes(folder: Path, out: Path | None = None, source: Path | None = None,
                   seed: int = 0, size: float = 1.0, split: str = "test",
                   among: int | None = None) -> Result:
    """Evaluate a run of scenes on unseen ones, on a GPU if there is one.

    source: the pretrained run that a fine-tuned one started from, for its baselines; without it
        they are left out
    seed, size, split, among: see `evaluation.evaluate_scenes`
    Raises ValueError for a run that was not trained on the embedded scenes.
    """
    check_range(f"size={size}", size, 0.001, 1)
    opened = checkpoint.open_run(folder)
    config = opened.config
    task = opened.task
    if among and task != "pretrain":
        raise ValueError(f"--among is for runs of pretraining; {folder} is a fine-tuned run, whose "
                         "test set is fixed")
    questions.need_scenes(config, folder)
    whole = (seed, size, split, among) == (0, 1, "test", None)
    out = out or report.output_folder(folder, whole)
    seconds = {"train": report.train_seconds(folder)}
    if task != "pretrain":
        seconds["train"] += report.train_seconds(folder / "assign")
        figures = evaluate_task(task, folder, source, seed, size, split)
        return Result(task, config, figures, out, seconds)
    seconds = {"warm_start": report.train_seconds(folder / "warm"), **seconds}
    device = distributed.device_at_hand(config.device)
    run = load(folder)
    run.model.to(device)
    figures = evaluation.evaluate_scenes(run, seed, size, split, among or evaluation.BLOCK)
    if (folder / "start").exists():
        start = load(folder / "start")
        start.model.to(device)
        figures["start"] = evaluation.evaluate_start(start, seed, size, split)
    return Result(task, config, figures, out, seconds)


def evaluate_task(task: str, folder: Path, source: Path | None, seed: int, size: float,
                  split: str) -> dict:
    """The figures of a fine-tuned run and of every baseline there is, with intervals.

    A map or the like that was chosen on validation problems is noted as "map".
    """
    model, tokenizer, _ = load_model(task, folder)
    albef: Any = getattr(model, "albef", model)
    draw = task_problems.draws(albef.config, split, seed, size)
    result = task_problems.evaluate_problems(task, model, tokenizer, draw)
    baselines = dict(result.baselines)
    if without_model := SCENE_TASKS[task].baselines:
        baselines |= without_model(draw)
    torch.manual_seed(seed)                              # of random weights
    for name, baseline, words, hide in baseline_models(task, model, tokenizer, folder, source):
        baselines[name] = task_problems.evaluate_problems(task, baseline, words, draw, hide).samples
    figures = summarise({"test": result.samples, "baselines": baselines})
    if result.options:
        figures["map"] = result.options
    return {**figures, "source": str(source or ""), "split": split, "scenes_seed": seed}


def baseline_models(task: str, model: nn.Module, tokenizer: Tokenizer, folder: Path,
                    source: Path | None) -> Iterator[tuple[str, nn.Module, Tokenizer, str]]:
    """The models that a fine-tuned run is compared with: name, model, tokenizer, hidden input."""
    albef: Any = getattr(model, "albef", model)
    config = albef.config
    for name, differs in SCENE_TASKS[task].trained_baselines.items():
        if (folder / name / "model.safetensors").exists():
            yield name, load_model(task, folder / name)[0], tokenizer, differs.get("hide", "")
    for name, (which, hide) in SCENE_TASKS[task].untrained_baselines.items():
        if which == "tuned":
            yield name, model, tokenizer, hide
        elif which == "random":
            yield name, ALBEF(config).eval(), tokenizer, hide
        elif source:
            path = source / "start" if which == "start" else source
            if path.exists():
                run = load(path)         # the start that ships with `tiny` has its own vocabulary
                own = replace(config, vocab_size=run.config.vocab_size)
                yield name, at_size(run.model, own), run.tokenizer, hide


def measure_pairs(folder: Path, out: Path | None = None, seed: int = 0, size: float = 1.0,
                  split: str = "test") -> Result:
    """Evaluate a run of scenes on 500 minimal pairs of each kind.

    seed, size, split: see `evaluation.evaluate_scenes`
    out: by default RUN/minimal-pairs-SPLIT
    Raises ValueError for a run that wasn't trained on scenes, and for one without ITC and ITM.
    """
    run = open_for("retrieval", folder)
    questions.need_scenes(run.config, folder)
    device = distributed.device_at_hand(run.config.device)
    run.model.to(device)
    source = questions.scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    pairs = minimal_pairs(source, max(4, int(500 * size)))
    figures = evaluate_records(run, pairs, CHOICE, How(device=device))
    about = {"set": "minimal-pairs", "split": split, "scenes_seed": seed,
             "protocol": "newly drawn scenes"}
    out = out or report.output_folder(folder) / f"minimal-pairs-{report.component(split)}"
    return Result(CHOICE, run.config, figures | about, out)


# prepared sets


def open_for(task: str, folder: Path) -> Run:
    """A run with its model for a task."""
    model: Any
    model, tokenizer, trained_for = load_model(task, folder)
    config = getattr(model, "albef", model).config
    return Run(model, tokenizer, config, folder, trained_for)


def candidate_answers(task: str, folder: Path, answers: Path | None, free: bool
                      ) -> list[str] | None:
    """The answers to choose among, by default the set's.

    None for open-ended answers, and for a task that doesn't choose among answers.
    Raises ValueError for a list that is missing, or that isn't used.
    """
    writes = free or TASKS[task].candidates != "answers"
    if writes and answers:
        raise ValueError(f"{answers}: {task} doesn't choose among answers here; leave --answers "
                         "out")
    if writes:
        return None
    path = answers or folder / "answers.json"
    if not path.exists():
        raise ValueError(f"{path} is not there: name a list of answers with --answers, or let the "
                         "model write freely with --free; a set that is prepared with its training "
                         "questions has a list of their answers")
    return public.answer_list(path)


def measure_set(run: Path, data: str | Path, out: Path | None = None, split: str = "test",
                answers: Path | None = None, free: bool = False, top: int = 0,
                layer: int | str | None = None, original: bool = False,
                tuned_on: Sequence[str] = (), batch: int = 32, workers: int = 0,
                precision: str = "auto") -> Result:
    """Evaluate a run on a prepared split, whose records decide the task: it may be CHOICE.

    answers: VQA's candidates, by default the set's; free: open-ended answers instead
    top (by default the paper's for the set), layer, original, batch, workers, precision: see
        loop.How
    tuned_on: the sets that the run was trained on, if it doesn't record them
    Raises ValueError for a run of another task, and for an image that cannot be read.
    """
    folder, split = place_of(data, split)
    records = Records(folder, split)
    name = read_about(folder)["set"]
    manifest = hash_of(folder, split)
    out = out or report.set_folder(run, name, split, manifest)
    kinds = [task for task, row in TASKS.items()
             if row.evaluate and row.records[0] is records.kind]
    task = next(iter(kinds), CHOICE)
    model_task = "retrieval" if task == CHOICE else task     # choices are by ITC and ITM, too
    candidates = candidate_answers(model_task, folder, answers, free)
    loaded = open_for(model_task, run)
    config = loaded.config
    device = distributed.join("cpu" if config.device == "cpu" else "auto")
    precision = distributed.precision_on(device, precision)
    recipe = TASKS[model_task].preset_of_set.get(name, TASKS[model_task].preset)
    if not top:
        top = preset(recipe).top if recipe else config.top
    has_itm = not {"fusion", "match_head"} & {*checkpoint.untrained_parts(run)}
    how = How(batch, workers, device, precision, top=top, itm=has_itm, answers=candidates,
              original=original, layer=layer)
    loaded.model.to(device)
    starts.freeze(loaded.model, config)          # so that tokens of its training serve here, too
    if task != CHOICE:                           # its records have several images
        albef: Any = getattr(loaded.model, "albef", loaded.model)
        records = with_tokens(records, albef, config.image_size, begin=False)
    if distributed.rank() == 0:
        length = min(LENGTH, config.positions) if task == "retrieval" else config.positions
        if warning := cut_warning(records, loaded.tokenizer, length):
            LOG.warning(warning)
    figures = evaluate_records(loaded, records, task, how)
    about = {"run": str(run), "set": name, "split": split, "manifest": manifest,
             "protocol": protocol_of(run, loaded.task, name, split, manifest, tuned_on),
             "precision": precision}
    return Result(task, config, about | figures, out)


# in words


def flatten(figures: dict, spans: dict, chance: Any, title: str = ""
            ) -> Iterator[tuple[str, float, list[float], float | None]]:
    """Nested figures one by one: path, value, interval, and chance level if there is one.

    figures, spans: nested alike; chance: likewise, or a level for all below a name
    """
    for key, value in figures.items():
        name = f"{title} {key}".lstrip()
        level = chance.get(key) if isinstance(chance, dict) else chance
        if isinstance(value, dict):
            yield from flatten(value, spans[key], level, name)
        else:
            yield name, value, spans[key], level


def at_chance(report: dict) -> list[str]:
    """The names of a report's figures whose 95% interval isn't above their chance level."""
    spans = report["intervals"].get("test", {})
    figures = flatten(report.get("test", {}), spans, report.get("chance", {}))
    names = []
    for name, _, (low, _), chance in figures:
        if chance is not None and low <= chance < 1:
            names.append(name)
    return names


def table(results: dict) -> str:
    """A report of records as text: its protocol, and each figure with its 95% interval and chance
    level."""
    if results["task"] == CHOICE:
        return choices.table(results)
    lines = [f"{results['task']} on {results['set']}/{results['split']}, {results['protocol']}"]
    lines += figure_lines(results)
    for way, figure in results.get("r_mean", {}).items():
        lines.append(f"  {way + ' r mean':36} {100 * figure:6.2f}")
    if results.get("lacking"):
        lines.append(f"  {results['lacking']:,} questions have none of their answers among the "
                     f"{results['answers']:,} listed")
    for layer, figure in results.get("layers", {}).items():
        lines.append(f"  --layer {layer}: {100 * figure:.2f}")
    if "validation" in results:
        lines.append("  " + validation.validation_line(results["validation"]))
    if not results["test"]:
        lines.append("  the right answers are secret: send vqa_result.json to the official server")
    return "\n".join(lines)


def figure_lines(results: dict) -> list[str]:
    """A line for each figure of a report's test and baselines."""
    spans = results["intervals"]
    figures = [*flatten(results.get("test", {}), spans.get("test", {}), results.get("chance", {})),
               *flatten(results.get("baselines", {}), spans.get("baselines", {}), {}, "baseline:")]
    lines = []
    for name, value, (low, high), chance in figures:
        line = (f"  {name.replace('_', ' '):36} {100 * value:6.2f}  "
                f"({100 * low:.2f} to {100 * high:.2f})")
        lines.append(line if chance is None else f"{line}  chance {100 * chance:.2f}")
    return lines
