"""How many processes train on scenes: one for each GPU, or the most that can share batches."""
from minalbef.recipes import launch, pretrain


def test_passes_siblings_and_the_warm_start_take_rows_of_their_own(monkeypatch):
    monkeypatch.setattr(launch, "default_processes", lambda: 7)
    for changes, count in ((["batch=24"], 4), (["batch=24", "accumulate=2"], 2),
                           (["batch=24", "siblings=0"], 4), (["batch=42", "warm_steps=0"], 7),
                           (["batch=42"], 1)):
        config = pretrain.settings("tiny", changes)
        assert pretrain.count_processes(config) == count
