"""Inference on your own images with a fine-tuned model: the answer, its probability, and a Grad-CAM map."""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from emojiscenes.problems import answer_list
from minalbef.albef import ALBEF
from minalbef.checkpoint import require_trained, run_folder, untrained_parts
from minalbef.data import Batch, Source, open_image, transform
from minalbef.gradcam import Score, match_score, pair_relevance, relevance, text_map
from minalbef.recipes.report import output_folder, read_report
from minalbef.tasks import entailment, grounding, vqa
from minalbef.tasks.base import load_model
from minalbef.tokenizer import Tokenizer, clean
from minalbef.viz import plots
from minalbef.writing import explain

SHOWN = 5                             # answers that are printed
SIDE = 288                            # pixels of an image's longer side in the figure
BEAMS = 3                             # for an open-ended answer
LONGEST = 200                         # letters of the text there
NOTHING = "(nothing)"                 # stands for an answer without words


@dataclass(frozen=True)
class Prediction:
    """A model's output for one or two images and a text."""

    task: str
    pictures: tuple[Image.Image, ...]
    text: str
    answer: str
    probabilities: dict[str, float]   # by answer, the likeliest first; VQA's over its top-k candidates
    maps: tuple[Tensor, ...]          # (g, g) for each image: Grad-CAM of `explained`
    explained: str
    similarity: float | None = None   # retrieval and grounding: cosine in the shared space
    written: str | None = None        # VQA: the open-ended answer, without candidates
    boxes: Tensor | None = None       # grounding: (k, 4) candidates
    scores: Tensor | None = None      # (k,)
    box: Tensor | None = None         # (4,) the chosen one; None where none scores above 0


@torch.no_grad()
def predict(task: str, model: nn.Module, tokenizer: Tokenizer, images: Source | Sequence[Source], text: str,
            candidates: Sequence | Tensor | None = None, place: tuple[str, int] | None = None) -> Prediction:
    """Ask a model of `tasks.base.load_model`: does the text belong to the picture, follow from it, what is the answer?

    images: what data.open_image opens, as config.upright says; nlvr2 reads two, the left one first,
        all others one
    candidates: vqa's answers to rank; by default those of the embedded scenes for a model trained on them, else the
        answer is open-ended. grounding's boxes, (k, 4) of x, y, width, height in pixels; by default none
    place: the mode and layer of grounding's map, as of `grounding.heat_map`; by default that of the other tasks
    The maps are Grad-CAM of fusion's middle layer, the paper's third of six, averaged over the text.
    Raises ValueError for a wrong number of images, one that cannot be read or does not hold the boxes, and for a text
    without words or too long.
    """
    if task not in ASK:
        raise ValueError(f"no task {task!r}; there are {', '.join(ASK)}")
    images = list(images) if isinstance(images, (list, tuple)) else [images]
    if len(images) != (wanted := 2 if task == "nlvr2" else 1):
        reads = "one picture" if wanted == 1 else "two pictures, the left one first"
        raise ValueError(f"{task} reads {reads}, and was given {len(images)}; on the command line name each "
                         "with --image")
    if not clean(text):
        raise ValueError(f"the text {text!r} has no words; give it at least one")
    answers = task == "vqa" and candidates is not None and all(isinstance(one, str) for one in candidates)
    if not (candidates is None or task == "grounding" or answers):
        raise ValueError(f"{task} does not choose among these: answers are for vqa, boxes for grounding; "
                         "leave them out")
    config = getattr(model, "albef", model).config
    pictures = tuple(open_image(image, config.upright) for image in images)
    size = config.image_size
    image = torch.stack([transform(picture, size) for picture in pictures])       # (i, 3, s, s)
    if task == "grounding":
        sides = pictures[0].height, pictures[0].width
        found = ask_place(model, tokenizer, image, text, candidates, sides, place)
        return Prediction(task, pictures, text, **found)
    return Prediction(task, pictures, text, **ASK[task](model, tokenizer, image, text, candidates))


# one function a task: (model, tokenizer, image, text, candidates) -> the other fields of a Prediction


def encode(albef: ALBEF, tokenizer: Tokenizer, image: Tensor, text: str) -> tuple[Tensor, Tensor, Tensor]:
    """-> image tokens (i, 1 + n, d), text tokens (1, l, d), keep (1, l)."""
    tokens, keep = tokenizer.encode([text], albef.config.text_length, truncate=False)
    return albef.encode_image(image), albef.encode_text(tokens, keep), keep


def look(albef: ALBEF, image_tokens: Tensor | tuple[Tensor, Tensor], text_tokens: Tensor, keep: Tensor,
         score: Score | None = None) -> tuple[Tensor, ...]:
    """Grad-CAM of a score (see gradcam.relevance): a map (g, g) of each image."""
    middle = (albef.config.fusion_depth - 1) // 2                # never the last of several: there only [CLS] counts
    given = text_tokens, keep, score or match_score(albef), middle
    if isinstance(image_tokens, Tensor):
        maps: tuple[Tensor, ...] = (relevance(albef, image_tokens, *given),)
    else:
        maps = pair_relevance(albef, image_tokens, *given)
    return tuple(text_map(one, keep)[0].unflatten(0, (albef.config.grid, -1)) for one in maps)


def by_odds(names: Sequence[str], probability: Tensor) -> dict[str, float]:
    """The likeliest first: (c,) -> by name."""
    return {names[i]: probability[i].item() for i in probability.argsort(descending=True, stable=True).tolist()}


def ask_match(model: ALBEF, tokenizer: Tokenizer, image: Tensor, text: str, candidates) -> dict:
    seen, said, keep = encode(model, tokenizer, image, text)
    found = by_odds(("no match", "match"), model.match_logits(model.fuse(said, keep, seen, queries=1)).softmax(-1)[0])
    return {"answer": next(iter(found)), "probabilities": found, "maps": look(model, seen, said, keep),
            "explained": "match", "similarity": (model.image_feature(seen) @ model.text_feature(said).T).item()}


def ask_head(model: nn.Module, tokenizer: Tokenizer, image: Tensor, text: str, candidates, labels: Sequence[str]
             ) -> dict:
    """A classifier over the fused [CLS]; the map explains the predicted class."""
    seen, said, keep = encode(model.albef, tokenizer, image, text)
    pair = len(image) == 2
    shown = (seen, torch.tensor([[0, 1]])) if pair else seen
    found = by_odds(labels, model.head(model.albef.fuse(said, keep, shown, queries=1)[:, 0]).softmax(-1)[0])
    answer = next(iter(found))
    def score(fused: Tensor) -> Tensor:
        return model.head(fused[:, 0])[:, labels.index(answer)]
    maps = look(model.albef, seen.chunk(2) if pair else seen, said, keep, score)
    return {"answer": answer, "probabilities": found, "maps": maps, "explained": answer}


def ask_question(model: vqa.VQAModel, tokenizer: Tokenizer, image: Tensor, text: str,
                 candidates: Sequence[str] | None) -> dict:
    """The best candidate, or without a list an open-ended answer; the map explains the whole answer's likelihood."""
    config = model.albef.config
    tokens, keep = tokenizer.encode([vqa.clean_question(text)], config.text_length, truncate=False, raw=True)
    batch = Batch(image, tokens, keep, torch.zeros(1, dtype=torch.long))
    answer, odds = vqa.generate(model, batch, tokenizer, beams=BEAMS)
    written = tokenizer.decode(answer[0])
    found = {written: odds.exp().item()}
    if candidates is None and config.objects:
        candidates = answer_list(config.objects)
    if candidates:
        candidates = list(dict.fromkeys(candidates))
        order, probability = vqa.rank(model, batch, *vqa.encode_answers(tokenizer, candidates))
        found = by_odds([candidates[i] for i in order[0].tolist()], probability[0])
        answer, _ = vqa.encode_answers(tokenizer, [next(iter(found))])
    kept, row = answer != tokenizer.pad, torch.zeros(1, dtype=torch.long)
    def score(fused: Tensor) -> Tensor:
        return -vqa.answer_loss(model(answer, kept, model.decoder.keys_values(fused), keep, row), answer, kept)
    maps = look(model.albef, model.albef.encode_image(batch.image), model.albef.encode_text(tokens, keep), keep, score)
    best = next(iter(found))
    return {"answer": best, "probabilities": found, "maps": maps, "explained": best, "written": written}


def ask_place(model: ALBEF, tokenizer: Tokenizer, image: Tensor, text: str, candidates, size: tuple[int, int],
              place: tuple[str, int] | None) -> dict:
    """The map of the match and its maximum; with boxes, the one that scores best, by its heat for its size."""
    if candidates is not None:
        candidates = torch.as_tensor(candidates, dtype=torch.float)
        grounding.check_boxes(candidates, size)
    found = ask_match(model, tokenizer, image, text, None)
    if place:
        (mode, layer), (tokens, keep) = place, tokenizer.encode([text], model.config.text_length)
        heat = grounding.heat_map(model, image, tokens, keep, layer, mode, mask=tokenizer.mask)
        found |= {"maps": tuple(heat), "explained": {"itm": "match", "itc": "similarity", "mlm": "its words"}[mode]}
    heat, = found["maps"]
    if candidates is None:
        row, column = divmod(int(heat.argmax()), len(heat))
        x, y = ((place + 0.5) * side / len(heat) for place, side in ((column, size[1]), (row, size[0])))
        return found | {"answer": f"around x {x:.0f}, y {y:.0f}" if heat.max() > 0 else "nowhere"}
    scores = grounding.score_boxes(heat, candidates, size)
    box = grounding.choose_box(scores, candidates) if (scores > 0).any() else None
    answer = "none of the boxes"
    if box is not None:
        answer = "the box at x {:g}, y {:g}, {:g} wide and {:g} high".format(*box.tolist())
    return found | {"answer": answer, "boxes": candidates, "scores": scores, "box": box}


ASK = {"retrieval": ask_match, "entailment": partial(ask_head, labels=entailment.LABELS), "vqa": ask_question,
       "nlvr2": partial(ask_head, labels=("false", "true")), "grounding": ask_place}


def describe(found: Prediction) -> str:
    """The answer in words, with a line for each of the likeliest answers and other scores."""
    likely = list(found.probabilities.items())[:SHOWN]
    lines = [found.answer or NOTHING, *(f"{value:7.2f}  {name or NOTHING}" for name, value in likely)]
    if found.similarity is not None:
        lines.append(f"{found.similarity:7.2f}  similarity")
    if found.written is not None:
        lines.append(f"written without a list: {found.written or NOTHING}")
    if found.boxes is not None:
        lines += [f"{score:7.3f}  for the box {' '.join(f'{value:g}' for value in box.tolist())}"
                  for box, score in zip(found.boxes, found.scores)]
    return "\n".join(lines)


def figure(found: Prediction) -> plots.Plot:
    """Each image next to its Grad-CAM map for the answer; grounding's boxes, the chosen one bold."""
    likely = [f"{name or NOTHING} {value:.2f}" for name, value in list(found.probabilities.items())[:3]]
    answer, explained = found.answer or NOTHING, found.explained or NOTHING
    panels, titles, scales = [], [], []
    sides = ("left: ", "right: ") if len(found.pictures) == 2 else ("",)
    for picture, heat, side in zip(found.pictures, found.maps, sides):
        scale = SIDE / max(picture.size)
        shown = np.array(picture.resize([max(1, round(n * scale)) for n in picture.size], Image.Resampling.BICUBIC))
        panels += [shown, plots.overlay(shown, heat.numpy())]
        titles += [f"{side}the picture", f"{side}what speaks for “{explained}”"]
        scales += [scale, scale]
    titles[0] = "\n".join([titles[0], *likely])
    asked = plots.shorten(found.text, LONGEST)
    heading = plots.wrap(f"“{asked}”: {answer}", 18 * len(panels))
    plot = plots.gallery(panels, titles, heading, len(panels))
    plot.alt = (f"{found.task} asked “{asked}” and answered: {answer} ({', '.join(likely)}). "
                f"Beside each picture the same, lit where it speaks for “{explained}”.")
    for ax, scale in zip(plot.axes, scales):
        for box in found.boxes if found.boxes is not None else ():
            best = found.box is not None and box.equal(found.box)
            x, y, width, height = (scale * box).tolist()
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, zorder=3 if best else 2,
                                   edgecolor=plots.GREEN if best else plots.SKY, linewidth=3 if best else 1))
    return plot


def main(task: str, images: Sequence[Source], text: str, run: Path, out: Path | None = None,
         boxes: Sequence | None = None) -> str:
    """`minalbef predict`: ask a run, draw the answer, -> both in words. Raises ValueError for a run of another task.

    Retrieval and grounding take pretrained runs, too. Grounding uses the map that was best on the validation set.
    """
    run = run_folder(run)
    if not run.exists():
        raise ValueError(f"there is no {run}; `minalbef finetune {task}` makes one, or name another with --run")
    model, tokenizer, _ = load_model(task, run)
    if task in ("retrieval", "grounding"):       # they match; other tasks' heads are of their own
        require_trained(run, untrained_parts(run), ("fusion", "match_head"))
    place = None                                 # of grounding's map
    if (run / "report.json").exists() and (best := read_report(run).get("map")):
        with explain(f"{run / 'report.json'}: its map is damaged", f"`minalbef evaluate {run}` "
                     "makes it anew", KeyError, TypeError, ValueError):
            place = str(best["mode"]), int(best["layer"])
    found = predict(task, model, tokenizer, images, text, boxes, place)
    figure(found).save(out := out or output_folder(run) / "answer.png")
    return f"{describe(found)}\n{out} shows the answer"
