"""Inference on your own images with a fine-tuned model.

It gives the answer, its probability, and a Grad-CAM map.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor, nn

from minalbef.data import transform
from minalbef.recipes.report import output_folder, report_of
from minalbef.recipes.search import resize
from minalbef.scenes.tasks.table import SCENE_TASKS
from minalbef.system.checkpoint import require_trained, run_folder, untrained_parts
from minalbef.system.images import Source, open_image
from minalbef.system.tokenizer import Tokenizer, clean
from minalbef.system.writing import restate
from minalbef.tasks.base import Task
from minalbef.tasks.prediction import Answer, Query
from minalbef.tasks.table import TASKS, find_task, load_model
from minalbef.viz import plots

TOP_ANSWERS = 5                       # printed with their probabilities
SIDE = 288                            # pixels of an image's longer side in the figure
TEXT_LIMIT = 200                      # characters of the text in the figure
EMPTY_ANSWER = "(nothing)"            # printed for an answer without words


@dataclass(frozen=True, kw_only=True)
class Prediction(Answer):
    """A model's answer, with the task, the images and the text."""

    task: str
    pictures: tuple[Image.Image, ...]
    text: str


@torch.no_grad()
def predict(task: str, model: nn.Module, tokenizer: Tokenizer, images: Source | Sequence[Source],
            text: str, candidates: Sequence | Tensor | None = None,
            place: tuple[str, int] | None = None) -> Prediction:
    """Ask a model of `tasks.table.load_model`: does the text match the image, what is the answer?

    images: what images.open_image opens, upright or as stored by config.upright; nlvr2 takes two,
        the left one first, the other tasks one
    candidates: vqa's answers to rank; by default those of the embedded scenes for a model trained
        on them, otherwise the answer is open-ended. grounding's boxes, (k, 4) of x, y, width,
        height in pixels; by default none
    place: mode and layer of grounding's map, see `grounding.heat_map`; by default the other tasks'
    The maps are Grad-CAM of fusion's middle layer, the paper's third of six, averaged over the
    text.
    Raises ValueError for a wrong number of images, an image that cannot be read or does not contain
    the boxes, and a text that is too long or has no words.
    """
    row = find_predicting_task(task)
    if isinstance(images, (list, tuple)):
        sources = list(images)
    else:
        sources = [images]
    check_query(row, len(sources), text, candidates)
    albef: Any = getattr(model, "albef", model)
    config = albef.config
    if candidates is None and config.objects and task in SCENE_TASKS:
        candidates = SCENE_TASKS[task].listed_answers(config)
    pictures = tuple(open_image(source, config.upright) for source in sources)
    pixels = torch.stack([transform(picture, config.image_size) for picture in pictures])
    size = (pictures[0].height, pictures[0].width)
    query = Query(pixels, text, size, candidates, place)
    assert row.predict
    answer = row.predict(model, tokenizer, query)
    return Prediction(**vars(answer), task=task, pictures=pictures, text=text)


def find_predicting_task(task: str) -> Task:
    """A task that predicts. Raises ValueError for another."""
    return find_task(task, among=[name for name, row in TASKS.items() if row.predict])


def check_query(task: Task, images: int, text: str, candidates: Sequence | Tensor | None) -> None:
    """Raises ValueError for a query that the task cannot answer. images: how many there are"""
    kind = task.candidates
    if candidates is not None:
        is_text = all(isinstance(candidate, str) for candidate in candidates)
        kind = "answers" if is_text else "boxes"
    problem = ""
    if images != task.images:
        expected = "one image" if task.images == 1 else "two images, the left one first"
        problem = f"takes {expected}, but got {images}; on the command line, name each with --image"
    elif not clean(text):
        problem = f"reads words, and {text!r} has no words; give it at least one"
    elif kind != task.candidates:
        choices = [f"{row.candidates} for {name}" for name, row in TASKS.items() if row.candidates]
        problem = (f"does not choose among these candidates: {', '.join(choices)}; leave them out")
    if problem:
        raise ValueError(f"{task.name} {problem}")


def describe_prediction(prediction: Prediction) -> str:
    """The answer, then a line for each of the likeliest answers and for each other score."""
    lines = [prediction.answer or EMPTY_ANSWER]
    for name, probability in list(prediction.probabilities.items())[:TOP_ANSWERS]:
        lines.append(f"{probability:7.2f}  {name or EMPTY_ANSWER}")
    if prediction.similarity is not None:
        lines.append(f"{prediction.similarity:7.2f}  similarity")
    if prediction.written is not None:
        lines.append(f"written without a list: {prediction.written or EMPTY_ANSWER}")
    if prediction.boxes is not None:
        assert prediction.scores is not None
        for box, score in zip(prediction.boxes, prediction.scores):
            corners = " ".join(f"{value:g}" for value in box.tolist())
            lines.append(f"{score:7.3f}  for the box {corners}")
    return "\n".join(lines)


def figure(prediction: Prediction) -> plots.Plot:
    """Each image next to its Grad-CAM map for the answer; grounding's best box is bold."""
    likely = []
    for name, probability in list(prediction.probabilities.items())[:3]:
        likely.append(f"{name or EMPTY_ANSWER} {probability:.2f}")
    answer = prediction.answer or EMPTY_ANSWER
    label = prediction.explained or EMPTY_ANSWER
    panels = []
    titles = []
    scales = []
    sides = ("left: ", "right: ") if len(prediction.pictures) == 2 else ("",)
    for picture, heat, side in zip(prediction.pictures, prediction.maps, sides):
        pixels = np.array(resize(picture, SIDE))
        scale = SIDE / max(picture.size)
        panels += [pixels, plots.overlay(pixels, heat.numpy())]
        titles += [f"{side}the image", f"{side}evidence for “{label}”"]
        scales += [scale, scale]
    titles[0] = "\n".join([titles[0], *likely])
    text = plots.shorten(prediction.text, TEXT_LIMIT)
    heading = plots.wrap(f"“{text}”: {answer}", 18 * len(panels))
    plot = plots.gallery(panels, titles, heading, len(panels))
    plot.alt = (f"{prediction.task} asked “{text}” and answered: {answer} ({', '.join(likely)}). "
                f"Beside each image the same, lit where the evidence for “{label}” is.")
    for ax, scale in zip(plot.axes, scales):
        draw_boxes(ax, prediction, scale)
    return plot


def draw_boxes(ax: Axes, prediction: Prediction, scale: float) -> None:
    """Draw grounding's boxes, if any, over an image that was resized by `scale`."""
    if prediction.boxes is None:
        return
    for box in prediction.boxes:
        best = prediction.box is not None and box.equal(prediction.box)
        x, y, width, height = (scale * box).tolist()
        style: dict[str, Any] = dict(edgecolor=plots.SKY, linewidth=1, zorder=2)
        if best:
            style = dict(edgecolor=plots.GREEN, linewidth=3, zorder=3)
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, **style))


def main(task: str, images: Sequence[Source], text: str, run: Path, out: Path | None = None,
         boxes: Sequence | None = None) -> str:
    """`minalbef predict`: ask a run and draw the answer: -> the answer in words.

    Raises ValueError for a run of another task.
    Retrieval and grounding take pretrained runs, too. Grounding uses the map that was best on the
    validation set.
    """
    run = run_folder(run)
    model, tokenizer, _ = load_model(task, run)
    require_trained(run, untrained_parts(run), TASKS[task].predict_needs)
    prediction = predict(task, model, tokenizer, images, text, boxes, best_map(run))
    out = out or output_folder(run) / "answer.png"
    figure(prediction).save(out)
    return f"{describe_prediction(prediction)}\n{out} shows the answer"


def best_map(run: Path) -> tuple[str, int] | None:
    """Mode and layer of grounding's map that a run's evaluation chose, if it did.

    Raises ValueError where its report is damaged.
    """
    chosen_map = report_of(run).get("map")
    if not chosen_map:
        return None
    report = run / "report.json"
    with restate(f"{report}: its map is damaged", f"`minalbef evaluate {run}` makes it anew",
                 KeyError, TypeError, ValueError):
        mode = str(chosen_map["mode"])
        layer = int(chosen_map["layer"])
    return mode, layer
