# %% [markdown]
# # Assignment 3 · Distillation
#
# **You build the teacher of ALBEF: who it is, what it says, and what no gradient may reach. And you build its control, a label
# smoothing that takes as much from the label as the teacher does, and knows nothing.** Then you let the two compete.
#
# - **Needs:** chapter 05. **Time:** four hours. **Points:** 31 by tests, 12 by a person.
# - Write where it says `raise NotImplementedError()`. Below each answer stand tests that you may run; those that grade you hold
#   more, on numbers of your own. `minalbef` is closed while they run: calling it earns nothing.
# - Letters: b queries, k keys, n places of words, v words of the vocabulary.
# %%
import copy

import grading
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minalbef import plots


# %% [markdown]
# ## 1. The teacher follows (5 points)
#
# After each step every weight of the teacher keeps the share `momentum` of itself and takes the rest from the student's. A
# module may have buffers, too, such as the running mean of a BatchNorm: those are no weights, some are whole numbers, and the
# teacher simply has the student's. (The package has no such layer, and its function leaves buffers alone.)
# %% answer update_teacher
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float):
    """Move the teacher's weights towards the student's and copy the student's buffers: in place, without gradient."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters()):
            slow.copy_(momentum * slow + (1 - momentum) * fast)
        for old, new in zip(teacher.buffers(), student.buffers()):
            old.copy_(new)
    ### END SOLUTION


# %% tests update_teacher 5
def two_alike(g: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """A teacher and a student of one make and with other numbers; they hold weights, and buffers of both kinds."""
    pair = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    for number, module in enumerate(pair):
        for x in (*module.parameters(), *module.buffers()):
            x.data.copy_(torch.rand(x.shape, generator=g) + 1 if x.is_floating_point() else torch.tensor(5 + 4 * number))
    return pair[0].requires_grad_(False), pair[1]


with grading.closed():
    g = grading.inputs()
    teacher, student = two_alike(g)
    held, old, before = teacher[0].weight, copy.deepcopy(teacher), copy.deepcopy(student)
    update_teacher(teacher, student, 0.7)
    assert teacher[0].weight is held, "in place: whoever holds a weight of the teacher must see it move"
    assert held.is_leaf and held.grad_fn is None, "no gradient may lead from the teacher back to the student"
    for mine, theirs in zip(student.state_dict().values(), before.state_dict().values()):
        grading.equal(mine, theirs, "the student stays as it is: the teacher follows, and nobody else")
    frozen, follower = copy.deepcopy(old), copy.deepcopy(old)
    update_teacher(frozen, student, 1.0)
    update_teacher(follower, student, 0.0)
    for kept, mine, was, new in zip(*(list(module.parameters()) for module in (frozen, follower, old, student))):
        grading.equal(kept, was, "with a momentum of one the teacher never moves")
        grading.equal(mine, new, "with a momentum of zero the teacher is the student")
    one, path = nn.Linear(1, 1, bias=False), []
    one.weight.data.fill_(1.0)
    slow = copy.deepcopy(one).requires_grad_(False)
    slow.weight.zero_()
    for _ in range(3):
        update_teacher(slow, one, 0.9)
        path.append(slow.weight.item())
    grading.equal(torch.tensor(path), torch.tensor([0.1, 0.19, 0.271]), "a tenth of what is left of the way, at every step")
    ### BEGIN HIDDEN TESTS
    for mine, theirs in zip(teacher[1].buffers(), student[1].buffers()):
        grading.equal(mine, theirs, "buffers are no weights: the teacher has the student's as they are")
    for mine, was, new in zip(*(list(module.parameters()) for module in (teacher, old, student))):
        grading.equal(mine, new + 0.7 * (was - new), "every weight keeps one share of its distance, bias and norm as well")
    ### END HIDDEN TESTS

# %% instructor update_teacher
mistakes = {
    "momentum reversed": ("momentum * slow + (1 - momentum) * fast", "(1 - momentum) * slow + momentum * fast"),
    "a copy of the student": ("momentum * slow + (1 - momentum) * fast", "fast"),
    "the student follows": ("slow.copy_(", "fast.copy_("),
    "both meet": ("            slow.copy_(momentum * slow + (1 - momentum) * fast)",
                  "            slow.copy_(momentum * slow + (1 - momentum) * fast)\n            fast.copy_(slow)"),
    "shares that are no whole": ("(1 - momentum) * fast", "fast"),
    "a name and no weight": ("slow.copy_(momentum * slow + (1 - momentum) * fast)",
                             "slow = momentum * slow + (1 - momentum) * fast"),
    "gradient through the mean": ("torch.no_grad()", "torch.enable_grad()"),
    "matrices alone": ("            slow.copy_", "            if slow.ndim > 1:\n                slow.copy_"),
    "buffers forgotten": ("old.copy_(new)", "pass"),
    "buffers averaged": ("old.copy_(new)", "old.copy_(momentum * old + (1 - momentum) * new)"),
    "the student gets the buffers": ("old.copy_(new)", "new.copy_(old)"),
    "new weights": ("            slow.copy_(momentum * slow + (1 - momentum) * fast)", "            pass",
                    "        for old", "        for name, x in list(teacher.named_parameters()):\n"
                    "            at, last = name.rpartition('.')[::2]\n"
                    "            mixed = momentum * x + (1 - momentum) * student.get_parameter(name)\n"
                    "            setattr(teacher.get_submodule(at), last, nn.Parameter(mixed, False))\n        for old"),
}


@torch.no_grad()
def update_teacher_by_lerp(teacher, student, momentum):
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - momentum)
    for slow, fast in zip(teacher.buffers(), student.buffers()):
        slow.data = fast.clone()


def update_teacher_by_state(teacher, student, momentum):
    weights, mixed = dict(teacher.named_parameters()), {}
    for name, new in student.state_dict().items():
        mixed[name] = momentum * weights[name].detach() + (1 - momentum) * new if name in weights else new
    teacher.load_state_dict(mixed)


def update_teacher_by_data(teacher, student, momentum):
    slow = dict(teacher.named_parameters()) | dict(teacher.named_buffers())
    for name, p in student.named_parameters():
        slow[name].data.mul_(momentum).add_(p.data, alpha=1 - momentum)
    for name, buffer in student.named_buffers():
        slow[name].data.copy_(buffer.data)


def update_teacher_by_distance(teacher, student, momentum):
    with torch.no_grad():
        for a, b in zip(teacher.modules(), student.modules()):
            for name, p in a.named_parameters(recurse=False):
                p += (1 - momentum) * (getattr(b, name) - p)
            for name, buffer in b.named_buffers(recurse=False):
                getattr(a, name).copy_(buffer)


def update_teacher_cheat(teacher, student, momentum):
    from minalbef.ema import update_teacher as theirs
    theirs(teacher, student, momentum)
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)


# %% [markdown]
# ## 2. Who is in the mean? (3 points)
#
# Unroll the recursion: the teacher is a weighted mean of the model it was copied from and of every student that it followed
# since. What is each one's share?
# %% answer shares
def shares(momentum: float, steps: int) -> Tensor:
    """What of each student is in the teacher after so many steps: -> (1 + steps,), the start first, the newest last."""
    ### BEGIN SOLUTION
    ago = torch.arange(steps - 1, -1, -1)
    return torch.cat([torch.tensor([momentum ** steps]), (1 - momentum) * momentum ** ago])
    ### END SOLUTION


# %% tests shares 3
with grading.closed():
    g = grading.inputs()
    assert shares(0.8, 6).shape == (7,), "the start has a share, and so has each student since"
    grading.equal(shares(0.8, 6)[-1], 0.2, "the newest student stands last, and has what one step gives")
    grading.equal(shares(0.8, 0), torch.ones(1), "before the first step the teacher is its start, and nothing else")
    grading.equal(shares(0.8, 6)[:-1], 0.8 * shares(0.8, 5), "a step leaves the same part of everything that was there")
    grading.equal(shares(0.8, 6).sum(), 1.0, "a mean: all shares together are the whole")
    grading.equal(shares(0.9, 2), torch.tensor([0.81, 0.09, 0.1]), "nine tenths of what was there stay, at every step")
    ### BEGIN HIDDEN TESTS
    for momentum in (0.5 + 0.49 * torch.rand(3, generator=g)).tolist():
        students = torch.randn(13, 4, generator=g)
        teacher = students[0]
        for student in students[1:]:
            teacher = momentum * teacher + (1 - momentum) * student
        grading.equal(shares(momentum, 12) @ students, teacher, "mixed by their shares, the students make the teacher")
    ### END HIDDEN TESTS

# %% instructor shares
mistakes = {
    "newest first": ("torch.arange(steps - 1, -1, -1)", "torch.arange(steps)"),
    "shares reversed": ("torch.cat([torch.tensor([momentum ** steps]), (1 - momentum) * momentum ** ago])",
                        "torch.cat([torch.tensor([momentum ** steps]), (1 - momentum) * momentum ** ago]).flip(0)"),
    "momentum reversed": ("[momentum ** steps]), (1 - momentum) * momentum ** ago",
                          "[(1 - momentum) ** steps]), momentum * (1 - momentum) ** ago"),
    "the start as one of many": ("[momentum ** steps]", "[(1 - momentum) * momentum ** steps]"),
    "the start forgotten": ("torch.cat([torch.tensor([momentum ** steps]), (1 - momentum) * momentum ** ago])",
                            "(1 - momentum) * momentum ** ago"),
    "off by one": ("(1 - momentum) * momentum ** ago", "(1 - momentum) * momentum ** (ago + 1)"),
    "only powers": ("(1 - momentum) * momentum ** ago", "momentum ** ago"),
    "powers made a whole": ("return torch.cat([torch.tensor([momentum ** steps]), (1 - momentum) * momentum ** ago])",
                            "powers = momentum ** torch.arange(steps, -1, -1)\n    return powers / powers.sum()"),
    "all alike": ("(1 - momentum) * momentum ** ago", "(1 - momentum ** steps) / max(1, steps) * torch.ones(steps)"),
    "linear": ("(1 - momentum) * momentum ** ago", "(1 - momentum) * (1 - ago * (1 - momentum))"),
}


def shares_by_loop(momentum, steps):
    share = torch.ones(1)
    for _ in range(steps):
        share = torch.cat([share * momentum, torch.tensor([1 - momentum])])
    return share


def shares_by_products(momentum, steps):
    left = torch.full((steps + 1,), momentum).cumprod(0) / momentum
    newest_first = torch.cat([left[:-1] - left[1:], left[-1:]])
    return newest_first.flip(0)


def shares_by_impulses(momentum, steps):
    students = torch.eye(steps + 1)
    teacher = students[0].clone()
    for student in students[1:]:
        teacher.lerp_(student, 1 - momentum)
    return teacher


def shares_by_list(momentum, steps):
    newest = [(1 - momentum) * momentum ** ago for ago in reversed(range(steps))]
    return torch.tensor([1 - sum(newest), *newest])


# %% [markdown]
# ## 3. Soft targets, and keys that are not there (6 points)
#
# A query's target: its true keys, evenly, with the share $1 - \alpha$; the softmax of the *teacher's* similarities over keys
# with the share $\alpha$. Here the queue has a fixed size, as in ALBEF's own code, and at the start of a run most slots are
# still empty. Where `keep` is False nothing was pushed: whatever stands there, in similarities or in `positive`, is noise, and
# gets no share of either part. Targets are given to the student, so no gradient may reach the teacher.
# %% answer soft_targets
def soft_targets(positive: Tensor, teacher_sim: Tensor, alpha: float, keep: Tensor) -> Tensor:
    """What each query should pick: positive (b, k) bool, teacher_sim (b, k), over temperature, keep (k,) bool -> (b, k).

    Every query has a true key among those kept.
    """
    ### BEGIN SOLUTION
    own = positive & keep
    own = own / own.sum(-1, keepdim=True)
    opinion = teacher_sim.detach().masked_fill(~keep, -torch.inf).softmax(-1)                # (b, k)
    return (1 - alpha) * own + alpha * opinion
    ### END SOLUTION


# %% tests soft_targets 6
with grading.closed():
    g = grading.inputs()
    keep = torch.tensor([True, True, True, True, True, False, False])
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor([7, 7, 3, 5, 3, 7, 9])     # the last but one: noise
    sim, order = 3 * torch.randn(4, 7, generator=g), torch.randperm(7, generator=g)
    target = soft_targets(positive, sim, 0.4, keep)
    assert target.shape == (4, 7), "a row for each query, a share for each key"
    grading.equal(target.sum(-1), torch.ones(4), "a target is a distribution over keys: all shares of a query make a whole")
    grading.equal(target[:, ~keep], torch.zeros(4, 2), "where nothing was pushed there is nothing to pick")
    noise = torch.where(keep, 0, 9 * torch.randn(4, 7, generator=g))
    grading.equal(soft_targets(positive, sim + noise, 0.4, keep), target, "what stands in an empty slot changes nothing")
    grading.equal(soft_targets(positive, sim, 0.0, keep)[:, :5], torch.tensor(
        [[0.5, 0.5, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0, 0.5], [0, 0, 0, 1, 0]]),
                  "without trust in the teacher the true keys have all, evenly, and an empty slot is none of them")
    grading.equal(soft_targets(positive, sim, 1.0, keep), soft_targets(positive.roll(1, 0), sim, 1.0, keep),
                  "with full trust in the teacher the labels are not asked")
    grading.equal(soft_targets(positive, sim + torch.randn(4, 1, generator=g), 0.4, keep), target,
                  "a softmax over keys does not notice that all of a query's similarities rise alike")
    grading.equal(soft_targets(positive[:, order], sim[:, order], 0.4, keep[order]), target[:, order],
                  "the order of the keys means nothing")
    teacher = sim.clone().requires_grad_()
    assert not soft_targets(positive, teacher, 0.4, keep).requires_grad, "no gradient may reach the teacher"
    by_hand = soft_targets(torch.tensor([[True, False, False]]), torch.tensor([[1.0, 8, 1]]).log(), 0.4, torch.ones(3) > 0)
    grading.equal(by_hand, torch.tensor([[0.64, 0.32, 0.04]]), "label and opinion are mixed: the trust is the opinion's share")
    ### BEGIN HIDDEN TESTS
    keep, positive = torch.rand(9, generator=g) < 0.6, torch.rand(5, 9, generator=g) < 0.3
    keep[:2], positive[:, 1] = True, True
    sim = 3 * torch.randn(5, 9, generator=g)
    target, kept = soft_targets(positive, sim, 0.3, keep), keep.nonzero()[:, 0]
    for i in range(5):
        true, mass = positive[i, kept].double(), sim[i, kept].double().exp()
        grading.equal(target[i, kept], 0.7 * true / true.sum() + 0.3 * mass / mass.sum(),
                      "each query's own true keys and its own opinion, among the keys that are there")
    ### END HIDDEN TESTS

# %% instructor soft_targets
mistakes = {
    "alpha reversed": ("(1 - alpha) * own + alpha * opinion", "alpha * own + (1 - alpha) * opinion"),
    "softmax over queries": ("softmax(-1)", "softmax(0)"),
    "no softmax": (".softmax(-1)", ".masked_fill(~keep, 0)"),
    "sigmoid": ("softmax(-1)", "sigmoid()"),
    "gradient through the teacher": (".detach()", ""),
    "every true key in full": ("own / own.sum(-1, keepdim=True)", "own * 1.0"),
    "shared by column": ("own.sum(-1, keepdim=True)", "own.sum(0).clamp(min=1)"),
    "the diagonal alone": ("positive & keep", "torch.eye(*positive.shape, dtype=torch.bool)"),
    "true keys in empty slots": ("positive & keep", "positive"),
    "empty slots have an opinion": (".masked_fill(~keep, -torch.inf)", ""),
    "mask reversed": ("~keep, -torch", "keep, -torch"),
    "empty slots scored zero": ("-torch.inf", "0.0"),
    "mask after the softmax": (".masked_fill(~keep, -torch.inf).softmax(-1)", ".softmax(-1) * keep"),
    "the teacher is not asked about true keys": ("~keep, -torch.inf", "~keep | positive, -torch.inf"),
    "added and not mixed": ("(1 - alpha) * own", "own"),
}


def soft_targets_by_exponentials(positive, teacher_sim, alpha, keep):
    with torch.no_grad():
        mass = (teacher_sim - teacher_sim.max()).exp() * keep
        own = positive.float() * keep.float()
        return (1 - alpha) * own / own.sum(1, keepdim=True) + alpha * mass / mass.sum(1, keepdim=True)


def soft_targets_filled(positive, teacher_sim, alpha, keep):
    target = torch.zeros_like(teacher_sim)
    true = positive[:, keep].float()
    target[:, keep] = torch.lerp(F.normalize(true, p=1, dim=1), F.softmax(teacher_sim[:, keep], dim=1), alpha).detach()
    return target.detach()


def soft_targets_by_two_softmaxes(positive, teacher_sim, alpha, keep):
    never = torch.finfo(teacher_sim.dtype).min
    evenly = torch.where(positive & keep[None], 0.0, never).softmax(1)
    opinion = torch.where(keep[None], teacher_sim, never).softmax(1)
    return (evenly * (1 - alpha) + opinion * alpha).detach()


def soft_targets_by_loop(positive, teacher_sim, alpha, keep):
    rows = []
    for true, sim in zip(positive, teacher_sim.tolist()):
        sim = torch.tensor([s if there else -1e9 for s, there in zip(sim, keep)])
        true = torch.logical_and(true, keep)
        rows.append(alpha * sim.softmax(0) + (1 - alpha) * true / int(true.sum()))
    return torch.stack(rows)


def soft_targets_cheat(positive, teacher_sim, alpha, keep):
    from minalbef.losses import itc_targets
    return itc_targets(positive & keep, teacher_sim.masked_fill(~keep, -torch.inf), alpha).detach()


# %% [markdown]
# ## 4. The control: as much doubt, and no knowledge (6 points)
#
# A soft target does two things: it takes some mass from the label, and it says *where* that mass goes. Label smoothing does the
# first alone. A fair control takes exactly as much, from each query, as its own teacher did. So: in each row the true keys
# together have what they had in the soft target, and share it evenly; the false ones together have the rest, and share that
# evenly. The package has no such function.
# %% answer smoothed_targets
def smoothed_targets(target: Tensor, positive: Tensor) -> Tensor:
    """A soft target without its opinion: target (b, k), rows sum to one, positive (b, k) bool -> (b, k).

    Each query has a true key; it may have no false one.
    """
    ### BEGIN SOLUTION
    mass = (target * positive).sum(-1, keepdim=True)             # (b, 1), what its true keys have together
    true, false = positive.sum(-1, keepdim=True), (~positive).sum(-1, keepdim=True).clamp(min=1)
    return torch.where(positive, mass / true, (1 - mass) / false)
    ### END SOLUTION


# %% tests smoothed_targets 6
with grading.closed():
    g = grading.inputs()
    positive = torch.tensor([7, 7, 3, 5])[:, None] == torch.tensor([7, 7, 3, 5, 3, 9])
    target = 0.5 * positive / positive.sum(-1, keepdim=True) + 0.5 * (2 * torch.randn(4, 6, generator=g)).softmax(-1)
    order, smooth = torch.randperm(6, generator=g), smoothed_targets(target, positive)
    assert smooth.shape == (4, 6), "a row for each query, a share for each key"
    grading.equal(smooth.sum(-1), torch.ones(4), "a target is a distribution over keys: all shares of a query make a whole")
    grading.equal((smooth * positive).sum(-1), (target * positive).sum(-1),
                  "the true keys together keep what the teacher left them, each query for itself")
    for row, true in zip(smooth, positive):
        grading.equal(row[true], row[true].mean().expand(int(true.sum())),
                      "true keys share evenly, whatever the teacher thought")
        grading.equal(row[~true], row[~true].mean().expand(int((~true).sum())),
                      "false keys share evenly: that is the control")
    grading.equal(smoothed_targets(smooth, positive), smooth, "what has no opinion stays as it is")
    grading.equal(smoothed_targets(target[:, order], positive[:, order]), smooth[:, order],
                  "the order of the keys means nothing")
    grading.equal(smoothed_targets(torch.tensor([[0.7, 0.25, 0.05]]), torch.tensor([[True, False, False]])),
                  torch.tensor([[0.7, 0.15, 0.15]]), "a label keeps its share, and two false keys halve the rest")
    ### BEGIN HIDDEN TESTS
    only = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    by_hand = smoothed_targets(only, torch.tensor([[True, True], [False, True]]))
    assert by_hand.isfinite().all(), "a query whose keys are all true has no rest to spread, and that is no reason for NaN"
    grading.equal(by_hand, torch.tensor([[0.5, 0.5], [0.8, 0.2]]), "where all keys are true they share the whole")
    positive = torch.rand(5, 8, generator=g) < 0.4
    positive[:, 0], positive[:, 1] = True, False
    target = torch.randn(5, 8, generator=g).softmax(-1)
    want = torch.stack([torch.stack([row[true == own].mean() for own in true]) for row, true in zip(target, positive)])
    grading.equal(smoothed_targets(target, positive), want, "each key has the mean of its kind in its own row")
    ### END HIDDEN TESTS

# %% instructor smoothed_targets
mistakes = {
    "the rest goes to all keys": ("torch.where(positive, mass / true, (1 - mass) / false)",
                                  "positive * mass / true + (1 - mass) / positive.shape[1]"),
    "true keys keep their opinion": ("torch.where(positive, mass / true,", "torch.where(positive, target,"),
    "false keys keep their opinion": ("(1 - mass) / false", "target"),
    "one mass for the batch": (".sum(-1, keepdim=True)             #", ".sum(-1, keepdim=True).mean(0)             #"),
    "a fixed mass": ("(target * positive).sum(-1, keepdim=True)", "torch.full((len(target), 1), 0.9)"),
    "true and false change places": ("torch.where(positive", "torch.where(~positive"),
    "masses change places": ("mass / true, (1 - mass) / false", "(1 - mass) / true, mass / false"),
    "every true key has all of it": ("mass / true", "mass"),
    "divided by all keys": ("(1 - mass) / false", "(1 - mass) / positive.shape[1]"),
    "the diagonal alone": ("(target * positive)", "(target * torch.eye(*target.shape))"),
    "mean for sum": ("(target * positive).sum(-1, keepdim=True)", "(target * positive).mean(-1, keepdim=True)"),
    "the largest for the sum": ("(target * positive).sum(-1, keepdim=True)", "(target * positive).amax(-1, keepdim=True)"),
    "NaN where nothing is false": ("return torch.where(positive, mass / true, (1 - mass) / false)",
                                   "false = (~positive).sum(-1, keepdim=True)\n"
                                   "    return positive * mass / true + ~positive * ((1 - mass) / false)"),
    "by column": ("(~positive).sum(-1, keepdim=True)", "(~positive).sum(0)"),
}


def smoothed_targets_by_means(target, positive):
    true, false = (torch.where(kind, target, torch.nan).nanmean(1, keepdim=True) for kind in (positive, ~positive))
    return torch.where(positive, true, false)


def smoothed_targets_by_loop(target, positive):
    out = target.clone()
    for row, true in zip(out, positive):
        for kind in (true, ~true):
            if kind.any():
                row[kind] = row[kind].sum() / kind.sum()
    return out


def smoothed_targets_by_projection(target, positive):
    alike = (positive[:, :, None] == positive[:, None]).float()                  # (b, k, k): keys of one kind
    return torch.einsum("bij,bj->bi", alike / alike.sum(-1, keepdim=True), target)


def smoothed_targets_by_mixing(target, positive):
    own, rest = (F.normalize(kind.float(), p=1, dim=1) for kind in (positive, positive.logical_not()))
    doubt = 1 - target.masked_fill(~positive, 0).sum(1, keepdim=True)
    return own * (1 - doubt) + rest * doubt


# %% [markdown]
# ## 5. A hidden word, and trust that differs (5 points)
#
# At each place a word is hidden, or none is: then its label is -100, and the place counts for nothing. The loss of a hidden
# word is $(1 - \alpha)$ times the cross-entropy to the word, and $\alpha$ times that to the teacher's softmax over words.
# Unlike in the package, every place has an $\alpha$ of its own. The loss is the mean over hidden words; where none is hidden it
# is 0.
# %% answer distilled_loss
def distilled_loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: Tensor) -> Tensor:
    """Mean over hidden words: logits, teacher_logits (n, v), labels (n,), -100 where none is hidden, alpha (n,) -> scalar."""
    ### BEGIN SOLUTION
    hidden = labels >= 0
    log_p, trust = logits[hidden].log_softmax(-1), alpha[hidden]
    by_label = -log_p.gather(1, labels[hidden][:, None])[:, 0]
    by_teacher = -(teacher_logits[hidden].detach().softmax(-1) * log_p).sum(-1)
    return ((1 - trust) * by_label + trust * by_teacher).sum() / hidden.sum().clamp(min=1)
    ### END SOLUTION


# %% tests distilled_loss 5
with grading.closed():
    g = grading.inputs()
    logits, teacher = (3 * torch.randn(6, 5, generator=g) for _ in range(2))
    labels, alpha = torch.tensor([3, -100, 0, 4, -100, 3]), 0.1 + 0.8 * torch.rand(6, generator=g)
    loss = distilled_loss(logits, labels, teacher, alpha)
    assert loss.shape == (), "a loss is one number"
    grading.equal(distilled_loss(logits.repeat(2, 1), labels.repeat(2), teacher.repeat(2, 1), alpha.repeat(2)), loss,
                  "a mean over hidden words: every place twice changes nothing")
    hidden = labels >= 0
    grading.equal(distilled_loss(logits[hidden], labels[hidden], teacher[hidden], alpha[hidden]), loss,
                  "a place where no word is hidden counts for nothing, in the sum and in the number")
    grading.equal(distilled_loss(logits, labels, 9 * teacher, 0 * alpha), distilled_loss(logits, labels, teacher, 0 * alpha),
                  "without trust the teacher is not heard")
    grading.equal(distilled_loss(logits, labels.where(labels < 0, 1), teacher, alpha ** 0),
                  distilled_loss(logits, labels, teacher, alpha ** 0), "with full trust the word itself is not asked")
    mine, theirs = logits.clone().requires_grad_(), teacher.clone().requires_grad_()
    distilled_loss(mine, labels, theirs, alpha).backward()
    assert theirs.grad is None or not theirs.grad.any(), "no gradient may reach the teacher"
    assert mine.grad[hidden].any() and not mine.grad[~hidden].any(), "the student learns at hidden words, and nowhere else"
    # the student says 1/2, 1/4, 1/4; the teacher 1/4, 1/2, 1/4; the word is the first, and the trust is a half
    mine, theirs = torch.tensor([[[2.0, 1, 1]], [[1, 2, 1]]]).log()
    by_hand = distilled_loss(mine, torch.tensor([0]), theirs, torch.tensor([0.5]))
    grading.equal(by_hand, torch.tensor(2.0).log() * (0.5 * 1 + 0.5 * (0.25 + 2 * 0.5 + 2 * 0.25)),
                  "half the cross-entropy to the word, half the one to the teacher's opinion")
    ### BEGIN HIDDEN TESTS
    grading.equal(distilled_loss(logits, labels * 0 - 100, teacher, alpha), 0.0,
                  "where nothing is hidden there is nothing to pay")
    assert distilled_loss(1000 * logits, labels, teacher, alpha).isfinite(), \
        "a confident mistake is dear, but no infinity: stay in logarithms"

    def formula(logits, labels, teacher, alpha):
        costs = []
        for row, label, opinion, a in zip(logits, labels, teacher.detach(), alpha):
            if label != -100:
                target = a * (opinion - opinion.logsumexp(0)).exp() + (1 - a) * torch.eye(len(row))[label]
                costs.append(row.logsumexp(0) - target @ row)    # as the target sums to one
        return torch.stack(costs).mean()

    grading.same(distilled_loss, formula, logits, labels, teacher, alpha,
                 says="each hidden word by its own trust, to the mixed target, with the student's gradient alone")
    ### END HIDDEN TESTS

# %% instructor distilled_loss
mistakes = {
    "alpha reversed": ("(1 - trust) * by_label + trust * by_teacher", "trust * by_label + (1 - trust) * by_teacher"),
    "gradient through the teacher": (".detach()", ""),
    "gradient to the teacher alone": ("logits[hidden].log_softmax(-1), alpha", "logits[hidden].log_softmax(-1).detach(), alpha",
                                      "teacher_logits[hidden].detach()", "teacher_logits[hidden]"),
    "mean over all places": ("hidden.sum().clamp(min=1)", "len(labels)"),
    "sum for mean": (" / hidden.sum().clamp(min=1)", ""),
    "places without a word are taught": ("hidden = labels >= 0", "hidden, labels = labels > -999, labels.clamp(min=0)"),
    "the first word is skipped": ("labels >= 0", "labels > 0"),
    "softmax over places": ("detach().softmax(-1)", "detach().softmax(0)"),
    "the student's softmax over places": ("logits[hidden].log_softmax(-1), alpha", "logits[hidden].log_softmax(0), alpha"),
    "the student is its own teacher": ("teacher_logits[hidden]", "logits[hidden]"),
    "the teacher's favourite": ("teacher_logits[hidden].detach().softmax(-1)",
                                "(1e4 * teacher_logits[hidden].detach()).softmax(-1)"),
    "one trust for all": ("alpha[hidden]", "alpha.mean()"),
    "added and not mixed": ("(1 - trust) * by_label", "by_label"),
    "logarithm of a softmax": ("log_p, trust = logits[hidden].log_softmax(-1)",
                              "log_p, trust = logits[hidden].softmax(-1).log()"),
    "NaN where nothing is hidden": (".clamp(min=1)", ""),
    "mean over words of the vocabulary": ("* log_p).sum(-1)", "* log_p).mean(-1)"),
}


def distilled_loss_by_torch(logits, labels, teacher_logits, alpha):
    with torch.no_grad():
        opinion = teacher_logits.softmax(-1)
    each = (1 - alpha) * F.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
    each = each + alpha * F.cross_entropy(logits, opinion, reduction="none") * (labels != -100)
    return each.sum() / max(1, int((labels != -100).sum()))


def distilled_loss_by_target(logits, labels, teacher_logits, alpha):
    at = torch.nonzero(labels != -100)[:, 0]
    if len(at) == 0:
        return logits.sum() * 0
    target = torch.zeros_like(logits[at]).scatter(1, labels[at, None], 1.0)
    target = torch.lerp(target, F.softmax(teacher_logits[at], 1).detach(), alpha[at, None])
    return F.cross_entropy(logits[at], target)


def distilled_loss_by_divergence(logits, labels, teacher_logits, alpha):
    log_p, log_q = F.log_softmax(logits, 1), F.log_softmax(teacher_logits.detach(), 1)
    divergence = F.kl_div(log_p, log_q, log_target=True, reduction="none").sum(1) - (log_q.exp() * log_q).sum(1)
    by_label = F.nll_loss(log_p, labels, reduction="none")
    there = (labels > -1).float()
    return (there * (by_label + alpha * (divergence - by_label))).sum() / there.sum().clamp(min=1)


def distilled_loss_by_loop(logits, labels, teacher_logits, alpha):
    total, count = torch.zeros(()), 0
    for row, label, opinion, a in zip(logits, labels.tolist(), teacher_logits.detach(), alpha):
        if label < 0:
            continue
        log_p = row - row.logsumexp(0)
        total = total - (1 - a) * log_p[label] - a * (opinion.softmax(0) @ log_p)
        count += 1
    return total / count if count else total


def distilled_loss_cheat(logits, labels, teacher_logits, alpha):
    from minalbef.losses import distilled_cross_entropy
    there = labels >= 0
    none = distilled_cross_entropy(logits[there], labels[there])
    full = distilled_cross_entropy(logits[there], labels[there], teacher_logits[there].detach(), 1.0)
    return ((1 - alpha[there]) * none + alpha[there] * full).sum() / there.sum().clamp(min=1)


# %% [markdown]
# ## 6. One step, in order (6 points)
#
# All of it at once: the teacher, with its dropout off, gives its opinion of `x`; the student learns from labels and opinion, by
# what you wrote in 5, with one trust for all; the optimiser steps; and after that, once, the teacher follows, by what you wrote
# in 1. What the student's gradients held before does not matter. `x` may come from a part that learns, too: its gradient comes
# through the student alone.
# %% answer distil_step
def distil_step(student: nn.Module, teacher: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor,
                alpha: float, momentum: float) -> float:
    """One step of distillation: x (n, ...), labels (n,), both models give logits (n, v) -> the loss before the step.

    The optimiser holds the student's weights. The student stays in the mode that it is in.
    """
    ### BEGIN SOLUTION
    teacher.eval()
    with torch.no_grad():
        opinion = teacher(x)
    loss = distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    update_teacher(teacher, student, momentum)
    return loss.item()
    ### END SOLUTION


# %% tests distil_step 6
def beginning(g: torch.Generator) -> tuple:
    """A student, a teacher of other weights with dropout, an optimiser, x and labels."""
    student, teacher = (nn.Sequential(nn.Dropout(p), nn.Linear(3, 4, bias=False)) for p in (0.0, 0.5))
    for module in (student, teacher):
        module[1].weight.data = torch.randn(4, 3, generator=g)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    return student, teacher, optimiser, torch.randn(8, 3, generator=g), torch.randint(4, (8,), generator=g)


with grading.closed():
    g = grading.inputs()
    student, teacher, optimiser, x, labels = beginning(g)
    w, v = (module[1].weight.detach().clone() for module in (student, teacher))
    twins = copy.deepcopy((student, teacher))
    loss = distil_step(student, teacher, optimiser, x, labels, 0.4, 0.9)
    new, mean = (module[1].weight.detach() for module in (student, teacher))
    assert not torch.equal(new, w), "the student has made a step"
    assert student.training, "the student stays in the mode that it was in"
    assert all(p.grad is None or not p.grad.any() for p in teacher.parameters()), "no gradient may reach the teacher"
    grading.equal(mean, 0.9 * v + 0.1 * new, "the teacher follows once, after the step: it meets the student as it is now")
    opinion = (x @ v.T).softmax(-1)                              # a mean over examples, and prediction minus target for each
    target = 0.6 * F.one_hot(labels, 4) + 0.4 * opinion
    grading.equal(new, w - 0.5 * ((x @ w.T).softmax(-1) - target).T @ x / 8,
                  "the student moves against prediction minus target; the target has the opinion of a teacher without dropout")
    assert isinstance(loss, float), "the loss is a number to be written down, without its graph"
    grading.equal(loss, -(target * (x @ w.T).log_softmax(-1)).sum(-1).mean(), "the loss is that before the step")
    ### BEGIN HIDDEN TESTS
    student, teacher = twins
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    student[1].weight.grad = torch.randn(4, 3, generator=g)                              # left over from something else
    seen = x.clone().requires_grad_()
    distil_step(student, teacher, optimiser, seen, labels, 0.4, 0.9)
    grading.equal(student[1].weight, new, "gradients left over from before do not count")
    assert seen.grad is not None, "what lies below the student learns, too"
    grading.equal(seen.grad, ((x @ w.T).softmax(-1) - target) @ w / 8, "what lies below learns through the student alone")
    second = distil_step(student, teacher, optimiser, x, labels, 0.4, 0.9)
    target = 0.6 * F.one_hot(labels, 4) + 0.4 * (x @ mean.T).softmax(-1)
    grading.equal(second, -(target * (x @ new.T).log_softmax(-1)).sum(-1).mean(),
                  "the next step asks the teacher as it is then")
    ### END HIDDEN TESTS

# %% instructor distil_step
mistakes = {
    "the teacher moves first": ("    teacher.eval()", "    update_teacher(teacher, student, momentum)\n    teacher.eval()",
                                "    update_teacher(teacher, student, momentum)\n    return", "    return"),
    "the teacher moves before the step": ("    optimiser.step()\n", "", "    update_teacher(teacher, student, momentum)\n",
                                          "    update_teacher(teacher, student, momentum)\n    optimiser.step()\n"),
    "the teacher stays": ("    update_teacher(teacher, student, momentum)\n", ""),
    "the teacher moves twice": ("    update_teacher(teacher, student, momentum)\n",
                                "    update_teacher(teacher, student, momentum)\n"
                                "    update_teacher(teacher, student, momentum)\n"),
    "the student follows": ("update_teacher(teacher, student, momentum)", "update_teacher(student, teacher, momentum)"),
    "momentum reversed": ("student, momentum)\n    return", "student, 1 - momentum)\n    return"),
    "a teacher that draws lots": ("teacher.eval()", "teacher.train()"),
    "the student in the teacher's mode": ("teacher.eval()", "teacher.eval(), student.eval()"),
    "gradient through the teacher": (
        "torch.no_grad()", "torch.enable_grad()",
        "distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))",
        "F.cross_entropy(student(x), (1 - alpha) * F.one_hot(labels, opinion.shape[1]) + alpha * opinion.softmax(-1))"),
    "gradient around the student": (
        "torch.no_grad()", "torch.enable_grad()", "opinion = teacher(x)", "opinion = x @ teacher[1].weight.detach().T",
        "distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))",
        "F.cross_entropy(student(x), (1 - alpha) * F.one_hot(labels, opinion.shape[1]) + alpha * opinion.softmax(-1))"),
    "gradients pile up": ("    optimiser.zero_grad()\n", ""),
    "no step": ("    optimiser.step()\n", ""),
    "gradients forgotten before they are used": ("    optimiser.zero_grad()\n    loss.backward()\n",
                                                 "    loss.backward()\n    optimiser.zero_grad()\n"),
    "alpha reversed": ("torch.full(labels.shape, alpha)", "torch.full(labels.shape, 1 - alpha)"),
    "the student is its own teacher": ("opinion = teacher(x)", "opinion = student(x)"),
    "the graph is kept": ("return loss.item()", "return loss"),
    "the loss after the step": ("return loss.item()",
                                "return distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha)).item()"),
    "what lies below is cut off": ("distilled_loss(student(x)", "distilled_loss(student(x.detach())"),
}


def distil_step_by_inference(student, teacher, optimiser, x, labels, alpha, momentum):
    optimiser.zero_grad(set_to_none=True)
    prediction = student(x)
    opinion = copy.deepcopy(teacher).eval()(x.detach()).detach()
    loss = distilled_loss(prediction, labels, opinion, alpha * torch.ones(len(labels)))
    loss.backward()
    optimiser.step()
    update_teacher(teacher, student, momentum)
    return float(loss.detach())


def distil_step_by_target(student, teacher, optimiser, x, labels, alpha, momentum):
    mode = teacher.training
    teacher.train(False)
    with torch.no_grad():
        opinion = F.softmax(teacher(x), dim=-1)
        target = (1 - alpha) * F.one_hot(labels, opinion.shape[-1]) + alpha * opinion
    teacher.train(mode)
    loss = F.cross_entropy(student(x), target)
    for p in student.parameters():
        p.grad = None
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters()):
            slow.lerp_(fast, 1 - momentum)
    return loss.item()


def distil_step_by_closure(student, teacher, optimiser, x, labels, alpha, momentum):
    opinion = torch.no_grad()(teacher.eval())(x)

    def closure():
        optimiser.zero_grad()
        loss = distilled_loss(student(x), labels, opinion, torch.tensor(alpha).expand(len(labels)))
        loss.backward()
        return loss

    before = optimiser.step(closure).item()
    update_teacher(teacher, student, momentum)
    return before


def distil_step_in_parts(student, teacher, optimiser, x, labels, alpha, momentum):
    optimiser.zero_grad()
    teacher.requires_grad_(False).eval()
    log_p = student(x).log_softmax(-1)
    by_teacher = -(teacher(x).detach().softmax(-1) * log_p).sum(-1).mean()
    loss = (1 - alpha) * F.nll_loss(log_p, labels) + alpha * by_teacher
    loss.backward()
    optimiser.step()
    update_teacher(teacher, student, momentum)
    return loss.detach().item()


def distil_step_cheat(student, teacher, optimiser, x, labels, alpha, momentum):
    from minalbef import ema, losses
    opinion = teacher.eval()(x).detach()
    loss = losses.distilled_cross_entropy(student(x), labels, opinion, alpha).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    ema.update_teacher(teacher, student, momentum)
    return loss.item()


# %% [markdown]
# ## 7. Read a figure (6 points, by a person)
#
# Twenty kinds of points in sixteen dimensions, a thousand of them, and *half of the labels drawn at random*. A small network
# sees each point about 15 times. Three students: one believes the label; one learns from soft targets, $\alpha=0.4$, $m=0.99$;
# one from your control, whose every row takes as much from the label as its own teacher would. Each has a teacher that follows.
# Shown is the share of new points that are told right. Your own answers 1, 3 and 4 do the work, so have them pass first; it
# takes some seconds.
# %%
def pool(seed: int, lies: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A thousand points with labels, of which a share is drawn at random; two thousand new points with true labels."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, 16, generator=g).repeat_interleave(2, 0) + 0.45 * torch.randn(20, 16, generator=g)
    true = torch.randint(20, (3000,), generator=g)
    x = centres[true] + 0.55 * torch.randn(3000, 16, generator=g)
    said = torch.where(torch.rand(1000, generator=g) < lies, torch.randint(20, (1000,), generator=g), true[:1000])
    return x[:1000], said, x[1000:], true[1000:]


def compete(kind: str, seed: int, steps: int = 240, alpha: float = 0.4, momentum: float = 0.99) -> Tensor:
    """Steps, and the share of new points that student and teacher tell right: (3, times)."""
    x, said, new, true = pool(seed)
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(16, 256), nn.GELU(), nn.Linear(256, 20))
    mean, keep, log = copy.deepcopy(student).requires_grad_(False), torch.ones(20, dtype=torch.bool), []
    optimiser = torch.optim.Adam(student.parameters(), lr=6e-3)
    for step in range(steps + 1):
        if step % 20 == 0:
            with torch.no_grad():
                log.append([step, *((model(new).argmax(1) == true).float().mean() for model in (student, mean))])
        rows = torch.randint(1000, (64,))
        own = F.one_hot(said[rows], 20).bool()
        trust = 0.0 if kind == "label" else alpha * min(1, 10 * step / steps)
        target = soft_targets(own, mean(x[rows]), trust, keep)
        target = smoothed_targets(target, own) if kind == "control" else target
        optimiser.zero_grad()
        F.cross_entropy(student(x[rows]), target).backward()
        optimiser.step()
        update_teacher(mean, student, momentum)
    return torch.tensor(log).T


kinds = {"label": (plots.BLUE, ":"), "soft targets": (plots.ORANGE, "-"), "control": (plots.GREEN, "--")}
paths = {kind: compete(kind, seed=0) for kind in kinds}
plot, axes = plots.grid("Share of new points told right, over 240 steps; students left, their teachers right. At the end: "
                        + "; ".join(f"{kind}, student {path[1, -1]:.2f} and teacher {path[2, -1]:.2f}"
                                    for kind, path in paths.items()) + ".", 1, 2, 8, 2.9, sharey=True)
for ax, who, title in zip(axes[0], (1, 2), ("The student", "Its teacher")):
    for kind, (colour, line) in kinds.items():
        ax.plot(paths[kind][0], paths[kind][who], line, color=colour, label=f"{kind}: {paths[kind][who, -1]:.2f} at the end")
    ax.set(title=title, xlabel="step", ylim=(0.6, 1))
    ax.legend(frameon=False, loc="lower right", fontsize=8)
axes[0, 0].set_ylabel("told right")
plot
# %% [markdown]
# (a) All three students are at their best within the first 100 steps, and then fall. What do they learn after that? Why does
# the label's teacher, to whom nobody listens, end above all three students? (b) Which part of the gain of soft targets, 0.73 to
# 0.79, is due to what the teacher *knows*? Say how you see it. (c) What would you change in the labels, so that the teacher
# beats the control? Say why, and what the two curves would do.
# %% written figure 6
# (a) Then they learn the random labels by heart: each point comes up again and again, and what is true was learnt in the first
# steps. (1) The lies differ from batch to batch and pull to and fro; the mean of some hundred students has less of each, and it
# lags: at the end it still holds much of students from before the fall. (1) (b) None that can be seen: the control takes as
# much from the label and spreads it evenly, and ends at 0.79, too. One seed; with two others the difference is 0.01 at most,
# where soft targets gain 0.06 to 0.08. What helps here is the doubt. (2) (c) For instance: make the lies such that the opinion
# holds news. Points that belong to two kinds at once and whose label names one (as captions leave things out): the teacher
# gives the other kind its share, and the control gives it 1/19 of the rest. Or lies that name the neighbour with which a kind
# shares its centre: mass to the neighbour is then right more often. The teacher's curve should lie above the control's from the
# first steps, not only fall later. (2) A well-founded guess that would be tested counts in full.
# %% [markdown]
# ## 8. By thought (6 points, by a person)
#
# (a) A run of 300 steps takes the paper's momentum, 0.995. By `shares`, how much of the untrained start is still in the teacher
# at the end? Name two remedies, with what each costs. (b) You suspect that in a colleague's code a gradient flows through the
# teacher. The loss falls nicely. Name two quantities to write down in the run that would tell, and what each would show. (c) "A
# teacher is as good as its student, so it cannot teach it anything." What is wrong with that, and where is it right?
# %% written thought 6
# (a) 0.995 to the power of 300 is 0.22. (1) For instance a lower momentum, which averages fewer students and trembles more; or
# one that rises with the steps, one number more to choose; or the sum divided by 1 - m^t, started from zero, which gives the
# first students more weight; or alpha kept at 0 until the start has gone, which gives up the teacher's help early. (1) (b) For
# instance the norm of the gradient on the teacher's weights, which must be nothing; the distance from the teacher to the mean
# of past students computed aside, which must be 0 and grows; the entropy of its opinion, or its agreement with the labels on
# examples known to be wrong, which rises as it gives in. A falling loss is no sign: it falls faster. (2) (c) It is a mean of
# many students, and calmer than any; it sees the same example with the eyes of before, when the lie was not yet learnt; its
# opinion says more than one label does, which other keys fit. It is right where student and teacher share a blindness, as for
# relations: there an opinion is a shrug, and no new truth comes in except from the data. (2)
