"""The circuit of "left of" in fusion: `python notebooks/experiments/circuit.py`, after
`python notebooks/experiments/learn.py --seeds 5`, which trains the five models that it opens.

What it asks was written down before it ran, in registered_circuit.md. Of each model:

needed: the fewest heads of fusion, at most three, without which relations are at chance and objects
    are not; a head that is switched off gives the mean of what it gives over questions
enough: those heads alone, taken from the true scene, in the pass over the false one
groups: a layer's heads of one kind, all switched off
moved: one direction of an object's word, along which its place lies, or how well its place fits
    what the caption says of it, and along which it is moved
control: the same move, of as much, where another object makes the sentence false

A question is a caption with the scene of which it is true and one of which it is false. Heads and
the length of the move are chosen on one set of questions, and every figure is of another. Writes
circuit.json beside itself.
"""
import itertools
import json
import re
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emojiscenes.grammar import kinds_of_word
from emojiscenes.language import Form, Relation
from emojiscenes.scenes import Drawn
from minalbef import Run, load
from minalbef.cli.main import run_script
from minalbef.evaluation.ranking import Encoded, encode
from minalbef.evaluation.words import piece_places
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions as scene_questions
from results import table_of, write_json

PATH = Path(__file__).with_suffix(".json")
KINDS = ("relation", "object", "size", "place", "count", "background")
CHOOSING, TESTING = 4100, 4200         # seeds of the questions to choose by, and of those to report
CHOSEN_BY, TESTED_BY = 200, 500        # questions of a kind
MOST = 3                               # heads
CHANCE, KEPT = 0.55, 0.95              # relations at most, objects at least
LENGTHS = (1.0, 2.0, 4.0)              # of the move, in times the true scene's

Pair = tuple[Drawn, Drawn]


@dataclass(frozen=True)
class Head:
    """A head of fusion; layer and number count from 1. kind: "self" or "cross"."""

    layer: int
    kind: str
    number: int

    @property
    def group(self) -> str:
        """All heads of one kind in a layer."""
        return f"layer {self.layer}, {self.kind}-attention"

    def __str__(self) -> str:
        return f"{self.group}, head {self.number}"

    def find(self, run: Run) -> tuple[nn.Linear, slice]:
        """The linear layer that reads the head's output, and the columns where it reads it."""
        layer = run.model.fusion.layers[self.layer - 1]
        attention = layer.attn if self.kind == "self" else layer.cross
        width = attention.proj.in_features // attention.heads
        return attention.proj, slice((self.number - 1) * width, self.number * width)


def heads_of(run: Run) -> list[Head]:
    """All heads of fusion."""
    heads = []
    for number, layer in enumerate(run.model.fusion.layers, 1):
        for kind in ("self", "cross"):
            heads += [Head(number, kind, head + 1) for head in range(layer.attn.heads)]
    return heads


# questions


def is_sideways(form: Form) -> bool:
    """Whether a form says "left of" or "right of" of two kinds of objects."""
    return (isinstance(form, Relation) and form.kind in ("left", "right")
            and form.a.name != form.b.name)


def draw(run: Run, kind: str, seed: int, count: int, sideways: bool = False) -> list[Pair]:
    """`count` questions of the test split: a scene and its caption, and a scene that differs.

    sideways: captions that say "left of" or "right of", of two kinds of objects, alone
    """
    source = scene_questions.scenes(run, "test", seed, counts=(0.2, 0.4, 0.4))
    pairs: list[Pair] = []
    for index in itertools.count():
        pair = source.minimal_pair(index, kind)
        if not sideways or is_sideways(pair[0].form):
            pairs.append(pair)
        if len(pairs) == count:
            break
    return pairs


def paint(run: Run, pairs: Sequence[Pair]) -> list[Tensor]:
    """The images of the true scenes and of the false ones: two of (p, 3, side, side)"""
    images = []
    for examples in zip(*pairs):
        scenes = [example.scene for example in examples]
        images.append(scene_questions.pixels(scenes, run.config.image_size))
    return images


class Questions:
    """Questions whose images and captions are encoded once, up to fusion."""

    def __init__(self, run: Run, pairs: Sequence[Pair], images: Sequence[Tensor] | None = None):
        """images: of `paint`, if several models are asked the same"""
        self.run = run
        self.pairs = pairs
        self.texts = [true.text for true, _ in pairs]
        tokens, keep = run.tokenizer.encode(self.texts, run.config.text_length)
        self.scenes: list[Encoded] = []                  # with the true scenes, and the false ones
        for part in images or paint(run, pairs):
            self.scenes.append(encode(run.model, part, tokens, keep))

    @torch.no_grad()
    def odds(self, which: int) -> Tensor:
        """ITM's log-odds of the captions with the true scenes (0) or the false ones (1): (p,)"""
        encoded = self.scenes[which]
        fused = self.run.model.fuse(encoded.text, encoded.keep, encoded.image, queries=1)
        logits = self.run.model.match_logits(fused)
        return logits[:, 1] - logits[:, 0]

    def right(self) -> float:
        """How often the true scene is preferred; a tie is half right."""
        true, false = self.odds(0), self.odds(1)
        return ((true > false).float() + (true == false).float() / 2).mean().item()

    @torch.no_grad()
    def right_by_itc(self) -> float:
        """How often the true scene's vector is nearer to the caption's; a tie is half right."""
        model = self.run.model
        true, false = ((model.image_feature(encoded.image)
                        * model.text_feature(encoded.text, encoded.keep)).sum(-1)
                       for encoded in self.scenes)
        return ((true > false).float() + (true == false).float() / 2).mean().item()

    def moved(self, odds: Tensor) -> float:
        """How often log-odds with the false scene lie nearer to those with the true one."""
        true, false = self.odds(0), self.odds(1)
        return ((odds - true).abs() < (odds - false).abs()).float().mean().item()


# heads


@contextmanager
def replace_outputs(run: Run, heads: Sequence[Head], outputs: dict[Head, Tensor]) -> Iterator[None]:
    """Within it, heads give these outputs, which fit (p, l, width of a head)."""
    def hook(head: Head, columns: slice) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Tensor]]:
        def replace(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor]:
            x = arguments[0].clone()
            x[..., columns] = outputs[head][:, :x.shape[1]]
            return (x,)
        return replace

    with ExitStack() as stack:
        for head in heads:
            part, columns = head.find(run)
            stack.enter_context(part.register_forward_pre_hook(hook(head, columns)))
        yield


def outputs_of(questions: Questions, which: int) -> dict[Head, Tensor]:
    """What every head gives in a pass with the true scenes (0) or the false ones (1)."""
    outputs: dict[Head, Tensor] = {}
    hooks = []
    for head in heads_of(questions.run):
        part, columns = head.find(questions.run)

        def note(_: nn.Module, arguments: tuple[Any, ...], head: Head = head,
                 columns: slice = columns) -> None:
            outputs[head] = arguments[0][..., columns].clone()

        hooks.append(part.register_forward_pre_hook(note))
    questions.odds(which)
    for hook in hooks:
        hook.remove()
    return outputs


def means_of(questions: Questions) -> dict[Head, Tensor]:
    """What every head gives on average, at [CLS] and at the other words: by head (1, l, width)."""
    keep = questions.scenes[0].keep
    means = {}
    true = outputs_of(questions, 0)
    false = outputs_of(questions, 1)
    for head in true:
        both = torch.cat([true[head], false[head]])
        mean = both[:, :1].mean(0, keepdim=True)                                 # (1, 1, width)
        if both.shape[1] > 1:                                                    # not [CLS] alone
            words = both[:, 1:][keep[:, 1:].repeat(2, 1)].mean(0)
            mean = torch.cat([mean, words.expand(1, both.shape[1] - 1, -1)], 1)
        means[head] = mean
    return means


def means_by_kind(questions: dict[str, Questions]) -> dict[str, dict[Head, Tensor]]:
    """The means over questions of each kind."""
    return {kind: means_of(part) for kind, part in questions.items()}


def without(heads: Sequence[Head], questions: Questions, means: dict[Head, Tensor]) -> float:
    """How often the true scene is preferred while some heads are switched off."""
    with replace_outputs(questions.run, heads, means):
        return questions.right()


def choose_heads(questions: dict[str, Questions], means: dict[str, dict[Head, Tensor]]
                 ) -> list[Head]:
    """The fewest heads without which relations are at chance and objects are kept.

    Of sets of one size, the one that leaves fewest relations; if no set of at most MOST heads does
    it, the one of all that keep objects that leaves fewest.
    """
    heads = heads_of(questions["relation"].run)
    best: tuple[float, list[Head]] = (1.0, [])
    for size in range(1, MOST + 1):
        for subset in itertools.combinations(heads, size):
            relation = without(subset, questions["relation"], means["relation"])
            if relation < best[0] and without(subset, questions["object"], means["object"]) >= KEPT:
                best = relation, list(subset)
        if best[0] <= CHANCE:
            break
    return best[1]


# the direction


def object_words(run: Run, example: Drawn) -> dict[str, list[int]]:
    """Token positions of the words that name the objects of a relation: by name."""
    places: dict[str, list[int]] = {noun.name: [] for noun in (example.form.a, example.form.b)}
    words = example.text.replace(",", "").split()
    kinds = kinds_of_word(example.text)
    for word, kind, pieces in zip(words, kinds, piece_places(run, example.text)):
        for name, place_pieces in places.items():
            if kind == "object" and word in name.split():
                place_pieces += pieces
    return places


def place_of(example: Drawn, name: str) -> float | None:
    """How far right of the middle the object of a name is, to 0.5; None if there isn't just one."""
    positions = [thing.x - 0.5 for thing in example.scene.objects if thing.name == name]
    return positions[0] if len(positions) == 1 else None


def role_of(form: Relation, name: str) -> int:
    """1 if a form says of this object that it is on the right of the other, -1 on the left."""
    return 1 if (name == form.a.name) == (form.kind == "right") else -1


def target_of(what: str, pair: Pair, which: int, name: str) -> float | None:
    """What is read from an object's word: its "place", or how well that "fits" the caption."""
    place = place_of(pair[which], name)
    if place is None or what == "place":
        return place
    return place * role_of(pair[0].form, name)


@torch.no_grad()
def words_after_first_layer(questions: Questions, which: int) -> Tensor:
    """Fusion's words behind its first layer: (p, l, d)"""
    noted = []
    layer = questions.run.model.fusion.layers[0]
    hook = layer.register_forward_hook(lambda _, __, words: noted.append(words))
    questions.odds(which)
    hook.remove()
    return noted[0]


def read_direction(questions: Questions, what: str) -> tuple[Tensor, Tensor, Tensor]:
    """The words of objects (n, d), what is read from them (n,), and one weight each (d,).

    Least squares with a little ridge; a word is the mean of its pieces.
    """
    rows, targets = [], []
    for which in (0, 1):
        words = words_after_first_layer(questions, which)
        for row, pair in enumerate(questions.pairs):
            for name, pieces in object_words(questions.run, pair[0]).items():
                target = target_of(what, pair, which, name)
                if pieces and target is not None:
                    rows.append(words[row, pieces].mean(0))
                    targets.append(target)
    x, y = torch.stack(rows).double(), torch.tensor(targets).double()
    centred = x - x.mean(0)
    ridge = 1e-3 * centred.square().mean() * torch.eye(x.shape[1], dtype=torch.double)
    return x, y, torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (y - y.mean()))


def direction_of(x: Tensor, weights: Tensor) -> Tensor:
    """Along which words (n, d) vary with a reading: (d,). A step of 1 changes the reading by 1."""
    centred = x - x.mean(0)
    direction = centred.T @ (centred @ weights)
    return (direction / (direction @ weights)).float()


def explained(weights: Tensor, x: Tensor, y: Tensor) -> float:
    """R² of a reading of words (n, d), up to a constant."""
    wrong = y - x @ weights
    return 1 - (wrong.var() / y.var()).item()


def true_change(what: str, pair: Pair, name: str) -> float | None:
    """By how much what is read from an object's word is more with the true scene."""
    true = target_of(what, pair, 0, name)
    false = target_of(what, pair, 1, name)
    return None if true is None or false is None else true - false


def typical_change(what: str, questions: Questions) -> Callable[[Pair, str], float]:
    """The mean change of some questions, to be made where no other scene says how much."""
    def towards(pair: Pair, name: str) -> int:
        """The sign with which a change brings the scene nearer to the caption."""
        return role_of(pair[0].form, name) if what == "place" else 1

    changes = []
    for pair in questions.pairs:
        for name in object_words(questions.run, pair[0]):
            change = true_change(what, pair, name)
            if change is not None:
                changes.append(change * towards(pair, name))
    mean = statistics.mean(changes)
    return lambda pair, name: mean * towards(pair, name)


def shift_objects(questions: Questions, direction: Tensor,
                  change_of: Callable[[Pair, str], float | None], which: int = 1) -> Tensor:
    """Log-odds with the true scenes (0) or the false ones (1), objects' words moved: (p,)

    They are moved behind fusion's first layer.
    direction: (d,), the change of a word for each unit of what is read from it
    change_of: of a question and the name of an object, how many units; None leaves it
    """
    shift = torch.zeros_like(questions.scenes[which].text)
    for row, pair in enumerate(questions.pairs):
        for name, pieces in object_words(questions.run, pair[0]).items():
            change = change_of(pair, name)
            if change is not None:
                shift[row, pieces] = change * direction
    layer = questions.run.model.fusion.layers[0]
    with layer.register_forward_hook(lambda _, __, words: words + shift[:, :words.shape[1]]):
        return questions.odds(which)


def measure_direction(chosen_by: Questions, questions: Questions, absent: Questions, what: str
                      ) -> dict[str, float]:
    """How well one direction reads `what`, and how often a move along it turns the answer.

    absent: questions about relations whose false scene lacks one of the objects
    """
    x, y, weights = read_direction(chosen_by, what)
    fresh_x, fresh_y, _ = read_direction(questions, what)
    direction = direction_of(x, weights)
    change = partial(true_change, what)

    def moved_by(length: float) -> float:
        return chosen_by.moved(shift_objects(chosen_by, length * direction, change))

    length = max(LENGTHS, key=moved_by)
    moved = questions.moved(shift_objects(questions, length * direction, change))
    typical = typical_change(what, questions)
    return {"explained": round(explained(weights, fresh_x, fresh_y), 3), "length": length,
            "moved": round(moved, 3),
            "moved_by_as_much": round(
                questions.moved(shift_objects(questions, length * direction, typical)), 3),
            "control": round(
                absent.moved(shift_objects(absent, length * direction, typical)), 3)}


# a model


def measure(run: Run) -> dict[str, Any]:
    """What the heads and the direction of a model do."""
    chosen_by = {kind: Questions(run, draw(run, kind, CHOOSING, CHOSEN_BY, kind == "relation"))
                 for kind in ("relation", "object")}
    questions = {kind: Questions(run, draw(run, kind, TESTING, TESTED_BY, kind == "relation"))
                 for kind in KINDS}
    absent = Questions(run, draw(run, "object", TESTING, TESTED_BY, sideways=True))
    heads = choose_heads(chosen_by, means_by_kind(chosen_by))
    means = means_by_kind(questions)
    relations = questions["relation"]
    true = outputs_of(relations, 0)
    with replace_outputs(run, heads, true):
        patched = relations.odds(1)
    groups = {}
    for title, group in itertools.groupby(heads_of(run), key=lambda head: head.group):
        group_heads = list(group)
        groups[title] = {}
        for name in ("relation", "object"):
            share = without(group_heads, questions[name], means[name])
            groups[title][name] = round(share, 3)
    alone = {}
    for head in heads_of(run):
        alone[str(head)] = round(without([head], relations, means["relation"]), 3)
    return {
        "heads": list(map(str, heads)),
        "right": {kind: round(part.right(), 3) for kind, part in questions.items()},
        "right_without": {kind: round(without(heads, part, means[kind]), 3)
                          for kind, part in questions.items()},
        "each_alone": alone,
        "moved_by_heads": round(relations.moved(patched), 3),
        "groups": groups,
        "directions": {what: measure_direction(chosen_by["relation"], relations, absent, what)
                       for what in ("place", "fits")},
    }


def table(models: dict[str, dict[str, Any]]) -> str:
    """A row for each seed, as Markdown. models: of circuit.json"""
    head = ["seed", "heads switched off: relations, objects", "the same heads, patched",
            "all of layer 1's cross-attention off: relations, objects",
            "all of layer 2's self-attention off", "place: R², answers moved, control",
            "fits: R², answers moved, control"]
    rows = []
    for name, figures in models.items():
        seed = re.search(r"\d+$", name)
        cells = [seed[0] if seed else name, both_kinds(figures["right_without"]),
                 f"{figures['moved_by_heads']:.2f}"]
        for group in ("layer 1, cross-attention", "layer 2, self-attention"):
            cells.append(both_kinds(figures["groups"][group]))
        for way in figures["directions"].values():
            cells.append(f"{way['explained']:.2f}, {way['moved']:.2f}, {way['control']:.2f}")
        rows.append(cells)
    return table_of(head, rows)


def both_kinds(figures: dict[str, float]) -> str:
    """Of relations and of objects."""
    return f"{figures['relation']:.2f}, {figures['object']:.2f}"


def main(runs: tuple[str, ...] = (), /, out: Path = PATH) -> None:
    """Measure models and write the figures.

    Args:
        runs: folders of runs; by default the five of learn.py, of which one is tiny
        out: where to write the figures
    """
    torch.set_num_threads(1)
    names = runs or tuple(f"runs/bench/seed{seed}" for seed in range(5))
    models = {}
    for name in names:
        models[name] = measure(load(name))
        print(name, json.dumps(models[name], indent=1), flush=True)
    write_json(out, {
        "command": shlex.join(["python", *sys.argv]), "date": now(), "device": describe_device(),
        "commit": commit(), "questions": TESTED_BY, "models": models,
    })


if __name__ == "__main__":
    run_script(main)
