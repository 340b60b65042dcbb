"""The figures that notebooks and the command line share: one style, with alt texts.

A function returns a Plot: a matplotlib figure that notebooks show, with an alt text, `alt`.
"""
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from PIL import Image

from minalbef.system.writing import write_atomically

# Okabe and Ito's colours, which the colour-blind can tell apart
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
RED = "#D55E00"
PURPLE = "#CC79A7"
INK = "#3a3f47"                       # of words and axes
HEAT = "plasma"                       # the colour map of heat maps
OPACITY = 0.75                        # of a heat map at its maximum
STEEP = 60.0                          # a step of so many of 255 from pixel to pixel is an outline
COSINE = "PuOr"                       # the colour map of cosines, from -1 to 1: white is 0
COLOURS = {"itc": BLUE, "itm": RED, "siblings": SKY, "mlm": GREEN, "cls": PURPLE, "patch": ORANGE}
LOSSES = {
    "itc": "ITC: which caption is whose?",
    "itm": "ITM: do the two belong together?",
    "siblings": "ITM on siblings: which of two is whose?",
    "mlm": "MLM: which word is hidden?",
    "cls": "Warm start: which objects?",
    "patch": "Warm start: and where?",
}
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "lines.linewidth": 2,
}
styled = matplotlib.rc_context(STYLE)          # a decorator: the caller's own style doesn't change


class Plot(Figure):
    """A figure with an alt text. It belongs to no window and no global state."""

    def __init__(self, alt: str, width: float, height: float) -> None:
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
        super().__init__(figsize=(width, height), layout=layout, facecolor="white")
        FigureCanvasAgg(self)
        self.alt = alt

    @styled
    def png(self) -> bytes:
        """The figure as a PNG file."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=110, metadata={"Description": self.alt})
        return file.getvalue()

    def save(self, path: Path) -> None:
        """Write the PNG file atomically. Raises OSError if it cannot be written."""
        write_atomically(Path(path), lambda file: file.write_bytes(self.png()))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        """What a notebook shows, and its metadata."""
        data = {"image/png": self.png(), "text/plain": f"<{type(self).__name__}>"}
        return data, {"image/png": {"alt": self.alt}}


@styled
def grid(alt: str, rows: int, columns: int, width: float, height: float,
         **options: Any) -> tuple[Plot, np.ndarray]:
    """A Plot and its (rows, columns) axes, in our style; options: of matplotlib's `subplots`."""
    plot = Plot(alt, width, height)
    return plot, plot.subplots(rows, columns, squeeze=False, **options)


@styled
def curves(rows: Sequence[dict], phases: dict[str, float] | None = None) -> Plot:
    """The losses of a run, in a panel each.

    rows: of metrics.csv
    phases: {"with the queue": sample, ...}, marked by a vertical line
    """
    series: dict[str, np.ndarray] = {}           # (points, 2) by loss
    for name in LOSSES:
        points = [(float(row["samples"]) / 1000, float(row[name])) for row in rows if row.get(name)]
        if points:
            series[name] = np.array(points)
    changes = []
    for name, line in series.items():
        last = smooth(line[:, 1])[-1]
        changes.append(f"{LOSSES[name]} From {line[0, 1]:.2f} to {last:.2f}")
    alt = f"Losses over the samples seen. {'; '.join(changes)}."
    panels = max(1, len(series))
    plot, axes = grid(alt, 1, panels, 3.6 * panels, 2.9)
    for ax, (name, line) in zip(axes[0], series.items()):
        x, y = line.T
        _draw_curve(ax, name, x, y)
        _draw_phases(ax, phases or {}, x[0], x[-1])
    return plot


def _draw_curve(ax: Axes, name: str, x: np.ndarray, y: np.ndarray) -> None:
    mean = smooth(y)
    ax.plot(x, y, color=COLOURS[name], alpha=0.25, linewidth=1)
    ax.plot(x, mean, color=COLOURS[name])
    low, high = np.quantile(y, (0.0, 0.99))
    ax.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.25 * (high - low) + 1e-3)
    ax.set_title(LOSSES[name].replace(": ", ":\n"))          # as wide as a panel
    ax.set_xlabel("thousand images seen")
    ax.annotate(f"{mean[-1]:.2f}", (x[-1], mean[-1]), color=INK, xytext=(0, 11), ha="right",
                textcoords="offset points")


def _draw_phases(ax: Axes, phases: dict[str, float], first: float, last: float) -> None:
    for i, (phase, sample) in enumerate(phases.items()):
        x = sample / 1000
        if first < x < last:
            ax.axvline(x, color=INK, linewidth=0.8, linestyle=":")
            ax.text(x, 1 - 0.075 * i, f" {phase}", transform=ax.get_xaxis_transform(), fontsize=8,
                    va="top")


def smooth(y: np.ndarray, share: float = 0.04) -> np.ndarray:
    """A running mean over a share of the points around each, fewer at the ends."""
    window = np.ones(1 + 2 * int(share * len(y) / 2))
    return np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")


@styled
def similarities(sim: np.ndarray, pictures: Sequence[np.ndarray], captions: Sequence[str],
                 true: np.ndarray) -> Plot:
    """A table of captions and images.

    sim: (captions, images), cosines; true: (captions, images) bool, framed
    """
    sim = np.asarray(sim)
    true = np.asarray(true)
    n, m = sim.shape
    right = int(true[np.arange(n), sim.argmax(1)].sum())
    alt = (f"A table of {n} captions and {m} images, coloured by their similarity. "
           f"In {right} of {n} rows the most similar image is one that the caption is true of.")
    plot, axes = grid(alt, 1, 1, 3.1 + 0.72 * m, 0.75 + 0.5 * n)
    ax = axes[0, 0]
    ax.grid(False)
    ax.imshow(sim, cmap=COSINE, vmin=-1, vmax=1, aspect="auto")
    for i, j in np.ndindex(n, m):
        ink = "#000000" if abs(sim[i, j]) < 0.6 else "#ffffff"
        ax.text(j, i, f"{sim[i, j]:.2f}", ha="center", va="center", fontsize=9, color=ink)
        if true[i, j]:
            frame = Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=GREEN,
                              linewidth=2.5)
            ax.add_patch(frame)
    labels = [wrap(text, 38) for text in captions]
    ax.set_yticks(range(n), labels, fontsize=8.5, parse_math=False)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for j, picture in enumerate(pictures):
        place = [(j + 0.06) / m, 1.01, 0.88 / m, 0.88 / n * 0.72 / 0.5]
        show(ax.inset_axes(place), picture)
    return plot


@styled
def gallery(pictures: Sequence[np.ndarray], titles: Sequence[str], heading: str = "",
            columns: int = 4, good: Sequence[bool | None] | None = None) -> Plot:
    """Images with a title under each.

    good: True for a green frame, False for a red and dashed one, None for none
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    labels = [wrap(title, 30) for title in titles]
    lines = max(label.count("\n") for label in labels) + 1
    alt = "; ".join(title.replace("\n", ", ") for title in titles)
    alt = f"An image: {alt}" if len(pictures) == 1 else f"{len(pictures)} images: {alt}"
    height = rows * (2.25 + 0.19 * lines)
    if heading:
        alt = f"{heading}: {alt}"
        height += 0.4
    plot, axes = grid(alt, rows, columns, 2.3 * columns, height)
    for i, ax in enumerate(axes.flat):
        if i >= len(pictures):
            ax.set_axis_off()
            continue
        show(ax, pictures[i], good[i] if good else None)
        ax.set_xlabel(labels[i], fontsize=9, parse_math=False)   # a $ begins no formula
        ax.set_anchor("N")                       # spare height goes to the words: none are cut off
    if heading:
        plot.suptitle(heading, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    return plot


def word_maps(picture: np.ndarray, words: Sequence[str], maps: np.ndarray,
              columns: int = 6) -> Plot:
    """The map of each word over the image, scaled to its maximum; maps: (words, y, x)."""
    pictures = [picture]
    pictures += [overlay(picture, heat) for heat in maps]
    titles = ["the image", *words]
    plot = gallery(pictures, titles, columns=min(columns, len(titles)))
    plot.alt = ("The image, then the same once for each word, coloured where the word looks: "
                + ", ".join(words))
    return heat_bar(plot)


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map (y, x) in `heat_bar`'s colours over an image: (h, w, 3) -> uint8 (h, w, 3).

    The image keeps its colours, and outlines are drawn where the map would hide them.
    """
    h, w = picture.shape[:2]
    heat = np.asarray(heat, dtype=np.float32)
    small = Image.fromarray(heat / max(heat.max(), 1e-12))
    resized = np.asarray(small.resize((w, h), Image.Resampling.BILINEAR))
    level = np.clip(resized, 0, 1)                                           # (h, w)
    framed = np.pad(picture.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    vertical, horizontal = np.gradient(framed, axis=(0, 1))
    slope = np.hypot(vertical, horizontal).max(-1)[1:-1, 1:-1]               # of any colour
    outline = np.clip(slope / STEEP, 0, 1) * level
    return (255 * lay_over(picture / 255, level) * (1 - 0.8 * outline[..., None])).astype(np.uint8)


def lay_over(colour: np.ndarray, level: np.ndarray) -> np.ndarray:
    """A map's colours over others, the more opaque the higher: (..., 3) and (...) in [0, 1]."""
    alpha = OPACITY * level[..., None]
    return (1 - alpha) * colour + alpha * matplotlib.colormaps[HEAT](level)[..., :3]


@styled
def heat_bar(plot: Plot) -> Plot:
    """Add a bar that explains the colours of `overlay` over white, in place: -> the same figure."""
    colours = lay_over(np.ones(3), np.linspace(0, 1, 256))
    scale = ScalarMappable(cmap=ListedColormap(colours))
    plot.colorbar(scale, ax=plot.axes, label="of the maximum", ticks=(0, 0.5, 1))
    return plot


@styled
def slide(x: Sequence[float] | np.ndarray, lines: dict[str, np.ndarray],
          pictures: Sequence[np.ndarray], spans: dict[str, tuple[float, float]]) -> Plot:
    """P(match) as an object moves: a thin line for each run, a bold one for their mean.

    x: (steps,), where the object is; lines: {sentence: (runs, steps)}
    pictures: at the middles of equal parts of the way
    spans: {sentence: (from, to)}, where the sentence is true
    """
    means = {text: np.mean(values, 0) for text, values in lines.items()}
    ends = []
    for text, mean in means.items():
        ends.append(f"“{text}”: {mean[0]:.2f} at the left, {mean[-1]:.2f} at the right")
    alt = f"P(match) while a thing slides from left to right. {'; '.join(ends)}."
    plot, axes = grid(alt, 2, 1, 9.6, 5.4, height_ratios=(1, 2.1))
    strip, ax = axes[:, 0]
    strip.set_axis_off()
    count = len(pictures)
    for i, picture in enumerate(pictures):
        show(strip.inset_axes([i / count + 0.01, 0, 1 / count - 0.02, 1]), picture)
    for (text, values), colour in zip(lines.items(), (BLUE, RED, GREEN, PURPLE)):
        for line in values:
            ax.plot(x, line, color=colour, alpha=0.2, linewidth=1)
        ax.plot(x, means[text], color=colour, label=text)
        ax.axvspan(*spans[text], color=colour, alpha=0.1, linewidth=0)
        ax.text(sum(spans[text]) / 2, 1.02, "true here", color=colour, ha="center", va="bottom",
                fontsize=9)
    ax.set_ylim(0, 1.12)
    ax.set_xlim(x[0], x[-1])
    ax.set_xlabel("where the moved object stands, from left to right")
    ax.set_ylabel("P(match)")
    legend = ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for label in legend.get_texts():
        label.set_parse_math(False)
    return plot


def show(ax: Axes, picture: np.ndarray, good: bool | None = None) -> None:
    """Draw an image without ticks, in a green frame if good, in a red and dashed one if not."""
    ax.imshow(picture, interpolation="antialiased")
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    colour = GREEN if good else RED
    dashes = "-" if good else (0, (2, 1))
    ax.spines[:].set(visible=good is not None, color=colour, linewidth=4, linestyle=dashes,
                     capstyle="butt")            # a spine's default cap would fill the gaps


def wrap(text: str, width: int) -> str:
    """Break text into lines of at most `width` letters, words too if they are longer.

    Line breaks in the text stay.
    """
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines)


def shorten(text: str, most: int) -> str:
    """The beginning and the end of a text with more than `most` letters."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[:most - 1 - half]}…{text[len(text) - half:]}"
