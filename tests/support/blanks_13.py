"""Chapter 13's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

FUSED = """
    with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
        fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens)
"""
ENLARGED = """
    heat = F.interpolate(heat[None, None], size=size, mode="bicubic")[0, 0]
"""
RIGHT = {
    "cam": ["""
    return (weights * gradients * (gradients > 0)).sum(1) / weights.shape[1]
""", """
    return torch.einsum("bhln,bhln->bln", weights, F.relu(gradients)) / weights.size(1)
"""],
    "relevance": [FUSED + """
        gradient = torch.autograd.grad(score(fused).sum(), weights[layer], retain_graph=True)[0]
    maps = (weights[layer] * gradient.clamp(min=0)).mean(1)                  # not detached
    maps[~keep] = 0
    return maps
""", FUSED + """
        scores = score(fused)
        maps = torch.stack([gradcam.cam(
            weights[layer], torch.autograd.grad(one, weights[layer], retain_graph=True)[0])[row]
            for row, one in enumerate(scores)])
        return torch.where(keep[:, :, None], maps, 0)
"""],
    "text_map": ["""
    return torch.stack([one[words].mean(0) for one, words in zip(maps, keep)])
""", """
    share = keep / keep.sum(1, keepdim=True)
    return torch.einsum("bln,bl->bn", maps, share)
"""],
    "score_boxes": [ENLARGED + """
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    scores = []
    for x, y, width, height in boxes:
        inside = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
        scores.append((heat * inside).sum().item() / (width * height).item() ** power)
    return torch.tensor(scores)
""", ENLARGED + """
    starts, ends = boxes[:, :2].clamp(min=0), boxes[:, :2] + boxes[:, 2:]
    sums = [heat[y0:y1, x0:x1].sum() for (x0, y0), (x1, y1) in zip(starts, ends)]
    return torch.stack(sums) / (boxes[:, 2] * boxes[:, 3]).float().pow(power)
"""],
    "iou": ["""
    ax, ay, aw, ah = a.unbind(-1)
    bx, by, bw, bh = b.unbind(-1)
    width = F.relu(torch.minimum(ax + aw, bx + bw) - torch.maximum(ax, bx))
    height = F.relu(torch.minimum(ay + ah, by + bh) - torch.maximum(ay, by))
    return width * height / (aw * ah + bw * bh - width * height)
"""],
    "to_report": ["""
    best = max(range(len(validation)), key=lambda i: validation[i].sum())
    return test[best].mean()
""", """
    return float(np.mean(test.detach().numpy()[np.argmax(validation.detach().numpy().sum(1))]))
"""]}
WRONG = {
    "cam": ["""
    return (weights * gradients).mean(1)                          # no clamp
""", """
    return weights.mean(1) * gradients.mean(1).clamp(min=0)       # the product of means
""", """
    return (weights * gradients.clamp(min=0)).sum(1)              # a sum over heads
""", """
    return (weights * gradients.abs()).mean(1)                    # whatever moved the score
"""],
    "relevance": [FUSED + """
        gradient, = torch.autograd.grad(score(fused)[0], weights[layer])         # the first row's
    return gradcam.cam(weights[layer], gradient) * keep[:, :, None]
""", FUSED + """
        gradient, = torch.autograd.grad(score(fused).sum(), weights[-1])         # another layer
    return gradcam.cam(weights[-1], gradient) * keep[:, :, None]
""", FUSED + """
        gradient, = torch.autograd.grad(score(fused).sum(), weights[layer])      # all heads at once
    return weights[layer].mean(1) * gradient.mean(1).clamp(min=0) * keep[:, :, None]
"""],
    "text_map": ["""
    return maps.mean(1)                                           # padding counts
""", """
    return (maps * keep[:, :, None]).mean(1)                      # divided by all places
""", """
    return (maps * keep[:, :, None])[:, 1:].sum(1) / keep[:, 1:].sum(1, keepdim=True)    # no [CLS]
"""],
    "score_boxes": [ENLARGED + """
    sums = [heat[x:x + w, y:y + h].sum() for x, y, w, h in boxes.clamp(min=0).tolist()]  # transposed
    return torch.stack(sums) / boxes[:, 2:].prod(1) ** power
""", ENLARGED + """
    sums = [heat[y:y + h, x:x + w].sum() for x, y, w, h in boxes.tolist()]       # from the other end
    return torch.stack(sums) / boxes[:, 2:].prod(1) ** power
""", ENLARGED + """
    sums = [heat[max(0, y):y + h, max(0, x):x + w].mean() for x, y, w, h in boxes.tolist()]
    return torch.stack(sums)                                      # the mean, whatever the power
""", ENLARGED + """
    sums = [heat[max(0, y):y + h, max(0, x):x + w].sum() for x, y, w, h in boxes.tolist()]
    return torch.stack(sums) / boxes[:, 2:].prod(1) ** 0.5        # always the root
"""],
    "iou": ["""
    ends = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (ends - torch.maximum(a[..., :2], b[..., :2])).prod(-1)     # two negative sides
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
""", """
    ends = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (ends - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1))           # shared counts twice
""", """
    ends = torch.minimum(a[..., 2:], b[..., 2:])                          # sizes taken for corners
    shared = (ends - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
"""],
    "to_report": ["""
    return test.mean(1).max()                                     # chosen on the test set
""", """
    return validation.mean(1).max()                               # the figure it was chosen by
""", """
    return test[validation.argmax(1)[0]].mean()                   # a problem for a map
""", """
    return test.mean()                                            # no choice at all
"""]}
