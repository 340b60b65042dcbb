"""Chapter 14's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "bootstrap_by_hand": """
        rows = torch.randint(len(sample), (draws, len(sample)))
        means = sample.reshape(len(sample), -1).mean(1)[rows].mean(1)
        return means.quantile(torch.tensor([0.025, 0.975]))
    """,
    "gain_by_pairs": """
        n = len(new)
        mean = sum(b - a for a, b in zip(old, new)) / n
        variance = sum((b - a - mean) ** 2 for a, b in zip(old, new)) / (n - 1)
        return mean, t * (variance / n) ** 0.5
    """,
    "without_places": """
        new = seen.clone()
        new[:, 1:] = seen[:, 1:].mean(1, keepdim=True)
        return new
    """,
}
WRONG = {
    "bootstrap_by_hand": """
        answers = sample.flatten()                                    # single answers, not families
        rows = torch.randint(len(answers), (draws, len(answers)))
        return answers[rows].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    """,
    "gain_by_pairs": """
        spread = (new.var(ddof=1) + old.var(ddof=1)) ** 0.5           # unpaired
        return new.mean() - old.mean(), t * spread / len(new) ** 0.5
    """,
    "without_places": """
        return seen.mean(1, keepdim=True).expand_as(seen)             # [CLS] is averaged, too
    """,
}
