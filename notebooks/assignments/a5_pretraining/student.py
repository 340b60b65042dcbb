# %% [markdown]
# # Assignment 5 · Pretraining
#
# **You build what a training run is made of: words hidden as BERT hides them, the loss that asks
# for them, the rate of learning, and one step in the right order.** Then three runs are put before
# you that went wrong, and you say why from their curves alone.
#
# - **Needs:** chapters 07 and 08. **Time:** six hours. **Points:** 30 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may
#   run; those that grade you hold more, on numbers of your own. `minalbef` is closed while they
#   run: calling it earns nothing.
# - Letters: b captions, l word pieces, v words and pieces to choose from.
# %%
import csv
import math
from pathlib import Path

import grading
import properties
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.viz import plots

with open(Path(grading.__file__).parent / "a5_curves.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
# {"A": {"step": [...], "itc": [...], ...}, ...}
curves = {run: {name: [float(row[name]) for row in rows if row["run"] == run]
                for name in rows[0] if name != "run"}
          for run in dict.fromkeys(row["run"] for row in rows)}


# %% [markdown]
# ## 1. Whole words, hidden (7 points)
#
# A share `rate` of the words is chosen, to be guessed. Of these 80% go behind `[MASK]`, 10% are
# replaced by another word, 10% stay as they are. The package decides for every piece alone. You
# decide for every **word**: all pieces of a word have the fate that is drawn at its first piece.
# (Each replaced piece takes what `words` has at its own place.) `choose` and `kind` are drawn
# evenly from 0 to 1: a word is chosen where `choose` is below `rate`; then `kind` below 0.8 is
# `[MASK]`, from there and below 0.9 another word. What is `special` ([CLS], [SEP], padding) is
# never chosen; each of them is a word of its own.
# %% answer mask_words
def mask_words(tokens: Tensor, starts: Tensor, special: tuple[int, ...], mask_id: int,
               rate: float, choose: Tensor, kind: Tensor,
               words: Tensor) -> tuple[Tensor, Tensor]:
    """Hide whole words: all tensors (b, l); starts: bool, True where a word begins; choose,
    kind: uniform; words: ids.

    -> masked (b, l), what the model reads; labels (b, l): the id to be guessed where one was
    chosen, else -100
    """
    raise NotImplementedError()


# %% tests mask_words 7
def draw_captions(g):
    """Two captions of 3 to 5 words, of one to three pieces each, between [CLS] 1 and [SEP]
    2, padded with 0."""
    rows = []
    for _ in range(2):
        row = [(1, True)]
        for _ in range(int(torch.randint(3, 6, (), generator=g))):
            row += [(int(torch.randint(10, 90, (), generator=g)), i == 0)
                    for i in range(int(torch.randint(1, 4, (), generator=g)))]
        rows.append(row + [(2, True)] + [(0, True)] * (17 - len(row)))
    tokens = torch.tensor([[word[0] for word in row] for row in rows])
    starts = torch.tensor([[word[1] for word in row] for row in rows])
    return tokens, starts, torch.randint(100, 200, tokens.shape, generator=g)


with grading.closed(), properties.in_words():
    g = grading.inputs()
    special = (0, 1, 2)
    tokens, starts, words = draw_captions(g)
    choose, kind = torch.rand(2, *tokens.shape, generator=g)
    before = tokens.clone()
    real = tokens > 2
    masked, labels = mask_words(tokens, starts, special, 3, 1.0, choose, kind, words)
    grading.equal(tokens, before, "the caller's tokens stay as they are")
    assert (labels[~real] == -100).all() and masked[~real].equal(tokens[~real]), \
        "[CLS], [SEP] and padding are never hidden and never asked for"
    grading.equal(labels[real], tokens[real],
                  "at a rate of one every word is asked for: the word that stood "
                  "there, whatever the model reads in its place")
    masked, labels = mask_words(tokens, starts, special, 3, 0.0, choose, kind, words)
    assert masked.equal(tokens) and (labels == -100).all(), (
        "at a rate of zero nothing is hidden, and nothing is asked for")
    masked, labels = mask_words(tokens, starts, special, 3, 0.5, choose, kind, words)
    assert masked[labels == -100].equal(tokens[labels == -100]), (
        "what is not asked for is left as it is")
    # a word of two pieces, 20 and 21, then three of one; all chosen but the third, which has drawn
    # the rate itself
    args = [torch.tensor([values])
            for values in ((1, 20, 21, 30, 40, 50), (.0, .1, .9, .2, .5, .3),
                           (.0, .1, .99, .8, .1, .9), (100, 101, 102, 103, 104, 105))]
    begins = torch.tensor([[True, True, False, True, True, True]])
    masked, labels = mask_words(args[0], begins, special, 3, 0.5, args[1], args[2],
                                args[3])
    assert labels[0, 1:3].tolist() == [20, 21] and masked[0, 1:3].tolist() == [3, 3], \
        "a word's pieces share the fate that was drawn at the first of them"
    assert labels[0, 4] == -100, (
        "a word is chosen if its draw is less than the rate, strictly")
    assert masked[0, 3] == 103 and labels[0, 3] == 30, (
        "from eight tenths on another word is read, and the true one asked for")
    assert masked[0, 5] == 50 and labels[0, 5] == 50, (
        "from nine tenths on a word is left in sight, and asked for all the same")

# %% [markdown]
# ## 2. The word loss (5 points)
#
# The cross-entropy at the places that are asked for, and nowhere else: the mean over all such
# places of the batch. A label of -100 means: not asked. A batch in which nothing was hidden has the
# loss 0, through which a gradient can run, and it is 0, too.
# %% answer word_loss
def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """How unlikely the hidden words are: logits (b, l, v), labels (b, l), -100 where nothing
    is asked -> scalar."""
    raise NotImplementedError()


# %% tests word_loss 5
with grading.closed(), properties.in_words():
    g = grading.inputs()
    logits = 2 * torch.randn(3, 4, 7, generator=g)
    labels = torch.full((3, 4), -100)
    labels[0, :3] = torch.randint(0, 7, (3,), generator=g)
    labels[1, 2] = torch.randint(0, 7, (), generator=g)
    hidden_at = labels != -100
    loss = word_loss(logits, labels)
    assert loss.shape == (), "a loss is one number"
    assert loss > 0, "a cross-entropy is never negative"
    noise = torch.where(hidden_at[..., None], 0, 9 * torch.randn(3, 4, 7, generator=g))
    grading.equal(word_loss(logits + noise, labels), loss,
                  "what is thought where nothing is asked changes nothing")
    grading.equal(word_loss(torch.zeros(3, 4, 7), labels), math.log(7),
                  "a uniform guess costs the logarithm of the number of words, "
                  "however few are asked for")
    grading.equal(word_loss(logits.repeat(2, 1, 1), labels.repeat(2, 1)), loss,
                  "a mean: every caption twice changes nothing")
    grading.equal(word_loss(logits + torch.randn(3, 4, 1, generator=g), labels), loss,
                  "a softmax over words does not notice that all of a "
                  "place's words rise alike")
    grading.equal(word_loss(F.pad(logits, (0, 0, 0, 2)),
                            F.pad(labels, (0, 2), value=-100)), loss,
                  "padding costs nothing")
    # two places asked for: their words have chances of a half and of an eighth
    sure = torch.tensor([[[4.0, 2, 2], [1, 1, 6]]]).log()
    grading.equal(word_loss(sure, torch.tensor([[0, 1]])), 2 * math.log(2),
                  "the mean of minus the logarithms of the true words' chances")
    nothing = logits.clone().requires_grad_()
    none = word_loss(nothing, torch.full((3, 4), -100))
    assert none == 0, "where nothing was hidden the loss is zero, and no NaN"

# %% [markdown]
# ## 3. The rate of learning (4 points)
#
# A straight rise from `start` at step 0 to `top` at step `warmup`; then `top` for `hold` steps;
# then half a cosine, which reaches `end` at step `steps`; from there on `end`. The package has no
# `hold`. There may be no warm-up, and no hold.
# %% answer learning_rate
def learning_rate(step: int, steps: int, warmup: int, hold: int, top: float,
                  start: float, end: float) -> float:
    """The rate of a step, counted from 0: up in a line, level, down along half a cosine, level."""
    raise NotImplementedError()


# %% tests learning_rate 4
with grading.closed(), properties.in_words():
    def rates(f, number, **settings):
        return torch.tensor([float(f(step, **settings)) for step in range(number)])

    g = grading.inputs()
    settings = dict(steps=9, warmup=2, hold=3, top=8.0, start=2.0, end=1.0)
    schedule = rates(learning_rate, 14, **settings)
    grading.equal(schedule[0], 2.0, "the first step has the rate `start`")
    grading.equal(schedule[1], 5.0,
                  "half-way through the warm-up the rate is half-way up")
    grading.equal(schedule[2:6], torch.full((4,), 8.0),
                  "from the end of the warm-up on the rate stays at its "
                  "top, `hold` steps long")
    grading.equal(schedule[7], 4.5,
                  "half-way down the cosine the rate is half-way between its "
                  "top and its end")
    assert schedule[5] - schedule[6] < schedule[6] - schedule[7], (
        "a cosine leaves the top slowly, and then falls faster")
    grading.equal(schedule[9:], torch.ones(5),
                  "at the last step the rate is at its end, and it stays there")
    grading.equal(rates(learning_rate, 5, **settings | dict(warmup=0, hold=0))[0], 8.0,
                  "without a warm-up the first step is at the top")

# %% [markdown]
# ## 4. One step, in order (8 points)
#
# `compute()` runs the student and gives back the losses by name, and the batch's keys for the
# queue. A step does, in this order:
#
# 1. It adds the losses. Where the sum is not finite, it raises `FloatingPointError` and changes
#    nothing.
# 2. It goes backward. No gradient of an earlier step may count.
# 3. It clips the gradient: all weights' gradients together, seen as one long vector, become no
#    longer than `clip`.
# 4. The optimiser steps.
# 5. The teacher follows the student as it is *now*: `momentum` of the old teacher, the rest of the
#    student.
# 6. The keys are appended to the queue, without gradient.
#
# Some of the student's weights may be frozen: they have no gradient, and the teacher follows them
# all the same. Nothing else changes: both models stay in the mode that they are in, and what is
# frozen stays so.
# %% answer train_step
def train_step(compute, student: nn.Module, teacher: nn.Module,
               optimiser: torch.optim.Optimizer, queue: list, clip: float,
               momentum: float) -> float:
    """One step of pretraining. compute() -> ({name: loss}, keys (b, e)); queue: batches' keys,
    oldest first -> the sum.

    Raises FloatingPointError where the sum is not finite; then student, teacher and queue are
    as before.
    """
    raise NotImplementedError()


# %% tests train_step 8
class Watched(list):
    """A queue that notes where student and teacher stood when keys came."""

    def note(self):
        self.seen.append([p.detach().clone()
                          for p in (*self.student.parameters(),
                                    *self.teacher.parameters())])

    def append(self, keys):
        super().append(keys)
        self.note()

    def insert(self, at, keys):
        super().insert(at, keys)
        self.note()

    def extend(self, batches):
        super().extend(batches)
        self.note()

    def __iadd__(self, batches):
        self.extend(batches)
        return self

    def __setitem__(self, at, batches):
        super().__setitem__(at, batches)
        self.note()


def small_run(g, stale: bool = True):
    """A student, another teacher, what computes three losses, a queue with one batch of
    keys; all of them drawn."""
    student = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    teacher = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    with torch.no_grad():
        for p in (*student.parameters(), *teacher.parameters()):
            p.copy_(torch.randn(p.shape, generator=g))
    teacher.requires_grad_(False).eval()
    student[2].bias.requires_grad_(False)
    for weight in (*student[0].parameters(), student[2].weight):
        # left there by the step before
        weight.grad = torch.randn(weight.shape, generator=g) if stale else None
    x = torch.randn(5, 3, generator=g)
    calls = []

    def compute():
        calls.append(student.training)
        out = student(x)
        return ({"itc": out.pow(2).mean(),
                 "itm": out.sin().mean(),
                 "mlm": (out - 1).abs().sum()}, 3 * out)

    queue = Watched([torch.zeros(5, 2)])
    queue.student = student
    queue.teacher = teacher
    queue.seen = []
    queue.calls = calls
    return compute, student, teacher, queue


def weights(*modules):
    return torch.cat([p.detach().flatten() for module in modules
                      for p in module.parameters()])


def descent(compute, student, clip=1e6):
    """The clipped gradient of all weights in a row, by another way: nothing of the student
    is changed."""
    losses, _ = compute()
    slopes = torch.autograd.grad(sum(losses.values()),
                                 [p for p in student.parameters() if p.requires_grad])
    # the last is frozen
    gradient = torch.cat([*(x.flatten() for x in slopes), torch.zeros(2)])
    return gradient * min(1.0, clip / gradient.norm().item())


with grading.closed(), properties.in_words():
    g = grading.inputs()
    compute, student, teacher, queue = small_run(g, stale=False)
    sgd = torch.optim.SGD(student.parameters(), lr=0.1)
    old = weights(teacher)
    want = weights(student) - 0.1 * descent(compute, student)
    total = sum(compute()[0].values()).item()
    queue.calls.clear()
    got = properties.careful(lambda *models: train_step(compute, *models, sgd, queue,
                                                        1e6, 0.75), student, teacher)
    assert isinstance(got, float), (
        "what comes back is a plain number, which holds on to no graph")
    grading.equal(got, total,
                  "what comes back is the sum of the losses that the step "
                  "has gone down on")
    assert queue.calls == [True], ("the student reads the batch once, in the mode "
                                   "that it is in, and no second time after the step")
    grading.equal(weights(student), want,
                  "the optimiser goes down the gradient of the sum of all losses")
    grading.equal(weights(teacher), 0.75 * old + 0.25 * weights(student),
                  "the teacher moves a little towards the student, as it is after the "
                  "optimiser's step")
    assert not any(p.requires_grad for p in teacher.parameters()), (
        "the teacher learns by following, and no gradient reaches it")
    assert len(queue) == 2 and not queue[1].requires_grad, (
        "the batch's keys join the queue once, without gradient")
    compute, student, teacher, queue = small_run(g)
    want = weights(student) - 0.1 * descent(compute, student)
    train_step(compute, student, teacher, torch.optim.SGD(student.parameters(), lr=0.1),
               queue, 1e6, 0.75)
    grading.equal(weights(student), want, "no gradient of an earlier step counts")
    for share in (0.1, 0.5, 2.0):
        compute, student, teacher, queue = small_run(g)
        clip = share * descent(compute, student).norm().item()
        want = weights(student) - 0.1 * descent(compute, student, clip)
        keys = compute()[1].detach()
        before = weights(teacher)
        train_step(compute, student, teacher,
                   torch.optim.SGD(student.parameters(), lr=0.1), queue, clip, 0.9)
        grading.equal(weights(student), want,
                      "the gradient of all weights together is clipped to the length "
                      "`clip` before the optimiser uses it, keeps its direction, and "
                      "stays as it is where it is shorter")
        grading.equal(weights(teacher), 0.9 * before + 0.1 * weights(student),
                      "the teacher keeps the share `momentum` of itself, and sees the "
                      "student's new weights")
        grading.equal(queue[-1], keys,
                      "the newest keys stand last, as they were computed")
        assert queue[0].equal(torch.zeros(5, 2)), "older keys stay as they are"
        grading.equal(torch.cat([x.flatten() for x in queue.seen[-1]]),
                      weights(student, teacher),
                      "the queue comes last: student and teacher have moved before it")
    compute, student, teacher, queue = small_run(g)
    before = weights(student, teacher)
    filled = len(queue)
    for bad in (math.inf, math.nan):
        try:
            train_step(lambda: ({"itc": compute()[0]["itc"],
                                 "mlm": compute()[0]["mlm"] * bad}, compute()[1]),
                       student, teacher, torch.optim.SGD(student.parameters(), lr=0.1),
                       queue, 1.0, 0.9)
            raised = False
        except FloatingPointError:
            raised = True
        assert raised, "a loss that is not finite stops the run, and says so"
        assert weights(student, teacher).equal(before) and len(queue) == filled, (
            "a loss that is not finite changes nothing")

# %% [markdown]
# ## 5. Three runs that went wrong (6 points)
#
# Four short runs of the package: 200 steps of 32 pairs of scenes and captions, on the shipped
# encoders, with new projections, fusion and heads. ITM's negatives are drawn evenly. The queue, of
# 256 keys a side, is switched on after step 80. In grey the run as it should be; A, B and C have
# one bug each, else nothing differs, the seed included. The gradient is its length before it is
# clipped. The curves are in `curves`, too, should you want numbers.
# %%
titles = {
    "itc": "ITC",
    "itm": "ITM",
    "mlm": "MLM",
    "temperature": "temperature",
    "gradient": "gradient's length"}
plot, axes = plots.grid("Losses, temperature and length of the gradient of runs A, B "
                        "and C, each over that of the clean run: "
                        + "; ".join(f"{run} ends at "
                                    + ", ".join(f"{name} {curves[run][key][-1]:.2g}"
                                                for key, name in titles.items())
                                    for run in curves), 3, 5, 11, 6, sharex=True)
for row, run in zip(axes, "ABC"):
    for ax, (key, name) in zip(row, titles.items()):
        ax.plot(curves["clean"]["step"], curves["clean"][key], color="#a0a4aa", lw=1)
        ax.plot(curves[run]["step"], curves[run][key], color=plots.BLUE, lw=1.2)
        ax.set(title=f"{run}: {name}" if ax is row[0] else name,
               yscale="log" if key == "gradient" else "linear")
        ax.tick_params(labelsize=8)
plot
# %% [markdown]
# Which bug is in which run?
#
# 1. The teacher is never moved.
# 2. A pair is its own negative in ITM.
# 3. A batch's keys join the queue *before* its loss, and are not known there as its own.
# 4. The temperature learns at the full rate, and its floor is forgotten.
# 5. Captions are shifted by one row against their pictures.
# 6. MLM asks for every word, also for those in sight.
# 7. There is no warm-up, and the rate is ten times too high.
# 8. The gradient of the step before is never cleared.
# %% answer diagnosis
def diagnosis() -> dict[str, int]:
    """The number of the bug of each run: {"A": ..., "B": ..., "C": ...}."""
    raise NotImplementedError()


# %% tests diagnosis 6
with grading.closed(), properties.in_words():
    answer = diagnosis()
    assert set(answer) == set("ABC"), (
        "each of the three runs has a bug, and the clean one has none")
    assert all(bug in range(1, 9) for bug in answer.values()), (
        "a bug is named by its number in the list")
    assert len(set(answer.values())) == 3, "no bug was planted twice"

# %% [markdown]
# ## 6. Your reasons (6 points, by a person)
#
# For each of A, B and C: (a) which curve parts first from the clean run, when, and which do not at
# all; (b) why this bug does that. Where a curve settles at a value that can be worked out, work it
# out. (c) Name for one of them a test of ten lines that would have found the bug without any
# training.
# %% written reasons 6

# %% [markdown]
# ## 7. By thought (6 points, by a person)
#
# (a) In a tenth of its places BERT's recipe shows the true word, and asks for it. A student leaves
# this tenth out, another asks only where `[MASK]` stands: what does the finished model do worse, on
# sentences without any `[MASK]`? (b) A run of 8 passes adds up the gradient of 8 parts of a batch,
# and calls `train_step` for each with a rate of an eighth. With plain gradient descent, how far is
# that from one step on the whole batch? With AdamW? What becomes of the teacher and of the queue?
# (c) Someone clips to a length of 1 and finds that every step is clipped. Which number of his run
# has lost its meaning under plain gradient descent, and why does AdamW hardly care?
# %% written thought 6
