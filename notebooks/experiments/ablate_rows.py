"""The rows of an ablation: the paper's staircase, tiny less a part, spoilt captions, sweeps."""
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from emojiscenes.scenes import Drawn, Scenes
from minalbef.datasets.loader import order
from minalbef.system.limits import nearest

# few kinds of objects are soon told apart, so that we can afford several seeds
SMALL = dict(objects=20, text_depth=1, fusion_depth=3)
OURS = SMALL | dict(match_from=0.05, hard_from=0.1, queue_from=0.15, lesson_from=0.15,
                    siblings_from=0.5)
# as the paper: no minimal pairs, and alpha's ramp over the first epoch of several
PAPER = SMALL | dict(batch=32, siblings=0.0, siblings_from=1.0, match_from=0.1, hard_from=0.2,
                     queue_from=0.25)
ALPHA = 0.4
LIGHT = 1 - ALPHA                     # what distillation leaves of ITC's and MLM's gradient
# the row that a group is compared with; --equal takes as many CPU seconds
BASES = {"paper": "hard", "noise": "hard", "ours": "full", "sweeps": "full", "after": "hard",
         "loose": "hard"}
SPOILT = {"wrong": "one thing wrong", "missing": "words missing",
          "foreign": "another scene's caption"}


@dataclass(frozen=True)
class Row:
    """One recipe.

    about: what it is. group: rows that are run together. changes: of the preset's options
    samples: pairs that it sees, counting repetitions
    scenes: how many there are, in another order each epoch; 0: every scene is new
    itc: False leaves that loss out. weight: of ITC and MLM in the sum
    words_weight: of MLM, times that
    teach_words: the teacher softens MLM's targets, too. teach_itc: it softens ITC's
    smooth: label smoothing in place of the teacher; alpha is spread evenly
    noise: shares of spoilt captions, see Scenes
    truth: all true captions of a batch are positives; else only an image's own
    warm: from the shipped warm start
    """

    about: str
    group: str
    changes: dict = field(default_factory=dict)
    samples: int = 76_800
    scenes: int = 0
    itc: bool = True
    weight: float = 1.0
    words_weight: float = 1.0
    teach_words: bool = True
    teach_itc: bool = True
    smooth: bool = False
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    truth: bool = False
    warm: bool = True


@dataclass(frozen=True)
class FiniteScenes:
    """`count` scenes, without end: in another order each epoch, as photographs come."""

    scenes: Scenes
    count: int

    def __len__(self) -> int:
        return sys.maxsize

    def draw(self, index: int) -> Drawn:
        """The scene at a place of the endless sequence."""
        epoch, place = divmod(index, self.count)
        return self.scenes.draw(int(order(self.count, self.scenes.seed, epoch)[place]))


def paper_row(about: str, group: str = "paper", alpha: float = 0.0, changes: dict | None = None,
              **switches: Any) -> Row:
    """The paper's recipe in small, with changes: 3,840 scenes, five times each."""
    options = PAPER | dict(alpha=alpha) | (changes or {})
    return Row(about, group, options, samples=19_200, scenes=3_840, **switches)


def our_row(about: str, group: str = "ours", warm: bool = True, **changes: Any) -> Row:
    """The preset tiny in small, with changes; it knows which captions are true."""
    return Row(about, group, OURS | changes, truth=True, warm=warm)


def spoilt_rows(kind: str, percent: int) -> dict[str, Row]:
    """The rows of a share of captions that are spoilt in one way: each remedy, and controls."""
    noise = tuple(percent / 100 if kind == spoilt else 0.0 for spoilt in SPOILT)
    name = f"{kind}{percent}"
    about = f"{percent}% {SPOILT[kind]}"
    even = dict(hard_from=1.0)
    return {
        name: paper_row(about, "noise", noise=noise),
        f"{name}-distil": paper_row(f"{about}, distillation", "noise", ALPHA, noise=noise),
        f"{name}-smooth": paper_row(f"{about}, label smoothing", "noise", ALPHA, smooth=True,
                                    noise=noise),
        f"{name}-even": paper_row(f"{about}, even negatives", "after", changes=even, noise=noise),
        f"{name}-itc": paper_row(f"{about}, distillation in ITC", "after", ALPHA,
                                 teach_words=False, noise=noise),
        f"{name}-light": paper_row(f"{about}, ITC and MLM weigh {LIGHT}", "after", weight=LIGHT,
                                   noise=noise),
        f"{name}-words": paper_row(f"{about}, distillation in MLM", "loose", ALPHA,
                                   teach_itc=False, noise=noise),
        f"{name}-lightwords": paper_row(f"{about}, MLM weighs {LIGHT}", "loose",
                                        words_weight=LIGHT, noise=noise),
    }


ROWS = {
    # Table 1's staircase, each with all that stands above it, and controls
    "itm-mlm": paper_row("ITM and MLM alone", changes=dict(hard_from=1.0, match_from=0.0),
                         itc=False),
    "itc": paper_row("+ ITC", changes=dict(hard_from=1.0)),
    "hard": paper_row("+ hard negatives"),
    "distil-itc": paper_row("+ distillation in ITC", alpha=ALPHA, teach_words=False),
    "distil": paper_row("+ distillation in MLM", alpha=ALPHA),
    "smooth": paper_row("label smoothing instead of distillation", alpha=ALPHA, smooth=True),
    "truth": paper_row("oracle: all true captions of a batch are positives", truth=True),
    "light": paper_row(f"ITC and MLM weigh {LIGHT}", "after", weight=LIGHT),
    "distil-words": paper_row("distillation in MLM alone", "loose", alpha=ALPHA, teach_itc=False),
    "light-words": paper_row(f"MLM weighs {LIGHT}", "loose", words_weight=LIGHT),
    # tiny's recipe, which knows the truth and has minimal pairs, without one part
    "full": our_row("tiny's recipe"),
    "no-siblings": our_row("no minimal pairs", siblings=0.0),
    "no-lesson": our_row("minimal pairs, but no lesson", lesson_from=1.0, siblings_from=0.15),
    "no-warm": our_row("no warm start", warm=False, stem_lr=1.0),
    "no-queue": our_row("no queue", queue_from=1.0),
    "fuse-cls": our_row("fusion sees the image's [CLS]", fuse_cls=True),
    "text2": our_row("two text layers", text_depth=2),
}
for percent in (40, 20):
    for kind in SPOILT:
        ROWS |= spoilt_rows(kind, percent)
# sweeps, in which "full" is a point, too
for size in (256, 4096):
    ROWS[f"queue{size}"] = our_row(f"queue of {size}", "sweeps", queue_size=size)
for temperature in (0.03, 0.07, 0.2):
    ROWS[f"temp{temperature}"] = our_row(f"temperature held at {temperature}", "sweeps",
                                         temperature=temperature, temperature_lr=0.0)
for text in (0, 2, 3):
    fusion = 4 - text
    ROWS[f"layers{text}-{fusion}"] = our_row(f"{text} layers of text, {fusion} of fusion",
                                             "sweeps", text_depth=text, fusion_depth=fusion)
for count in (300, 1000, 3000, 10_000):
    ROWS[f"pairs{count}"] = our_row(f"{count} minimal pairs, again and again", "sweeps",
                                    sibling_pairs=count)


def rows_of(names: Iterable[str]) -> list[str]:
    """Rows by name or by group, in order, each once; all if none is named.

    Raises ValueError for an unknown name.
    """
    groups: dict[str, list[str]] = {group: [] for group in BASES}
    for name, row in ROWS.items():
        groups[row.group].append(name)
    choices = groups | {name: [name] for name in ROWS}
    rows: list[str] = []
    for name in names or groups:
        if name not in choices:
            raise ValueError(f"no row {name!r}{nearest(name, choices)}; there are the groups "
                             f"{', '.join(groups)} and the rows {', '.join(ROWS)}")
        rows += choices[name]
    return list(dict.fromkeys(rows))
