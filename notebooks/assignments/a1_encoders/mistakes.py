"""Assignment 1: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% patch_embed
mistakes = {
    "column by column": ("b (y x) (c p q)", "b (x y) (c p q)"),
    "channels last": ("b (y x) (c p q)", "b (y x) (p q c)"),
    "patches transposed": ("b (y x) (c p q)", "b (y x) (c q p)"),
    "the matrix cannot learn": ("weight.flatten(1)", "weight.detach().flatten(1)"),
    "three channels": ("weight.flatten(1)", "weight[:, :3].flatten(1)",
                       "rearrange(image,", "rearrange(image[:, :3],")}


def patch_embed_by_convolution(image, weight, bias):
    return F.conv2d(image, weight, bias,
                    stride=weight.shape[2]).flatten(2).transpose(1, 2)


def patch_embed_cheat(image, weight, bias):
    from minalbef.vision import PatchEmbed
    layer = PatchEmbed(weight.shape[-1], len(weight))
    del layer.proj
    layer.proj = lambda x: F.conv2d(x, weight, bias, stride=weight.shape[-1])
    return layer(image)


# %% with_positions
mistakes = {
    "[CLS] last": ("[cls, patches]", "[patches, cls]"),
    "no positions": (" + pos_embed", ""),
    "[CLS] without a place": ("torch.cat([cls, patches], 1) + pos_embed",
                              "torch.cat([cls, patches + pos_embed[1:]], 1)"),
    "in place": ("return torch.cat([cls, patches], 1) + pos_embed",
                 "patches += pos_embed[1:]\n"
                 "    return torch.cat([cls + pos_embed[0], patches], 1)"),
    "positions cannot learn": ("+ pos_embed", "+ pos_embed.detach()"),
    "three pictures": ("expand(len(patches), 1, -1)", "expand(3, 1, -1)")}


def with_positions_by_repeat(patches, cls_token, pos_embed):
    return (torch.cat((cls_token.repeat(patches.shape[0], 1, 1), patches), dim=1)
            + pos_embed.unsqueeze(0))


def with_positions_cheat(patches, cls_token, pos_embed):
    vit = minalbef.ViT.__new__(minalbef.ViT)
    nn.Module.__init__(vit)
    vit.cls_token = cls_token[None, None]
    vit.pos_embed = pos_embed
    vit.blocks = []
    vit.norm = nn.Identity()
    return vit.attend(patches)


# %% attention
mistakes = {
    "not scaled": (" / q.shape[-1] ** 0.5", ""),
    "scaled by the whole width": ("q.shape[-1] ** 0.5", "(heads * q.shape[-1]) ** 0.5"),
    "scaled without the root": ("q.shape[-1] ** 0.5", "q.shape[-1]"),
    "queries cannot learn": ("q @ k.mT", "q.detach() @ k.mT"),
    "three heads": ("h=heads", "h=3"),
    "the caller's values are struck out": ("    q, k, v = (",
                                           "    v[~keep] = 0\n    q, k, v = (")}


def attention_by_torch(q, k, v, keep, heads):
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (heads, -1)).transpose(1, 2)
    v = v.unflatten(-1, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=keep[:, None, None]).transpose(1, 2).flatten(2)


def attention_cheat(q, k, v, keep, heads):
    from minalbef.layers import Attention
    layer = Attention(q.shape[-1], heads)
    layer.q = layer.proj = nn.Identity()
    return layer(q, keep=keep, keys_values=(k, v))


# %% block
mistakes = {
    "post-norm": ("x + attn(norm1(x))", "norm1(x + attn(x))", "x + mlp(norm2(x))",
                  "norm2(x + mlp(x))"),
    "no path around attention": ("x = x + attn(norm1(x))", "x = attn(norm1(x))"),
    "no path around the MLP": ("return x + mlp", "return mlp"),
    "no gradient around": ("x = x + attn", "x = x.detach() + attn"),
    "in place": ("x = x + attn(norm1(x))", "x += attn(norm1(x))")}


def block_in_one_line(x, norm1, attn, norm2, mlp):
    return (y := x + attn(norm1(x))) + mlp(norm2(y))


def block_cheat(x, norm1, attn, norm2, mlp):
    from minalbef.vision import Block
    layer = Block(4, 1, 4)
    for name, part in (("norm1", norm1), ("attn", lambda x: attn(x)), ("norm2", norm2),
                       ("mlp", mlp)):
        delattr(layer, name)
        setattr(layer, name, part)
    return layer(x)


# %% image_feature
mistakes = {
    "mean of all tokens": ("[:, 0]", ".mean(1)"),
    "mean of the patches": ("norm(tokens)[:, 0]", "norm(tokens)[:, -4:].mean(1)"),
    "the last token": ("[:, 0]", "[:, -1]"),
    "cannot learn": ("proj(norm(tokens)[:, 0])", "proj(norm(tokens.detach())[:, 0])"),
    "three pictures": ("[:, 0]", "[:3, 0]"),
    "the caller's vector is divided": (
        "return F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
        "out = proj(norm(tokens)[:, 0])\n    with torch.no_grad():\n"
        "        length = out.norm(dim=-1, keepdim=True)\n"
        "    return out.div_(length)")}


def image_feature_cls_first(tokens, norm, proj):
    out = proj(norm(tokens[:, 0]))
    return out / out.norm(dim=-1, keepdim=True)
