"""Inference on your own images with a fine-tuned model: the answer, its probability, and a Grad-CAM map."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from minalbef.checkpoint import require_trained, run_folder, untrained_parts
from minalbef.config import nearest
from minalbef.data import Source, open_image, transform
from minalbef.recipes.report import output_folder, read_report
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.tasks.base import Task
from minalbef.tasks.prediction import Answer, Query
from minalbef.tasks.table import TASKS, load_model
from minalbef.tokenizer import Tokenizer, clean
from minalbef.viz import plots
from minalbef.writing import explain

SHOWN = 5                             # answers that are printed
SIDE = 288                            # pixels of an image's longer side in the figure
LONGEST = 200                         # letters of the text there
NOTHING = "(nothing)"                 # stands for an answer without words


@dataclass(frozen=True, kw_only=True)
class Prediction(Answer):
    """A model's answer, with what it was asked."""

    task: str
    pictures: tuple[Image.Image, ...]
    text: str


@torch.no_grad()
def predict(task: str, model: nn.Module, tokenizer: Tokenizer, images: Source | Sequence[Source], text: str,
            candidates: Sequence | Tensor | None = None, place: tuple[str, int] | None = None) -> Prediction:
    """Ask a model of `tasks.table.load_model`: does the text match the image, what is the answer?

    images: what data.open_image opens, as config.upright says; nlvr2 reads two, the left one first,
        all others one
    candidates: vqa's answers to rank; by default those of the embedded scenes for a model trained
        on them, else the answer is open-ended. grounding's boxes, (k, 4) of x, y, width, height in
        pixels; by default none
    place: the mode and layer of grounding's map, as of `grounding.heat_map`; by default that of the
        other tasks
    The maps are Grad-CAM of fusion's middle layer, the paper's third of six, averaged over the text.
    Raises ValueError for a wrong number of images, one that cannot be read or does not hold the
    boxes, and for a text without words or too long.
    """
    row = find_predicting_task(task)
    images = list(images) if isinstance(images, (list, tuple)) else [images]
    check_query(row, len(images), text, candidates)
    config = getattr(model, "albef", model).config
    if candidates is None and config.objects and task in SCENE_TASKS:
        candidates = SCENE_TASKS[task].listed_answers(config)
    pictures = tuple(open_image(image, config.upright) for image in images)
    pixels = torch.stack([transform(picture, config.image_size) for picture in pictures])
    size = pictures[0].height, pictures[0].width
    query = Query(pixels, text, size, candidates, place)
    answer = row.predict(model, tokenizer, query)
    return Prediction(**vars(answer), task=task, pictures=pictures, text=text)


def find_predicting_task(task: str) -> Task:
    """A task that predicts. Raises ValueError for another."""
    known = [name for name, row in TASKS.items() if row.predict]
    if task not in known:
        raise ValueError(f"no task {task!r}{nearest(task, known)}; there are {', '.join(known)}")
    return TASKS[task]


def check_query(task: Task, images: int, text: str, candidates: Sequence | Tensor | None) -> None:
    """Raises ValueError for what the task cannot be asked."""
    if images != task.images:
        reads = "one picture" if task.images == 1 else "two pictures, the left one first"
        raise ValueError(f"{task.name} reads {reads}, and was given {images}; on the command line "
                         "name each with --image")
    if not clean(text):
        raise ValueError(f"the text {text!r} has no words; give it at least one")
    if candidates is None:
        return
    kind = "answers" if all(isinstance(one, str) for one in candidates) else "boxes"
    if task.candidates != kind:
        choosers = [f"{row.candidates} for {name}" for name, row in TASKS.items() if row.candidates]
        raise ValueError(f"{task.name} does not choose among these: {', '.join(choosers)}; "
                         "leave them out")


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
    require_trained(run, untrained_parts(run), TASKS[task].predict_needs)
    place = None                                 # of grounding's map
    if (run / "report.json").exists() and (best := read_report(run).get("map")):
        with explain(f"{run / 'report.json'}: its map is damaged", f"`minalbef evaluate {run}` "
                     "makes it anew", KeyError, TypeError, ValueError):
            place = str(best["mode"]), int(best["layer"])
    found = predict(task, model, tokenizer, images, text, boxes, place)
    figure(found).save(out := out or output_folder(run) / "answer.png")
    return f"{describe(found)}\n{out} shows the answer"
