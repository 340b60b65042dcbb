"""Assignment 5: the hidden tests, which follow those that students see in student.py."""


# %% tests mask_words
with grading.closed():
    def formula(tokens, starts, special, mask_id, rate, choose, kind, words):
        masked = tokens.tolist()
        labels = [[-100] * tokens.shape[1] for _ in tokens]
        for i, row in enumerate(tokens.tolist()):
            for j, token in enumerate(row):
                if starts[i, j]:
                    fate = choose[i, j].item(), kind[i, j].item()
                if token not in special and fate[0] < rate:
                    labels[i][j] = token
                    masked[i][j] = (mask_id if fate[1] < 0.8 else words[i, j].item()
                                    if fate[1] < 0.9 else token)
        return torch.tensor(masked), torch.tensor(labels)

    tokens, starts, words = draw_captions(g)
    properties.careful(mask_words, tokens, starts, special, 3, 0.5,
                       *torch.rand(2, *tokens.shape, generator=g), words)
    for rate in (0.3, 0.7, 1.0):
        tokens, starts, words = (torch.cat(both)
                                 for both in zip(draw_captions(g), draw_captions(g)))
        # another vocabulary, other special ids
        permutation = torch.randperm(1000, generator=g)
        *special, mask_id = permutation[:4].tolist()
        choose, kind = torch.rand(2, *tokens.shape, generator=g)
        # more of the rare fates
        kind[:, 1::2] = 0.75 + kind[:, 1::2] / 4
        args = (permutation[tokens], starts, tuple(special), mask_id, rate, choose,
                kind, permutation[words])
        got = mask_words(*args)
        want = formula(*args)
        assert ((got[0] == mask_id).equal(want[0] == mask_id)
                and (got[1][tokens < 3] == -100).all()), (
            "the ids of [MASK] and of what is special are given, and no others count")
        grading.equal(got[1], want[1],
                      "asked for are whole words, each with the chance of the rate")
        grading.equal(got[0], want[0],
                      "eight tenths of what is asked for go behind [MASK], a tenth "
                      "becomes what `words` has at its own place, a tenth stays")


# %% tests word_loss
with grading.closed():
    assert none.requires_grad, (
        "where nothing was hidden a gradient can run through the loss all the same")
    none.backward()
    assert nothing.grad is None or not nothing.grad.any(), (
        "where nothing was hidden the gradient is zero")
    labels = torch.where(torch.rand(3, 4, generator=g) < 0.5,
                         torch.randint(0, 7, (3, 4), generator=g), -100)
    # unequal numbers, the first word among them
    labels[0] = torch.tensor([0, 3, 6, 1])
    labels[1, :3] = -100
    properties.careful(word_loss, logits, labels)
    assert word_loss(1000 * logits, labels).isfinite(), (
        "the loss of a confident mistake is large but finite: stay in logarithms")

    def formula(logits, labels):
        paid = [place.logsumexp(0) - place[label]
                for row, word_id in zip(logits, labels.tolist())
                for place, label in zip(row, word_id) if label >= 0]
        return torch.stack(paid).mean()

    grading.equal(word_loss(logits, labels), formula(logits, labels),
                  "every hidden word counts alike, whichever caption it stands in and "
                  "whichever word it is")
    grading.same(word_loss, formula, logits, labels,
                 says="the gradient reaches the places that are asked for, "
                      "and no others")
    grading.same(word_loss, formula, 300 * logits, labels,
                 says="a confident mistake has its whole price and its whole "
                      "gradient: nothing is cut, nothing added")
    grading.same(word_loss, formula, torch.randn(5, 2, 4, generator=g),
                 torch.tensor([[0, 3]] + 4 * [[-100, 2]]),
                 says="any number of captions, places and words fits")


# %% tests learning_rate
with grading.closed():
    def formula(step, steps, warmup, hold, top, start, end):
        line = start + (top - start) * step / max(warmup, 1)
        angle = 0.5 * math.pi * max(0, step - warmup - hold) / (steps - warmup - hold)
        return line if step < warmup else end + (top - end) * math.cos(
            min(angle, math.pi / 2)) ** 2

    for warmup, hold in ((5, 0), (0, 4),
                         *torch.randint(0, 9, (3, 2), generator=g).tolist()):
        settings = dict(steps=warmup + hold
                        + int(torch.randint(1, 12, (), generator=g)), warmup=warmup,
                        hold=hold, top=1 + torch.rand((), generator=g).item(),
                        start=torch.rand((), generator=g).item(),
                        end=torch.rand((), generator=g).item())
        grading.equal(rates(learning_rate, 40, **settings),
                      rates(formula, 40, **settings),
                      "each part has its own length, and meets the next at its end")


# %% tests train_step
with grading.closed():
    # three steps of an optimiser with a memory, against its own steps on gradients from elsewhere
    compute, student, teacher, queue = small_run(g)
    p = weights(student).requires_grad_()
    adam = torch.optim.Adam(student.parameters(), lr=0.05)
    twin = torch.optim.Adam([p], lr=0.05)
    for _ in range(3):
        p.grad = descent(compute, student, 0.3)
        twin.step()
        train_step(compute, student, teacher, adam, queue, 0.3, 0.9)
        grading.equal(weights(student), p.detach(),
                      "step after step the optimiser sees this step's clipped "
                      "gradient, and no other")
    assert len(queue) == 4 and queue[0].equal(torch.zeros(5, 2)), (
        "all keys stay in the queue: none is thrown away here")
    compute, student, teacher, queue = small_run(g)
    student.eval()
    want = weights(student) - 0.3 * descent(compute, student, 0.2)
    before = weights(teacher)
    queue.calls.clear()
    sgd = torch.optim.SGD(student.parameters(), lr=0.3)
    properties.careful(lambda *models: train_step(compute, *models, sgd, queue, 0.2,
                                                  0.6), student, teacher)
    assert queue.calls == [False] and not student.training, (
        "a student in evaluation reads so, and stays so")
    grading.equal(weights(student), want,
                  "at another length to clip to and another rate the step goes "
                  "as it should")
    grading.equal(weights(teacher), 0.6 * before + 0.4 * want,
                  "all of the teacher follows, by the momentum given")


# %% tests diagnosis
with grading.closed():
    run_name = "ABC"[int(torch.randint(3, (), generator=grading.inputs()))]
    assert answer[run_name] == diagnosis()[run_name], (
        "asked twice it gives the same answer")
    assert answer == {"A": 3, "B": 2, "C": 1}, (
        "at least one run has another bug: which of its curves parts from the clean "
        "run, when, and where does it rest?")
