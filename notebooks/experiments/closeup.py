"""Relations, close up, of the shipped model: `python notebooks/experiments/closeup.py`, 13 s.

sampler: which kinds of wrong images ITC's similarities draw as hard negatives
families: R@1 of four scenes with the same objects, by ITC and by ITM, by what they differ in
slide: ITM's probability of a match while an apple moves from the left edge to the right
couples: the share of couples accepted as "left of", by arrangement and by where they stand
contrasts: which direction is true of the sibling of a scene with a relation

Writes closeup.json beside itself.
"""
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emojiscenes.grammar import words
from emojiscenes.language import Form, Noun, Object, Relation, Scene, There, holds
from emojiscenes.scenes import Drawn, Scenes, in_one_half, truth
from minalbef import Run, load
from minalbef.cli.main import run_script
from minalbef.data import data_folder
from minalbef.evaluation import ranking
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions
from minalbef.system.checkpoint import run_folder
from results import table_of, write_json

PATH = Path(__file__).with_suffix(".json")
STYLES = ("noto", "fxemoji", "twemoji", "emojione", "fluent")
APPLE = Noun("apple")
WAY = np.linspace(0.14, 0.86, 37)
SENTENCES: dict[str, Form] = {
    "an apple on the left": There(Noun("apple", place="left")),
    "an apple on the right": There(Noun("apple", place="right")),
    "an apple to the left of a cat": Relation(APPLE, "left", Noun("cat")),
    "an apple to the right of a cat": Relation(APPLE, "right", Noun("cat")),
}
MIDDLES = np.linspace(0.26, 0.74, 9)             # where the middle of a couple is
DIRECTIONS = ("left", "right", "above", "below")


def sibling_scenes(run: Run, split: str, siblings: float) -> Scenes:
    """The run's scenes, with this share of siblings."""
    return Scenes(split, seed=6, size=run.config.image_size, objects=run.config.objects,
                  siblings=siblings)


def scenes_and_texts(pairs: Sequence[Drawn]) -> tuple[list[Scene], list[str]]:
    """The two columns of pairs."""
    return [pair.scene for pair in pairs], [pair.text for pair in pairs]


@torch.no_grad()
def similarities(run: Run, batch: list[Drawn]) -> Tensor:
    """Of all texts with all images of a batch, over temperature: (text, image)."""
    scenes, texts = scenes_and_texts(batch)
    image = questions.pixels(scenes, run.config.image_size)
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length)
    model = run.model
    text = model.text_feature(model.encode_text(tokens, keep))
    return text @ model.image_feature(model.encode_image(image)).T / model.temperature


def sampler(run: Run, start: Run) -> dict[str, dict[str, float]]:
    """The probability of each kind of hard negative, for rows of a batch that have a sibling."""
    source = sibling_scenes(run, "test", run.config.siblings)
    batch = [source.draw(i) for i in range(64)]
    never = torch.from_numpy(truth(batch))
    place = torch.arange(64)
    has_sibling = torch.tensor([pair.kind != "" for pair in batch])
    sibling = has_sibling[:, None] & (place == place[:, None] ^ 1)            # (text, image)
    common = torch.zeros(64, 64, dtype=torch.bool)
    for i, a in enumerate(batch):
        for j, b in enumerate(batch):
            names = questions.object_names(a.scene) & questions.object_names(b.scene)
            common[i, j] = bool(names)
    kinds = {"the sibling": sibling, "another with a common object": common & ~sibling,
             "no common object": ~common}
    first, last = similarities(start, batch), similarities(run, batch)
    stages = {"start": (first, never), "trained": (last, never),
              "trained, siblings masked": (last, never | sibling)}
    shares = {}
    for stage, (sim, masked) in stages.items():
        to_image = sim.masked_fill(masked, -torch.inf).softmax(-1)
        to_text = sim.T.masked_fill(masked.T, -torch.inf).softmax(-1)
        chance = torch.cat([to_image[has_sibling], to_text[has_sibling]])
        shares[stage] = {}
        for kind, which in kinds.items():
            shares[stage][kind] = share((chance * which[has_sibling].repeat(2, 1)).sum(1))
    return shares


def share(values: Tensor) -> float:
    """A mean, to four digits."""
    return round(values.float().mean().item(), 4)


def families(run: Run) -> dict[str, dict[str, float]]:
    """R@1 of ITC and ITM within 300 families, both directions, by what their scenes differ in."""
    group = questions.families(run, "test", 6, 300)
    encoded = questions.encode(run, *scenes_and_texts(group))
    family = torch.arange(len(group)) // 4
    scores = ranking.score(run.model, encoded, rivals=family[:, None] == family)
    recalls = ranking.rank(scores, torch.eye(len(group), dtype=torch.bool), (1,))
    right = {}
    for name, way in (("ITC", "itc"), ("ITM", "rerank")):
        both = (recalls[f"{way}_i2t_r1"] + recalls[f"{way}_t2i_r1"]) / 2
        right[name] = both.view(-1, 4).mean(1)                           # (family,)
    kind_of = np.array([pair.kind for pair in group[::4]])
    figures: dict[str, dict[str, float]] = {}
    for name, values in right.items():
        figures[name] = {}
        for kind in dict.fromkeys(kind_of.tolist()):
            figures[name][kind] = share(values[torch.from_numpy(kind_of == kind)])
    return figures


def apple_at(x: float, sentence: str, style: str = "noto") -> Scene:
    """The scene of a sentence, with the apple at x."""
    things = [Object("apple", x, 0.5, 0.25, style)]
    if "cat" in sentence:
        things = [Object("apple", x, 0.38, 0.21, style), Object("cat", 0.5, 0.62, 0.21, style)]
    return Scene(tuple(things), "white", shade=(244, 244, 244))


def slide(run: Run) -> dict[str, dict[str, float]]:
    """P(match) where each sentence is true and where it is false; at both ends of the way."""
    figures = {}
    for sentence, form in SENTENCES.items():
        scenes = [apple_at(float(x), sentence, style) for style in STYLES for x in WAY]
        odds = questions.match_odds(run, scenes, [sentence] * len(scenes))
        p = odds.sigmoid().view(len(STYLES), -1).mean(0)
        answers = np.array([holds(form, apple_at(float(x), sentence)) for x in WAY])
        true = torch.from_numpy(np.equal(answers, True))
        false = torch.from_numpy(np.equal(answers, False))
        figures[sentence] = {"true": share(p[true]), "false": share(p[false]),
                             "leftmost": share(p[0]), "rightmost": share(p[-1])}
    return figures


def couples(run: Run) -> dict[str, dict[str, float]]:
    """Of forty couples, those accepted as "left of": at the left edge, in the middle, right."""
    rng = np.random.default_rng(0)
    source = sibling_scenes(run, "train", 1.0)
    names = []
    texts = []
    for _ in range(40):
        a, b = map(str, rng.choice(source.names, 2, replace=False))
        names.append((a, b))
        texts.append(f"{words(a)[0]} {a} to the left of {words(b)[0]} {b}")

    def odds(dx: float, dy: float) -> Tensor:
        """ITM's log-odds (middles, couples): the first object is dx, dy from the middle."""
        scenes = []
        for x in map(float, MIDDLES):
            for a, b in names:
                first = Object(a, x + dx, 0.5 + dy, 0.24, source.vendors[a][0])
                second = Object(b, x - dx, 0.5 - dy, 0.24, source.vendors[b][0])
                scenes.append(Scene((first, second), "white"))
        return questions.match_odds(run, scenes, texts * len(MIDDLES)).view(len(MIDDLES), -1)

    true = odds(-0.12, 0)
    exchanged, above, below = odds(0.12, 0), odds(0, -0.2), odds(0, 0.2)
    best = true > torch.stack([exchanged, above, below]).amax(0)
    answers = {"side by side, true: accepted": true > 0,
               "exchanged, false: accepted": exchanged > 0,
               "the first above, false: accepted": above > 0,
               "the first below, false: accepted": below > 0,
               "true scores above the other three": best}
    figures = {}
    for name, values in answers.items():
        figures[name] = {
            "left": share(values[0]), "middle": share(values[4]), "right": share(values[8])}
    return figures


def contrasts(run: Run) -> dict[str, dict[str, int]]:
    """For 6,000 pairs of siblings: which direction, and no other, is true of the sibling."""
    source = sibling_scenes(run, "train", 1.0)
    counts: dict[str, Counter] = {direction: Counter() for direction in DIRECTIONS}
    for i in range(0, 12_000, 2):
        pair = source.draw(i), source.draw(i + 1)
        for this, sibling in (pair, pair[::-1]):
            if this.kind == "relation" and isinstance(this.form, Relation):
                there = []
                for direction in DIRECTIONS:
                    if holds(replace(this.form, kind=direction), sibling.scene):
                        there.append(direction)
                if len(there) == 1:
                    counts[this.form.kind][there[0]] += 1
    return {direction: dict(counter) for direction, counter in counts.items()}


def within_one_half(run: Run) -> float:
    """The share of siblings differing in a relation whose objects are in one half of the image."""
    source = sibling_scenes(run, "train", 1.0)
    pairs = [source.draw(i) for i in range(800)]
    inside = [in_one_half(pair.form, pair.scene) for pair in pairs if pair.kind == "relation"]
    return round(float(np.mean(inside)), 4)


def table(name: str, figures: dict) -> str:
    """One of the measurements as Markdown, a row a line."""
    columns = list(next(iter(figures.values())))
    if name == "contrasts":
        columns = list(DIRECTIONS)
    rows = []
    for row, values in figures.items():
        cells = [row]
        for column in columns:
            value = values.get(column, "")
            cells.append(f"{value:.2f}" if isinstance(value, float) else f"{value}")
        rows.append(cells)
    return table_of(["", *columns], rows)


def tables(results: dict) -> dict[str, str]:
    """All tables of the page, by the name of their place."""
    names = ("sampler", "families", "slide", "couples", "contrasts")
    return {name: table(name, results[name]) for name in names}


def main(run: Path = Path("tiny"), out: Path = PATH) -> None:
    """Ask a model, and write what it says.

    Args:
        run: the run folder, or "tiny", the shipped model
        out: the file to write
    """
    torch.set_num_threads(1)
    trained, warm = load(run), run_folder(run) / "start"
    start = load(warm if warm.exists() else data_folder() / "tiny" / "start")
    results = {
        "command": shlex.join(["python", *sys.argv]),
        "date": now(),
        "device": describe_device(),
        "commit": commit(),
        "sampler": sampler(trained, start),
        "families": families(trained),
        "slide": slide(trained),
        "couples": couples(trained),
        "contrasts": contrasts(trained),
        "within_one_half": within_one_half(trained),
    }
    write_json(out, results)


if __name__ == "__main__":
    run_script(main)
