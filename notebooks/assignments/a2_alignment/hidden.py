"""Assignment 2: the hidden tests, which follow those that students see in student.py."""


# %% tests similarity
with grading.closed():
    def formula(a, b, t):
        return F.cosine_similarity(a[:, None], b[None], dim=-1) / t

    properties.careful(similarity, image, text, 0.07)
    grading.same(similarity, formula, image, text, 0.07,
                 says="every picture meets every sentence by its cosine, and both "
                      "sides can learn from it")
    grading.same(similarity, formula, torch.randn(5, 3, generator=g),
                 torch.randn(2, 3, generator=g), 0.5,
                 says="any number of pictures and of sentences fits, and any width")


# %% tests itc_loss
with grading.closed():
    sim = 3 * torch.randn(4, 6, generator=g)
    properties.careful(itc_loss, sim, ids, key_ids)
    assert itc_loss(1000 * sim, ids, key_ids).isfinite(), (
        "the loss of a confident mistake is large but finite: stay in logarithms")

    def formula(sim, ids, key_ids):
        return (torch.stack([row.logsumexp(0) - row[key_ids == i].mean()
                             for row, i in zip(sim, ids)]).mean())

    grading.same(itc_loss, formula, sim, ids, key_ids,
                 says="the mean over queries of the cross-entropy to "
                      "evenly shared targets")
    grading.same(itc_loss, formula, 300 * sim, ids, key_ids,
                 says="a confident mistake has its whole price and its whole "
                      "gradient: nothing is cut, nothing added")
    ids = torch.tensor(([0, -3, 2 ** 24, 2 ** 24 + 1, 7]))
    key_ids = torch.tensor(([0, -3, 2 ** 24, 2 ** 24 + 1, 7, 0, 2 ** 24]))
    grading.same(itc_loss, formula, torch.randn(5, 7, generator=g), ids, key_ids,
                 says="an id is a name: nought, negative and large ones are like all "
                      "others, in a batch of any size")


# %% tests both_ways
with grading.closed():
    def one_way(query, keys, past, ids, past_ids, t, loss):
        keys = torch.cat([keys, past.detach()])
        ids_of_keys = torch.cat([ids, past_ids])
        return loss(torch.stack([F.cosine_similarity(q[None], keys) / t
                                 for q in query]), ids, ids_of_keys)

    def formula(image, text, ids, t, queue_image, queue_text, queue_ids, loss):
        return (one_way(image, text, queue_text, ids, queue_ids, t, loss)
                + one_way(text, image, queue_image, ids, queue_ids, t, loss)) / 2

    def by_yours(image, text, ids, t, queue_image, queue_text, queue_ids, loss):
        all_ids = torch.cat([ids, queue_ids])
        return (loss(similarity(image, torch.cat([text, queue_text.detach()]), t), ids,
                     all_ids)
                + loss(similarity(text, torch.cat([image, queue_image.detach()]), t),
                       ids, all_ids)) / 2

    def held(says, *args):
        """By our formula, or by your similarity: what is wrong there costs nothing here."""
        try:
            grading.same(both_ways, formula, *args, any_loss, says=says)
        except AssertionError:
            grading.same(both_ways, by_yours, *args, any_loss, says=says)

    properties.careful(lambda *args: both_ways(*args, any_loss), *new, ids, 0.3, *old,
                       queue_ids)
    held("queued keys of other pictures are negatives, at the same temperature as the "
         "batch's, and gradients reach pictures and sentences, as queries and as "
         "keys, and nothing else", *args[:6], queue_ids + 10)
    held("a queued key with a query's id is one of its positives", *args[:7])
    image, text, queue_image, queue_text = (torch.randn(n, 3, generator=g)
                                            for n in (5, 5, 6, 6))
    ids = torch.tensor([4, 0, 6, 1, 0])
    queue_ids = torch.tensor([6, 0, 9, 3, -2, 4])
    held("a batch and a queue of any length fit, and any id is an id, nought as well",
         image, text, ids, 0.5, queue_image, queue_text, queue_ids)


# %% tests sigmoid_loss
with grading.closed():
    sim = 3 * torch.randn(4, 6, generator=g)
    positive = torch.rand(4, 6, generator=g) < 0.5
    properties.careful(sigmoid_loss, sim, positive, -1.5)
    assert sigmoid_loss(torch.tensor([[-300.0]]), torch.tensor([[True]]),
                        0.0).isfinite(), (
        "the loss of a confident mistake is large but finite: stay in logarithms")

    def formula(sim, positive, bias):
        return (sum(F.softplus(-(s + bias)) if p else F.softplus(s + bias)
                    for row, true in zip(sim, positive) for s, p in zip(row, true))
                / len(sim))

    grading.same(sigmoid_loss, formula, sim, positive, -1.5,
                 says="each pair pays for itself, true ones for a low value and false "
                      "ones for a high one")
    grading.same(sigmoid_loss, formula, 100 * sim, positive, -1.5,
                 says="a confident mistake has its whole price and its whole "
                      "gradient: nothing is cut, nothing added")
    grading.same(sigmoid_loss, formula, torch.randn(3, 5, generator=g),
                 torch.rand(3, 5, generator=g) < 0.5, torch.tensor(-0.5),
                 says="the bias learns, too, with any number of queries")


# %% tests Ring
with grading.closed():
    g = grading.inputs()
    ring = Ring(5, 2)
    size = 5
    args = []
    for length in (2, 2, *torch.randint(1, 5, (12,), generator=g).tolist()):
        batch = list(range(len(args) + 1, len(args) + 1 + length))
        args += batch
        assert push_all(ring, [batch]) == args[-size:], (
            "after every batch the ring holds exactly the last keys pushed")
        keys, ids = ring.features()
        grading.equal(keys, torch.stack([ids, -ids], 1).float(),
                      "every key lies beside its own id")
    assert push_all(Ring(3, 2), [[1, 2, 3, 4, 5]]) == [3, 4, 5], (
        "of a batch larger than the ring the last rows stay")
    assert push_all(Ring(3, 2), [[1, 2], [3, 4, 5, 6], [7]]) == [5, 6, 7], (
        "after a large batch the oldest is next in line, too")
    # a part of the ring, and the whole of it
    for length in (1, 3):
        ring = Ring(3, 2)
        key = torch.ones(length, 2, requires_grad=True)
        ids = torch.ones(length, dtype=torch.long)
        properties.careful(ring.push, key, ids)
        properties.careful(ring.push, torch.zeros(0, 2), ids[:0])
        assert not ring.features()[0].requires_grad, (
            "a key of the past carries no gradient")
        with torch.no_grad():
            key += 1
            ids += 1
        keys, all_ids = ring.features()
        grading.equal(keys, torch.ones(length, 2),
                      "the ring keeps copies: what becomes of the batch later does "
                      "not reach its keys")
        assert all_ids.tolist() == length * [1], (
            "the ring keeps copies of the ids as well")
