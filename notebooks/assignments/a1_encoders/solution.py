"""Assignment 1: a solution of every answer, and model answers to what a person grades."""


# %% answer patch_embed
def patch_embed(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A token for each patch, row by row: (b, c, y p, x p), (d, c, p, p), (d,) -> (b, y x, d)."""
    p = weight.shape[-1]
    patches = rearrange(image, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p)
    return patches @ weight.flatten(1).T + bias


# %% answer with_positions
def with_positions(patches: Tensor, cls_token: Tensor, pos_embed: Tensor) -> Tensor:
    """[CLS] in front, positions added to all: (b, n, d), (d,), (1 + n, d) -> (b, 1 + n, d)."""
    cls = cls_token.expand(len(patches), 1, -1)
    return torch.cat([cls, patches], 1) + pos_embed


# %% answer attention
def attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, heads: int) -> Tensor:
    """What each query takes from the values: q (b, n, d), k and v (b, k, d), keep (b, k)
    bool -> (b, n, d)."""
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (q, k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5                       # (b, h, n, k)
    weights = scores.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
    return rearrange(weights @ v, "b h n d -> b n (h d)")


# %% answer block
def block(x: Tensor, norm1, attn, norm2, mlp) -> Tensor:
    """A pre-norm layer of four given functions, each (b, n, d) -> (b, n, d): (b, n, d) ->
    (b, n, d)."""
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


# %% answer image_feature
def image_feature(tokens: Tensor, norm, proj) -> Tensor:
    """What stands for the picture: (b, 1 + n, d), [CLS] first -> (b, e); norm keeps the
    width d, proj makes it e."""
    return F.normalize(proj(norm(tokens)[:, 0]), dim=-1)


# %% written figure
# (a) Places near each other point the same way, along rows and columns; random starts would be near
# 0 everywhere but at the place itself. (2) (b) The start is made of sines and cosines of row and
# column, as a departure from the paper for small models: neighbours are alike before the first
# picture. The lower row must be compared with the upper. (2) (c) For instance: shuffle the
# positions and see recall on captions that tell places apart fall; or a probe that reads an
# object's cell from the tokens, against the same probe on the start. (2)


# %% written thought
# (a) Nothing. Attention and MLP treat all patches alike, so shuffled patches give shuffled outputs,
# and [CLS], a sum over keys, does not know their order. (2) It keeps the first two (a count needs
# no order); it loses the third against "a dog left of a cat". (1) (b) With post-norm the path
# around each part is scaled at every layer, so gradients at the start differ much between the
# layers, and those near the output are large; small first steps keep them from spoiling what lies
# below. With pre-norm the path is an identity, and each layer's gradient has about the same size.
# (3)
