"""Means and their 95% intervals: of independent samples, and of samples that come in clusters."""
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """Samples that are not independent, such as a family's. Its length is the number of clusters.

    values: (w,); cluster: (w,) the number of each sample's cluster
    """

    values: Tensor
    cluster: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "Clusters":
        """Each row a cluster: (g, q)."""
        return cls(rows.flatten(), torch.arange(len(rows)).repeat_interleave(rows.shape[1]))

    def mean(self) -> Tensor:
        return self.values.mean()

    def __getitem__(self, rows: Tensor | slice) -> "Clusters":
        return Clusters(self.values[rows], self.cluster[rows])

    def __len__(self) -> int:
        return len(self.cluster.unique())


def by_kind(samples: Any, kinds: Sequence[str]) -> dict[str, Any]:
    """Samples (a tensor or Clusters) apart by kind, of which `kinds` has one for each sample."""
    parts = {}
    for kind in dict.fromkeys(kinds):
        parts[kind] = samples[[other == kind for other in kinds]]
    return parts


def figures_by_kind(samples: Tensor | Clusters, kinds: Sequence[str]) -> dict[str, dict]:
    """Samples of records under "by_kind", by the records' kinds; nothing where they have none."""
    if set(kinds) == {""}:
        return {}
    return {"by_kind": dict(sorted(by_kind(samples, kinds).items()))}


def in_groups(samples: Tensor, groups: Sequence[int | None]) -> Tensor | Clusters:
    """Samples of records as clusters by their groups; as they are, where a record has no group."""
    if None in groups:
        return samples
    return Clusters(samples, torch.tensor(groups))


def summarise(values: dict) -> tuple[dict, dict, dict]:
    """Nested samples -> their means, their 95% intervals, and the number of samples or clusters,
    nested alike.

    values: by name (w,) independent samples, Clusters, or a dict of such
    """
    means: dict[str, Any] = {}
    spans: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for name, value in values.items():
        if not len(value):
            continue
        if isinstance(value, dict):
            means[name], spans[name], counts[name] = summarise(value)
        else:
            means[name] = round(value.mean().item(), 4)
            spans[name] = interval(value)
            counts[name] = len(value)
    return means, spans, counts


def interval(sample: Tensor | Clusters) -> list[float]:
    """95% interval of the mean: Wilson's for independent samples that are 0 or 1, otherwise a
    bootstrap -> [low, high].

    Clusters that are all 0 or all 1 get Wilson's for as many samples: a bootstrap would have no
    width.
    """
    if isinstance(sample, Clusters):
        if sample.values.unique().tolist() in ([0], [1]):
            return wilson(sample)
        return bootstrap(sample.values, sample.cluster)
    if ((sample == 0) | (sample == 1)).all():
        return wilson(sample)
    return bootstrap(sample)


def wilson(sample: Tensor | Clusters, z: float = 1.96) -> list[float]:
    """Wilson's 95% interval of the mean of samples that are 0 or 1 -> [low, high].

    It has a width at 0 and 1, too.
    """
    p = sample.mean().item()
    n = len(sample)
    middle = p + z * z / (2 * n)
    half = z * (p * (1 - p) / n + (z / (2 * n)) ** 2) ** 0.5
    return [round(max(0.0, edge) / (1 + z * z / n), 4) for edge in (middle - half, middle + half)]


def bootstrap(sample: Tensor, cluster: Tensor | None = None, draws: int = 1000) -> list[float]:
    """95% interval of the mean from resampling rows, or whole clusters of rows, with a fixed seed
    -> [low, high].

    sample: (w,), or (w, q) of which a row is resampled whole
    cluster: (w,) each row's number; None: each its own
    """
    sample = sample.float().reshape(len(sample), -1).mean(1)
    if cluster is None:
        cluster = torch.arange(len(sample))
    cluster = cluster.unique(return_inverse=True)[1]
    size = cluster.bincount()
    total = torch.zeros(len(size)).index_add(0, cluster, sample)
    generator = torch.Generator().manual_seed(0)
    means = []
    part = max(1, 1_000_000 // len(size))        # VQA's 200,000 samples at once would take 1.6 GB
    for numbers in torch.arange(draws).split(part):
        rows = torch.randint(len(size), (len(numbers), len(size)), generator=generator)
        means.append(total[rows].sum(1) / size[rows].sum(1))
    edges = torch.cat(means).quantile(torch.tensor([0.025, 0.975]))
    return [round(edge, 4) for edge in edges.tolist()]


def commonest(truths: Sequence) -> Tensor:
    """Where the majority baseline, which always gives the commonest answer, is right: -> (n,)"""
    most = Counter(truths).most_common(1)[0][0]
    return torch.tensor([float(truth == most) for truth in truths])
