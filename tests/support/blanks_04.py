"""Chapter 04's blanks, filled in other ways than its answers, and wrongly."""

RIGHT = {
    "shares_by_formula": """
        p = (torch.cat([torch.tensor([0.8]), negatives]) / temperature).softmax(0)
        return p[1:] / (1 - p[0])
    """,
    "one_way": "return (sim.logsumexp(1) - sim.diag()).mean()",
    "Ring": """
        class Ring(minalbef.FeatureQueue):
            @torch.no_grad()
            def push(self, image, text, ids):
                size, b = len(self.ids), len(ids)
                for old, new in ((self.image, image), (self.text, text), (self.ids, ids)):
                    slots = (self.pointer + torch.arange(b)[-size:]) % size
                    old[slots] = new[-size:]
                self.pointer, self.filled = (self.pointer + b) % size, min(size, self.filled + b)
    """,
    "slope_by_formula": """
        s = np.array(cosines)
        p = np.exp(s / temperature)
        return float(s[0] - (p * s).sum() / p.sum()) / temperature ** 2
    """,
    "gap": """
        half = len(image) // 2
        a, b = image[:half].mean(0), text[:half].mean(0)
        right = [(x - a).norm() < (x - b).norm() for x in image[half:]]
        right += [(x - b).norm() < (x - a).norm() for x in text[half:]]
        return (a - b).norm(), torch.stack(right).double().mean()
    """,
    "recall_within": """
        hits = 0
        for first in range(0, len(image), size):
            table = text[first:first + size] @ image[first:first + size].T
            hits += sum(int(row.argmax()) == i for i, row in enumerate(table))
        return hits / len(image)
    """,
}
WRONG = {
    "shares_by_formula": "return negatives.softmax(0)",
    "one_way": "return -(sim - sim.logsumexp(0, keepdim=True)).diagonal().mean()",
    "Ring": """
        class Ring(minalbef.FeatureQueue):
            @torch.no_grad()
            def push(self, image, text, ids):
                size, b = len(self.ids), len(ids)
                for one in zip(image, text, ids):
                    for slots, value in zip((self.image, self.text, self.ids), one):
                        slots[self.pointer] = value
                    self.pointer = (self.pointer + 1) % size
                    self.filled = self.filled + 1
    """,
    "slope_by_formula": """
        s = torch.tensor(cosines)
        return ((s / temperature).softmax(0) @ s - s[0]) / temperature ** 2
    """,
    "gap": """
        way, middle = image.mean(0) - text.mean(0), (image.mean(0) + text.mean(0)) / 2
        right = torch.cat([(image - middle) @ way > 0, (text - middle) @ way < 0])
        return way.norm().item(), right.float().mean().item()
    """,
    "recall_within": """
        found = (text @ image.T).argmax(1)
        return (found == torch.arange(len(text))).float().mean()
    """,
}
