"""Assignment 6: the hidden tests, which follow those that students see in student.py."""


# %% tests vqa_accuracy
with grading.closed():
    properties.careful(vqa_accuracy, "cat", people(4))
    for number in (2, 5, 10, 12):
        for agree in range(1, min(number, 6)):
            answers = people(agree, number)
            want = (agree / number * min(1, (agree - 1) / 3)
                    + (1 - agree / number) * min(1, agree / 3))
            grading.equal(vqa_accuracy("cat", answers), want,
                          "the mean over all who may be left out, however "
                          "many there are")
            grading.equal(vqa_accuracy("cat", answers[::-1]), want,
                          "the order of the people means nothing")


# %% tests consistency
with grading.closed():
    properties.careful(consistency, one_wrong, ids)
    order = torch.randperm(6, generator=g)
    grading.equal(consistency(one_wrong[order], ids[order]), 2 / 3,
                  "pairs of a statement need not stand together")
    for _ in range(4):
        ids = torch.randint(0, 6, (20,), generator=g) * 1000 - 2000
        right = torch.rand(20, generator=g) < 0.7
        want = sum(bool(right[ids == group_id].all())
                   for group_id in set(ids.tolist())) / len(set(ids.tolist()))
        grading.equal(consistency(right, ids), want,
                      "the share of statements that have no wrong pair")


# %% tests iou
with grading.closed():
    def formula(a, b):
        rows = []
        for x, y, w, h in a:
            row = []
            for u, v, m, n in b:
                wide = torch.minimum(x + w, u + m) - torch.maximum(x, u)
                high = torch.minimum(y + h, v + n)
                high = high - torch.maximum(y, v)
                both = wide * high if wide > 0 and high > 0 else 0 * wide
                row.append(both / (w * h + m * n - both))
            rows.append(torch.stack(row))
        return torch.stack(rows)

    properties.careful(iou, a, b)
    peaks = torch.tensor([[5.0, 5, 1, 1], [5, 0, 0.5, 3], [0, 5, 3, 0.5]])
    grading.equal(iou(a, peaks), torch.zeros(3, 3),
                  "boxes apart in one direction or in both share nothing")
    a, b = (torch.cat([3 * torch.rand(n, 2, generator=g),
                       0.5 + 3 * torch.rand(n, 2, generator=g)], 1) for n in (6, 5))
    grading.equal(iou(a, b), formula(a, b),
                  "the shared area over the joint area, width and height each "
                  "on its own axis")


# %% tests box_scores
with grading.closed():
    def formula(heat, boxes, power):
        # each axis: how far along the patches one has come at a point
        table = F.pad(heat, (1, 0, 1, 0)).cumsum(0).cumsum(1)
        def upto(y, x):
            i = min(int(y), len(heat) - 1)
            j = min(int(x), len(heat) - 1)
            v = y - i
            u = x - j
            above, below = ((1 - u) * row[j] + u * row[j + 1] for row in table[i:i + 2])
            return (1 - v) * above + v * below
        scores = []
        for x, y, w, h in boxes.tolist():
            x0, y0, x1, y1 = (len(heat) * value for value in (x, y, x + w, y + h))
            scores.append((upto(y1, x1) - upto(y0, x1) - upto(y1, x0) + upto(y0, x0))
                          / (w * h) ** power)
        return torch.stack(scores)

    properties.careful(box_scores, heat, two, 0.5)
    for size in (3, 6):
        heat = torch.randn(size, size, generator=g)
        start = 0.7 * torch.rand(6, 2, generator=g)
        boxes = torch.cat(
            [start, (1 - start) * (0.05 + 0.9 * torch.rand(6, 2, generator=g))], 1)
        for power in (0.0, 0.3, 1.0):
            grading.equal(box_scores(heat, boxes, power), formula(heat, boxes, power),
                          "each patch counts by the share of it that lies in the box, "
                          "on both axes", tol=1e-3)
        grading.equal(box_scores(3 * heat, boxes, 0.5),
                      3 * box_scores(heat, boxes, 0.5),
                      "a map three times as hot scores three times as much")


# %% tests recall_at
with grading.closed():
    def formula(sim, owner, k):
        ranks = [[sum(rival > value for rival in line) for value in line]
                 for line in sim.tolist()]
        hits = [min(row[j]
                    for j, image_index in enumerate(owner.tolist()) if image_index == i)
                < k for i, row in enumerate(ranks)]
        columns = [sum(v > sim[o, j] for v in sim[:, j]) < k
                   for j, o in enumerate(owner.tolist())]
        return torch.tensor([sum(hits) / len(hits), float(sum(columns)) / len(columns)])

    properties.careful(recall_at, sim, owner, 2)
    for k in (1, 2, 3, 5):
        owner = torch.cat([torch.arange(6), torch.randint(0, 6, (9,), generator=g)])[
            torch.randperm(15, generator=g)]
        sim = torch.randn(6, 15, generator=g) + 0.8 * (
            torch.arange(6)[:, None] == owner)
        got = torch.tensor(recall_at(sim, owner, k))
        want = formula(sim, owner, k)
        grading.equal(got[0], want[0],
                      "a picture has found if any of its captions is among its k best "
                      "of all captions")
        grading.equal(got[1], want[1],
                      "a caption has found if its picture is among its k best "
                      "of all pictures")


# %% tests blind_classifier
with grading.closed():
    copies = [*texts], [*labels]
    blind_classifier(texts, labels)
    assert (texts, labels) == copies, "what the caller gave stays as it was"
    texts, labels = draw_cues(g, 300, 0.45)
    test_texts, truth = draw_cues(g, 300, 0.45)
    assert (share_right(judged_by(blind_classifier(texts, labels), test_texts), truth)
            > 0.62), (
        "weak cues add up: no single word decides, and all of them together do")
    # strong words against a word met a single time, under another label
    texts = ["red big old"] * 22 + ["blue small new"] * 20 + ["green fat odd"] * 22 + [
        "blue small new rare"]
    labels = [0] * 20 + [1] * 22 + [2] * 20 + [1] * 3
    order = torch.randperm(len(texts), generator=g).tolist()
    classifier = blind_classifier([texts[i] for i in order], [labels[i] for i in order])
    verdicts = judged_by(classifier, ["red big old rare", "green fat odd rare"])
    assert verdicts == [0, 2], (
        "a word met a single time does not outweigh three that were met often")
    common = blind_classifier(["w v u x"] * 40 + ["w v u y"] * 10, [0] * 40 + [1] * 10)
    assert judged_by(common, ["w v u y", "w v u x"]) == [1, 0], \
        "words that all labels share tell nothing, however uneven the labels"
    names = {0: "x", 1: "y", 2: "z"}
    for most in range(3):
        sizes = [4, 4, 4]
        sizes[most] = 9
        uneven = blind_classifier(
            [f"{names[label]} w" for label in range(3) for _ in range(sizes[label])],
            [label for label in range(3) for _ in range(sizes[label])])
        assert judged_by(uneven, ["nothing known"]) == [most], \
            "where no word is known the commonest label is said, whichever it is"
        assert judged_by(uneven, ["x", "y", "z"]) == [0, 1, 2], \
            "a word that never had another label decides against the commonest"
    assert judged_by(classifier, test_texts[:9]) == judged_by(
        classifier, test_texts[:9]), ("the same text has always the same label")


# %% tests leaky_set
with grading.closed():
    def right_by_words(train_texts, questions):
        """A judge of ours: counts words, with his eyes shut."""
        bags = [(set(text.split()), label) for _, text, label in train_texts]
        sizes = Counter(label for _, label in bags)
        met = Counter((word, label) for bag, label in bags for word in bag)
        right = 0
        for _, text, label in questions:
            odds = [math.log(sizes[class_id] + 1)
                    + sum(math.log((met[word, class_id] + 1) / (sizes[class_id] + 2))
                          for word in set(text.split())) for class_id in range(3)]
            right += odds.index(max(odds)) == label
        return right / len(questions)

    properties.careful(leaky_set, draw_groups(g, "train", 9))
    assert right_by_words(choice, choice) > 0.7, (
        "words tell the label of the statements that were learnt from")
    assert right_by_words(choice, fresh) > 0.7, (
        "words tell the label of statements that were never seen")
