"""Assignment 3: the hidden tests, which follow those that students see in student.py."""


# %% tests update_teacher
with grading.closed():
    for mine, theirs in zip(teacher[1].buffers(), student[1].buffers()):
        grading.equal(mine, theirs, "buffers are no weights: the teacher has the student's as they are")
    for mine, was, new in zip(*(list(module.parameters()) for module in (teacher, old, student))):
        grading.equal(mine, new + 0.7 * (was - new),
                      "every weight keeps one share of its distance, bias and norm as well")


# %% tests shares
with grading.closed():
    for momentum in (0.5 + 0.49 * torch.rand(3, generator=g)).tolist():
        students = torch.randn(13, 4, generator=g)
        teacher = students[0]
        for student in students[1:]:
            teacher = momentum * teacher + (1 - momentum) * student
        grading.equal(shares(momentum, 12) @ students, teacher, "mixed by their shares, the students make the teacher")


# %% tests soft_targets
with grading.closed():
    keep, positive = torch.rand(9, generator=g) < 0.6, torch.rand(5, 9, generator=g) < 0.3
    keep[:2], positive[:, 1] = True, True
    sim = 3 * torch.randn(5, 9, generator=g)
    target, kept = soft_targets(positive, sim, 0.3, keep), keep.nonzero()[:, 0]
    for i in range(5):
        true, mass = positive[i, kept].double(), sim[i, kept].double().exp()
        grading.equal(target[i, kept], 0.7 * true / true.sum() + 0.3 * mass / mass.sum(),
                      "each query's own true keys and its own opinion, among the keys that are there")


# %% tests smoothed_targets
with grading.closed():
    only = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    by_hand = smoothed_targets(only, torch.tensor([[True, True], [False, True]]))
    assert by_hand.isfinite().all(), (
        "a query whose keys are all true has no rest to spread, and that is no reason for NaN")
    grading.equal(by_hand, torch.tensor([[0.5, 0.5], [0.8, 0.2]]), "where all keys are true they share the whole")
    positive = torch.rand(5, 8, generator=g) < 0.4
    positive[:, 0], positive[:, 1] = True, False
    target = torch.randn(5, 8, generator=g).softmax(-1)
    want = torch.stack([torch.stack([row[true == own].mean() for own in true]) for row, true in zip(target, positive)])
    grading.equal(smoothed_targets(target, positive), want, "each key has the mean of its kind in its own row")


# %% tests distilled_loss
with grading.closed():
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


# %% tests distil_step
with grading.closed():
    student, teacher = twins
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    student[1].weight.grad = torch.randn(4, 3, generator=g)                              # left over from something else
    seen = x.clone().requires_grad_()
    distil_step(student, teacher, optimiser, seen, labels, 0.4, 0.9)
    grading.equal(student[1].weight, new, "gradients left over from before do not count")
    assert seen.grad is not None, "what lies below the student learns, too"
    grading.equal(seen.grad, ((x @ w.T).softmax(-1) - target) @ w / 8,
                  "what lies below learns through the student alone")
    second = distil_step(student, teacher, optimiser, x, labels, 0.4, 0.9)
    target = 0.6 * F.one_hot(labels, 4) + 0.4 * (x @ mean.T).softmax(-1)
    grading.equal(second, -(target * (x @ new.T).log_softmax(-1)).sum(-1).mean(),
                  "the next step asks the teacher as it is then")
