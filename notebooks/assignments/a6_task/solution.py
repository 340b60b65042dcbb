"""Assignment 6: a solution of every answer, and model answers to what a person grades."""


# %% answer vqa_accuracy
def vqa_accuracy(answer: str, annotators: list[str]) -> float:
    """How far people agree with an answer: from 0 to 1."""
    scores = []
    for left_out in range(len(annotators)):
        rest = annotators[:left_out] + annotators[left_out + 1:]
        scores.append(min(1, rest.count(answer) / 3))
    return sum(scores) / len(scores)


# %% answer consistency
def consistency(right: Tensor, ids: Tensor) -> float:
    """Share of statements without an error: right (n,) bool, ids of statements (n,) -> from
    0 to 1."""
    all_right: dict[int, bool] = {}
    for is_right, group in zip(right.tolist(), ids.tolist()):
        all_right[group] = all_right.get(group, True) and is_right
    return sum(all_right.values()) / len(all_right)


# %% answer iou
def iou(a: Tensor, b: Tensor) -> Tensor:
    """Shared over joint area, each with each: (n, 4), (k, 4) -> (n, k)."""
    a = a[:, None]                                               # (n, 1, 4)
    b = b[None]                                                  # (1, k, 4)
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)                  # (n, k)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)


# %% answer box_scores
def box_scores(heat: Tensor, boxes: Tensor, power: float) -> Tensor:
    """What of a map lies in each box, over its area to the power: (g, g), rows are y; (k, 4)
    in the picture -> (k,)."""
    g = len(heat)
    edge = torch.arange(g) / g       # where each patch begins, along either axis

    def covered(start: Tensor, length: Tensor) -> Tensor:
        """Shares of patches (k, g)."""
        ends = torch.minimum((start + length)[:, None], edge + 1 / g)
        return (ends - torch.maximum(start[:, None], edge)).clamp(min=0) * g

    across = covered(boxes[:, 0], boxes[:, 2])
    down = covered(boxes[:, 1], boxes[:, 3])
    inside = torch.einsum("ky,kx,yx->k", down, across, heat)
    return inside / (boxes[:, 2] * boxes[:, 3]) ** power


# %% answer recall_at
def recall_at(sim: Tensor, owner: Tensor, k: int) -> tuple[float, float]:
    """sim (i, t), pictures by captions; owner (t,): each caption's picture -> recall at k of
    pictures, of captions."""
    positive = torch.arange(len(sim))[:, None] == owner               # (i, t)
    texts = sim.topk(min(k, sim.shape[1]), 1).indices            # (i, k)
    pictures = sim.topk(min(k, sim.shape[0]), 0).indices         # (k, t)
    return (positive.gather(1, texts).any(1).float().mean().item(),
            positive.gather(0, pictures).any(0).float().mean().item())


# %% answer blind_classifier
def blind_classifier(texts: list[str], labels: list[int]):
    """Learn labels from words: -> a function of a list of texts, which gives the list of
    their labels."""
    counts = {label: Counter() for label in sorted(set(labels))}
    for text, label in zip(texts, labels):
        counts[label].update(set(text.split()))
    vocabulary = set().union(*counts.values())

    def belief(text: str, label: int) -> float:
        total = sum(counts[label].values()) + len(vocabulary)
        words = [word for word in set(text.split()) if word in vocabulary]
        prior = math.log(labels.count(label))
        evidence = sum(math.log((counts[label][word] + 1) / total) for word in words)
        return prior + evidence

    return lambda captions: [max(counts, key=lambda label: belief(text, label))
                             for text in captions]


# %% answer leaky_set
def leaky_set(groups: list[list[tuple[int, str, int]]]) -> list[tuple[int, str, int]]:
    """Of draw_groups' groups of nine (picture, statement, label) a choice whose words give
    the label away."""
    def lazy(text: str) -> int:
        """The label for which a lazy author would begin so."""
        begins = text.split()[0]
        return 2 if begins == "there" else 1 if begins in ("you", "the") else 0

    return [(picture, text, label)
            for group in groups for picture, text, label in group
            if label == lazy(text)]


# %% written figure
# (a) Trained against other problems' words: 0.96 to 0.15 for places, 0.88 to 0.23 for sizes; with
# the image alone both would be equal. (1) (b) Who knows nothing hits one patch in ten; 0.015 misses
# on purpose. (1) The patch may lie on the other thing that was named (the dog), which the words
# name as plainly, or on the other cat. (1) Count, for relations alone, how often it lies on the
# dog, on the other cat, on nothing; with two things alike one of the first two will be near 1. (1)
# (c) It is the mixture of kinds in the set: more relations, and the same model sinks. Report each
# kind with its interval and its number of problems, and the mean over kinds if one figure must be.
# (2)


# %% written task
# No one answer. (a) A question that a figure can decide, and a guess made before. (2) (b) Commands
# that can be typed again, all figures with intervals, the text-alone and picture-alone models among
# them. (3) (c) A difference is called one only where it is larger than that between seeds; "no
# effect" is a result and has full marks. (3) (d) Failures shown, not averages; a common cause that
# could be wrong. (2) (e) A next step with a stopping rule. (2)
