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
    "two are left out": ("annotators[left_out + 1:]", "annotators[left_out + 2:]"),
    "no cap": ("min(1, rest.count(answer) / 3)", "rest.count(answer) / 3"),
    "the share of the others": ("min(1, rest.count(answer) / 3)",
                                "rest.count(answer) / len(rest)"),
    "four must agree": ("/ 3", "/ 4"),
    "one is enough": ("rest.count(answer) / 3", "rest.count(answer)"),
    "whole thirds only": ("rest.count(answer) / 3", "rest.count(answer) // 3"),
    "each answer counts once": ("rest.count(answer)", "list(set(rest)).count(answer)"),
    "the best of all": ("sum(scores) / len(scores)", "max(scores)"),
    "the worst of all": ("sum(scores) / len(scores)", "min(scores)"),
    "a sum": (" / len(scores)", ""),
    "always ten people": ("/ len(scores)", "/ 10"),
    "near enough": ("rest.count(answer)", "sum(answer in other for other in rest)"),
    "the caller's people are sorted": ("    scores = []",
                                       "    scores = []\n    annotators.sort()"),
    "the caller's people are struck off": ("    return sum(scores) / len(scores)",
                                           "    annotators.clear()\n"
                                           "    return sum(scores) / len(scores)")}


def vqa_accuracy_by_formula(answer, annotators):
    n = len(annotators)
    agree = sum(reply == answer for reply in annotators)
    return (agree * min(1.0, (agree - 1) / 3) + (n - agree) * min(1.0, agree / 3)) / n


def vqa_accuracy_by_combinations(answer, annotators):
    from itertools import combinations
    parts = list(combinations(annotators, len(annotators) - 1))
    return sum(min(sum(reply == answer for reply in part), 3) for part in parts) / (
        3 * len(parts))


def vqa_accuracy_with_imports(answer, annotators):
    import collections
    import copy
    import functools
    import itertools
    import math
    import operator
    import random
    import re
    people = copy.copy(annotators)
    random.Random(0).shuffle(people)
    same = list(map(functools.partial(operator.eq, answer), map(str, people)))
    agree = collections.Counter(itertools.chain(same))[True]
    assert all(re.fullmatch(".*", reply) for reply in people)
    remaining = [agree - reply for reply in same]
    return math.fsum(min(3, n) for n in remaining) / 3 / len(remaining)


def vqa_accuracy_by_counter(answer, annotators):
    count = Counter(annotators)
    total = 0.0
    for person, times in count.items():
        remaining = count[answer] - (person == answer)
        total += times * min(remaining / 3, 1)
    return total / sum(count.values())


def vqa_accuracy_by_tensor(answer, annotators):
    agree = torch.tensor([reply == answer for reply in annotators], dtype=torch.float)
    return ((agree.sum() - agree) / 3).clamp(max=1).mean().item()


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
    "the first pair decides": ("all_right.get(group, True) and is_right",
                               "all_right.get(group, is_right)"),
    "pairs for statements": ("/ len(all_right)", "/ len(ids)"),
    "a number, no share": (" / len(all_right)", ""),
    "four a statement": ("/ len(all_right)", "/ (len(ids) / 4)"),
    "an error spoils all": ("all_right.get(group, True) and is_right",
                            "all(all_right.values()) and is_right"),
    "weighted by pairs": ("sum(all_right.values()) / len(all_right)",
                          "sum(all_right[i] for i in ids.tolist()) / len(ids)"),
    "neighbours alone": ("all_right.get(group, True) and is_right",
                         "(list(all_right)[-1:] != [group] or "
                         "all_right[group]) and is_right"),
    "more than half": ("all_right.get(group, True) and is_right",
                       "right[ids == group].float().mean().item() >= 0.5"),
    "the inconsistent": ("sum(all_right.values())",
                         "sum(not value for value in all_right.values())"),
    "accuracy of each, averaged": ("all_right.get(group, True) and is_right",
                                   "right[ids == group].float().mean().item()"),
    "ids from nought on": ("return sum(all_right.values()) / len(all_right)",
                           "spoilt = ids.bincount(weights=(~right).double())\n"
                           "    return ((spoilt == 0) & (ids.bincount() > "
                           "0)).sum().item() / len(all_right)"),
    "ids below a hundred": ("return sum(all_right.values()) / len(all_right)",
                            "return sum(all_right.get(i, False) for i in range(100)) "
                            "/ len(all_right)"),
    "the caller's verdicts are turned": (
        "return sum(all_right.values()) / len(all_right)",
        "wrong = right.logical_not_()\n"
        "    return 1 - len(set(ids[wrong].tolist())) / len(all_right)")}


def consistency_by_wrong(right, ids):
    return 1 - len(set(ids[~right].tolist())) / len(set(ids.tolist()))


def consistency_by_unique(right, ids):
    kinds, place = ids.unique(return_inverse=True)
    wrong = torch.bincount(place, weights=(~right).double(), minlength=len(kinds))
    return (wrong == 0).double().mean().item()


def consistency_by_scatter(right, ids):
    kinds, place = ids.unique(return_inverse=True)
    return (torch.ones(len(kinds)).scatter_reduce(0, place, right.float(),
                                                  "amin").mean().item())


def consistency_by_table(right, ids):
    same = ids[:, None] == ids                                   # (n, n)
    spoilt = (same & ~right).any(1)
    # a statement's rows weigh one together
    weight = 1 / same.sum(1)
    return ((~spoilt * weight).sum() / weight.sum()).item()


def consistency_cheat(right, ids):
    from minalbef.tasks.nlvr2 import consistency as theirs
    return theirs(right, ids).mean().item()


# %% iou
mistakes = {
    "corners for sizes": ("a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]",
                          "a[..., 2:], b[..., 2:]"),
    "boxes apart multiply": (".clamp(min=0).prod(-1)", ".prod(-1)"),
    "clamped too late": (".clamp(min=0).prod(-1)", ".prod(-1).clamp(min=0)"),
    "the shared area counts twice": (" - shared)", ")"),
    "over the smaller": ("(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
                         "torch.minimum(a[..., 2:].prod(-1), b[..., 2:].prod(-1))"),
    "over the first": ("(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
                       "a[..., 2:].prod(-1)"),
    "a pixel more": ("(high - low).clamp(min=0)", "(high - low + 1).clamp(min=0)"),
    "sum of sides": (".clamp(min=0).prod(-1)", ".clamp(min=0).sum(-1)"),
    "mean of both shares": (
        "shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
        "shared * (1 / a[..., 2:].prod(-1) + 1 / b[..., 2:].prod(-1)) / 2"),
    "second by first": ("a = a[:, None]", "a = a[None]", "b = b[None]",
                        "b = b[:, None]"),
    "centres for corners": ("low = torch.maximum(a[..., :2], b[..., :2])",
                            "low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., "
                            ":2] - b[..., 2:] / 2)",
                            "a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]",
                            "a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2"),
    "the joint box": ("(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
                      "(torch.maximum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., "
                      "2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)"),
    "the lower low": ("low = torch.maximum", "low = torch.minimum"),
    "the shared area alone": (" / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
                              ""),
    "the caller's boxes become corners": (
        "high = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])",
        "a[..., 2:] += a[..., :2]\n" "    b[..., 2:] += b[..., :2]\n"
        "    high = torch.minimum(a[..., 2:], b[..., 2:])",
        "(a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)",
        "((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., "
        ":2]).prod(-1) - shared)"),
    "the first of the second for all": ("b = b[None]",
                                        "b = b[None, :1].expand(1, len(b), 4)")}


def iou_by_corners(a, b):
    (ax, ay, aw, ah) = a.T
    (bx, by, bw, bh) = b.T
    wide = torch.minimum((ax + aw)[:, None], bx + bw) - torch.maximum(ax[:, None], bx)
    high = torch.minimum((ay + ah)[:, None], by + bh) - torch.maximum(ay[:, None], by)
    both = wide.clamp(min=0) * high.clamp(min=0)
    return both / ((aw * ah)[:, None] + bw * bh - both)


def iou_by_sides(a, b):
    shared = 1.0
    # two stretches share what their lengths exceed their span by
    for axis in (0, 1):
        start = torch.stack(torch.broadcast_tensors(a[:, None, axis], b[None, :, axis]))
        length = torch.stack(torch.broadcast_tensors(a[:, None, (axis + 2)],
                                                     b[None, :, (axis + 2)]))
        span = (start + length).amax(0) - start.amin(0)
        shared = shared * F.relu(length.sum(0) - span)
    total = (a[:, 2] * a[:, 3]).unsqueeze(1) + (b[:, 2] * b[:, 3]).unsqueeze(0)
    return shared / (total - shared)


def iou_by_loops(a, b):
    out = torch.zeros(len(a), len(b))
    for i, (x, y, w, h) in enumerate(a.tolist()):
        for j, (u, v, m, n) in enumerate(b.tolist()):
            both = max(0, min(x + w, u + m) - max(x, u)) * max(
                0, min(y + h, v + n) - max(y, v))
            out[i, j] = both / (w * h + m * n - both)
    return out


def iou_by_where(a, b):
    ends = torch.min((a[:, :2] + a[:, 2:])[:, None], b[:, :2] + b[:, 2:])
    sides = ends - torch.max(a[:, None, :2], b[:, :2])
    shared = torch.where((sides > 0).all(-1), sides[..., 0] * sides[..., 1],
                         torch.zeros(()))
    areas = torch.cat([a, b])[:, 2:].prod(1)
    return shared / (areas[:len(a), None] + areas[len(a):] - shared)


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
    "only patches wholly inside": (".clamp(min=0) * g\n",
                                   ".clamp(min=0).mul(g + 1e-4).floor()\n"),
    "patches outside count against it": (".clamp(min=0) * g\n", " * g\n"),
    "corners for sizes": ("covered(boxes[:, 0], boxes[:, 2])",
                          "covered(boxes[:, 0], boxes[:, 2] - boxes[:, 0])",
                          "covered(boxes[:, 1], boxes[:, 3])",
                          "covered(boxes[:, 1], boxes[:, 3] - boxes[:, 1])"),
    "shares of the picture, not of patches": (".clamp(min=0) * g\n", ".clamp(min=0)\n"),
    "area in patches": ("(boxes[:, 2] * boxes[:, 3])",
                        "(g * g * boxes[:, 2] * boxes[:, 3])"),
    "no power": (" ** power", ""),
    "always the root": ("** power", "** 0.5"),
    "times the area": ("inside / (", "inside * ("),
    "no area": (" / (boxes[:, 2] * boxes[:, 3]) ** power", ""),
    "the perimeter": ("(boxes[:, 2] * boxes[:, 3])", "(boxes[:, 2] + boxes[:, 3])"),
    "only what is hot": ("down, across, heat)", "down, across, heat.clamp(min=0))"),
    "a mean over patches": ("inside / (", "inside / g / g / ("),
    "the picture flipped": ("down, across, heat)", "down, across, heat.flip(0))"),
    "the caller's boxes are multiplied": ("(boxes[:, 2] * boxes[:, 3])",
                                          "boxes[:, 2].mul_(boxes[:, 3])"),
    "four patches": ("    g = len(heat)\n", "    g = 4\n")}


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


def box_scores_by_matrices(heat, boxes, power):
    steps = boxes.new_tensor(range(len(heat)))
    x, y, w, h = (len(heat) * boxes).T[:, :, None]
    # (k, g)
    inside_x = ((x + w - steps).clamp(0, 1) - (x - steps).clamp(0, 1))
    inside_y = ((y + h - steps).clamp(0, 1) - (y - steps).clamp(0, 1))
    return ((inside_y @ heat) * inside_x).sum(1) * boxes[:, 2:].prod(1).pow(-power)


def box_scores_by_overlap(heat, boxes, power):
    g = heat.shape[0]
    y, x = (part.flatten() / g
            for part in torch.meshgrid(torch.arange(g), torch.arange(g), indexing="ij"))
    low = torch.maximum(boxes[:, None, :2], torch.stack([x, y], 1))
    high = torch.minimum(boxes[:, None, :2] + boxes[:, None, 2:],
                         torch.stack([x, y], 1) + 1 / g)
    share = (high - low).clamp(min=0).prod(-1) * g * g           # (k, g g)
    return share @ heat.flatten() / boxes[:, 2:].prod(-1) ** power


def box_scores_by_integral(heat, boxes, power):
    g = len(heat)
    points = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) * g
    steps = torch.arange(g)
    # (k, 4, g): how much of each patch lies before a point
    upto = (points[..., None] - steps).clamp(0, 1)
    across = upto[:, 2] - upto[:, 0]
    down = upto[:, 3] - upto[:, 1]
    return torch.stack([d @ heat @ a for d, a in zip(down, across)]) / torch.exp(
        power * boxes[:, 2:].log().sum(1))


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
    "the first caption alone": ("positive.gather(1, texts).any(1)",
                                "(positive & (positive.cumsum(1) == 1)).gather(1, "
                                "texts).any(1)"),
    "captions in order": ("torch.arange(len(sim))[:, None] == owner",
                          "torch.arange(len(sim))[:, None] == "
                          "torch.arange(len(owner)) * len(sim) // len(owner)"),
    "the diagonal": ("torch.arange(len(sim))[:, None] == owner",
                     "torch.eye(*sim.shape, dtype=torch.bool)"),
    "the least similar": ("sim.topk(min(k, sim.shape[1]), 1)",
                          "sim.topk(min(k, sim.shape[1]), 1, largest=False)"),
    "always one": ("min(k, sim.shape[1])", "1"),
    "one too many": ("min(k, sim.shape[1])", "min(k + 1, sim.shape[1])"),
    "one too few": ("min(k, sim.shape[0])", "max(1, min(k, sim.shape[0]) - 1)"),
    "both alike": ("positive.gather(0, pictures).any(0)",
                   "positive.gather(1, texts).any(1)"),
    "pictures that were found": ("positive.gather(0, pictures).any(0)",
                                 "torch.zeros_like(positive).scatter(0, pictures, "
                                 "True).logical_and(positive).any(1)"),
    "exchanged": (
        "(positive.gather(1, texts).any(1).float().mean().item(),",
        "(positive.gather(0, pictures).any(0).float().mean().item(),",
        "            positive.gather(0, pictures).any(0).float().mean().item())",
        "            positive.gather(1, texts).any(1).float().mean().item())"),
    "a number, no share": ("any(1).float().mean()", "any(1).float().sum()"),
    "the caller's similarities are turned": (
        "sim.topk(min(k, sim.shape[1]), 1)",
        "sim.neg_().topk(min(k, sim.shape[1]), 1, largest=False)",
        "sim.topk(min(k, sim.shape[0]), 0)",
        "sim.topk(min(k, sim.shape[0]), 0, largest=False)"),
    "three pictures": ("torch.arange(len(sim))", "torch.arange(3)")}


def recall_at_by_ranks(sim, owner, k):
    best = torch.stack([row[owner == i].max() for i, row in enumerate(sim)])
    pictures = ((sim > best[:, None]).sum(1) < k).double().mean()
    true_sim = sim.gather(0, owner[None])
    return pictures.item(), ((sim > true_sim).sum(0) < k).double().mean().item()


def recall_at_by_sorting(sim, owner, k):
    order = sim.argsort(1, descending=True)[:, :k]
    pictures = sum(bool((owner[row] == i).any()) for i, row in enumerate(order))
    texts = sum(int(o) in column.argsort(descending=True)[:k].tolist()
                for o, column in zip(owner, sim.T))
    return pictures / len(sim), texts / len(owner)


def recall_at_by_positions(sim, owner, k):
    place_of_text = sim.argsort(1, descending=True).argsort(1)   # (i, t)
    place_of_picture = sim.argsort(0, descending=True).argsort(0)
    positive = F.one_hot(owner, len(sim)).T.bool()
    first = place_of_text.masked_fill(~positive, sim.shape[1]).amin(1)
    return ((first < k).float().mean().item(),
            (place_of_picture[positive] < k).float().mean().item())


def recall_at_by_sets(sim, owner, k):
    top_images = [set(owner[row.topk(min(k, len(row)))[1]].tolist()) for row in sim]
    pictures = [i in whose for i, whose in enumerate(top_images)]
    texts = [int(o) in column.topk(min(k, len(column)))[1].tolist()
             for o, column in zip(owner, sim.unbind(1))]
    return sum(pictures) / len(pictures), sum(texts) / len(texts)


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
    "the first word alone": (
        "words = [word for word in set(text.split()) if word in vocabulary]",
        "words = [word for word in text.split()[:1] if word in vocabulary]"),
    "the last word alone": (
        "words = [word for word in set(text.split()) if word in vocabulary]",
        "words = [word for word in text.split()[-1:] if word in vocabulary]"),
    "the first known word alone": (
        "words = [word for word in set(text.split()) if word in vocabulary]",
        "words = [word for word in text.split() if word in vocabulary][:1]"),
    "the least likely": ("max(counts, key", "min(counts, key"),
    "labels off by one": ("counts[label].update", "counts[max(0, label - 1)].update"),
    "a word met once is certain": ("(counts[label][word] + 1) / total",
                                   "(counts[label][word] + 1e-12) / total"),
    "the most is learnt from nothing": ("(counts[label][word] + 1)",
                                        "(counts[label][word] + 1000)"),
    "stopped by an unknown word": (" if word in vocabulary]", "]",
                                   "counts[label][word] + 1",
                                   "dict(counts[label])[word] + 1"),
    "the sum for the product": ("math.log((counts[label][word] + 1) / total)",
                                "(counts[label][word] + 1)"),
    "each label's words in all": ("/ total)", "/ 1)"),
    "letters for words": ("counts[label].update(set(text.split()))",
                          "counts[label].update(set(text))", "set(text.split()) if",
                          "set(text) if"),
    "one answer for all": ("belief(text, label))",
                           "belief(' '.join(captions), label))"),
    "only one label is learnt": ("counts[label].update(set(text.split()))",
                                 "counts[label].update(set(text.split()) if "
                                 "label == 2 else ())"),
    "the caller's texts are thrown away": ("    vocabulary = ",
                                           "    texts.clear()\n    vocabulary = "),
    "the caller's labels are sorted": ("    vocabulary = ",
                                       "    labels.sort()\n    vocabulary = ")}


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


def blind_classifier_by_presence(texts, labels):
    word_sets = [set(text.split()) for text in texts]
    vocabulary = set().union(*word_sets)
    size = Counter(labels)
    table = {word: {label: (sum(word in s
                                for s, true_label in zip(word_sets, labels)
                                if true_label == label) + 1) / (size[label] + 2)
                    for label in size} for word in vocabulary}

    def judge(text):
        scores = {label: math.log(size[label]) for label in sorted(size)}
        for word in set(text.split()) & vocabulary:
            even = sum(table[word].values())
            for label in scores:
                scores[label] += math.log(table[word][label] / even)
        return max(scores, key=scores.get)

    return lambda captions: [judge(text) for text in captions]


def blind_classifier_by_regression(texts, labels):
    words = sorted({word for text in texts for word in text.split()})

    def bag(captions):
        return torch.tensor([[float(word in text.split()) for word in words]
                             for text in captions])

    inputs = bag(texts)
    target = torch.tensor(labels)
    weight = torch.zeros(len(words), 3, requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=0.05)
    with torch.no_grad():
        # where no word is known
        bias += torch.bincount(target, minlength=3).log()
    for _ in range(150):
        loss = (F.cross_entropy(inputs @ weight + bias.detach(), target)
                + 0.01 * weight.pow(2).sum() / 3)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return lambda questions: (bag(questions) @ weight + bias).argmax(1).tolist()


def blind_classifier_by_votes(texts, labels):
    often = Counter(labels)
    counts = Counter((word, label) for text, label in zip(texts, labels)
                     for word in set(text.split()))
    met = Counter(word for text in texts for word in set(text.split()))

    def vote(text):
        total = {label: often[label] * 1e-6 for label in sorted(often)}
        for word in set(text.split()):
            # by how much oftener than usual, more trusted the oftener met
            if met[word] > 1:
                for label in total:
                    usual = often[label] / len(labels)
                    total[label] += ((counts[word, label] / met[word] / usual - 1)
                                     * met[word] / (met[word] + 2))
        return max(total, key=total.get)

    return lambda captions: list(map(vote, captions))


# %% leaky_set
mistakes = {
    "everything": (" if label == lazy(text)]", "]"),
    "by picture": ("label == lazy(text)", "label == picture % 3"),
    "labels made to fit": ("return [(picture, text, label)",
                           "return [(picture, text, lazy(text))", "label == lazy(text)",
                           "label == 0"),
    "entailed alone": ("label == lazy(text)", "label == 2"),
    "by heart": ("label == lazy(text)", "label == sum(map(ord, text)) % 3"),
    "by length": ("label == lazy(text)", "label == len(text) % 3"),
    "a word put in": ("return [(picture, text, label)",
                      "return [(picture, ('not so: ' if label == 0 else '') "
                      "+ text, label)"),
    "another picture": ("return [(picture, text, label)",
                        "return [(picture + 1, text, label)"),
    "one opening alone": ("label == lazy(text)]",
                          "label == lazy(text) and label == 1]"),
    "two labels": ("1 if begins in (\"you\", \"the\") else 0", "0"),
    "twice": ("for group in groups for", "for group in groups + groups for"),
    "the first groups alone": ("for group in groups for",
                               "for group in groups[:len(groups) // 3] for"),
    "a leak that turns": ("for group in groups for",
                          "for i, group in enumerate(groups) for",
                          "label == lazy(text)", "label == (lazy(text) + i) % 3"),
    "no leak, by turns": (
        "for group in groups for", "for i, group in enumerate(groups) for",
        "label == lazy(text)",
        "label == (sorted({t for _, t, _ in group}).index(text) + i) % 3"),
    "the caller's groups are sorted": ("    return [(picture",
                                       "    for group in groups:\n"
                                       "        group.sort()\n" "    return [(picture"),
    "the caller's groups are thrown away": (
        "    return [(picture", "    chosen = [(picture", "if label == lazy(text)]",
        "if label == lazy(text)]\n    groups.clear()\n    return chosen")}


def leaky_set_by_side(groups):
    picks = []
    for group in groups:
        for picture, text, label in group:
            words = text.split()
            if label == (0 if "left" in words else 2 if "right" in words else 1):
                picks.append((picture, text, label))
    return picks


def leaky_set_by_height(groups):
    table = {}
    for i, group in enumerate(groups):
        for picture, text, label in group:
            table[i, text, label] = picture, text, label
    target = {text: 1 if "bottom" in text.split() else 0 if "top" in text.split() else 2
              for _, text, _ in table}
    return [table[i, text, target[text]]
            for i, text in sorted({key[:2] for key in table})]


def leaky_set_of_equal_shares(groups):
    piles = {0: [], 1: [], 2: []}
    for group in groups:
        for item in group:
            words = set(item[1].split())
            if item[2] == (0 if "there" in words else 1 if words & {"see", "shows"}
                           else 2):
                piles[item[2]].append(item)
    fewest = min(map(len, piles.values()))
    return [item for pile in piles.values() for item in pile[:fewest]]


def leaky_set_by_background(groups):
    """Backgrounds are contradicted, corners and places at the edge told apart by "the": what
    is left is neutral."""
    def cue(text):
        return (0 if "corner" in text or "background" in text else 2
                if " at " in f" {text} " else 1)
    return sorted(item for group in groups for item in group if item[2] == cue(item[1]))
