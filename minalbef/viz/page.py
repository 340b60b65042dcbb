"""The demo's page: what a run learnt, shown in pictures. One file, no network, light and dark."""
import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from minalbef import checkpoint
from minalbef.config import Config
from minalbef.evaluation import ranking
from minalbef.evaluation.report import Row, competitors, read_report, rows, share
from minalbef.metrics import read_metrics
from minalbef.run import Run, load
from minalbef.scenes.exam import questions, words
from minalbef.scenes.grammar import kinds_of_word, phrase
from minalbef.scenes.language import Noun, Scene
from minalbef.scenes.scenes import Drawn, Scenes, paint, truth
from minalbef.tokenizer import clean
from minalbef.viz import examples, plots

SIDE = 144                            # pixels of a scene on the page: three times what the model sees
SEED = 4242                           # of the page's scenes; they are of the test split, as the exam's are
POOL = 500                            # scenes and captions to find things among


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Write report.html beside report.json, of a run folder that holds a trained model: -> its path.

    out: the folder of the report, by default the run's

    Raises ValueError where one of them is missing or damaged, OSError where the page cannot be written.
    """
    folder = Path(folder)
    out = out or folder
    run, report = load(folder), read_report(out)
    parts = [head(run, report), training(folder, run)]
    if run.config.objects:
        drawn = questions.plain(run, "test", SEED, POOL)
        parts += [matrix(run, drawn), retrieval(run, drawn), families(run), looks(run, drawn), guesses(run, drawn),
                  slide(run)]
    body = "\n".join([*parts, numbers(report), made(report)])
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    text = (f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>What this ALBEF learnt</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{style}</style>\n'
            f"<main>\n{body}\n</main>\n</html>\n")
    checkpoint.write_atomically(out / "report.html", lambda path: path.write_text(text, encoding="utf-8"))
    return out / "report.html"


# small pieces


def section(title: str, sentence: str, *body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n<p>{sentence}</p>\n" + "\n".join(body) + "\n</section>"


def image(pixels: np.ndarray, alt: str) -> str:
    """A picture inside the page."""
    Image.fromarray(pixels).save(file := io.BytesIO(), "webp", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/webp;base64,{data}">'


def figure(picture: str, words: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{picture}<figcaption>{words}</figcaption></figure>'


def plot(figure: plots.Plot) -> str:
    width = round(88 * figure.get_figwidth())                    # the same letters in a small figure as in a wide one
    return (f'<figure class="plot" role="img" aria-label="{html.escape(figure.alt)}" style="max-width:{width}px">'
            f"{figure.svg()}</figure>")


def percent(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.1%}"


def mark(right: bool) -> str:
    return '<span class="yes">✓ right</span>' if right else '<span class="no">✗ wrong</span>'


def shown(scene: Scene, alt: str = "") -> str:
    return image(paint(scene, SIDE), alt or ", ".join(thing.name for thing in scene.objects) + f" on {scene.background}")


# sections, from the top of the page to its end


def head(run: Run, report: dict) -> str:
    size = sum(p.numel() for p in run.model.parameters()) / 1e6
    found = {(row.group.split(":")[0], row.name): row for row in rows(report)}
    def tile(key: tuple[str, str], text: str) -> str:
        row = found.get(key)
        beside = "<br>".join(f"{name} {percent(value)}" for name, value in row.beside.items()) if row else ""
        return f'<div class="tile"><b>{percent(row.value)}</b><span>{text}</span><small>{beside}</small></div>' if row else ""
    return (
        f"<h1>What this ALBEF learnt</h1>\n<p>A model of {size:.1f} million parameters looked at {samples(run.config):,} "
        f"small pictures, each with one English sentence, for {report['seconds'].get('train', 0) / 60:.0f} minutes. "
        "It was never told what a word means, nor where in a picture a thing is. "
        "Everything below was asked on pictures and sentences that it had not seen.</p>\n"
        + (f"<p>Before, its picture half had {report['seconds'].get('warm_start', 0):.0f} seconds to learn to name objects"
           + (" that no caption speaks of" if run.config.warm_objects == "other" else "")
           + ". What that start alone can do stands beside every figure as “start”.</p>" if run.config.warm_steps else "")
        + '<div class="tiles">'
        + tile(("Plain", "caption to picture, by similarity"), f"of sentences find their picture among {competitors(report)}")
        + tile(("Families", "caption to picture, by match"), "find it among four pictures of the same objects")
        + tile(("Masked words", "object"), "of hidden object words are guessed exactly")
        + tile(("Pointing", "what made the guess of the word"), "of words point at their object")
        + "</div>")


def numbers(report: dict) -> str:
    parts, group = [], None
    for row in rows(report):
        if row.group != group:
            group = row.group
            parts.append(f"<h3>{group}</h3>")
        parts.append(bar(row))
    legend = "".join(f'<li><i class="{name.replace(" ", "-")}"></i>{text}</li>' for name, text in {
        "chance": "chance: who guesses", "no picture": "no picture: the model with a blank one",
        "objects known": "objects known: who sees which objects there are, and nothing else",
        "start": "start: the model before its first step"}.items())
    return section("The figures", "Each bar is a share of right answers, with its 95% interval; the marks say what it is "
                   "worth, for a figure alone means little.", f'<ul class="legend">{legend}</ul>',
                   f'<div class="bars">{"".join(parts)}</div>')


def bar(row: Row) -> str:
    def left(value: float) -> str:
        return f"left:{100 * min(1, max(0, value)):.1f}%"
    low, high = row.interval or (0, 0)
    marks = "".join(f'<i class="mark {name.replace(" ", "-")}" style="{left(value)}"></i>'
                    for name, value in row.beside.items())
    beside = ", ".join(f"{name} {share(value)}" for name, value in row.beside.items())
    return (f'<span>{row.name}</span><div class="bar"><i class="fill" style="width:{100 * row.value:.1f}%"></i>'
            f'<i class="range" style="{left(low)};width:{100 * (high - low):.1f}%"></i>{marks}</div>'
            f'<span class="value">{share(row.value)}</span><small>{beside}</small>')


def training(folder: Path, run: Run) -> str:
    config, parts = run.config, []
    phases = {"ITM and MLM join": config.match_from, "queue joins": config.queue_from,
              "siblings join": config.siblings_from if config.siblings else 0, "hard negatives": config.hard_from}
    for where, marked in ((folder / "warm", {}), (folder, phases)):
        if logged := read_metrics(where):
            parts.append(plot(plots.curves(logged, {name: at * samples(config) for name, at in marked.items()})))
    return section("How it learnt", "A loss says how wrong the model is, so down is good; each of them asks another "
                   "question. Where another task or harder examples join (dotted lines), a loss may rise.", *parts)


def matrix(run: Run, drawn: Sequence[Drawn]) -> str:
    some = drawn[:9]
    encoded = questions.encode(run, [one.scene for one in some], [one.text for one in some])
    sim = ranking.similarity(run.model, encoded)[0].T.numpy()
    return section(
        "Align: sentences and pictures in one space", "Each half of the model turns what it reads into an arrow; "
        "similarity says how nearly two arrows agree, from -1 to 1. What belongs together is framed, and should be the "
        "brightest of its row.",
        plot(plots.similarities(sim, [paint(one.scene, SIDE) for one in some], [one.text for one in some], truth(some))))


def retrieval(run: Run, drawn: Sequence[Drawn]) -> str:
    encoded = questions.encode(run, [one.scene for one in drawn], [one.text for one in drawn])
    sim, true = ranking.similarity(run.model, encoded)[0].T, torch.from_numpy(truth(drawn))      # (text, picture)
    def chosen(true: Tensor, best: Tensor) -> list[int]:
        """The first two queries whose best answer is right, and the first two whose is wrong."""
        right = true[torch.arange(len(best)), best[:, 0]]
        return [*right.nonzero()[:2, 0].tolist(), *(~right).nonzero()[:2, 0].tolist()]
    best, match = examples.answers(run, encoded, sim, of_pictures=False)
    parts = [f"<h3>A sentence looks for its picture among {len(drawn)}</h3>"]
    for q in chosen(true, best):
        found = "".join(figure(shown(drawn[i].scene), f"match {p:.2f}", "right" if true[q, i] else "")
                        for i, p in zip(best[q, :5].tolist(), match[q]))
        parts.append(f'<p class="query">“{html.escape(drawn[q].text)}” {mark(true[q, best[q, 0]])}</p>'
                     f'<div class="strip">{found}</div>')
    best, match = examples.answers(run, encoded, sim.T, of_pictures=True)
    pairs = []
    for q in chosen(true.T, best):
        found = "".join(f'<li class="{"true" if true[i, q] else ""}">{html.escape(drawn[i].text)} '
                        f"<small>match {p:.2f}</small></li>"
                        for i, p in zip(best[q, :4].tolist(), match[q]))
        pairs.append(f'<div class="pair">{figure(shown(drawn[q].scene), mark(true[best[q, 0], q]))}<ol>{found}</ol></div>')
    parts += [f"<h3>A picture looks for its sentence among {len(drawn)}</h3>", f'<div class="pairs">{"".join(pairs)}</div>']
    return section("Then fuse: who finds whom", "Similarity proposes ten answers. Fusion reads the sentence word by word with "
                   "the picture in sight, says how likely the two match, and puts the best match first. What is true is green. "
                   "These are the first questions that it got right, and the first that it got wrong.", *parts)


def families(run: Run) -> str:
    parts, wanted, drawn = [], {}, questions.families(run, "test", SEED, 40)
    for i in range(0, len(drawn), 4):
        wanted.setdefault(drawn[i].kind, drawn[i:i + 4])
    for kind, some in wanted.items():
        odds = questions.match_odds(run, [one.scene for _ in some for one in some], [one.text for one in some for _ in some])
        match, true = odds.sigmoid().view(4, 4), truth(some)                     # (text, picture)
        top = "".join(f"<th>{shown(one.scene)}</th>" for one in some)
        lines = ""
        for i, one in enumerate(some):
            cells = "".join(
                f'<td class="{"true" if true[i, j] else ""}" style="background:color-mix(in srgb, var(--blue) '
                f'{75 * match[i, j]:.0f}%, transparent)">{match[i, j]:.2f}</td>' for j in range(4))
            lines += f"<tr><td>“{html.escape(one.text)}” {mark(true[i, match[i].argmax()])}</td>{cells}</tr>"
        what = "size and place" if kind == "mixed" else kind
        parts.append(f'<h3>They differ in {what}</h3><table class="family"><tr><td></td>{top}</tr>{lines}</table>')
    return section("Families: four pictures of the same things", "Knowing the objects does not help here: only size, place, "
                   "order or number tells the four apart. Each cell is the probability that sentence and picture match; the "
                   "framed one is true, and should be the highest of its row.", *parts)


def looks(run: Run, drawn: Sequence[Drawn], count: int = 4) -> str:
    parts = []
    for one in drawn[:count]:
        said, kinds = clean(one.text).split(), kinds_of_word(one.text)
        places = [i for i, kind in enumerate(kinds) if kind != "other"]
        maps = words.word_maps(run, words.hide(run, [one.text], [(0, [i]) for i in places]),
                               questions.image_tokens(run, [one.scene]), "mlm").unflatten(1, (run.config.grid, -1)).numpy()
        lit = [plots.overlay(paint(one.scene, SIDE), heat) for heat in maps]
        cards = [figure(image(heat, f"where the model looks for “{said[i]}”"), html.escape(said[i]))
                 for i, heat in zip(places, lit)]
        parts.append(f'<p class="query">“{html.escape(one.text)}”</p>'
                     f'<div class="maps">{figure(shown(one.scene), "the picture")}{"".join(cards)}</div>')
    return section("Where a word looks", "Nobody showed the model where things are. Yet when a word is hidden, we can ask "
                   "which parts of the picture spoke for the right one (Grad-CAM): they are lit, and the strongest are ringed.", *parts)


def guesses(run: Run, drawn: Sequence[Drawn], count: int = 3) -> str:
    def says(likely: dict[str, float], true: str) -> str:
        return "".join(f'<div class="says{" true" if word == true else ""}"><i style="width:{70 * p:.0f}px"></i>'
                       f"{html.escape(word)} <small>{p:.2f}</small></div>" for word, p in likely.items())
    parts = []
    for one in sorted(drawn[:40], key=lambda one: -len(set(kinds_of_word(one.text))))[:count]:
        said, kinds = clean(one.text).split(), kinds_of_word(one.text)
        places = sorted(kinds.index(kind) for kind in set(kinds) - {"other", "count"})          # the first of each kind
        lines = "".join(
            f"<tr><td>{html.escape(' '.join(said[:i]))} <b>?</b> {html.escape(' '.join(said[i + 1:]))}</td>"
            f"<td>{says(seen, said[i])}</td><td>{says(blind, said[i])}</td></tr>"
            for i, seen, blind in zip(places, *(examples.guesses(run, scene, one.text, places)
                                                for scene in (one.scene, None))))
        parts.append(f'<div class="guess">{shown(one.scene)}<table><tr><th>one word hidden</th><th>with the picture</th>'
                     f"<th>without it</th></tr>{lines}</table></div>")
    return section("Which word is hidden?", "One word at a time is hidden, and the model guesses it, with the picture and with "
                   "a blank one. The right word is green; what the picture adds is what the model saw.", *parts)


def slide(run: Run) -> str:
    known = Scenes("test", objects=run.config.objects).vendors                   # {name: its styles}
    moving, fixed = (Noun(want if want in known else list(known)[i]) for i, want in enumerate(("apple", "cat")))
    styles = [style for style in known[moving.name] if style in known[fixed.name]]
    sayings = {f"{phrase(moving)} to the {kind} of {phrase(fixed)}": kind for kind in ("left", "right")}
    found = examples.slide(run, moving, fixed, sayings, styles)
    figure = plots.slide(found.x, found.lines, [paint(one, SIDE) for one in found.scenes], found.known)
    return section("A thing that moves", f"We slide {phrase(moving)} past {phrase(fixed)} and ask all the way whether the "
                   "sentence matches: a model that understood left and right would change its mind in the middle. Thin lines "
                   "are single drawing styles, bold ones their mean.", plot(figure))


def made(report: dict) -> str:
    lines = {"command": report["command"], "date": report["date"], "code": report["commit"], "machine": report["device"],
             **{f"seconds, {name.replace('_', ' ')}": f"{value:.0f}" for name, value in report["seconds"].items()},
             **{f"version of {name}": value for name, value in report["versions"].items()}}
    options = "\n".join(f"{name} = {value!r}" for name, value in report["config"].items())
    return section("How it was made", "All that is needed to make it again.",
                   f"<pre>{html.escape(chr(10).join(f'{name}: {value}' for name, value in lines.items()))}</pre>",
                   f"<details><summary>All options</summary><pre>{html.escape(options)}</pre></details>")


def samples(config: Config) -> int:
    return config.steps * config.batch
