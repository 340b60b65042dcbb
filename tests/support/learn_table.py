"""The table of docs/results.md, from what notebooks/experiments/learn.py wrote."""

ROWS = (  # title, figures, baselines
    (
        "R@1 of 500 scenes, ITC, image to text / text to image",
        "plain.itc_i2t_r1 plain.itc_t2i_r1",
        {"objects alone": "plain.oracle_r1", "warm start": "start.itc_i2t_r1"},
    ),
    ("R@1 of 500, ITC's ten best re-ranked by ITM", "plain.rerank_i2t_r1 plain.rerank_t2i_r1", {}),
    ("R@1 of 500, ITC and ITM", "plain.rerank_plus_i2t_r1 plain.rerank_plus_t2i_r1", {}),
    (
        "R@1 in a family of 4, ITC",
        "families.itc_i2t_r1 families.itc_t2i_r1",
        {"objects alone": "families.oracle_r1"},
    ),
    (
        "R@1 in a family of 4, ITM",
        "families.rerank_i2t_r1 families.rerank_t2i_r1",
        {"chance": "families.chance_r1"},
    ),
    ("R@1 of 500 in an unseen style, ITC", "unseen_style.itc_i2t_r1 unseen_style.itc_t2i_r1", {}),
    (
        "R@1 of 500, object pairs never seen together, ITC",
        "unseen_pairs.itc_i2t_r1 unseen_pairs.itc_t2i_r1",
        {"pairs seen together": "unseen_pairs.control.itc_i2t_r1"},
    ),
    *(
        (
            f"one change, ITM accuracy: {kind}",
            f"itm_one_change_accuracy.{kind}",
            {"no image": f"itm_one_change_blank.{kind}"},
        )
        for kind in ("size", "count", "background", "place", "relation")
    ),
    (
        "one change, ITM accuracy: relation within one half of the image",
        "itm_one_change_accuracy.relation_in_one_half",
        {},
    ),
    ("one change, ITC accuracy: relation", "itc_one_change_accuracy.relation", {}),
    (
        "a relation's caption / the same said the other way round, accepted by ITM",
        "itm_accepted.caption itm_accepted.paraphrase",
        {"its foil": "itm_accepted.foil", "another direction": "itm_accepted.other_direction"},
    ),
    (
        "the same within one half of the image",
        "itm_accepted.caption_in_one_half itm_accepted.paraphrase_in_one_half",
        {
            "its foil": "itm_accepted.foil_in_one_half",
            "another direction": "itm_accepted.other_direction_in_one_half",
        },
    ),
    *(
        (
            f"masked word, accuracy: {kind}",
            f"mlm_accuracy.{kind}",
            {"no image": f"mlm_accuracy_without_image.{kind}"},
        )
        for kind in ("object", "size", "place", "relation")
    ),
    (
        "pointing, ITM",
        "pointing_itm",
        {"chance": "pointing_chance", "warm start": "start.pointing_itm"},
    ),
    ("pointing, MLM", "pointing_mlm", {"warm start": "start.pointing_mlm"}),
)


def mean(result: dict, names: str) -> str:
    return " / ".join(f"{result['figures'][name]['mean']:.2f}" for name in names.split())


def cell(result: dict, names: str) -> str:
    """The mean; where seeds differ by more than .1, the lowest and the highest, too."""
    figures = [result["figures"][name] for name in names.split()]
    if max(figure["high"] - figure["low"] for figure in figures) <= 0.1:
        return mean(result, names)
    ends = [f"{figure['low']:.2f} to {figure['high']:.2f}" for figure in figures]
    return f"{mean(result, names)} ({' / '.join(ends)})"


def table(result: dict) -> str:
    """Markdown, each figure beside its baselines."""

    def minutes(of: str) -> str:
        figures = result["figures"]
        seconds = figures["seconds.warm_start"][of] + figures["seconds.train"][of]
        return f"{seconds / 60:.1f}"

    lines = [
        f"Mean of {result['seeds']} seeds, each evaluated on newly drawn scenes; "
        f"`{result['command']}`, {result['date'][:10]}, {result['device']}. "
        f"A run trained for {minutes('mean')} minutes, the shortest for {minutes('low')}.",
        "",
        "| | mean | baselines |",
        "|---|---|---|",
    ]
    for title, names, baselines in ROWS:
        beside = ", ".join(f"{what} {cell(result, name)}" for what, name in baselines.items())
        lines.append(f"| {title} | {cell(result, names)} | {beside} |")
    return "\n".join(lines)
