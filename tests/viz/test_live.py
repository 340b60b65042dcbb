"""A chapter's widget: its note names what went wrong; that its image moves, move_widgets.py shows."""

import pytest

from minalbef.viz import plots

ipywidgets = pytest.importorskip(
    "ipywidgets", reason="no ipywidgets; pip install -e '.[notebooks]' brings it"
)


def draw(text: str) -> plots.Plot:
    if not text:
        raise ValueError("write <a word>")
    return plots.grid(f"“{text}”", 1, 1, 3, 2)[0]


def test_the_note_names_unknown_words_and_errors_and_the_last_figure_stays(monkeypatch):
    from minalbef.viz.live import live

    monkeypatch.setattr("IPython.display.display", lambda box: None)
    text = ipywidgets.Text("a cat")
    image, note = live(draw, lambda text: ["zebra"] * ("zebra" in text), text=text)
    text.value = "a zebra"
    assert note.value.split("<br>") == ["No training text says &#x27;zebra&#x27;.", "“a zebra”"]
    before = image.value
    text.value = ""
    assert note.value == "write &lt;a word&gt;" and image.value == before
