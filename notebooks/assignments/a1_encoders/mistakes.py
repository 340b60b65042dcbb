"""Assignment 1: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% patch_embed
mistakes = {
    "column by column": ("b (y x) (c p q)", "b (x y) (c p q)"),
    "channels last": ("b (y x) (c p q)", "b (y x) (p q c)"),
    "patches transposed": ("b (y x) (c p q)", "b (y x) (c q p)"),
    "every other pixel": ("b c (y p) (x q)", "b c (p y) (q x)"),
    "cut as it lies in memory": ('rearrange(image, "b c (y p) (x q) -> b (y x) (c p '
                                 'q)", p=p, q=p)',
                                 "image.reshape(len(image), -1, weight[0].numel())"),
    "no bias": (" + bias", ""),
    "bias twice": (" + bias", " + 2 * bias"),
    "upside down": ("weight.flatten(1)", "weight.flip(-1, -2).flatten(1)"),
    "channels reversed": ("weight.flatten(1)", "weight.flip(1).flatten(1)"),
    "mean for sum": (".T + bias", ".T / weight[0].numel() + bias"),
    "the matrix cannot learn": ("weight.flatten(1)", "weight.detach().flatten(1)"),
    "patches of two pixels": ("p = weight.shape[-1]", "p = 2"),
    "square pictures": ("p=p, q=p", "p=p, x=image.shape[2] // p"),
    "three channels": ("weight.flatten(1)", "weight[:, :3].flatten(1)",
                       "rearrange(image,", "rearrange(image[:, :3],"),
    "pictures cannot learn": ("rearrange(image,", "rearrange(image.detach(),"),
    "the bias cannot learn": ("+ bias", "+ bias.detach()")}


def patch_embed_by_convolution(image, weight, bias):
    return F.conv2d(image, weight, bias,
                    stride=weight.shape[2]).flatten(2).transpose(1, 2)


def patch_embed_by_unfold(image, weight, bias):
    patches = F.unfold(image, weight.shape[-1], stride=weight.shape[-1]).transpose(1, 2)
    return F.linear(patches, weight.reshape(len(weight), -1), bias)


def patch_embed_by_einsum(image, weight, bias):
    p = weight.shape[-1]
    patches = image.unfold(2, p, p).unfold(3, p, p)              # (b, c, y, x, p, p)
    return torch.einsum("bcyxpq,dcpq->byxd", patches, weight).flatten(1, 2) + bias


def patch_embed_by_loops(image, weight, bias):
    p = weight.shape[-1]
    rows = image.shape[2]
    columns = image.shape[3]
    return torch.stack([(image[:, None, :, y:y + p, x:x + p] * weight).sum((2, 3, 4))
                        + bias for y in range(0, rows, p)
                        for x in range(0, columns, p)], 1)


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
    "off by one": ("+ pos_embed", "+ pos_embed.roll(1, 0)"),
    "one place for all": ("+ pos_embed", "+ pos_embed.mean(0)"),
    "times, not plus": ("+ pos_embed", "* pos_embed"),
    "positions twice": ("+ pos_embed", "+ 2 * pos_embed"),
    "patches added to [CLS]": ("cls_token.expand(len(patches), 1, -1)",
                               "cls_token + patches.mean(1, keepdim=True)"),
    "in place": ("return torch.cat([cls, patches], 1) + pos_embed",
                 "patches += pos_embed[1:]\n"
                 "    return torch.cat([cls + pos_embed[0], patches], 1)"),
    "positions cannot learn": ("+ pos_embed", "+ pos_embed.detach()"),
    "the mean for [CLS]": ("cls_token.expand(len(patches), 1, -1)",
                           "patches.mean(1, keepdim=True)"),
    "patches cannot learn": ("[cls, patches]", "[cls, patches.detach()]"),
    "[CLS] cannot learn": ("cls_token.expand(", "cls_token.detach().expand("),
    "three pictures": ("expand(len(patches), 1, -1)", "expand(3, 1, -1)"),
    "five places": ("+ pos_embed", "+ pos_embed[:5]"),
    "six columns": ("expand(len(patches), 1, -1)", "expand(len(patches), 1, 6)"),
    "[CLS] is added to the caller's positions": (
        "return torch.cat([cls, patches], 1) + pos_embed",
        "pos_embed[0] += cls_token\n"
        "    return torch.cat([0 * cls, patches], 1) + pos_embed"),
    "the place is added to the caller's [CLS]": (
        "    cls = ", "    cls_token += pos_embed[0]\n    cls = ",
        "torch.cat([cls, patches], 1) + pos_embed",
        "torch.cat([cls, patches + pos_embed[1:]], 1)")}


def with_positions_by_repeat(patches, cls_token, pos_embed):
    return (torch.cat((cls_token.repeat(patches.shape[0], 1, 1), patches), dim=1)
            + pos_embed.unsqueeze(0))


def with_positions_apart(patches, cls_token, pos_embed):
    first = (cls_token + pos_embed[0]).expand(len(patches), 1, -1)
    return torch.cat([first, patches + pos_embed[1:]], 1)


def with_positions_by_padding(patches, cls_token, pos_embed):
    # zeros where the patches stand
    first = F.pad(cls_token[None], (0, 0, 0, patches.shape[1]))
    return F.pad(patches, (0, 0, 1, 0)) + first + pos_embed


def with_positions_filled(patches, cls_token, pos_embed):
    b, n, d = patches.shape
    tokens = pos_embed.new_zeros(b, n + 1, d)
    tokens[:, 0] = cls_token
    tokens[:, 1:] = patches
    return tokens + pos_embed


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
    "softmax over queries": ("softmax(-1)", "softmax(-2)"),
    "mask reversed": ("~keep", "keep"),
    "padding seen": ("scores.masked_fill(~keep[:, None, None], -torch.inf)", "scores"),
    "padding scored zero": ("-torch.inf", "0.0"),
    "padding a little less likely": ("-torch.inf", "-1.0"),
    "mask after the softmax": ("masked_fill(~keep[:, None, None], "
                               "-torch.inf).softmax(-1)",
                               "softmax(-1).masked_fill(~keep[:, None, None], 0)"),
    "mask off by one": ("~keep[:, None, None]", "~keep.roll(1, 1)[:, None, None]"),
    "one head": ("h=heads", "h=1"),
    "heads interleaved": ('"b n (h d) -> b h n d"', '"b n (d h) -> b h n d"'),
    "heads merged crosswise": ('"b h n d -> b n (h d)"', '"b h n d -> b n (d h)"'),
    "keys for values": ("weights @ v", "weights @ k"),
    "sigmoid for softmax": ("softmax(-1)", "sigmoid()"),
    "queries cannot learn": ("q @ k.mT", "q.detach() @ k.mT"),
    "keys cannot learn": ("q @ k.mT", "q @ k.detach().mT"),
    "values cannot learn": ("weights @ v", "weights @ v.detach()"),
    "weights cannot learn": ("weights @ v", "weights.detach() @ v"),
    "exponentials without the maximum": (
        ".masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)",
        ".exp() * keep[:, None, None]\n"
        "    weights = weights / weights.sum(-1, keepdim=True)"),
    "the maximum of padding taken off": (
        ".masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)",
        ".sub(scores.amax(-1, keepdim=True)).exp() * keep[:, None, None]\n"
        "    weights = weights / weights.sum(-1, keepdim=True)"),
    "scores clamped": ("scores.masked_fill", "scores.clamp(-50, 50).masked_fill"),
    "padding a hundred less likely": ("-torch.inf", "-100.0"),
    "padding ten thousand less likely": ("-torch.inf", "-1e4"),
    "three heads": ("h=heads", "h=3"),
    "heads of four columns": ("q.shape[-1] ** 0.5", "4 ** 0.5"),
    "the first picture's padding for all": ("~keep[:, None, None]",
                                            "~keep[:1, None, None]"),
    "the caller's queries are scaled": ("scores = q @ k.mT / q.shape[-1] ** 0.5",
                                        "q /= q.shape[-1] ** 0.5\n"
                                        "    scores = q @ k.mT"),
    "the caller's values are struck out": ("    q, k, v = (",
                                           "    v[~keep] = 0\n    q, k, v = (")}


def attention_by_torch(q, k, v, keep, heads):
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (heads, -1)).transpose(1, 2)
    v = v.unflatten(-1, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=keep[:, None, None]).transpose(1, 2).flatten(2)


def attention_by_einsum(q, k, v, keep, heads):
    q = q.reshape(*q.shape[:2], heads, -1)
    k = k.reshape(*k.shape[:2], heads, -1)
    v = v.reshape(*v.shape[:2], heads, -1)
    scores = (torch.einsum("bnhd,bkhd->bhnk", q, k) * q.shape[-1] ** -0.5
              + torch.where(keep, 0.0, -1e9)[:, None, None])
    return torch.einsum("bhnk,bkhd->bnhd", scores.softmax(-1), v).flatten(2)


def attention_by_heads(q, k, v, keep, heads):
    out = []
    d = q.shape[-1] // heads
    for a, b, c in zip(q.split(d, -1), k.split(d, -1), v.split(d, -1)):
        scores = (a @ b.transpose(1, 2) / d ** 0.5).masked_fill(
            ~keep[:, None], float("-inf"))
        out.append(F.softmax(scores, dim=2) @ c)
    return torch.cat(out, -1)


def attention_by_exponentials(q, k, v, keep, heads):
    q = rearrange(q, "b n (h d) -> (b h) n d", h=heads)
    k = rearrange(k, "b n (h d) -> (b h) n d", h=heads)
    v = rearrange(v, "b n (h d) -> (b h) n d", h=heads)
    scores = torch.bmm(q, k.mT) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~keep.repeat_interleave(heads, 0)[:, None], -torch.inf)
    mass = (scores - scores.amax(-1, keepdim=True)).exp()
    return rearrange(mass @ v / mass.sum(-1, keepdim=True), "(b h) n d -> b n (h d)",
                     h=heads)


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
    "the normed input is added": ("x = x + attn(norm1(x))",
                                  "x = norm1(x)\n    x = x + attn(x)"),
    "the normed sum is added": ("return x + mlp(norm2(x))",
                                "x = norm2(x)\n    return x + mlp(x)"),
    "one norm twice": ("norm2(x)", "norm1(x)"),
    "no first norm": ("norm1(x)", "x"),
    "no second norm": ("norm2(x)", "x"),
    "the MLP reads the old input": ("x = x + attn(norm1(x))", "y = x + attn(norm1(x))",
                                    "return x + mlp", "return y + mlp"),
    "the old input is added to the MLP": ("x = x + attn(norm1(x))",
                                          "y = x + attn(norm1(x))", "mlp(norm2(x))",
                                          "mlp(norm2(y))"),
    "MLP first": ("attn(norm1(x))", "mlp(norm2(x))", "+ mlp(norm2(x))",
                  "+ attn(norm1(x))"),
    "norm after the part": ("attn(norm1(x))", "norm1(attn(x))"),
    "no gradient around": ("x = x + attn", "x = x.detach() + attn"),
    "in place": ("x = x + attn(norm1(x))", "x += attn(norm1(x))"),
    "what attention says cannot learn": ("x + attn(norm1(x))",
                                         "x + attn(norm1(x)).detach()"),
    "what the MLP says cannot learn": ("x + mlp(norm2(x))",
                                       "x + mlp(norm2(x)).detach()"),
    "the norm cannot learn": ("attn(norm1(x))", "attn(norm1(x.detach()))")}


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
    "the largest of each": ("[:, 0]", ".amax(1)"),
    "length kept": ("F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
                    "proj(norm(tokens)[:, 0])"),
    "normalised over the batch": ("dim=-1", "dim=0"),
    "normalised before the projection": (
        "F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
        "proj(F.normalize(norm(tokens)[:, 0], dim=-1))"),
    "no norm": ("norm(tokens)[:, 0]", "tokens[:, 0]"),
    "length by absolute values": ("dim=-1", "dim=-1, p=1"),
    "softmax for length": ("F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
                           "proj(norm(tokens)[:, 0]).softmax(-1)"),
    "cannot learn": ("proj(norm(tokens)[:, 0])", "proj(norm(tokens.detach())[:, 0])"),
    "the projection cannot learn": ("proj(norm(tokens)[:, 0])",
                                    "proj(norm(tokens)[:, 0]).detach()"),
    "the length cannot learn": ("return F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
                                "out = proj(norm(tokens)[:, 0])\n"
                                "    return out / out.detach().norm(dim=-1, "
                                "keepdim=True)"),
    "three pictures": ("[:, 0]", "[:3, 0]"),
    "the caller's vector is divided": (
        "return F.normalize(proj(norm(tokens)[:, 0]), dim=-1)",
        "out = proj(norm(tokens)[:, 0])\n    with torch.no_grad():\n"
        "        length = out.norm(dim=-1, keepdim=True)\n"
        "    return out.div_(length)")}


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
