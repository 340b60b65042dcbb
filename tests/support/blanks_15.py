"""Chapter 15's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "block_flops": ["""
    def product(n, k, m):
        return 2 * n * k * m
    return [4 * product(n, d, d), product(n, d, n) + product(n, n, d),
            product(n, d, r * d) + product(n, r * d, d)]
""", "return 8 * n * d ** 2, 4 * n ** 2 * d, int(4 * r * n * d ** 2)"],
    "pass_loss": ["""
    mean_count = count / passes
    return losses.sum() / mean_count
""", """
    total = torch.tensor(0.0)
    for loss in losses:
        total = total + loss / count
    return passes * total
"""],
    "own_gradient": ["""
    b = grads.shape[1] // grads.shape[0]
    return sum(grads[process, rank * b:(rank + 1) * b] for process in range(len(grads)))
""", """
    p, rows, d = grads.shape
    return grads.view(p, p, rows // p, d)[:, rank].sum(0)
"""]}
WRONG = {
    "block_flops": [
        "return 4 * n * d * d, 2 * n * n * d, 2 * r * n * d * d",           # a multiply-add is one
        "return 6 * n * d * d, 4 * n * n * d, 4 * r * n * d * d",           # no output projection
        "return 8 * n * d * d, 2 * n * n * d, 4 * r * n * d * d",           # no weighted sum
        "return 8 * n * d * d, 4 * n * d * d, 4 * r * n * d * d",           # linear in n
        "return 8 * n * d * d, 4 * n * n * d, 2 * r * n * d * d",           # one layer of the MLP
        "return 8 * n * d * d, 4 * n * n * d, 16 * n * d * d"],             # r = 4, always
    "pass_loss": [
        ("return losses.mean()", "NaN"),
        "return losses.mean() if len(losses) else losses.sum()",
        "return losses.sum() / count",
        "return losses.sum() / (count * passes)",
        "return losses.sum()",
        ("return losses.mean() * len(losses) * passes / count", "NaN"),     # a pass without words
        "return losses.sum() * passes / (count + 1)"],
    "own_gradient": [
        "return grads.mean(0).chunk(len(grads))[rank]",                     # DDP's mean, once more
        "return grads[rank].chunk(len(grads))[rank]",                       # as if detached
        "return grads.sum(0)[rank::len(grads)]",                            # every p-th row
        "return grads.sum(0)[:grads.shape[1] // len(grads)]",               # rank 0's rows
        "return grads.sum(0)[rank:rank + grads.shape[1] // len(grads)]",
        "return grads.sum(0)",
        "return grads[rank].view(len(grads), -1, grads.shape[2]).sum(0)"]}  # over the wrong axis
