# %% [markdown]
# # Assignment 2 · Alignment
#
# **You build the contrastive loss of ALBEF, with several captions of a picture in the batch and
# with keys from the past, and the sigmoid loss that competes with it.** Then you read a curve that
# looks broken and is not.
#
# - **Needs:** chapter 04. **Time:** four hours. **Points:** 29 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may
#   run; those that grade you hold more, on numbers of your own. `minalbef` is closed while they
#   run: calling it earns nothing.
# - Letters: b pictures with b sentences, e the width of the shared space, k keys.
# %%
import csv
import math

import grading
import properties
import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.data import data_folder
from minalbef.viz import plots


# %% [markdown]
# ## 1. Similarity (4 points)
#
# The cosine of every picture with every sentence, divided by a temperature. A vector's length must
# not matter.
# %% answer similarity
def similarity(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cosine of every picture with every sentence, over temperature: (b, e), (k, e) -> (b, k)."""
    raise NotImplementedError()


# %% tests similarity 4
with grading.closed(), properties.in_words():
    g = grading.inputs()
    image = torch.randn(3, 5, generator=g)
    text = torch.randn(4, 5, generator=g)
    sim = similarity(image, text, 0.07)
    assert sim.shape == (3, 4), "a row for each picture, a column for each sentence"
    grading.equal(similarity(image, text, 0.14), sim / 2,
                  "twice the temperature halves every similarity")
    grading.equal(similarity(9 * image, text, 0.07), sim,
                  "a longer picture's vector must change nothing")
    grading.equal(similarity(image, 9 * text, 0.07), sim,
                  "a longer sentence's vector must change nothing")
    grading.equal(similarity(image[:1], text[:2], 0.07), sim[:1, :2],
                  "a cell must not depend on the other pictures and sentences")
    picture = torch.tensor([[2.0, 1, 2]])
    sentences = torch.tensor([[1.0, 2, 2], [-2, -1, -2]])
    grading.equal(similarity(picture, sentences, 0.5), torch.tensor([[16 / 9, -2]]),
                  "a cosine is the product over both lengths")

# %% [markdown]
# ## 2. Several positives, one way (7 points)
#
# A picture may have two captions in one batch. Then both are true, and its target is shared evenly
# among them: one half each. The loss of a query is the cross-entropy between that target and the
# softmax over its keys; the loss of the batch is the mean over queries. Which keys are true, ids
# tell: key j belongs to query i where their ids are equal.
# %% answer itc_loss
def itc_loss(sim: Tensor, ids: Tensor, key_ids: Tensor) -> Tensor:
    """Each query should pick its own picture's keys: sim (b, k), over temperature, ids (b,),
    key_ids (k,) -> scalar."""
    raise NotImplementedError()


# %% tests itc_loss 7
with grading.closed(), properties.in_words():
    g = grading.inputs()
    ids = torch.tensor([7, 7, 3, 5])
    key_ids = torch.tensor([7, 7, 3, 5, 3, 9])
    sim = 3 * torch.randn(4, 6, generator=g)
    order = torch.randperm(6, generator=g)
    loss = itc_loss(sim, ids, key_ids)
    assert loss.shape == (), "a loss is one number"
    assert not loss.isnan(), "every query has a true key, its own at least"
    assert loss > 0, "a cross-entropy is never negative"
    grading.equal(itc_loss(sim + torch.randn(4, 1, generator=g), ids, key_ids), loss,
                  "a softmax over keys does not notice that all of a query's "
                  "similarities rise alike")
    grading.equal(itc_loss(sim.repeat(2, 1), ids.repeat(2), key_ids), loss,
                  "a mean over queries: every query twice changes nothing")
    grading.equal(itc_loss(sim[:, order], ids, key_ids[order]), loss,
                  "ids tell which keys are true, and the order of keys nothing")
    grading.equal(itc_loss(torch.zeros(4, 6), ids, key_ids), math.log(6),
                  "a target sums to one, so a uniform guess costs the logarithm of "
                  "the number of keys")
    # so a softmax gives .6, .3 and .1
    sim = torch.tensor([[6.0, 3, 1]]).log()
    grading.equal(itc_loss(sim, torch.tensor([7]), torch.tensor([7, 7, 3])),
                  -(math.log(0.6) + math.log(0.3)) / 2,
                  "two true captions share the target, half and half")

# %% [markdown]
# ## 3. Both ways, with keys from the past (6 points)
#
# Pictures ask among the batch's sentences and those in the queue; sentences ask among the batch's
# pictures and those in the queue. The loss is the mean of the two. A key from the past is compared
# with and never changed: no gradient may reach it. Its id counts: a second caption of a picture may
# wait in the queue. The loss of one way is given, and is called as `itc_loss` is: what is wrong
# with yours costs nothing here.
# %% answer both_ways
def both_ways(image: Tensor, text: Tensor, ids: Tensor, temperature: float,
              queue_image: Tensor, queue_text: Tensor, queue_ids: Tensor,
              loss) -> Tensor:
    """ITC of a batch with itself and a queue: image, text (b, e), ids (b,), queue (k, e),
    (k, e), (k,) -> scalar.

    loss(sim, ids, key_ids) -> scalar, such as itc_loss
    """
    raise NotImplementedError()


# %% tests both_ways 6
with grading.closed(), properties.in_words():
    g = grading.inputs()
    image, text, queue_image, queue_text = (torch.randn(n, 5, generator=g)
                                            for n in (3, 3, 4, 4))
    ids = torch.tensor([1, 2, 3])
    queue_ids = torch.tensor([9, 2, 8, 3])

    def any_loss(sim, ids, key_ids):
        """No contrastive loss, but one that looks at all that it is given."""
        return (sim.sin()
                * torch.where(ids[:, None] == key_ids, -1.0, 0.5)).sum(-1).mean()

    args = image, text, ids, 0.3, queue_image, queue_text, queue_ids, any_loss
    grading.equal(both_ways(text, image, ids, 0.3, queue_text, queue_image, queue_ids,
                            any_loss), both_ways(*args),
                  "both ways count alike: nothing changes where pictures and "
                  "sentences change places")
    old = [x.clone().requires_grad_() for x in (queue_image, queue_text)]
    new = [x.clone().requires_grad_() for x in (image, text)]
    both_ways(*new, ids, 0.3, *old, queue_ids, any_loss).backward()
    assert all(x.grad is None or not x.grad.any() for x in old), (
        "no gradient may reach a key of the queue")
    assert all(x.grad is not None and x.grad.any() for x in new), (
        "pictures and sentences of the batch both learn")
    east = torch.tensor([[1.0, 0]])
    north = torch.tensor([[0.0, 1]])
    none = torch.zeros(0, 2)
    first_id = torch.tensor([1])
    grading.equal(both_ways(east, east, first_id, 1.0, none, none, first_id[:0],
                            any_loss), any_loss(torch.ones(1, 1), first_id, first_id),
                  "a pair alone, without a queue, has its own cosine and no other")
    # the pair's cosine is 1; the queued picture's with the sentence is 0, the queued sentence's
    # with the picture -1
    by_picture = any_loss(torch.tensor([[1.0, (-1)]]), first_id, torch.tensor([1, 2]))
    by_sentence = any_loss(torch.tensor([[1.0, 0]]), first_id, torch.tensor([1, 2]))
    grading.equal(both_ways(east, east, first_id, 1.0, north, -east, first_id + 1,
                            any_loss), (by_picture + by_sentence) / 2,
                  "pictures meet queued sentences, sentences meet queued pictures, "
                  "and the loss is the mean of both ways")

# %% [markdown]
# ## 4. A variant: the sigmoid loss (6 points)
#
# SigLIP asks each cell of the table alone: do these two belong together? With $z = 1$ for a pair
# that does, $-1$ for one that does not, and a bias $\beta$ that is learnt, a cell costs
# $-\ln \sigma(z (s + \beta))$. Sum over keys, mean over queries. This loss does not mind how many
# keys are true. The package has no such function.
# %% answer sigmoid_loss
def sigmoid_loss(sim: Tensor, positive: Tensor, bias: float) -> Tensor:
    """Each pair for itself: sim (b, k), over temperature, positive (b, k) bool -> sum over
    keys, mean over queries."""
    raise NotImplementedError()


# %% tests sigmoid_loss 6
with grading.closed(), properties.in_words():
    g = grading.inputs()
    sim = 3 * torch.randn(4, 6, generator=g)
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor([7, 7, 3, 5, 3, 9])
    loss = sigmoid_loss(sim, positive, -1.5)
    assert loss > 0, "every pair pays something, and none is paid"
    grading.equal(sigmoid_loss(sim.repeat(2, 1), positive.repeat(2, 1), -1.5), loss,
                  "a mean over queries: every query twice changes nothing")
    grading.equal(sigmoid_loss(sim.repeat(1, 2), positive.repeat(1, 2), -1.5), 2 * loss,
                  "a sum over keys, each pair for itself: every key twice costs twice")
    grading.equal(sigmoid_loss(sim + 1.5, positive, -1.5),
                  sigmoid_loss(sim, positive, 0.0),
                  "the bias moves every similarity, before the sign is put to it")
    grading.equal(sigmoid_loss(-sim, ~positive, 1.5), loss,
                  "who calls true false and turns every sign has changed nothing")
    sim = torch.tensor([[math.log(3), -math.log(4)]])
    positive = torch.tensor([[True, False]])
    grading.equal(sigmoid_loss(sim, positive, 0.0), math.log(4 / 3) + math.log(5 / 4),
                  "the sigmoids are 3/4, of a true pair, and 1/5, of a false one: "
                  "right by 3/4 and by 4/5")

# %% [markdown]
# ## 5. A ring of keys (6 points)
#
# The queue holds the last `size` keys with the ids of their pictures. New ones overwrite the
# oldest, the end wraps around, slots never filled do not count, and batches of any length fit. It
# keeps copies: what happens to a batch afterwards changes nothing.
# %% answer Ring
class Ring:
    """The last `size` keys, with ids."""

    def __init__(self, size: int, width: int):
        self.keys = torch.zeros(size, width)
        self.ids = torch.zeros(size, dtype=torch.long)
        self.pointer = 0                         # the slot to write next
        self.filled = 0                          # how many slots hold a key

    def push(self, keys: Tensor, ids: Tensor):
        """Overwrite the oldest: (b, e), (b,). Of a batch longer than the ring the last rows
        stay. No gradient."""
        raise NotImplementedError()

    def features(self) -> tuple[Tensor, Tensor]:
        """What was pushed and is not yet overwritten, in any order: keys (k, e), ids (k,)."""
        raise NotImplementedError()


# %% tests Ring 6
def push_all(ring, batches):
    """Push ids in batches, each with a key made of its id; -> the ids that the ring holds,
    sorted."""
    for batch in batches:
        ids = torch.tensor(batch)
        ring.push(torch.stack([ids, -ids], 1).float(), ids)
    return sorted(ring.features()[1].tolist())


with grading.closed(), properties.in_words():
    ring = Ring(4, 2)
    assert push_all(ring, []) == [], "an empty ring holds nothing, not zeros"
    assert push_all(ring, [[1, 2, 3]]) == [1, 2, 3], (
        "what was pushed is there, and slots never filled do not count")
    assert push_all(ring, [[4, 5]]) == [2, 3, 4, 5], (
        "a full ring overwrites its oldest key, and the end wraps around")

# %% [markdown]
# ## 6. Read a curve (6 points, by a person)
#
# Below is the ITC loss of the model that ships with minalbef, over its training. Its batch is 64
# pairs; its queue holds 256 keys a side and is switched on at 16 thousand samples. There a lesson
# begins, too, until 41 thousand: a batch is 32 pairs of siblings, two scenes that differ in where
# their things stand and in nothing else, each with a caption that is false of the other. ITC learns
# to find the pair of siblings, and cannot tell which of the two is which.
# %%
with open(data_folder() / "tiny" / "metrics.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
plot, axes = plots.grid("The ITC loss of the shipped model: it falls from 4.8 to 1.1, "
                        "leaps to 2.0 at 16 thousand samples and from 1.3 to 1.9 at "
                        "42 thousand, and falls again to 0.9.", 1, 1, 6.5, 2.9)
axes[0, 0].plot([float(row["samples"]) / 1000 for row in rows],
                [float(row["itc"]) for row in rows], color=plots.BLUE, lw=1)
axes[0, 0].set(xlabel="thousand samples", ylabel="ITC loss", ylim=(0, 5))
plot
# %% [markdown]
# (a) The loss nearly doubles at 16 thousand samples, and nothing is broken. By how much would the
# loss of a model that knows nothing rise there? (b) Take a model that had found every picture's
# caption with certainty. By how much do the siblings raise its loss, with no queue? (c) What of the
# rise is left for the queue, and what does that say about most of its keys? (d) The run ends at a
# loss hardly lower than it had before the leap. Has it learnt hardly anything since? Name one
# figure that would decide.
# %% written curve 6

# %% [markdown]
# ## 7. Two losses (6 points, by a person)
#
# (a) A picture has two captions in a batch of four. What is the lowest loss of its row under
# `itc_loss`, and under `sigmoid_loss`? (b) Add the same number to all similarities of one row.
# Which loss notices? Say why that makes the sigmoid loss need its bias at the start of training,
# when almost all pairs are false. (c) Which of the two can be computed on many machines without
# gathering a whole row, and why?
# %% written losses 6
