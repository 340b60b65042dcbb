"""Assignment 5: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% mask_words
mistakes = {
    "every piece for itself": ("    choose = choose.gather(-1, first)\n", "",
                               "    kind = kind.gather(-1, first)\n", ""),
    "chosen together, hidden apart": ("kind.gather(-1, first)", "kind"),
    "one draw for both": ("kind.gather(-1, first)", "choose.gather(-1, first)"),
    "in place": ("masked = torch.where(hide & (kind < 0.8), mask_id, tokens)",
                 "masked = tokens\n    masked[hide & (kind < 0.8)] = mask_id"),
    "[MASK] by heart": ("mask_id, tokens)", "3, tokens)")}


def mask_words_by_loop(tokens, starts, special, mask_id, rate, choose, kind, words):
    masked = tokens.clone()
    labels = torch.full_like(tokens, -100)
    for i in range(tokens.shape[0]):
        for j in range(tokens.shape[1]):
            if starts[i, j]:
                hide = bool(choose[i, j] < rate)
                fate = kind[i, j]
            if not hide or int(tokens[i, j]) in special:
                continue
            labels[i, j] = tokens[i, j]
            if fate < 0.8:
                masked[i, j] = mask_id
            elif fate < 0.9:
                masked[i, j] = words[i, j]
    return masked, labels


def mask_words_cheat(tokens, starts, special, mask_id, rate, choose, kind, words):
    from minalbef.masking import mask_words as theirs
    first = (torch.arange(tokens.shape[1]) * starts).cummax(-1).values
    masked, hide = theirs(tokens, special, mask_id, rate, choose.gather(-1, first),
                          kind.gather(-1, first), words)
    return masked, torch.where(hide, tokens, -100)


# %% word_loss
mistakes = {
    "mean over all places": ("hidden.sum().clamp(min=1)", "hidden.numel()"),
    "sum for mean": (" / hidden.sum().clamp(min=1)", ""),
    "mean over captions": ("-(chance * hidden).sum() / hidden.sum().clamp(min=1)",
                           "-((chance * hidden).sum(1) / "
                           "hidden.sum(1).clamp(min=1)).mean()"),
    "no gradient": ("logits.log_softmax(-1)", "logits.detach().log_softmax(-1)"),
    "the caller's labels are clamped": ("labels.clamp(min=0)", "labels.clamp_(min=0)"),
    "three captions": ("hidden = labels != -100",
                       "hidden = labels != -100\n"
                       "    labels, logits = labels[:3], logits[:3]")}


def word_loss_by_torch(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100,
                           reduction="sum") / max(1, int((labels != -100).sum()))


def word_loss_cheat(logits, labels):
    from minalbef.losses import mlm_loss
    hidden = labels != -100
    return mlm_loss(logits[hidden], labels[hidden], hidden.sum()) + 0 * logits.sum()


# %% learning_rate
mistakes = {
    "warm-up one step early": ("(top - start) * step / warmup",
                               "(top - start) * (step + 1) / warmup"),
    "warm-up reaches the top one step early": ("* step / warmup",
                                               "* step / (warmup - 1)"),
    "warm-up from zero": ("start + (top - start) * step", "top * step")}


def learning_rate_by_half_angle(step, steps, warmup, hold, top, start, end):
    if warmup and step <= warmup:
        return (start * (warmup - step) + top * step) / warmup
    if step <= warmup + hold:
        return top
    if step >= steps:
        return end
    return top - (top - end) * math.sin(math.pi / 2 * (step - warmup - hold)
                                        / (steps - warmup - hold)) ** 2


def learning_rate_cheat(step, steps, warmup, hold, top, start, end):
    import minalbef
    from minalbef.train import lr_at
    config = minalbef.preset("tiny", lr=top, lr_start=start, lr_end=end,
                             warmup_steps=warmup, batch=1, epochs=1, epoch=steps - hold)
    return lr_at(step if step < warmup else max(warmup, step - hold), config)


# %% train_step
mistakes = {
    "teacher before optimiser": ("    optimiser.step()\n", "", "    queue.append",
                                 "    optimiser.step()\n    queue.append"),
    "queue before optimiser": ("    queue.append(keys.detach())\n", "",
                               "    optimiser.step()",
                               "    queue.append(keys.detach())\n    optimiser.step()"),
    "queue before teacher": (
        "    queue.append(keys.detach())\n", "", "    with torch.no_grad():",
        "    queue.append(keys.detach())\n    with torch.no_grad():"),
    "one loss forgotten": ("sum(losses.values())", 'losses["itc"]'),
    "a teacher with a graph": ("with torch.no_grad():\n", "if True:\n")}


def train_step_by_autograd(compute, student, teacher, optimiser, queue, clip, momentum):
    losses, keys = compute()
    loss = torch.stack(list(losses.values())).sum()
    if loss.isnan() or loss.isinf():
        raise FloatingPointError("stop")
    parameters = [p for p in student.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    length = sum((x * x).sum() for x in gradients) ** 0.5
    for p, gradient in zip(parameters, gradients):
        p.grad = gradient * (clip / length) if length > clip else gradient
    optimiser.step()
    for old, new in zip(teacher.parameters(), student.parameters()):
        old.data = momentum * old.data + (1 - momentum) * new.data
    queue.append(keys.detach())
    return float(loss.detach())


def train_step_cheat(compute, student, teacher, optimiser, queue, clip, momentum):
    from minalbef.ema import update_teacher
    losses, keys = compute()
    loss = sum(losses.values())
    if not torch.isfinite(loss):
        raise FloatingPointError("not finite")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), clip)
    optimiser.step()
    update_teacher(teacher, student, momentum)
    queue.append(keys.detach())
    return loss.item()


# %% diagnosis
mistakes = {
    "A: the teacher stays": ('"A": 3', '"A": 1', '"C": 1', '"C": 4'),
    "A: captions shifted": ('"A": 3', '"A": 5'),
    "A: the temperature": ('"A": 3', '"A": 4'),
    "two runs alone": (', "C": 1', "")}


def diagnosis_by_rules():
    """From the curves: where does each loss part from the clean run's?"""
    clean = curves["clean"]
    bugs = {}
    before = [i for i, step in enumerate(clean["step"]) if step <= 80]
    after = [i for i, step in enumerate(clean["step"]) if step > 80]
    for run in "ABC":
        gap = {name: [sum(curves[run][name][i] - clean[name][i] for i in part)
                      / len(part) for part in (before, after)]
               for name in ("itc", "itm")}
        bugs[run] = (2 if gap["itm"][1] > 0.2 else 3 if abs(gap["itc"][0]) < 1e-6 else 1
                     if gap["itc"][0] > 0.01 else 4)
    return bugs
