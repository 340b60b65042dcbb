# %% [markdown]
# # Assignment 1 · Encoders
#
# **You build the parts of both encoders: a picture cut into tokens, positions, attention that does
# not see padding, a block, and the one vector that stands for the picture.** Then you look at what
# a trained model has learnt about places.
#
# - **Needs:** chapters 02 and 03. **Time:** five hours. **Points:** 28 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may
#   run; those that grade you hold more, on numbers of your own. `minalbef` is closed while they
#   run: calling it earns nothing.
# - Letters: b batch, n tokens, k keys, d width, h heads, e the width of the shared space.
# %%
import grading
import properties
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import minalbef
from minalbef.data import data_folder
from minalbef.viz import plots


# %% [markdown]
# ## 1. Patches (6 points)
#
# A picture is cut into squares of p by p pixels, row by row. Each square, all its channels, is
# flattened and multiplied by one matrix. The matrix comes as a convolution keeps it, (d, c, p, p),
# and the bias as (d,). You may do it with a convolution or without.
# %% answer patch_embed
def patch_embed(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A token for each patch, row by row: (b, c, y p, x p), (d, c, p, p), (d,) -> (b, y x, d)."""
    raise NotImplementedError()


# %% tests patch_embed 6
with grading.closed(), properties.in_words():
    g = grading.inputs()
    image = torch.randn(2, 3, 4, 6, generator=g)
    weight = torch.randn(5, 3, 2, 2, generator=g)
    bias = torch.randn(5, generator=g)
    tokens = patch_embed(image, weight, bias)
    assert tokens.shape == (2, 6, 5), "a token for each patch, of the matrix's width"
    grading.equal(patch_embed(image, 0 * weight, bias), bias.expand(2, 6, 5),
                  "the bias is added once to every token")
    grading.equal(patch_embed(image[:, :, :2, :2], weight, bias)[:, 0], tokens[:, 0],
                  "a token knows its own patch alone")
    grading.equal(patch_embed(image[:, :, :2], weight, bias), tokens[:, :3],
                  "patches go row by row: the upper half comes first")
    single = torch.zeros(1, 1, 2, 2)
    # looks at the pixel above right
    single[0, 0, 0, 1] = 1
    grading.equal(patch_embed(torch.arange(4.0).reshape(1, 1, 2, 2), single,
                              torch.zeros(1)).flatten(), torch.tensor([1.0]),
                  "pixel and weight of one place meet")

# %% [markdown]
# ## 2. [CLS] and positions (4 points)
#
# A learnt token goes in front of the patches. Then every token, that one too, gets the vector of
# its own place added. The caller's tensors stay as they are.
# %% answer with_positions
def with_positions(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """[CLS] in front, positions added to all: (b, n, d), (d,), (1 + n, d) -> (b, 1 + n, d)."""
    raise NotImplementedError()


# %% tests with_positions 4
with grading.closed(), properties.in_words():
    g = grading.inputs()
    patches = torch.randn(3, 4, 6, generator=g)
    cls_token = torch.randn(6, generator=g)
    pos_embed = torch.randn(5, 6, generator=g)
    before = patches.clone()
    tokens = with_positions(patches, cls_token, pos_embed)
    assert tokens.shape == (3, 5, 6), "one token more than patches"
    grading.equal(patches, before, "the caller's patches stay as they are")
    grading.equal(with_positions(patches, cls_token, 0 * pos_embed)[:, 0],
                  cls_token.expand(3, 6), "[CLS] comes first, in every picture")
    grading.equal(with_positions(patches, cls_token, 0 * pos_embed)[:, 1:], patches,
                  "the patches come after it, in their order")
    grading.equal(with_positions(0 * patches, 0 * cls_token, pos_embed),
                  pos_embed.expand(3, 5, 6),
                  "every token gets its own place's vector, once, and [CLS] "
                  "gets the first")

# %% [markdown]
# ## 3. Attention that does not see padding (8 points)
#
# The width is split into h heads of neighbouring columns. In each head a query's score for a key is
# their dot product over the root of the head's width. Keys where `keep` is False are padding: they
# get no weight, and what they hold changes nothing. The rest is a softmax over keys and a mean of
# the values by it. The heads are laid side by side again, in their order.
# %% answer attention
def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, heads: int) -> Tensor:
    """What each query takes from the values: q (b, n, d), k and v (b, k, d), keep (b, k)
    bool -> (b, n, d)."""
    raise NotImplementedError()


# %% tests attention 8
with grading.closed(), properties.in_words():
    g = grading.inputs()
    q = torch.randn(2, 3, 12, generator=g)
    k = torch.randn(2, 5, 12, generator=g)
    v = torch.randn(2, 5, 12, generator=g)
    # the first row has two keys of padding
    keep = torch.arange(5) < torch.tensor([[3], [5]])
    out = attention(q, k, v, keep, 3)
    assert out.shape == (2, 3, 12), "a row for each query, as wide as it was"
    assert not out.isnan().any(), (
        "every query has a key that it may see, so nothing is undefined")
    grading.equal(attention(q, k, torch.ones(2, 5, 12), keep, 3), torch.ones(2, 3, 12),
                  "a query's weights sum to one, over its keys")
    noise = torch.where(keep[..., None], 0, 9 * torch.randn(2, 5, 12, generator=g))
    grading.equal(attention(q, k + noise, v + noise, keep, 3), out,
                  "what stands in the padding changes nothing")
    grading.equal(attention(q[:1], k[:1, :3], v[:1, :3], keep[:1, :3], 3), out[:1],
                  "padding is the same as no key there")
    grading.equal(attention(q, k.flip(1), v.flip(1), keep.flip(1), 3), out,
                  "the order of the keys means nothing")
    grading.equal(attention(q[:, :1], k, v, keep, 3), out[:, :1],
                  "a query does not depend on the other queries")
    by_heads = torch.cat([attention(*(x[..., i:i + 4] for x in (q, k, v)), keep, 1)
                          for i in (0, 4, 8)], -1)
    grading.equal(out, by_heads,
                  "heads are neighbouring columns, each for itself, and stay "
                  "in their places")
    # one head of width 4: the first key's score is 2 ln 2, over the root of 4; the second's is 0
    key = torch.zeros(1, 2, 4)
    key[0, 0, 0] = 2 * torch.tensor(2.0).log()
    value = torch.tensor([3.0, 0.0])[None, :, None].expand(1, 2, 4)
    by_hand = attention(torch.eye(4)[None, :1], key, value,
                        torch.ones(1, 2, dtype=torch.bool), 1)
    grading.equal(by_hand, torch.full((1, 1, 4), 2.0),
                  "scores are divided by the root of the head's width, "
                  "before the softmax")

# %% [markdown]
# ## 4. A pre-norm block (5 points)
#
# Attention reads its input through the first norm and adds what it finds to the input as it was.
# The MLP does the same with the second norm. So there is one path from the first layer to the last
# on which nothing is multiplied. Norms, attention and MLP are given as functions.
# %% answer block
def block(x: Tensor, norm1, attn, norm2, mlp) -> Tensor:
    """A pre-norm layer of four given functions, each (b, n, d) -> (b, n, d): (b, n, d) ->
    (b, n, d)."""
    raise NotImplementedError()


# %% tests block 5
with grading.closed(), properties.in_words():
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
    grading.equal(block(x, double, zero, tenfold, zero), x,
                  "where attention and MLP say nothing, the input passes as it was")
    grading.equal(block(x, double, tenfold, zero, double), 21 * x,
                  "attention reads through the first norm, and is added to the input")
    grading.equal(block(x, zero, double, tenfold, double), 21 * x,
                  "the MLP reads through the second norm, and is added to its input")
    single = torch.ones(1, 1, 1)
    grading.equal(block(single, lambda x: 2 * x, lambda x: x + 1, lambda x: 3 * x,
                        lambda x: x * x), torch.full((1, 1, 1), 148.0),
                  "attention first: its sum, and not the input, is what the "
                  "MLP reads and adds to")

# %% [markdown]
# ## 5. One vector for the picture (5 points)
#
# After the last block a norm is applied, [CLS] is taken, projected into the shared space, and made
# of length one. Both are given as functions.
# %% answer image_feature
def image_feature(tokens: Tensor, norm, proj) -> Tensor:
    """What stands for the picture: (b, 1 + n, d), [CLS] first -> (b, e); norm keeps the
    width d, proj makes it e."""
    raise NotImplementedError()


# %% tests image_feature 5
with grading.closed(), properties.in_words():
    g = grading.inputs()
    tokens = torch.randn(3, 5, 4, generator=g)
    matrix = torch.randn(4, 6, generator=g)
    norm = nn.LayerNorm(4)
    feature = image_feature(tokens, norm, lambda x: x @ matrix + 1)
    assert feature.shape == (3, 6), "one vector a picture, of the shared space's width"
    grading.equal(feature.norm(dim=-1), torch.ones(3),
                  "every picture's vector has length one")
    grading.equal(image_feature(tokens[:1], norm, lambda x: x @ matrix + 1),
                  feature[:1], "a picture does not depend on the others")
    changed = torch.cat([tokens[:, :1], torch.randn(3, 4, 4, generator=g)], 1)
    grading.equal(image_feature(changed, norm, lambda x: x @ matrix + 1), feature,
                  "[CLS] is taken, the first token, and no patch")
    grading.equal(image_feature(torch.tensor([[[3.0, 1]]]), lambda x: x + 1,
                                lambda x: x * torch.tensor([1.0, 1.5])),
                  torch.tensor([[0.8, 0.6]]),
                  "first the norm, then the projection, then the length")

# %% [markdown]
# ## 6. Read a figure (6 points, by a person)
#
# Below, for six places of the shipped model's six by six grid: the cosine of that place's position
# vector with all others', at the start of training and at its end.
# %%
def position_maps(pos_embed: Tensor) -> Tensor:
    """Cosines of each patch's position with all, as maps: (1, 1 + n, d) -> (n, side, side)."""
    patches = F.normalize(pos_embed[0, 1:], dim=-1)
    side = int(len(patches) ** 0.5)
    return (patches @ patches.T).unflatten(1, (side, side))


run = minalbef.load(data_folder() / "tiny")
plot, axes = plots.grid("Cosines of six positions with all others, at the start and "
                        "after training: at both, neighbours are alike.", 2, 6, 8, 2.9)
learnt = run.model.image_encoder.pos_embed.detach()
initial = minalbef.ViT(run.config).pos_embed.detach()
for row, (name, pos_embed) in enumerate({"start": initial, "trained": learnt}.items()):
    for ax, place in zip(axes[row], (0, 5, 14, 21, 30, 35)):
        ax.imshow(position_maps(pos_embed)[place], vmin=-1, vmax=1, cmap="PuOr")
        ax.set(xticks=[], yticks=[], title=f"{name}, {place // 6 + 1}.{place % 6 + 1}")
plot
# %% [markdown]
# (a) What do the maps show, and how would they look had the positions started as small random
# numbers and nothing been learnt? (b) The upper row is not learnt: where does it come from
# (`config.pos_scale`)? Why is such a figure of a finished model alone no proof that it learnt where
# things are? (c) Name a measurement that would be one.
# %% written figure 6

# %% [markdown]
# ## 7. By thought (6 points, by a person)
#
# (a) Leave the positions out of a ViT with [CLS] pooling. Shuffle the patches of a picture: what
# happens to its feature? Prove it in two sentences. Which captions, of "a cat", "two cats", "a cat
# left of a dog", can such a model still tell apart? (b) Post-norm divides every sum by its length.
# Why do deep post-norm models need a warm-up where pre-norm ones do well without?
# %% written thought 6
