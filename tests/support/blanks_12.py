"""Chapter 12's blanks, filled in other right ways than its answers, and in likely wrong ones."""

RIGHT = {
    "best_share": """
        right = 0
        for entry in set(seen):
            votes = [label for one, label in zip(seen, true) if one == entry]
            answer = sum(votes) * 2 > len(votes)
            right += votes.count(answer)
        return torch.tensor(right / len(seen))
    """,
    "combine": """
        one = a + b - 2 * a * b
        return torch.stack([a * b, a * b + one, one])
    """,
    "TwoPictures": """
        patches, pairs = shown
        left, right = patches[pairs[:, 0], self.first:], patches[pairs[:, 1], self.first:]
        for first, second in zip(self.layers[::2], self.layers[1::2]):
            keys, values = first.cross.k, first.cross.v
            words = first(words, keep, (keys(left), values(left)))
            words = second(words, keep, (keys(right), values(right)))
        return words
    """,
    "with_sides": """
        left, right = (patches[pairs[:, i]] + side[i] for i in range(2))
        return torch.cat([left, right], dim=1)
    """,
    "deal": """
        rows = []
        for i in range(len(own)):
            if case[i] <= 1 / 3:
                rows.append([wrong[i], other[i], 2])
            elif side[i] > 1 / 2:
                rows.append([own[i], wrong[i], 0])
            else:
                rows.append([wrong[i], own[i], 1])
        return torch.tensor(rows).T
    """,
    "share_consistent": """
        failed = set(ids[~right].tolist())
        return 1 - len(failed) / len(set(ids.tolist()))
    """,
}
WRONG = {
    "best_share": "return max(sum(true), len(true) - sum(true)) / len(true)",
    "combine": "return a * b, a + b, a * (1 - b) + b * (1 - a)",
    "TwoPictures": """
        patches, pairs = shown
        for i in range(0, len(self.layers), 2):
            tokens = patches[:, self.first:]
            keys, values = self.layers[i].cross.k(tokens), self.layers[i].cross.v(tokens)
            for layer in self.layers[i:i + 2]:
                own = pairs[:, 0]                                    # the left picture twice
                words = layer(words, keep, (keys[own], values[own]))
        return words
    """,
    "with_sides": "return patches[pairs].flatten(1, 2)",
    "deal": """
        label = torch.where(case <= 1 / 3, 2, torch.where(side > 0.5, 0, 1))
        return torch.where(label == 0, own, wrong), torch.where(label == 1, own, other), label
    """,
    "share_consistent": "return right.float().mean().item()",
}
# parts of cells above that run whole for a blank
NEEDS = {"TwoPictures": ["folder = Path(run"]}
