"""The five tasks on the embedded scenes: each fine-tuned from a pretrained run, and evaluated with its baselines."""
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from minalbef import checkpoint, distributed, train
from minalbef.albef import ALBEF
from minalbef.config import Config, nearest, read_changes, replace_checked
from minalbef.data import Batch
from minalbef.evaluation import intervals
from minalbef.recipes import launch, report
from minalbef.recipes.finetune import at_size, begin
from minalbef.recipes.finetune import finetune as fit_task
from minalbef.run import load
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.exam import task_exam
from minalbef.scenes.exam.questions import need_scenes
from minalbef.scenes.exam.task_exam import problems
from minalbef.scenes.problems.problems import GROUP
from minalbef.tasks.base import TASKS, load_model
from minalbef.tasks.pretrain import Pretrain
from minalbef.tasks.text_assignment import TextAssignment
from minalbef.tokenizer import Tokenizer

# from a pretrained `tiny`: larger images, so that positions are resized, and distillation, both as in the paper
TUNING = dict(image_size=64, epochs=4.0, epoch=20_000, batch=64, lr=1e-3, lr_start=0.0, lr_end=5e-5, warmup_steps=50,
              alpha=0.4, match_from=0.0, queue_from=0.0, hard_from=0.0, siblings_from=0.0, equal_texts_match=False,
              save_every=250)


@dataclass(frozen=True)
class Job:
    """One task on the embedded scenes.

    problems: keys of problems.GROUP, in equal parts of a batch. examine, simple: of task_exam; simple: draw -> samples
        of baselines without a model, by name
    rivals: baselines that are trained in the same way, by name: what differs, "hide" or "make" or "assign"
    untrained: baselines without training, by name: which model ("pretrained", "start", "random", "tuned"), and the
        input that is hidden from it
    """

    problems: tuple[str, ...]
    examine: Callable
    simple: Callable
    rivals: dict[str, dict]
    untrained: dict[str, tuple[str, str]] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)


class ProblemBatches:
    """A task's training problems, without end: step -> this rank's batch."""

    def __init__(self, task: str, config: Config, tokenizer: Tokenizer, hide: str = ""):
        self.task, self.config, self.tokenizer, self.hide = task, config, tokenizer, hide
        self.rank, self.world = distributed.rank(), distributed.world()
        self.sources = [problems(name, "train", config, config.seed) for name in JOBS[task].problems]

    def __call__(self, step: int) -> Batch:
        share = self.config.batch // len(self.sources)
        mine = range(step * share, (step + 1) * share)[distributed.own_rows(share, self.rank, self.world)]
        drawn = [source.draw(i) for source in self.sources for i in mine]
        config = self.config
        return task_exam.batch(self.task, drawn, self.tokenizer, config.image_size, self.hide, config.text_length)


BLIND = {"text_alone": {"hide": "image"}, "picture_alone": {"hide": "text"}}
JOBS = {
    "retrieval": Job(("families", "retrieval"), task_exam.examine_retrieval, task_exam.simple_retrieval,
                     {"continued_pretraining": {"make": Pretrain}}, {"pretrained": ("pretrained", "")}),
    "entailment": Job(("entailment",), task_exam.examine_entailment, task_exam.simple_entailment, BLIND,
                      settings={"alpha_ramp": False}),
    "vqa": Job(("vqa",), task_exam.examine_vqa, task_exam.simple_vqa, BLIND),
    "nlvr2": Job(("nlvr2",), task_exam.examine_nlvr2, task_exam.simple_nlvr2,
                 BLIND | {"left_alone": {"hide": "right"}, "without_assignment": {"assign": 0}}, settings={"lr": 6e-4}),
    "grounding": Job(("grounding",), task_exam.examine_grounding, task_exam.simple_grounding, {},
                     {"pretrained": ("pretrained", ""), "warm_start": ("start", ""), "random_weights": ("random", ""),
                      "shuffled_text": ("tuned", "shuffled")})}


# training and evaluation


def tuning(task: str, source: Path, *changes: str) -> Config:
    """The settings to fine-tune a run for a task: the run's, overridden by TUNING, the job's and your changes.

    Raises ValueError for a task that does not exist.
    """
    if task not in JOBS:
        raise ValueError(f"no task {task!r}{nearest(task, JOBS)}; there are {', '.join(JOBS)}")
    base, kind, _, _ = checkpoint.read_run(source)
    if kind != "pretrain":
        raise ValueError(f"{source} is a run of {kind}; fine-tuning begins from a pretrained one, "
                         "such as `minalbef demo` makes")
    need_scenes(base, source)
    config = replace(base, **TUNING | JOBS[task].settings, name=f"{base.name}-{task}")
    return replace_checked(config, **read_changes(changes))


def tune(task: str, source: Path, folder: Path, config: Config, rival: str = "", assign: int = 20_000,
         quiet: bool = False) -> None:
    """Fine-tune a pretrained run for a task, into a run folder; called again, it resumes from the last checkpoint.

    rival: train this baseline of the job's instead. assign: number of captions of NLVR2's text assignment pretraining
    """
    if rival and rival not in (rivals := JOBS[task].rivals):
        raise ValueError(f"--rival {rival}: {task} has no such baseline{nearest(rival, rivals)}; "
                         f"it has {', '.join(rivals) or 'none'}")
    launch.follow_launcher()
    distributed.start(config.device)
    torch.manual_seed(config.seed)
    differs, tokenizer = JOBS[task].rivals.get(rival, {}), checkpoint.read_run(source)[2]
    module = differs.get("make", TASKS[task].make)(config)
    begin(module, source, config)
    if task == "nlvr2" and (assign := differs.get("assign", assign)):
        assignment, recipe = TextAssignment(config), replace(config, epochs=1.0, epoch=assign)
        begin(assignment, source, config)
        train.fit(assignment, SceneBatches(recipe, tokenizer), recipe, folder / "assign", quiet=quiet,
                  title="text assignment")
        module.start(assignment.student.albef)
    batches = ProblemBatches(task, config, tokenizer, differs.get("hide", ""))
    fit_task(task, batches, source, folder, config, quiet, module, rival.replace("_", " "))
    distributed.stop()


def load_student(folder: Path) -> tuple[str, nn.Module, Tokenizer]:
    """A run fine-tuned on scenes: its task's name, its model in evaluation mode, and its tokenizer.

    Raises ValueError for a run of no such task.
    """
    task = checkpoint.read_run(folder)[1]
    if task not in JOBS:
        raise ValueError(f"{folder} is a run of {task}; `minalbef finetune` makes those of {', '.join(JOBS)}")
    return task, *load_model(task, folder)[:2]


def examine(task: str, model: nn.Module, tokenizer: Tokenizer, draw: task_exam.Draw, hide: str = "") -> dict:
    """The task's figures on problems from `draws`: samples by name. The model is moved to a GPU if there is one."""
    model.to(distributed.device_at_hand(getattr(model, "albef", model).config.device))
    with torch.no_grad() if task != "grounding" else torch.enable_grad():
        return JOBS[task].examine(model, tokenizer, draw, hide)


def draws(config: Config, split: str, seed: int, size: float) -> task_exam.Draw:
    """-> a cached function that draws a test set's problems, in whole groups; size: share of the number asked for."""
    @cache
    def draw(name: str, number: int) -> list:
        source = problems(name, split, config, seed)
        return [source.draw(i) for i in range(max(36, int(number * size)) // GROUP[name] * GROUP[name])]
    return draw


def examine_run(folder: Path, source: Path | None, command: str, seed: int = 0, size: float = 1.0, split: str = "test",
                out: Path | None = None) -> dict:
    """Evaluate a fine-tuned run and every baseline there is; write report.json. -> the report

    source: the pretrained run, for its baselines; without it they are left out
    out: where to write, by default the run's folder
    """
    clock = time.perf_counter()
    task, model, tokenizer = load_student(folder)
    job, config = JOBS[task], getattr(model, "albef", model).config
    need_scenes(config, folder)
    draw = draws(config, split, seed, size)
    def score(model: nn.Module, hide: str = "") -> dict:
        return examine(task, model, tokenizer, draw, hide)
    values, baselines = {"test": score(model)}, job.simple(draw)
    torch.manual_seed(seed)                              # of random weights
    for name, differs in job.rivals.items():
        if (folder / name / "model.safetensors").exists():
            baselines[name] = score(load_rival(task, differs, folder / name), differs.get("hide", ""))
    for name, (which, hide) in job.untrained.items():
        if which in ("random", "tuned"):
            baselines[name] = score(model if which == "tuned" else ALBEF(config).eval(), hide)
        elif source and (run := source / "start" if which == "start" else source).exists():
            baselines[name] = score(at_size(load(run).model, config), hide)
    figures, spans, counts = intervals.summarise(values | {"baselines": baselines})
    if task == "grounding":
        figures["map"] = dict(zip(("mode", "layer"), task_exam.best_map(model, tokenizer)))
    seconds = {"train": train.seconds(folder) + train.seconds(folder / "assign"),
               "evaluate": time.perf_counter() - clock}
    figures |= {"split": split, "exam_seed": seed, "intervals": spans, "counts": counts}
    return report.write_report(out or folder, task, figures, config, seconds, command, config.seed)


def load_rival(task: str, differs: dict, folder: Path) -> nn.Module:
    """The model of a baseline that was trained."""
    config, _, _, weights = checkpoint.read_run(folder)
    model = differs.get("make", TASKS[task].make)(config).student
    checkpoint.fit_weights(model, weights, folder)
    return model.eval()


def finetune(task: str, source: Path, folder: Path, changes: tuple[str, ...], baselines: tuple[str, ...],
             processes: int, command: str, size: float = 1.0, quiet: bool = False) -> dict:
    """Train a task and the named baselines of its job ("all": every one), each in several processes; evaluate them.

    -> the report. Raises ValueError for an unknown task, option or baseline, SystemExit where training failed
    """
    if task not in JOBS:
        raise ValueError(f"no task {task!r}{nearest(task, JOBS)}; there are {', '.join(JOBS)}")
    rivals = JOBS[task].rivals
    for name in baselines:
        if name not in (*rivals, "all"):
            raise ValueError(f"{task} has no baseline {name!r}{nearest(name, rivals)} to train; "
                             f"it has {', '.join(rivals) or 'none'}")
    tuning(task, source, *changes)                       # refuse a wrong option before any process starts
    for name in ("", *(rivals if "all" in baselines else dict.fromkeys(baselines))):
        arguments = ["tune", task, *changes, "--from", str(source), "--run", str(folder / name)]
        if name:
            arguments += ["--rival", name]
        if quiet:
            arguments.append("--quiet")
        if status := launch.launch(arguments, processes):
            raise SystemExit(status)
    return examine_run(folder, source, command, size=size, out=report.output_folder(folder, size == 1))
