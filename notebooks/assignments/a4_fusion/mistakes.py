"""Assignment 4: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% cross_attention
mistakes = {
    "not scaled": (" / queries.shape[-1] ** 0.5", ""),
    "scaled by the whole width": ("queries.shape[-1] ** 0.5",
                                  "(heads * queries.shape[-1]) ** 0.5"),
    "scaled without the root": ("queries.shape[-1] ** 0.5", "queries.shape[-1]"),
    "softmax over words": ("softmax(-1)", "softmax(-2)"),
    "sigmoid for softmax": ("softmax(-1)", "sigmoid()"),
    "one head": ("h=heads)\n    keys", "h=1)\n    keys", "h=heads)[picture]",
                 "h=1)[picture]"),
    "heads interleaved": ('"b l (h d) -> b h l d"', '"b l (d h) -> b h l d"',
                          '"p n (h d) -> p h n d"', '"p n (d h) -> p h n d"'),
    "heads merged crosswise": ('"b h l d -> b l (h d)"', '"b h l d -> b l (d h)"'),
    "keys for values": ("shares @ values", "shares @ keys"),
    "keys and values change places": ("for f in (k, v)", "for f in (v, k)"),
    "always the first picture": ("[picture]", "[0 * picture]"),
    "the text's own number for its picture": (
        "[picture]", "[torch.arange(len(words)) % len(patches)]"),
    "computed for every text": ("f(patches)", "f(patches[picture])",
                                "h=heads)[picture]", "h=heads)"),
    "the first patch is not seen": ("softmax(-1)",
                                    "masked_fill(torch.arange(patches.shape[1]) == "
                                    "0, -torch.inf).softmax(-1)"),
    "words added, which comes later": ("-> b l (h d)\")", "-> b l (h d)\") + words"),
    "pictures cannot learn": ("f(patches)", "f(patches.detach())"),
    "patches ask": ("queries = rearrange(q(words)",
                    "queries = rearrange(q(words.mean(1, "
                    "keepdim=True).expand(words.shape))"),
    "exponentials without the maximum": (
        ".softmax(-1)", ".exp()\n    shares = shares / shares.sum(-1, keepdim=True)"),
    "scores clamped": (".softmax(-1)", ".clamp(-50, 50).softmax(-1)"),
    "words cannot learn": ("q(words)", "q(words.detach())"),
    "keys cannot learn": ("queries @ keys.mT", "queries @ keys.detach().mT"),
    "values cannot learn": ("shares @ values", "shares @ values.detach()"),
    "shares cannot learn": ("shares @ values", "shares.detach() @ values"),
    "two pictures": ("h=heads)[picture]", "h=heads)[picture.clamp(max=1)]"),
    "three heads": ('h=heads)\n    keys', 'h=3)\n    keys', "h=heads)[picture]",
                    "h=3)[picture]"),
    "four texts": ("return rearrange(shares @ values,",
                   "return rearrange((shares @ values)[:4],"),
    "the first text's picture for all": ("[picture]", "[picture[:1]]"),
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


def cross_attention_by_einsum(words, patches, picture, q, k, v, heads):
    a = q(words).reshape(*words.shape[:2], heads, -1)
    b, c = (f(patches).reshape(*patches.shape[:2], heads, a.shape[-1]).index_select(
                0, picture) for f in (k, v))
    scores = torch.einsum("blhd,bnhd->bhln", a, b) * a.shape[-1] ** -0.5
    return torch.einsum("bhln,bnhd->blhd", F.softmax(scores, dim=-1), c).flatten(2)


def cross_attention_by_picture(words, patches, picture, q, k, v, heads):
    a = q(words)
    out = [None] * len(words)
    for j in picture.unique().tolist():
        keys = k(patches[j:j + 1])[0]
        values = v(patches[j:j + 1])[0]
        for i in (picture == j).nonzero()[:, 0].tolist():
            parts = zip(a[i].chunk(heads, -1), keys.chunk(heads, -1),
                        values.chunk(heads, -1))
            out[i] = torch.cat([(x @ y.T / y.shape[1] ** 0.5).softmax(1) @ z
                                for x, y, z in parts], 1)
    return torch.stack(out)


def cross_attention_by_exponentials(words, patches, picture, q, k, v, heads):
    asking = rearrange(q(words), "b l (h d) -> (b h) l d", h=heads)
    keys = rearrange(k(patches)[picture], "b n (h d) -> (b h) n d", h=heads)
    values = rearrange(v(patches)[picture], "b n (h d) -> (b h) n d", h=heads)
    scores = torch.bmm(asking, keys.transpose(1, 2)) / keys.shape[-1] ** 0.5
    mass = (scores - scores.amax(-1, keepdim=True)).exp()
    return rearrange(mass @ values / mass.sum(-1, keepdim=True),
                     "(b h) l d -> b l (h d)", h=heads)


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
    "think before looking": ("words = norm2(words + cross(words, tokens[:, 1:]))\n"
                             "    return norm3(words + mlp(words))",
                             "words = norm3(words + mlp(words))\n"
                             "    return norm2(words + cross(words, tokens[:, 1:]))"),
    "no path around attention": ("norm1(words + attn", "norm1(attn"),
    "no path around looking": ("norm2(words + cross", "norm2(cross"),
    "no path around the MLP": ("norm3(words + mlp", "norm3(mlp"),
    "the picture's [CLS] is seen": ("tokens[:, 1:]", "tokens"),
    "only the picture's [CLS] is seen": ("tokens[:, 1:]", "tokens[:, :1]"),
    "the last patch is not seen": ("tokens[:, 1:]", "tokens[:, 1:-1]"),
    "mask reversed": ("attn(words, keep)", "attn(words, ~keep)"),
    "mask forgotten": ("attn(words, keep)", "attn(words, keep | True)"),
    "padding does not ask": ("cross(words, tokens[:, 1:])",
                             "cross(words, tokens[:, 1:]) * keep[..., None]"),
    "norms change places": ("norm2(words + cross", "norm3(words + cross",
                            "norm3(words + mlp", "norm2(words + mlp"),
    "the old words look": ("words = norm1(words + attn(words, keep))",
                           "old, words = words, norm1(words + attn(words, keep))",
                           "cross(words, ", "cross(old, "),
    "one norm left out": ("return norm3(words + mlp(words))",
                          "return words + mlp(words)"),
    "in place": ("words = norm1(words + attn(words, keep))",
                 "words += attn(words, keep)\n    words = norm1(words)"),
    "pictures cannot learn": ("tokens[:, 1:]", "tokens[:, 1:].detach()"),
    "what words say cannot learn": ("attn(words, keep)", "attn(words, keep).detach()"),
    "what is seen cannot learn": ("cross(words, tokens[:, 1:])",
                                  "cross(words, tokens[:, 1:]).detach()"),
    "what looks cannot learn": ("cross(words, ", "cross(words.detach(), "),
    "what the MLP says cannot learn": ("mlp(words)", "mlp(words).detach()"),
    "the first text's padding for all": ("attn(words, keep)",
                                         "attn(words, keep[:1].expand(keep.shape))"),
    "the caller's padding is opened": ("return norm3(words + mlp(words))",
                                       "keep[:] = True\n"
                                       "    return norm3(words + mlp(words))")}


def fusion_layer_in_one_line(words, keep, tokens, attn, norm1, cross, norm2, mlp,
                             norm3):
    return norm3((y := norm2((x := norm1(words + attn(words, keep)))
                             + cross(x, tokens[:, 1:]))) + mlp(y))


def fusion_layer_by_loop(words, keep, tokens, attn, norm1, cross, norm2, mlp, norm3):
    patches = tokens.narrow(1, 1, tokens.shape[1] - 1)
    for norm, part, *more in ((norm1, attn, keep), (norm2, cross, patches),
                              (norm3, mlp)):
        words = norm(part(words, *more) + words)
    return words


def fusion_layer_named(words, keep, tokens, attn, norm1, cross, norm2, mlp, norm3):
    _, patches = tokens.split([1, tokens.shape[1] - 1], dim=1)
    after_text = norm1(torch.add(words, attn(words, keep)))
    looked = norm2(torch.add(after_text, cross(after_text, patches)))
    return norm3(torch.add(looked, mlp(looked)))


def fusion_layer_copied(words, keep, tokens, attn, norm1, cross, norm2, mlp, norm3):
    def after(x, heard, norm):
        return norm(x.clone().add_(heard))

    words = after(words, attn(words, keep), norm1)
    words = after(words, cross(words, torch.stack(tokens.unbind(1)[1:], 1)), norm2)
    return after(words, mlp(words), norm3)


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
    "the diagonal alone": ("ids[:, None] == torch.cat([key_ids, queue_ids])",
                           "torch.eye(*sim.shape, dtype=torch.bool)"),
    "own keys of the queue drawn": ("torch.cat([key_ids, queue_ids])",
                                    "torch.cat([key_ids, -1 - queue_ids])"),
    "own keys alone": ("sim.masked_fill(positive,", "sim.masked_fill(~positive,"),
    "no temperature": (" / temperature", ""),
    "times the temperature": ("/ temperature", "* temperature"),
    "drawn evenly": ("sim.masked_fill(positive,", "(0 * sim).masked_fill(positive,"),
    "the easiest": ("sim.masked_fill(positive,", "(-sim).masked_fill(positive,"),
    "from the batch alone": ("sim.masked_fill(positive, ",
                             "sim.masked_fill(positive | (torch.arange(sim.shape[1]) "
                             ">= len(keys)), "),
    "from the queue alone": ("sim.masked_fill(positive, ",
                             "sim.masked_fill(positive | (torch.arange(sim.shape[1]) "
                             "< len(keys)), "),
    "queue before batch": ("[keys, queue]", "[queue, keys]", "[key_ids, queue_ids]",
                           "[queue_ids, key_ids]"),
    "struck out after the softmax": ("sim.masked_fill(positive, -torch.inf)",
                                     "sim.softmax(-1).masked_fill(positive, 0).log()"),
    "softmax over queries": ("sim.masked_fill(positive, -torch.inf)",
                             "sim.log_softmax(0).masked_fill(positive, -torch.inf)"),
    "one draw for all": ("torch.rand(sim.shape, generator=generator)",
                         "torch.rand(sim.shape[1], generator=generator)"),
    "noise that is even": ("gumbel = -torch.log(-torch.log(uniform))",
                           "gumbel = uniform"),
    "chance from elsewhere": ("torch.rand(sim.shape, generator=generator)",
                              "torch.rand(sim.shape)"),
    "always valid": ("~positive.all(-1)", "torch.ones_like(ids, dtype=torch.bool)"),
    "valid without an own key": ("~positive.all(-1)", "~positive.any(-1)"),
    "validity reversed": ("~positive.all(-1)", "positive.all(-1)"),
    "own keys a hundred less likely": ("-torch.inf", "-100.0"),
    "exponentials without the maximum": (
        "(sim.masked_fill(positive, -torch.inf) + gumbel).argmax(-1)",
        "(uniform.log() / sim.exp().masked_fill(positive, 0)).argmax(-1)"),
    "a small number added": ("sim.masked_fill(positive, -torch.inf)",
                             "(sim.masked_fill(positive, "
                             "-torch.inf).softmax(-1).nan_to_num() + 1e-3).log()"),
    "similarities clamped": ("sim.masked_fill(positive, ",
                             "sim.clamp(-50, 50).masked_fill(positive, "),
    "the generator is set back": ("    uniform =",
                                  "    generator.manual_seed(8)\n    uniform ="),
    "a generator of its own": ("generator=generator",
                               "generator=torch.Generator().manual_seed(0)"),
    "a copy of the generator": ("generator=generator",
                                "generator=generator.clone_state()"),
    "a seed of its own": ("    uniform =", "    torch.manual_seed(0)\n    uniform ="),
    "the first query's id for all": ("ids[:, None] == torch", "ids[:1, None] == torch"),
    "no index where nothing is valid": (").argmax(-1)",
                                        ").argmax(-1).where(~positive.all(-1), -1)"),
    "two keys in the batch": (
        "torch.cat([keys, queue])", "torch.cat([keys[:2], queue])",
        "torch.cat([key_ids, queue_ids])", "torch.cat([key_ids[:2], queue_ids])"),
    "an id of nought is none": ("torch.cat([key_ids, queue_ids])",
                                "torch.cat([key_ids, queue_ids.where(queue_ids "
                                "> 0, -9)])"),
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


def hard_negatives_by_cumulation(query, ids, keys, key_ids, queue, queue_ids,
                                 temperature, generator):
    positive = torch.cat([ids[:, None] == key_ids, ids[:, None] == queue_ids], 1)
    sim = torch.cat([query @ keys.T, query @ queue.T], 1).double() / temperature
    sim = sim.masked_fill(positive, -torch.inf)
    mass = (sim - sim.amax(1, keepdim=True)).exp().nan_to_num(0)
    upto = mass.cumsum(1)
    u = torch.rand(len(ids), 1, generator=generator, dtype=torch.double) * upto[:, -1:]
    index = (upto <= u).sum(1).clamp(max=sim.shape[1] - 1)
    return index, (~positive).any(1)


def hard_negatives_by_race(query, ids, keys, key_ids, queue, queue_ids, temperature,
                           generator):
    all_keys = torch.vstack([keys, queue])
    all_ids = torch.hstack([key_ids, queue_ids])
    sim = torch.einsum("be,ke->bk", query, all_keys) / temperature
    wrong = all_ids[None] != ids[:, None]
    lap = torch.empty_like(sim).exponential_(generator=generator)
    return torch.where(wrong, lap.log() - sim, torch.inf).argmin(1), wrong.any(1)


def hard_negatives_by_kind_of_query(query, ids, keys, key_ids, queue, queue_ids,
                                    temperature, generator):
    every = torch.cat([key_ids, queue_ids])
    index = torch.zeros_like(ids)
    sim = query @ torch.cat([keys, queue]).T / temperature
    valid = torch.zeros(len(ids), dtype=torch.bool)
    for query_id in ids.unique():
        rows = (ids == query_id).nonzero()[:, 0]
        wrong = (every != query_id).nonzero()[:, 0]
        if len(wrong):
            chance = F.softmax(sim[rows][:, wrong], dim=1)
            index[rows] = wrong[torch.multinomial(chance, 1, generator=generator)[:, 0]]
            valid[rows] = True
    return index, valid


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
    "validity forgotten": ("cost[valid & (labels == kind)]", "cost[labels == kind]"),
    "invalid rows counted": ("cost[valid & (labels == kind)]",
                             "(cost * valid)[labels == kind]"),
    "validity reversed": ("cost[valid &", "cost[~valid &"),
    "labels reversed": ("F.cross_entropy(logits, labels,",
                        "F.cross_entropy(logits, 1 - labels,"),
    "true pairs alone": ("for kind in (0, 1)", "for kind in (1,)"),
    "false pairs alone": ("for kind in (0, 1)", "for kind in (0,)"),
    "softmax over pairs": ("F.cross_entropy(logits, labels, reduction=\"none\")",
                           "-logits.log_softmax(0).gather(1, labels[:, None])[:, 0]"),
    "yes alone": ("F.cross_entropy(logits, labels, reduction=\"none\")",
                  "F.binary_cross_entropy_with_logits(logits[:, 1], labels.float(), "
                  "reduction=\"none\")"),
    "probability for its logarithm": (
        "F.cross_entropy(logits, labels, reduction=\"none\")",
        "1 - logits.softmax(-1).gather(1, labels[:, None])[:, 0]"),
    "logarithm of a softmax": ("F.cross_entropy(logits, labels, reduction=\"none\")",
                               "-logits.softmax(-1).log().gather(1, labels[:, "
                               "None])[:, 0]"),
    "NaN where nothing is valid": (" if means else 0 * logits[~valid].sum()", "",
                                   "for kind in kinds if len(kind)]",
                                   "for kind in kinds]"),
    "a kind without a valid pair counts as nought": (
        "[kind.mean() for kind in kinds if len(kind)]",
        "[kind.sum() / max(1, len(kind)) for kind, n in zip(kinds, (0, 1)) if "
        "(labels == n).any()]"),
    "one third and two thirds": ("sum(means) / len(means)",
                                 "(means[0] * 2 + means[-1]) / 3"),
    "a small number added": ("F.cross_entropy(logits, labels, reduction=\"none\")",
                             "-(logits.softmax(-1) + 1e-12).log().gather(1, "
                             "labels[:, None])[:, 0]"),
    "probabilities clamped": ("F.cross_entropy(logits, labels, reduction=\"none\")",
                              "-logits.softmax(-1).clamp(min=1e-12).log().gather(1, "
                              "labels[:, None])[:, 0]"),
    "binary cross-entropy of a sigmoid": (
        "F.cross_entropy(logits, labels, reduction=\"none\")",
        "F.binary_cross_entropy((logits[:, 1] - logits[:, 0]).sigmoid(), "
        "labels.float(), reduction=\"none\")"),
    "exponentials without the maximum": (
        "F.cross_entropy(logits, labels, reduction=\"none\")",
        "logits.exp().sum(-1).log() - logits.gather(1, labels[:, None])[:, 0]"),
    "false pairs cannot learn": ("    means = [",
                                 "    kinds[0] = kinds[0].detach()\n    means = ["),
    "true pairs cannot learn": ("    means = [",
                                "    kinds[1] = kinds[1].detach()\n    means = ["),
    "the caller's labels are struck out": ("    means = [",
                                           "    labels[~valid] = -1\n    means = [")}


def match_loss_by_weights(logits, labels, valid):
    count = torch.stack([(valid & (labels == kind)).sum() for kind in (0, 1)])
    # each kind's weights sum to one
    row = valid / count.clamp(min=1)[labels]
    log_p = logits.log_softmax(-1).take_along_dim(labels[:, None], 1)[:, 0]
    return -(row * log_p).sum() / (count > 0).sum().clamp(min=1)


def match_loss_by_torch(logits, labels, valid):
    if not valid.any():
        return logits.new_zeros(())
    logits = logits[valid]
    labels = labels[valid]
    return F.cross_entropy(logits, labels,
                           weight=1 / labels.bincount(minlength=2).clamp(min=1))


def match_loss_by_sign(logits, labels, valid):
    lead = (logits[:, 1] - logits[:, 0]) * (2 * labels - 1)
    cost = F.softplus(-lead)
    total = []
    for kind in labels[valid].unique():
        total.append(cost[(labels == kind) & valid].mean())
    return torch.stack(total).mean() if total else cost.sum() * 0


def match_loss_by_loop(logits, labels, valid):
    paid = [0.0, 0.0]
    counts = [0, 0]
    for row, label, there in zip(logits, labels.tolist(), valid.tolist()):
        if there:
            paid[label] = paid[label] - row.log_softmax(0)[label]
            counts[label] += 1
    parts = [p / n for p, n in zip(paid, counts) if n]
    return torch.as_tensor(sum(parts) / max(1, len(parts)))


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
    "tolerance forgotten": ("if moved.min() <= tolerance else None",
                            "if moved.isfinite().any() else None"),
    "true captions, too": ("is False", "is not None and caption != text"),
    "what nobody can tell, too": ("is False", "is not True"),
    "true captions alone": ("is False", "and caption != text"),
    "no match any more": (".masked_fill(p <= 0.5, torch.inf)", ""),
    "only what falls": ("(p - match([text])).abs()", "(match([text]) - p)"),
    "only what rises": ("(p - match([text])).abs()",
                        "(p - match([text])).masked_fill(p "
                        "< match([text]), torch.inf)"),
    "the caption against one half": ("match([text])", "0.5"),
    "two words": ("if true(caption)", "for b in few_of(caption, vocabulary) if true(b)",
                  "[caption for", "[b for", "    tokens = text.split()",
                  "    def few_of(x, words):\n        y = x.split()\n"
                  "        return [' '.join([*y[:i], w, *y[i + 1:]]) for i in "
                  "range(len(y)) for w in words]\n" "    tokens = text.split()"),
    "a word everywhere": ('" ".join([*tokens[:i], word, *tokens[i + 1:]])',
                          "text.replace(tokens[i], word)"),
    "a word more": ("*tokens[i + 1:]", "*tokens[i:]"),
    "the last word stays": ("range(len(tokens))", "range(len(tokens) - 1)"),
    "the first words stay": ("range(len(tokens))", "range(2, len(tokens))"),
    "nothing to find": ("return false[moved.argmin()] if moved.min() "
                        "<= tolerance else None", "return None"),
    "one half itself passes": ("p <= 0.5", "p < 0.5"),
    "the tolerance itself is too much": ("moved.min() <= tolerance",
                                         "moved.min() < tolerance"),
    "the caller's vocabulary is sorted": ("    tokens = text.split()",
                                          "    vocabulary.sort()\n"
                                          "    tokens = text.split()"),
    "the caller's vocabulary grows": ("    tokens = text.split()",
                                      "    tokens = text.split()\n"
                                      "    vocabulary += tokens")}


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


def unnoticed_by_sorting(text, vocabulary, match, true, tolerance):
    tokens = text.split()
    before = match([text]).item()
    every = {" ".join(word if j == i else w for j, w in enumerate(tokens))
             for i in range(len(tokens)) for word in set(vocabulary)}
    every.discard(text)
    p = dict(zip(every, match(list(every)).tolist()))
    fine = [caption
            for caption in every
            if true(caption) is False and p[caption] > 0.5
            and abs(p[caption] - before) <= tolerance]
    return (sorted(fine, key=lambda caption: (abs(p[caption] - before), caption))[0]
            if fine else None)


def unnoticed_by_recursion(text, vocabulary, match, true, tolerance):
    def changes(head, tail):
        if not tail:
            return []
        first = tail[0]
        rest = tail[1:]
        return [" ".join(head + [word] + rest) for word in vocabulary] + changes(
            head + [first], rest)

    captions = [text,
                *(caption
                  for caption in changes([], text.split()) if true(caption) is False)]
    before, *after = match(captions).tolist()
    ways = [(abs(p - before), caption) for p, caption in zip(after, captions[1:])
            if 0.5 < p and before - tolerance <= p <= before + tolerance]
    return min(ways)[1] if ways else None


def unnoticed_by_topk(text, vocabulary, match, true, tolerance):
    tokens = text.split()
    every = [" ".join(tokens[:n // len(vocabulary)] + [vocabulary[n % len(vocabulary)]]
                      + tokens[n // len(vocabulary) + 1:])
             for n in range(len(tokens) * len(vocabulary))]
    false = torch.tensor([true(caption) is False for caption in every])
    p = match([text, *every])
    cost = torch.where(false & (p[1:] > 0.5), (p[1:] - p[0]).abs(), torch.inf)
    value, place = cost.topk(1, largest=False)
    return every[place] if value <= tolerance else None
