"""A figure that follows its controls, in a notebook."""
import functools
import html
from collections.abc import Callable

from minalbef.viz.plots import Plot


def live(draw: Callable[..., Plot], unknown: Callable[[str], list[str]] = lambda text: [], **controls):
    """Show ipywidgets and the figure that draw(**their values) makes -> its image, and a note below: the figure's
    `alt` or the message of draw's ValueError, after those words of the typed texts that are `unknown` to the model."""
    import ipywidgets  # here and not above: only notebooks install it
    from IPython.display import display

    note, unknown = ipywidgets.HTML(), functools.cache(unknown)
    image = ipywidgets.Image(format="png", layout={"max_width": "100%", "max_height": "480px", "object_fit": "contain"})
    def redraw(_=None):
        typed = " ".join(one.value for one in controls.values() if isinstance(one, ipywidgets.Text))
        lines = [f"No training text says {word!r}." for word in unknown(typed)]
        try:
            plot = draw(**{name: one.value for name, one in controls.items()})
            image.value, image.layout.width = plot.png(), f"{plot.get_figwidth():.1f}in"
            lines.append(plot.alt)
        except ValueError as error:
            lines.append(str(error))
        note.value = html.escape("\n".join(lines)).replace("\n", "<br>")
    for control in controls.values():
        control.observe(redraw, "value")
    redraw()                          # before display: JupyterLab gives an empty image no size, and keeps to that
    display(ipywidgets.VBox([ipywidgets.HBox([*controls.values()], layout={"flex_flow": "wrap"}), image, note]))
    return image, note
