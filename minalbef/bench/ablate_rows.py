"""The rows of an ablation: what differs, in the paper's staircase, around tiny's recipe, and under spoilt captions."""
from collections.abc import Iterable
from dataclasses import dataclass, field

from minalbef.config import nearest

# twenty kinds of objects are soon told apart, so relations come within a budget that allows for seeds
OURS = dict(objects=20, match_from=0.05, hard_from=0.1, queue_from=0.15, lesson_from=0.15, siblings_from=0.5)
# as the paper: no minimal pairs, a finite set that is seen again, alpha's ramp over its first epoch
PAPER = dict(objects=20, siblings=0.0, epochs=5.0, match_from=0.1, hard_from=0.2, queue_from=0.25)
ALPHA = 0.4
BASES = {"paper": "hard", "noise": "hard", "ours": "full", "sweeps": "full"}     # whose cost --equal gives


@dataclass(frozen=True)
class Row:
    """One recipe.

    about: what it is. group: rows that are asked for together. changes: of the preset's options
    without: losses that are left out. teach: losses whose targets the teacher softens, at config.alpha
    even: the same share of the targets is spread evenly instead, which is label smoothing
    noise: shares of spoilt captions, see Scenes. truth: all true captions of a batch are positives; else its own alone
    warm: from the shipped warm start. samples: how many pairs are seen, counting each time
    """

    about: str
    group: str
    changes: dict = field(default_factory=dict)
    without: tuple[str, ...] = ()
    teach: tuple[str, ...] = ("itc", "mlm")
    even: bool = False
    noise: tuple[float, float, float] = (0.0, 0.0, 0.0)
    truth: bool = False
    warm: bool = True
    samples: int = 76_800


def _paper(about: str, group: str = "paper", alpha: float = 0.0, changes: dict | None = None, samples: int = 38_400,
           **more) -> Row:
    return Row(about, group, PAPER | dict(alpha=alpha) | (changes or {}), samples=samples, **more)


def _ours(about: str, group: str = "ours", warm: bool = True, **changes) -> Row:
    return Row(about, group, OURS | changes, truth=True, warm=warm)


ROWS = {
    # Table 1's staircase, each with all that stands above it, and its controls
    "itm-mlm": _paper("ITM and MLM alone", changes=dict(hard_from=1.0, match_from=0.0), without=("itc",)),
    "itc": _paper("+ ITC", changes=dict(hard_from=1.0)),
    "hard": _paper("+ hard negatives"),
    "distil-itc": _paper("+ distillation in ITC", alpha=ALPHA, teach=("itc",)),
    "distil": _paper("+ distillation in MLM", alpha=ALPHA),
    "smooth": _paper("label smoothing instead of distillation", alpha=ALPHA, even=True),
    "truth": _paper("oracle: all true captions of a batch are positives", truth=True),
    "longer": _paper("no distillation, but as many CPU seconds", samples=42_240),
    # tiny's recipe, which knows the truth and has minimal pairs, without one part
    "full": _ours("tiny's recipe"),
    "no-siblings": _ours("no minimal pairs", siblings=0.0),
    "no-lesson": _ours("minimal pairs, but no lesson", lesson_from=1.0, siblings_from=0.15),
    "no-warm": _ours("no warm start", warm=False),
    "no-queue": _ours("no queue", queue_from=1.0),
    "fuse-cls": _ours("fusion sees the picture's [CLS]", fuse_cls=True),
    "text2": _ours("two text layers", text_depth=2),
}
SPOILT = {"wrong": "one thing wrong", "missing": "words missing", "foreign": "another scene's caption"}
for number, kind in enumerate(SPOILT):
    for percent in (40, 20):
        noise = tuple(percent / 100 * (i == number) for i in range(3))
        for suffix, about, more in (("", "", {}), ("-distil", ", distillation", dict(alpha=ALPHA)),
                                    ("-smooth", ", label smoothing", dict(alpha=ALPHA, even=True))):
            ROWS[f"{kind}{percent}{suffix}"] = _paper(f"{percent}% {SPOILT[kind]}{about}", "noise", noise=noise, **more)
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
    groups = {row.group: [name for name, one in ROWS.items() if one.group == row.group] for row in ROWS.values()}
    known = groups | {name: [name] for name in ROWS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no row {unknown[0]!r}{nearest(unknown[0], known)}; there are the groups {', '.join(groups)} "
                         f"and the rows {', '.join(ROWS)}")
    return list(dict.fromkeys(row for name in names or groups for row in known[name]))
