"""Evaluation of the five tasks on the embedded scenes: problems as records, each task's metrics, and its baselines.

Each examine_* gives samples by name, nested as `intervals.summarise` takes them; `jobs.JOBS` says which is whose.
draw: a key of problems.GROUP and how many -> problems, freshly drawn. hide: "" or the input that is hidden
"""
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from emojiscenes.language import Relation, Scene
from emojiscenes.painting import paint
from emojiscenes.problems import GROUP, Asked, Judged, Paired, Pointed, Problems, answer_list
from emojiscenes.staging import largest_box, random_box
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Record
from minalbef.evaluation import answers, ranking
from minalbef.evaluation.intervals import Clusters, commonest
from minalbef.evaluation.loop import How
from minalbef.tasks import entailment, grounding, nlvr2, vqa
from minalbef.tasks.table import TASKS
from minalbef.tokenizer import Tokenizer

NOTHING = "a picture"                 # every text, where the text is hidden
Draw = Callable[[str, int], list]


def problems(name: str, split: str, config: Config, seed: int) -> Problems:
    restyle = config.restyle if split == "train" else 0.0
    return Problems(name, split, seed, config.image_size, config.objects, restyle=restyle)


def records(problems: Sequence, size: int, hide: str = "") -> list:
    """Problems as the records of their task, painted at `size` pixels; hide: "" or the input that is hidden."""
    def words(text: str) -> str:
        return NOTHING if hide == "text" else text
    @cache                                               # the four pairs of a statement share their pictures
    def picture(scene: Scene | None) -> np.ndarray:
        return np.full((size, size, 3), 128, np.uint8) if scene is None else paint(scene, size)
    def seen(scene: Scene) -> np.ndarray:
        return picture(None if hide == "image" else scene)
    def record(p):
        match p:
            case Judged():
                return entailment.EntailmentRecord(seen(p.scene), words(p.text), p.id, entailment.LABELS[p.label])
            case Asked():
                return vqa.VQARecord(seen(p.scene), words(p.text), p.answers, p.id)
            case Paired():
                right = picture(None) if hide == "right" else seen(p.right)
                return nlvr2.NLVR2Record((seen(p.left), right), words(p.text), p.true, p.id)
            case Pointed():
                box, *proposals = (tuple((size * torch.tensor(one)).tolist()) for one in (p.box, *p.proposals))
                return grounding.GroundingRecord(seen(p.scene), p.text, 2 * p.id, box, tuple(proposals),
                                                 (size, size), "", p.id)
        # one of an image's captions, in turn; families and other scenes both count images from 0: even and odd ids
        return Record(seen(p.scene), p.texts[p.id % len(p.texts)], 2 * p.id + (1 if p.kind else 0))
    return [record(p) for p in problems]


def batch(task: str, problems: Sequence, tokenizer: Tokenizer, size: int, hide: str = "", length: int = 30):
    """Problems as the batch that the task trains on."""
    return TASKS[task].collate(records(problems, size, hide), tokenizer, size, length)


def how(model: nn.Module, rows: int = 256, **more) -> How:
    """How a model is evaluated here: on its device, with texts truncated as in training."""
    albef = getattr(model, "albef", model)
    return How(rows, device=next(model.parameters()).device, length=albef.config.text_length, quiet=True, **more)


def grouped(samples: Tensor, name: str) -> Clusters:
    """Samples in the order drawn, as clusters: the problems of a group (see GROUP) share scenes or texts."""
    return Clusters(samples, torch.arange(len(samples)) // GROUP[name])


def by_kind(right: Tensor | Clusters, drawn: Sequence) -> dict:
    """-> accuracy, overall and by the problems' kind."""
    return {"accuracy": right, "by_kind": apart(right, [p.kind for p in drawn])}


def apart(samples: Tensor | Clusters, kinds: Sequence[str]) -> dict:
    """Samples by kind, of which `kinds` has one a sample."""
    return {kind: samples[[kind == other for other in kinds]] for kind in sorted(set(kinds))}


def examine_answers(task: str, model: nn.Module, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    """Accuracy, by kind of problem too, and of NLVR2 consistency."""
    drawn, config = draw(task, 1800), model.albef.config
    asked = how(model, answers=answer_list(config.objects) if task == "vqa" else None)
    some = records(drawn, config.image_size, hide)
    found = TASKS[task].evaluate(model, tokenizer, some, asked)[0]
    right = found["accuracy"]
    right = grouped(right.values if isinstance(right, Clusters) else right, task)
    figures = {"accuracy": right} if task == "entailment" else by_kind(right, drawn)
    return figures | {name: value for name, value in found.items() if name == "consistency"}


def agreement(answer: str, problem: Asked) -> float:
    """VQA accuracy of an answer."""
    return answers.accuracy(answer, problem.answers)


def examine_retrieval(model: ALBEF, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    """Recall@1 within families of four scenes of the same objects, and among 500 scenes, of which no two are alike."""
    def recall(drawn, block: int, top: int) -> dict[str, Tensor]:
        shown = batch("retrieval", drawn, tokenizer, model.config.image_size, length=model.config.text_length)
        encoded = ranking.encode(model, shown.image, shown.tokens, shown.keep)
        sim = ranking.similarity(model, encoded, block)
        sim, odds = sim.cpu(), ranking.match_best(model, encoded, sim, top).cpu()
        true = torch.eye(block, dtype=torch.bool).expand_as(sim)
        scores = {"itc": (sim, sim.mT), "itm": (ranking.rerank(sim, odds, top), ranking.rerank(sim.mT, odds.mT, top))}
        return {f"{name}_{way}_r1": ranking.recall(score, true).flatten()
                for name, both in scores.items() for way, score in zip(("i2t", "t2i"), both)}
    families = recall(draw("families", 800), 4, 4)
    return {"families": {name: grouped(value, "families") for name, value in families.items()},
            "plain": recall(drawn := draw("retrieval", 500), len(drawn), 10)}


def examine_grounding(model: ALBEF, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    """With the map of `best_map`. hide="shuffled": with other problems' texts."""
    drawn = draw("grounding", 1000)
    found = point(model, tokenizer, drawn, *best_map(model, tokenizer, hide), hide)
    found = {name: grouped(value, "grounding") for name, value in found.items()}
    def kind(p: Pointed) -> str:
        if isinstance(p.expression, Relation):
            return "relation"
        return "place" if p.expression.place else "size"
    return found | {"by_kind": apart(found["pointing"], [kind(p) for p in drawn])}


def best_map(model: ALBEF, tokenizer: Tokenizer, hide: str = "") -> tuple[str, int]:
    """The Grad-CAM map that ranks proposals best on the validation set: -> mode and layer of `grounding.heat_map`."""
    layers = range(len(model.fusion.layers))
    places = [*(("itm", i) for i in layers), *(("mlm", i) for i in layers),
              *(("itc", i) for i in range(len(model.image_encoder.blocks)))]
    drawn = others(model.config)
    def accuracy(place: tuple[str, int]) -> float:
        return point(model, tokenizer, drawn, *place, hide)["proposals"].mean().item()
    return grounding.sweep(accuracy, places)[0]


@cache
def others(config: Config) -> list:
    """Validation problems to choose a map on."""
    source = problems("grounding", "validation", config, 1_000_000)
    return [source.draw(i) for i in range(200)]


def point(model: ALBEF, tokenizer: Tokenizer, drawn: Sequence, mode: str, layer: int, hide: str = "") -> dict:
    """Does the map's maximum lie on the target, and does the box that it ranks first fit? -> samples of both."""
    some = records(drawn, model.config.image_size)
    if hide == "shuffled":
        some = [replace(one, text=other.text) for one, other in zip(some, some[7:] + some[:7])]
    found = grounding.judge_maps(model, tokenizer, some, how(model, 128, layer=layer, mode=mode))
    return {"pointing": found[:, 0], "proposals": found[:, 1]}


# baselines without a model


def simple_retrieval(draw: Draw) -> dict:
    """Chance level, which knowing the objects alone doesn't exceed within a family."""
    families = grouped(torch.full((len(draw("families", 800)),), 0.25), "families")
    return {"chance": {"families": {f"{name}_{way}_r1": families for name in ("itc", "itm") for way in ("i2t", "t2i")}}}


def simple_majority(task: str, draw: Draw) -> dict:
    """The commonest label, of entailment and NLVR2."""
    labels = [p.label if task == "entailment" else p.true for p in draw(task, 1800)]
    return {"majority": {"accuracy": grouped(commonest(labels), task)}}


def simple_vqa(draw: Draw) -> dict:
    """VQA accuracy of the best constant answer to each kind of question, and of a random one of its possible answers.

    Possible answers to "what" are all objects, to the other kinds a question's options: to "compare" the two it names
    """
    drawn = draw("vqa", 1800)
    objects = sorted({thing.name for p in drawn for thing in p.scene.objects})
    scores = [{said: agreement(said, p) for said in dict.fromkeys(p.answers)} for p in drawn]    # all others score 0
    constant, chance = torch.zeros(2, len(drawn))
    for kind in {p.kind for p in drawn}:
        rows, totals = [i for i, p in enumerate(drawn) if p.kind == kind], Counter()
        for i in rows:
            totals.update(scores[i])
            options = objects if kind == "what" else [option for option, _ in drawn[i].question.options]
            chance[i] = sum(scores[i].get(option, 0) for option in options) / len(options)
        best = max(totals, key=totals.get)
        constant[rows] = torch.tensor([scores[i].get(best, 0.0) for i in rows])
    return {name: by_kind(grouped(found, "vqa"), drawn) for name, found in (("majority", constant), ("chance", chance))}


def simple_grounding(draw: Draw) -> dict:
    """A random box, the largest box, and a random point."""
    drawn = draw("grounding", 1000)
    def samples(values) -> Clusters:
        return grouped(torch.tensor(list(values)).float(), "grounding")
    return {"random_box": {"proposals": samples(map(random_box, drawn))},
            "largest_box": {"proposals": samples(map(largest_box, drawn))},
            "random_point": {"pointing": samples(p.box[2] * p.box[3] for p in drawn)}}
