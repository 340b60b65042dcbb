"""Chapter 12's blanks, filled in other right ways than its answers, and in likely wrong ones."""
RIGHT = {
    "best_share": ["""
        right = 0
        for entry in set(seen):
            votes = [label for one, label in zip(seen, true) if one == entry]
            answer = sum(votes) * 2 > len(votes)
            right += votes.count(answer)
        return torch.tensor(right / len(seen))""", """
        answer = {one: Counter(t for s, t in zip(seen, true) if s == one).most_common(1)[0][0]
                  for one in seen}
        return np.mean([answer[one] == label for one, label in zip(seen, true)])"""],
    "combine": ["""
        one = a + b - 2 * a * b
        return torch.stack([a * b, a * b + one, one])"""],
    "TwoPictures": ["""
        patches, pairs = shown
        left, right = patches[pairs[:, 0], self.first:], patches[pairs[:, 1], self.first:]
        for first, second in zip(self.layers[::2], self.layers[1::2]):
            words = first.look(first.read(words, keep), first.cross.keys_values(left), None)
            words = second.look(second.read(words, keep), first.cross.keys_values(right), None)
        return words"""],
    "with_sides": ["""
        left, right = (patches[pairs[:, i]] + side[i] for i in range(2))
        return torch.cat([left, right], dim=1)""", """
        every = patches[:, None] + side[:, None]                     # (m, 2, n, i)
        return torch.cat([every[pairs[:, 0], 0], every[pairs[:, 1], 1]], 1)"""],
    "deal": ["""
        rows = []
        for i in range(len(own)):
            if case[i] <= 1 / 3:
                rows.append([wrong[i], other[i], 2])
            elif side[i] > 1 / 2:
                rows.append([own[i], wrong[i], 0])
            else:
                rows.append([wrong[i], own[i], 1])
        return torch.tensor(rows).T""", """
        neither, first = case <= 1 / 3, side > 0.5
        label = (1 - first.long()).masked_fill(neither, 2)
        left, right = wrong.clone(), other.clone()
        left[label == 0], right[label == 0] = own[label == 0], wrong[label == 0]
        right[label == 1] = own[label == 1]
        return left.tolist(), right.tolist(), label.tolist()"""],
    "share_consistent": ["""
        failed = set(ids[~right].tolist())
        return 1 - len(failed) / len(set(ids.tolist()))""", """
        sentence = ids.unique(return_inverse=True)[1]
        wrong = torch.bincount(sentence, weights=(~right).double())
        return (wrong == 0).double().mean()"""]}
WRONG = {
    "best_share": ["return max(sum(true), len(true) - sum(true)) / len(true)", """
        sure = [len({label for one, label in zip(seen, true) if one == entry}) == 1
                for entry in set(seen)]
        return sum(sure) / len(sure)""", """
        shares = []
        for entry in set(seen):
            votes = [label for one, label in zip(seen, true) if one == entry]
            shares.append(max(sum(votes), len(votes) - sum(votes)) / len(votes))
        return sum(shares) / len(shares)"""],
    "combine": ["return a * b, a + b, a * (1 - b) + b * (1 - a)",
                "return a * b, a + b - a * b, a * (1 - b)",
                "return torch.minimum(a, b), torch.maximum(a, b), (a - b).abs()"],
    "TwoPictures": ["""
        patches, pairs = shown
        for i in range(0, len(self.layers), 2):
            keys, values = self.layers[i].cross.keys_values(patches[:, self.first:])
            for layer in self.layers[i:i + 2]:
                own = pairs[:, 0]                                    # the left picture twice
                words = layer.look(layer.read(words, keep), (keys[own], values[own]), None)
        return words""", """
        patches, pairs = shown
        for i in range(0, len(self.layers), 2):
            keys, values = self.layers[i].cross.keys_values(patches[:, self.first:])
            for layer, own in zip(self.layers[i:i + 2], pairs.flip(1).T):    # right first
                words = layer.look(layer.read(words, keep), (keys[own], values[own]), None)
        return words""", """
        patches, pairs = shown
        for i in range(0, len(self.layers), 2):
            keys, values = self.layers[i].cross.keys_values(patches[:, self.first:])
            words = self.layers[i].read(words, keep)                 # self-attention once for both
            for layer, own in zip(self.layers[i:i + 2], pairs.T):
                words = layer.look(words, (keys[own], values[own]), None)
        return words"""],
    "with_sides": ["return patches[pairs].flatten(1, 2)", """
        return (patches[pairs] + side[pairs.clamp(max=1)][:, :, None]).flatten(1, 2)""", """
        return (patches[pairs].flip(1) + side[:, None]).flatten(1, 2)"""],
    "deal": ["""
        label = torch.where(case <= 1 / 3, 2, torch.where(side > 0.5, 0, 1))
        return torch.where(label == 0, own, wrong), torch.where(label == 1, own, other), label""", """
        label = torch.where(case <= 1 / 3, 2, torch.where(side > 0.5, 1, 0))
        left = torch.where(label == 0, own, wrong)
        right = torch.where(label == 1, own, torch.where(label == 0, wrong, other))
        return left, right, label""", """
        label = torch.where(side > 0.5, 0, 1)
        return torch.where(label == 0, own, wrong), torch.where(label == 1, own, wrong), label"""],
    "share_consistent": ["return right.float().mean().item()",
                         "return right[:12].view(-1, 4).all(1).float().mean().item()", """
        return sum(right[ids == one].any().item() for one in ids.unique()) / len(ids.unique())""", """
        return sum(right[ids == one].all().item() for one in ids.unique()) / len(ids)"""]}
NEEDS = {"TwoPictures": ["folder = Path(run"]}
