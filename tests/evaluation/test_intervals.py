"""intervals: by hand, by the normal approximation,
and what independent samples get against clusters."""
import pytest
import torch

from minalbef.evaluation.intervals import Clusters, bootstrap, interval, summarise, wilson


def halves(sample) -> tuple[float, float]:
    """How far an interval reaches below and above the mean."""
    low, high = interval(sample)
    return sample.mean().item() - low, high - sample.mean().item()


def test_wilsons_interval_is_the_textbooks():
    low, high = wilson(torch.tensor([1.0] * 8 + [0.0] * 2))
    # 8 of 10
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert wilson(torch.ones(10))[0] == pytest.approx(0.722, abs=1e-3)


@pytest.mark.parametrize("sample", [
    torch.tensor([1.0, 0.0] * 2000), torch.tensor([0.9, 0.1] * 2000),
    Clusters.of(torch.tensor([[1.0] * 4, [0.0] * 4] * 2000))])
def test_an_interval_is_of_95_percent(sample):
    deviation = (0.4 if isinstance(sample, torch.Tensor)
                 and sample.max() < 1 else 0.5) / 4000 ** 0.5
    for half in halves(sample):
        assert half == pytest.approx(1.96 * deviation, abs=0.15 * deviation), (
            "one of 90% would be 1.64 wide")


def test_clusters_are_drawn_whole_whatever_their_size():
    rows = (torch.rand(300, 1, generator=torch.Generator().manual_seed(0))
            < 0.5).float().expand(300, 4)
    clusters = Clusters.of(rows)
    assert interval(clusters) == bootstrap(rows)
    assert max(halves(clusters)) > 1.8 * max(halves(rows.flatten()))
    mask = torch.ones(1200, dtype=torch.bool)
    # one is left of each of the first 150 clusters
    mask[:600] = torch.arange(600) % 4 == 0
    uneven = clusters[mask]
    size = torch.tensor([1.0] * 150 + [4.0] * 150)
    # of a ratio
    expected = (((size * (rows[:, 0] - uneven.mean())) ** 2).sum().sqrt() / size.sum()).item()
    assert halves(uneven) == (pytest.approx(1.96 * expected, rel=0.15),
                              pytest.approx(1.96 * expected, rel=0.15))
    order = torch.randperm(750)
    mixed = Clusters(uneven.values[order], uneven.cluster[order] * 7)
    assert interval(mixed) == pytest.approx(interval(uneven), abs=1e-4)


def test_nothing_wrong_has_a_width_too():
    assert interval(Clusters.of(torch.ones(10, 4))) == wilson(torch.ones(10)) != [1, 1]
    assert interval(Clusters.of(torch.tensor([[1.0, 0.0]] * 10))) == [0.5, 0.5], (
        "one of two, however they are drawn")


def test_means_intervals_and_numbers_are_nested_alike():
    samples = {"a": torch.ones(8), "b": {"c": Clusters.of(torch.eye(4)), "none": torch.ones(0)}}
    means, intervals, counts = summarise(samples)
    assert means == {"a": 1.0, "b": {"c": 0.25}}
    assert counts == {"a": 8, "b": {"c": 4}}
    assert intervals == {"a": wilson(torch.ones(8)), "b": {"c": [0.25, 0.25]}}
