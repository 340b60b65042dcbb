"""What brings "left of" off the ground: `python notebooks/results/relations.py`, about seven minutes on one core.

Trains 500 steps of `tiny` from the start that is shipped, without siblings, then a lesson: ITM alone on minimal blocks,
which are two scenes of the same objects and two sentences, each true of one scene and false of the other. The image
encoder stands still meanwhile. In one lesson a third of the blocks says "left of" alone and a third "above" alone
(skewed), in the other each direction is as frequent as any (even); every block is seen once. Writes relations.json
beside itself: the lesson's loss, and on blocks of the validation split how often the true sentence has the better odds.
"""
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef import checkpoint, load, train
from minalbef.albef import ALBEF
from minalbef.data import data_folder, transform
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.grammar import OPPOSITE, caption, render
from minalbef.scenes.language import RELATIONS, All, Form, Relation, Scene, holds
from minalbef.scenes.scenes import Scenes, paint, split_of
from minalbef.scenes.stream import Stream
from minalbef.tokenizer import Tokenizer

PATH = Path(__file__).with_suffix(".json")
BEFORE, STEPS, BLOCKS, HELD = 500, 600, 32, 256          # steps before, of the lesson; blocks in a step, and held out
DIRECTIONS = {"skewed": ("left", "above", ""), "even": ("",)}            # in turn; "": any
WORDS = {"left": "left", "right": "right", "above": "above", "over": "above", "below": "below", "under": "below"}
SCENES = dict(counts=(0, 0.5, 0.5), specific=True, objects=50)


def relations(form: Form) -> list[Relation]:
    """The relations that a form states."""
    return [part for part in (form.parts if isinstance(form, All) else (form,)) if isinstance(part, Relation)]


def with_relation(form: Form, kind: str) -> Form:
    """The form with another direction: of `caption` a form has one relation at most."""
    def changed(part: Form) -> Form:
        return replace(part, kind=kind) if isinstance(part, Relation) else part
    return All(tuple(map(changed, form.parts))) if isinstance(form, All) else changed(form)


def says(text: str) -> set[str]:
    """Directions of a sentence's words: "left" counts before "of", for a thing can be at the left, too."""
    words = text.replace(",", "").split()
    return {WORDS[word] for word, after in zip(words, [*words[1:], ""])
            if word in WORDS and (word not in ("left", "right") or after == "of")}


def block(source: Scenes, index: int, direction: str) -> tuple[Scene, Scene, str, str]:
    """Two scenes, and a sentence for each that is false of the other; with a direction, both say that one alone."""
    stream = Stream(source.split, source.seed, "block", direction, index)
    axis = RELATIONS[direction][0] if direction else ""
    while True:
        scene = source.stage.scene(stream, roomy=True)
        if axis and stream.chance(0.5):
            things = tuple(replace(thing, **{axis: 1 - getattr(thing, axis)}) for thing in scene.objects)
            other = replace(scene, objects=things)
        else:
            other = source.stage.change(scene, "relation", stream)
        form = caption(scene, stream, source.specific, "relation")
        stated = relations(form)
        if not other or not stated or axis and RELATIONS[stated[0].kind][0] != axis or holds(form, other) is not False:
            continue
        kinds = [OPPOSITE[stated[0].kind]] if axis else [kind for kind in RELATIONS if kind != stated[0].kind]
        foils = [foil for kind in kinds
                 if holds(foil := with_relation(form, kind), other) and holds(foil, scene) is False]
        for _ in range(40 if foils else 0):
            foil, voices = stream.pick(foils), (stream.below(1 << 30), stream.below(1 << 30))
            texts = [render(each, Stream(voice)) for each, voice in zip((form, foil), voices)]
            if all(split_of(text) == source.split and says(text) <= {direction or word for word in RELATIONS}
                   for text in texts):
                return scene, other, *texts


def four_pairs(model: ALBEF, blocks: list, tokenizer: Tokenizer) -> Tensor:
    """ITM's logits of both scenes with both sentences: (b, scene, sentence, 2)."""
    size = model.config.image_size
    with torch.no_grad():
        image = model.encode_image(torch.stack([transform(paint(scene, size), size)
                                                for one in blocks for scene in one[:2]]))
    tokens, keep = tokenizer.encode([text for one in blocks for text in one[2:]], model.config.text_length)
    first = 2 * torch.arange(len(blocks))[:, None]
    scenes, sentences = ((first + torch.tensor(which)).flatten() for which in ([0, 0, 1, 1], [0, 1, 0, 1]))
    fused = model.fuse(model.encode_text(tokens, keep), keep, None, pairs=(sentences, scenes), queries=1,
                       keys_values=model.fusion.keys_values(image))
    return model.match_logits(fused).unflatten(0, (-1, 2, 2))


def block_loss(logits: Tensor) -> Tensor:
    """ITM's cross-entropy on the four pairs."""
    return F.cross_entropy(logits.flatten(0, 2), torch.eye(2, dtype=torch.long).repeat(len(logits), 1).flatten())


@torch.no_grad()
def held_out(model: ALBEF, blocks: list, tokenizer: Tokenizer) -> dict[str, float]:
    """Loss, and for a scene the share of true sentences with better odds than the other, on blocks not trained on."""
    model.eval()
    logits = torch.cat([four_pairs(model, blocks[i:i + 64], tokenizer) for i in range(0, len(blocks), 64)])
    model.train()
    odds = logits[..., 1] - logits[..., 0]
    right = torch.stack([odds[:, 0, 0] > odds[:, 0, 1], odds[:, 1, 1] > odds[:, 1, 0]]).float().mean()
    return {"held_loss": round(block_loss(logits).item(), 3), "held_right": round(right.item(), 3)}


def lesson(model: ALBEF, tokenizer: Tokenizer, directions: tuple[str, ...], seed: int) -> list[dict]:
    """ITM alone on fresh blocks: text encoder, fusion and match head learn. -> a row every 50 steps"""
    source = Scenes("train", seed=77 + seed, restyle=0.25, **SCENES)
    held = [block(Scenes("validation", seed=1401, **SCENES), i, "") for i in range(HELD)]
    learning = [*model.text_encoder.parameters(), *model.fusion.parameters(), *model.match_head.parameters()]
    optimiser = torch.optim.AdamW([dict(params=[p for p in learning if p.ndim > 1], weight_decay=0.02),
                                   dict(params=[p for p in learning if p.ndim < 2], weight_decay=0.0)],
                                  betas=(0.9, 0.98))
    rows, total = [], 0.0
    for step in range(STEPS):
        drawn = [block(source, i, directions[i % len(directions)]) for i in range(step * BLOCKS, (step + 1) * BLOCKS)]
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 30)
        loss = block_loss(four_pairs(model, drawn, tokenizer))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        total += loss.item() / 50
        if (step + 1) % 50 == 0:
            rows.append({"step": step + 1, "loss": round(total, 3), **held_out(model, held, tokenizer)})
            print(rows[-1], f"CPU {time.process_time():.0f} s", flush=True)
            total = 0.0
    return rows


def main() -> None:
    torch.set_num_threads(1)
    code, config = commit(), preset("tiny", siblings=0.0)
    task, tokenizer, config = pretrain.begin(config)
    task.start(load(data_folder() / "tiny" / "start").model)
    batches, cpu = SceneBatches(config, tokenizer), torch.device("cpu")
    optimiser = torch.optim.AdamW(train.parameter_groups(task, config), lr=config.lr, betas=config.betas, fused=True)
    for step in range(BEFORE):
        train.train_step(task, task, optimiser, batches(step), step, config, cpu)
    weights = {name: value.clone() for name, value in task.student.state_dict().items()}
    print(f"{BEFORE} steps, CPU {time.process_time():.0f} s", flush=True)
    found = {}
    for name, directions in DIRECTIONS.items():
        task.student.load_state_dict(weights)
        found[name] = lesson(task.student.train(), tokenizer, directions, config.seed)
    about = {"command": "python notebooks/results/relations.py", "date": now(), "device": describe_device(),
             "commit": code, "torch": torch.__version__, "cpu_seconds": round(time.process_time()), "lessons": found}
    checkpoint.write_atomically(PATH, lambda path: path.write_text(json.dumps(about, indent=1) + "\n"))


if __name__ == "__main__":
    main()
