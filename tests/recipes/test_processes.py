"""How many processes train on scenes by default: one for each GPU, or the most that can share the batches."""
from contextlib import suppress

import pytest
import torch

from minalbef import distributed, load
from minalbef.cli.train import demo
from minalbef.data import data_folder
from minalbef.recipes import finetune, launch, pretrain
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.task_problems import ProblemBatches

TINY = data_folder() / "tiny"


@pytest.fixture
def launched(monkeypatch) -> list[int]:
    """In how many processes training was to run, call by call; none does."""
    counts: list[int] = []

    def note(arguments, processes):
        counts.append(processes)
        return 1
    monkeypatch.setattr(launch, "launch", note)
    return counts


def test_as_many_gpus_train_as_divide_the_batch_and_a_line_says_so(monkeypatch, launched, caplog):
    for gpus, count in {1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 4, 8: 8}.items():
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        caplog.clear()
        with pytest.raises(SystemExit):
            demo(("device=cpu",))
        with pytest.raises(SystemExit):
            finetune.finetune_with_baselines("nlvr2", TINY, TINY.parent / "never")
        assert launched[-2:] == [count, count]
        line = f"{gpus} processes can't share 64 rows evenly, so {count} will train"
        assert caplog.messages == [line] * (2 if count < gpus else 0)


def test_a_number_of_processes_that_a_user_names_is_taken_as_it_is(launched):
    with pytest.raises(SystemExit):
        demo(processes=3)
    with pytest.raises(SystemExit):
        finetune.finetune_with_baselines("vqa", TINY, TINY.parent / "never", processes=5)
    assert launched == [3, 5]


def test_passes_siblings_and_the_warm_start_take_rows_of_their_own(monkeypatch):
    monkeypatch.setattr(launch, "default_processes", lambda: 7)
    for changes, count in ((["batch=24"], 4), (["batch=24", "accumulate=2"], 2), (["batch=24", "siblings=0"], 4),
                           (["batch=42", "warm_steps=0"], 7), (["batch=42"], 1)):
        config = pretrain.settings("tiny", changes)
        assert pretrain.count_processes(config) == count


@pytest.mark.parametrize("task", ["entailment", "retrieval", "nlvr2"])
def test_a_task_trains_in_the_most_processes_that_can_share_its_batches(task, monkeypatch):
    config = finetune.settings(task, TINY, ["batch=36"])
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    fitting = []
    for count in range(1, 8):
        monkeypatch.setattr(distributed, "world", lambda count=count: count)
        with suppress(ValueError):
            ProblemBatches(task, config, load(TINY).tokenizer)
            if task == "nlvr2":
                SceneBatches(config, load(TINY).tokenizer)       # of text assignment, which comes first
            fitting.append(count)
    for most in range(1, 8):
        monkeypatch.setattr(launch, "default_processes", lambda most=most: most)
        assert finetune.count_processes(task, config) == max(count for count in fitting if count <= most)
    assert fitting in ([1, 2, 3, 4, 6], [1, 2, 3, 6])
