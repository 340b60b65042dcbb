"""Chapter 14's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "bootstrap_by_hand": ["""
    rows = torch.randint(len(sample), (draws, len(sample)))
    means = sample.reshape(len(sample), -1).mean(1)[rows].mean(1)
    return means.quantile(torch.tensor([0.025, 0.975]))
""", """
    rng = np.random.default_rng()
    means = [sample[rng.choice(len(sample), len(sample))].mean() for _ in range(draws)]
    return np.percentile(means, 2.5), np.percentile(means, 97.5)
"""],
    "gain_by_pairs": ["""
    n = len(new)
    mean = sum(b - a for a, b in zip(old, new)) / n
    variance = sum((b - a - mean) ** 2 for a, b in zip(old, new)) / (n - 1)
    return mean, t * (variance / n) ** 0.5
""", """
    gains = torch.tensor(new - old)
    return gains.mean(), t * gains.std() / len(gains) ** 0.5
"""],
    "without_places": ["""
    new = seen.clone()
    new[:, 1:] = seen[:, 1:].mean(1, keepdim=True)
    return new
""", """
    n = seen.shape[1] - 1
    mean = seen[:, 1:].sum(1) / n
    return torch.stack([seen[:, 0]] + n * [mean], 1)
"""]}
WRONG = {
    "bootstrap_by_hand": ["""
    answers = sample.flatten()                                    # single answers, not families
    rows = torch.randint(len(answers), (draws, len(answers)))
    return answers[rows].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
""", """
    rng = np.random.default_rng(1)                                # 90%
    means = sorted(sample[rng.integers(len(sample), size=len(sample))].mean().item()
                   for _ in range(draws))
    return means[int(0.05 * draws)], means[int(0.95 * draws)]
""", """
    means = sorted(sample[torch.randperm(len(sample))].mean().item() for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]   # without replacement
""", """
    means = sample.reshape(len(sample), -1).mean(1)               # of families, not of the mean
    return means.quantile(torch.tensor([0.025, 0.975])).tolist()
"""],
    "gain_by_pairs": ["""
    spread = (new.var(ddof=1) + old.var(ddof=1)) ** 0.5           # unpaired
    return new.mean() - old.mean(), t * spread / len(new) ** 0.5
""", """
    gains = new - old
    return gains.mean(), t * gains.std() / len(gains) ** 0.5      # ddof
""", """
    gains = new - old
    return gains.mean(), t * gains.std(ddof=1)                    # of a seed, not of the mean
""", """
    gains = new - old
    return gains.mean(), 1.96 * gains.std(ddof=1) / len(gains) ** 0.5       # not Student's
"""],
    "without_places": ["""
    return seen.mean(1, keepdim=True).expand_as(seen)             # [CLS] is averaged, too
""", """
    cls, patches = seen[:, :1], seen[:, 1:]
    return torch.cat([cls, patches.mean(0, keepdim=True).expand_as(patches)], 1)    # over images
""", """
    cls, patches = seen[:, :1], seen[:, 1:]
    return torch.cat([cls, patches.mean(2, keepdim=True).expand_as(patches)], 1)    # over width
""", """
    return torch.cat([seen[:, :1], seen[:, 1:].mean(1, keepdim=True)], 1)           # fewer tokens
"""]}
