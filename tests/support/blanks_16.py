"""Right and wrong ways to fill the blanks of chapter 16, see tests/notebooks/test_blanks.py."""

RIGHT = {                             # other ways than the chapter's answers
    "clean_title": ["""
        import html, re
        title = re.sub("[.](svg|png|jpg)$", "", html.unescape(title))
        return re.sub("([A-Za-z]{3,})[0-9]+", r"\\1", re.sub("0[0-9]+ ", "", title)).strip()"""],
    "hold_out": ["""
        names = sorted(set(families))
        chosen = set(np.random.default_rng(1).permutation(names)[:len(names) // 10].tolist())
        return [family in chosen for family in families]""", """
        return np.array([int(family) % 10 == 3 for family in families])"""],
    "choose_rate": ["""
        return min(sweep, key=lambda rate: sweep[rate][-1] if sweep[rate][-1] > 0 else math.inf)""", """
        return min(sweep, key=lambda rate: np.nan_to_num(np.mean(sweep[rate][-3:]), nan=math.inf))"""],
    "stop_early": ["""
        for stop in range(len(figures)):
            best = int(np.argmax(figures[:stop + 1]))
            if stop == best + patience:
                break
        return np.int64(best), stop"""],
    "recall_at": ["""
        order = sim.argsort(1, descending=True)[:, :k].numpy()
        return sum(any(true[row, i] for i in places) for row, places in enumerate(order)) / len(sim)""", """
        kth = sim.sort(1, descending=True).values[:, k - 1:k]
        return ((sim >= kth) & true).any(1).double().mean()"""],
    "first_answers": ["""
        return len({row.index(max(row)) for row in sim.tolist()})""", """
        return torch.tensor(len(sim.topk(1).indices.unique()))"""]}
WRONG = {                             # an answer, and what the check says of it
    "clean_title": [("return title", "entities"), ("""
        import html, re
        return re.sub("[0-9]+", "", html.unescape(title).replace(".svg", ""))""", "one can see")],
    "hold_out": [("return [i % 10 == 0 for i in range(len(families))]", "no family"),
                 ("return [False for family in families]", "5 to 15%"),
                 ("""
        hold_out.calls = getattr(hold_out, "calls", 0) + 1
        place = hold_out.calls % 10
        return [int(family) % 10 == place for family in families]""", "the same again"),
                 ("return [hash(family) % 10 == 0 for family in families]", "where `hash` differs")],
    "choose_rate": [("return min(sweep, key=lambda rate: min(sweep[rate]))", "diverged"),
                    ("return min(sweep, key=lambda rate: sweep[rate][-1])", "diverged")],
    "stop_early": [("return int(np.argmax(figures)), len(figures) - 1", "look ahead"),
                   ("best = int(np.argmax(figures)); return best, min(best + patience, len(figures) - 1)",
                    "look ahead")],
    "recall_at": [("return true.gather(1, sim.argmax(1)[:, None]).float().mean().item()", "k = 5"),
                  ("return true.gather(1, sim.topk(k).indices).float().sum(1).mean().item()", "several")],
    "first_answers": [("return sim.argmax(0).unique().numel()", "queries are rows"),
                      ("return len(sim)", "all the same")]}
NEEDS = {name: ["def all_of("] for name in RIGHT}
