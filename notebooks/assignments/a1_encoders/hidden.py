"""Assignment 1: the hidden tests, which follow those that students see in student.py."""


# %% tests patch_embed
with grading.closed():
    bright = image.clone()
    bright[:, 0] += 1
    grading.equal(patch_embed(bright, weight, bias) - tokens, weight[:, 0].sum((1, 2)).expand(2, 6, 5),
                  "the first channel meets the first channel's weights")
    grading.same(patch_embed, lambda x, w, b: F.conv2d(x, w, b, stride=w.shape[-1]).flatten(2).mT, image, weight, bias,
                 says="the same as a convolution whose stride is its size, in values and in gradients")


# %% tests with_positions
with grading.closed():
    def formula(x, c, p):
        return torch.stack([c.expand(len(x), -1) + p[0], *(x[:, i] + p[i + 1] for i in range(4))], 1)

    grading.same(with_positions, formula, patches, cls_token, pos_embed,
                 says="patches, [CLS] and positions all learn, and are added and no more")


# %% tests attention
with grading.closed():
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
    grading.same(attention, formula, q, k, v, keep, 2,
                 says="the weighted mean of the values that may be seen, with gradients")


# %% tests block
with grading.closed():
    weights = [torch.randn(4, 4, generator=g) for _ in range(2)]
    norm = nn.LayerNorm(4)

    def by_hand(x):
        y = torch.add(x, torch.tanh(norm(x) @ weights[0]))
        return torch.add(y, F.gelu((y * 3).sin() @ weights[1]))

    def answer(x):
        return block(x, norm, lambda y: torch.tanh(y @ weights[0]), lambda y: (y * 3).sin(),
                     lambda y: F.gelu(y @ weights[1]))

    grading.same(answer, by_hand, x, says="the gradient reaches the input through both parts and around them")


# %% tests image_feature
with grading.closed():
    def formula(tokens, matrix):
        out = norm(tokens[:, 0]) @ matrix + 1
        return out / out.pow(2).sum(-1, keepdim=True).sqrt()

    grading.same(lambda x, m: image_feature(x, norm, lambda y: y @ m + 1), formula, tokens, matrix,
                 says="the gradient reaches [CLS] and the projection")
