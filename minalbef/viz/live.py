"""Figures that change in a notebook: with their controls, or while a model trains."""
import functools
import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minalbef.system.metrics import read_metrics
from minalbef.viz.plots import Plot, curves

SECONDS = 10.0                         # between two drawings of LossCurves, at least


def live(draw: Callable[..., Plot], unknown: Callable[[str], list[str]] = lambda text: [],
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


class LossCurves:
    """The losses of a run's folder, shown in a notebook and redrawn while it trains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = time.perf_counter()
        self.shown: Any = None

    def __call__(self) -> None:
        """To be called after each step."""
        if time.perf_counter() - self.last > SECONDS:
            self.draw()

    def draw(self) -> None:
        """Show the losses so far, in place of those shown before."""
        from IPython.display import display

        rows = read_metrics(self.folder)
        if rows and self.shown is None:
            self.shown = display(curves(rows), display_id=True)
        elif rows:
            self.shown.update(curves(rows))
        self.last = time.perf_counter()
