"""Chapter 10's blanks, filled in other right ways than its answers, and in likely wrong ones."""

RIGHT = {
    "is_latin": """
        rows = torch.tensor(table)
        right = torch.arange(3).expand(3, 3)
        return (rows.sort(1).values == right).all() and (rows.T.sort(1).values == right).all()
    """,
    "labels_by_hand": """
        labels = []
        for one in problems:
            told = [holds(one.form, world) for world in worlds(one.form, one.scene)]
            labels.append(1 if True in told and False in told else 2 * (True in told))
        return torch.tensor(labels)
    """,
    "giveaway": """
        found = torch.zeros(occurs.shape[1], 3)
        for label in range(3):
            own = labels == label
            found[:, label] = occurs[own].sum(0) / occurs.sum(0) / (own.sum() / len(labels))
        return found.numpy()
    """,
    "EntailmentModel": """
        words, seen = self.albef.encode_text(tokens, keep), self.albef.encode_image(image)
        return self.head(self.albef.fuse(words, keep, seen, queries=1))[:, 0]
    """,
    "rows_of_pairs": """
        both = [(3 * g + i, 3 * g + j) for g in range(squares) for i in range(3) for j in range(3)]
        return [i for i, _ in both], [j for _, j in both]
    """,
    "confusion": """
        return [[((labels == i) & (answers == j)).sum() for j in range(3)] for i in range(3)]
    """,
}
WRONG = {
    "is_latin": "return all(set(line) == {0, 1, 2} for line in table)",
    "labels_by_hand": """
        labels = []
        for one in problems:
            told = {holds(one.form, world) for world in worlds(one.form, one.scene)}
            labels.append(1 if len(told) > 1 else 2 if True in told else 0)
        return labels
    """,
    "giveaway": "return (occurs.T @ F.one_hot(labels, 3).float()) / occurs.sum(0)[:, None]",
    "EntailmentModel": """
        words = self.albef.encode_text(tokens, keep)
        return self.head(self.albef.fuse(words, keep, self.albef.encode_image(image))[:, -1])
    """,
    "rows_of_pairs": """
        row = torch.arange(3 * squares)
        return row.repeat_interleave(3), row.repeat(3)
    """,
    "confusion": "return torch.bincount(3 * answers + labels, minlength=9).view(3, 3)",
}
# parts of cells above that run whole for a blank
NEEDS = {"labels_by_hand": ["folder = Path(run"], "EntailmentModel": ["folder = Path(run"]}
