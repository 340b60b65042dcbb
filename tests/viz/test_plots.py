"""Figures: pictures that can be looked at, words for who cannot, and no state left behind."""

import numpy as np
import pytest

from minalbef.viz import plots
from minalbef.viz.overview import overview

PICTURES = [np.full((24, 24, 3), 40 * i, np.uint8) for i in range(1, 4)]
CAPTIONS = ["an apple", "two cats on a red background", "a big donut to the left of a key"]
TRUE = np.eye(3, dtype=bool)
ROWS = [
    {"samples": str(64 * i), "itc": str(3 - i / 10), "itm": "" if i < 5 else "0.6"}
    for i in range(1, 21)
]
PLOTS = {
    "curves": lambda: plots.curves(ROWS, {"queue": 320.0}),
    "similarities": lambda: plots.similarities(np.eye(3), PICTURES, CAPTIONS, TRUE),
    "gallery": lambda: plots.gallery(PICTURES, CAPTIONS, "three", good=[True, False, None]),
    "overview": lambda: overview("itc", "queue"),
    "word_maps": lambda: plots.word_maps(PICTURES[0], ["an", "apple"], np.ones((2, 3, 3))),
    "slide": lambda: plots.slide(
        [0.1, 0.5, 0.9], {"left": np.array([[0.9, 0.5, 0.1]])}, PICTURES, {"left": (0.1, 0.4)}
    ),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_figure_is_a_png_and_a_sentence_and_always_the_same(name):
    plot = PLOTS[name]()
    assert len(plot.alt) > 20 and "nan" not in plot.alt
    data, metadata = plot._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == plot.alt
    assert PLOTS[name]().png() == PLOTS[name]().png()


def test_a_dollar_in_a_sentence_is_no_formula():
    text = "$5 or \\bad{ $6 cat"  # as a formula it is an error
    assert plots.gallery(PICTURES, [text] * 3, text).png()


def test_an_overlay_colours_the_picture_where_the_map_is_high_and_dims_it_nowhere():
    picture = np.full((60, 60, 3), 200, np.uint8)
    heat = np.zeros((6, 6))
    heat[1, 4] = 0.3
    lit = plots.overlay(picture, heat)
    assert np.ptp(lit[15, 45]) > 100, "yellow"
    # a transposed map would colour this place
    assert lit[45, 15].tolist() == pytest.approx([200] * 3, abs=1)
    assert plots.overlay(picture, heat * 0).min() >= 199
