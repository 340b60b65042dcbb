"""Right and wrong ways to fill the blanks of chapter 16, see tests/notebooks/test_blanks.py."""

RIGHT = {
    "clean_title": r"""
        import html, re
        title = re.sub("[.](svg|png|jpg)$", "", html.unescape(title))
        return re.sub("([A-Za-z]{3,})[0-9]+", r"\1", re.sub("0[0-9]+ ", "", title)).strip()
    """,
    "hold_out": """
        names = sorted(set(families))
        chosen = set(np.random.default_rng(1).permutation(names)[:len(names) // 10].tolist())
        return [family in chosen for family in families]
    """,
    "choose_rate": """
        return min(sweep, key=lambda rate: sweep[rate][-1] if sweep[rate][-1] > 0 else math.inf)
    """,
    "stop_early": """
        for stop in range(len(figures)):
            best = int(np.argmax(figures[:stop + 1]))
            if stop == best + patience:
                break
        return np.int64(best), stop
    """,
    "recall_at": """
        order = sim.argsort(1, descending=True)[:, :k].numpy()
        return sum(any(true[row, i] for i in places) for row, places in enumerate(order)) / len(sim)
    """,
    "first_answers": "return len({row.index(max(row)) for row in sim.tolist()})",
}
WRONG = {
    "clean_title": "return title",
    "hold_out": "return [i % 10 == 0 for i in range(len(families))]",
    "choose_rate": "return min(sweep, key=lambda rate: min(sweep[rate]))",
    "stop_early": "return int(np.argmax(figures)), len(figures) - 1",
    "recall_at": "return true.gather(1, sim.argmax(1)[:, None]).float().mean().item()",
    "first_answers": "return sim.argmax(0).unique().numel()",
}
# parts of cells above that run whole for a blank
NEEDS = {
    "clean_title": ["def all_of("],
    "hold_out": ["def all_of("],
    "choose_rate": ["def all_of("],
    "stop_early": ["def all_of("],
    "recall_at": ["def all_of("],
    "first_answers": ["def all_of("],
}
