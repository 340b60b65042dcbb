"""Assignment 3: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% update_teacher
mistakes = {
    "momentum reversed": ("momentum * slow + (1 - momentum) * fast",
                          "(1 - momentum) * slow + momentum * fast"),
    "a copy of the student": ("momentum * slow + (1 - momentum) * fast", "fast"),
    "the student follows": ("slow.copy_(", "fast.copy_("),
    "both meet": ("            slow.copy_(momentum * slow + (1 - momentum) * fast)",
                  "            slow.copy_(momentum * slow + (1 - momentum) * fast)\n"
                  "            fast.copy_(slow)"),
    "shares that are no whole": ("(1 - momentum) * fast", "fast"),
    "a name and no weight": ("slow.copy_(momentum * slow + (1 - momentum) * fast)",
                             "slow = momentum * slow + (1 - momentum) * fast"),
    "gradient through the mean": ("torch.no_grad()", "torch.enable_grad()"),
    "matrices alone": ("            slow.copy_",
                       "            if slow.ndim > 1:\n                slow.copy_"),
    "buffers forgotten": ("old.copy_(new)", "pass"),
    "buffers averaged": ("old.copy_(new)",
                         "old.copy_(momentum * old + (1 - momentum) * new)"),
    "the student gets the buffers": ("old.copy_(new)", "new.copy_(old)"),
    "new weights": ("            slow.copy_(momentum * slow + (1 - momentum) * fast)",
                    "            pass", "        for old",
                    "        for name, x in list(teacher.named_parameters()):\n"
                    "            at, last = name.rpartition('.')[::2]\n"
                    "            mixed = momentum * x + (1 - momentum) * "
                    "student.get_parameter(name)\n"
                    "            setattr(teacher.get_submodule(at), last, "
                    "nn.Parameter(mixed, False))\n" "        for old"),
    "frozen weights stay behind": ("            slow.copy_(momentum",
                                   "            if fast.requires_grad:\n"
                                   "                slow.copy_(momentum"),
    "whole numbers stay behind": ("            old.copy_(new)",
                                  "            if old.is_floating_point():\n"
                                  "                old.copy_(new)"),
    "no buffers at a momentum of one": ("        for old, new",
                                        "        for old, new in () if momentum "
                                        "== 1 else [\n"
                                        "                (old, new) for old, new",
                                        "student.buffers()):", "student.buffers())]:"),
    "buffers shared with the student": ("old.copy_(new)", "old.data = new.data"),
    "the teacher in training": ("    with torch.no_grad():\n",
                                "    teacher.train()\n    with torch.no_grad():\n"),
    "the student in evaluation": ("    with torch.no_grad():\n",
                                  "    student.eval()\n    with torch.no_grad():\n"),
    "the teacher's weights learn": ("    with torch.no_grad():\n",
                                    "    teacher.requires_grad_()\n"
                                    "    with torch.no_grad():\n"),
    "the student's gradients are cleared": ("    with torch.no_grad():\n",
                                            "    student.zero_grad()\n"
                                            "    with torch.no_grad():\n"),
    "the student is frozen": ("    with torch.no_grad():\n",
                              "    student.requires_grad_(False)\n"
                              "    with torch.no_grad():\n")}


@torch.no_grad()
def update_teacher_by_lerp(teacher, student, momentum):
    for slow, fast in zip(teacher.parameters(), student.parameters()):
        slow.lerp_(fast, 1 - momentum)
    for slow, fast in zip(teacher.buffers(), student.buffers()):
        slow.data = fast.clone()


def update_teacher_by_state(teacher, student, momentum):
    weights = dict(teacher.named_parameters())
    mixed = {}
    for name, new in student.state_dict().items():
        mixed[name] = (momentum * weights[name].detach() + (1 - momentum) * new
                       if name in weights else new)
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


# %% shares
mistakes = {
    "newest first": ("torch.arange(steps - 1, -1, -1)", "torch.arange(steps)"),
    "shares reversed": (" ** ago])", " ** ago]).flip(0)"),
    "momentum reversed": ("[momentum ** steps]", "[(1 - momentum) ** steps]",
                          "(1 - momentum) * momentum ** ago",
                          "momentum * (1 - momentum) ** ago"),
    "the start as one of many": ("[momentum ** steps]",
                                 "[(1 - momentum) * momentum ** steps]"),
    "the start forgotten": ("torch.cat([torch.tensor([momentum ** steps]),",
                            "torch.cat(["),
    "off by one": ("(1 - momentum) * momentum ** ago",
                   "(1 - momentum) * momentum ** (ago + 1)"),
    "only powers": ("(1 - momentum) * momentum ** ago", "momentum ** ago"),
    "powers made a whole": ("return torch.cat(",
                            "powers = momentum ** torch.arange(steps, -1, -1)\n"
                            "    return powers / powers.sum()\n"
                            "    torch.cat("),
    "all alike": ("(1 - momentum) * momentum ** ago",
                  "(1 - momentum ** steps) / max(1, steps) * torch.ones(steps)"),
    "linear": ("(1 - momentum) * momentum ** ago",
               "(1 - momentum) * (1 - ago * (1 - momentum))")}


def shares_by_loop(momentum, steps):
    share = torch.ones(1)
    for _ in range(steps):
        share = torch.cat([share * momentum, torch.tensor([1 - momentum])])
    return share


def shares_by_products(momentum, steps):
    remaining = torch.full((steps + 1,), momentum).cumprod(0) / momentum
    newest_first = torch.cat([remaining[:-1] - remaining[1:], remaining[-1:]])
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


# %% soft_targets
mistakes = {
    "alpha reversed": ("(1 - alpha) * label_share + alpha * opinion",
                       "alpha * label_share + (1 - alpha) * opinion"),
    "softmax over queries": ("softmax(-1)", "softmax(0)"),
    "no softmax": (".softmax(-1)", ".masked_fill(~keep, 0)"),
    "sigmoid": ("softmax(-1)", "sigmoid()"),
    "gradient through the teacher": (".detach()", ""),
    "every true key in full": ("label_share / label_share.sum(-1, keepdim=True)",
                               "label_share * 1.0"),
    "shared by column": ("label_share.sum(-1, keepdim=True)",
                         "label_share.sum(0).clamp(min=1)"),
    "the diagonal alone": ("positive & keep",
                           "torch.eye(*positive.shape, dtype=torch.bool)"),
    "true keys in empty slots": ("positive & keep", "positive"),
    "empty slots have an opinion": (".masked_fill(~keep, -torch.inf)", ""),
    "mask reversed": ("~keep, -torch", "keep, -torch"),
    "empty slots scored zero": ("-torch.inf", "0.0"),
    "mask after the softmax": (".masked_fill(~keep, -torch.inf).softmax(-1)",
                               ".softmax(-1) * keep"),
    "the teacher is not asked about true keys": (
        "~keep, -torch.inf", "~keep | positive, -torch.inf"),
    "added and not mixed": ("(1 - alpha) * label_share", "label_share"),
    "empty slots a hundred less likely": ("-torch.inf", "-100.0"),
    "exponentials without the maximum": (
        ".detach().masked_fill(~keep, -torch.inf).softmax(-1)",
        ".detach().exp() * keep\n"
        "    opinion = opinion / opinion.sum(-1, keepdim=True)"),
    "the maximum of the whole table": (
        ".detach().masked_fill(~keep, -torch.inf).softmax(-1)",
        ".detach().sub(teacher_sim.max()).exp() * keep\n"
        "    opinion = opinion / opinion.sum(-1, keepdim=True)"),
    "the maximum of empty slots": (
        ".detach().masked_fill(~keep, -torch.inf).softmax(-1)",
        ".detach().sub(teacher_sim.amax(-1, keepdim=True)).exp() * keep\n"
        "    opinion = opinion / opinion.sum(-1, keepdim=True)"),
    "the first query's true keys for all": ("label_share = positive & keep",
                                            "label_share = (positive & keep)[:1]"),
    "the caller's similarities are filled": (".detach().masked_fill(",
                                             ".detach().masked_fill_("),
    "the caller's true keys are struck out": (
        "label_share = positive & keep", "label_share = positive.logical_and_(keep)"),
    "the caller's teacher is cut off": ("teacher_sim.detach()",
                                        "teacher_sim.detach_()")}


def soft_targets_by_exponentials(positive, teacher_sim, alpha, keep):
    with torch.no_grad():
        scores = teacher_sim.masked_fill(~keep, -torch.inf)
        mass = (scores - scores.amax(1, keepdim=True)).exp()
        even = positive.float() * keep.float()
        return (1 - alpha) * even / even.sum(1, keepdim=True) + alpha * mass / mass.sum(
            1, keepdim=True)


def soft_targets_filled(positive, teacher_sim, alpha, keep):
    target = torch.zeros_like(teacher_sim)
    true = positive[:, keep].float()
    target[:, keep] = torch.lerp(F.normalize(true, p=1, dim=1),
                                 F.softmax(teacher_sim[:, keep], dim=1), alpha).detach()
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
    "a fixed mass": ("(target * positive).sum(-1, keepdim=True)",
                     "torch.full((len(target), 1), 0.9)"),
    "true and false change places": ("torch.where(positive", "torch.where(~positive"),
    "masses change places": ("mass / true, (1 - mass) / false",
                             "(1 - mass) / true, mass / false"),
    "every true key has all of it": ("mass / true", "mass"),
    "divided by all keys": ("(1 - mass) / false", "(1 - mass) / positive.shape[1]"),
    "the diagonal alone": ("(target * positive)",
                           "(target * torch.eye(*target.shape))"),
    "mean for sum": ("(target * positive).sum(-1, keepdim=True)",
                     "(target * positive).mean(-1, keepdim=True)"),
    "the largest for the sum": ("(target * positive).sum(-1, keepdim=True)",
                                "(target * positive).amax(-1, keepdim=True)"),
    "NaN where nothing is false": (
        "return torch.where(positive, mass / true, (1 - mass) / false)",
        "false = (~positive).sum(-1, keepdim=True)\n"
        "    return positive * mass / true + ~positive * ((1 - mass) / false)"),
    "by column": ("(~positive).sum(-1, keepdim=True)", "(~positive).sum(0)"),
    "the caller's target is filled": (
        "    return torch.where(positive, mass / true, (1 - mass) / false)",
        "    target[:] = torch.where(positive, mass / true, (1 - mass) / false)\n"
        "    return target"),
    "the first query's number of keys for all": (
        "true = positive.sum(", "true = positive[:1].sum(")}


def smoothed_targets_by_means(target, positive):
    true = torch.where(positive, target, torch.nan).nanmean(1, keepdim=True)
    false = torch.where((~positive), target, torch.nan).nanmean(1, keepdim=True)
    return torch.where(positive, true, false)


def smoothed_targets_by_loop(target, positive):
    out = target.clone()
    for row, true in zip(out, positive):
        for kind in (true, ~true):
            if kind.any():
                row[kind] = row[kind].sum() / kind.sum()
    return out


def smoothed_targets_by_projection(target, positive):
    # (b, k, k): keys of one kind
    alike = (positive[:, :, None] == positive[:, None]).float()
    return torch.einsum("bij,bj->bi", alike / alike.sum(-1, keepdim=True), target)


def smoothed_targets_by_mixing(target, positive):
    even = F.normalize(positive.float(), p=1, dim=1)
    rest = F.normalize(positive.logical_not().float(), p=1, dim=1)
    doubt = 1 - target.masked_fill(~positive, 0).sum(1, keepdim=True)
    return even * (1 - doubt) + rest * doubt


# %% distilled_loss
mistakes = {
    "alpha reversed": ("(1 - trust) * by_label + trust * by_teacher",
                       "trust * by_label + (1 - trust) * by_teacher"),
    "gradient through the teacher": (".detach()", ""),
    "gradient to the teacher alone": ("log_p = logits[hidden].log_softmax(-1)",
                                      "log_p = logits[hidden].log_softmax(-1).detach()",
                                      "teacher_logits[hidden].detach()",
                                      "teacher_logits[hidden]"),
    "mean over all places": ("hidden.sum().clamp(min=1)", "len(labels)"),
    "sum for mean": (" / hidden.sum().clamp(min=1)", ""),
    "places without a word are taught": (
        "hidden = labels >= 0", "hidden, labels = labels > -999, labels.clamp(min=0)"),
    "the first word is skipped": ("labels >= 0", "labels > 0"),
    "softmax over places": ("detach().softmax(-1)", "detach().softmax(0)"),
    "the student's softmax over places": ("log_p = logits[hidden].log_softmax(-1)",
                                          "log_p = logits[hidden].log_softmax(0)"),
    "the student is its own teacher": ("teacher_logits[hidden]", "logits[hidden]"),
    "the teacher's favourite": ("teacher_logits[hidden].detach().softmax(-1)",
                                "(1e4 * teacher_logits[hidden].detach()).softmax(-1)"),
    "one trust for all": ("alpha[hidden]", "alpha.mean()"),
    "added and not mixed": ("(1 - trust) * by_label", "by_label"),
    "logarithm of a softmax": ("log_p = logits[hidden].log_softmax(-1)",
                               "log_p = logits[hidden].softmax(-1).log()"),
    "NaN where nothing is hidden": (".clamp(min=1)", ""),
    "mean over words of the vocabulary": ("* log_p).sum(-1)", "* log_p).mean(-1)"),
    "a small number added": ("log_p = logits[hidden].log_softmax(-1)",
                             "log_p = (logits[hidden].softmax(-1) + 1e-12).log()"),
    "probabilities clamped": ("log_p = logits[hidden].log_softmax(-1)",
                              "log_p = "
                              "logits[hidden].softmax(-1).clamp(min=1e-12).log()"),
    "exponentials without the maximum": ("log_p = logits[hidden].log_softmax(-1)",
                                         "log_p = (logits - logits.exp().sum(-1, "
                                         "keepdim=True).log())[hidden]"),
    "the teacher's exponentials without the maximum": (
        "teacher_logits[hidden].detach().softmax(-1)",
        "F.normalize(teacher_logits[hidden].detach().exp(), p=1, dim=-1)"),
    "the normaliser cannot learn": ("log_p = logits[hidden].log_softmax(-1)",
                                    "log_p = (logits - logits.detach().logsumexp(-1, "
                                    "keepdim=True))[hidden]"),
    "the caller's labels are filled": ("hidden = labels >= 0",
                                       "hidden = labels >= 0\n    labels[~hidden] = 0"),
    "the caller's teacher is cut off": (
        "hidden = labels >= 0", "hidden = labels >= 0\n    teacher_logits.detach_()"),
    "the first place's trust for all": ("alpha[hidden]", "alpha[0]")}


def distilled_loss_by_torch(logits, labels, teacher_logits, alpha):
    with torch.no_grad():
        opinion = teacher_logits.softmax(-1)
    each = (1 - alpha) * F.cross_entropy(logits, labels, reduction="none",
                                         ignore_index=-100)
    each = each + alpha * F.cross_entropy(logits, opinion, reduction="none") * (
        labels != -100)
    return each.sum() / max(1, int((labels != -100).sum()))


def distilled_loss_by_target(logits, labels, teacher_logits, alpha):
    at = torch.nonzero(labels != -100)[:, 0]
    if len(at) == 0:
        return logits.sum() * 0
    target = torch.zeros_like(logits[at]).scatter(1, labels[at, None], 1.0)
    target = torch.lerp(target, F.softmax(teacher_logits[at], 1).detach(),
                        alpha[at, None])
    return F.cross_entropy(logits[at], target)


def distilled_loss_by_divergence(logits, labels, teacher_logits, alpha):
    log_p = F.log_softmax(logits, 1)
    log_q = F.log_softmax(teacher_logits.detach(), 1)
    divergence = (F.kl_div(log_p, log_q, log_target=True, reduction="none").sum(1)
                  - (log_q.exp() * log_q).sum(1))
    by_label = F.nll_loss(log_p, labels, reduction="none")
    there = (labels > -1).float()
    return ((there * (by_label + alpha * (divergence - by_label))).sum()
            / there.sum().clamp(min=1))


def distilled_loss_without_gradient(logits, labels, teacher_logits, alpha):
    there = labels != -100
    with torch.no_grad():
        trust = alpha[there, None]
        target = trust * teacher_logits[there].softmax(1) + (1 - trust) * F.one_hot(
            labels[there], logits.shape[1])
    return (F.cross_entropy(logits[there], target, reduction="sum")
            / there.sum().clamp(min=1))


def distilled_loss_by_loop(logits, labels, teacher_logits, alpha):
    total = torch.zeros(())
    count = 0
    for row, label, opinion, a in zip(logits, labels.tolist(), teacher_logits.detach(),
                                      alpha):
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
    "the teacher moves twice": ("    update_teacher(teacher, student, momentum)\n",
                                "    update_teacher(teacher, student, momentum)\n"
                                "    update_teacher(teacher, student, momentum)\n"),
    "the student follows": ("update_teacher(teacher, student, momentum)",
                            "update_teacher(student, teacher, momentum)"),
    "momentum reversed": ("student, momentum)\n    return",
                          "student, 1 - momentum)\n    return"),
    "a teacher that draws lots": ("teacher.eval()", "teacher.train()"),
    "the student in the teacher's mode": ("teacher.eval()",
                                          "teacher.eval(), student.eval()"),
    "gradient through the teacher": (
        "torch.no_grad()", "torch.enable_grad()",
        "distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))",
        "F.cross_entropy(student(x), (1 - alpha) * F.one_hot(labels, "
        "opinion.shape[1]) + alpha * opinion.softmax(-1))"),
    "gradient around the student": (
        "torch.no_grad()", "torch.enable_grad()", "opinion = teacher(x)",
        "opinion = x @ teacher[1].weight.detach().T",
        "distilled_loss(student(x), labels, opinion, torch.full(labels.shape, alpha))",
        "F.cross_entropy(student(x), (1 - alpha) * F.one_hot(labels, "
        "opinion.shape[1]) + alpha * opinion.softmax(-1))"),
    "gradients pile up": ("    optimiser.zero_grad()\n", ""),
    "no step": ("    optimiser.step()\n", ""),
    "gradients forgotten before they are used": (
        "    optimiser.zero_grad()\n    loss.backward()\n",
        "    loss.backward()\n    optimiser.zero_grad()\n"),
    "alpha reversed": ("torch.full(labels.shape, alpha)",
                       "torch.full(labels.shape, 1 - alpha)"),
    "the student is its own teacher": ("opinion = teacher(x)", "opinion = student(x)"),
    "the graph is kept": ("return loss.item()", "return loss"),
    "the loss after the step": ("return loss.item()",
                                "return distilled_loss(student(x), labels, opinion, "
                                "torch.full(labels.shape, alpha)).item()"),
    "what lies below is cut off": ("distilled_loss(student(x)",
                                   "distilled_loss(student(x.detach())"),
    "the student reads in evaluation": (
        "student(x), labels", "student.eval()(x), labels",
        "    optimiser.zero_grad()\n",
        "    student.train()\n    optimiser.zero_grad()\n"),
    "the student is put in training": ("    teacher.eval()\n",
                                       "    teacher.eval(), student.train()\n"),
    "the teacher is left in training": ("    return loss.item()",
                                        "    teacher.train()\n    return loss.item()"),
    "the student reads twice": ("    loss = distilled_loss",
                                "    student(x)\n    loss = distilled_loss"),
    "a seed of its own": ("    teacher.eval()\n",
                          "    teacher.eval(), torch.manual_seed(0)\n"),
    "a trust of four tenths": ("torch.full(labels.shape, alpha)",
                               "torch.full(labels.shape, 0.4)"),
    "a momentum of nine tenths": ("student, momentum)\n    return",
                                  "student, 0.9)\n    return"),
    "buffers stay behind": ("    update_teacher(teacher, student, momentum)\n",
                            "    with torch.no_grad():\n"
                            "        for slow, fast in zip(teacher.parameters(), "
                            "student.parameters()):\n"
                            "            slow.lerp_(fast, 1 - momentum)\n"),
    "frozen weights stay behind": (
        "    update_teacher(teacher, student, momentum)\n",
        "    with torch.no_grad():\n"
        "        for slow, fast in zip(teacher.parameters(), student.parameters()):\n"
        "            if fast.grad is not None:\n"
        "                slow.lerp_(fast, 1 - momentum)\n"
        "        for old, new in zip(teacher.buffers(), student.buffers()):\n"
        "            old.copy_(new)\n"),
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
        for old, new in zip(teacher.buffers(), student.buffers()):
            old.copy_(new)
    return loss.item()


def distil_step_by_closure(student, teacher, optimiser, x, labels, alpha, momentum):
    opinion = torch.no_grad()(teacher.eval())(x)

    def closure():
        optimiser.zero_grad()
        loss = distilled_loss(student(x), labels, opinion,
                              torch.tensor(alpha).expand(len(labels)))
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
    for old, new in zip(teacher.buffers(), student.buffers()):
        old.copy_(new)
    return loss.item()
