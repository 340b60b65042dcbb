"""The tables of reports/curves.md, from what curve.py and forecast.py wrote."""
import statistics

from forecast import curve
from results import joined, table_of

RUNS = ("fresh", "repeated", "tiny", "desk")
CURVE_FIGURES = {
    "1 of 500, both scores": "plain.rerank_plus_{}_r1",
    "1 of a family, ITM": "families.rerank_{}_r1",
    "relation, ITM": "itm_one_change_accuracy.relation",
    "relation, ITC": "itc_one_change_accuracy.relation",
}
END_FIGURES = {
    "1 of 500, ITC": "plain.itc_{}_r1",
    "1 of a family, ITC": "families.itc_{}_r1",
    "relation": "itm_one_change_accuracy.relation",
    "the same in one half": "itm_one_change_accuracy.relation_in_one_half",
    "place": "itm_one_change_accuracy.place",
    "size": "itm_one_change_accuracy.size",
    "count": "itm_one_change_accuracy.count",
    "masked objects": "mlm_accuracy.object",
    "pointing, ITM": "pointing_itm",
    "pointing, MLM": "pointing_mlm",
}
FORECAST_FIGURES = {
    "plain.itc_i2t_r1": "1 of 500, ITC",
    "plain.rerank_plus_i2t_r1": "1 of 500, both scores",
    "families.itc_i2t_r1": "1 of a family, ITC",
    "families.rerank_i2t_r1": "1 of a family, ITM",
    "itm_one_change_accuracy.relation": "relation, ITM",
    "itm_one_change_accuracy.relation_in_one_half": "the same in one half",
    "itc_one_change_accuracy.relation": "relation, ITC",
    "mlm_accuracy.object": "masked objects",
    "pointing_itm": "pointing, ITM",
    "pointing_mlm": "pointing, MLM",
}


def mean_of_ways(row: dict, name: str) -> float:
    """A figure of a point; the mean of both directions where it has two."""
    return statistics.mean(row[name.format(way)] for way in ("i2t", "t2i"))


def curves_table() -> str:
    """Four figures at the ten points of four runs."""
    rows = []
    for run in RUNS:
        cells = []
        for name in CURVE_FIGURES.values():
            cells.append(joined(mean_of_ways(row, name) for row in curve(run)))
        rows.append([run, *cells])
    return table_of(["run", *CURVE_FIGURES], rows)


def ends_table() -> str:
    """What each run reached."""
    rows = []
    for run in RUNS:
        row = curve(run)[-1]
        cells = [f"{row['samples']:,}", f"{row['seconds'] / 60:.0f}"]
        for name in END_FIGURES.values():
            ways = [row[name.format(way)] for way in ("i2t", "t2i")]
            cells.append(joined(ways if "{}" in name else ways[:1], between=" / "))
        rows.append([run, *cells])
    return table_of(["run", "pairs", "minutes", *END_FIGURES], rows)


def forecast_table(results: dict) -> str:
    """What tiny's curve forecasts of desk's end, what came, and what desk's says of small."""
    rows = []
    for name, words in FORECAST_FIGURES.items():
        figure = results["figures"][name]
        small = f"{figure['mean']:.2f} ({figure['low']:.3f} to {figure['high']:.3f})"
        rows.append([words, f"{figure['tested']:.2f}", f"{figure['found']:.2f}", small])
    head = ["", "desk, forecast", "desk, found", f"small, after {results['samples']:,} pairs"]
    return table_of(head, rows)
