"""A chapter's widget: its figure is there before it is shown, and its note names what went wrong."""


import pytest

from minalbef.viz import plots

ipywidgets = pytest.importorskip(
    "ipywidgets", reason="no ipywidgets; pip install -e '.[notebooks]' brings it"
)


def draw(text: str, width: int) -> plots.Plot:
    if not text:
        raise ValueError("write <a word>")
    return plots.grid(f"“{text}”", 1, 1, width, 2)[0]


@pytest.fixture
def screen(monkeypatch):
    """(image, note, controls, what was in the image when it was shown) of a widget."""
    from minalbef.viz.live import live

    values = []
    monkeypatch.setattr("IPython.display.display", lambda box: values.append(box.children[1].value))
    text = ipywidgets.Text("a cat")
    width = ipywidgets.IntSlider(3, 1, 9)
    image, note = live(
        draw, lambda text: [word for word in text.split() if word == "zebra"], text=text,
        width=width,
    )
    return image, note, text, width, values


def test_the_image_has_the_figures_width_and_follows_each_control(screen):
    image, note, text, width, _ = screen
    assert image.layout.width == "3.0in" and note.value == "“a cat”"
    before = image.value
    width.value = 5
    assert image.value != before and image.layout.width == "5.0in"
    text.value = "a dog"
    assert note.value == "“a dog”"


def test_the_note_names_unknown_words_and_errors_and_the_last_figure_stays(screen):
    image, note, text, *_ = screen
    text.value = "a zebra"
    assert note.value.split("<br>") == ["No training text says &#x27;zebra&#x27;.", "“a zebra”"]
    before = image.value
    text.value = ""
    assert note.value == "write &lt;a word&gt;" and image.value == before
