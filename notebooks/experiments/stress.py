"""A stress test of a model of scenes: `python notebooks/experiments/stress.py`, six minutes.

All questions of emojiscenes/stress.py, in two styles of drawing; `minalbef evaluate` asks some of
them. A question is two pairs of image and sentence, one true and one false, and each shows a newly
drawn scene whose truth is known. A pair is accepted if ITM's probability of a match is over one
half, whatever threshold suits the model best; the true one is preferred if its probability is the
higher one. Beside them, the evaluation's figures for the same seed.

Writes stress.json beside itself, about the shipped model. Of another model, or other scenes:
`python notebooks/experiments/stress.py --run runs/demo --seed 1 --out runs/demo/stress.json`
"""
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro

from emojiscenes.stream import Stream
from emojiscenes.stress import QUESTIONS, Contrast, stage_for
from minalbef import Run, load
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import evaluation, questions
from results import flatten, table_of, write_json

PATH = Path(__file__).with_suffix(".json")
STYLES = {"styles of training": None, "unseen style": evaluation.UNSEEN}
ANSWERS = ("true accepted", "false accepted", "true preferred")


def judge(run: Run, pairs: Sequence[Contrast]) -> dict[str, float]:
    """Shares of the questions: pairs that ITM accepts, and true pairs that it prefers."""
    true, false = zip(*pairs)
    odds = questions.match_odds(run, *zip(*true, *false))
    true_odds, false_odds = odds.chunk(2)
    answers = dict(zip(ANSWERS, (true_odds > 0, false_odds > 0, true_odds > false_odds)))
    return {answer: round(values.float().mean().item(), 4) for answer, values in answers.items()}


def stress(run: Run, seed: int, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """The answers to all questions, `count` of each: by style of drawing and by question."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for style, vendors in STYLES.items():
        figures[style] = {}
        for title, ask in QUESTIONS.items():
            stage = stage_for(title, run.config.objects, vendors)
            if stage is None:
                continue
            contrasts = [ask(stage, Stream("stress", seed, title, i)) for i in range(count)]
            figures[style][title] = judge(run, contrasts)
            print(f"{style:18}  {title:46}  {figures[style][title]}", flush=True)
    return figures


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The answers as Markdown, a question a line: `figures` of `stress`."""
    head = ["question"]
    for style in figures:
        head += [f"{answer}, {style}" for answer in ANSWERS]
    rows = []
    for title in QUESTIONS:
        if not all(title in answers for answers in figures.values()):
            continue                             # the run's objects can't show it
        line = [title]
        for answers in figures.values():
            line += [f"{answers[title][answer]:.2f}" for answer in ANSWERS]
        rows.append(line)
    return table_of(head, rows)


def main(run: Path = Path("tiny"), seed: int = 0, count: int = 500, out: Path = PATH) -> None:
    """Ask a model all questions, and write the shares of its answers.

    Args:
        run: the run folder, or "tiny", the shipped model
        seed: of the scenes, here and in the evaluation
        count: how many questions of a kind
        out: the file to write
    """
    torch.set_num_threads(1)
    code, model = commit(), load(run)
    figures = stress(model, seed, count)
    report = flatten(evaluation.evaluate_scenes(model, seed))
    about = {"command": shlex.join(["python", *sys.argv]), "date": now(),
             "device": describe_device(), "commit": code, "seed": seed, "count": count,
             "cpu_seconds": round(time.process_time()), "questions": figures,
             "evaluation": report}
    write_json(out, about)


if __name__ == "__main__":
    tyro.cli(main)
