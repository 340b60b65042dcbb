"""Chapter 04's blanks, filled in other ways than its answers, and wrongly."""

PUSH = '''
class Ring(minalbef.FeatureQueue):
    @torch.no_grad()
    def push(self, image, text, ids):
        size, b = len(self.ids), len(ids)
        {}
'''
LOOP = """for one in zip(image, text, ids):
            for slots, value in zip((self.image, self.text, self.ids), one):
                slots[self.pointer] = value
            self.pointer = {pointer}
            self.filled = {filled}"""
RIGHT = {
    "shares_by_formula": ["""
        p = (torch.cat([torch.tensor([0.8]), negatives]) / temperature).softmax(0)
        return p[1:] / (1 - p[0])""", """
        push = (negatives / temperature).exp()
        return push / push.sum()"""],
    "one_way": ["return (sim.logsumexp(1) - sim.diag()).mean()",
                "return -sum(row.softmax(0)[i].log() for i, row in enumerate(sim)) / len(sim)"],
    "Ring": [
        PUSH.format("""for old, new in ((self.image, image), (self.text, text), (self.ids, ids)):
            slots = (self.pointer + torch.arange(b)[-size:]) % size
            old[slots] = new[-size:]
        self.pointer, self.filled = (self.pointer + b) % size, min(size, self.filled + b)"""),
        PUSH.format(LOOP.format(pointer="0 if self.pointer == size - 1 else self.pointer + 1",
                                filled="self.filled + (self.filled < size)"))],
    "slope_by_formula": ["""
        s = np.array(cosines)
        p = np.exp(s / temperature)
        return float(s[0] - (p * s).sum() / p.sum()) / temperature ** 2""", """
        p = (torch.tensor(cosines) / temperature).softmax(0)
        return sum(p[j] * (cosines[0] - cosines[j]) for j in range(len(cosines))) / temperature ** 2"""],
    "gap": ["""
        half = len(image) // 2
        a, b = image[:half].mean(0), text[:half].mean(0)
        right = [(x - a).norm() < (x - b).norm() for x in image[half:]]
        right += [(x - b).norm() < (x - a).norm() for x in text[half:]]
        return (a - b).norm(), torch.stack(right).double().mean()"""],
    "recall_within": ["""
        hits = 0
        for first in range(0, len(image), size):
            table = text[first:first + size] @ image[first:first + size].T
            hits += sum(int(row.argmax()) == i for i, row in enumerate(table))
        return hits / len(image)"""]}
WRONG = {
    "shares_by_formula": ["""
        return negatives.softmax(0)""", """
        return (torch.cat([torch.tensor([0.8]), negatives]) / temperature).softmax(0)[1:]""", """
        return (negatives * temperature).softmax(0)"""],
    "one_way": ["return -(sim - sim.logsumexp(0, keepdim=True)).diagonal().mean()",
                "return -(sim - sim.logsumexp(-1, keepdim=True)).diagonal().sum()",
                "return -(sim - sim.logsumexp(-1, keepdim=True)).mean()",
                "return (sim - sim.logsumexp(-1, keepdim=True)).diagonal().mean()",
                "return -sim.softmax(-1).diagonal().mean()"],
    "Ring": [
        PUSH.format(LOOP.format(pointer="(self.pointer + 1) % size", filled="self.filled + 1")),
        PUSH.format(LOOP.format(pointer="min(self.pointer + 1, size - 1)", filled="min(size, self.filled + 1)")),
        PUSH.format(LOOP.format(pointer="self.pointer", filled="min(size, self.filled + 1)")),
        PUSH.format(LOOP.format(pointer="(self.pointer + 1) % size", filled="self.filled")),
        PUSH.format(LOOP.format(pointer="(self.pointer + 1) % size", filled="min(size, self.filled + 1)")
                    .replace("(self.image, self.text, self.ids)", "(self.image, self.image, self.ids)"))],
    "slope_by_formula": ["""
        s = torch.tensor(cosines)
        return ((s / temperature).softmax(0) @ s - s[0]) / temperature ** 2""", """
        s = torch.tensor(cosines)
        return (s[0] - (s / temperature).softmax(0) @ s) / temperature""", """
        s = torch.tensor(cosines)
        return (s[0] - s.mean()) / temperature ** 2""", """
        s = torch.tensor(cosines)
        return -s[0] / temperature ** 2"""],
    "gap": ["""
        way, middle = image.mean(0) - text.mean(0), (image.mean(0) + text.mean(0)) / 2
        right = torch.cat([(image - middle) @ way > 0, (text - middle) @ way < 0])
        return way.norm().item(), right.float().mean().item()""", """
        (image, new_image), (text, new_text) = image.chunk(2), text.chunk(2)
        way = image.mean(0) - text.mean(0)
        right = torch.cat([new_image @ way > 0, new_text @ way < 0])
        return way.norm().item(), right.float().mean().item()""", """
        (image, new_image), (text, new_text) = image.chunk(2), text.chunk(2)
        way, middle = image.mean(0) - text.mean(0), (image.mean(0) + text.mean(0)) / 2
        return way.norm().item(), ((new_image - middle) @ way > 0).float().mean().item()""", """
        (image, new_image), (text, new_text) = image.chunk(2), text.chunk(2)
        way, middle = image.mean(0) - text.mean(0), (image.mean(0) + text.mean(0)) / 2
        right = torch.cat([(new_image - middle) @ way > 0, (new_text - middle) @ way < 0])
        return (way @ way).item(), right.float().mean().item()"""],
    "recall_within": ["""
        return ((text @ image.T).argmax(1) == torch.arange(len(text))).float().mean()""", """
        image, text = (x.unflatten(0, (-1, size)) for x in (image, text))
        return ((image @ text.mT).argmax(-1) == torch.arange(size)).float().mean()""", """
        image, text = (x.unflatten(0, (size, -1)) for x in (image, text))
        return ((text @ image.mT).argmax(-1) == torch.arange(image.shape[1])).float().mean()""", """
        image, text = (x.unflatten(0, (-1, size)) for x in (image, text))
        return ((text @ image.mT).argmax(-1) == torch.arange(size)).float().sum()"""]}
