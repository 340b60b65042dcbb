"""Assignment 4: a solution of every answer, and model answers to what a person grades."""


# %% answer cross_attention
def cross_attention(words: Tensor, patches: Tensor, picture: Tensor, q, k, v,
                    heads: int) -> Tensor:
    """What words take from pictures: words (b, l, d), patches (p, n, i), picture (b,) of
    each text -> (b, l, d)."""
    queries = rearrange(q(words), "b l (h d) -> b h l d", h=heads)
    keys, values = (rearrange(f(patches), "p n (h d) -> p h n d", h=heads)[picture]
                    for f in (k, v))
    shares = (queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(-1)  # (b, h, l, n)
    return rearrange(shares @ values, "b h l d -> b l (h d)")


# %% answer fusion_layer
def fusion_layer(words: Tensor, keep: Tensor, tokens: Tensor, attn, norm1, cross, norm2,
                 mlp, norm3) -> Tensor:
    """A post-norm layer of functions: words (b, l, d), keep (b, l), tokens (b, 1 + n, i), [CLS]
    first -> (b, l, d).

    attn(x, keep), cross(x, patches), mlp(x) and the norms, in the order of their numbers: each
    keeps the shape of x
    """
    words = norm1(words + attn(words, keep))
    words = norm2(words + cross(words, tokens[:, 1:]))
    return norm3(words + mlp(words))


# %% answer hard_negatives
def hard_negatives(query: Tensor, ids: Tensor, keys: Tensor, key_ids: Tensor,
                   queue: Tensor, queue_ids: Tensor, temperature: float,
                   generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A wrong key a query: query (b, e), ids (b,), batch keys (k, e), ids (k,), queue (m, e),
    (m,) -> index, valid.

    index (b,): from 0 on among the batch's keys, from k on the queue's; valid (b,): False where
    nothing can be drawn
    """
    sim = query @ torch.cat([keys, queue]).T / temperature       # (b, k + m)
    positive = ids[:, None] == torch.cat([key_ids, queue_ids])
    uniform = torch.rand(sim.shape, generator=generator)
    gumbel = -torch.log(-torch.log(uniform))
    index = (sim.masked_fill(positive, -torch.inf) + gumbel).argmax(-1)
    return index, ~positive.all(-1)


# %% answer match_loss
def match_loss(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy, true and false pairs alike: logits (r, 2), labels (r,), 1: a match,
    valid (r,) bool -> scalar."""
    cost = F.cross_entropy(logits, labels, reduction="none")
    kinds = [cost[valid & (labels == kind)] for kind in (0, 1)]
    means = [kind.mean() for kind in kinds if len(kind)]
    return sum(means) / len(means) if means else 0 * logits[~valid].sum()


# %% answer unnoticed
def unnoticed(text: str, vocabulary: list[str], match, true,
              tolerance: float) -> str | None:
    """The false caption, one word away from text, that moves similarity least and is a match;
    None if none is so near.

    match(list of captions) -> (captions,); true(caption) -> True, False or None
    """
    tokens = text.split()
    captions = [" ".join([*tokens[:i], word, *tokens[i + 1:]])
                for i in range(len(tokens)) for word in vocabulary]
    false = [caption for caption in captions if true(caption) is False]
    if not false:
        return None
    p = match(false)
    moved = (p - match([text])).abs().masked_fill(p <= 0.5, torch.inf)
    return false[moved.argmin()] if moved.min() <= tolerance else None


# %% written figure
# (a) The first: the points lie along the line, so similarity depends little on the word, while it
# differs more between scenes and their other words. The other's points would be scattered on both
# sides of the line, far from it. The spread of the difference: 0.011 for relations, 0.041 for
# sizes, 0.12 for things; or the correlation of the two similarities, 0.98 for relations and 0.28
# for things. A share alone can't tell. (3) (b) It hears it: similarity moves six times as far as
# for a relation (0.052, 0.008), and mostly the right way (0.90). It hardly hears relations and
# places: the true one is ahead in 0.58 and 0.50 here, in 0.56 of 500 of each. (2) (c) ln 2 = 0.69:
# of two equal keys the softmax can give neither more than half. A picture's vector is made before
# any caption is read, so it would have to hold, for every two things, which is left of which; and
# the caption's vector likewise. Fusion reads the picture with the caption at hand and looks up the
# one pair that was asked. (1)


# %% written paragraph
# (a) The least of several moves is small by selection, and the more changes are tried the smaller.
# Against it: six of seven finds turn a relation (253 of 294, in 300 scenes), though sizes are
# changed twice as often and things six times; a fair number compares each kind's own move over
# scenes, without a search (0.008 for relations, 0.30 for things). Control: the same search with
# relations left out of the vocabulary; or by ITM's P(match), which should find little; or the same
# number of random words of each kind. (2) (b) ITM gets nearly all relations right from the same
# patches and the same encoded words, so both hold what is needed, and are acquitted. Left are the
# two vectors: [CLS] of each, and its projection. A probe that reads from a picture's vector which
# of two named things stands left; another that reads from a caption's vector which thing was named
# first and whether "left" or "right" was said. If both can be read, the comparison by one dot
# product is to blame. (2) (c) Relations' siblings alone in the batch for a while, with a weight on
# ITC, as the lesson does for fusion; a deeper text encoder, which helps in some runs; or a
# similarity of words with patches in place of one of two vectors. Open ways: with only the reverse
# as the false sentence it learns to tell the sentence from its reverse and not left from above;
# words that are commoner in true captions; a thing that mostly stands left. So each caption is true
# of one picture and false of its sibling, and in the end all four ways, either order. And other
# questions have to go on, or they are forgotten. (2)
