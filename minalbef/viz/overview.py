"""What chapters show: ALBEF in one drawing, their own part in colour; and the source of what they rebuild."""
import html
import inspect
from collections.abc import Callable
from functools import partial

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from emojiscenes.language import Object, Scene
from emojiscenes.scenes import paint
from minalbef.viz import plots

COLOURS = {"image encoder": plots.BLUE, "text encoder": plots.GREEN, "fusion": plots.RED, "itc": plots.ORANGE,
           "itm": plots.ORANGE, "mlm": plots.ORANGE, "teacher": plots.PURPLE, "queue": plots.SKY}
PARTS = tuple(COLOURS)
GREY = "#a8adb5"                      # of parts that are not asked for
SCENE = Scene((Object("cat", x=0.28, y=0.5, size=0.38, vendor="noto"),
               Object("apple", x=0.73, y=0.5, size=0.38, vendor="noto")), "white")
CAPTION = "a cat to the left\nof an apple"
ALT = ("A picture enters the image encoder, a caption the text encoder; ITC compares the two. Fusion reads the "
       "words with the picture in sight and serves ITM and MLM. A teacher, a slow copy of all this, fills a queue "
       "of features for ITC and gives soft targets.")

# part, left, bottom, width, height, words
BOXES = (("image encoder", 0.1, 2.2, 2.0, 1.0, "image encoder\na token for every patch"),
         ("text encoder", 3.6, 2.2, 2.0, 1.0, "text encoder\na token for every word"),
         ("fusion", 3.6, 4.0, 2.0, 1.0, "fusion\nwords look at patches"),
         ("itc", 2.5, 2.45, 0.7, 0.5, "ITC"), ("itm", 3.6, 5.5, 0.7, 0.5, "ITM"), ("mlm", 4.9, 5.5, 0.7, 0.5, "MLM"))
TEACHER = "a copy of all of it\nthat changes slowly:\nafter each step it moves\na little towards the model"

# part or none, from, to; with a corner: at which angles the arrow leaves and arrives
ARROWS = (("", (1.1, 1.65), (1.1, 2.17)), ("", (4.6, 0.75), (4.6, 2.17)), ("", (4.6, 3.22), (4.6, 3.97)),
          ("", (1.1, 3.22), (3.57, 4.5), (90, 0)), ("", (3.95, 5.03), (3.95, 5.47)), ("", (5.25, 5.03), (5.25, 5.47)),
          ("teacher", (5.63, 2.7), (6.97, 2.7)), ("teacher", (7.145, 2.17), (7.145, 1.18)),
          ("queue", (6.97, 0.95), (2.85, 2.42), (0, 90)), ("teacher", (8.45, 5.03), (5.63, 5.75), (90, 0)))
COMPARED = (((2.13, 2.7), (2.47, 2.7)), ((3.23, 2.7), (3.57, 2.7)))              # ITC's arrows, with two heads
NOTES = ((6.3, 2.78, "follows"), (5.9, 1.03, "more pictures and\ncaptions to tell apart"),
         (7.0, 5.83, "soft targets, for ITC too"), (2.3, 4.58, "keys and values"), (2.85, 3.03, "near?"),
         (3.95, 6.08, "true?"), (5.25, 6.08, "which word?"))


@plots.styled
def overview(*parts: str) -> plots.Plot:
    """ALBEF in one drawing; parts: names from PARTS, which alone are coloured; by default all are."""
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"no part of the drawing is named {unknown[0]!r}; there are {', '.join(PARTS)}")
    colours = {name: colour if name in (parts or PARTS) else GREY for name, colour in COLOURS.items()}
    plot, axes = plots.grid(f"{ALT} In colour: {', '.join(parts)}." if parts else ALT, 1, 1, 9.6, 6.2)
    ax = axes[0, 0]
    ax.set(xlim=(0, 10), ylim=(0, 6.4))
    ax.set_axis_off()
    frame = ax.inset_axes((0.35, 0.1, 1.5, 1.5), transform=ax.transData)
    picture = paint(SCENE, 144)
    plots.show(frame, picture)
    for i in range(1, 6):
        for line in (frame.axvline, frame.axhline):
            line(i * len(picture) / 6 - 0.5, color=plots.INK, linewidth=0.6, alpha=0.6)
    write = partial(ax.text, ha="center", va="center", size=11)
    write(4.6, 0.4, f"“{CAPTION}”", style="italic")

    for name, *place, words in BOXES:
        draw_part(ax, colours[name], *place, words)
    draw_part(ax, colours["teacher"], 7.0, 2.2, 2.9, 2.8, linestyle="--")
    write(8.45, 4.3, "teacher", weight="bold")
    write(8.45, 3.35, TEACHER, size=8.5, linespacing=1.5)
    for i in range(10):
        draw_part(ax, colours["queue"], 7.0 + 0.29 * i, 0.75, 0.29, 0.4, boxstyle="square,pad=0")
    write(7.0, 0.62, "newest", size=8, ha="left", va="top")
    write(9.9, 0.62, "oldest", size=8, ha="right", va="top")
    write(8.45, 0.3, "queue: the teacher's latest features", size=8.5, va="top")

    arrow = partial(FancyArrowPatch, mutation_scale=13, linewidth=1.6, shrinkA=0, shrinkB=0)
    for name, start, end, *corner in ARROWS:
        bend = "angle,angleA={},angleB={},rad=8".format(*corner[0]) if corner else "arc3"
        ax.add_patch(arrow(start, end, arrowstyle="-|>", color=colours.get(name, plots.INK), connectionstyle=bend))
    for start, end in COMPARED:
        ax.add_patch(arrow(start, end, arrowstyle="<|-|>", color=plots.INK))
    for x, y, words in NOTES:
        write(x, y, words, size=8.5, va="bottom")
    return plot


def draw_part(ax: Axes, colour: str, x: float, y: float, width: float, height: float, words: str = "",
              **options) -> None:
    """A part's frame, filled with a breath of its colour, and its words, the first line of them bold."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, facecolor=to_rgba(colour, 0.16), edgecolor=colour, linewidth=2,
                                **{"boxstyle": "round,pad=0,rounding_size=0.15"} | options))
    title, _, rest = words.partition("\n")
    middle = y + height / 2                                      # which the title leaves to make room for a second line
    ax.text(x + width / 2, middle + 0.17 if rest else middle, title, ha="center", va="center", weight="bold", size=11)
    ax.text(x + width / 2, middle - 0.2, rest, ha="center", va="center", size=8.5)


def show_source(*things: Callable) -> None:
    """Show, in a notebook, the source of classes or functions: each behind a triangle, to open with a click."""
    from IPython.display import HTML, display  # here and not above: only notebooks install it

    shown = (f"<details><summary>the package's <code>{thing.__module__}.{thing.__qualname__}</code></summary>"
             f"<pre>{html.escape(inspect.getsource(thing))}</pre></details>" for thing in things)
    display(HTML("".join(shown)))
