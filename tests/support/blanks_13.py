"""Chapter 13's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "cam": "return (weights * gradients * (gradients > 0)).sum(1) / weights.shape[1]",
    "relevance": """
        with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
            fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens)

            gradient = torch.autograd.grad(score(fused).sum(), weights[layer], retain_graph=True)[0]
        maps = (weights[layer] * gradient.clamp(min=0)).mean(1)                  # not detached
        maps[~keep] = 0
        return maps
    """,
    "text_map": "return torch.stack([one[words].mean(0) for one, words in zip(maps, keep)])",
    "score_boxes": """
        heat = F.interpolate(heat[None, None], size=size, mode="bicubic")[0, 0]

        rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
        scores = []
        for x, y, width, height in boxes:
            inside = (columns >= x) & (columns < x + width) & (rows >= y) & (rows < y + height)
            scores.append((heat * inside).sum().item() / (width * height).item() ** power)
        return torch.tensor(scores)
    """,
    "iou": """
        ax, ay, aw, ah = a.unbind(-1)
        bx, by, bw, bh = b.unbind(-1)
        width = F.relu(torch.minimum(ax + aw, bx + bw) - torch.maximum(ax, bx))
        height = F.relu(torch.minimum(ay + ah, by + bh) - torch.maximum(ay, by))
        return width * height / (aw * ah + bw * bh - width * height)
    """,
    "to_report": """
        best = max(range(len(validation)), key=lambda i: validation[i].sum())
        return test[best].mean()
    """,
}
WRONG = {
    "cam": "return (weights * gradients).mean(1)                          # no clamp",
    "relevance": """
        with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
            fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens)

            gradient, = torch.autograd.grad(score(fused)[0], weights[layer])
        return gradcam.cam(weights[layer], gradient) * keep[:, :, None]
    """,
    "text_map": "return maps.mean(1)                                           # padding counts",
    "score_boxes": """
        heat = F.interpolate(heat[None, None], size=size, mode="bicubic")[0, 0]

        sums = [heat[x:x + w, y:y + h].sum() for x, y, w, h in boxes.clamp(min=0).tolist()]
        return torch.stack(sums) / boxes[:, 2:].prod(1) ** power
    """,
    "iou": """
        ends = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
        shared = (ends - torch.maximum(a[..., :2], b[..., :2])).prod(-1)     # two negative sides
        return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
    """,
    "to_report": """
        return test.mean(1).max()                                     # chosen on the test set
    """,
}
