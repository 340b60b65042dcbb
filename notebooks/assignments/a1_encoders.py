# %% [markdown]
# # Assignment 1 · Encoders
#
# **You build the parts of both encoders: a picture cut into tokens, positions, attention that does not see padding, a block,
# and the one vector that stands for the picture.** Then you look at what a trained model has learnt about places.
#
# - **Needs:** chapters 02 and 03. **Time:** five hours. **Points:** 28 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may run; those that grade you hold
#   more, on numbers of your own. `minalbef` is closed while they run: calling it earns nothing.
# - Letters: b batch, n tokens, k keys, d width, h heads, e the width of the shared space.
# %%
import grading
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import minalbef
from minalbef import plots
from minalbef.data import data_folder


# %% [markdown]
# ## 1. Patches (6 points)
#
# A picture is cut into squares of p by p pixels, row by row. Each square, all its channels, is flattened and multiplied by one
# matrix. The matrix comes as a convolution keeps it, (d, c, p, p), and the bias as (d,). You may do it with a convolution or
# without.
# %% answer patch_embed
def patch_embed(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A token for each patch, row by row: (b, c, y p, x p), (d, c, p, p), (d,) -> (b, y x, d)."""
    ### BEGIN SOLUTION
    p = weight.shape[-1]
    patches = rearrange(image, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p)
    return patches @ weight.flatten(1).T + bias
    ### END SOLUTION


# %% tests patch_embed 6
with grading.closed():
    g = grading.inputs()
    image, weight, bias = (torch.randn(size, generator=g) for size in ((2, 3, 4, 6), (5, 3, 2, 2), (5,)))
    tokens = patch_embed(image, weight, bias)
    assert tokens.shape == (2, 6, 5), "a token for each patch, of the matrix's width"
    grading.equal(patch_embed(image, 0 * weight, bias), bias.expand(2, 6, 5), "the bias is added once to every token")
    grading.equal(patch_embed(image[:, :, :2, :2], weight, bias)[:, 0], tokens[:, 0], "a token knows its own patch alone")
    grading.equal(patch_embed(image[:, :, :2], weight, bias), tokens[:, :3],
                  "patches go row by row: the upper half comes first")
    one = torch.zeros(1, 1, 2, 2)
    one[0, 0, 0, 1] = 1                                                      # looks at the pixel above right
    grading.equal(patch_embed(torch.arange(4.0).reshape(1, 1, 2, 2), one, torch.zeros(1)).flatten(), torch.tensor([1.0]),
                  "pixel and weight of one place meet")
    ### BEGIN HIDDEN TESTS
    bright = image.clone()
    bright[:, 0] += 1
    grading.equal(patch_embed(bright, weight, bias) - tokens, weight[:, 0].sum((1, 2)).expand(2, 6, 5),
                  "the first channel meets the first channel's weights")
    grading.same(patch_embed, lambda x, w, b: F.conv2d(x, w, b, stride=w.shape[-1]).flatten(2).mT, image, weight, bias,
                 says="the same as a convolution whose stride is its size, in values and in gradients")
    ### END HIDDEN TESTS

# %% instructor patch_embed
mistakes = {
    "column by column": ("b (y x) (c p q)", "b (x y) (c p q)"),
    "channels last": ("b (y x) (c p q)", "b (y x) (p q c)"),
    "patches transposed": ("b (y x) (c p q)", "b (y x) (c q p)"),
    "every other pixel": ("b c (y p) (x q)", "b c (p y) (q x)"),
    "cut as it lies in memory": ('rearrange(image, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p)',
                                 "image.reshape(len(image), -1, weight[0].numel())"),
    "no bias": (" + bias", ""),
    "bias twice": (" + bias", " + 2 * bias"),
    "upside down": ("weight.flatten(1)", "weight.flip(-1, -2).flatten(1)"),
    "channels reversed": ("weight.flatten(1)", "weight.flip(1).flatten(1)"),
    "mean for sum": (".T + bias", ".T / weight[0].numel() + bias"),
    "the matrix cannot learn": ("weight.flatten(1)", "weight.detach().flatten(1)"),
}


def patch_embed_by_convolution(image, weight, bias):
    return F.conv2d(image, weight, bias, stride=weight.shape[2]).flatten(2).transpose(1, 2)


def patch_embed_by_unfold(image, weight, bias):
    patches = F.unfold(image, weight.shape[-1], stride=weight.shape[-1]).transpose(1, 2)
    return F.linear(patches, weight.reshape(len(weight), -1), bias)


def patch_embed_by_einsum(image, weight, bias):
    p = weight.shape[-1]
    patches = image.unfold(2, p, p).unfold(3, p, p)              # (b, c, y, x, p, p)
    return torch.einsum("bcyxpq,dcpq->byxd", patches, weight).flatten(1, 2) + bias


def patch_embed_by_loops(image, weight, bias):
    p, rows, columns = weight.shape[-1], image.shape[2], image.shape[3]
    return torch.stack([(image[:, None, :, y:y + p, x:x + p] * weight).sum((2, 3, 4)) + bias
                        for y in range(0, rows, p) for x in range(0, columns, p)], 1)


def patch_embed_cheat(image, weight, bias):
    from minalbef.vision import PatchEmbed
    theirs = PatchEmbed(weight.shape[-1], len(weight))
    del theirs.proj
    theirs.proj = lambda x: F.conv2d(x, weight, bias, stride=weight.shape[-1])
    return theirs(image)


# %% [markdown]
# ## 2. [CLS] and positions (4 points)
#
# A learnt token goes in front of the patches. Then every token, that one too, gets the vector of its own place added. The
# caller's tensors stay as they are.
# %% answer with_positions
def with_positions(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """[CLS] in front, positions added to all: (b, n, d), (d,), (1 + n, d) -> (b, 1 + n, d)."""
    ### BEGIN SOLUTION
    cls = cls_token.expand(len(patches), 1, -1)
    return torch.cat([cls, patches], 1) + pos_embed
    ### END SOLUTION


# %% tests with_positions 4
with grading.closed():
    g = grading.inputs()
    patches, cls_token, pos_embed = (torch.randn(size, generator=g) for size in ((3, 4, 6), (6,), (5, 6)))
    before = patches.clone()
    tokens = with_positions(patches, cls_token, pos_embed)
    assert tokens.shape == (3, 5, 6), "one token more than patches"
    grading.equal(patches, before, "the caller's patches stay as they are")
    grading.equal(with_positions(patches, cls_token, 0 * pos_embed)[:, 0], cls_token.expand(3, 6),
                  "[CLS] comes first, in every picture")
    grading.equal(with_positions(patches, cls_token, 0 * pos_embed)[:, 1:], patches,
                  "the patches come after it, in their order")
    grading.equal(with_positions(0 * patches, 0 * cls_token, pos_embed), pos_embed.expand(3, 5, 6),
                  "every token gets its own place's vector, once, and [CLS] gets the first")
    ### BEGIN HIDDEN TESTS
    def formula(x, c, p):
        return torch.stack([c.expand(len(x), -1) + p[0], *(x[:, i] + p[i + 1] for i in range(4))], 1)

    grading.same(with_positions, formula, patches, cls_token, pos_embed,
                 says="patches, [CLS] and positions all learn, and are added and no more")
    ### END HIDDEN TESTS

# %% instructor with_positions
mistakes = {
    "[CLS] last": ("[cls, patches]", "[patches, cls]"),
    "no positions": (" + pos_embed", ""),
    "[CLS] without a place": ("torch.cat([cls, patches], 1) + pos_embed", "torch.cat([cls, patches + pos_embed[1:]], 1)"),
    "off by one": ("+ pos_embed", "+ pos_embed.roll(1, 0)"),
    "one place for all": ("+ pos_embed", "+ pos_embed.mean(0)"),
    "times, not plus": ("+ pos_embed", "* pos_embed"),
    "positions twice": ("+ pos_embed", "+ 2 * pos_embed"),
    "patches added to [CLS]": ("cls_token.expand(len(patches), 1, -1)", "cls_token + patches.mean(1, keepdim=True)"),
    "in place": ("return torch.cat([cls, patches], 1) + pos_embed",
                 "patches += pos_embed[1:]\n    return torch.cat([cls + pos_embed[0], patches], 1)"),
    "positions cannot learn": ("+ pos_embed", "+ pos_embed.detach()"),
    "the mean for [CLS]": ("cls_token.expand(len(patches), 1, -1)", "patches.mean(1, keepdim=True)"),
}


def with_positions_by_repeat(patches, cls_token, pos_embed):
    return torch.cat((cls_token.repeat(patches.shape[0], 1, 1), patches), dim=1) + pos_embed.unsqueeze(0)


def with_positions_apart(patches, cls_token, pos_embed):
    first = (cls_token + pos_embed[0]).expand(len(patches), 1, -1)
    return torch.cat([first, patches + pos_embed[1:]], 1)


def with_positions_by_padding(patches, cls_token, pos_embed):
    first = F.pad(cls_token[None], (0, 0, 0, patches.shape[1]))  # zeros where the patches stand
    return F.pad(patches, (0, 0, 1, 0)) + first + pos_embed


def with_positions_filled(patches, cls_token, pos_embed):
    b, n, d = patches.shape
    tokens = pos_embed.new_zeros(b, n + 1, d)
    tokens[:, 0], tokens[:, 1:] = cls_token, patches
    return tokens + pos_embed


def with_positions_cheat(patches, cls_token, pos_embed):
    vit = minalbef.ViT.__new__(minalbef.ViT)
    nn.Module.__init__(vit)
    vit.cls_token, vit.pos_embed, vit.blocks, vit.norm = cls_token[None, None], pos_embed, [], nn.Identity()
    return vit.attend(patches)


# %% [markdown]
# ## 3. Attention that does not see padding (8 points)
#
# The width is split into h heads of neighbouring columns. In each head a query's score for a key is their dot product over the
# root of the head's width. Keys where `keep` is False are padding: they get no weight, and what they hold changes nothing. The
# rest is a softmax over keys and a mean of the values by it. The heads are laid side by side again, in their order.
# %% answer attention
def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, heads: int) -> Tensor:
    """What each query takes from the values: q (b, n, d), k and v (b, k, d), keep (b, k) bool -> (b, n, d)."""
    ### BEGIN SOLUTION
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5                       # (b, h, n, k)
    weights = scores.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
    return rearrange(weights @ v, "b h n d -> b n (h d)")
    ### END SOLUTION


# %% tests attention 8
with grading.closed():
    g = grading.inputs()
    q, k, v = (torch.randn(2, n, 12, generator=g) for n in (3, 5, 5))
    keep = torch.arange(5) < torch.tensor([[3], [5]])                        # the first row has two keys of padding
    out = attention(q, k, v, keep, 3)
    assert out.shape == (2, 3, 12), "a row for each query, as wide as it was"
    assert not out.isnan().any(), "every query has a key that it may see, so nothing is undefined"
    grading.equal(attention(q, k, torch.ones(2, 5, 12), keep, 3), torch.ones(2, 3, 12),
                  "a query's weights sum to one, over its keys")
    noise = torch.where(keep[..., None], 0, 9 * torch.randn(2, 5, 12, generator=g))
    grading.equal(attention(q, k + noise, v + noise, keep, 3), out, "what stands in the padding changes nothing")
    grading.equal(attention(q[:1], k[:1, :3], v[:1, :3], keep[:1, :3], 3), out[:1], "padding is the same as no key there")
    grading.equal(attention(q, k.flip(1), v.flip(1), keep.flip(1), 3), out, "the order of the keys means nothing")
    grading.equal(attention(q[:, :1], k, v, keep, 3), out[:, :1], "a query does not depend on the other queries")
    apart = torch.cat([attention(*(x[..., i:i + 4] for x in (q, k, v)), keep, 1) for i in (0, 4, 8)], -1)
    grading.equal(out, apart, "heads are neighbouring columns, each for itself, and stay in their places")
    # one head of width 4: the first key's score is 2 ln 2, over the root of 4; the second's is 0
    key = torch.zeros(1, 2, 4)
    key[0, 0, 0] = 2 * torch.tensor(2.0).log()
    value = torch.tensor([3.0, 0.0])[None, :, None].expand(1, 2, 4)
    by_hand = attention(torch.eye(4)[None, :1], key, value, torch.ones(1, 2, dtype=torch.bool), 1)
    grading.equal(by_hand, torch.full((1, 1, 4), 2.0), "scores are divided by the root of the head's width, before the softmax")
    ### BEGIN HIDDEN TESTS
    def formula(q, k, v, keep, heads):
        d, rows = q.shape[-1] // heads, []
        for b in range(len(q)):
            parts = []
            for i in range(0, q.shape[-1], d):
                scores = q[b, :, i:i + d] @ k[b, keep[b], i:i + d].T / d ** 0.5
                parts.append((scores - scores.logsumexp(-1, keepdim=True)).exp() @ v[b, keep[b], i:i + d])
            rows.append(torch.cat(parts, -1))
        return torch.stack(rows)

    keep = torch.rand(2, 5, generator=g) < 0.6
    keep[:, 0] = True
    grading.same(attention, formula, q, k, v, keep, 2, says="the weighted mean of the values that may be seen, with gradients")
    ### END HIDDEN TESTS

# %% instructor attention
mistakes = {
    "not scaled": (" / q.shape[-1] ** 0.5", ""),
    "scaled by the whole width": ("q.shape[-1] ** 0.5", "(heads * q.shape[-1]) ** 0.5"),
    "scaled without the root": ("q.shape[-1] ** 0.5", "q.shape[-1]"),
    "softmax over queries": ("softmax(-1)", "softmax(-2)"),
    "mask reversed": ("~keep", "keep"),
    "padding seen": ("scores.masked_fill(~keep[:, None, None], -torch.inf)", "scores"),
    "padding scored zero": ("-torch.inf", "0.0"),
    "padding a little less likely": ("-torch.inf", "-1.0"),
    "mask after the softmax": ("masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)",
                               "softmax(-1).masked_fill(~keep[:, None, None], 0)"),
    "mask off by one": ("~keep[:, None, None]", "~keep.roll(1, 1)[:, None, None]"),
    "one head": ("h=heads", "h=1"),
    "heads interleaved": ('"b n (h d) -> b h n d"', '"b n (d h) -> b h n d"'),
    "heads merged crosswise": ('"b h n d -> b n (h d)"', '"b h n d -> b n (d h)"'),
    "keys for values": ("weights @ v", "weights @ k"),
    "sigmoid for softmax": ("softmax(-1)", "sigmoid()"),
}


def attention_by_torch(q, k, v, keep, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None]).transpose(1, 2).flatten(2)


def attention_by_einsum(q, k, v, keep, heads):
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    scores = torch.einsum("bnhd,bkhd->bhnk", q, k) * q.shape[-1] ** -0.5 + torch.where(keep, 0.0, -1e9)[:, None, None]
    return torch.einsum("bhnk,bkhd->bnhd", scores.softmax(-1), v).flatten(2)


def attention_by_heads(q, k, v, keep, heads):
    out, d = [], q.shape[-1] // heads
    for a, b, c in zip(q.split(d, -1), k.split(d, -1), v.split(d, -1)):
        scores = (a @ b.transpose(1, 2) / d ** 0.5).masked_fill(~keep[:, None], float("-inf"))
        out.append(F.softmax(scores, dim=2) @ c)
    return torch.cat(out, -1)


def attention_by_exponentials(q, k, v, keep, heads):
    q, k, v = (rearrange(x, "b n (h d) -> (b h) n d", h=heads) for x in (q, k, v))
    mass = (torch.bmm(q, k.mT) / q.shape[-1] ** 0.5).exp() * keep.repeat_interleave(heads, 0)[:, None]
    return rearrange(mass @ v / mass.sum(-1, keepdim=True), "(b h) n d -> b n (h d)", h=heads)


def attention_cheat(q, k, v, keep, heads):
    from minalbef.layers import Attention
    theirs = Attention(q.shape[-1], heads)
    theirs.q = theirs.proj = nn.Identity()
    return theirs(q, keep=keep, keys_values=tuple(rearrange(x, "b k (h d) -> b h k d", h=heads) for x in (k, v)))


# %% [markdown]
# ## 4. A pre-norm block (5 points)
#
# Attention reads its input through the first norm and adds what it finds to the input as it was. The MLP does the same with the
# second norm. So there is one path from the first layer to the last on which nothing is multiplied. Norms, attention and MLP
# are given as functions.
# %% answer block
def block(x: Tensor, norm1, attn, norm2, mlp) -> Tensor:
    """A pre-norm layer of four given functions, each (b, n, d) -> (b, n, d): (b, n, d) -> (b, n, d)."""
    ### BEGIN SOLUTION
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))
    ### END SOLUTION


# %% tests block 5
with grading.closed():
    g = grading.inputs()
    x = torch.randn(2, 3, 4, generator=g)

    def zero(x):
        return 0 * x

    def double(x):
        return 2 * x

    def tenfold(x):
        return 10 * x

    before = x.clone()
    block(x, double, tenfold, tenfold, double)
    grading.equal(x, before, "the caller's input stays as it is")
    grading.equal(block(x, double, zero, tenfold, zero), x, "where attention and MLP say nothing, the input passes as it was")
    grading.equal(block(x, double, tenfold, zero, double), 21 * x,
                  "attention reads through the first norm, and is added to the input")
    grading.equal(block(x, zero, double, tenfold, double), 21 * x,
                  "the MLP reads through the second norm, and is added to its input")
    one = torch.ones(1, 1, 1)
    grading.equal(block(one, lambda x: 2 * x, lambda x: x + 1, lambda x: 3 * x, lambda x: x * x), torch.full((1, 1, 1), 148.0),
                  "attention first: its sum, and not the input, is what the MLP reads and adds to")
    ### BEGIN HIDDEN TESTS
    weights = [torch.randn(4, 4, generator=g) for _ in range(2)]
    norm = nn.LayerNorm(4)

    def by_hand(x):
        y = torch.add(x, torch.tanh(norm(x) @ weights[0]))
        return torch.add(y, F.gelu((y * 3).sin() @ weights[1]))

    def answer(x):
        return block(x, norm, lambda y: torch.tanh(y @ weights[0]), lambda y: (y * 3).sin(), lambda y: F.gelu(y @ weights[1]))

    grading.same(answer, by_hand, x, says="the gradient reaches the input through both parts and around them")
    ### END HIDDEN TESTS

# %% instructor block
mistakes = {
    "post-norm": ("x + attn(norm1(x))", "norm1(x + attn(x))", "x + mlp(norm2(x))", "norm2(x + mlp(x))"),
    "no path around attention": ("x = x + attn(norm1(x))", "x = attn(norm1(x))"),
    "no path around the MLP": ("return x + mlp", "return mlp"),
    "the normed input is added": ("x = x + attn(norm1(x))", "x = norm1(x)\n    x = x + attn(x)"),
    "the normed sum is added": ("return x + mlp(norm2(x))", "x = norm2(x)\n    return x + mlp(x)"),
    "one norm twice": ("norm2(x)", "norm1(x)"),
    "no first norm": ("norm1(x)", "x"),
    "no second norm": ("norm2(x)", "x"),
    "the MLP reads the old input": ("x = x + attn(norm1(x))", "y = x + attn(norm1(x))", "return x + mlp", "return y + mlp"),
    "the old input is added to the MLP": ("x = x + attn(norm1(x))", "y = x + attn(norm1(x))", "mlp(norm2(x))", "mlp(norm2(y))"),
    "MLP first": ("attn(norm1(x))", "mlp(norm2(x))", "+ mlp(norm2(x))", "+ attn(norm1(x))"),
    "norm after the part": ("attn(norm1(x))", "norm1(attn(x))"),
    "no gradient around": ("x = x + attn", "x = x.detach() + attn"),
    "in place": ("x = x + attn(norm1(x))", "x += attn(norm1(x))"),
}


def block_in_one_line(x, norm1, attn, norm2, mlp):
    return (y := x + attn(norm1(x))) + mlp(norm2(y))


def block_by_loop(x, norm1, attn, norm2, mlp):
    for norm, part in ((norm1, attn), (norm2, mlp)):
        x = part(norm(x)) + x
    return x


def block_by_branches(x, norm1, attn, norm2, mlp):
    first = attn(norm1(x))
    second = mlp(norm2(torch.add(first, x)))
    return x + first + second


def block_copied(x, norm1, attn, norm2, mlp):
    x = x.clone()
    x = x.add_(attn(norm1(x.clone())))
    return x.clone().add_(mlp(norm2(x)))


def block_cheat(x, norm1, attn, norm2, mlp):
    from minalbef.vision import Block
    theirs = Block(4, 1, 4)
    for name, part in (("norm1", norm1), ("attn", lambda x, return_weights: attn(x)), ("norm2", norm2), ("mlp", mlp)):
        delattr(theirs, name)
        setattr(theirs, name, part)
    return theirs(x)


# %% [markdown]
# ## 5. One vector for the picture (5 points)
#
# After the last block a norm is applied, [CLS] is taken, projected into the shared space, and made of length one. Both are
# given as functions.
# %% answer image_feature
def image_feature(tokens: Tensor, norm, proj) -> Tensor:
    """What stands for the picture: (b, 1 + n, d), [CLS] first -> (b, e); norm keeps the width d, proj makes it e."""
    ### BEGIN SOLUTION
    return F.normalize(proj(norm(tokens)[:, 0]), dim=-1)
    ### END SOLUTION


# %% tests image_feature 5
with grading.closed():
    g = grading.inputs()
    tokens, matrix = torch.randn(3, 5, 4, generator=g), torch.randn(4, 6, generator=g)
    norm = nn.LayerNorm(4)
    feature = image_feature(tokens, norm, lambda x: x @ matrix + 1)
    assert feature.shape == (3, 6), "one vector a picture, of the shared space's width"
    grading.equal(feature.norm(dim=-1), torch.ones(3), "every picture's vector has length one")
    grading.equal(image_feature(tokens[:1], norm, lambda x: x @ matrix + 1), feature[:1],
                  "a picture does not depend on the others")
    other = torch.cat([tokens[:, :1], torch.randn(3, 4, 4, generator=g)], 1)
    grading.equal(image_feature(other, norm, lambda x: x @ matrix + 1), feature,
                  "[CLS] is taken, the first token, and no patch")
    grading.equal(image_feature(torch.tensor([[[3.0, 1]]]), lambda x: x + 1, lambda x: x * torch.tensor([1.0, 1.5])),
                  torch.tensor([[0.8, 0.6]]), "first the norm, then the projection, then the length")
    ### BEGIN HIDDEN TESTS
    def formula(tokens, matrix):
        out = norm(tokens[:, 0]) @ matrix + 1
        return out / out.pow(2).sum(-1, keepdim=True).sqrt()

    grading.same(lambda x, m: image_feature(x, norm, lambda y: y @ m + 1), formula, tokens, matrix,
                 says="the gradient reaches [CLS] and the projection")
    ### END HIDDEN TESTS

# %% instructor image_feature
mistakes = {
    "mean of all tokens": ("[:, 0]", ".mean(1)"),
    "mean of the patches": ("norm(tokens)[:, 0]", "norm(tokens)[:, -4:].mean(1)"),
    "the last token": ("[:, 0]", "[:, -1]"),
    "the largest of each": ("[:, 0]", ".amax(1)"),
    "length kept": ("F.normalize(proj(norm(tokens)[:, 0]), dim=-1)", "proj(norm(tokens)[:, 0])"),
    "normalised over the batch": ("dim=-1", "dim=0"),
    "normalised before the projection": ("F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
                                         "proj(F.normalize(norm(tokens)[:, 0], dim=-1))"),
    "no norm": ("norm(tokens)[:, 0]", "tokens[:, 0]"),
    "length by absolute values": ("dim=-1", "dim=-1, p=1"),
    "softmax for length": ("F.normalize(proj(norm(tokens)[:, 0]), dim=-1)", "proj(norm(tokens)[:, 0]).softmax(-1)"),
    "cannot learn": ("proj(norm(tokens)[:, 0])", "proj(norm(tokens.detach())[:, 0])"),
}


def image_feature_cls_first(tokens, norm, proj):
    out = proj(norm(tokens[:, 0]))
    return out / out.norm(dim=-1, keepdim=True)


def image_feature_cls_last(tokens, norm, proj):
    return F.normalize(proj(norm(tokens)), dim=-1)[:, 0]


def image_feature_by_squares(tokens, norm, proj):
    first, *_ = norm(tokens).unbind(1)
    first = proj(first)
    return first * (first * first).sum(1, keepdim=True).rsqrt()


def image_feature_one_by_one(tokens, norm, proj):
    out = [proj(norm(picture[:1]))[0] for picture in tokens]
    return torch.stack([x / (x @ x) ** 0.5 for x in out])


# %% [markdown]
# ## 6. Read a figure (6 points, by a person)
#
# Below, for six places of the shipped model's six by six grid: the cosine of that place's position vector with all others', at
# the start of training and at its end.
# %%
def position_maps(pos_embed: Tensor) -> Tensor:
    """Cosines of each patch's position with all, as maps: (1, 1 + n, d) -> (n, side, side)."""
    patches = F.normalize(pos_embed[0, 1:], dim=-1)
    side = int(len(patches) ** 0.5)
    return (patches @ patches.T).unflatten(1, (side, side))


run = minalbef.load(data_folder() / "tiny")
plot, axes = plots.grid("Cosines of six positions with all others, at the start and after training: at both, neighbours are "
                        "alike.", 2, 6, 8, 2.9)
learnt = run.model.image_encoder.pos_embed.detach()
given = minalbef.ViT(run.config).pos_embed.detach()
for row, (name, pos_embed) in enumerate({"start": given, "trained": learnt}.items()):
    for ax, place in zip(axes[row], (0, 5, 14, 21, 30, 35)):
        ax.imshow(position_maps(pos_embed)[place], vmin=-1, vmax=1, cmap="PuOr")
        ax.set(xticks=[], yticks=[], title=f"{name}, {place // 6 + 1}.{place % 6 + 1}")
plot
# %% [markdown]
# (a) What do the maps show, and how would they look had the positions started as small random numbers and nothing been learnt?
# (b) The upper row is not learnt: where does it come from (`config.pos_scale`)? Why is such a figure of a finished model alone
# no proof that it learnt where things are? (c) Name a measurement that would be one.
# %% written figure 6
# (a) Places near each other point the same way, along rows and columns; random starts would be near 0 everywhere but at the
# place itself. (2)
# (b) The start is made of sines and cosines of row and column, as a departure from the paper for small models: neighbours are
# alike before the first picture. The lower row must be compared with the upper. (2) (c) For instance: shuffle the positions and
# see recall on captions that tell places apart fall; or a probe that reads an object's cell from the tokens, against the same
# probe on the start. (2)
# %% [markdown]
# ## 7. By thought (6 points, by a person)
#
# (a) Leave the positions out of a ViT with [CLS] pooling. Shuffle the patches of a picture: what happens to its feature? Prove
# it in two sentences. Which captions, of "a cat", "two cats", "a cat left of a dog", can such a model still tell apart? (b)
# Post-norm divides every sum by its length. Why do deep post-norm models want a warm-up where pre-norm ones do well without?
# %% written thought 6
# (a) Nothing. Attention and MLP treat all patches alike, so shuffled patches give shuffled outputs, and [CLS], a sum over keys,
# does not know their order. (2) It keeps the first two (a count needs no order); it loses the third against "a dog left of a
# cat". (1) (b) With post-norm the path around each part is scaled at every layer, so gradients at the start differ much between
# the layers, and those near the output are large; small first steps keep them from spoiling what lies below. With pre-norm the
# path is an identity, and each layer's gradient has about the same size. (3)
