"""Chapter 03's blanks, filled in other ways than its answers, and wrongly."""

RIGHT = {
    "pieces": """
        cut, rest = [], word
        while rest:
            mark = "##" if cut else ""
            fits = [end for end in range(1, len(rest) + 1) if mark + rest[:end] in vocabulary]
            if not fits:
                return ["[UNK]"]
            cut.append(mark + rest[:fits[-1]])
            rest = rest[fits[-1]:]
        return cut
    """,
    "merged": """
        new = []
        while cut:
            piece = cut.pop(0)
            if piece == a and cut and cut[0] == b:
                piece += cut.pop(0)[2:] if b.startswith("##") else b
            new.append(piece)
        return new
    """,
    "Embeddings": """
        class Embeddings(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
                self.pos_embed = nn.Embedding(config.positions, config.text_width)
                self.type_embed = nn.Embedding(2, config.text_width)
                self.norm = nn.LayerNorm(config.text_width, eps=1e-12)

            def forward(self, tokens):
                words, l = self.word_embed(tokens), tokens.shape[1]
                types = self.type_embed(torch.zeros_like(tokens))
                return self.norm(words + self.pos_embed.weight[:l] + types)
    """,
    "attend": """
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~keep.unsqueeze(1), -1e9)
        return scores.softmax(-1) @ v
    """,
    "padding_leaks": """
        one, two = "a dog", "a small key, and a big cake to the right of a big bee"
        batch = encoder(*tokenizer.encode([two, one]))
        return (batch[1] - encoder(*tokenizer.encode([one]))[0]).abs().max() > 1e-4
    """,
    "share_nearer": """
        near, far = F.cosine_similarity(own, turned), F.cosine_similarity(own, opposite)
        return torch.sum(near > far) / len(own)
    """,
}
WRONG = {
    "pieces": """
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
        return cut
    """,
    "merged": """
        new, i = [], 0
        while i < len(cut):
            pair = cut[i:i + 2] == [a, b]
            new.append(a + b if pair else cut[i])
            i += 2 if pair else 1
        return new
    """,
    "Embeddings": """
        class Embeddings(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
                self.pos_embed = nn.Embedding(config.positions, config.text_width)
                self.type_embed = nn.Embedding(2, config.text_width)
                self.norm = nn.LayerNorm(config.text_width, eps=1e-12)

            def forward(self, tokens):
                words, l = self.word_embed(tokens), tokens.shape[1]
                return self.norm(words + self.pos_embed.weight[:l])
    """,
    "attend": "return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * keep[:, None] @ v",
    "padding_leaks": """
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        both = tokenizer.encode(["a cat", "a big dog left of a bee"])
        return not torch.equal(alone, encoder(*both)[0])
    """,
    "share_nearer": "return (own @ turned.T > own @ opposite.T).float().mean()",
}
