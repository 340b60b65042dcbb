"""Chapter 17's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "turned": """
        distances = torch.stack([true, false]) - odds
        return (distances.abs().argmin(0) == 0).double().mean()
    """,
    "odds_with": """
        part, columns = find_part(some.run, head)

        def hook(part, arguments):
            x = arguments[0].clone()
            x[..., columns] = new[:, :x.shape[1]]
            return x

        handle = part.register_forward_pre_hook(hook)

        try:
            return some.odds(which)
        finally:
            handle.remove()
    """,
    "mean_output": """
        mask = keep[:, :output.shape[1], None].float()
        mean = torch.zeros(1, *output.shape[1:])
        mean[:, 0] = output[:, 0].mean(0)
        mean[:, 1:] = (output * mask)[:, 1:].sum((0, 1)) / mask[:, 1:].sum()
        return mean
    """,
    "shift": """
        true, false = outputs_of(some, TRUE)[head], outputs_of(some, FALSE)[head]
        at = where[:, :true.shape[1], None]

        before = some.odds(FALSE)
        with replaced(some.run, {head: false + at * (true - false)}):
            return some.odds(FALSE).mean() - before.mean()
    """,
    "probe": """
        centred = x - x.mean(0)
        values, axes = torch.linalg.eigh(centred.T @ centred)
        weights = axes @ ((axes.T @ centred.T @ (y - y.mean())) / (values + ridge))
        return weights, (y - x @ weights).mean()
    """,
    "direction": """
        reading = x @ weights
        reading = reading - reading.mean()
        slopes = [(column - column.mean()) @ reading for column in x.T]
        return torch.stack(slopes) / reading.square().sum()
    """,
}
WRONG = {
    "turned": """
        return ((odds - true).abs() > (odds - false).abs()).float().mean()
    """,
    "odds_with": """
        part, columns = find_part(some.run, head)

        def hook(part, arguments):
            x = arguments[0].clone()
            x[..., columns] = new[:, :x.shape[1]]
            return x

        handle = part.register_forward_pre_hook(hook)

        return some.odds(which)                                       # the hook stays
    """,
    "mean_output": """
        cls, words = output[:, 0].mean(0), output[:, 1:].mean((0, 1))          # padding counts
        return torch.stack([cls] + (output.shape[1] - 1) * [words])[None]
    """,
    "shift": """
        true, false = outputs_of(some, TRUE)[head], outputs_of(some, FALSE)[head]
        at = where[:, :true.shape[1], None]

        with replaced(some.run, {head: torch.where(at, true, false)}):
            return (some.odds(FALSE) - some.odds(FALSE)).mean()       # both patched
    """,
    "probe": """
        gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)          # not centred
        weights = torch.linalg.solve(gram, x.T @ y)
        return weights, y.mean() - weights @ x.mean(0)
    """,
    "direction": """
        return weights / (weights @ weights)                          # along the reader itself
    """,
}
