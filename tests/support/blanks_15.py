"""Chapter 15's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "block_flops": """
        def product(n, k, m):
            return 2 * n * k * m
        return [4 * product(n, d, d), product(n, d, n) + product(n, n, d),
                product(n, d, r * d) + product(n, r * d, d)]
    """,
    "pass_loss": """
        mean_count = count / passes
        return losses.sum() / mean_count
    """,
    "own_gradient": """
        b = grads.shape[1] // grads.shape[0]
        return sum(grads[process, rank * b:(rank + 1) * b] for process in range(len(grads)))
    """,
}
WRONG = {
    "block_flops": "return 4 * n * d * d, 2 * n * n * d, 2 * r * n * d * d",
    "pass_loss": "return losses.mean()",
    "own_gradient": "return grads.mean(0).chunk(len(grads))[rank]",
}
