"""Where is "left of"? Activation patching of tiny and tiny-paper, which has the paper's objectives
alone: `python notebooks/experiments/where.py`.

A caption is true of one scene and false of another, its mirror image. ITM reads the caption with
the false scene; one head's output, at some of the words, is replaced by what it was with the true
scene. How far does that move ITM's log-odds from the false answer towards the true one? The control
does the same for "big", where one object's size differs. Writes where.json beside itself: by model
and question the log-odds of true and false, and the mean shift by layer, words and part.
"""
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emojiscenes.grammar import kinds_of_word
from emojiscenes.scenes import Drawn, Scenes
from minalbef import Run, load
from minalbef.evaluation.ranking import encode
from minalbef.evaluation.words import piece_places
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions
from results import write_json

PATH = Path(__file__).with_suffix(".json")
MODELS = {"the paper's objectives alone": "tiny-paper", "with minimal pairs": "tiny"}
PAIRS = 300
SEED = 1700
KINDS = {"left of": "relation", "big": "size"}           # of the words that a question is about


def draw_pairs(question: str) -> list[tuple[Drawn, Drawn]]:
    """Siblings of the test split: mirror images for "left of", another size of one object for "big"."""
    lesson = question == "left of"
    source = Scenes("test", SEED, siblings=1.0, objects=50, lesson=lesson)
    pairs: list[tuple[Drawn, Drawn]] = []
    group = 0
    while len(pairs) < PAIRS:
        first, second = source.draw(2 * group), source.draw(2 * group + 1)
        sideways = not lesson or group % 3 == 0          # a third of a lesson's siblings
        if first.kind == KINDS[question] and sideways:
            pairs.append((first, second))
        group += 1
    return pairs


def word_positions(run: Run, texts: list[str], question: str) -> dict[str, Tensor]:
    """Where [CLS], the question's words, objects and other words stand: by name (p, l) bool."""
    tokens, _ = run.tokenizer.encode(texts, run.config.text_length)
    positions = {}
    for name in ("[CLS]", question, "objects", "other words"):
        positions[name] = torch.zeros(tokens.shape, dtype=torch.bool)
    positions["[CLS]"][:, 0] = True
    names = {KINDS[question]: question, "object": "objects"}
    for row, text in enumerate(texts):
        for kind, places in zip(kinds_of_word(text), piece_places(run, text)):
            positions[names.get(kind, "other words")][row, places] = True
    return positions


class Patching:
    """ITM's log-odds of captions with false scenes, a part's input taken from the true scenes."""

    def __init__(self, run: Run, pairs: list[tuple[Drawn, Drawn]]):
        self.model = run.model
        texts = [true.text for true, _ in pairs]
        tokens, keep = run.tokenizer.encode(texts, run.config.text_length)
        self.encoded = []
        for scenes in zip(*pairs):                       # the true ones, then the false ones
            images = questions.pixels([pair.scene for pair in scenes], run.config.image_size)
            self.encoded.append(encode(run.model, images, tokens, keep))
        self.inputs: dict[nn.Module, Tensor] = {}        # of fusion's linear layers, true scenes
        hooks = []
        for part in self.model.fusion.modules():
            if isinstance(part, nn.Linear):
                hooks.append(part.register_forward_pre_hook(self.note_input))
        self.true = self.odds(0)
        for hook in hooks:
            hook.remove()
        self.false = self.odds(1)

    def note_input(self, part: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.inputs[part] = arguments[0]

    @torch.no_grad()
    def odds(self, which: int) -> Tensor:
        """Of all captions, with the true scenes (0) or the false ones (1): (p,)"""
        encoded = self.encoded[which]
        fused = self.model.fuse(encoded.text, encoded.keep, encoded.image, queries=1)
        logits = self.model.match_logits(fused)
        return logits[:, 1] - logits[:, 0]

    def shift(self, part: nn.Linear, columns: slice, where: Tensor) -> float:
        """Mean change of the log-odds when some columns of a part's input come from the true scene.

        where: (p, l) bool, at which words
        """
        def patch(part: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor]:
            x = arguments[0].clone()
            at = where[:, :x.shape[1], None]
            x[..., columns] = torch.where(at, self.inputs[part][..., columns], x[..., columns])
            return (x,)

        with part.register_forward_pre_hook(patch):
            return (self.odds(1) - self.false).mean().item()


def shifts_of_layer(patching: Patching, layer: nn.Module, where: Tensor) -> dict[str, float]:
    """The shift by each head of a layer of fusion, and by its MLP."""
    shifts = {}
    for name, attention in (("self", layer.attn), ("cross", layer.cross)):
        width = attention.proj.in_features // attention.heads
        for head in range(attention.heads):
            columns = slice(head * width, (head + 1) * width)
            shift = patching.shift(attention.proj, columns, where)
            shifts[f"{name} {head + 1}"] = round(shift, 3)
    shifts["MLP"] = round(patching.shift(layer.mlp.fc2, slice(None), where), 3)
    return shifts


def measure(run: Run, question: str) -> dict:
    """What true and false get, and the shift by every part: {layer and words: {part: shift}}."""
    pairs = draw_pairs(question)
    patching = Patching(run, pairs)
    positions = word_positions(run, [true.text for true, _ in pairs], question)
    layers = run.model.fusion.layers
    shifts = {}
    for number, layer in enumerate(layers, 1):
        names = list(positions)
        if number == len(layers):                        # where [CLS] alone is asked for
            names = ["[CLS]"]
        for name in names:
            title = f"layer {number}, {name}"
            shifts[title] = shifts_of_layer(patching, layer, positions[name])
    right = (patching.true > patching.false).float()
    return {
        "right": round(right.mean().item(), 3),
        "true": round(patching.true.mean().item(), 3),
        "false": round(patching.false.mean().item(), 3),
        "shift": shifts,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    models = {}
    for name, path in MODELS.items():
        models[name] = {question: measure(load(path), question) for question in KINDS}
    write_json(PATH, {
        "command": "python notebooks/experiments/where.py",
        "date": now(),
        "device": describe_device(),
        "commit": commit(),
        "pairs": PAIRS,
        "models": models,
    })
    print(json.dumps(models, indent=1))
