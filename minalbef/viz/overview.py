"""The picture of the whole that opens every chapter: ALBEF in one drawing, and the chapter's own part in colour."""
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from minalbef.scenes.language import Object, Scene
from minalbef.scenes.scenes import paint
from minalbef.viz import plots

PARTS = ("image encoder", "text encoder", "fusion", "itc", "itm", "mlm", "teacher", "queue")
SCENE = Scene((Object("cat", x=0.28, y=0.5, size=0.38, vendor="noto"),
               Object("apple", x=0.73, y=0.5, size=0.38, vendor="noto")), "white")
CAPTION = "a cat to the left\nof an apple"


@plots.styled
def overview(*parts: str) -> plots.Plot:
    """ALBEF in one drawing; parts: names from PARTS, which alone are coloured; by default all are."""
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"no part of the drawing is named {unknown[0]!r}; there are {', '.join(PARTS)}")
    alt = ("A picture enters the image encoder, a caption the text encoder; ITC compares the two. Fusion reads the "
           "words with the picture in sight and serves ITM and MLM. A teacher, a slow copy of all this, fills a queue "
           "of features for ITC and gives soft targets.")
    if parts:
        alt += f" In colour: {', '.join(parts)}."
    plot, axes = plots.grid(alt, 1, 1, 9.6, 6.2)
    ax = axes[0, 0]
    ax.set(xlim=(0, 10), ylim=(0, 6.4))
    ax.set_axis_off()

    def colour(name, own):
        return own if not parts or name in parts else "#a8adb5"

    def box(name, x, y, width, height, own, words="", style="round,pad=0,rounding_size=0.15", **line):
        edge = colour(name, own)
        ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=to_rgba(edge, 0.16),
                                    edgecolor=edge, linewidth=2, **line))
        title, _, rest = words.partition("\n")
        middle = y + height / 2
        raised = middle + 0.17 if rest else middle               # the title makes room for a second line
        ax.text(x + width / 2, raised, title, ha="center", va="center", weight="bold", size=11)
        ax.text(x + width / 2, middle - 0.2, rest, ha="center", va="center", size=8.5)

    def arrow(a, b, own=plots.INK, style="-|>", **options):
        ax.add_patch(FancyArrowPatch(a, b, arrowstyle=style, mutation_scale=13, color=own, linewidth=1.6, shrinkA=0,
                                     shrinkB=0, **options))

    frame = ax.inset_axes((0.35, 0.1, 1.5, 1.5), transform=ax.transData)
    picture = paint(SCENE, 144)
    plots.show(frame, picture)
    for i in range(1, 6):
        for line in (frame.axvline, frame.axhline):
            line(i * len(picture) / 6 - 0.5, color=plots.INK, linewidth=0.6, alpha=0.6)
    ax.text(4.6, 0.4, f"“{CAPTION}”", ha="center", va="center", size=11, style="italic")

    box("image encoder", 0.1, 2.2, 2.0, 1.0, plots.BLUE, "image encoder\na token for every patch")
    box("text encoder", 3.6, 2.2, 2.0, 1.0, plots.GREEN, "text encoder\na token for every word")
    box("fusion", 3.6, 4.0, 2.0, 1.0, plots.RED, "fusion\nwords look at patches")
    box("itc", 2.5, 2.45, 0.7, 0.5, plots.ORANGE, "ITC")
    box("itm", 3.6, 5.5, 0.7, 0.5, plots.ORANGE, "ITM")
    box("mlm", 4.9, 5.5, 0.7, 0.5, plots.ORANGE, "MLM")
    box("teacher", 7.0, 2.2, 2.9, 2.8, plots.PURPLE, linestyle="--")
    ax.text(8.45, 4.3, "teacher", ha="center", va="center", weight="bold", size=11)
    ax.text(8.45, 3.35, "a copy of all of it\nthat changes slowly:\nafter each step it moves\n"
            "a little towards the model", ha="center", va="center", size=8.5, linespacing=1.5)
    for i in range(10):
        box("queue", 7.0 + 0.29 * i, 0.75, 0.29, 0.4, plots.SKY, style="square,pad=0")
    ax.text(7.0, 0.62, "newest", size=8, va="top")
    ax.text(9.9, 0.62, "oldest", size=8, va="top", ha="right")
    ax.text(8.45, 0.3, "queue: the teacher's latest features", ha="center", va="top", size=8.5)

    arrow((1.1, 1.65), (1.1, 2.17))
    arrow((4.6, 0.75), (4.6, 2.17))
    arrow((4.6, 3.22), (4.6, 3.97))
    arrow((1.1, 3.22), (3.57, 4.5), connectionstyle="angle,angleA=90,angleB=0,rad=8")
    arrow((2.13, 2.7), (2.47, 2.7), style="<|-|>")
    arrow((3.23, 2.7), (3.57, 2.7), style="<|-|>")
    arrow((3.95, 5.03), (3.95, 5.47))
    arrow((5.25, 5.03), (5.25, 5.47))
    slow = colour("teacher", plots.PURPLE)
    arrow((5.63, 2.7), (6.97, 2.7), slow)
    ax.text(6.3, 2.78, "follows", ha="center", va="bottom", size=8.5)
    arrow((7.145, 2.17), (7.145, 1.18), slow)
    arrow((6.97, 0.95), (2.85, 2.42), colour("queue", plots.SKY), connectionstyle="angle,angleA=0,angleB=90,rad=8")
    ax.text(5.9, 1.03, "more pictures and\ncaptions to tell apart", ha="center", va="bottom", size=8.5)
    arrow((8.45, 5.03), (5.63, 5.75), slow, connectionstyle="angle,angleA=90,angleB=0,rad=8")
    ax.text(7.0, 5.83, "soft targets, for ITC too", ha="center", va="bottom", size=8.5)
    ax.text(2.3, 4.58, "keys and values", ha="center", va="bottom", size=8.5)
    ax.text(2.85, 3.03, "near?", ha="center", va="bottom", size=8.5)
    ax.text(3.95, 6.08, "true?", ha="center", va="bottom", size=8.5)
    ax.text(5.25, 6.08, "which word?", ha="center", va="bottom", size=8.5)
    return plot
