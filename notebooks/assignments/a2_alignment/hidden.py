"""Assignment 2: the hidden tests, which follow those that students see in student.py."""


# %% tests similarity
with grading.closed():
    grading.same(similarity, lambda a, b, t: F.cosine_similarity(a[:, None], b[None], dim=-1) / t, image, text, 0.07,
                 says="every picture meets every sentence by its cosine, and both sides can learn from it")


# %% tests itc_loss
with grading.closed():
    sim = 3 * torch.randn(4, 6, generator=g)
    assert itc_loss(1000 * sim, ids, key_ids).isfinite(), (
        "a confident mistake is dear, but no infinity: stay in logarithms")

    def formula(sim, ids, key_ids):
        return torch.stack([row.logsumexp(0) - row[key_ids == i].mean() for row, i in zip(sim, ids)]).mean()

    grading.same(itc_loss, formula, sim, ids, key_ids,
                 says="the mean over queries of the cross-entropy to evenly shared targets")


# %% tests both_ways
with grading.closed():
    def one_way(query, keys, past, ids, past_ids, t):
        keys, ids_of_keys = torch.cat([keys, past.detach()]), torch.cat([ids, past_ids])
        rows = []
        for q, i in zip(query, ids):
            s = F.cosine_similarity(q[None], keys) / t
            rows.append(s.logsumexp(0) - s[ids_of_keys == i].mean())
        return sum(rows) / len(rows)

    def formula(image, text, ids, t, queue_image, queue_text, queue_ids):
        return (one_way(image, text, queue_text, ids, queue_ids, t)
                + one_way(text, image, queue_image, ids, queue_ids, t)) / 2

    grading.equal(both_ways(*given[:6], queue_ids + 10), formula(*given[:6], queue_ids + 10),
                  "queued keys of other pictures are negatives, at the same temperature as the batch's")
    grading.equal(both_ways(*given), formula(*given), "a queued key with a query's id is one of its positives")
    grading.same(both_ways, formula, *given,
                 says="gradients reach pictures and sentences, as queries and as keys, and nothing else")


# %% tests sigmoid_loss
with grading.closed():
    sim, positive = 3 * torch.randn(4, 6, generator=g), torch.rand(4, 6, generator=g) < 0.5
    assert sigmoid_loss(torch.tensor([[-300.0]]), torch.tensor([[True]]), 0.0).isfinite(), \
        "a confident mistake is dear, but no infinity: stay in logarithms"

    def formula(sim, positive, bias):
        return sum(F.softplus(-(s + bias)) if p else F.softplus(s + bias)
                   for row, true in zip(sim, positive) for s, p in zip(row, true)) / len(sim)

    grading.same(sigmoid_loss, formula, sim, positive, -1.5,
                 says="each pair pays for itself, true ones for a low value and false ones for a high one")


# %% tests Ring
with grading.closed():
    g = grading.inputs()
    ring, size, given = Ring(5, 2), 5, []
    for length in (2, 2, *torch.randint(1, 5, (12,), generator=g).tolist()):
        batch = list(range(len(given) + 1, len(given) + 1 + length))
        given += batch
        assert push_all(ring, [batch]) == given[-size:], "after every batch the ring holds exactly the last keys pushed"
        keys, ids = ring.features()
        grading.equal(keys, torch.stack([ids, -ids], 1).float(), "every key lies beside its own id")
    assert push_all(Ring(3, 2), [[1, 2, 3, 4, 5]]) == [3, 4, 5], "of a batch larger than the ring the last rows stay"
    assert push_all(Ring(3, 2), [[1, 2], [3, 4, 5, 6], [7]]) == [5, 6, 7], (
        "after a large batch the oldest is next in line, too")
    ring, key = Ring(3, 2), torch.ones(1, 2, requires_grad=True)
    ring.push(key, torch.tensor([1]))
    assert not ring.features()[0].requires_grad, "a key of the past carries no gradient"
    with torch.no_grad():
        key += 1
    grading.equal(ring.features()[0], torch.ones(1, 2),
                  "the ring keeps copies: what becomes of the batch later does not reach it")
