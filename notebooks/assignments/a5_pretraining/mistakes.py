"""Assignment 5: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% mask_words
mistakes = {
    "every piece for itself": ("    choose = choose.gather(-1, first)\n", "",
                               "    kind = kind.gather(-1, first)\n", ""),
    "chosen together, hidden apart": ("kind.gather(-1, first)", "kind"),
    "one draw for both": ("kind.gather(-1, first)", "choose.gather(-1, first)"),
    "mask on [CLS], [SEP] and padding": (" & ~torch.isin(tokens, "
                                         "torch.tensor(special))", ""),
    "mask on [SEP]": ("torch.tensor(special)", "torch.tensor(special[:-1])"),
    "the rate itself is chosen": ("choose < rate", "choose <= rate"),
    "chosen reversed": ("choose < rate", "choose >= rate"),
    "always [MASK]": (" & (kind < 0.8)", "", " & (kind >= 0.8) & (kind < 0.9)",
                      " & (kind > 2)"),
    "never another word": ("masked = torch.where(hide & (kind >= 0.8) & (kind < 0.9), "
                           "words, masked)", "pass"),
    "another word for the rest": (" & (kind < 0.9)", ""),
    "every word replaced at times": ("torch.where(hide & (kind >= 0.8)",
                                     "torch.where((kind >= 0.8)"),
    "shares of the wrong end": ("kind < 0.8", "kind > 0.2"),
    "asks for what the model reads": ("torch.where(hide, tokens, -100)",
                                      "torch.where(hide, masked, -100)"),
    "asks for [MASK] alone": ("torch.where(hide, tokens, -100)",
                              "torch.where(masked == mask_id, tokens, -100)"),
    "asks for every word": ("torch.where(hide, tokens, -100)", "tokens"),
    "asks for the next word": ("torch.where(hide, tokens, -100)",
                               "torch.where(hide, tokens.roll(-1, 1), -100)"),
    "the fate of the word before": (
        "torch.arange(tokens.shape[1]) * starts).cummax(-1).values",
        "torch.arange(tokens.shape[1]) * starts).cummax(-1).values - 1).clamp(min=0)",
        "first = (", "first = (("),
    "in place": ("masked = torch.where(hide & (kind < 0.8), mask_id, tokens)",
                 "masked = tokens\n    masked[hide & (kind < 0.8)] = mask_id"),
    "special ids by heart": ("~torch.isin(tokens, torch.tensor(special))",
                             "(tokens > 2)"),
    "[MASK] by heart": ("mask_id, tokens)", "3, tokens)"),
    "captions of seventeen places": ("torch.arange(tokens.shape[1])",
                                     "torch.arange(17)"),
    "two captions": ("    return masked,",
                     "    masked = masked[:2]\n    return masked,"),
    "the caller's words are filled": (
        "masked = torch.where(hide & (kind >= 0.8) & (kind < 0.9), words, masked)",
        "other = hide & (kind >= 0.8) & (kind < 0.9)\n"
        "    words[~other] = masked[~other]\n" "    masked = words"),
    "the caller's tokens become labels": (
        "return masked, torch.where(hide, tokens, -100)",
        "tokens[~hide] = -100\n    return masked, tokens"),
    "the caller's draws are spread": (
        "choose = choose.gather(-1, first)", "choose.copy_(choose.gather(-1, first))",
        "kind = kind.gather(-1, first)", "kind.copy_(kind.gather(-1, first))"),
    "draws of its own": ("    choose = choose.gather",
                         "    choose, kind = torch.rand(2, *tokens.shape)\n"
                         "    choose = choose.gather"),
    "a seed of its own": ("    first = ", "    torch.manual_seed(0)\n    first = "),
    "the first caption's words for all": (
        "* starts).cummax(-1).values",
        "* starts[:1]).cummax(-1).values.expand(len(starts), -1)")}


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


def mask_words_in_copies(tokens, starts, special, mask_id, rate, choose, kind, words):
    # the number of each piece's word
    word = starts.long().cumsum(1) - 1
    places = torch.stack([F.pad(row.nonzero()[:, 0], (0, row.numel()))[:row.numel()]
                          for row in starts])
    at = places.gather(1, word)
    hide = choose.gather(1, at).lt(rate)
    for token_id in special:
        hide = hide & (tokens != token_id)
    fate = torch.bucketize(kind.gather(1, at), torch.tensor([0.8, 0.9]), right=True)
    masked = tokens.clone()
    labels = tokens.clone()
    masked[hide & (fate == 0)] = mask_id
    masked[hide & (fate == 1)] = words[hide & (fate == 1)]
    labels[~hide] = -100
    return masked, labels


def mask_words_spreading(tokens, starts, special, mask_id, rate, choose, kind, words):
    choose = choose.clone()
    kind = kind.clone()
    # a piece inside takes over from its left
    for j in range(1, tokens.shape[1]):
        choose[:, j] = torch.where(starts[:, j], choose[:, j], choose[:, j - 1])
        kind[:, j] = torch.where(starts[:, j], kind[:, j], kind[:, j - 1])
    ordinary = torch.tensor([[token_id not in special for token_id in row]
                             for row in tokens.tolist()])
    hide = ordinary * (choose < rate)
    output = torch.where(kind < 0.8, torch.full_like(tokens, mask_id),
                         torch.where(kind < 0.9, words, tokens))
    return torch.where(hide, output, tokens), tokens.masked_fill(~hide, -100)


def mask_words_by_numpy(tokens, starts, special, mask_id, rate, choose, kind, words):
    import numpy as np
    t = tokens.numpy()
    w = words.numpy()
    first = np.maximum.accumulate(np.where(starts.numpy(), np.arange(t.shape[1]), 0),
                                  axis=1)
    c = np.take_along_axis(choose.detach().numpy(), first, 1)
    k = np.take_along_axis(kind.detach().numpy(), first, 1)
    hide = (c < rate) & ~np.isin(t, special)
    output = np.select([~hide, k < np.float32(0.8), k < np.float32(0.9)],
                       [t, np.full_like(t, mask_id), w], t)
    return torch.from_numpy(output), torch.from_numpy(np.where(hide, t, -100))


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
    "sum over a caption": ("hidden.sum().clamp(min=1)", "len(labels)"),
    "asked everywhere": ("hidden = labels != -100", "hidden = torch.ones_like(labels)"),
    "the first word is never asked for": ("labels != -100", "labels > 0"),
    "padding asks for the first word": (
        "labels != -100", "(labels != -100) | (torch.arange(labels.shape[1]) > 3)"),
    "softmax over places": ("log_softmax(-1)", "log_softmax(1)"),
    "softmax over the batch": ("log_softmax(-1)", "log_softmax(0)"),
    "no logarithm": ("log_softmax", "softmax"),
    "logarithm of a softmax": ("log_softmax(-1)", "softmax(-1).log()"),
    "softmax twice": ("logits.log_softmax(-1)", "logits.softmax(-1).log_softmax(-1)"),
    "sign": ("return -", "return "),
    "nothing hidden is NaN": ("hidden.sum().clamp(min=1)\n", "hidden.sum()\n"),
    "off by one place": ("labels.clamp(min=0)[..., None]",
                         "labels.roll(1, 1).clamp(min=0)[..., None]"),
    "no gradient": ("logits.log_softmax(-1)", "logits.detach().log_softmax(-1)"),
    "a small number added": ("logits.log_softmax(-1)",
                             "(logits.softmax(-1) + 1e-12).log()"),
    "probabilities clamped": ("logits.log_softmax(-1)",
                              "logits.softmax(-1).clamp(min=1e-12).log()"),
    "exponentials without the maximum": ("logits.log_softmax(-1)",
                                         "(logits - logits.exp().sum(-1, "
                                         "keepdim=True).log())"),
    "the normaliser cannot learn": ("logits.log_softmax(-1)",
                                    "(logits - logits.logsumexp(-1, "
                                    "keepdim=True).detach())"),
    "the caller's labels are clamped": ("labels.clamp(min=0)", "labels.clamp_(min=0)"),
    "three captions": ("hidden = labels != -100",
                       "hidden = labels != -100\n"
                       "    labels, logits = labels[:3], logits[:3]")}


def word_loss_by_torch(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100,
                           reduction="sum") / max(1, int((labels != -100).sum()))


def word_loss_where_asked(logits, labels):
    hidden = labels >= 0
    if not hidden.any():
        return 0 * logits.sum()
    return F.nll_loss(F.log_softmax(logits[hidden], dim=1), labels[hidden])


def word_loss_by_one_hot(logits, labels):
    target = (F.one_hot(labels.clamp(min=0), logits.shape[-1])
              * (labels != -100)[..., None])
    return (torch.where(target > 0, logits.logsumexp(-1, keepdim=True) - logits,
                        0).sum() / target.sum().clamp(min=1))


def word_loss_by_loop(logits, labels):
    total = logits.sum() * 0
    number = 0
    for row, word_id in zip(logits, labels):
        for place, label in zip(row, word_id):
            if label != -100:
                total = total + F.cross_entropy(place, label)
                number = number + 1
    return total / (number or 1)


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
    "warm-up from zero": ("start + (top - start) * step", "top * step"),
    "start is added": ("start + (top - start) * step", "start + top * step"),
    "no hold": ("max(0, step - warmup - hold) / (steps - warmup - hold)",
                "max(0, step - warmup) / (steps - warmup)"),
    "the hold lengthens the run": ("(steps - warmup - hold)", "(steps - warmup)"),
    "the cosine begins at step zero": ("max(0, step - warmup - hold) / (steps - "
                                       "warmup - hold)", "step / steps"),
    "the cosine rises again": (
        "min(1.0, max(0, step - warmup - hold) / (steps - warmup - hold))",
        "max(0, step - warmup - hold) / (steps - warmup - hold)"),
    "a whole cosine": ("math.pi * way", "2 * math.pi * way"),
    "a quarter of a cosine": ("(1 + math.cos(math.pi * way)) / 2",
                              "math.cos(math.pi * way / 2)"),
    "a line": ("(1 + math.cos(math.pi * way)) / 2", "(1 - way)"),
    "ends at zero": ("end + (top - end) * (1", "top * (1"),
    "end is added": ("(top - end) * (1", "top * (1"),
    "one step short": ("min(1.0, max(0, step - warmup - hold)",
                       "min(1.0, max(0, step + 1 - warmup - hold)")}


def learning_rate_by_half_angle(step, steps, warmup, hold, top, start, end):
    if warmup and step <= warmup:
        return (start * (warmup - step) + top * step) / warmup
    if step <= warmup + hold:
        return top
    if step >= steps:
        return end
    return top - (top - end) * math.sin(math.pi / 2 * (step - warmup - hold)
                                        / (steps - warmup - hold)) ** 2


def learning_rate_by_interpolation(step, steps, warmup, hold, top, start, end):
    import numpy as np
    down = np.linspace(0, np.pi, 1 + steps - warmup - hold)
    values = [*np.linspace(start, top, warmup, endpoint=False), *[top] * hold,
              *(end + (top - end) * (1 + np.cos(down)) / 2)]
    return float(values[min(step, steps)])


def learning_rate_by_torch(step, steps, warmup, hold, top, start, end):
    if step < warmup:
        return torch.lerp(torch.tensor(start), torch.tensor(top), step / warmup).item()
    share = torch.tensor((step - warmup - hold) / (steps - warmup - hold)).clamp(0, 1)
    return (end + 0.5 * (top - end) * (1 + torch.cos(share * torch.pi))).item()


def learning_rate_by_cases(step, steps, warmup, hold, top, start, end):
    for length, value in (
        (warmup, lambda s: start + s * (top - start)), (hold, lambda s: top),
        (steps - warmup - hold,
         lambda s: (top + end) / 2 + (top - end) / 2 * math.cos(s * math.pi))):
        if step < length:
            return value(step / length)
        step -= length
    return end


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
    "no clipping": ("    nn.utils.clip_grad_norm_(student.parameters(), clip)\n", ""),
    "clipping before backward": (
        "    loss.backward()\n", "", "clip_grad_norm_(student.parameters(), clip)",
        "clip_grad_norm_(student.parameters(), clip)\n    loss.backward()"),
    "clipping after the optimiser": ("    optimiser.step()\n", "", "    nn.utils.clip",
                                     "    optimiser.step()\n    nn.utils.clip"),
    "clipping every number": ("clip_grad_norm_(student.parameters(), clip)",
                              "clip_grad_value_(student.parameters(), clip)"),
    "clipping every tensor alone": (
        "nn.utils.clip_grad_norm_(student.parameters(), clip)",
        "[nn.utils.clip_grad_norm_([p], clip) for p in student.parameters()]"),
    "always the length clip": ("nn.utils.clip_grad_norm_(student.parameters(), clip)",
                               "n "
                               "= nn.utils.clip_grad_norm_(student.parameters(), 1e9)\n"
                               "    [p.grad.mul_(clip / n) for p in "
                               "student.parameters() if p.grad is not None]"),
    "gradients add up": ("    optimiser.zero_grad()\n", ""),
    "gradients cleared before the step": (
        "    optimiser.zero_grad()\n", "", "    optimiser.step()",
        "    optimiser.zero_grad()\n    optimiser.step()"),
    "gradients cleared only afterwards": ("    optimiser.zero_grad()\n", "",
                                          "    return",
                                          "    optimiser.zero_grad()\n    return"),
    "mean of the losses": ("sum(losses.values())",
                           "sum(losses.values()) / len(losses)"),
    "one loss forgotten": ("sum(losses.values())", 'losses["itc"]'),
    "momentum the wrong way round": ("old.mul_(momentum).add_(new, alpha=1 - momentum)",
                                     "old.mul_(1 - momentum).add_(new, "
                                     "alpha=momentum)"),
    "the teacher is a copy": ("old.mul_(momentum).add_(new, alpha=1 - momentum)",
                              "old.copy_(new)"),
    "the teacher stays": ("old.mul_(momentum).add_(new, alpha=1 - momentum)", "pass"),
    "the student follows the teacher": (
        "old.mul_(momentum).add_(new, alpha=1 - momentum)",
        "new.mul_(momentum).add_(old, alpha=1 - momentum)"),
    "a teacher with a graph": ("with torch.no_grad():\n", "if True:\n"),
    "keys with gradient": ("keys.detach()", "keys"),
    "keys twice": ("queue.append(keys.detach())",
                   "queue.append(keys.detach())\n    queue.append(keys.detach())"),
    "newest keys first": ("queue.append(keys.detach())",
                          "queue.insert(0, keys.detach())"),
    "keys of the moved student": ("queue.append(keys.detach())",
                                  "queue.append(compute()[1].detach())"),
    "infinities go through": ("not torch.isfinite(loss)", "False"),
    "infinite, but no NaN": ("not torch.isfinite(loss)", "loss.isnan()"),
    "checked too late": ("    if not torch.isfinite(loss):\n"
                         "        raise FloatingPointError(f\"the loss is {loss}\")\n",
                         "", "    return",
                         "    if not torch.isfinite(loss):\n"
                         "        raise FloatingPointError\n"
                         "    return"),
    "a tensor is returned": ("return loss.item()", "return loss"),
    "two losses by heart": ("sum(losses.values())", 'losses["itc"] + losses["mlm"]'),
    "a queue of two": ("    queue.append(keys.detach())\n",
                       "    queue.append(keys.detach())\n    del queue[:-2]\n"),
    "a momentum of nine tenths": ("old.mul_(momentum).add_(new, alpha=1 - momentum)",
                                  "old.mul_(0.9).add_(new, alpha=1 - 0.9)"),
    "the student is left in evaluation": ("    queue.append",
                                          "    student.eval()\n    queue.append"),
    "the student is put in training": ("    losses, keys =",
                                       "    student.train()\n    losses, keys ="),
    "the student reads in evaluation": (
        "    losses, keys = compute()\n",
        "    mode = student.training\n    student.eval()\n"
        "    losses, keys = compute()\n    student.train(mode)\n"),
    "the teacher is put in training": ("    queue.append",
                                       "    teacher.train()\n    queue.append"),
    "the teacher's weights learn": ("    queue.append",
                                    "    teacher.requires_grad_()\n    queue.append"),
    "frozen weights stop it": (
        "nn.utils.clip_grad_norm_(student.parameters(), clip)",
        "length = sum((p.grad ** 2).sum() for p in student.parameters()) ** 0.5\n"
        "    for p in student.parameters():\n        p.grad *= min(1, clip / length)"),
    "frozen weights stay behind": ("            old.mul_",
                                   "            if new.requires_grad:\n"
                                   "                old.mul_"),
    "frozen weights thaw": ("    optimiser.zero_grad()\n",
                            "    optimiser.zero_grad()\n"
                            "    student.requires_grad_()\n"),
    "a seed of its own": ("    losses, keys =",
                          "    torch.manual_seed(0)\n    losses, keys =")}


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


def train_step_by_lerp(compute, student, teacher, optimiser, queue, clip, momentum):
    for p in student.parameters():
        p.grad = None
    losses, keys = compute()
    loss = sum(losses.values())
    if not math.isfinite(loss.item()):
        raise FloatingPointError(str(losses))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), max_norm=clip)
    optimiser.step()
    with torch.no_grad():
        for name, value in student.named_parameters():
            teacher.get_parameter(name).lerp_(value, 1 - momentum)
        queue.append(keys)
    queue[-1] = queue[-1].detach()
    optimiser.zero_grad()
    return loss.item()


def train_step_loss_by_loss(compute, student, teacher, optimiser, queue, clip,
                            momentum):
    losses, keys = compute()
    if not all(loss.isfinite() for loss in losses.values()):
        raise FloatingPointError("a loss is not finite")
    student.zero_grad(set_to_none=True)
    # gradients of one step may add up
    for loss in losses.values():
        loss.backward(retain_graph=True)
    nn.utils.clip_grad_norm_(list(student.parameters()), clip)
    optimiser.step()
    with torch.no_grad():
        torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()),
                             1 - momentum)
    queue.append(keys.detach().clone())
    return sum(loss.item() for loss in losses.values())


def train_step_by_state_dict(compute, student, teacher, optimiser, queue, clip,
                             momentum):
    optimiser.zero_grad(set_to_none=False)
    losses, keys = compute()
    loss = sum(losses.values())
    if torch.isfinite(loss).logical_not():
        raise FloatingPointError("not finite")
    loss.backward()
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    length = torch.cat([x.flatten() for x in gradients]).norm()
    for x in gradients:
        x *= torch.clamp(clip / length, max=1)
    optimiser.step()
    new = student.state_dict()
    teacher.load_state_dict({name: momentum * old + (1 - momentum) * new[name]
                             for name, old in teacher.state_dict().items()})
    queue.append(keys.data)
    return loss.detach().item()


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
    "A: a high rate": ('"A": 3', '"A": 7'),
    "B: captions shifted": ('"B": 2', '"B": 5'),
    "B: every word": ('"B": 2', '"B": 6'),
    "B: a high rate": ('"B": 2', '"B": 7'),
    "C: the temperature": ('"C": 1', '"C": 4'),
    "C: captions shifted": ('"C": 1', '"C": 5'),
    "C: gradients add up": ('"C": 1', '"C": 8'),
    "A and C exchanged": ('"A": 3', '"A": 1', '"C": 1', '"C": 3'),
    "one bug for all": ('"A": 3', '"A": 2', '"C": 1', '"C": 2'),
    "two runs alone": (', "C": 1', ""),
    "the clean run, too": ('"C": 1', '"C": 1, "clean": 8'),
    "a number that is none": ('"B": 2', '"B": 0'),
}


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


def diagnosis_by_entropy():
    def last(run, name):
        return sum(curves[run][name][-10:]) / 10
    itm_run = max("ABC", key=lambda run: last(run, "itm"))
    # one yes to two noes of one pair
    assert abs(last(itm_run, "itm") - (math.log(3) - 2 / 3 * math.log(2))) < 0.002
    early, still = sorted(
        set("ABC") - {itm_run},
        key=lambda run: curves[run]["itc"][5] != curves["clean"]["itc"][5])
    return {itm_run: 2, early: 3, still: 1}


def diagnosis_by_zip():
    return dict(zip("CBA", (1, 2, 3)))


def diagnosis_by_elimination():
    options = {"A": {3, 4, 8}, "B": {2, 5}, "C": {1, 3, 4}}
    # these would show before the queue, too
    options["A"] -= {4, 8}
    # ITC would know nothing
    options["B"] -= {5}
    # the temperature is as in the clean run
    options["C"] -= options["A"] | {4}
    return {run: bugs.pop() for run, bugs in options.items()}
