"""Assignment 5: the hidden tests, which follow those that students see in student.py."""


# %% tests mask_words
with grading.closed():
    def formula(tokens, starts, rate, choose, kind, words):
        masked, labels = tokens.tolist(), [[-100] * tokens.shape[1] for _ in tokens]
        for i, row in enumerate(tokens.tolist()):
            for j, token in enumerate(row):
                if starts[i, j]:
                    fate = choose[i, j].item(), kind[i, j].item()
                if token > 2 and fate[0] < rate:
                    labels[i][j] = token
                    masked[i][j] = 3 if fate[1] < 0.8 else words[i, j].item() if fate[1] < 0.9 else token
        return torch.tensor(masked), torch.tensor(labels)

    for rate in (0.3, 0.7, 1.0):
        tokens, starts, words = draw_captions(g)
        choose, kind = torch.rand(2, *tokens.shape, generator=g)
        kind[:, 1::2] = 0.75 + kind[:, 1::2] / 4                             # more of the rare fates
        got, want = mask_words(tokens, starts, special, 3, rate, choose, kind, words), formula(
            tokens, starts, rate, choose, kind, words)
        grading.equal(got[1], want[1], "asked for are whole words, each with the chance of the rate")
        grading.equal(got[0], want[0],
                      "eight tenths of what is asked for go behind [MASK], a tenth becomes what "
                      "`words` has at its own place, a tenth stays")


# %% tests word_loss
with grading.closed():
    assert none.requires_grad, "where nothing was hidden a gradient can run through the loss all the same"
    none.backward()
    assert nothing.grad is None or not nothing.grad.any(), "where nothing was hidden the gradient is zero"
    labels = torch.where(torch.rand(3, 4, generator=g) < 0.5, torch.randint(0, 7, (3, 4), generator=g), -100)
    labels[0], labels[1, :3] = torch.tensor([0, 3, 6, 1]), -100     # unequal numbers, the first word among them
    assert word_loss(1000 * logits, labels).isfinite(), (
        "a confident mistake is dear, but no infinity: stay in logarithms")

    def formula(logits, labels):
        paid = [place.logsumexp(0) - place[label] for row, wanted in zip(logits, labels.tolist())
                for place, label in zip(row, wanted) if label >= 0]
        return torch.stack(paid).mean()

    grading.equal(word_loss(logits, labels), formula(logits, labels),
                  "every hidden word counts alike, whichever caption it stands in and whichever word it is")
    grading.same(word_loss, formula, logits, labels,
                 says="the gradient reaches the places that are asked for, and no others")


# %% tests learning_rate
with grading.closed():
    def formula(step, steps, warmup, hold, top, start, end):
        line = start + (top - start) * step / max(warmup, 1)
        angle = 0.5 * math.pi * max(0, step - warmup - hold) / (steps - warmup - hold)
        return line if step < warmup else end + (top - end) * math.cos(min(angle, math.pi / 2)) ** 2

    for warmup, hold in ((5, 0), (0, 4), *torch.randint(0, 9, (3, 2), generator=g).tolist()):
        given = dict(steps=warmup + hold + int(torch.randint(1, 12, (), generator=g)), warmup=warmup, hold=hold,
                     top=1 + torch.rand((), generator=g).item(), start=torch.rand((), generator=g).item(),
                     end=torch.rand((), generator=g).item())
        grading.equal(rates(learning_rate, 40, **given), rates(formula, 40, **given),
                      "each part has its own length, and meets the next at its end")


# %% tests train_step
with grading.closed():
    for share in (0.1, 0.5, 2.0):
        compute, student, teacher, queue = small_run(g)
        clip = share * descent(compute, student).norm().item()
        want = weights(student) - 0.1 * descent(compute, student, clip)
        keys, before = compute()[1].detach(), weights(teacher)
        train_step(compute, student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), queue, clip, 0.9)
        grading.equal(weights(student), want,
                      "the gradient of all weights together is clipped to the length `clip` before the optimiser "
                      "uses it, keeps its direction, and stays as it is where it is shorter")
        grading.equal(weights(teacher), 0.9 * before + 0.1 * weights(student),
                      "the teacher keeps the share `momentum` of itself, and sees the student's new weights")
        grading.equal(queue[-1], keys, "the newest keys stand last, as they were computed")
        assert queue[0].equal(torch.zeros(5, 2)), "older keys stay as they are"
        grading.equal(torch.cat([x.flatten() for x in queue.seen[-1]]), weights(student, teacher),
                      "the queue comes last: student and teacher have moved before it")
    # three steps of an optimiser with a memory, against its own steps on gradients from elsewhere
    compute, student, teacher, queue = small_run(g)
    p = weights(student).requires_grad_()
    adam, twin = torch.optim.AdamW(student.parameters(), lr=0.05), torch.optim.AdamW([p], lr=0.05)
    for _ in range(3):
        p.grad = descent(compute, student, 0.3)
        twin.step()
        train_step(compute, student, teacher, adam, queue, 0.3, 0.9)
        grading.equal(weights(student), p.detach(),
                      "step after step the optimiser sees this step's clipped gradient, and no other")
    compute, student, teacher, queue = small_run(g)
    before, held = weights(student, teacher), len(queue)
    for bad in (math.inf, math.nan):
        try:
            train_step(lambda: ({"itc": compute()[0]["itc"], "mlm": compute()[0]["mlm"] * bad}, compute()[1]),
                       student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), queue, 1.0, 0.9)
            raised = False
        except FloatingPointError:
            raised = True
        assert raised, "a loss that is not finite stops the run, and says so"
        assert weights(student, teacher).equal(before) and len(queue) == held, (
            "a loss that is not finite changes nothing")


# %% tests diagnosis
with grading.closed():
    import hashlib  # the key is not to be read at a glance; it is no secret
    key = {"A": "0931c615", "B": "2fe093f9", "C": "c33d6150"}
    look = {"A": "up to step 80 all its curves are those of the clean run; "
                 "what began there, and which loss alone noticed?",
            "B": "one loss alone stands still, and the value where it does is the entropy of something",
            "C": "one loss lags from the first steps on, with the queue and without, and still falls"}
    for i in torch.randperm(3, generator=grading.inputs()).tolist():
        run = "ABC"[i]
        code = hashlib.sha256(f"{run} {found[run]}".encode()).hexdigest()[:8]
        assert code == key[run], f"run {run} has another bug: {look[run]}"
