"""Chapter 06's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""

RIGHT = {
    "cross_attention": """
        def heads(y):
            return y.view(len(y), layer.heads, -1).transpose(0, 1)                 # (h, rows, c)
        q, k, v = heads(layer.q(x)), heads(layer.k(source)), heads(layer.v(source))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return layer.proj((weights @ v).transpose(0, 1).flatten(1))
    """,
    "fuse_words": """
        read = self.dropout(self.attn(x, x, keep))
        x = self.norm1(read + x)
        look = self.dropout(self.cross(x, keys_values=(self.cross.k(image), self.cross.v(image))))
        x = self.norm_cross(look + x)
        return self.norm2(self.dropout(self.mlp(x)) + x)
    """,
    "itm_pairs": """
        found = []
        for i, (image, text) in enumerate(zip(wrong_image.tolist(), wrong_text.tolist())):
            found += [(i, i, True), (i, image, False), (text, i, False)]
        texts, images, true = zip(*found)
        return list(texts), list(images), list(true)
    """,
    "chances": "return torch.where(own, -1e9, sim).softmax(1)",
    "hard_negatives": """
        valid = (~own).any(1)
        noisy = sim - uniform.log().neg().log()
        return torch.where(own, -1e9, noisy).argmax(1), valid
    """,
    "false_negatives": """
        chance = sim.masked_fill(own, -1e9).softmax(1)
        return chance[true & ~own].sum().item() / len(sim)
    """,
}
WRONG = {
    "cross_attention": """
        q, k, v = layer.q(x), layer.k(source), layer.v(source)                     # one head
        return layer.proj(F.scaled_dot_product_attention(q, k, v))
    """,
    "fuse_words": """
        x = self.norm_cross(x + self.cross(x, image))
        x = self.norm1(x + self.attn(x, keep=keep))
        return self.norm2(x + self.mlp(x))
    """,
    "itm_pairs": """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) < len(own)
        return torch.cat([own, wrong_image, own]), torch.cat([own, own, wrong_text]), labels
    """,
    "chances": "return sim.softmax(-1).masked_fill(own, 0)",
    "hard_negatives": "return (sim - torch.log(-torch.log(uniform))).argmax(-1), ~own.all(-1)",
    "false_negatives": "return (sim.softmax(-1) * true).sum(-1).mean()",
}
