"""Chapter 03's blanks, filled in other ways than its answers, and wrongly."""

SUM = '''
class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
        self.pos_embed = nn.Embedding(config.positions, config.text_width)
        self.type_embed = nn.Embedding(2, config.text_width)
        self.norm = nn.LayerNorm(config.text_width, eps=1e-12)

    def forward(self, tokens):
        words, l = self.word_embed(tokens), tokens.shape[1]
        {}
'''
RIGHT = {
    "pieces": ["""
        cut, rest = [], word
        while rest:
            mark = "##" if cut else ""
            fits = [end for end in range(1, len(rest) + 1) if mark + rest[:end] in vocabulary]
            if not fits:
                return ["[UNK]"]
            cut.append(mark + rest[:fits[-1]])
            rest = rest[fits[-1]:]
        return cut""", """
        unknown = ["[UNK]"]

        def tail(rest, mark):
            if not rest:
                return []
            for end in range(len(rest), 0, -1):
                if mark + rest[:end] in vocabulary:
                    after = tail(rest[end:], "##")
                    return None if after is None else [mark + rest[:end], *after]
            return None
        found = tail(word, "")
        return unknown if found is None else found"""],
    "merged": ["""
        new = []
        while cut:
            piece = cut.pop(0)
            if piece == a and cut and cut[0] == b:
                piece += cut.pop(0)[2:] if b.startswith("##") else b
            new.append(piece)
        return new""", """
        for i in range(len(cut) - 1):
            if (cut[i], cut[i + 1]) == (a, b):
                return cut[:i] + [a + b.replace("##", "")] + merged(cut[i + 2:], a, b)
        return cut"""],
    "Embeddings": [
        SUM.format("return self.norm(words + self.pos_embed.weight[:l] + self.type_embed(torch.zeros_like(tokens)))"),
        SUM.format("return self.norm(words + self.pos_embed(torch.arange(l).expand_as(tokens)) "
                   "+ self.type_embed.weight[0])")],
    "attend": ["""
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~keep.unsqueeze(1), -1e9)
        return scores.softmax(-1) @ v""", """
        scores = q @ k.mT * q.shape[-1] ** -0.5 - 10_000.0 * ~keep[:, None]
        return scores.softmax(-1) @ v""", """
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * keep[:, None]
        return weights / weights.sum(-1, keepdim=True) @ v"""],
    "padding_leaks": ["""
        one, two = "a dog", "a small key, and a big cake to the right of a big bee"
        batch = encoder(*tokenizer.encode([two, one]))
        return (batch[1] - encoder(*tokenizer.encode([one]))[0]).abs().max() > 1e-4""", """
        tokens, keep = tokenizer.encode(["a cat"])
        longer = F.pad(tokens, (0, 3)), F.pad(keep, (0, 3))
        return not torch.allclose(encoder(tokens, keep), encoder(*longer), atol=1e-5)"""],
    "share_nearer": ["""
        near, far = F.cosine_similarity(own, turned), F.cosine_similarity(own, opposite)
        return torch.sum(near > far) / len(own)""", """
        wins = [(a @ b > a @ c).float() for a, b, c in zip(own, turned, opposite)]
        return torch.stack(wins).mean()"""]}
WRONG = {
    "pieces": ["""
        cut, start = [], 0
        while start < len(word):
            for end in range(start + 1, len(word) + 1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in vocabulary:
                    break
            else:
                return ["[UNK]"]
            cut.append(piece)
            start = end
        return cut""", """
        cut, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in vocabulary:
                    break
            else:
                piece, end = "[UNK]", start + 1
            cut.append(piece)
            start = end
        return cut""", """
        cut, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                if word[start:end] in vocabulary or "##" + word[start:end] in vocabulary:
                    break
            else:
                return ["[UNK]"]
            cut.append(word[start:end])
            start = end
        return cut"""],
    "merged": ["""
        new, i = [], 0
        while i < len(cut):
            pair = cut[i:i + 2] == [a, b]
            new.append(a + b if pair else cut[i])
            i += 2 if pair else 1
        return new""", """
        new = []
        for i, piece in enumerate(cut):
            if cut[i:i + 2] == [a, b]:
                new.append(a + b.removeprefix("##"))
            elif not (i and cut[i - 1] == a and piece == b):
                new.append(piece)
        return new""", """
        i = next((i for i in range(len(cut)) if cut[i:i + 2] == [a, b]), None)
        return cut if i is None else [*cut[:i], a + b.removeprefix("##"), *cut[i + 2:]]""", """
        return " ".join(cut).replace(f"{a} {b}", a + b.removeprefix("##")).split()"""],
    "Embeddings": [
        SUM.format("return self.norm(words + self.pos_embed.weight[:l])"),
        SUM.format("return self.norm(words) + self.pos_embed.weight[:l] + self.type_embed.weight[0]"),
        SUM.format("return self.norm(words + self.pos_embed.weight[1:l + 1] + self.type_embed.weight[0])"),
        SUM.format("return self.norm(words + self.pos_embed.weight[:l] + self.type_embed.weight.sum(0))"),
        SUM.format("return words + self.pos_embed.weight[:l] + self.type_embed.weight[0]")],
    "attend": ["""
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * keep[:, None] @ v""", """
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v""", """
        return (q @ k.mT).masked_fill(~keep[:, None], -torch.inf).softmax(-1) @ v""", """
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~keep[:, None], 0).softmax(-1) @ v""", """
        return (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(keep[:, None], -1e9).softmax(-1) @ v"""],
    "padding_leaks": ["""
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        return not torch.equal(alone, encoder(*tokenizer.encode(["a cat", "a big dog left of a bee"]))[0])""", """
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        return not torch.allclose(alone, encoder(*tokenizer.encode(["a cat", "a dog"]))[0], atol=1e-5)""", """
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        among = encoder(*tokenizer.encode(["a cat", "a big dog left of a bee"]))[0]
        return F.cosine_similarity(alone, among, dim=0) < 0.99""", """
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        among = encoder(*tokenizer.encode(["a cat", "a big dog left of a bee"]))[0]
        return torch.allclose(alone, among, atol=1e-5)"""],
    "share_nearer": ["return (own @ turned.T > own @ opposite.T).float().mean()",
                     "return ((own * turned).sum(1).mean() > (own * opposite).sum(1).mean()).float()",
                     "return ((own * turned).sum(1) < (own * opposite).sum(1)).float().mean()",
                     "return ((own * turned).sum(0) > (own * opposite).sum(0)).float().mean()"]}
