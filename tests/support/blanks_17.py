"""Chapter 17's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

HOOK = """
    part, columns = find_part(some.run, head)

    def hook(part, arguments):
        x = arguments[0].clone()
        x[..., columns] = new[:, :x.shape[1]]
        return x

    handle = part.register_forward_pre_hook(hook)
"""
OUTPUTS = """
    true, false = outputs_of(some, TRUE)[head], outputs_of(some, FALSE)[head]
    at = where[:, :true.shape[1], None]
"""
RIGHT = {
    "turned": ["""
    distances = torch.stack([true, false]) - odds
    return (distances.abs().argmin(0) == 0).double().mean()
""", """
    return sum(abs(o - t) < abs(o - f) for o, t, f in zip(odds, true, false)) / len(odds)
"""],
    "odds_with": [HOOK + """
    try:
        return some.odds(which)
    finally:
        handle.remove()
""", """
    part, columns = find_part(some.run, head)
    is_head = torch.zeros(part.in_features, dtype=torch.bool)
    is_head[columns] = True

    def hook(part, arguments):
        x, = arguments
        wide = torch.zeros_like(x)
        wide[:, :, columns] = new[:, :x.shape[1]]
        return torch.where(is_head, wide, x)

    with part.register_forward_pre_hook(hook):
        return some.odds(which)
"""],
    "mean_output": ["""
    mask = keep[:, :output.shape[1], None].float()
    mean = torch.zeros(1, *output.shape[1:])
    mean[:, 0] = output[:, 0].mean(0)
    mean[:, 1:] = (output * mask)[:, 1:].sum((0, 1)) / mask[:, 1:].sum()
    return mean
""", """
    words = torch.cat([row[1:n] for row, n in zip(output, keep.sum(1))]).mean(0)
    return torch.stack([output[:, 0].mean(0), *[words] * (output.shape[1] - 1)]).unsqueeze(0)
"""],
    "shift": [OUTPUTS + """
    before = some.odds(FALSE)
    with replaced(some.run, {head: false + at * (true - false)}):
        return some.odds(FALSE).mean() - before.mean()
""", OUTPUTS + """
    new = torch.where(at, true, false)
    return (odds_replaced(some, FALSE, head, new) - some.odds(FALSE)).mean()
"""],
    "probe": ["""
    centred = x - x.mean(0)
    values, axes = torch.linalg.eigh(centred.T @ centred)
    weights = axes @ ((axes.T @ centred.T @ (y - y.mean())) / (values + ridge))
    return weights, (y - x @ weights).mean()
""", """
    mean, middle = x.mean(0), y.mean()
    inverse = torch.linalg.inv((x - mean).T @ (x - mean) + torch.diag(torch.full_like(mean, ridge)))
    weights = inverse @ ((x - mean).T @ y)
    return weights, middle - mean @ weights
"""],
    "direction": ["""
    reading = x @ weights
    reading = reading - reading.mean()
    return torch.stack([(column - column.mean()) @ reading for column in x.T]) / reading.square().sum()
""", """
    centred = x - x.mean(0)
    return torch.linalg.lstsq((centred @ weights)[:, None], centred).solution[0]
"""]}
WRONG = {
    "turned": ["""
    return ((odds - true).abs() > (odds - false).abs()).float().mean()     # still the false answer
""", """
    return ((odds - true) < (odds - false)).float().mean()        # distances without their size
""", """
    return ((odds - true).abs() < (odds - false).abs()).float().sum()      # a number of questions
""", """
    return (odds > false).float().mean()                          # any move counts
"""],
    "odds_with": [HOOK + """
    return some.odds(which)                                       # the hook stays
""", HOOK.replace("arguments[0].clone()", "torch.zeros_like(arguments[0])") + """
    odds = some.odds(which)                                       # the other heads are lost, too
    handle.remove()
    return odds
""", HOOK.replace("x[..., columns] =", "x[..., columns] +=") + """
    odds = some.odds(which)                                       # added, not replaced
    handle.remove()
    return odds
""", HOOK + """
    handle.remove()                                               # before it is of use
    return some.odds(which)
"""],
    "mean_output": ["""
    cls, words = output[:, 0].mean(0), output[:, 1:].mean((0, 1))          # padding counts
    return torch.stack([cls] + (output.shape[1] - 1) * [words])[None]
""", """
    mean = output[keep[:, :output.shape[1]]].mean(0)              # [CLS] as any word
    return mean.expand(1, output.shape[1], -1)
""", """
    mask = keep[:, :output.shape[1], None].float()                # a mean for each place
    return (output * mask).sum(0, keepdim=True) / mask.sum(0, keepdim=True)
""", """
    return torch.zeros(1, *output.shape[1:])                      # zeros, not the mean
"""],
    "shift": [OUTPUTS + """
    with replaced(some.run, {head: torch.where(at, true, false)}):
        return (some.odds(FALSE) - some.odds(FALSE)).mean()       # both patched
""", OUTPUTS + """
    with replaced(some.run, {head: true}):                        # at all words
        odds = some.odds(FALSE)
    return (odds - some.odds(FALSE)).mean()
""", OUTPUTS + """
    with replaced(some.run, {head: true * at}):                   # elsewhere nothing
        odds = some.odds(FALSE)
    return (odds - some.odds(FALSE)).mean()
""", OUTPUTS + """
    with replaced(some.run, {head: torch.where(at, true, false)}):
        odds = some.odds(TRUE)                                    # into the true scenes' pass
    return (odds - some.odds(FALSE)).mean()
"""],
    "probe": ["""
    gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)          # not centred
    weights = torch.linalg.solve(gram, x.T @ y)
    return weights, y.mean() - weights @ x.mean(0)
""", """
    centred = x - x.mean(0)                                       # no ridge
    weights = torch.linalg.solve(centred.T @ centred, centred.T @ (y - y.mean()))
    return weights, y.mean() - weights @ x.mean(0)
""", """
    centred = x - x.mean(0)                                       # ridge off the diagonal, too
    weights = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (y - y.mean()))
    return weights, y.mean() - weights @ x.mean(0)
""", """
    centred = x - x.mean(0)
    gram = centred.T @ centred + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(gram, centred.T @ (y - y.mean())), y.mean()  # a bias for centred words
"""],
    "direction": ["""
    return weights / (weights @ weights)                          # along the reader itself
""", """
    reading = x @ weights                                         # not centred
    return x.T @ reading / (reading @ reading)
""", """
    centred = x - x.mean(0)
    change = centred.T @ (centred @ weights)
    return change / change.norm()                                 # a step of another length
"""]}
