"""validation: what is due, what is kept, and that training, resumed or not,
ends with the same bits."""
import csv
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import Batches, same_state, small
from minalbef import train
from minalbef.evaluation import validation as validations
from minalbef.evaluation.validation import Validation
from minalbef.pretrain import Pretrain

# 20 steps of 8, an epoch of 5 steps
CONFIG = small(image_size=16, text_width=32, alpha=0.4, epoch=40, epochs=4.0, dropout=0.1,
               validate_every=1.0, queue_from=0.3)


class Measured:
    """Figures that are told in advance, by step;
    the evaluations draw random numbers and look at the mode."""

    def __init__(self, figures, happens=None):
        self.figures = dict(figures)
        self.happens = happens
        self.calls = []
        self.modes = []
        self.sums = []

    def __call__(self, task) -> dict[str, float]:
        step = next(step for step in self.figures if step not in self.calls)
        self.calls.append(step)
        self.modes.append((task.training, task.student.training, task.teacher.training))
        self.sums.append(float(sum(p.detach().double().sum()
                                   for p in task.student.parameters())))
        if self.happens:
            self.happens(step)
        return {"recall": self.figures[step], "weights": self.sums[-1]}


def keep(task, folder, untrained) -> None:
    folder.mkdir(exist_ok=True)
    save_file(task.student.state_dict(), folder / "model.safetensors")


def run(folder, measure=None, config=CONFIG, batches=None) -> Pretrain:
    torch.manual_seed(0)
    task = Pretrain(config)
    validation = measure and Validation(measure, keep, config, folder)
    train.fit(task, batches or Batches(config), config,
              folder, quiet=True, validation=validation)
    return task


def table(folder) -> list[dict[str, str]]:
    with (folder / "validation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name: str) -> list[str]:
    return [row[name] for row in rows]


FIGURES = {5: 0.3, 10: 0.5, 15: 0.5, 20: 0.4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An undisturbed run with validation: its folder, its task and what was measured."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    measure = Measured(FIGURES)
    return folder, run(folder, measure), measure


@pytest.mark.parametrize("epoch, epochs, every, steps", [
    (40, 4.0, 1.0, [5, 10, 15, 20]),
    (40, 4.0, 0.5, [3, 5, 8, 10, 13, 15, 18, 20]), (40, 1.0, 3.0, [5]),
    (40, 4.0, 1.5, [8, 15, 20]), (20, 3.0, 1.0, [3, 5, 7])])
def test_an_interval_ends_with_the_step_that_completes_it(
        tmp_path, epoch, epochs, every, steps):
    """And the run with its last step, which is always measured."""
    config = replace(CONFIG, epoch=epoch, epochs=epochs, validate_every=every)
    validation = Validation(None, None, config, tmp_path)
    assert [step for step in range(config.steps + 1) if validation.due(step)] == steps


def test_each_epoch_has_a_row_and_the_first_of_the_best_is_kept(finished):
    folder, _, measure = finished
    rows = table(folder)
    assert column(rows, "step") == ["5", "10", "15", "20"]
    assert column(rows, "epoch") == ["1.0", "2.0", "3.0", "4.0"]
    assert column(rows, "recall") == ["0.3", "0.5", "0.5", "0.4"]
    assert column(rows, "best_step") == ["5", "10", "10", "10"]
    best = load_file(folder / "best" / "model.safetensors")
    assert float(sum(p.double().sum()
                     for p in best.values())) == pytest.approx(measure.sums[1], abs=1e-9)
    assert len(set(measure.sums)) == 4


def test_validation_leaves_no_trace_in_training(finished, tmp_path):
    def draw(step):
        torch.rand(3)
    for measure in (None, Measured(FIGURES, draw)):
        task = run(tmp_path / str(measure is None), measure)
        assert same_state(task.state_dict(), finished[1].state_dict())
    assert set(finished[2].modes) == {(False, False, False)}
    assert finished[1].student.training


class Killed(Exception):
    pass


def same_files(first, second) -> bool:
    names = ("validation.csv", "best/model.safetensors")
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.parametrize("step, weights_written",
                         [(5, False), (10, True), (20, False), (20, True)])
def test_a_run_killed_in_a_validation_ends_with_the_same_table_and_the_same_best(
        finished, tmp_path, monkeypatch, step, weights_written):
    def kill(at):
        if at == step:
            raise Killed
    write = validations.write_table
    def killed_before(path, rows):
        kill(rows[-1]["step"])
        write(path, rows)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        if weights_written:
            patch.setattr(validations, "write_table", killed_before)
        run(tmp_path, Measured(FIGURES, None if weights_written else kill))
    rest = {at: figure for at, figure in FIGURES.items() if at >= step}
    task = run(tmp_path, measure := Measured(rest))
    assert measure.calls == list(rest), "the validation that was cut short comes first"
    assert same_files(tmp_path, finished[0])
    assert same_state(task.state_dict(), finished[1].state_dict())


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "validation.csv").write_text("step,epoch,recall,best_step\nfive,1,0.2,5\n")
    with pytest.raises(ValueError, match="validation.csv is damaged"):
        Validation(None, None, CONFIG, tmp_path).resume(20)
