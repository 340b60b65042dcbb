"""What learn.py measured, as tables: a recipe beside its baselines, and recipes side by side."""

# title, figures, baselines
ROWS = [
    (
        "R@1 of 500 scenes, ITC, image to text / text to image",
        "plain.itc_i2t_r1 plain.itc_t2i_r1",
        {"objects alone": "plain.oracle_r1", "warm start": "start.itc_i2t_r1"},
    ),
    (
        "R@1 of 500, ITC's ten best re-ranked by ITM",
        "plain.rerank_i2t_r1 plain.rerank_t2i_r1",
        {},
    ),
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
    (
        "R@1 of 500 in an unseen style, ITC",
        "unseen_style.itc_i2t_r1 unseen_style.itc_t2i_r1",
        {},
    ),
    (
        "R@1 of 500, object pairs never seen together, ITC",
        "unseen_pairs.itc_i2t_r1 unseen_pairs.itc_t2i_r1",
        {"pairs seen together": "unseen_pairs.control.itc_i2t_r1"},
    ),
]
for kind in ("size", "count", "background", "place", "relation"):
    ROWS.append((
        f"one change, ITM accuracy: {kind}",
        f"itm_one_change_accuracy.{kind}",
        {"no image": f"itm_one_change_blank.{kind}"},
    ))
ROWS += [
    (
        "one change, ITM accuracy: relation within one half of the image",
        "itm_one_change_accuracy.relation_in_one_half",
        {},
    ),
    ("one change, ITC accuracy: relation", "itc_one_change_accuracy.relation", {}),
    (
        "a relation's caption / the same said the other way round, accepted by ITM",
        "itm_accepted.caption itm_accepted.paraphrase",
        {
            "its foil": "itm_accepted.foil",
            "another direction": "itm_accepted.other_direction",
        },
    ),
    (
        "the same within one half of the image",
        "itm_accepted.caption_in_one_half itm_accepted.paraphrase_in_one_half",
        {
            "its foil": "itm_accepted.foil_in_one_half",
            "another direction": "itm_accepted.other_direction_in_one_half",
        },
    ),
]
for kind in ("object", "size", "place", "relation"):
    ROWS.append((
        f"masked word, accuracy: {kind}",
        f"mlm_accuracy.{kind}",
        {"no image": f"mlm_accuracy_without_image.{kind}"},
    ))
ROWS += [
    (
        "pointing, ITM",
        "pointing_itm",
        {"chance": "pointing_chance", "warm start": "start.pointing_itm"},
    ),
    ("pointing, MLM", "pointing_mlm", {"warm start": "start.pointing_mlm"}),
]
COMPARED = (0, 1, 2, 3, 4, *range(7, 17), 20, 21)     # rows that tell recipes apart
WIDE = 0.1                            # a spread over seeds that is shown beside the mean


def cell(result: dict, names: str) -> str:
    """The mean; where seeds differ by more than WIDE, the lowest and the highest, too."""
    figures = [result["figures"][name] for name in names.split()]
    means = " / ".join(f"{figure['mean']:.2f}" for figure in figures)
    if max(figure["high"] - figure["low"] for figure in figures) <= WIDE:
        return means
    ends = " / ".join(f"{figure['low']:.2f} to {figure['high']:.2f}" for figure in figures)
    return f"{means} ({ends})"


def minutes(result: dict, spread: str) -> float:
    """Of training; spread: "mean" of the seeds, or "low", the shortest."""
    figures = result["figures"]
    seconds = figures["seconds.warm_start"][spread] + figures["seconds.train"][spread]
    return seconds / 60


def table(result: dict) -> str:
    """A recipe's figures beside their baselines, with command, date and device."""
    lines = [
        f"Mean of {result['seeds']} seeds, each evaluated on newly drawn scenes; "
        f"`{result['command']}`, {result['date'][:10]}, {result['device']}. A run trained for "
        f"{minutes(result, 'mean'):.1f} minutes, the shortest for {minutes(result, 'low'):.1f}.",
        "",
        "| | mean | baselines |",
        "|---|---|---|",
    ]
    for title, names, baselines in ROWS:
        beside = ", ".join(f"{name} {cell(result, key)}" for name, key in baselines.items())
        lines.append(f"| {title} | {cell(result, names)} | {beside} |")
    return "\n".join(lines)


def comparison(results: dict[str, dict]) -> str:
    """Recipes by title, a column for each."""
    lines = [f"| | {' | '.join(results)} |", "|---|" + "---|" * len(results)]

    def add(title: str, names: str) -> None:
        cells = [cell(result, names) for result in results.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")

    for row in COMPARED:
        title, names, baselines = ROWS[row]
        add(title, names)
        for name in ("its foil", "another direction"):
            if name in baselines:
                add(f"{name}, accepted", baselines[name])
    return "\n".join(lines)
