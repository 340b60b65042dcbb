"""Assignment 3: a solution of every answer, and model answers to what a person grades."""


# %% answer update_teacher
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float):
    """Move the teacher's weights towards the student's and copy the student's buffers: in
    place, without gradient."""
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters()):
            slow.copy_(momentum * slow + (1 - momentum) * fast)
        for old, new in zip(teacher.buffers(), student.buffers()):
            old.copy_(new)


# %% answer shares
def shares(momentum: float, steps: int) -> Tensor:
    """What of each student is in the teacher after so many steps: -> (1 + steps,), the start
    first, the newest last."""
    ago = torch.arange(steps - 1, -1, -1)
    return torch.cat([torch.tensor([momentum ** steps]),
                      (1 - momentum) * momentum ** ago])


# %% answer soft_targets
def soft_targets(positive: Tensor, teacher_sim: Tensor, alpha: float,
                 keep: Tensor) -> Tensor:
    """What each query should pick: positive (b, k) bool, teacher_sim (b, k), over temperature,
    keep (k,) bool -> (b, k)

    Every query has a true key among those kept.
    """
    label_share = positive & keep
    label_share = label_share / label_share.sum(-1, keepdim=True)
    # (b, k)
    opinion = teacher_sim.detach().masked_fill(~keep, -torch.inf).softmax(-1)
    return (1 - alpha) * label_share + alpha * opinion


# %% answer smoothed_targets
def smoothed_targets(target: Tensor, positive: Tensor) -> Tensor:
    """A soft target without its opinion: target (b, k), rows sum to one, positive (b, k) bool
    -> (b, k).

    Each query has a true key; it may have no false one.
    """
    # what a query's true keys have together, (b, 1)
    mass = (target * positive).sum(-1, keepdim=True)
    true = positive.sum(-1, keepdim=True)
    false = (~positive).sum(-1, keepdim=True).clamp(min=1)
    return torch.where(positive, mass / true, (1 - mass) / false)


# %% answer distilled_loss
def distilled_loss(logits: Tensor, labels: Tensor, teacher_logits: Tensor,
                   alpha: Tensor) -> Tensor:
    """Mean over hidden words: logits, teacher_logits (n, v), labels (n,), -100: not hidden,
    alpha (n,) -> scalar."""
    hidden = labels >= 0
    log_p = logits[hidden].log_softmax(-1)
    trust = alpha[hidden]
    by_label = -log_p.gather(1, labels[hidden][:, None])[:, 0]
    by_teacher = -(teacher_logits[hidden].detach().softmax(-1) * log_p).sum(-1)
    return (((1 - trust) * by_label + trust * by_teacher).sum()
            / hidden.sum().clamp(min=1))


# %% answer distil_step
def distil_step(student: nn.Module, teacher: nn.Module,
                optimiser: torch.optim.Optimizer, x: Tensor, labels: Tensor,
                alpha: float, momentum: float) -> float:
    """One step of distillation: x (n, ...), labels (n,), both models give logits (n, v) -> the
    loss before the step.

    The optimiser holds the student's weights. The student stays in the mode that it is in.
    """
    teacher.eval()
    with torch.no_grad():
        opinion = teacher(x)
    loss = distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    update_teacher(teacher, student, momentum)
    return loss.item()


# %% written figure
# (a) Then they learn the random labels by heart: each point comes up again and again, and what is
# true was learnt in the first steps. (1) The lies differ from batch to batch and pull to and fro;
# the mean of some hundred students has less of each, and it lags: at the end it still holds much of
# students from before the fall. (1) (b) None that can be seen: the control takes as much from the
# label and spreads it evenly, and ends at 0.79, too. One seed; with two others the difference is
# 0.01 at most, where soft targets gain 0.06 to 0.08. What helps here is the doubt. (2) (c) For
# instance: make the lies such that the opinion holds news. Points that belong to two kinds at once
# and whose label names one (as captions leave things out): the teacher gives the other kind its
# share, and the control gives it 1/19 of the rest. Or lies that name the neighbour with which a
# kind shares its centre: mass to the neighbour is then right more often. The teacher's curve should
# lie above the control's from the first steps, not only fall later. (2) A well-founded guess that
# would be tested counts in full.


# %% written thought
# (a) 0.995 to the power of 300 is 0.22. (1) For instance a lower momentum, which averages fewer
# students and trembles more; or one that rises with the steps, one number more to choose; or the
# sum divided by 1 - m^t, started from zero, which gives the first students more weight; or alpha
# kept at 0 until the start has gone, which gives up the teacher's help early. (1) (b) For instance
# the norm of the gradient on the teacher's weights, which must be nothing; the distance from the
# teacher to the mean of past students computed aside, which must be 0 and grows; the entropy of its
# opinion, or its agreement with the labels on examples known to be wrong, which rises as it gives
# in. A falling loss is no sign: it falls faster. (2) (c) It is a mean of many students, and calmer
# than any; it sees the same example with the eyes of before, when the lie was not yet learnt; its
# opinion says more than one label does, which other keys fit. It is right where student and teacher
# share a blindness, as for relations: there an opinion is a shrug, and no new truth comes in except
# from the data. (2)
