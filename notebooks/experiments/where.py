"""Where is "left of"? Activation patching: `python notebooks/experiments/where.py`, after
`python notebooks/experiments/learn.py siblings=0 --seeds 1 --run runs/paper`.
That trains with the paper's objectives alone; the script compares the model with tiny.

A text is true of one scene and false of another, its mirror image. ITM reads the text with the false scene; one head's
output, at some of the words, is replaced by what it was with the true scene. How far does that move ITM's log-odds from
the false answer towards the true one? The control does the same for "big", where one object's size differs. Writes
where.json beside itself: by model and question the log-odds of true and false, and the mean shift by layer, words and
part.
"""
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from emojiscenes.grammar import kinds_of_word
from emojiscenes.scenes import Drawn, Scenes
from minalbef import Run, checkpoint, load
from minalbef.evaluation.ranking import encode
from minalbef.evaluation.words import piece_places
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions

PATH = Path(__file__).with_suffix(".json")
MODELS = {"the paper's objectives alone": "runs/paper/seed0", "with minimal pairs": "tiny"}
PAIRS, SEED = 300, 1700
KINDS = {"left of": "relation", "big": "size"}           # of the words that the question is about


def ask(kind: str) -> list[list[Drawn]]:
    """Pairs of test scenes: mirror images with "left of" or "right of" between them; or one object's size differs."""
    source, found, group = Scenes("test", SEED, siblings=1.0, objects=50, lesson=kind == "left of"), [], 0
    while len(found) < PAIRS:
        pair = [source.draw(2 * group), source.draw(2 * group + 1)]
        if pair[0].kind == KINDS[kind] and (kind != "left of" or group % 3 == 0):    # a third of a lesson's siblings
            found.append(pair)
        group += 1
    return found


def positions(run: Run, texts: list[str], kind: str) -> dict[str, Tensor]:
    """Where [CLS], the words of the question, objects and other words stand: by name (p, l) bool."""
    tokens, _ = run.tokenizer.encode(texts, run.config.text_length)
    found = {name: torch.zeros(tokens.shape, dtype=torch.bool) for name in ("[CLS]", kind, "objects", "other words")}
    found["[CLS]"][:, 0] = True
    for row, text in enumerate(texts):
        for said, places in zip(kinds_of_word(text), piece_places(run, text)):
            name = {KINDS[kind]: kind, "object": "objects"}.get(said, "other words")
            found[name][row, places] = True
    return found


class Patching:
    """ITM's log-odds of texts with false scenes, with a part's input taken from the run with the true scenes."""

    def __init__(self, run: Run, pairs: list[list[Drawn]]):
        self.model, texts = run.model, [true.text for true, _ in pairs]
        tokens, keep = run.tokenizer.encode(texts, run.config.text_length)
        self.encoded = [encode(run.model, questions.pixels([pair[i].scene for pair in pairs], run.config.image_size),
                               tokens, keep) for i in (0, 1)]
        self.seen: dict[nn.Module, Tensor] = {}
        hooks = [part.register_forward_pre_hook(lambda part, given: self.seen.update({part: given[0]}))
                 for part in self.model.fusion.modules() if isinstance(part, nn.Linear)]
        self.true = self.odds(0)
        for hook in hooks:
            hook.remove()
        self.false = self.odds(1)

    @torch.no_grad()
    def odds(self, which: int) -> Tensor:
        """Of all texts, with the true scenes (0) or the false ones (1): (p,)"""
        image, text, keep = (getattr(self.encoded[which], name) for name in ("image", "text", "keep"))
        logits = self.model.match_logits(self.model.fuse(text, keep, image, queries=1))
        return logits[:, 1] - logits[:, 0]

    def shift(self, part: nn.Linear, columns: slice, where: Tensor) -> float:
        """Mean change of the log-odds when these columns of a part's input come from the true scene, at some words."""
        def patch(part, given):
            x = given[0].clone()
            x[..., columns] = torch.where(where[:, :x.shape[1], None], self.seen[part][..., columns], x[..., columns])
            return (x,)
        with part.register_forward_pre_hook(patch):
            return (self.odds(1) - self.false).mean().item()


def measure(run: Run, kind: str) -> dict:
    """What true and false get, and the shift by every part: {layer: {words: {part: shift}}}."""
    pairs, shifts = ask(kind), {}
    found, words = Patching(run, pairs), positions(run, [true.text for true, _ in pairs], kind)
    for number, layer in enumerate(run.model.fusion.layers, 1):
        last = number == len(run.model.fusion.layers)                # where [CLS] alone is asked for
        for name, where in list(words.items())[:1 if last else None]:
            parts = shifts.setdefault(f"layer {number}, {name}", {})
            for title, attention in (("self", layer.attn), ("cross", layer.cross)):
                width = attention.proj.in_features // attention.heads
                for head in range(attention.heads):
                    columns = slice(head * width, (head + 1) * width)
                    parts[f"{title} {head + 1}"] = round(found.shift(attention.proj, columns, where), 3)
            parts["MLP"] = round(found.shift(layer.mlp.fc2, slice(None), where), 3)
    return {"right": round((found.true > found.false).float().mean().item(), 3),
            "true": round(found.true.mean().item(), 3), "false": round(found.false.mean().item(), 3), "shift": shifts}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: {kind: measure(load(path), kind) for kind in ("left of", "big")} for name, path in MODELS.items()}
    about = {"command": "python notebooks/experiments/where.py", "date": now(), "device": describe_device(),
             "commit": commit(), "pairs": PAIRS, "models": found}
    text = json.dumps(about, indent=1) + "\n"
    checkpoint.write_atomically(PATH, lambda path: path.write_text(text, encoding="utf-8"))
    print(json.dumps(found, indent=1))
