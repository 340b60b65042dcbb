# %% [markdown]
# # Assignment 3 · Distillation
#
# **You build the teacher of ALBEF: who it is, what it says, and what no gradient may reach. And you
# build its control, a label smoothing that takes as much from the label as the teacher does, and
# knows nothing.** Then you let the two compete.
#
# - **Needs:** chapter 05. **Time:** four hours. **Points:** 31 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may
#   run; those that grade you hold more, on numbers of your own. `minalbef` is closed while they
#   run: calling it earns nothing.
# - Letters: b queries, k keys, n places of words, v words of the vocabulary.
# %%
import copy

import grading
import properties
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef.viz import plots


# %% [markdown]
# ## 1. The teacher follows (5 points)
#
# After each step every weight of the teacher keeps the share `momentum` of itself and takes the
# rest from the student's. A module may have buffers, too, such as the running mean of a BatchNorm:
# those are no weights, some are whole numbers, and the teacher simply has the student's. (The
# package has no such layer, and its function leaves buffers alone.)
# %% answer update_teacher
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float):
    """Move the teacher's weights towards the student's and copy the student's buffers: in
    place, without gradient."""
    raise NotImplementedError()


# %% tests update_teacher 5
def two_alike(g: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """A teacher and a student of one make and with other numbers; they hold weights, and
    buffers of both kinds."""
    pair = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    for number, module in enumerate(pair):
        for x in (*module.parameters(), *module.buffers()):
            x.data.copy_(torch.rand(x.shape, generator=g) + 1
                         if x.is_floating_point() else torch.tensor(5 + 4 * number))
    return pair[0].requires_grad_(False), pair[1]


with grading.closed(), properties.in_words():
    g = grading.inputs()
    teacher, student = two_alike(g)
    tracked = teacher[0].weight
    old = copy.deepcopy(teacher)
    before = copy.deepcopy(student)
    update_teacher(teacher, student, 0.7)
    assert teacher[0].weight is tracked, (
        "in place: whoever holds a weight of the teacher must see it move")
    assert tracked.is_leaf and tracked.grad_fn is None, (
        "no gradient may lead from the teacher back to the student")
    for now, source in zip(student.state_dict().values(), before.state_dict().values()):
        grading.equal(now, source,
                      "the student stays as it is: the teacher follows, "
                      "and nobody else")
    frozen = copy.deepcopy(old)
    follower = copy.deepcopy(old)
    update_teacher(frozen, student, 1.0)
    update_teacher(follower, student, 0.0)
    for param, now, was, new in zip(*(list(module.parameters())
                                      for module in (frozen, follower, old, student))):
        grading.equal(param, was, "with a momentum of one the teacher never moves")
        grading.equal(now, new, "with a momentum of zero the teacher is the student")
    tiny = nn.Linear(1, 1, bias=False)
    path = []
    tiny.weight.data.fill_(1.0)
    slow = copy.deepcopy(tiny).requires_grad_(False)
    slow.weight.zero_()
    for _ in range(3):
        update_teacher(slow, tiny, 0.9)
        path.append(slow.weight.item())
    grading.equal(torch.tensor(path), torch.tensor([0.1, 0.19, 0.271]),
                  "a tenth of what is left of the way, at every step")

# %% [markdown]
# ## 2. Who is in the mean? (3 points)
#
# Unroll the recursion: the teacher is a weighted mean of the model it was copied from and of every
# student that it followed since. What is each one's share?
# %% answer shares
def shares(momentum: float, steps: int) -> Tensor:
    """What of each student is in the teacher after so many steps: -> (1 + steps,), the start
    first, the newest last."""
    raise NotImplementedError()


# %% tests shares 3
with grading.closed(), properties.in_words():
    g = grading.inputs()
    assert shares(0.8, 6).shape == (7,), (
        "the start has a share, and so has each student since")
    grading.equal(shares(0.8, 6)[-1], 0.2,
                  "the newest student stands last, and has what one step gives")
    grading.equal(shares(0.8, 0), torch.ones(1),
                  "before the first step the teacher is its start, and nothing else")
    grading.equal(shares(0.8, 6)[:-1], 0.8 * shares(0.8, 5),
                  "a step leaves the same part of everything that was there")
    grading.equal(shares(0.8, 6).sum(), 1.0,
                  "a mean: all shares together are the whole")
    grading.equal(shares(0.9, 2), torch.tensor([0.81, 0.09, 0.1]),
                  "nine tenths of what was there stay, at every step")

# %% [markdown]
# ## 3. Soft targets, and keys that are not there (6 points)
#
# A query's target: its true keys, evenly, with the share $1 - \alpha$; the softmax of the
# *teacher's* similarities over keys with the share $\alpha$. Here the queue has a fixed size, as in
# ALBEF's own code, and at the start of a run most slots are still empty. Where `keep` is False
# nothing was pushed: whatever stands there, in similarities or in `positive`, is noise, and gets no
# share of either part. Targets are given to the student, so no gradient may reach the teacher.
# %% answer soft_targets
def soft_targets(positive: Tensor, teacher_sim: Tensor, alpha: float,
                 keep: Tensor) -> Tensor:
    """What each query should pick: positive (b, k) bool, teacher_sim (b, k), over temperature,
    keep (k,) bool -> (b, k)

    Every query has a true key among those kept.
    """
    raise NotImplementedError()


# %% tests soft_targets 6
with grading.closed(), properties.in_words():
    g = grading.inputs()
    keep = torch.tensor([True, True, True, True, True, False, False])
    # the last but one: noise
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor(
        [7, 7, 3, 5, 3, 7, 9])
    sim = 3 * torch.randn(4, 7, generator=g)
    order = torch.randperm(7, generator=g)
    target = soft_targets(positive, sim, 0.4, keep)
    assert target.shape == (4, 7), "a row for each query, a share for each key"
    grading.equal(target.sum(-1), torch.ones(4),
                  "a target is a distribution over keys: all shares of a query "
                  "make a whole")
    grading.equal(target[:, ~keep], torch.zeros(4, 2),
                  "where nothing was pushed there is nothing to pick")
    noise = torch.where(keep, 0, 9 * torch.randn(4, 7, generator=g))
    grading.equal(soft_targets(positive, sim + noise, 0.4, keep), target,
                  "what stands in an empty slot changes nothing")
    grading.equal(soft_targets(positive, sim, 0.0, keep)[:, :5],
                  torch.tensor([[0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0],
                                [0, 0, 0.5, 0, 0.5], [0, 0, 0, 1, 0]]),
                  "without trust in the teacher the true keys have all, evenly, and "
                  "an empty slot is none of them")
    grading.equal(soft_targets(positive, sim, 1.0, keep),
                  soft_targets(positive.roll(1, 0), sim, 1.0, keep),
                  "with full trust in the teacher the labels are not asked")
    grading.equal(soft_targets(positive, sim + torch.randn(4, 1, generator=g), 0.4,
                               keep), target,
                  "a softmax over keys does not notice that all of a query's "
                  "similarities rise alike")
    grading.equal(soft_targets(positive[:, order], sim[:, order], 0.4, keep[order]),
                  target[:, order], "the order of the keys means nothing")
    teacher = sim.clone().requires_grad_()
    assert not soft_targets(positive, teacher, 0.4, keep).requires_grad, (
        "no gradient may reach the teacher")
    by_hand = soft_targets(torch.tensor([[True, False, False]]),
                           torch.tensor([[1.0, 8, 1]]).log(), 0.4, torch.ones(3) > 0)
    grading.equal(by_hand, torch.tensor([[0.64, 0.32, 0.04]]),
                  "label and opinion are mixed: the trust is the opinion's share")

# %% [markdown]
# ## 4. The control: as much doubt, and no knowledge (6 points)
#
# A soft target does two things: it takes some mass from the label, and it says *where* that mass
# goes. Label smoothing does the first alone. A fair control takes exactly as much, from each query,
# as its own teacher did. So: in each row the true keys together have what they had in the soft
# target, and share it evenly; the false ones together have the rest, and share that evenly. The
# package has no such function.
# %% answer smoothed_targets
def smoothed_targets(target: Tensor, positive: Tensor) -> Tensor:
    """A soft target without its opinion: target (b, k), rows sum to one, positive (b, k) bool
    -> (b, k).

    Each query has a true key; it may have no false one.
    """
    raise NotImplementedError()


# %% tests smoothed_targets 6
with grading.closed(), properties.in_words():
    g = grading.inputs()
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor([7, 7, 3, 5, 3, 9])
    target = (0.5 * positive / positive.sum(-1, keepdim=True)
              + 0.5 * (2 * torch.randn(4, 6, generator=g)).softmax(-1))
    order = torch.randperm(6, generator=g)
    smooth = smoothed_targets(target, positive)
    assert smooth.shape == (4, 6), "a row for each query, a share for each key"
    grading.equal(smooth.sum(-1), torch.ones(4),
                  "a target is a distribution over keys: all shares of a query "
                  "make a whole")
    grading.equal((smooth * positive).sum(-1), (target * positive).sum(-1),
                  "the true keys together keep what the teacher left them, "
                  "each query for itself")
    for row, true in zip(smooth, positive):
        grading.equal(row[true], row[true].mean().expand(int(true.sum())),
                      "true keys share evenly, whatever the teacher thought")
        grading.equal(row[~true], row[~true].mean().expand(int((~true).sum())),
                      "false keys share evenly: that is the control")
    grading.equal(smoothed_targets(smooth, positive), smooth,
                  "what has no opinion stays as it is")
    grading.equal(smoothed_targets(target[:, order], positive[:, order]),
                  smooth[:, order], "the order of the keys means nothing")
    grading.equal(smoothed_targets(torch.tensor([[0.7, 0.25, 0.05]]),
                                   torch.tensor([[True, False, False]])),
                  torch.tensor([[0.7, 0.15, 0.15]]),
                  "a label keeps its share, and two false keys halve the rest")

# %% [markdown]
# ## 5. A hidden word, and trust that differs (5 points)
#
# At each place a word is hidden, or none is: then its label is -100, and the place counts for
# nothing. The loss of a hidden word is $(1 - \alpha)$ times the cross-entropy to the word, and
# $\alpha$ times that to the teacher's softmax over words. Unlike in the package, every place has an
# $\alpha$ of its own. The loss is the mean over hidden words; where none is hidden it is 0.
# %% answer distilled_loss
def distilled_loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor,
                   alpha: Tensor) -> Tensor:
    """Mean over hidden words: logits, teacher_logits (n, v), labels (n,), -100: not hidden,
    alpha (n,) -> scalar."""
    raise NotImplementedError()


# %% tests distilled_loss 5
with grading.closed(), properties.in_words():
    g = grading.inputs()
    logits = 3 * torch.randn(6, 5, generator=g)
    teacher = 3 * torch.randn(6, 5, generator=g)
    labels = torch.tensor([3, -100, 0, 4, -100, 3])
    alpha = 0.1 + 0.8 * torch.rand(6, generator=g)
    loss = distilled_loss(logits, labels, teacher, alpha)
    assert loss.shape == (), "a loss is one number"
    grading.equal(distilled_loss(logits.repeat(2, 1), labels.repeat(2),
                                 teacher.repeat(2, 1), alpha.repeat(2)), loss,
                  "a mean over hidden words: every place twice changes nothing")
    hidden = labels >= 0
    grading.equal(distilled_loss(logits[hidden], labels[hidden], teacher[hidden],
                                 alpha[hidden]), loss,
                  "a place where no word is hidden counts for nothing, in the sum and "
                  "in the number")
    grading.equal(distilled_loss(logits, labels, 9 * teacher, 0 * alpha),
                  distilled_loss(logits, labels, teacher, 0 * alpha),
                  "without trust the teacher is not heard")
    grading.equal(distilled_loss(logits, labels.where(labels < 0, 1), teacher,
                                 alpha ** 0),
                  distilled_loss(logits, labels, teacher, alpha ** 0),
                  "with full trust the word itself is not asked")
    student_logits = logits.clone().requires_grad_()
    teacher_logits = teacher.clone().requires_grad_()
    distilled_loss(student_logits, labels, teacher_logits, alpha).backward()
    assert teacher_logits.grad is None or not teacher_logits.grad.any(), (
        "no gradient may reach the teacher")
    assert (student_logits.grad[hidden].any()
            and not student_logits.grad[~hidden].any()), (
        "the student learns at hidden words, and nowhere else")
    # the student says 1/2, 1/4, 1/4; the teacher 1/4, 1/2, 1/4; the word is the first, and the
    # trust is a half
    student_logits, teacher_logits = torch.tensor([[[2.0, 1, 1]], [[1, 2, 1]]]).log()
    by_hand = distilled_loss(student_logits, torch.tensor([0]), teacher_logits,
                             torch.tensor([0.5]))
    grading.equal(
        by_hand,
        torch.tensor(2.0).log() * (0.5 * 1 + 0.5 * (0.25 + 2 * 0.5 + 2 * 0.25)),
        "half the cross-entropy to the word, half the one to the teacher's opinion")

# %% [markdown]
# ## 6. One step, in order (6 points)
#
# All of it at once: the teacher, with its dropout off, gives its opinion of `x`; the student learns
# from labels and opinion, by what you wrote in 5, with one trust for all; the optimiser steps; and
# after that, once, the teacher follows, by what you wrote in 1. What the student's gradients held
# before does not matter. `x` may come from a part that learns, too: its gradient comes through the
# student alone.
# %% answer distil_step
def distil_step(student: nn.Module, teacher: nn.Module,
                optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor,
                alpha: float, momentum: float) -> float:
    """One step of distillation: x (n, ...), labels (n,), both models give logits (n, v) -> the
    loss before the step.

    The optimiser holds the student's weights. The student stays in the mode that it is in.
    """
    raise NotImplementedError()


# %% tests distil_step 6
def beginning(g: torch.Generator) -> tuple:
    """A student, a teacher of other weights with dropout, an optimiser, x and labels."""
    student = nn.Sequential(nn.Dropout(0.0), nn.Linear(3, 4, bias=False))
    teacher = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 4, bias=False))
    for module in (student, teacher):
        module[1].weight.data = torch.randn(4, 3, generator=g)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    x = torch.randn(8, 3, generator=g)
    labels = torch.randint(4, (8,), generator=g)
    return student, teacher, optimiser, x, labels


with grading.closed(), properties.in_words():
    g = grading.inputs()
    student, teacher, optimiser, x, labels = beginning(g)
    w = student[1].weight.detach().clone()
    v = teacher[1].weight.detach().clone()
    twins = copy.deepcopy((student, teacher))
    loss = distil_step(student, teacher, optimiser, x, labels, 0.4, 0.9)
    new = student[1].weight.detach()
    mean = teacher[1].weight.detach()
    assert not torch.equal(new, w), "the student has made a step"
    assert student.training, "the student stays in the mode that it was in"
    assert all(p.grad is None or not p.grad.any() for p in teacher.parameters()), (
        "no gradient may reach the teacher")
    grading.equal(mean, 0.9 * v + 0.1 * new,
                  "the teacher follows once, after the step: it meets the "
                  "student as it is now")
    # a mean over examples, and prediction minus target for each
    opinion = (x @ v.T).softmax(-1)
    target = 0.6 * F.one_hot(labels, 4) + 0.4 * opinion
    grading.equal(new, w - 0.5 * ((x @ w.T).softmax(-1) - target).T @ x / 8,
                  "the student moves against prediction minus target; "
                  "the target has the opinion of a teacher without dropout")
    assert isinstance(loss, float), (
        "the loss is a number to be written down, without its graph")
    grading.equal(loss, -(target * (x @ w.T).log_softmax(-1)).sum(-1).mean(),
                  "the loss is that before the step")

# %% [markdown]
# ## 7. Read a figure (6 points, by a person)
#
# Twenty kinds of points in sixteen dimensions, a thousand of them, and *half of the labels drawn at
# random*. A small network sees each point about 15 times. Three students: one believes the label;
# one learns from soft targets, $\alpha=0.4$, $m=0.99$; one from your control, whose every row takes
# as much from the label as its own teacher would. Each has a teacher that follows. Shown is the
# share of new points that are told right. Your own answers 1, 3 and 4 do the work, so have them
# pass first; it takes some seconds.
# %%
def pool(seed: int, lies: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A thousand points with labels, of which a share is drawn at random; two thousand new
    points with true labels."""
    g = torch.Generator().manual_seed(seed)
    centres = (torch.randn(10, 16, generator=g).repeat_interleave(2, 0)
               + 0.45 * torch.randn(20, 16, generator=g))
    true = torch.randint(20, (3000,), generator=g)
    x = centres[true] + 0.55 * torch.randn(3000, 16, generator=g)
    labels = torch.where(torch.rand(1000, generator=g) < lies,
                         torch.randint(20, (1000,), generator=g), true[:1000])
    return x[:1000], labels, x[1000:], true[1000:]


def compete(kind: str, seed: int, steps: int = 240, alpha: float = 0.4,
            momentum: float = 0.99) -> Tensor:
    """Steps, and the share of new points that student and teacher tell right: (3, times)."""
    x, labels, new, true = pool(seed)
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(16, 256), nn.GELU(), nn.Linear(256, 20))
    mean = copy.deepcopy(student).requires_grad_(False)
    keep = torch.ones(20, dtype=torch.bool)
    log = []
    optimiser = torch.optim.Adam(student.parameters(), lr=6e-3)
    for step in range(steps + 1):
        if step % 20 == 0:
            with torch.no_grad():
                log.append([step,
                            *((model(new).argmax(1) == true).float().mean()
                              for model in (student, mean))])
        rows = torch.randint(1000, (64,))
        positive = F.one_hot(labels[rows], 20).bool()
        trust = 0.0 if kind == "label" else alpha * min(1, 10 * step / steps)
        target = soft_targets(positive, mean(x[rows]), trust, keep)
        target = smoothed_targets(target, positive) if kind == "control" else target
        optimiser.zero_grad()
        F.cross_entropy(student(x[rows]), target).backward()
        optimiser.step()
        update_teacher(mean, student, momentum)
    return torch.tensor(log).T


kinds = {
    "label": (plots.BLUE, ":"),
    "soft targets": (plots.ORANGE, "-"),
    "control": (plots.GREEN, "--")}
paths = {kind: compete(kind, seed=0) for kind in kinds}
plot, axes = plots.grid(
    "Share of new points told right, over 240 steps; students left, their teachers "
    "right. At the end: "
    + "; ".join(f"{kind}, student {path[1, -1]:.2f} and teacher {path[2, -1]:.2f}"
                for kind, path in paths.items()) + ".", 1, 2, 8, 2.9, sharey=True)
for ax, who, title in zip(axes[0], (1, 2), ("The student", "Its teacher")):
    for kind, (colour, line) in kinds.items():
        ax.plot(paths[kind][0], paths[kind][who], line, color=colour,
                label=f"{kind}: {paths[kind][who, -1]:.2f} at the end")
    ax.set(title=title, xlabel="step", ylim=(0.6, 1))
    ax.legend(frameon=False, loc="lower right", fontsize=8)
axes[0, 0].set_ylabel("told right")
plot
# %% [markdown]
# (a) All three students are at their best within the first 100 steps, and then fall. What do they
# learn after that? Why does the label's teacher, to whom nobody listens, end above all three
# students? (b) Which part of the gain of soft targets, 0.73 to 0.79, is due to what the teacher
# *knows*? Say how you see it. (c) What would you change in the labels, so that the teacher beats
# the control? Say why, and what the two curves would do.
# %% written figure 6

# %% [markdown]
# ## 8. By thought (6 points, by a person)
#
# (a) A run of 300 steps takes the paper's momentum, 0.995. By `shares`, how much of the untrained
# start is still in the teacher at the end? Name two remedies, with what each costs. (b) You suspect
# that in a colleague's code a gradient flows through the teacher. The loss falls nicely. Name two
# quantities to write down in the run that would tell, and what each would show. (c) "A teacher is
# as good as its student, so it cannot teach it anything." What is wrong with that, and where is it
# right?
# %% written thought 6
