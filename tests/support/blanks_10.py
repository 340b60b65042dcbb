"""Chapter 10's blanks, filled in other right ways than its answers, and in likely wrong ones."""
RIGHT = {
    "is_latin": ["""
        rows = torch.tensor(table)
        right = torch.arange(3).expand(3, 3)
        return (rows.sort(1).values == right).all() and (rows.T.sort(1).values == right).all()""", """
        for i in range(3):
            if sorted(table[i]) != [0, 1, 2] or sorted(row[i] for row in table) != [0, 1, 2]:
                return False
        return True"""],
    "labels_by_hand": ["""
        labels = []
        for one in problems:
            told = [holds(one.form, world) for world in worlds(one.form, one.scene)]
            labels.append(1 if True in told and False in told else 2 * (True in told))
        return torch.tensor(labels)"""],
    "giveaway": ["""
        found = torch.zeros(occurs.shape[1], 3)
        for label in range(3):
            own = labels == label
            found[:, label] = occurs[own].sum(0) / occurs.sum(0) / (own.sum() / len(labels))
        return found.numpy()""", """
        label = F.one_hot(labels, 3).double()
        word_of_label = (label.T @ occurs.double()) / label.sum(0)[:, None]       # p(word | label)
        return (word_of_label / occurs.double().mean(0)).T""", """
        own = [[labels[has == 1] == label for label in range(3)] for has in occurs.T]
        times = [[one.float().mean() for one in row] for row in own]
        return torch.tensor(times) / F.one_hot(labels, 3).float().mean(0)"""],
    "EntailmentModel": ["""
        words, seen = self.albef.encode_text(tokens, keep), self.albef.encode_image(image)
        return self.head(self.albef.fuse(words, keep, seen, queries=1))[:, 0]"""],
    "rows_of_pairs": ["""
        both = [(3 * g + i, 3 * g + j) for g in range(squares) for i in range(3) for j in range(3)]
        return [i for i, _ in both], [j for _, j in both]""", """
        place = torch.arange(9 * squares)
        return place // 3, 3 * (place // 9) + place % 3"""],
    "confusion": ["""
        return [[((labels == i) & (answers == j)).sum() for j in range(3)] for i in range(3)]""", """
        return F.one_hot(labels, 3).T @ F.one_hot(answers, 3)"""]}
WRONG = {
    "is_latin": ["return all(set(line) == {0, 1, 2} for line in table)",
                 "return all(set(line) == {0, 1, 2} for line in zip(*table))",
                 "return all(sum(line) == 3 for line in [*table, *zip(*table)])",
                 "return table[1] == table[0][1:] + table[0][:1]"],
    "labels_by_hand": [("""
        labels = []
        for one in problems:
            told = {holds(one.form, world) for world in worlds(one.form, one.scene)}
            labels.append(1 if len(told) > 1 else 2 if True in told else 0)
        return labels""", "is None don't count"), ("""
        labels = []
        for one in problems:
            told = {bool(holds(one.form, world)) for world in worlds(one.form, one.scene)}
            labels.append(1 if len(told) == 2 else 2 if True in told else 0)
        return labels""", "is None don't count"), """
        return [{False: 0, None: 1, True: 2}[holds(one.form, worlds(one.form, one.scene)[0])]
                for one in problems]""", """
        labels = []
        for one in problems:
            told = {holds(one.form, world) for world in worlds(one.form, one.scene)} - {None}
            labels.append(1 if len(told) == 2 else 0 if True in told else 2)
        return labels""", """
        labels = []
        for one in problems:
            told = [holds(one.form, world) for world in worlds(one.form, one.scene)]
            labels.append(2 if any(told) else 0)
        return labels"""],
    "giveaway": ["return (occurs.T @ F.one_hot(labels, 3).float()) / occurs.sum(0)[:, None]", """
        label = F.one_hot(labels, 3).float()
        return (occurs.T @ label) / label.sum(0)""", """
        return 3 * (occurs.T @ F.one_hot(labels, 3).float()) / occurs.sum(0)[:, None]"""],
    "EntailmentModel": ["""
        words = self.albef.encode_text(tokens, keep)
        return self.head(self.albef.fuse(words, keep, self.albef.encode_image(image))[:, -1])""", """
        words = self.albef.encode_text(tokens, keep)
        return self.head(self.albef.fuse(words, keep, self.albef.encode_image(image)).mean(1))""", """
        return self.head(self.albef.encode_text(tokens, keep)[:, 0])"""],
    "rows_of_pairs": ["""
        row = torch.arange(3 * squares)
        return row.repeat_interleave(3), row.repeat(3)""", """
        row = torch.arange(3 * squares)
        return row.view(-1, 3).repeat(1, 3).flatten(), row.repeat_interleave(3)""", """
        row = torch.arange(3 * squares).repeat_interleave(3)
        return row, row"""],
    "confusion": ["return torch.bincount(3 * answers + labels, minlength=9).view(3, 3)", """
        return torch.bincount(3 * labels + answers, minlength=9).view(3, 3) / len(labels)""", """
        return torch.diag(torch.bincount(labels[labels == answers], minlength=3))"""]}
NEEDS = {"labels_by_hand": ["folder = Path(run"],
         "EntailmentModel": ["folder = Path(run"]}
