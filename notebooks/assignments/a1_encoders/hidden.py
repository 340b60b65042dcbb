"""Assignment 1: the hidden tests, which follow those that students see in student.py."""


# %% tests patch_embed
with grading.closed():
    def formula(x, w, b):
        return F.conv2d(x, w, b, stride=w.shape[-1]).flatten(2).mT

    properties.careful(patch_embed, image, weight, bias)
    bright = image.clone()
    bright[:, 0] += 1
    grading.equal(patch_embed(bright, weight, bias) - tokens,
                  weight[:, 0].sum((1, 2)).expand(2, 6, 5),
                  "the first channel meets the first channel's weights")
    grading.same(patch_embed, formula, image, weight, bias,
                 says="the same as a convolution whose stride is its size, in values "
                      "and in gradients")
    image = torch.randn(3, 4, 9, 6, generator=g)
    weight = torch.randn(7, 4, 3, 3, generator=g)
    bias = torch.randn(7, generator=g)
    grading.same(patch_embed, formula, image, weight, bias,
                 says="patches are as large as the matrix says, and pictures have any "
                      "number of channels and any sides")


# %% tests with_positions
with grading.closed():
    def formula(x, c, p):
        return torch.stack([c.expand(len(x), -1) + p[0],
                            *(x[:, i] + p[i + 1] for i in range(x.shape[1]))], 1)

    properties.careful(with_positions, patches, cls_token, pos_embed)
    grading.same(with_positions, formula, patches, cls_token, pos_embed,
                 says="patches, [CLS] and positions all learn, and are added "
                      "and no more")
    patches = torch.randn(2, 7, 3, generator=g)
    cls_token = torch.randn(3, generator=g)
    pos_embed = torch.randn(8, 3, generator=g)
    grading.same(with_positions, formula, patches, cls_token, pos_embed,
                 says="any number of pictures and of patches fits, and any width")


# %% tests attention
with grading.closed():
    def formula(q, k, v, keep, heads):
        d = q.shape[-1] // heads
        rows = []
        for b in range(len(q)):
            parts = []
            for i in range(0, q.shape[-1], d):
                scores = q[b, :, i:i + d] @ k[b, keep[b], i:i + d].T / d ** 0.5
                parts.append((scores - scores.logsumexp(-1, keepdim=True)).exp()
                             @ v[b, keep[b], i:i + d])
            rows.append(torch.cat(parts, -1))
        return torch.stack(rows)

    keep = torch.rand(2, 5, generator=g) < 0.6
    # no two rows alike
    keep[:, 0], keep[:, 4], keep[1, 1] = True, False, ~keep[0, 1]
    properties.careful(attention, q, k, v, keep, 2)
    grading.same(attention, formula, q, k, v, keep, 2,
                 says="the weighted mean of the values that may be "
                      "seen, with gradients")
    # all keys that may be seen are one, and far from q
    alike = torch.where(keep[..., None], -1e5, 1e5) * q[:, :1]
    mean_values = torch.stack([values[there].mean(0) for values, there in zip(v, keep)])
    grading.equal(attention(q, alike, v, keep, 2),
                  mean_values[:, None].expand(-1, 3, -1),
                  "padding has no weight at all, however high its score would be, and "
                  "however low those of the others")
    # values alone: the formula's own gradients are off there; many, so that some score is cut for
    # every student
    many = [torch.randn(2, n, 12, generator=g) for n in (40, 10, 10)]
    large = 10 * many[0], 10 * many[1], many[2], keep.repeat(1, 2), 2
    grading.equal(attention(*large), formula(*large), tol=1e-3,
                  says="scores may be of any size: an exponential of them must not "
                       "overflow, and none may be cut")
    q = torch.randn(3, 4, 10, generator=g)
    k = torch.randn(3, 2, 10, generator=g)
    v = torch.randn(3, 2, 10, generator=g)
    grading.same(attention, formula, q, k, v, torch.ones(3, 2) > 0, 5,
                 says="any number of heads, queries and keys fits")


# %% tests block
with grading.closed():
    properties.careful(block, x, lambda x: x, lambda x: x, lambda x: x, lambda x: x)
    weights = [torch.randn(4, 4, generator=g) for _ in range(2)]
    norm = nn.LayerNorm(4)

    def by_hand(x):
        y = torch.add(x, torch.tanh(norm(x) @ weights[0]))
        return torch.add(y, F.gelu((y * 3).sin() @ weights[1]))

    def answer(x):
        return block(x, norm, lambda y: torch.tanh(y @ weights[0]),
                     lambda y: (y * 3).sin(), lambda y: F.gelu(y @ weights[1]))

    grading.same(answer, by_hand, x,
                 says="the gradient reaches the input through both parts "
                      "and around them")


# %% tests image_feature
with grading.closed():
    def formula(tokens, matrix):
        out = norm(tokens[:, 0]) @ matrix + 1
        return out / out.pow(2).sum(-1, keepdim=True).sqrt()

    properties.careful(image_feature, tokens, lambda x: x, lambda x: x)
    grading.same(lambda x, m: image_feature(x, norm, lambda y: y @ m + 1), formula,
                 tokens, matrix, says="the gradient reaches [CLS] and the projection")
    grading.equal(image_feature(tokens.repeat(2, 1, 1), norm, lambda x: x @ matrix + 1),
                  feature.repeat(2, 1), "any number of pictures fits")
