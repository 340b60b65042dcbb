# %% [markdown]
# # Assignment 2 · Alignment
#
# **You build the contrastive loss of ALBEF, with several captions of a picture in the batch and with keys from the past, and
# the sigmoid loss that competes with it.** Then you read a curve that looks broken and is not.
#
# - **Needs:** chapter 04. **Time:** four hours. **Points:** 29 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may run; those that grade you hold
#   more, on numbers of your own. `minalbef` is closed while they run: calling it earns nothing.
# - Letters: b pictures with b sentences, e the width of the shared space, k keys.
# %%
import csv
import math

import grading
import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef import plots
from minalbef.data import data_folder


# %% [markdown]
# ## 1. Similarity (4 points)
#
# The cosine of every picture with every sentence, divided by a temperature. Whoever makes a vector longer gains nothing.
# %% answer similarity
def similarity(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cosine of every picture with every sentence, over temperature: (b, e), (k, e) -> (b, k)."""
    ### BEGIN SOLUTION
    return F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / temperature
    ### END SOLUTION


# %% tests similarity 4
with grading.closed():
    g = grading.inputs()
    image, text = torch.randn(3, 5, generator=g), torch.randn(4, 5, generator=g)
    sim = similarity(image, text, 0.07)
    assert sim.shape == (3, 4), "a row for each picture, a column for each sentence"
    grading.equal(similarity(image, text, 0.14), sim / 2, "twice the temperature halves every similarity")
    grading.equal(similarity(9 * image, text, 0.07), sim, "a longer picture's vector must change nothing")
    grading.equal(similarity(image, 9 * text, 0.07), sim, "a longer sentence's vector must change nothing")
    grading.equal(similarity(image[:1], text[:2], 0.07), sim[:1, :2],
                  "a cell must not depend on the other pictures and sentences")
    picture, sentences = torch.tensor([[2.0, 1, 2]]), torch.tensor([[1.0, 2, 2], [-2, -1, -2]])
    grading.equal(similarity(picture, sentences, 0.5), torch.tensor([[16 / 9, -2]]),
                  "a cosine is the product over both lengths")
    ### BEGIN HIDDEN TESTS
    grading.same(similarity, lambda a, b, t: F.cosine_similarity(a[:, None], b[None], dim=-1) / t, image, text, 0.07,
                 says="every picture meets every sentence by its cosine, and both sides can learn from it")
    ### END HIDDEN TESTS

# %% instructor similarity
mistakes = {
    "pictures not normalised": ("F.normalize(image, dim=-1)", "image"),
    "sentences not normalised": ("F.normalize(text, dim=-1)", "text"),
    "normalised over the batch": ("F.normalize(image, dim=-1)", "F.normalize(image, dim=0)"),
    "lengths by absolute values": ("F.normalize(text, dim=-1)", "F.normalize(text, p=1, dim=-1)"),
    "normalised after the product": ("F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T",
                                     "F.normalize(image @ text.T, dim=-1)"),
    "times the temperature": ("/ temperature", "* temperature"),
    "no temperature": (" / temperature", ""),
    "root of the temperature": ("/ temperature", "/ temperature ** 0.5"),
    "already a softmax": ("/ temperature", "/ temperature).softmax(-1)", "return ", "return ("),
    "a distance": ("return ", "return -"),
    "pictures cannot learn": ("F.normalize(image, dim=-1)", "F.normalize(image, dim=-1).detach()"),
}


def similarity_by_lengths(image, text, temperature):
    return image @ text.T / image.norm(dim=1)[:, None] / text.norm(dim=1) / temperature


def similarity_by_torch(image, text, temperature):
    return F.cosine_similarity(image.unsqueeze(1), text.unsqueeze(0), dim=2).div(temperature)


def similarity_by_einsum(image, text, temperature):
    image, text = (x / (x ** 2).sum(-1, keepdim=True) ** 0.5 for x in (image, text))
    return torch.einsum("be,ke->bk", image, text) / temperature


def similarity_by_loops(image, text, temperature):
    rows = [torch.stack([a @ b / (a.norm() * b.norm()) for b in text]) for a in image]
    return torch.stack(rows) / temperature


# %% [markdown]
# ## 2. Several positives, one way (7 points)
#
# A picture may have two captions in one batch. Then both are true, and its target is shared evenly among them: one half each.
# The loss of a query is the cross-entropy between that target and the softmax over its keys; the loss of the batch is the mean
# over queries. Which keys are true, ids tell: key j belongs to query i where their ids are equal.
# %% answer itc_loss
def itc_loss(sim: Tensor, ids: Tensor, key_ids: Tensor) -> Tensor:
    """Each query should pick the keys of its own picture: sim (b, k), over temperature, ids (b,), key_ids (k,) -> scalar."""
    ### BEGIN SOLUTION
    positive = ids[:, None] == key_ids                           # (b, k)
    target = positive / positive.sum(-1, keepdim=True)
    return -(target * sim.log_softmax(-1)).sum(-1).mean()
    ### END SOLUTION


# %% tests itc_loss 7
with grading.closed():
    g = grading.inputs()
    ids, key_ids = torch.tensor([7, 7, 3, 5]), torch.tensor([7, 7, 3, 5, 3, 9])
    sim, order = 3 * torch.randn(4, 6, generator=g), torch.randperm(6, generator=g)
    loss = itc_loss(sim, ids, key_ids)
    assert loss.shape == (), "a loss is one number"
    assert not loss.isnan(), "every query has a true key, its own at least"
    assert loss > 0, "a cross-entropy is never negative"
    grading.equal(itc_loss(sim + torch.randn(4, 1, generator=g), ids, key_ids), loss,
                  "a softmax over keys does not notice that all of a query's similarities rise alike")
    grading.equal(itc_loss(sim.repeat(2, 1), ids.repeat(2), key_ids), loss,
                  "a mean over queries: every query twice changes nothing")
    grading.equal(itc_loss(sim[:, order], ids, key_ids[order]), loss,
                  "ids tell which keys are true, and the order of keys nothing")
    grading.equal(itc_loss(torch.zeros(4, 6), ids, key_ids), math.log(6),
                  "a target sums to one, so who knows nothing pays the logarithm of the number of keys")
    sim = torch.tensor([[6.0, 3, 1]]).log()                                  # so a softmax gives .6, .3 and .1
    grading.equal(itc_loss(sim, torch.tensor([7]), torch.tensor([7, 7, 3])), -(math.log(0.6) + math.log(0.3)) / 2,
                  "two true captions share the target, half and half")
    ### BEGIN HIDDEN TESTS
    sim = 3 * torch.randn(4, 6, generator=g)
    assert itc_loss(1000 * sim, ids, key_ids).isfinite(), "a confident mistake is dear, but no infinity: stay in logarithms"

    def formula(sim, ids, key_ids):
        return torch.stack([row.logsumexp(0) - row[key_ids == i].mean() for row, i in zip(sim, ids)]).mean()

    grading.same(itc_loss, formula, sim, ids, key_ids,
                 says="the mean over queries of the cross-entropy to evenly shared targets")
    ### END HIDDEN TESTS

# %% instructor itc_loss
mistakes = {
    "the diagonal alone": ("ids[:, None] == key_ids", "torch.eye(*sim.shape, dtype=torch.bool)"),
    "its own pair as its negative": ("ids[:, None] == key_ids",
                                     "(ids[:, None] == key_ids) & ~torch.eye(*sim.shape, dtype=torch.bool)"),
    "targets that do not sum to one": (" / positive.sum(-1, keepdim=True)", " * 1.0"),
    "shared by column": ("positive.sum(-1, keepdim=True)", "positive.sum(0)"),
    "softmax over queries": ("log_softmax(-1)", "log_softmax(0)"),
    "softmax twice": ("sim.log_softmax(-1)", "sim.softmax(-1).log_softmax(-1)"),
    "no logarithm": ("log_softmax", "softmax"),
    "logarithm of a softmax": ("log_softmax(-1)", "softmax(-1).log()"),
    "mean over keys": (".sum(-1).mean()", ".mean(-1).mean()"),
    "sum over queries": (".sum(-1).mean()", ".sum()"),
    "sign": ("return -", "return "),
    "any true key will do": ("-(target * sim.log_softmax(-1)).sum(-1).mean()",
                             "-(positive * sim.softmax(-1)).sum(-1).log().mean()"),
    "mean over pairs": ("-(target * sim.log_softmax(-1)).sum(-1).mean()", "-sim.log_softmax(-1)[positive].mean()"),
}


def itc_loss_by_torch(sim, ids, key_ids):
    positive = (ids.unsqueeze(1) == key_ids.unsqueeze(0)).float()
    return F.cross_entropy(sim, positive / positive.sum(1, keepdim=True))


def itc_loss_by_logsumexp(sim, ids, key_ids):
    positive = ids[:, None] == key_ids
    return (sim.logsumexp(-1) - (sim * positive).sum(-1) / positive.sum(-1)).mean()


def itc_loss_by_loop(sim, ids, key_ids):
    loss = 0
    for row, own in zip(sim, ids):
        true = torch.nonzero(key_ids == own)[:, 0]
        loss = loss + sum(F.cross_entropy(row, j) for j in true) / len(true)
    return loss / len(sim)


def itc_loss_by_divergence(sim, ids, key_ids):
    positive = ids[:, None] == key_ids
    count = positive.sum(-1, keepdim=True)
    return F.kl_div(sim.log_softmax(-1), positive / count, reduction="batchmean") + count.log().mean()


def itc_loss_cheat(sim, ids, key_ids):
    from minalbef.losses import itc_loss as theirs
    return theirs(sim, sim, 0.0, ids[:, None] == key_ids)


# %% [markdown]
# ## 3. Both ways, with keys from the past (6 points)
#
# Pictures ask among the batch's sentences and those in the queue; sentences ask among the batch's pictures and those in the
# queue. The loss is the mean of the two. A key from the past is compared with and never changed: no gradient may reach it. Its
# id counts: a second caption of a picture may wait in the queue. Use what you wrote above.
# %% answer both_ways
def both_ways(image: Tensor, text: Tensor, ids: Tensor, temperature: float,
              queue_image: Tensor, queue_text: Tensor, queue_ids: Tensor) -> Tensor:
    """ITC of a batch against itself and a queue: image, text (b, e), ids (b,), the queue's (k, e), (k, e), (k,) -> scalar."""
    ### BEGIN SOLUTION
    key_ids = torch.cat([ids, queue_ids])
    i2t = similarity(image, torch.cat([text, queue_text.detach()]), temperature)             # (b, b + k)
    t2i = similarity(text, torch.cat([image, queue_image.detach()]), temperature)
    return (itc_loss(i2t, ids, key_ids) + itc_loss(t2i, ids, key_ids)) / 2
    ### END SOLUTION


# %% tests both_ways 6
with grading.closed():
    g = grading.inputs()
    image, text, queue_image, queue_text = (torch.randn(n, 5, generator=g) for n in (3, 3, 4, 4))
    ids, queue_ids = torch.tensor([1, 2, 3]), torch.tensor([9, 2, 8, 3])
    given = image, text, ids, 0.3, queue_image, queue_text, queue_ids
    grading.equal(both_ways(text, image, ids, 0.3, queue_text, queue_image, queue_ids), both_ways(*given),
                  "both ways count alike: nothing changes where pictures and sentences change places")
    old = [x.clone().requires_grad_() for x in (queue_image, queue_text)]
    new = [x.clone().requires_grad_() for x in (image, text)]
    both_ways(*new, ids, 0.3, *old, queue_ids).backward()
    assert all(x.grad is None or not x.grad.any() for x in old), "no gradient may reach a key of the queue"
    assert all(x.grad is not None and x.grad.any() for x in new), "pictures and sentences of the batch both learn"
    east, north, none, one = torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]), torch.zeros(0, 2), torch.tensor([1])
    grading.equal(both_ways(east, east, one, 1.0, none, none, one[:0]), 0.0, "a pair alone, without a queue, confuses nothing")
    # the pair's cosine is 1; the queued picture's with the sentence is 0, the queued sentence's with the picture -1
    by_picture, by_sentence = math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1))
    grading.equal(both_ways(east, east, one, 1.0, north, -east, one + 1), (by_picture + by_sentence) / 2,
                  "pictures meet queued sentences, sentences meet queued pictures, and the loss is the mean of both ways")
    ### BEGIN HIDDEN TESTS
    def one_way(query, keys, past, ids, past_ids, t):
        keys, ids_of_keys = torch.cat([keys, past.detach()]), torch.cat([ids, past_ids])
        rows = []
        for q, i in zip(query, ids):
            s = F.cosine_similarity(q[None], keys) / t
            rows.append(s.logsumexp(0) - s[ids_of_keys == i].mean())
        return sum(rows) / len(rows)

    def formula(image, text, ids, t, queue_image, queue_text, queue_ids):
        return (one_way(image, text, queue_text, ids, queue_ids, t) + one_way(text, image, queue_image, ids, queue_ids, t)) / 2

    grading.equal(both_ways(*given[:6], queue_ids + 10), formula(*given[:6], queue_ids + 10),
                  "queued keys of other pictures are negatives, at the same temperature as the batch's")
    grading.equal(both_ways(*given), formula(*given), "a queued key with a query's id is one of its positives")
    grading.same(both_ways, formula, *given,
                 says="gradients reach pictures and sentences, as queries and as keys, and nothing else")
    ### END HIDDEN TESTS

# %% instructor both_ways
mistakes = {
    "sentences meet queued sentences": ("queue_image.detach()", "queue_text.detach()"),
    "pictures meet queued pictures": ("queue_text.detach()", "queue_image.detach()"),
    "queues change places": ("queue_text.detach()", "queue_image.detach()", "[image, queue_image.detach()]",
                             "[image, queue_text.detach()]"),
    "pictures meet pictures": ("[text, queue_text.detach()]", "[image, queue_text.detach()]"),
    "one way only": ("(itc_loss(i2t, ids, key_ids) + itc_loss(t2i, ids, key_ids)) / 2", "itc_loss(i2t, ids, key_ids)"),
    "sum of both ways": (" / 2", ""),
    "queued positives taught as negatives": ("torch.cat([ids, queue_ids])", "torch.cat([ids, -1 - queue_ids])"),
    "gradient into the queue": ("queue_text.detach()", "queue_text"),
    "no gradient to the batch's keys": ("torch.cat([text, ", "torch.cat([text.detach(), "),
    "one way without the queue": ("torch.cat([image, queue_image.detach()])", "image", "itc_loss(t2i, ids, key_ids)",
                                  "itc_loss(t2i, ids, ids)"),
    "one temperature forgotten": ("[image, queue_image.detach()]), temperature", "[image, queue_image.detach()]), 1.0"),
    "queue before the batch": ("[text, queue_text.detach()]", "[queue_text.detach(), text]"),
}


def both_ways_by_blocks(image, text, ids, temperature, queue_image, queue_text, queue_ids):
    all_ids = torch.cat((ids, queue_ids))
    in_batch = similarity(image, text, temperature)
    i2t = torch.cat((in_batch, similarity(image, queue_text.detach(), temperature)), dim=1)
    t2i = torch.cat((in_batch.T, similarity(text, queue_image.detach(), temperature)), dim=1)
    return 0.5 * itc_loss(i2t, ids, all_ids) + 0.5 * itc_loss(t2i, ids, all_ids)


def both_ways_by_stacking(image, text, ids, temperature, queue_image, queue_text, queue_ids):
    with torch.no_grad():
        queue_image, queue_text = queue_image.clone(), queue_text.clone()
    all_ids = torch.cat([queue_ids, ids])
    losses = [itc_loss(similarity(a, torch.cat([past, b]), temperature), ids, all_ids)
              for a, b, past in ((image, text, queue_text), (text, image, queue_image))]
    return torch.stack(losses).mean()


def both_ways_by_one_batch(image, text, ids, temperature, queue_image, queue_text, queue_ids):
    i2t = similarity(image, torch.cat([text, queue_text.detach()]), temperature)
    t2i = similarity(text, torch.cat([image, queue_image.detach()]), temperature)
    return itc_loss(torch.cat([i2t, t2i]), ids.repeat(2), torch.cat([ids, queue_ids]))


def both_ways_by_torch(image, text, ids, temperature, queue_image, queue_text, queue_ids):
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    past_image, past_text = (F.normalize(x, dim=1).detach() for x in (queue_image, queue_text))
    target = (ids.view(-1, 1) == torch.cat([ids, queue_ids]).view(1, -1)).float()
    target = target / target.sum(1, keepdim=True)
    return (F.cross_entropy(image @ torch.cat([text, past_text]).T / temperature, target)
            + F.cross_entropy(text @ torch.cat([image, past_image]).T / temperature, target)) / 2


def both_ways_cheat(image, text, ids, temperature, queue_image, queue_text, queue_ids):
    from minalbef.losses import itc_loss as theirs
    loss = 0
    for a, b, past in ((image, text, queue_text), (text, image, queue_image)):
        sim = F.normalize(a, dim=-1) @ F.normalize(torch.cat([b, past.detach()]), dim=-1).T / temperature
        loss = loss + theirs(sim, sim, 0.0, ids[:, None] == torch.cat([ids, queue_ids])) / 2
    return loss


# %% [markdown]
# ## 4. A variant: the sigmoid loss (6 points)
#
# SigLIP asks each cell of the table alone: do these two belong together? With $z = 1$ for a pair that does, $-1$ for one that
# does not, and a bias $\beta$ that is learnt, a cell costs $-\ln \sigma(z (s + \beta))$. Sum over keys, mean over queries. This
# loss does not mind how many keys are true. The package has no such function.
# %% answer sigmoid_loss
def sigmoid_loss(sim: Tensor, positive: Tensor, bias: float) -> Tensor:
    """Every pair for itself: sim (b, k), over temperature, positive (b, k) bool -> scalar: sum over keys, mean over queries."""
    ### BEGIN SOLUTION
    sign = 2.0 * positive - 1
    return -F.logsigmoid(sign * (sim + bias)).sum(-1).mean()
    ### END SOLUTION


# %% tests sigmoid_loss 6
with grading.closed():
    g = grading.inputs()
    sim = 3 * torch.randn(4, 6, generator=g)
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor([7, 7, 3, 5, 3, 9])
    loss = sigmoid_loss(sim, positive, -1.5)
    assert loss > 0, "every pair pays something, and none is paid"
    grading.equal(sigmoid_loss(sim.repeat(2, 1), positive.repeat(2, 1), -1.5), loss,
                  "a mean over queries: every query twice changes nothing")
    grading.equal(sigmoid_loss(sim.repeat(1, 2), positive.repeat(1, 2), -1.5), 2 * loss,
                  "a sum over keys, each pair for itself: every key twice costs twice")
    grading.equal(sigmoid_loss(sim + 1.5, positive, -1.5), sigmoid_loss(sim, positive, 0.0),
                  "the bias moves every similarity, before the sign is put to it")
    grading.equal(sigmoid_loss(-sim, ~positive, 1.5), loss, "who calls true false and turns every sign has changed nothing")
    sim, positive = torch.tensor([[math.log(3), -math.log(4)]]), torch.tensor([[True, False]])
    grading.equal(sigmoid_loss(sim, positive, 0.0), math.log(4 / 3) + math.log(5 / 4),
                  "the sigmoids are 3/4, of a true pair, and 1/5, of a false one: right by 3/4 and by 4/5")
    ### BEGIN HIDDEN TESTS
    sim, positive = 3 * torch.randn(4, 6, generator=g), torch.rand(4, 6, generator=g) < 0.5
    assert sigmoid_loss(torch.tensor([[-300.0]]), torch.tensor([[True]]), 0.0).isfinite(), \
        "a confident mistake is dear, but no infinity: stay in logarithms"

    def formula(sim, positive, bias):
        return sum(F.softplus(-(s + bias)) if p else F.softplus(s + bias)
                   for row, true in zip(sim, positive) for s, p in zip(row, true)) / len(sim)

    grading.same(sigmoid_loss, formula, sim, positive, -1.5,
                 says="each pair pays for itself, true ones for a low value and false ones for a high one")
    ### END HIDDEN TESTS

# %% instructor sigmoid_loss
mistakes = {
    "false pairs are 0, not -1": ("2.0 * positive - 1", "1.0 * positive"),
    "signs reversed": ("2.0 * positive - 1", "1 - 2.0 * positive"),
    "no bias": (" + bias", ""),
    "bias subtracted": ("sim + bias", "sim - bias"),
    "bias outside the sign": ("sign * (sim + bias)", "sign * sim + bias"),
    "mean over keys": (".sum(-1).mean()", ".mean()"),
    "sum over queries": (".sum(-1).mean()", ".sum()"),
    "sum over queries, mean over keys": (".sum(-1).mean()", ".sum(0).mean()"),
    "softmax": ("F.logsigmoid(sign * (sim + bias))", "F.log_softmax(sign * (sim + bias), -1)"),
    "true pairs alone": ("F.logsigmoid(sign * (sim + bias))", "(positive * F.logsigmoid(sign * (sim + bias)))"),
    "the diagonal alone is true": ("2.0 * positive - 1", "2.0 * torch.eye(*sim.shape) - 1"),
    "logarithm of a sigmoid": ("F.logsigmoid(sign * (sim + bias))", "torch.sigmoid(sign * (sim + bias)).log()"),
    "minus forgotten": ("return -", "return "),
}


def sigmoid_loss_by_torch(sim, positive, bias):
    return F.binary_cross_entropy_with_logits(sim + bias, positive.float(), reduction="sum") / sim.shape[0]


def sigmoid_loss_by_softplus(sim, positive, bias):
    return F.softplus(torch.where(positive, -1, 1) * (sim + bias)).sum(1).mean(0)


def sigmoid_loss_by_kind(sim, positive, bias):
    logits = sim + bias
    return -(F.logsigmoid(logits[positive]).sum() + F.logsigmoid(-logits[~positive]).sum()) / len(sim)


def sigmoid_loss_by_logaddexp(sim, positive, bias):
    logits = sim + bias
    return (torch.logaddexp(logits, torch.zeros_like(logits)) - logits * positive).sum() / len(sim)


# %% [markdown]
# ## 5. A ring of keys (6 points)
#
# The queue holds the last `size` keys with the ids of their pictures. New ones overwrite the oldest, the end wraps around,
# slots never filled do not count, and batches of any length fit.
# %% answer Ring
class Ring:
    """The last `size` keys, with ids."""

    def __init__(self, size: int, width: int):
        self.keys, self.ids = torch.zeros(size, width), torch.zeros(size, dtype=torch.long)
        self.pointer = self.filled = 0                           # the slot to write next; how many slots hold a key

    def push(self, keys: Tensor, ids: Tensor):
        """Overwrite the oldest: (b, e), (b,). Of a batch larger than the ring the last rows stay. Copies, without gradient."""
        ### BEGIN SOLUTION
        size = len(self.ids)
        keys, ids = keys[-size:].detach(), ids[-size:]
        slots = (self.pointer + torch.arange(len(ids))) % size
        self.keys[slots], self.ids[slots] = keys, ids
        self.pointer = (self.pointer + len(ids)) % size
        self.filled = min(size, self.filled + len(ids))
        ### END SOLUTION

    def features(self) -> tuple[Tensor, Tensor]:
        """What was pushed and is not yet overwritten, in any order: keys (k, e), ids (k,)."""
        ### BEGIN SOLUTION
        return self.keys[:self.filled], self.ids[:self.filled]
        ### END SOLUTION


# %% tests Ring 6
def push_all(ring, batches):
    """Push ids in batches, each with a key made of its id; -> the ids that the ring holds, sorted."""
    for batch in batches:
        ids = torch.tensor(batch)
        ring.push(torch.stack([ids, -ids], 1).float(), ids)
    return sorted(ring.features()[1].tolist())


with grading.closed():
    ring = Ring(4, 2)
    assert push_all(ring, []) == [], "an empty ring holds nothing, not zeros"
    assert push_all(ring, [[1, 2, 3]]) == [1, 2, 3], "what was pushed is there, and slots never filled do not count"
    assert push_all(ring, [[4, 5]]) == [2, 3, 4, 5], "a full ring overwrites its oldest key, and the end wraps around"
    ### BEGIN HIDDEN TESTS
    g = grading.inputs()
    ring, size, given = Ring(5, 2), 5, []
    for length in (2, 2, *torch.randint(1, 5, (12,), generator=g).tolist()):
        batch = list(range(len(given) + 1, len(given) + 1 + length))
        given += batch
        assert push_all(ring, [batch]) == given[-size:], "after every batch the ring holds exactly the last keys pushed"
        keys, ids = ring.features()
        grading.equal(keys, torch.stack([ids, -ids], 1).float(), "every key lies beside its own id")
    assert push_all(Ring(3, 2), [[1, 2, 3, 4, 5]]) == [3, 4, 5], "of a batch larger than the ring the last rows stay"
    assert push_all(Ring(3, 2), [[1, 2], [3, 4, 5, 6], [7]]) == [5, 6, 7], "after a large batch the oldest is next in line, too"
    ring, key = Ring(3, 2), torch.ones(1, 2, requires_grad=True)
    ring.push(key, torch.tensor([1]))
    assert not ring.features()[0].requires_grad, "a key of the past carries no gradient"
    with torch.no_grad():
        key += 1
    grading.equal(ring.features()[0], torch.ones(1, 2),
                  "the ring keeps copies: what becomes of the batch later does not reach it")
    ### END HIDDEN TESTS

# %% instructor Ring
mistakes = {
    "pointer one slot short": ("self.pointer + len(ids)) % size", "self.pointer + len(ids) - 1) % size"),
    "pointer one slot too far": ("self.pointer + len(ids)) % size", "self.pointer + len(ids) + 1) % size"),
    "pointer stays": ("self.pointer = (self.pointer + len(ids)) % size", "pass"),
    "end does not wrap": ("(self.pointer + torch.arange(len(ids))) % size",
                          "(self.pointer + torch.arange(len(ids))).clamp(max=size - 1)"),
    "starts one slot late": ("(self.pointer + torch.arange(len(ids))) % size",
                             "(self.pointer + 1 + torch.arange(len(ids))) % size"),
    "backwards": ("(self.pointer + torch.arange(len(ids))) % size", "(self.pointer - torch.arange(len(ids))) % size"),
    "empty slots count": ("self.keys[:self.filled], self.ids[:self.filled]", "self.keys, self.ids"),
    "one key too few": ("min(size, ", "min(size - 1, "),
    "counts batches": ("self.filled + len(ids))", "self.filled + 1)"),
    "keeps the gradient": (".detach()", ""),
    "first rows of a large batch": ("keys[-size:].detach(), ids[-size:]", "keys[:size].detach(), ids[:size]"),
    "ids left behind": ("self.keys[slots], self.ids[slots] = keys, ids",
                        "self.keys[slots], self.ids[slots] = keys.flip(0), ids"),
    "mixed with the old": ("= keys, ids", "= (self.keys[slots] + keys) / 2, ids"),
}


class Ring_deque:
    def __init__(self, size, width):
        from collections import deque
        self.width, self.held = width, deque(maxlen=size)

    def push(self, keys, ids):
        self.held.extend((key.detach().clone(), i) for key, i in zip(keys, ids))

    def features(self):
        if not self.held:
            return torch.zeros(0, self.width), torch.zeros(0, dtype=torch.long)
        return torch.stack([key for key, _ in self.held]), torch.stack([i for _, i in self.held])


class Ring_newest_first(Ring):
    def push(self, keys, ids):
        size = len(self.ids)
        self.filled = min(size, self.filled + len(ids))
        self.keys = torch.cat([keys.detach().flip(0), self.keys])[:size]
        self.ids = torch.cat([ids.flip(0), self.ids])[:size]

    def features(self):
        return self.keys[:self.filled], self.ids[:self.filled]


class Ring_one_by_one(Ring):
    def push(self, keys, ids):
        with torch.no_grad():
            for key, i in zip(keys, ids):
                self.keys[self.pointer], self.ids[self.pointer] = key, i
                self.pointer += 1
                self.filled = max(self.filled, self.pointer)
                if self.pointer == len(self.ids):
                    self.pointer = 0

    def features(self):
        return self.keys[:self.filled].clone(), self.ids[:self.filled].clone()


class Ring_history:
    def __init__(self, size, width):
        self.size, self.keys, self.ids = size, torch.zeros(0, width), torch.zeros(0, dtype=torch.long)

    def push(self, keys, ids):
        self.keys, self.ids = torch.cat([self.keys, keys.detach()]), torch.cat([self.ids, ids])

    def features(self):
        return self.keys[-self.size:], self.ids[-self.size:]


class Ring_cheat:
    def __init__(self, size, width):
        from minalbef import FeatureQueue
        self.theirs = FeatureQueue(size, width)

    def push(self, keys, ids):
        self.theirs.push(keys, keys, ids)

    def features(self):
        return self.theirs.features()[1:]


# %% [markdown]
# ## 6. Read a curve (6 points, by a person)
#
# Below is the ITC loss of the model that ships with minalbef, over its training. Its batch is 64 pairs; its queue holds 1,024
# keys a side and is switched on after a fifth of the run.
# %%
with open(data_folder() / "tiny" / "metrics.csv") as file:
    rows = list(csv.DictReader(file))
plot, axes = plots.grid("The ITC loss of the shipped model: it falls from 4.5 to 1.2, leaps to 2.9 at 37 thousand samples, and "
                        "falls again to 1.7.", 1, 1, 6.5, 2.9)
axes[0, 0].plot([float(row["samples"]) / 1000 for row in rows], [float(row["itc"]) for row in rows], color=plots.BLUE, lw=1)
axes[0, 0].set(xlabel="thousand samples", ylabel="ITC loss", ylim=(0, 5))
plot
# %% [markdown]
# (a) The loss more than doubles at 37 thousand samples, and nothing is broken. What happened? (b) By how much would the loss of
# a model that knows nothing rise there? (c) It rises by less. What does that say about most keys of the queue? (d) The run ends
# at a loss higher than it had before the leap. Is the model worse? Name one figure that would decide.
# %% written curve 6
# (a) The queue is switched on: each query must now find its own among 1,088 keys, not among 64. (1) (b) From ln 64 = 4.16 to ln
# 1088 = 6.99, by ln 17 = 2.83. (2) (c) From 1.2 to 2.9, by 1.7: most queued keys are easy, and get little of the softmax; the
# rise is ln(1 + mass of the queue / mass of the batch), so the queue weighs about 4.5 times the batch, not 16 times. (2) (d)
# Not by this curve: the task became harder. Recall at 1 among a fixed number of unseen scenes decides. (1)
# %% [markdown]
# ## 7. Two losses (6 points, by a person)
#
# (a) A picture has two captions in a batch of four. What is the lowest loss of its row under `itc_loss`, and under
# `sigmoid_loss`? (b) Add the same number to all similarities of one row. Which loss notices? Say why that makes the sigmoid
# loss need its bias at the start of training, when almost all pairs are false. (c) Which of the two can be computed on many
# machines without gathering a whole row, and why?
# %% written losses 6
# (a) ln 2, since the best prediction is one half each, and the target has that entropy; 0, since each cell can be right for
# itself. (2)
# (b) The softmax does not; the sigmoid does. At similarity 0 each false pair would cost ln 2, and b - 1 of b push down on
# everything; a bias such as -10 begins where nearly all are false, and learning is about the few that are true. (2) (c) The
# sigmoid loss: a cell needs only its own similarity; a softmax needs its row's normaliser. (2)
