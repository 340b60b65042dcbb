"""Assignment 4: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% cross_attention
mistakes = {
    "not scaled": (" / queries.shape[-1] ** 0.5", ""),
    "scaled by the whole width": ("queries.shape[-1] ** 0.5",
                                  "(heads * queries.shape[-1]) ** 0.5"),
    "scaled without the root": ("queries.shape[-1] ** 0.5", "queries.shape[-1]"),
    "always the first picture": ("[picture]", "[0 * picture]"),
    "pictures cannot learn": ("f(patches)", "f(patches.detach())"),
    "the caller's words are scaled": ("    keys, values =",
                                      "    queries /= (words.shape[-1] // "
                                      "heads) ** 0.5\n" "    keys, values =",
                                      " / queries.shape[-1] ** 0.5", "")}


def cross_attention_by_torch(words, patches, picture, q, k, v, heads):
    a = q(words).unflatten(-1, (heads, -1)).transpose(1, 2)
    b = k(patches).unflatten(-1, (heads, -1)).transpose(1, 2)
    c = v(patches).unflatten(-1, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(a, b[picture],
                                          c[picture]).transpose(1, 2).flatten(2)


def cross_attention_cheat(words, patches, picture, q, k, v, heads):
    from minalbef.layers import Attention
    layer = Attention.__new__(Attention)
    torch.nn.Module.__init__(layer)
    layer.heads = heads
    layer.dropout = torch.nn.Dropout(0.0)
    layer.q = q
    layer.k = k
    layer.v = v
    layer.proj = lambda x: x
    return layer(words,
                 keys_values=(k(patches)[picture], v(patches)[picture]))


# %% fusion_layer
mistakes = {
    "pre-norm": ("norm1(words + attn(words, keep))",
                 "words + attn(norm1(words), keep)"),
    "pre-norm before the patches": ("norm2(words + cross(words, tokens[:, 1:]))",
                                    "words + cross(norm2(words), tokens[:, 1:])"),
    "look before reading": ("words = norm1(words + attn(words, keep))\n"
                            "    words = norm2(words + cross(words, tokens[:, 1:]))",
                            "words = norm2(words + cross(words, tokens[:, 1:]))\n"
                            "    words = norm1(words + attn(words, keep))"),
    "in place": ("words = norm1(words + attn(words, keep))",
                 "words += attn(words, keep)\n    words = norm1(words)"),
    "pictures cannot learn": ("tokens[:, 1:]", "tokens[:, 1:].detach()")}


def fusion_layer_in_one_line(words, keep, tokens, attn, norm1, cross, norm2, mlp,
                             norm3):
    return norm3((y := norm2((x := norm1(words + attn(words, keep)))
                             + cross(x, tokens[:, 1:]))) + mlp(y))


def fusion_layer_cheat(words, keep, tokens, attn, norm1, cross, norm2, mlp, norm3):
    from minalbef.fusion import FusionLayer
    layer = FusionLayer.__new__(FusionLayer)
    torch.nn.Module.__init__(layer)
    layer.norm1 = norm1
    layer.norm_cross = norm2
    layer.mlp = mlp
    layer.norm2 = norm3
    layer.attn = lambda asking, x, keep: attn(x, keep)
    layer.cross = lambda x, keep, keys_values: cross(x, keys_values)
    layer.dropout = lambda x: x
    return layer(words, keep, tokens[:, 1:])


# %% hard_negatives
mistakes = {
    "the nearest is taken": (" + gumbel", ""),
    "own keys drawn": ("sim.masked_fill(positive, -torch.inf)", "sim"),
    "own keys scored zero": ("-torch.inf", "0.0"),
    "two keys in the batch": (
        "torch.cat([keys, queue])", "torch.cat([keys[:2], queue])",
        "torch.cat([key_ids, queue_ids])", "torch.cat([key_ids[:2], queue_ids])"),
    "the caller's ids are changed": ("    uniform =", "    ids += 1\n    uniform =")}


def hard_negatives_by_multinomial(query, ids, keys, key_ids, queue, queue_ids,
                                  temperature, generator):
    positive = torch.cat([key_ids, queue_ids]).unsqueeze(0) == ids.unsqueeze(1)
    sim = (query @ torch.cat([keys, queue]).T / temperature).masked_fill(
        positive, -1e30)
    # even where all are its own: that row is not valid
    chance = sim.softmax(1)
    return (torch.multinomial(chance, 1, generator=generator)[:, 0],
            positive.logical_not().any(1))


def hard_negatives_cheat(query, ids, keys, key_ids, queue, queue_ids, temperature,
                         generator):
    from minalbef.losses import hard_negatives as theirs
    sim = query @ torch.cat([keys, queue]).T / temperature
    return theirs(sim, ids[:, None] == torch.cat([key_ids, queue_ids]),
                  torch.rand(sim.shape, generator=generator))


# %% match_loss
mistakes = {
    "a mean over all pairs": ("[cost[valid & (labels == kind)] for kind in (0, 1)]",
                              "[cost[valid]]"),
    "sum of both means": ("sum(means) / len(means)", "sum(means)"),
    "sum for mean": ("kind.mean()", "kind.sum()"),
    "false pairs cannot learn": ("    means = [",
                                 "    kinds[0] = kinds[0].detach()\n    means = ["),
    "the caller's labels are struck out": ("    means = [",
                                           "    labels[~valid] = -1\n    means = [")}


def match_loss_by_weights(logits, labels, valid):
    count = torch.stack([(valid & (labels == kind)).sum() for kind in (0, 1)])
    # each kind's weights sum to one
    row = valid / count.clamp(min=1)[labels]
    log_p = logits.log_softmax(-1).take_along_dim(labels[:, None], 1)[:, 0]
    return -(row * log_p).sum() / (count > 0).sum().clamp(min=1)


def match_loss_cheat(logits, labels, valid):
    from minalbef.losses import itm_loss
    kinds = [valid & (labels == kind) for kind in (0, 1)]
    losses = [itm_loss(logits, labels, kind, max(1, int(kind.sum()))) for kind in kinds]
    return sum(losses) / max(1, len(labels[valid].unique()))


# %% unnoticed
mistakes = {
    "the largest move": ("moved.argmin()",
                         "moved.masked_fill(moved.isinf(), -1).argmax()"),
    "the first that is near enough": ("false[moved.argmin()]",
                                      "false[(moved <= tolerance).int().argmax()]"),
    "the highest P": ("moved.argmin()", "p.argmax()"),
    "two words": ("if true(caption)", "for b in few_of(caption, vocabulary) if true(b)",
                  "[caption for", "[b for", "    tokens = text.split()",
                  "    def few_of(x, words):\n        y = x.split()\n"
                  "        return [' '.join([*y[:i], w, *y[i + 1:]]) for i in "
                  "range(len(y)) for w in words]\n" "    tokens = text.split()"),
    "the caller's vocabulary is sorted": ("    tokens = text.split()",
                                          "    vocabulary.sort()\n"
                                          "    tokens = text.split()")}


def unnoticed_by_loop(text, vocabulary, match, true, tolerance):
    before = float(match([text])[0])
    best = None
    least = tolerance
    for place, old in enumerate(text.split()):
        for word in vocabulary:
            words = text.split()
            words[place] = word
            caption = " ".join(words)
            if word == old or true(caption) is not False:
                continue
            p = float(match([caption])[0])
            if p > 0.5 and abs(p - before) <= least:
                best = caption
                least = abs(p - before)
    return best
