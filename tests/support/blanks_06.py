"""Chapter 06's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""
RIGHT = {
    "cross_attention": ["""
        def heads(y):
            return y.view(len(y), layer.heads, -1).transpose(0, 1)                 # (h, rows, c)
        q, k, v = heads(layer.q(x)), heads(layer.k(source)), heads(layer.v(source))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return layer.proj((weights @ v).transpose(0, 1).flatten(1))""", """
        keys, values = layer.keys_values(source)
        width = keys.shape[1] // layer.heads
        found = []
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            scores = layer.q(x)[:, part] @ keys[:, part].T / width ** 0.5
            found.append(scores.softmax(1) @ values[:, part])
        return layer.proj(torch.hstack(found))"""],
    "fuse_words": ["""
        read = self.dropout(self.attn(x, x, keep))
        x = self.norm1(read + x)
        look = self.dropout(self.cross(x, keys_values=self.cross.keys_values(image)))
        x = self.norm_cross(look + x)
        return self.norm2(self.dropout(self.mlp(x)) + x)""", """
        keys = keep[:, None].expand(-1, keep.shape[1], -1)
        x = self.norm1(x + self.attn(x, keep=keys))
        x = self.norm_cross(x + self.cross(x, image))
        return self.norm2(x + self.mlp(x))"""],
    "itm_pairs": ["""
        found = []
        for i, (image, text) in enumerate(zip(wrong_image.tolist(), wrong_text.tolist())):
            found += [(i, i, True), (i, image, False), (text, i, False)]
        texts, images, true = zip(*found)
        return list(texts), list(images), list(true)""", """
        own = torch.arange(len(wrong_text))
        labels = torch.tensor([0.0, 0.0, 1.0]).repeat_interleave(len(own))
        return torch.cat([wrong_text, own, own]), torch.cat([own, wrong_image, own]), labels"""],
    "chances": ["return torch.where(own, -1e9, sim).softmax(1)", """
        sim = sim - 1e6 * own
        weight = (sim - sim.amax(1, keepdim=True)).exp()
        return weight / weight.sum(1, keepdim=True)"""],
    "hard_negatives": ["""
        valid = (~own).any(1)
        noisy = sim - uniform.log().neg().log()
        return torch.where(own, -1e9, noisy).argmax(1), valid""", """
        chance = sim.masked_fill(own, -1e9).softmax(-1)
        return (chance / -uniform.log()).argmax(-1), own.sum(1) < own.shape[1]"""],
    "false_negatives": ["""
        chance = sim.masked_fill(own, -1e9).softmax(1)
        return chance[true & ~own].sum().item() / len(sim)""", """
        rows = []
        for scores, mine, fits in zip(sim, own, true):
            p = scores[~mine].softmax(0)
            rows.append(p[fits[~mine]].sum())
        return torch.stack(rows).mean()"""]}
WRONG = {
    "cross_attention": ["""
        q, k, v = layer.q(x), layer.k(source), layer.v(source)                     # one head
        return layer.proj(F.scaled_dot_product_attention(q, k, v))""", """
        q, k, v = (y.chunk(layer.heads, 1) for y in (layer.q(source), layer.k(x), layer.v(x)))
        outputs = [F.scaled_dot_product_attention(*head) for head in zip(q, k, v)]
        return layer.proj(torch.cat(outputs, 1))""", """
        q, k, v = (y.chunk(layer.heads, 1) for y in (layer.q(x), layer.k(source), layer.v(source)))
        return torch.cat([F.scaled_dot_product_attention(*head) for head in zip(q, k, v)], 1)""", """
        q, k, v = (y.chunk(layer.heads, 1) for y in (layer.q(x), layer.k(source), layer.v(source)))
        outputs = [(a @ b.T).softmax(-1) @ c for a, b, c in zip(q, k, v)]
        return layer.proj(torch.cat(outputs, 1))""", """
        q, k, v = (y.chunk(layer.heads, 1) for y in (layer.q(x), layer.k(source), layer.v(source)))
        outputs = [(a @ b.T / 2).softmax(0) @ c for a, b, c in zip(q, k, v)]
        return layer.proj(torch.cat(outputs, 1))"""],
    "fuse_words": ["""
        x = self.norm_cross(x + self.cross(x, image))
        x = self.norm1(x + self.attn(x, keep=keep))
        return self.norm2(x + self.mlp(x))""", """
        x = x + self.attn(self.norm1(x), keep=keep)
        x = x + self.cross(self.norm_cross(x), image)
        return x + self.mlp(self.norm2(x))""", """
        x = self.norm1(x + self.attn(x))
        x = self.norm_cross(x + self.cross(x, image))
        return self.norm2(x + self.mlp(x))""", """
        x = self.norm1(x + self.attn(x, keep=keep))
        x = self.norm_cross(x + self.cross(x, image))
        return self.norm2(self.mlp(x))""", """
        x = self.norm1(self.attn(x, keep=keep))
        x = self.norm_cross(self.cross(x, image))
        return self.norm2(x + self.mlp(x))"""],
    "itm_pairs": ["""
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) < len(own)
        return torch.cat([own, wrong_image, own]), torch.cat([own, own, wrong_text]), labels""", """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) >= len(own)
        return torch.cat([own, own, wrong_text]), torch.cat([own, wrong_image, own]), labels""", """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(2 * len(own)) < len(own)
        return torch.cat([own, wrong_text]), torch.cat([own, wrong_image]), labels""", """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) < len(own)       # a text as the row of an image
        return torch.cat([own, own, own]), torch.cat([own, wrong_image, wrong_text]), labels""", """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) < len(own)
        return torch.cat([own, own, wrong_text]), torch.cat([own, wrong_image, wrong_image]), labels"""],
    "chances": ["return sim.softmax(-1).masked_fill(own, 0)", """
        chance = sim.softmax(-1).masked_fill(own, 0)
        return chance / chance.sum(-1, keepdim=True)""", """
        chance = sim.softmax(-1).masked_fill(own, 0)
        return chance / (chance.sum(-1, keepdim=True) + 1e-9)""",
                "return sim.masked_fill(own, 0).softmax(-1)",
                "return sim.masked_fill(own, -torch.inf).softmax(0)",
                "return sim.masked_fill(~own, -torch.inf).softmax(-1)"],
    "hard_negatives": ["""
        return (sim - torch.log(-torch.log(uniform))).argmax(-1), ~own.all(-1)""", """
        noise = torch.log(-torch.log(uniform))
        return (sim.masked_fill(own, -torch.inf) + noise).argmax(-1), ~own.all(-1)""", """
        return sim.masked_fill(own, -torch.inf).argmax(-1), ~own.all(-1)""", """
        noise = -torch.log(-torch.log(uniform))
        return (sim.masked_fill(own, -torch.inf) + noise).argmax(-1), ~own.any(-1)""", """
        return (sim.masked_fill(own, -torch.inf) + uniform).argmax(-1), ~own.all(-1)"""],
    "false_negatives": ["return (sim.softmax(-1) * true).sum(-1).mean()",
                        "return (probabilities(sim, own) * true).mean()",
                        "return (true & ~own).float().mean()", """
        return true.gather(1, probabilities(sim, own).argmax(1)[:, None]).float().mean()"""]}
NEEDS: dict[str, list[str]] = {}
