"""Evaluation of a run, written to report.json.

`evaluate_records` evaluates any records, of a prepared set or of scenes, by their task. On scenes,
a pretrained run gets the figures of `scenes.evaluation`, and a fine-tuned run those of its
baselines, too.
"""
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.datasets import public
from minalbef.datasets.store import Records, place_of, read_about
from minalbef.evaluation import choices, intervals, loop, validation
from minalbef.evaluation.loop import How
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.recipes.finetune import at_size
from minalbef.recipes.provenance import hash_of, protocol, trained_on
from minalbef.recipes.vocabulary import cut_warning
from minalbef.scenes import evaluation, questions, task_problems
from minalbef.scenes.records import minimal_pairs
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system import checkpoint, distributed
from minalbef.system.checkpoint import write_atomically
from minalbef.system.limits import check_range
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.retrieval import LENGTH
from minalbef.tasks.run import Run, load
from minalbef.tasks.table import TASKS, load_model

LOG = logging.getLogger("minalbef")
CHOICE = "choice"                     # among captions, by the ITC and ITM of a pretrained model


def evaluate(run: str | Path, data: str | Path | None = None, out: str | Path | None = None,
             **options: Any) -> dict | None:
    """Evaluate a run and write report.json: -> the report, in the first process only.

    data: a folder of `minalbef prepare`, or a split of it, by default its "test"; None: the
        embedded scenes, for a run that was trained on them
    out: where to write, by default the run's folder (of the shipped model, runs/tiny); in it,
        evaluation/ for a partial evaluation, and for a set see `report.set_folder`
    options: those of `evaluate_set`, or without data those of `evaluate_run`
    """
    folder = checkpoint.run_folder(run)
    target = Path(out) if out else None
    if data is not None:
        return evaluate_set(folder, data, out=target, **options)
    size = options.get("size", 1)
    check_range(f"size={size}", size, 0.001, 1)
    part = options.keys() & {"seed", "size", "split", "among"}
    target = target or report.output_folder(folder, whole=not part)
    return evaluate_run(folder, out=target, **options)


# what all evaluations share


def open_for(task: str, folder: Path) -> Run:
    """A run with its model for a task. Warns of parts that were never trained."""
    model: Any
    model, tokenizer, trained_for = load_model(task, folder)
    if distributed.rank() == 0:
        warn_of_untrained(folder)
    config = getattr(model, "albef", model).config
    return Run(model, tokenizer, config, folder, trained_for)


def warn_of_untrained(run: Path) -> None:
    """Warn of parts of a run that were never trained, such as the match head without ITM."""
    untrained = checkpoint.untrained_parts(run)
    if untrained:
        LOG.warning(f"{run} never trained its {', '.join(untrained)}: figures that rest on it "
                    "come from random weights")


def evaluate_records(run: Run, records: loop.Records, task: str, how: How) -> tuple[dict, dict]:
    """Evaluate any records by their task: -> figures with intervals and counts, and the rest of the
    report.

    task: a name of TASKS, or CHOICE; the model must be that task's, and on how.device
    """
    if task == CHOICE:
        how = replace(how, weight=report.similarity_weight(run.path))
        with distributed.autocast(how.device, how.precision):
            samples, more = choices.evaluate_choices(run, records, how)
    else:
        evaluate_task_records = TASKS[task].evaluate
        assert evaluate_task_records, f"{task} has no evaluation"
        with distributed.autocast(how.device, how.precision):
            samples, more = evaluate_task_records(run.model, run.tokenizer, records, how)
    parts = {"test": samples}
    if baselines := samples.pop("baselines", None):
        parts["baselines"] = baselines
    figures, spans, counts = intervals.summarise(parts)
    return figures | {"intervals": spans, "counts": counts}, more


def write_figures(run: Path, out: Path, task: str, figures: dict, config: Config,
                  seconds: dict[str, float], command: str) -> dict:
    """Write report.json: -> the report.

    It has the step if training hasn't ended, and the figures in validation of what was evaluated.
    """
    figures = dict(figures)
    if in_validation := validation.figures_of(run):
        figures["validation"] = in_validation
    figures["weights"] = checkpoint.hash_of_weights(run)
    step = checkpoint.open_run(run).step
    if step is not None:
        figures["step"] = step
    return report.write_report(out, task, figures, config, seconds, command)


# on scenes


def evaluate_run(folder: Path, command: str = "", source: Path | None = None, seed: int = 0,
                 size: float = 1.0, split: str = "test", among: int | None = None,
                 out: Path | None = None) -> dict:
    """Evaluate a run of scenes on unseen ones, on a GPU if there is one: -> the report.

    It is written to report.json.
    source: the pretrained run that a fine-tuned one started from, for its baselines; without it
        they are left out
    seed, size, split, among: see `evaluation.evaluate_scenes`
    out: where to write, by default the run's folder
    Raises ValueError for a run that was not trained on the embedded scenes.
    """
    clock = time.perf_counter()
    opened = checkpoint.open_run(folder)
    config = opened.config
    task = opened.task
    device = distributed.device_at_hand(config.device)
    if among and task != "pretrain":
        raise ValueError(f"--among is for runs of pretraining; {folder} is a fine-tuned run, whose "
                         "test set is fixed")
    questions.need_scenes(config, folder)
    warn_of_untrained(folder)
    seconds = {"train": report.train_seconds(folder)}
    if task == "pretrain":
        run = load(folder)
        run.model.to(device)
        figures = evaluation.evaluate_scenes(run, seed, size, split, among or evaluation.BLOCK)
        if (folder / "start").exists():
            start = load(folder / "start")
            start.model.to(device)
            figures["start"] = evaluation.evaluate_start(start, seed, size, split)
        seconds = {"warm_start": report.train_seconds(folder / "warm"), **seconds}
    else:
        figures = evaluate_task(task, folder, source, seed, size, split)
        seconds["train"] += report.train_seconds(folder / "assign")
    seconds["evaluate"] = time.perf_counter() - clock
    return write_figures(folder, out or folder, task, figures, config, seconds, command)


def evaluate_task(task: str, folder: Path, source: Path | None, seed: int = 0, size: float = 1.0,
                  split: str = "test") -> dict:
    """The figures of a fine-tuned run and of every baseline there is, with intervals.

    A map or the like that was chosen on validation problems is noted as "map".
    """
    model, tokenizer, _ = load_model(task, folder)
    scene_task = SCENE_TASKS[task]
    albef: Any = getattr(model, "albef", model)
    config = albef.config
    draw = task_problems.draws(config, split, seed, size)
    result = task_problems.evaluate_problems(task, model, tokenizer, draw)
    baselines = dict(result.baselines)
    if scene_task.baselines:
        baselines |= scene_task.baselines(draw)
    torch.manual_seed(seed)                              # of random weights
    for name, baseline, words, hide in baseline_models(task, model, tokenizer, folder, source):
        baselines[name] = task_problems.evaluate_problems(task, baseline, words, draw, hide).samples
    figures, spans, counts = intervals.summarise({"test": result.samples, "baselines": baselines})
    if result.options:
        figures["map"] = result.options
    return {**figures, "source": str(source or ""), "split": split, "scenes_seed": seed,
            "intervals": spans, "counts": counts}


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


def evaluate_pairs(folder: Path, command: str = "", seed: int = 0, size: float = 1.0,
                   split: str = "test", out: Path | None = None) -> dict:
    """Evaluate a run of scenes on 500 minimal pairs of each kind; write report.json: -> the report.

    seed, size, split: see `evaluation.evaluate_scenes`
    out: where to write, by default RUN/minimal-pairs-SPLIT
    Raises ValueError for a run that wasn't trained on scenes, and for one without ITC and ITM.
    """
    clock = time.perf_counter()
    run = open_for("retrieval", folder)
    questions.need_scenes(run.config, folder)
    device = distributed.device_at_hand(run.config.device)
    run.model.to(device)
    source = questions.scenes(run, split, seed, counts=(0.2, 0.4, 0.4))
    pairs = minimal_pairs(source, max(4, int(500 * size)))
    figures, more = evaluate_records(run, pairs, CHOICE, How(device=device))
    about = {"set": "minimal-pairs", "split": split, "scenes_seed": seed,
             "protocol": "newly drawn scenes"}
    seconds = {"evaluate": time.perf_counter() - clock}
    out = out or report.output_folder(folder) / f"minimal-pairs-{report.component(split)}"
    return write_figures(folder, out, CHOICE, more | about | figures, run.config, seconds, command)


# on prepared sets


def candidate_answers(task: str, folder: Path, answers: Path | None, free: bool
                      ) -> list[str] | None:
    """The answers to choose among, by default the set's.

    None for open-ended answers, and for a task that doesn't choose among answers.
    Raises ValueError for a list that is missing, or that isn't used.
    """
    if TASKS[task].candidates != "answers" or free:
        if not answers:
            return None
        user = f"{task} that writes freely" if free else task
        raise ValueError(f"{answers} is of no use to {user}; leave --answers out")
    path = answers or folder / "answers.json"
    if not path.exists():
        raise ValueError(f"{path} is not there: name a list of answers with --answers, or let the "
                         "model write freely with --free; a set that is prepared with its training "
                         "questions has a list of their answers")
    return public.answer_list(path)


def evaluate_set(run: Path, data: str | Path, split: str = "test", out: Path | None = None,
                 answers: Path | None = None, free: bool = False, top: int = 0,
                 layer: int | str | None = None, original: bool = False,
                 tuned_on: Sequence[str] = (), batch: int = 32, workers: int = 0,
                 precision: str = "auto", command: str = "") -> dict | None:
    """Evaluate a run on a prepared split and write report.json: -> the report on rank 0, else None.

    data: a folder of `minalbef prepare`, whose records decide the task; it may be a choice among
        captions
    out: where to write, by default `report.set_folder`
    answers: VQA's candidates, by default the set's; free: open-ended answers instead
    top (by default the paper's for the set), layer, original, batch, workers, precision: see
        loop.How
    tuned_on: the sets that the run was trained on, if it doesn't record them
    VQA's answers go to vqa_result.json, in the official server's format.
    Raises ValueError for a run of another task, and for an image that cannot be read.
    """
    clock = time.perf_counter()
    folder, split = place_of(data, split)
    records = Records(folder, split)
    name = read_about(folder)["set"]
    manifest = hash_of(folder, split)
    out = out or report.set_folder(run, name, split, manifest)
    task = model_task = CHOICE
    if records.kind is choices.ChoiceRecord:
        model_task = "retrieval"                 # choices are by ITC and ITM, too
    else:
        task = model_task = next(name for name, row in TASKS.items()
                                 if row.evaluate and row.records[0] is records.kind)
    candidates = candidate_answers(model_task, folder, answers, free)
    loaded = open_for(model_task, run)
    config = loaded.config
    device = distributed.join("cpu" if config.device == "cpu" else "auto")
    precision = distributed.precision_on(device, precision)
    recipe = TASKS[model_task].preset_of_set.get(name, TASKS[model_task].preset)
    if not top:
        top = preset(recipe).top if recipe else config.top
    how = How(batch, workers, device, precision, top=top, answers=candidates, original=original,
              layer=layer)
    loaded.model.to(device)
    if distributed.rank() == 0:
        length = min(LENGTH, config.positions) if task == "retrieval" else config.positions
        if warning := cut_warning(records, loaded.tokenizer, length):
            LOG.warning(warning)
    figures, more = evaluate_records(loaded, records, task, how)
    result = None
    if distributed.rank() == 0:
        if submission := more.pop("submission", None):
            text = json.dumps(submission) + "\n"
            write_atomically(out / "vqa_result.json",
                             lambda path: path.write_text(text, encoding="utf-8"))
        words = protocol_of(loaded, folder, split, name, tuned_on)
        about = {"run": str(run), "set": name, "split": split, "manifest": manifest,
                 "protocol": words, "precision": precision}
        seconds = {"evaluate": time.perf_counter() - clock}
        result = write_figures(run, out, task, about | more | figures, config, seconds, command)
        LOG.info("%s holds the figures", out / "report.json")
        spans = figures["intervals"].get("test", {})
        if names := at_chance(figures.get("test", {}), spans, more.get("chance", {})):
            LOG.warning("no better than chance, by their 95%% intervals: %s", ", ".join(names))
    distributed.leave()
    return result


def at_chance(figures: dict, spans: dict, chance: Any) -> list[str]:
    """The names of a report's figures whose 95% interval isn't above their chance level.

    figures, spans: nested alike; chance: by name, or a level for all below a name
    """
    names = []
    for name, value in figures.items():
        level = chance.get(name) if isinstance(chance, dict) else chance
        if level is None:
            continue
        if isinstance(value, dict):
            for inner in at_chance(value, spans[name], level):
                names.append(f"{name} {inner}")
        elif spans[name][0] <= level < 1:
            names.append(name)
    return names


def protocol_of(run: Run, folder: Path, split: str, name: str, tuned: Sequence[str]) -> str:
    """In words, what the run was trained on and whether it saw the split. tuned: see
    `evaluate_set`"""
    sets = trained_on(run.path)
    hashes = {**(sets["pretrained"] or {}), **sets["tuned"]}.values()
    trained_on_split = hash_of(folder, split) in hashes
    if tuned:
        phase = "pretrained" if run.task == "pretrain" else "tuned"
        sets[phase] = dict.fromkeys(tuned)
    return protocol(run.task, name, split, [*sets["tuned"]], sets["pretrained"], trained_on_split)


def table(results: dict) -> str:
    """A report of `evaluate_set` as text: its protocol, and each figure with its 95% interval and
    chance level."""
    if results["task"] == CHOICE:
        return choices.table(results)
    lines = [f"{results['task']} on {results['set']}/{results['split']}, {results['protocol']}"]
    spans = results["intervals"]
    chance = results.get("chance", {})
    baselines = results.get("baselines", {})
    lines += figure_lines("", results.get("test", {}), spans.get("test", {}), chance)
    lines += figure_lines("baseline: ", baselines, spans.get("baselines", {}), {})
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


def figure_lines(where: str, figures: dict, spans: dict, chance: dict) -> list[str]:
    """A line for each figure, nested ones with their path. where: the path so far"""
    lines = []
    for key, value in figures.items():
        if isinstance(value, dict):
            lines += figure_lines(f"{where}{key} ", value, spans[key], chance.get(key, {}))
            continue
        low, high = spans[key]
        line = (f"  {where + key.replace('_', ' '):36} {100 * value:6.2f}  "
                f"({100 * low:.2f} to {100 * high:.2f})")
        if key in chance:
            line += f"  chance {100 * chance[key]:.2f}"
        lines.append(line)
    return lines
