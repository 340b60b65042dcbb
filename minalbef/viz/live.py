"""A figure that follows its controls, in a notebook."""
import functools
import html
from collections.abc import Callable
from typing import Any

from minalbef.viz.plots import Plot


def no_words(text: str) -> list[str]:
    """For a model that knows all words."""
    return []


def live(draw: Callable[..., Plot], unknown: Callable[[str], list[str]] = no_words,
         **controls: Any) -> tuple[Any, Any]:
    """Show ipywidgets and a figure that follows them: -> the image and the note below it.

    draw: values of the controls, by name -> the figure
    unknown: text -> those of its words that the model doesn't know
    The note names unknown words in the text controls, and then has the figure's alt text, or the
    message of a ValueError that `draw` raised.
    """
    import ipywidgets  # here and not above: only notebooks install it
    from IPython.display import display

    note = ipywidgets.HTML()
    layout = {"max_width": "100%", "max_height": "480px", "object_fit": "contain"}
    image = ipywidgets.Image(format="png", layout=layout)
    unknown = functools.cache(unknown)

    def redraw(change: Any = None) -> None:
        texts = [box.value for box in controls.values() if isinstance(box, ipywidgets.Text)]
        lines = [f"No training text says {word!r}." for word in unknown(" ".join(texts))]
        try:
            plot = draw(**{name: control.value for name, control in controls.items()})
            image.value = plot.png()
            image.layout.width = f"{plot.get_figwidth():.1f}in"
            lines.append(plot.alt)
        except ValueError as error:
            lines.append(str(error))
        note.value = html.escape("\n".join(lines)).replace("\n", "<br>")

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()                          # before display: JupyterLab never resizes an empty image
    row = ipywidgets.HBox([*controls.values()], layout={"flex_flow": "wrap"})
    display(ipywidgets.VBox([row, image, note]))
    return image, note
