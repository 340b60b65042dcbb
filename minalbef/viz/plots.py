"""Every figure that the notebooks and the command line share: one style, safe for the colour-blind, with alt texts.

A function returns a Plot: a matplotlib figure that notebooks show as it is, with `alt`, what it shows in a sentence,
and `svg()`, which takes the text colour of the page around it, so it reads in light and in dark.
"""
import io
import re
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from minalbef.writing import write_atomically

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (        # Okabe and Ito's, told apart by everybody
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
INK = "#3a3f47"                       # all words and axes; in an SVG it becomes the page's own colour
HEAT = "plasma"                       # the colour map of heat maps
COSINE = "PuOr"                       # and of cosines, from -1 to 1: white is 0
COLOURS = {"itc": BLUE, "itm": RED, "siblings": SKY, "mlm": GREEN, "cls": PURPLE, "patch": ORANGE}
LOSSES = {"itc": "ITC: which caption is whose?", "itm": "ITM: do the two belong together?",
          "siblings": "ITM on siblings: which of two is whose?",
          "mlm": "MLM: which word is hidden?", "cls": "Warm start: which objects?", "patch": "Warm start: and where?"}
STYLE = {
    "font.family": "sans-serif", "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#888888", "grid.alpha": 0.25, "axes.axisbelow": True,
    "lines.linewidth": 2, "svg.fonttype": "none", "svg.hashsalt": "minalbef"}
styled = matplotlib.rc_context(STYLE)          # a decorator: the style holds inside, and the caller's own is left alone


class Plot(Figure):
    """A figure with its sentence for those who cannot see it. It belongs to no window and no global state."""

    def __init__(self, alt: str, width: float, height: float):
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")
        self.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
        FigureCanvasAgg(self)
        self.alt = alt

    @styled
    def png(self) -> bytes:
        """The figure as a PNG file."""
        self.savefig(file := io.BytesIO(), format="png", dpi=110, metadata={"Description": self.alt})
        return file.getvalue()

    def save(self, path: Path) -> None:
        """Write the PNG file, whole or not at all. Raises OSError where it cannot be written."""
        write_atomically(Path(path), lambda file: file.write_bytes(self.png()))

    @styled
    def svg(self) -> str:
        """The figure as an <svg> element, to stand in a page: see-through, its ink the colour of the page's text."""
        self.savefig(file := io.StringIO(), format="svg", transparent=True,
                     metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        text = file.getvalue()
        text = text[text.index("<svg"):].replace(INK, "currentColor")
        for name, colour in {"blue": BLUE, "red": RED, "green": GREEN, "purple": PURPLE}.items():
            text = text.replace(colour.lower(), f"var(--{name}, {colour.lower()})")   # a dark page has lighter ones
        # ids are the page's, not the figure's: each gets a name of its own, which is the same next time
        prefix = f"p{zlib.crc32(self.alt.encode()):x}"
        names = {name: f"{prefix}-{i}" for i, name in enumerate(re.findall(r'\bid="([^"]+)"', text))}
        text = re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda found: found[1] + names[found[2]], text)
        return re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", text, count=1)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return ({"image/png": self.png(), "text/plain": f"<{type(self).__name__}>"}, {"image/png": {"alt": self.alt}})


@styled
def grid(alt: str, rows: int, columns: int, width: float, height: float, **options) -> tuple[Plot, np.ndarray]:
    """A Plot and its (rows, columns) axes, in the one style; options are matplotlib's for `subplots`."""
    plot = Plot(alt, width, height)
    return plot, plot.subplots(rows, columns, squeeze=False, **options)


@styled
def curves(rows: Sequence[dict], phases: dict[str, float] | None = None) -> Plot:
    """The losses of a run, each in a panel: rows of metrics.csv; phases: {"with the queue": sample, ...} are marked."""
    found = {name: [(float(row["samples"]) / 1000, float(row[name])) for row in rows if row.get(name)]
             for name in LOSSES}
    series = {name: np.array(points) for name, points in found.items() if points}
    alt = "Losses over the samples seen. " + "; ".join(
        f"{LOSSES[name]} From {line[0, 1]:.2f} to {smooth(line[:, 1])[-1]:.2f}" for name, line in series.items()) + "."
    panels = max(1, len(series))
    plot, axes = grid(alt, 1, panels, 3.6 * panels, 2.9)
    for ax, (name, line) in zip(axes[0], series.items()):
        x, y = line.T
        ax.plot(x, y, color=COLOURS[name], alpha=0.25, linewidth=1)
        ax.plot(x, smooth(y), color=COLOURS[name])
        low, high = np.quantile(y, (0.0, 0.99))
        ax.set_ylim(low - 0.05 * (high - low) - 1e-3, high + 0.25 * (high - low) + 1e-3)
        ax.set_title(LOSSES[name])
        ax.set_xlabel("thousand pictures seen")
        ax.annotate(f"{smooth(y)[-1]:.2f}", (x[-1], smooth(y)[-1]), color=INK, xytext=(0, 11), ha="right",
                    textcoords="offset points")
        for i, (phase, sample) in enumerate((phases or {}).items()):
            if x[0] < sample / 1000 < x[-1]:
                ax.axvline(sample / 1000, color=INK, linewidth=0.8, linestyle=":")
                ax.text(sample / 1000, 1 - 0.075 * i, f" {phase}", transform=ax.get_xaxis_transform(), fontsize=8,
                        va="top")
    return plot


def smooth(y: np.ndarray, share: float = 0.04) -> np.ndarray:
    """A running mean over a share of the points around each, fewer at the ends."""
    window = np.ones(1 + 2 * int(share * len(y) / 2))
    return np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")


@styled
def similarities(sim: np.ndarray, pictures: Sequence[np.ndarray], captions: Sequence[str], true: np.ndarray) -> Plot:
    """Every caption with every picture: sim (captions, pictures), cosines; true, alike: framed."""
    sim, true = np.asarray(sim), np.asarray(true)
    n, m = sim.shape
    right = int((true[np.arange(n), sim.argmax(1)]).sum())
    alt = (f"A table of {n} captions and {m} pictures, coloured by their similarity. In {right} of {n} rows the most "
           "similar picture is one that the caption is true of.")
    plot, axes = grid(alt, 1, 1, 3.1 + 0.72 * m, 0.75 + 0.5 * n)
    ax = axes[0, 0]
    ax.grid(False)
    ax.imshow(sim, cmap=COSINE, vmin=-1, vmax=1, aspect="auto")
    for i, j in np.ndindex(n, m):
        ax.text(j, i, f"{sim[i, j]:.2f}", ha="center", va="center", fontsize=9,
                color="#000000" if abs(sim[i, j]) < 0.6 else "#ffffff")
        if true[i, j]:
            ax.add_patch(Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=GREEN, linewidth=2.5))
    ax.set_yticks(range(n), [wrap(text, 38) for text in captions], fontsize=8.5, parse_math=False)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for j, picture in enumerate(pictures):
        show(ax.inset_axes([(j + 0.06) / m, 1.01, 0.88 / m, 0.88 / n * 0.72 / 0.5]), picture)
    return plot


@styled
def gallery(pictures: Sequence[np.ndarray], titles: Sequence[str], heading: str = "", columns: int = 4,
            good: Sequence[bool | None] | None = None) -> Plot:
    """Pictures with a few words under each; good: True gets a green frame, False a red and dashed one, None none."""
    rows = -(-len(pictures) // columns)
    lines = max(wrap(title, 30).count("\n") for title in titles) + 1
    alt = f"{len(pictures)} pictures: " + "; ".join(title.replace("\n", ", ") for title in titles)
    height = rows * (2.25 + 0.19 * lines)
    if heading:
        alt, height = f"{heading}: {alt}", height + 0.4
    plot, axes = grid(alt, rows, columns, 2.3 * columns, height)
    for i, ax in enumerate(axes.flat):
        if i >= len(pictures):
            ax.set_axis_off()
            continue
        show(ax, pictures[i], good[i] if good else None)
        ax.set_xlabel(wrap(titles[i], 30), fontsize=9, parse_math=False)     # a sentence's $ begins no formula
        ax.set_anchor("N")                     # spare height goes below, to the words: else a long caption is cut off
    if heading:
        plot.suptitle(heading, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    return plot


def word_maps(picture: np.ndarray, words: Sequence[str], maps: np.ndarray, columns: int = 6) -> Plot:
    """Where each word looks: maps (words, y, x) over the picture, each up to its own maximum."""
    plot = gallery([picture, *(overlay(picture, one) for one in maps)], ["the picture", *words],
                   columns=min(columns, len(words) + 1))
    plot.alt = "The picture, then the same once for each word, coloured where the word looks: " + ", ".join(words)
    return heat_bar(plot)


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) in grey, a map (y, x) over it in the colours of `heat_bar`: -> uint8 (h, w, 3)."""
    h, w = picture.shape[:2]
    heat = np.asarray(heat, dtype=np.float32)
    small = Image.fromarray(heat / max(heat.max(), 1e-12))
    share = np.clip(small.resize((w, h), Image.Resampling.BILINEAR), 0, 1)
    alpha, grey = 0.8 * share[..., None], (picture @ np.array([0.3, 0.59, 0.11]))[..., None]
    return ((1 - alpha) * grey + alpha * 255 * matplotlib.colormaps[HEAT](share)[..., :3]).astype(np.uint8)


@styled
def heat_bar(plot: Plot) -> Plot:
    """The figure with a bar that says what the colours of `overlay` mean."""
    plot.colorbar(ScalarMappable(cmap=HEAT), ax=plot.axes, label="of the maximum", ticks=(0, 0.5, 1))
    return plot


@styled
def slide(x: Sequence[float], lines: dict[str, np.ndarray], pictures: Sequence[np.ndarray],
          known: dict[str, tuple[float, float]]) -> Plot:
    """P(match) as a thing moves: lines {sentence: (runs, steps)}, thin each and bold their mean.

    pictures: taken in the middle of as many equal parts of the way
    known: {sentence: (from, to)}, where on the way the sentence is true
    """
    means = {text: np.mean(values, 0) for text, values in lines.items()}
    alt = "P(match) while a thing slides from left to right. " + "; ".join(
        f"“{text}”: {mean[0]:.2f} at the left, {mean[-1]:.2f} at the right" for text, mean in means.items()) + "."
    plot, axes = grid(alt, 2, 1, 9.6, 5.4, height_ratios=(1, 2.1))
    strip, ax = axes[:, 0]
    strip.set_axis_off()
    for i, picture in enumerate(pictures):
        show(strip.inset_axes([i / len(pictures) + 0.01, 0, 1 / len(pictures) - 0.02, 1]), picture)
    for (text, values), colour in zip(lines.items(), (BLUE, RED, GREEN, PURPLE)):
        for one in values:
            ax.plot(x, one, color=colour, alpha=0.2, linewidth=1)
        ax.plot(x, means[text], color=colour, label=text)
        ax.axvspan(*known[text], color=colour, alpha=0.1, linewidth=0)
        ax.text(sum(known[text]) / 2, 1.02, "true here", color=colour, ha="center", va="bottom", fontsize=9)
    ax.set_ylim(0, 1.12)
    ax.set_xlim(x[0], x[-1])
    ax.set_xlabel("where the moved object stands, from left to right")
    ax.set_ylabel("P(match)")
    legend = ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return plot


def show(ax: Axes, picture: np.ndarray, good: bool | None = None) -> None:
    """A picture in its axes without ticks, in a frame that says right (green) or wrong (red, dashed)."""
    ax.imshow(picture, interpolation="antialiased")
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set(visible=good is not None, color=GREEN if good else RED, linewidth=4,
                     linestyle="-" if good else (0, (2, 1)), capstyle="butt")        # a spine's own cap fills the gaps


def wrap(text: str, width: int) -> str:
    """Text in lines of at most `width` letters; line breaks in it stay, longer words are cut."""
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines)


def shorten(text: str, most: int) -> str:
    """Text of at most `most` letters: of a longer one, its beginning and its end."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:most - 1 - half]}…{text[len(text) - half:]}"
