"""The rows of an ablation: the paper's staircase, tiny's recipe less a part, spoilt captions, sweeps, afterthoughts."""
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

from minalbef.config import nearest
from minalbef.datasets.loader import order
from minalbef.scenes.scenes import Drawn, Scenes

_ROW = dict(objects=20, text_depth=1, fusion_depth=3)     # few kinds are soon told apart, so seeds can be afforded
OURS = _ROW | dict(match_from=0.05, hard_from=0.1, queue_from=0.15, lesson_from=0.15, siblings_from=0.5)
# as the paper: no minimal pairs, and alpha's ramp over the first epoch of several
PAPER = _ROW | dict(batch=32, siblings=0.0, siblings_from=1.0, match_from=0.1, hard_from=0.2, queue_from=0.25)
ALPHA = 0.4


@dataclass(frozen=True)
class Row:
    """One recipe.

    about: what it is. group: rows that are asked for together. changes: of the preset's options
    samples: pairs it sees, counting each time; scenes: how many there are, in another order each epoch; 0: each is new
    itc: False leaves that loss out. weight: of ITC and MLM in the sum. warm: from the shipped warm start
    teach_words: the teacher softens MLM's targets, too. smooth: label smoothing, its share is spread evenly
    noise: shares of spoilt captions, see Scenes. truth: all true captions of a batch are positives; else its own alone
    """

    about: str
    group: str
    changes: dict = field(default_factory=dict)
    samples: int = 76_800
    scenes: int = 0
    itc: bool = True
    weight: float = 1.0
    teach_words: bool = True
    teach_itc: bool = True
    words_weight: float = 1.0
    smooth: bool = False
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    truth: bool = False
    warm: bool = True


@dataclass(frozen=True)
class Finite:
    """So many scenes, without end: in another order each epoch, as photographs come."""

    scenes: Scenes
    count: int

    def __len__(self) -> int:
        return sys.maxsize

    def draw(self, index: int) -> Drawn:
        epoch, place = divmod(index, self.count)
        return self.scenes.draw(int(order(self.count, self.scenes.seed, epoch)[place]))


def _paper(about: str, group: str = "paper", alpha: float = 0.0, changes: dict | None = None, **more) -> Row:
    return Row(about, group, PAPER | dict(alpha=alpha) | (changes or {}), samples=19_200, scenes=3_840, **more)


def _ours(about: str, group: str = "ours", warm: bool = True, **changes) -> Row:
    return Row(about, group, OURS | changes, truth=True, warm=warm)


BASES = {"paper": "hard", "noise": "hard", "ours": "full", "sweeps": "full", "after": "hard", "loose": "hard"}  # --equal: whose cost
ROWS = {
    # Table 1's staircase, each with all that stands above it, and controls
    "itm-mlm": _paper("ITM and MLM alone", changes=dict(hard_from=1.0, match_from=0.0), itc=False),
    "itc": _paper("+ ITC", changes=dict(hard_from=1.0)),
    "hard": _paper("+ hard negatives"),
    "distil-itc": _paper("+ distillation in ITC", alpha=ALPHA, teach_words=False),
    "distil": _paper("+ distillation in MLM", alpha=ALPHA),
    "smooth": _paper("label smoothing instead of distillation", alpha=ALPHA, smooth=True),
    "truth": _paper("oracle: all true captions of a batch are positives", truth=True),
    "light": _paper("ITC and MLM weigh 0.6", "after", weight=1 - ALPHA),
    "distil-words": _paper("distillation in MLM alone", "loose", alpha=ALPHA, teach_itc=False),
    "light-words": _paper("MLM weighs 0.6", "loose", words_weight=1 - ALPHA),
    # tiny's recipe, which knows the truth and has minimal pairs, without one part
    "full": _ours("tiny's recipe"),
    "no-siblings": _ours("no minimal pairs", siblings=0.0),
    "no-lesson": _ours("minimal pairs, but no lesson", lesson_from=1.0, siblings_from=0.15),
    "no-warm": _ours("no warm start", warm=False, stem_lr=1.0),
    "no-queue": _ours("no queue", queue_from=1.0),
    "fuse-cls": _ours("fusion sees the picture's [CLS]", fuse_cls=True),
    "text2": _ours("two text layers", text_depth=2),
}
SPOILT = {"wrong": "one thing wrong", "missing": "words missing", "foreign": "another scene's caption"}
for percent in (40, 20):
    for kind in SPOILT:
        for end, about, more in (("", "", {}), ("-distil", ", distillation", dict(alpha=ALPHA)),
                                 ("-smooth", ", label smoothing", dict(alpha=ALPHA, smooth=True)),
                                 ("-even", ", even negatives", dict(group="after", changes=dict(hard_from=1.0))),
                                 ("-itc", ", distillation in ITC", dict(group="after", alpha=ALPHA, teach_words=False)),
                                 ("-light", ", ITC and MLM weigh 0.6", dict(group="after", weight=1 - ALPHA)),
                                 ("-words", ", distillation in MLM", dict(group="loose", alpha=ALPHA, teach_itc=False)),
                                 ("-lightwords", ", MLM weighs 0.6", dict(group="loose", words_weight=1 - ALPHA))):
            ROWS[f"{kind}{percent}{end}"] = _paper(f"{percent}% {SPOILT[kind]}{about}", **dict(group="noise") | more,
                                                   noise=tuple(percent / 100 * (one == kind) for one in SPOILT))
# sweeps, of which "full" is a point, too
ROWS |= {f"queue{size}": _ours(f"queue of {size}", "sweeps", queue_size=size) for size in (256, 4096)}
ROWS |= {f"temp{t}": _ours(f"temperature held at {t}", "sweeps", temperature=t, temperature_lr=0.0)
         for t in (0.03, 0.07, 0.2)}
ROWS |= {f"layers{t}-{4 - t}": _ours(f"{t} layers of text, {4 - t} of fusion", "sweeps", text_depth=t,
                                     fusion_depth=4 - t) for t in (0, 2, 3)}
ROWS |= {f"pairs{n}": _ours(f"{n} minimal pairs, again and again", "sweeps", sibling_pairs=n)
         for n in (300, 1000, 3000, 10_000)}


def rows_of(names: Iterable[str]) -> list[str]:
    """Rows by name or by group, in order, each once; none named: all. Raises ValueError for an unknown name."""
    groups = {group: [name for name, row in ROWS.items() if row.group == group] for group in BASES}
    known = groups | {name: [name] for name in ROWS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no row {unknown[0]!r}{nearest(unknown[0], known)}; there are the groups {', '.join(groups)} "
                         f"and the rows {', '.join(ROWS)}")
    return list(dict.fromkeys(row for name in names or groups for row in known[name]))
