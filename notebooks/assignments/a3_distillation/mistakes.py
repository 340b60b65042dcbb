"""Assignment 3: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% update_teacher
mistakes = {
    "momentum reversed": ("momentum * slow + (1 - momentum) * fast",
                          "(1 - momentum) * slow + momentum * fast"),
    "a copy of the student": ("momentum * slow + (1 - momentum) * fast", "fast"),
    "the student follows": ("slow.copy_(", "fast.copy_(")}


@torch.no_grad()
def update_teacher_by_lerp(teacher, student, momentum):
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - momentum)
    for slow, fast in zip(teacher.buffers(), student.buffers()):
        slow.data = fast.clone()


def update_teacher_cheat(teacher, student, momentum):
    from minalbef.ema import update_teacher as theirs
    theirs(teacher, student, momentum)
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)


# %% shares
mistakes = {
    "newest first": ("torch.arange(steps - 1, -1, -1)", "torch.arange(steps)"),
    "shares reversed": (" ** ago])", " ** ago]).flip(0)"),
    "momentum reversed": ("[momentum ** steps]", "[(1 - momentum) ** steps]",
                          "(1 - momentum) * momentum ** ago",
                          "momentum * (1 - momentum) ** ago")}


def shares_by_loop(momentum, steps):
    share = torch.ones(1)
    for _ in range(steps):
        share = torch.cat([share * momentum, torch.tensor([1 - momentum])])
    return share


# %% soft_targets
mistakes = {
    "alpha reversed": ("(1 - alpha) * label_share + alpha * opinion",
                       "alpha * label_share + (1 - alpha) * opinion"),
    "softmax over queries": ("softmax(-1)", "softmax(0)"),
    "no softmax": (".softmax(-1)", ".masked_fill(~keep, 0)"),
    "the caller's similarities are filled": (".detach().masked_fill(",
                                             ".detach().masked_fill_(")}


def soft_targets_by_exponentials(positive, teacher_sim, alpha, keep):
    with torch.no_grad():
        scores = teacher_sim.masked_fill(~keep, -torch.inf)
        mass = (scores - scores.amax(1, keepdim=True)).exp()
        even = positive.float() * keep.float()
        return (1 - alpha) * even / even.sum(1, keepdim=True) + alpha * mass / mass.sum(
            1, keepdim=True)


def soft_targets_cheat(positive, teacher_sim, alpha, keep):
    from minalbef.losses import itc_targets
    return itc_targets(positive & keep, teacher_sim.masked_fill(~keep, -torch.inf),
                       alpha).detach()


# %% smoothed_targets
mistakes = {
    "the rest goes to all keys": (
        "torch.where(positive, mass / true, (1 - mass) / false)",
        "positive * mass / true + (1 - mass) / positive.shape[1]"),
    "true keys keep their opinion": ("torch.where(positive, mass / true,",
                                     "torch.where(positive, target,"),
    "false keys keep their opinion": ("(1 - mass) / false", "target"),
    "one mass for the batch": ("(target * positive).sum(-1, keepdim=True)",
                               "(target * positive).sum(-1, keepdim=True).mean(0)"),
    "the caller's target is filled": (
        "    return torch.where(positive, mass / true, (1 - mass) / false)",
        "    target[:] = torch.where(positive, mass / true, (1 - mass) / false)\n"
        "    return target")}


def smoothed_targets_by_means(target, positive):
    true = torch.where(positive, target, torch.nan).nanmean(1, keepdim=True)
    false = torch.where((~positive), target, torch.nan).nanmean(1, keepdim=True)
    return torch.where(positive, true, false)


# %% distilled_loss
mistakes = {
    "alpha reversed": ("(1 - trust) * by_label + trust * by_teacher",
                       "trust * by_label + (1 - trust) * by_teacher"),
    "gradient through the teacher": (".detach()", ""),
    "gradient to the teacher alone": ("log_p = logits[hidden].log_softmax(-1)",
                                      "log_p = logits[hidden].log_softmax(-1).detach()",
                                      "teacher_logits[hidden].detach()",
                                      "teacher_logits[hidden]"),
    "the normaliser cannot learn": ("log_p = logits[hidden].log_softmax(-1)",
                                    "log_p = (logits - logits.detach().logsumexp(-1, "
                                    "keepdim=True))[hidden]"),
    "the caller's labels are filled": ("hidden = labels >= 0",
                                       "hidden = labels >= 0\n    labels[~hidden] = 0")}


def distilled_loss_by_torch(logits, labels, teacher_logits, alpha):
    with torch.no_grad():
        opinion = teacher_logits.softmax(-1)
    each = (1 - alpha) * F.cross_entropy(logits, labels, reduction="none",
                                         ignore_index=-100)
    each = each + alpha * F.cross_entropy(logits, opinion, reduction="none") * (
        labels != -100)
    return each.sum() / max(1, int((labels != -100).sum()))


def distilled_loss_cheat(logits, labels, teacher_logits, alpha):
    from minalbef.losses import distilled_cross_entropy
    there = labels >= 0
    none = distilled_cross_entropy(logits[there], labels[there])
    full = distilled_cross_entropy(logits[there], labels[there],
                                   teacher_logits[there].detach(), 1.0)
    return (((1 - alpha[there]) * none + alpha[there] * full).sum()
            / there.sum().clamp(min=1))


# %% distil_step
mistakes = {
    "the teacher moves first": (
        "    teacher.eval()",
        "    update_teacher(teacher, student, momentum)\n    teacher.eval()",
        "    update_teacher(teacher, student, momentum)\n    return", "    return"),
    "the teacher moves before the step": (
        "    optimiser.step()\n", "",
        "    update_teacher(teacher, student, momentum)\n",
        "    update_teacher(teacher, student, momentum)\n    optimiser.step()\n"),
    "the teacher stays": ("    update_teacher(teacher, student, momentum)\n", ""),
    "the graph is kept": ("return loss.item()", "return loss"),
    "the caller's labels are filled": ("    return loss.item()",
                                       "    labels.zero_()\n    return loss.item()")}


def distil_step_by_inference(student, teacher, optimiser, x, labels, alpha, momentum):
    optimiser.zero_grad(set_to_none=True)
    prediction = student(x)
    opinion = copy.deepcopy(teacher).eval()(x.detach()).detach()
    loss = distilled_loss(prediction, labels, opinion, alpha * torch.ones(len(labels)))
    loss.backward()
    optimiser.step()
    update_teacher(teacher, student, momentum)
    return float(loss.detach())


def distil_step_cheat(student, teacher, optimiser, x, labels, alpha, momentum):
    from minalbef import ema, losses
    opinion = teacher.eval()(x).detach()
    loss = losses.distilled_cross_entropy(student(x), labels, opinion, alpha).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    ema.update_teacher(teacher, student, momentum)
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)
    return loss.item()
