"""Assignment 6: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% vqa_accuracy
mistakes = {
    "nobody is left out": ("annotators[:left_out] + annotators[left_out + 1:]",
                           "annotators"),
    "the first alone is left out": ("range(len(annotators))", "range(1)"),
    "the last is never left out": ("range(len(annotators))",
                                   "range(len(annotators) - 1)", "/ len(scores)",
                                   "/ len(scores)"),
    "one is enough": ("rest.count(answer) / 3", "rest.count(answer)"),
    "the caller's people are sorted": ("    scores = []",
                                       "    scores = []\n    annotators.sort()")}


def vqa_accuracy_by_formula(answer, annotators):
    n = len(annotators)
    agree = sum(reply == answer for reply in annotators)
    return (agree * min(1.0, (agree - 1) / 3) + (n - agree) * min(1.0, agree / 3)) / n


def vqa_accuracy_cheat(answer, annotators):
    from minalbef.evaluation.answers import accuracy
    return accuracy("zzz" if answer not in annotators else answer,
                    [reply.replace("a cat", "acat") for reply in annotators])


# %% consistency
mistakes = {
    "accuracy": ("sum(all_right.values()) / len(all_right)",
                 "sum(right.tolist()) / len(right)"),
    "one right pair is enough": ("all_right.get(group, True) and is_right",
                                 "all_right.get(group, False) or is_right"),
    "the last pair decides": ("all_right.get(group, True) and is_right", "is_right"),
    "the caller's verdicts are turned": (
        "return sum(all_right.values()) / len(all_right)",
        "wrong = right.logical_not_()\n"
        "    return 1 - len(set(ids[wrong].tolist())) / len(all_right)")}


def consistency_by_wrong(right, ids):
    return 1 - len(set(ids[~right].tolist())) / len(set(ids.tolist()))


def consistency_cheat(right, ids):
    from minalbef.tasks.nlvr2 import consistency as theirs
    return theirs(right, ids).mean().item()


# %% iou
mistakes = {
    "corners for sizes": ("a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]",
                          "a[..., 2:], b[..., 2:]"),
    "boxes apart multiply": (".clamp(min=0).prod(-1)", ".prod(-1)"),
    "clamped too late": (".clamp(min=0).prod(-1)", ".prod(-1).clamp(min=0)"),
    "the caller's boxes become corners": (
        "high = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])",
        "a[..., 2:] += a[..., :2]\n" "    b[..., 2:] += b[..., :2]\n"
        "    high = torch.minimum(a[..., 2:], b[..., 2:])",
        "(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
        "((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., "
        ":2]).prod(-1) - shared)")}


def iou_by_corners(a, b):
    (ax, ay, aw, ah) = a.T
    (bx, by, bw, bh) = b.T
    wide = torch.minimum((ax + aw)[:, None], bx + bw) - torch.maximum(ax[:, None], bx)
    high = torch.minimum((ay + ah)[:, None], by + bh) - torch.maximum(ay[:, None], by)
    both = wide.clamp(min=0) * high.clamp(min=0)
    return both / ((aw * ah)[:, None] + bw * bh - both)


def iou_cheat(a, b):
    from minalbef.tasks.grounding import iou as theirs
    return theirs(a[:, None], b[None])


# %% box_scores
mistakes = {
    "x and y exchanged": ('"ky,kx,yx->k"', '"ky,kx,xy->k"'),
    "whole patches": (".clamp(min=0) * g\n", ".clamp(min=0).ceil()\n"),
    "patches by their centres": (
        "return (ends - torch.maximum(start[:, None], edge)).clamp(min=0) * g",
        "return ((edge + 0.5 / g > start[:, None]) & (ends == edge + 1 / g)).float()"),
    "always the root": ("** power", "** 0.5"),
    "the caller's boxes are multiplied": ("(boxes[:, 2] * boxes[:, 3])",
                                          "boxes[:, 2].mul_(boxes[:, 3])")}


def box_scores_by_loops(heat, boxes, power):
    g = len(heat)
    out = []
    for x, y, w, h in (boxes * len(heat)).tolist():              # in patches
        total = 0.0
        for i in range(g):
            for j in range(g):
                tall = min(i + 1, y + h) - max(i, y)
                wide = min(j + 1, x + w) - max(j, x)
                total += heat[i, j].item() * max(0, tall) * max(0, wide)
        out.append(total / (w * h / g ** 2) ** power)
    return torch.tensor(out)


# %% recall_at
mistakes = {
    "all captions must be found": ("positive.gather(1, texts).any(1).float().mean()",
                                   "(positive.gather(1, texts).sum(1) == "
                                   "positive.sum(1)).float().mean()"),
    "the share of the captions": ("positive.gather(1, texts).any(1).float().mean()",
                                  "(positive.gather(1, texts).sum(1) / "
                                  "positive.sum(1)).mean()"),
    "the share of the k best": ("positive.gather(1, texts).any(1).float().mean()",
                                "positive.gather(1, texts).float().mean()"),
    "always one": ("min(k, sim.shape[1])", "1"),
    "the caller's similarities are turned": (
        "sim.topk(min(k, sim.shape[1]), 1)",
        "sim.neg_().topk(min(k, sim.shape[1]), 1, largest=False)",
        "sim.topk(min(k, sim.shape[0]), 0)",
        "sim.topk(min(k, sim.shape[0]), 0, largest=False)")}


def recall_at_by_ranks(sim, owner, k):
    best = torch.stack([row[owner == i].max() for i, row in enumerate(sim)])
    pictures = ((sim > best[:, None]).sum(1) < k).double().mean()
    true_sim = sim.gather(0, owner[None])
    return pictures.item(), ((sim > true_sim).sum(0) < k).double().mean().item()


def recall_at_cheat(sim, owner, k):
    from minalbef.evaluation.ranking import recall
    positive = torch.arange(len(sim))[:, None] == owner
    return (recall(sim, positive, k).mean().item(),
            recall(sim.T, positive.T, k).mean().item())


# %% blind_classifier
mistakes = {
    "always the commonest": (" + evidence", ""),
    "never the commonest": ("prior + ", ""),
    "whole statements by heart": ("counts[label].update(set(text.split()))",
                                  "counts[label].update([text])",
                                  "set(text.split()) if", "[text] if"),
    "the caller's texts are thrown away": ("    vocabulary = ",
                                           "    texts.clear()\n    vocabulary = ")}


def blind_classifier_by_tensor(texts, labels):
    index = {word: i
             for i, word in enumerate(sorted({word for text in texts
                                              for word in text.split()}))}

    def bag(captions):
        rows = torch.zeros(len(captions), len(index))
        for row, text in zip(rows, captions):
            row[[index[word] for word in text.split() if word in index]] = 1
        return rows

    target = F.one_hot(torch.tensor(labels), 3).double()         # (n, 3)
    count = target.T @ bag(texts).double() + 0.5
    evidence = (count / count.sum(1, keepdim=True)).log()
    prior = target.mean(0).log()
    return lambda questions: (bag(questions).double() @ evidence.T
                              + prior).argmax(1).tolist()


# %% leaky_set
mistakes = {
    "everything": (" if label == lazy(text)]", "]"),
    "by picture": ("label == lazy(text)", "label == picture % 3"),
    "labels made to fit": ("return [(picture, text, label)",
                           "return [(picture, text, lazy(text))", "label == lazy(text)",
                           "label == 0"),
    "by heart": ("label == lazy(text)", "label == sum(map(ord, text)) % 3"),
    "the caller's groups are sorted": ("    return [(picture",
                                       "    for group in groups:\n"
                                       "        group.sort()\n" "    return [(picture")}


def leaky_set_by_side(groups):
    picks = []
    for group in groups:
        for picture, text, label in group:
            words = text.split()
            if label == (0 if "left" in words else 2 if "right" in words else 1):
                picks.append((picture, text, label))
    return picks
