"""Chapter 05's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""

RIGHT = {
    "make_teacher": """
        teacher = copy.deepcopy(student).eval()
        return teacher.requires_grad_(False)
    """,
    "update_teacher": """
        fast = dict(student.named_parameters())
        for name, slow in teacher.named_parameters():
            slow.data.lerp_(fast[name].data, 1 - momentum)
    """,
    "shares": """
        share = [1.0]
        for _ in range(steps):
            share = [momentum * one for one in share] + [1 - momentum]
        return share
    """,
    "itc_targets": """
        own = F.normalize(positive.float(), p=1, dim=-1)
        return torch.lerp(own, teacher_sim.softmax(-1), alpha)
    """,
    "word_loss": """
        word = F.one_hot(labels, logits.shape[-1])
        target = (1 - alpha) * word + alpha * teacher.softmax(-1)
        return losses.soft_cross_entropy(logits, target)
    """,
    "even_alpha": """
        alpha = torch.linspace(0, 1, 1_000_001, dtype=torch.float64)
        return alpha[((1 - alpha) + alpha * lie - alpha * fact).abs().argmin()].item()
    """,
}
WRONG = {
    "make_teacher": "return student.requires_grad_(False).eval()",
    "update_teacher": """
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters()):
                slow.copy_((1 - momentum) * slow + momentum * fast)
    """,
    "shares": "return (1 - momentum) * momentum ** torch.arange(steps, -1, -1)",
    "itc_targets": "return (1 - alpha) * positive + alpha * teacher_sim.softmax(-1)",
    "word_loss": """
        return ((1 - alpha) * F.cross_entropy(logits, labels)
                + alpha * losses.soft_cross_entropy(logits, teacher.softmax(-1)))
    """,
    "even_alpha": "return 0.5",
}
