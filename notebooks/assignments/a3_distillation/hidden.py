"""Assignment 3: the hidden tests, which follow those that students see in student.py."""


# %% tests update_teacher
with grading.closed():
    for now, source in zip(teacher[1].buffers(), student[1].buffers()):
        grading.equal(now, source,
                      "buffers are no weights: the teacher has the student's "
                      "as they are")
    for now, was, new in zip(*(list(module.parameters())
                               for module in (teacher, old, student))):
        grading.equal(now, new + 0.7 * (was - new),
                      "every weight keeps one share of its distance, bias and "
                      "norm as well")
    for now, source in zip(frozen[1].buffers(), student[1].buffers()):
        grading.equal(now, source, "buffers are the student's at any momentum")
    teacher.requires_grad_(False).eval()
    student.requires_grad_().train()
    # the part that is fine-tuned may be small
    student[0].bias.requires_grad_(False)
    student[0].weight.grad = torch.ones(4, 3)
    tracked = student[1].running_mean
    want = 0.5 * (teacher[0].bias + student[0].bias.detach())
    properties.careful(update_teacher, teacher, student, 0.5)
    grading.equal(teacher[0].bias, want,
                  "a weight that is frozen in the student is one of the "
                  "teacher's all the same")
    assert student[0].weight.grad is not None and student[0].weight.grad.all(), (
        "the student keeps its gradients")
    tracked += 1
    grading.equal(teacher[1].running_mean, tracked - 1,
                  "buffers are copies: what becomes of the student's is not followed")


# %% tests shares
with grading.closed():
    for momentum in (0.5 + 0.49 * torch.rand(3, generator=g)).tolist():
        students = torch.randn(13, 4, generator=g)
        teacher = students[0]
        for student in students[1:]:
            teacher = momentum * teacher + (1 - momentum) * student
        grading.equal(shares(momentum, 12) @ students, teacher,
                      "mixed by their shares, the students make the teacher")


# %% tests soft_targets
with grading.closed():
    keep = torch.rand(9, generator=g) < 0.6
    positive = torch.rand(5, 9, generator=g) < 0.3
    keep[:2] = True
    keep[8] = False
    positive[:, 1] = True
    sim = 3 * torch.randn(5, 9, generator=g)
    properties.careful(soft_targets, positive, sim.clone().requires_grad_(), 0.3, keep)
    columns = keep.nonzero()[:, 0]
    for size, says in (
            (1, "each query's own true keys and its own opinion, among the keys that "
                "are there"),
            (300, "similarities may be of any size: an exponential of them must not "
                  "overflow or vanish")):
        target = soft_targets(positive, size * sim, 0.3, keep)
        for i in range(5):
            true = positive[i, columns].double()
            score = size * sim[i, columns].double()
            grading.equal(target[i, columns],
                          0.7 * true / true.sum()
                          + 0.3 * (score - score.logsumexp(0)).exp(), says)
    alike = torch.where(keep, -1e5, 1e5).expand(5, -1)
    grading.equal(soft_targets(positive, alike, 1.0, keep),
                  (keep / keep.sum()).expand(5, -1),
                  "an empty slot has no share at all, however high it would score, "
                  "and however low all others")


# %% tests smoothed_targets
with grading.closed():
    only = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    by_hand = smoothed_targets(only, torch.tensor([[True, True], [False, True]]))
    assert by_hand.isfinite().all(), ("a query whose keys are all true has no rest to "
                                      "spread, and that is no reason for NaN")
    grading.equal(by_hand, torch.tensor([[0.5, 0.5], [0.8, 0.2]]),
                  "where all keys are true they share the whole")
    positive = torch.rand(5, 8, generator=g) < 0.4
    positive[:, 0] = True
    positive[:, 1] = False
    target = torch.randn(5, 8, generator=g).softmax(-1)
    want = torch.stack([torch.stack([row[true == flag].mean() for flag in true])
                        for row, true in zip(target, positive)])
    grading.equal(properties.careful(smoothed_targets, target, positive), want,
                  "each key has the mean of its kind in its own row")


# %% tests distilled_loss
with grading.closed():
    grading.equal(distilled_loss(logits, labels * 0 - 100, teacher, alpha), 0.0,
                  "where nothing is hidden there is nothing to pay")
    properties.careful(distilled_loss, logits, labels, teacher.clone().requires_grad_(),
                       alpha)
    assert distilled_loss(1000 * logits, labels, teacher, alpha).isfinite(), \
        "the loss of a confident mistake is large but finite: stay in logarithms"

    def formula(logits, labels, teacher, alpha):
        costs = []
        for row, label, opinion, a in zip(logits, labels, teacher.detach(), alpha):
            if label != -100:
                target = (a * (opinion - opinion.logsumexp(0)).exp()
                          + (1 - a) * torch.eye(len(row))[label])
                # as the target sums to one
                costs.append(row.logsumexp(0) - target @ row)
        return torch.stack(costs).mean()

    for size, says in (
            (1, "each hidden word by its own trust, to the mixed target, with the "
                "student's gradient alone"),
            (100, "a confident mistake has its whole price and its whole gradient: "
                  "nothing is cut, nothing added")):
        grading.same(lambda x, y: distilled_loss(x, labels, y, alpha),
                     lambda x, y: formula(x, labels, y, alpha), size * logits,
                     size * teacher, says=says)


# %% tests distil_step
with grading.closed():
    student, teacher = twins
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    # left over from something else
    student[1].weight.grad = torch.randn(4, 3, generator=g)
    x_grad = x.clone().requires_grad_()
    distil_step(student, teacher, optimiser, x_grad, labels, 0.4, 0.9)
    grading.equal(student[1].weight, new,
                  "gradients left over from before do not count")
    assert x_grad.grad is not None, "what lies below the student learns, too"
    grading.equal(x_grad.grad, ((x @ w.T).softmax(-1) - target) @ w / 8,
                  "what lies below learns through the student alone")
    second = distil_step(student, teacher, optimiser, x, labels, 0.4, 0.9)
    target = 0.6 * F.one_hot(labels, 4) + 0.4 * (x @ mean.T).softmax(-1)
    grading.equal(second, -(target * (x @ new.T).log_softmax(-1)).sum(-1).mean(),
                  "the next step asks the teacher as it is then")

    class Witness(nn.Module):
        """Notes in which mode it is called, and lets all through."""

        def forward(self, x):
            modes.append(self.training)
            return x

    for mode in (True, False):
        modes = []
        student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        teacher = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        for p in (*student.parameters(), *teacher.parameters()):
            p.data = torch.randn(p.shape, generator=g)
        student.insert(0, Witness()).train(mode)
        student[1].bias.requires_grad_(False)
        teacher.requires_grad_(False).eval()
        twin, old = copy.deepcopy((student, teacher))
        target = 0.3 * F.one_hot(labels, 4) + 0.7 * old(x).softmax(-1)
        F.cross_entropy(twin(x), target).backward()
        torch.optim.SGD(twin.parameters(), lr=0.5).step()
        modes.clear()
        optimiser = torch.optim.SGD(student.parameters(), lr=0.5)

        def step(student, teacher, x, labels):
            return distil_step(student, teacher, optimiser, x, labels, 0.7, 0.6)

        properties.careful(step, student, teacher, x, labels)
        assert modes == [mode], (
            "the student reads the batch once, in the mode that it is in")
        for now, want in zip(student.parameters(), twin.parameters()):
            grading.equal(now, want,
                          "the target has as much of the teacher's opinion "
                          "as the trust says")
        for now, was, source in zip(teacher.parameters(), old.parameters(),
                                    twin.parameters()):
            grading.equal(now, 0.6 * was + 0.4 * source,
                          "all of the teacher's weights follow, a frozen one as well")
        for now, source in zip(teacher.buffers(), twin.buffers()):
            grading.equal(now, source,
                          "the teacher follows as you wrote it in 1: it has the "
                          "student's buffers")
