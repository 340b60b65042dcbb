"""Grounding on scenes: which of two things of one kind an expression means."""
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch

from emojiscenes.language import Relation
from emojiscenes.problems import Pointed
from emojiscenes.staging import largest_box, random_box
from minalbef.config import Config
from minalbef.evaluation.intervals import Clusters
from minalbef.scenes.tasks.base import (
    Draw,
    Painter,
    SceneTask,
    SceneTest,
    cluster,
    how,
    make_records,
    problems,
)
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import grounding
from minalbef.tasks.grounding import GroundingRecord

NUMBER, ROWS = 1000, 128
VALIDATION, VALIDATION_SEED = 200, 1_000_000


def record(problem: Pointed, painter: Painter) -> GroundingRecord:
    """Boxes are in pixels. kind: what the expression tells the thing by."""
    size = painter.size
    box, *proposals = (tuple((size * torch.tensor(box)).tolist())
                       for box in (problem.box, *problem.proposals))
    return GroundingRecord(painter.image(problem.scene), problem.text, 2 * problem.id, box,
                           tuple(proposals), (size, size), "", problem.id,
                           kind=expression_kind(problem))


def expression_kind(problem: Pointed) -> str:
    if isinstance(problem.expression, Relation):
        return "relation"
    return "place" if problem.expression.place else "size"


def baselines(draw: Draw) -> dict:
    """A random box, the largest box, and a random point."""
    examples = draw("grounding", NUMBER)

    def samples(values: Iterable[float]) -> Clusters:
        return cluster(torch.tensor(list(values)).float(), "grounding")

    return {"random_box": {"proposals": samples(random_box(p.box, p.proposals) for p in examples)},
            "largest_box": {"proposals": samples(largest_box(p.box, p.proposals)
                                                 for p in examples)},
            "random_point": {"pointing": samples(p.box[2] * p.box[3] for p in examples)}}


def choose_map(model: Any, tokenizer: Tokenizer, hide: str = "") -> dict[str, Any]:
    """The Grad-CAM map that ranks proposals best on validation problems: -> mode and layer."""
    config = model.config
    places = [(mode, layer) for mode in ("itm", "mlm") for layer in range(config.fusion_depth)]
    places += [("itc", block) for block in range(config.image_depth)]
    records = make_records(record, validation_problems(config), config.image_size, hide)

    def accuracy(place: tuple[str, int]) -> float:
        mode, layer = place
        options = how(model, {"batch": ROWS, "mode": mode, "layer": layer})
        samples, _ = grounding.evaluate_grounding(model, tokenizer, records, options)
        return samples["proposals"].mean().item()

    mode, layer = grounding.sweep(accuracy, places)[0]
    return {"mode": mode, "layer": layer}


@cache
def validation_problems(config: Config) -> list[Pointed]:
    """Problems to choose a map on, whatever the test."""
    source: Any = problems("grounding", "validation", config, VALIDATION_SEED)
    return [source.draw(i) for i in range(VALIDATION)]


SCENES = SceneTask(
    problems=("grounding",),
    record=record,
    tests={"": SceneTest("grounding", NUMBER, {"batch": ROWS})},
    titles=(("pointing", "pointing"),
            ("pointing, if only a relation decides", "by_kind.relation"),
            ("proposals, accuracy at IoU 0.5", "proposals")),
    choose=choose_map,
    baselines=baselines,
    untrained_baselines={
        "pretrained": ("pretrained", ""),
        "warm_start": ("start", ""),
        "random_weights": ("random", ""),
        "shuffled_text": ("tuned", "shuffled"),
    },
)
