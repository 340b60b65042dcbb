"""`minalbef doctor`: what is wrong with a run, and what to do about it.

A finding is a function from the evidence to a line, or None where nothing is found or nothing is
known. FINDINGS lists them all. docs/losses.md says what losses are normal.
"""
import math
from collections.abc import Callable, Sequence
from statistics import fmean

from minalbef.recipes.evidence import Evidence, Row, Search
from minalbef.recipes.report import FEW, GUESSING, MARGIN, enough_epochs
from minalbef.recipes.vocabulary import describe_cut

SHARE = 10                            # the end of a run is its last tenth
FALLING = 0.1                         # of the loss, from one tenth of the run to the next
AT_FLOOR = 1.01                       # times temperature_min
COLLAPSED = 0.2                       # different first answers, over as many as there could be
RISING = 1.05                         # times the lowest validation loss
BY_CHANCE = 2.5                       # standard errors of the right images' mean place
NAMES = 3                             # examples in a line
UNKNOWN = 0.001                       # share of the words
UNUSUAL = 0.02                        # share of the images, or of the captions

Finding = Callable[[Evidence], str | None]


# the log


def ending(log: Sequence[Row], name: str, before: int = 0) -> float | None:
    """The mean of a column over the last tenth of its rows, or over the tenth `before` it."""
    values = [row[name] for row in log if name in row]
    count = max(1, len(values) // SHARE)
    values = values[:len(values) - before * count][-count:]
    return fmean(values) if values else None


def loss_names(log: Sequence[Row]) -> list[str]:
    """The columns of metrics.csv that are losses: those behind samples_per_second."""
    known = ("step", "samples", "seconds", "lr", "alpha", "samples_per_second")
    return [name for name in dict.fromkeys(name for row in log for name in row)
            if name not in known]


def itc_guessing(e: Evidence) -> float:
    """ITC's loss where every key is as likely: ln of their number, batch and queue, at the end."""
    keys = e.config.batch // e.config.accumulate
    if e.config.queue_from < 1:
        keys += min(e.config.queue_size, e.config.steps * e.config.batch)
    return math.log(keys)


def too_few_steps(e: Evidence) -> str | None:
    """Fewer than FEW steps are planned."""
    if e.config.steps >= FEW:
        return None
    epochs = enough_epochs(e.config)
    return (f"too few steps: {e.config.steps:,} teach hardly anything; epochs={epochs} makes them "
            f"at least {FEW:,}")


def still_falling(e: Evidence) -> str | None:
    """The sum of the losses fell in the last tenth of the run, against the tenth before it."""
    now = before = 0.0
    for name in loss_names(e.log):
        now += ending(e.log, name) or 0.0
        before += ending(e.log, name, before=1) or 0.0
    if e.step is not None or not e.log or now > (1 - FALLING) * before:
        return None
    return (f"still falling: the sum of the losses fell from {before:.2f} to {now:.2f} in the last "
            f"tenth of the run; train longer (epochs={2 * e.config.epochs:g}, into a new folder)")


def itm_guesses(e: Evidence) -> str | None:
    """ITM's loss ended where saying "no" in two of three cases is."""
    loss = ending(e.log, "itm")
    if loss is None or loss < GUESSING - MARGIN:
        return None
    return (f"ITM guesses: its loss ended at {loss:.3f}, and knowing only that one pair in three "
            f"is true gives {GUESSING:.3f}; rank by similarity alone, train longer, or begin with "
            "even negatives (hard_from=0.5)")


def itc_guesses(e: Evidence) -> str | None:
    """ITC's loss ended where all keys are as likely."""
    loss = ending(e.log, "itc")
    guess = itc_guessing(e)
    if loss is None or loss < 0.95 * guess:
        return None
    return (f"ITC guesses: its loss ended at {loss:.2f}, and ln of the {math.exp(guess):,.0f} keys "
            f"is {guess:.2f}; train longer, try another lr (now {e.config.lr:g}), or begin with "
            "weights that know images (--vit)")


def temperature_at_floor(e: Evidence) -> str | None:
    """The temperature is held at temperature_min."""
    floor = e.config.temperature_min
    if e.temperature is None or e.temperature > AT_FLOOR * floor:
        return None
    return (f"temperature at its floor: {e.temperature:.4f}, and temperature_min is {floor:g}, so "
            "every small difference decides and ITC learns from the nearest wrong answer alone; "
            f"take a lower temperature_lr (now {e.config.temperature_lr:g}; tiny has 0.05) or lr")


def overfits(e: Evidence) -> str | None:
    """The validation loss rose from its lowest while the training loss fell."""
    rows = [row for row in e.validation if "loss" in row]
    if len(rows) < 3:
        return None
    best = min(rows, key=lambda row: row["loss"])
    last = rows[-1]
    names = [name.removeprefix("loss_") for name in best if name.startswith("loss_")]
    now = sum(ending(e.log, name) or 0.0 for name in names)
    then_log = [row for row in e.log if row["step"] <= best["step"]]
    then = sum(ending(then_log, name) or 0.0 for name in names)
    if last["loss"] < RISING * best["loss"] or now >= then:
        return None
    return (f"it overfits: after step {best['step']:,.0f} the validation loss rose from "
            f"{best['loss']:.2f} to {last['loss']:.2f}, while the training loss fell from "
            f"{then:.2f} to {now:.2f}; take {e.folder}/best, train on more pairs, or begin with "
            "trained weights")


# what was learnt


def only_word_frequencies(e: Evidence) -> str | None:
    """MLM's loss is no lower than the entropy of the words that it masks."""
    loss = ending(e.log, "mlm")
    if loss is None or e.words is None or loss < e.words.entropy - 0.05:
        return None
    return (f"MLM knows only how frequent words are: its loss ended at {loss:.2f}, and their "
            f"entropy is {e.words.entropy:.2f}; train longer, or try another lr "
            f"(now {e.config.lr:g})")


def at_chance(search: Search) -> bool:
    """Whether chance may give the right images' mean place.

    A place by chance is uniform from 1 to n, so its variance is n squared over 12; captions of one
    image count as one, and so do images of one caption.
    """
    error = rivals(search) / math.sqrt(12 * min(search.images, search.texts))
    return search.place > middle(search) - BY_CHANCE * error


def rivals(search: Search) -> float:
    """The images that compete for a caption, on average: its own and all wrong ones."""
    return search.images - search.right + 1


def middle(search: Search) -> float:
    """The mean place by chance."""
    return (1 + rivals(search)) / 2


def figures(search: Search) -> str:
    """A search in words."""
    return (f"of {rivals(search):,.0f} images the right one comes at place {search.place:.0f} on "
            f"average (by chance {middle(search):.0f}), R@{search.k} {search.recall:.2f} "
            f"(chance {min(1, search.k / rivals(search)):.2f})")


def nothing_beyond_chance(e: Evidence) -> str | None:
    """Held-out captions find their images no better than chance; shuffled captions give that."""
    if e.unseen is None or not at_chance(e.unseen):
        return None
    line = f"nothing is learnt that holds for unseen pairs: {figures(e.unseen)}; "
    if e.seen is not None and not at_chance(e.seen):
        return (f"{line}training pairs are found ({figures(e.seen)}), so they are "
                "memorised. Are captions shuffled, or shifted by a row? Look at some beside their "
                "images. If they fit, it takes more pairs, or trained weights to begin with")
    return f"{line}training pairs aren't found either: train longer, or try another lr"


def itc_collapsed(e: Evidence) -> str | None:
    """Different captions find the same images."""
    search = e.unseen or e.seen
    if search is None:
        return None
    possible = min(search.texts, search.images)
    if search.firsts > COLLAPSED * possible:
        return None
    return (f"ITC has collapsed: {search.texts:,} different captions find only {search.firsts} "
            f"different images first, of {search.images:,}, and {search.favourite:.0%} of them "
            "the same one; train longer, or take a lower lr or a larger batch")


# the set


def examples(names: Sequence[str]) -> str:
    """The first names, in quotes."""
    return ", ".join(repr(name) for name in names[:NAMES])


def unknown_words(e: Evidence) -> str | None:
    """Words are read as [UNK]."""
    if e.words is None or e.words.unknown.total() <= UNKNOWN * e.words.total:
        return None
    names = [word for word, _ in e.words.unknown.most_common(NAMES)]
    share = e.words.unknown.total() / e.words.total
    return (f"unknown words: {share:.1%} of the captions' words are read as [UNK], such as "
            f"{examples(names)}; without --vocab, `minalbef pretrain --data` learns word pieces "
            "from your captions")


def cut_captions(e: Evidence) -> str | None:
    """Captions are longer than the model reads."""
    if e.words is None or e.words.cut.texts <= UNUSUAL:
        return None
    return (f"captions are cut: {describe_cut(e.words.cut, e.config.text_length)}; write what "
            "tells images apart at the beginning, or several captions for an image")


def transparent_images(e: Evidence) -> str | None:
    """Transparent images are opened as stored, which shows what colours lie below."""
    if e.images is None or e.config.upright:
        return None
    if len(e.images.transparent) <= UNUSUAL * e.images.opened:
        return None
    return (f"transparent images: {len(e.images.transparent):,} of {e.images.opened:,}, such as "
            f"{examples(e.images.transparent)}, and transparency is dropped, which often leaves "
            "black; `minalbef prepare pairs` puts them over white")


def blank_images(e: Evidence) -> str | None:
    """Images have one colour, once they are opened as in training."""
    if e.images is None or len(e.images.blank) <= UNUSUAL * e.images.opened:
        return None
    clear = len({*e.images.blank} & {*e.images.transparent})
    cause = f", {clear:,} of them transparent (white on white?)" if clear else ""
    return (f"blank images: {len(e.images.blank):,} of {e.images.opened:,} have nearly one colour"
            f"{cause}, such as {examples(e.images.blank)}; leave them out, or put transparent "
            "ones over a colour")


def tiny_images(e: Evidence) -> str | None:
    """Images are enlarged to more than twice their size."""
    if e.images is None or len(e.images.tiny) <= UNUSUAL * e.images.opened:
        return None
    return (f"tiny images: {len(e.images.tiny):,} of {e.images.opened:,} have a side of less than "
            f"half of image_size={e.config.image_size}, such as {examples(e.images.tiny)}; leave "
            "them out, or take a smaller image_size")


FINDINGS: tuple[Finding, ...] = (
    too_few_steps, still_falling, itc_guesses, itm_guesses, only_word_frequencies,
    temperature_at_floor, overfits, nothing_beyond_chance, itc_collapsed, unknown_words,
    cut_captions, transparent_images, blank_images, tiny_images)


# the answer


def looked_at(e: Evidence) -> list[str]:
    """What was read, with its main figures."""
    lines = []
    if e.log:
        losses = []
        for name in loss_names(e.log):
            losses.append(f"{name} {ending(e.log, name):.3f}")
        lines.append(f"the log, {len(e.log):,} rows up to step {e.log[-1]['step']:,.0f}; losses of "
                     f"its last tenth: {', '.join(losses)}")
    if e.validation:
        lines.append(f"validation.csv, {len(e.validation):,} rows")
    if e.temperature is not None:
        lines.append(f"the temperature, {e.temperature:.3f}")
    if e.words is not None:
        lines.append(f"{e.words.captions:,} training captions, {e.words.unknown.total():,} of "
                     f"their {e.words.total:,} words unknown; entropy of masked words "
                     f"{e.words.entropy:.2f}")
        if e.words.cut.texts:
            lines.append(f"their length: {describe_cut(e.words.cut, e.config.text_length)}")
    if e.images is not None:
        lines.append(f"{e.images.opened:,} training images: {len(e.images.transparent):,} may be "
                     f"transparent, {len(e.images.blank):,} blank, {len(e.images.tiny):,} tiny")
    for name, found in (("training", e.seen), ("validation", e.unseen)):
        if found is not None:
            lines.append(f"a search among {name} pairs: {figures(found)}; {found.firsts:,} "
                         f"different first answers to {found.texts:,} captions")
    return lines


def findings(e: Evidence) -> list[str]:
    """What is wrong with a run, a line each."""
    return [line for finding in FINDINGS if (line := finding(e))]


def describe(e: Evidence) -> str:
    """All findings, numbered, or that there are none; what was looked at, and what wasn't."""
    progress = f"{e.config.steps:,} steps"
    if e.step is not None:
        progress = f"step {e.step:,} of {progress}: training hasn't ended"
    lines = [f"{e.folder}: {e.task}, preset {e.config.name}, {progress}", ""]
    found = findings(e)
    for number, line in enumerate(found, 1):
        lines.append(f"{number}. {line}")
    if not found:
        lines.append("Nothing is wrong that can be seen in what was looked at.")
    lines += ["", "Looked at:", *(f"- {line}" for line in looked_at(e))]
    if e.missing:
        lines += ["", "Not looked at:", *(f"- {name}: {why}" for name, why in e.missing.items())]
    return "\n".join(lines)
