"""What chapters show: ALBEF in one drawing, with their part in colour, and the package's source."""
import html
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from emojiscenes.language import Object, Scene
from emojiscenes.scenes import paint
from minalbef.viz import plots

COLOURS = {
    "image encoder": plots.BLUE,
    "text encoder": plots.GREEN,
    "fusion": plots.RED,
    "itc": plots.ORANGE,
    "itm": plots.ORANGE,
    "mlm": plots.ORANGE,
    "teacher": plots.PURPLE,
    "queue": plots.SKY,
}
PARTS = tuple(COLOURS)
GREY = "#a8adb5"                      # of parts that aren't highlighted
CAT = Object("cat", x=0.28, y=0.5, size=0.38, vendor="noto")
APPLE = Object("apple", x=0.73, y=0.5, size=0.38, vendor="noto")
SCENE = Scene((CAT, APPLE), "white")
CAPTION = "a cat to the left\nof an apple"
ALT = (
    "An image enters the image encoder, a caption the text encoder; ITC compares the two. Fusion "
    "reads the words with the image in sight and serves ITM and MLM. A teacher, a slow copy of "
    "all this, fills a queue of features for ITC and gives soft targets."
)
TEACHER = (
    "a copy of all of it\n"
    "that changes slowly:\n"
    "after each step it moves\n"
    "a little towards the model"
)
Point = tuple[float, float]
# part, x, y, width, height, words of which the first line is a title
BOXES = (
    ("image encoder", 0.1, 2.2, 2.0, 1.0, "image encoder\na token for every patch"),
    ("text encoder", 3.6, 2.2, 2.0, 1.0, "text encoder\na token for every word"),
    ("fusion", 3.6, 4.0, 2.0, 1.0, "fusion\nwords look at patches"),
    ("itc", 2.5, 2.45, 0.7, 0.5, "ITC"),
    ("itm", 3.6, 5.5, 0.7, 0.5, "ITM"),
    ("mlm", 4.9, 5.5, 0.7, 0.5, "MLM"),
)
# the part whose colour it has, from where, to where, and for a corner its angles at both ends
ARROWS: tuple[tuple[str, Point, Point, tuple[int, int] | None], ...] = (
    ("", (1.1, 1.65), (1.1, 2.17), None),
    ("", (4.6, 0.75), (4.6, 2.17), None),
    ("", (4.6, 3.22), (4.6, 3.97), None),
    ("", (1.1, 3.22), (3.57, 4.5), (90, 0)),
    ("", (3.95, 5.03), (3.95, 5.47), None),
    ("", (5.25, 5.03), (5.25, 5.47), None),
    ("teacher", (5.63, 2.7), (6.97, 2.7), None),
    ("teacher", (7.145, 2.17), (7.145, 1.18), None),
    ("queue", (6.97, 0.95), (2.85, 2.42), (0, 90)),
    ("teacher", (8.45, 5.03), (5.63, 5.75), (90, 0)),
)
COMPARISONS = (                       # ITC's arrows, with two heads
    ((2.13, 2.7), (2.47, 2.7)),
    ((3.23, 2.7), (3.57, 2.7)),
)
NOTES = (
    (6.3, 2.78, "follows"),
    (5.9, 1.03, "more images and\ncaptions to tell apart"),
    (7.0, 5.83, "soft targets, for ITC too"),
    (2.3, 4.58, "keys and values"),
    (2.85, 3.03, "near?"),
    (3.95, 6.08, "true?"),
    (5.25, 6.08, "which word?"),
)


@plots.styled
def overview(*parts: str) -> plots.Plot:
    """ALBEF in one drawing.

    parts: names from PARTS to colour, in a small drawing without notes; by default all of it
    """
    alt = ALT
    colours = COLOURS
    size = 11.0
    width, height = 9.6, 6.2
    if parts:
        alt += f" In colour: {', '.join(parts)}."
        colours = dict.fromkeys(PARTS, GREY) | {part: COLOURS[part] for part in parts}
        size = 8.5
        width, height = 5.8, 3.75
    plot, axes = plots.grid(alt, 1, 1, width, height)
    ax = axes[0, 0]
    ax.set(xlim=(0, 10), ylim=(0, 6.4))
    ax.set_axis_off()
    draw_inputs(ax, size)
    for part, x, y, width, height, words in BOXES:
        if parts:
            words = words.partition("\n")[0]
        draw_part(ax, colours[part], x, y, width, height, words, size)
    draw_part(ax, colours["teacher"], 7.0, 2.2, 2.9, 2.8, linestyle="--")
    write(ax, 8.45, 3.6 if parts else 4.3, "teacher", weight="bold", size=size)
    for i in range(10):                          # the queue's cells
        draw_part(ax, colours["queue"], 7.0 + 0.29 * i, 0.75, 0.29, 0.4, boxstyle="square,pad=0")
    draw_arrows(ax, colours)
    if parts:
        write(ax, 8.45, 0.55, "queue", weight="bold", size=size, va="top")
    else:
        write_notes(ax)
    return plot


def draw_arrows(ax: Axes, colours: dict[str, str]) -> None:
    """The way of the tokens and features."""
    arrow = partial(FancyArrowPatch, mutation_scale=13, linewidth=1.6, shrinkA=0, shrinkB=0)
    for part, start, end, angles in ARROWS:
        colour = colours.get(part, plots.INK)
        bend = "arc3"
        if angles:
            bend = f"angle,angleA={angles[0]},angleB={angles[1]},rad=8"
        ax.add_patch(arrow(start, end, arrowstyle="-|>", color=colour, connectionstyle=bend))
    for start, end in COMPARISONS:
        ax.add_patch(arrow(start, end, arrowstyle="<|-|>", color=plots.INK))


def write_notes(ax: Axes) -> None:
    """What the small drawing leaves out: the words beside arrows, of teacher and queue."""
    for x, y, words in NOTES:
        write(ax, x, y, words, size=8.5, va="bottom")
    write(ax, 8.45, 3.35, TEACHER, size=8.5, linespacing=1.5)
    write(ax, 7.0, 0.62, "newest", size=8, ha="left", va="top")
    write(ax, 9.9, 0.62, "oldest", size=8, ha="right", va="top")
    write(ax, 8.45, 0.3, "queue: the teacher's latest features", size=8.5, va="top")


def write(ax: Axes, x: float, y: float, words: str, **options: Any) -> None:
    """Words, centred by default; options: of matplotlib's `text`."""
    defaults: dict[str, Any] = {"ha": "center", "va": "center", "size": 11}
    ax.text(x, y, words, **(defaults | options))


def draw_inputs(ax: Axes, size: float) -> None:
    """The image, cut into patches, and the caption; size: of its words, in points."""
    frame = ax.inset_axes((0.35, 0.1, 1.5, 1.5), transform=ax.transData)
    picture = paint(SCENE, 144)
    plots.show(frame, picture)
    for i in range(1, 6):
        edge = i * len(picture) / 6 - 0.5
        frame.axvline(edge, color=plots.INK, linewidth=0.6, alpha=0.6)
        frame.axhline(edge, color=plots.INK, linewidth=0.6, alpha=0.6)
    write(ax, 4.6, 0.4, f"“{CAPTION}”", style="italic", size=size)


def draw_part(ax: Axes, colour: str, x: float, y: float, width: float, height: float,
              words: str = "", size: float = 11.0, **options: Any) -> None:
    """A part's frame, with a tint of its colour, and its words, the first line bold.

    size: of the first line, in points; options: of matplotlib's FancyBboxPatch
    """
    options = {"boxstyle": "round,pad=0,rounding_size=0.15"} | options
    ax.add_patch(FancyBboxPatch((x, y), width, height, facecolor=to_rgba(colour, 0.16),
                                edgecolor=colour, linewidth=2, **options))
    title, _, text = words.partition("\n")
    centre = x + width / 2
    middle = y + height / 2
    write(ax, centre, middle + 0.17 if text else middle, title, weight="bold", size=size)
    write(ax, centre, middle - 0.2, text, size=8.5)


def show_source(*functions: Callable) -> None:
    """Show the source of functions or classes in a notebook, each folded away."""
    from IPython.display import HTML, display  # here and not above: only notebooks install it

    listings = []
    for function in functions:
        name = f"{function.__module__}.{function.__qualname__}"
        source = html.escape(inspect.getsource(function))
        listings.append(f"<details><summary>the package's <code>{name}</code></summary>"
                        f"<pre>{source}</pre></details>")
    display(HTML("".join(listings)))
