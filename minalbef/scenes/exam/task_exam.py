"""The exams of the five tasks on the embedded scenes: problems made into batches, and what a model gets right of them.

An exam is called as examine(model, tokenizer, draw, hide) -> samples by name, nested as `intervals.summarise` wants them.
draw: a key of problems.GROUP and how many -> problems, freshly drawn. hide: "" or what the model may not see
"""
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from minalbef import data
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import Batch, Record
from minalbef.evaluation import answers, ranking
from minalbef.evaluation.intervals import Clusters, commonest
from minalbef.scenes.language import Relation, Scene
from minalbef.scenes.painting import paint
from minalbef.scenes.problems.problems import GROUP, Asked, Problems, answer_list
from minalbef.scenes.problems.staging import largest_box, random_box
from minalbef.tasks import entailment, grounding, nlvr2, retrieval, vqa
from minalbef.tokenizer import Tokenizer

NOTHING = "a picture"                 # said in place of every text where the text is hidden
Draw = Callable[[str, int], list]


def problems(name: str, split: str, config: Config, seed: int) -> Problems:
    return Problems(name, split, seed, config.image_size, config.objects, restyle=config.restyle if split == "train" else 0.0)


# batches


def show(scene: Scene | None, size: int, hidden: bool = False) -> np.ndarray:
    """The scene's picture, or a grey one: uint8 (size, size, 3)."""
    return np.full((size, size, 3), 128, np.uint8) if hidden else paint(scene, size)


def say(text: str, hide: str) -> str:
    return NOTHING if hide == "text" else text


def judged(problems: Sequence, tokenizer: Tokenizer, size: int, hide: str = "", length: int = 30
           ) -> entailment.EntailmentBatch:
    return entailment.collate([entailment.EntailmentRecord(show(p.scene, size, hide == "image"), say(p.text, hide), p.id,
                                                           entailment.LABELS[p.label]) for p in problems],
                              tokenizer, size, length)


def asked(problems: Sequence, tokenizer: Tokenizer, size: int, hide: str = "", length: int = 30) -> vqa.VQABatch:
    return vqa.collate([vqa.VQARecord(show(p.scene, size, hide == "image"), say(p.text, hide), p.answers, p.id)
                        for p in problems], tokenizer, size, length)


def paired(problems: Sequence, tokenizer: Tokenizer, size: int, hide: str = "", length: int = 30) -> nlvr2.NLVR2Batch:
    @cache
    def seen(scene: Scene | None) -> np.ndarray:         # the four pairs of a statement share their pictures
        return show(scene, size, scene is None)
    sides = [(None if hide == "image" else p.left, None if hide in ("image", "right") else p.right) for p in problems]
    return nlvr2.collate([nlvr2.NLVR2Record(tuple(map(seen, side)), say(p.text, hide), p.true, p.id)
                          for side, p in zip(sides, problems)], tokenizer, size, length)


def told(problems: Sequence, tokenizer: Tokenizer, size: int, hide: str = "", length: int = 30) -> Batch:
    """Each picture with one of its captions, in turn; an expression is its only one."""
    records = []
    for p in problems:
        texts = getattr(p, "texts", None) or (p.text,)
        # families and other scenes count their pictures alike
        records.append(Record(show(p.scene, size), texts[p.id % len(texts)], 2 * p.id + bool(getattr(p, "kind", ""))))
    return retrieval.collate(records, tokenizer, size, length)


# what a model gets right


def over(drawn: Sequence, answer: Callable, chunk: int = 256) -> Tensor:
    """answer(some problems) -> (n,) or (n, k), for all of them, `chunk` at a time; on the CPU."""
    return torch.cat([answer(drawn[i:i + chunk]).cpu() for i in range(0, len(drawn), chunk)])


def where(model: nn.Module) -> torch.device:
    """The device of its weights, to which its batches go."""
    return next(model.parameters()).device


def grouped(samples: Tensor, name: str) -> Clusters:
    """Samples in the order drawn, as clusters: problems of one group of GROUP share scenes or texts."""
    return Clusters(samples, torch.arange(len(samples)) // GROUP[name])


def by_kind(right: Tensor | Clusters, drawn: Sequence) -> dict:
    """-> accuracy, and by the problems' kind."""
    return {"accuracy": right, "by_kind": apart(right, [p.kind for p in drawn])}


def apart(samples: Tensor | Clusters, kinds: Sequence[str]) -> dict:
    """The same samples by kind, one for each of them."""
    return {kind: samples[[kind == other for other in kinds]] for kind in sorted(set(kinds))}


def examine_entailment(model: nn.Module, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    config = model.albef.config
    def right(some) -> Tensor:
        batch = judged(some, tokenizer, config.image_size, hide, config.text_length).to(where(model))
        return (entailment.predict(model, batch.image, batch.tokens, batch.keep).argmax(-1) == batch.label).float()
    return {"accuracy": grouped(over(draw("entailment", 1800), right), "entailment")}


def examine_vqa(model: nn.Module, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    config = model.albef.config
    listed = answer_list(config.objects)
    candidates = [part.to(where(model)) for part in vqa.encode_answers(tokenizer, listed)]
    def score(some) -> Tensor:
        batch = asked(some, tokenizer, config.image_size, hide, config.text_length).to(where(model))
        chosen = vqa.rank(model, batch, *candidates)[0][:, 0].tolist()
        return torch.tensor([agreement(listed[i], p) for i, p in zip(chosen, some)])
    drawn = draw("vqa", 1800)
    return by_kind(grouped(over(drawn, score), "vqa"), drawn)


def agreement(answer: str, problem: Asked) -> float:
    """VQA accuracy of an answer."""
    return answers.accuracy(answer, list(map(answers.normalise, problem.answers)))


def examine_nlvr2(model: nn.Module, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    config = model.albef.config
    def right(some) -> Tensor:
        batch = paired(some, tokenizer, config.image_size, hide, config.text_length).to(where(model))
        found = nlvr2.predict(model, batch.image, batch.pairs, batch.tokens, batch.keep)
        return (found.argmax(-1) == batch.labels).float()
    drawn = draw("nlvr2", 1800)
    found = over(drawn, right)
    return by_kind(grouped(found, "nlvr2"), drawn) | {"consistency": found.reshape(-1, 4).amin(1)}


def examine_retrieval(model: ALBEF, tokenizer: Tokenizer, draw: Draw, hide: str) -> dict:
    """Families of four scenes of four objects, among themselves; and one of 500 such scenes, of which no two are alike."""
    def encode(drawn) -> ranking.Encoded:
        batch = told(drawn, tokenizer, model.config.image_size, length=model.config.text_length)
        return ranking.encode(model, batch.image, batch.tokens, batch.keep)
    def recall(drawn, block: int, top: int) -> dict[str, Tensor]:
        encoded = encode(drawn)
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
    """By the map of `best_map`. hide="shuffled": with other problems' words."""
    drawn = draw("grounding", 1000)
    found = point(model, tokenizer, drawn, *best_map(model, tokenizer, hide), hide)
    found = {name: grouped(value, "grounding") for name, value in found.items()}
    kinds = ["relation" if isinstance(p.expression, Relation) else "place" if p.expression.place else "size" for p in drawn]
    return found | {"by_kind": apart(found["pointing"], kinds)}


def best_map(model: ALBEF, tokenizer: Tokenizer, hide: str = "") -> tuple[str, int]:
    """Which map chooses best among proposals on other problems, of validation: -> mode and layer, as of `grounding.heat_map`."""
    layers = range(len(model.fusion.layers))
    places = [*(("itm", i) for i in layers), *(("mlm", i) for i in layers),
              *(("itc", i) for i in range(len(model.image_encoder.blocks)))]
    tried = others(model.config)
    return grounding.sweep(lambda place: point(model, tokenizer, tried, *place, hide)["proposals"].mean().item(), places)[0]


@cache
def others(config: Config) -> list:
    """Problems to choose a map by."""
    source = problems("grounding", "validation", config, 1_000_000)
    return [source.draw(i) for i in range(200)]


def point(model: ALBEF, tokenizer: Tokenizer, drawn: Sequence, mode: str, layer: int, hide: str = "", chunk: int = 128) -> dict:
    """Whether the map's highest patch lies on what is meant, and whether the box chosen by it does: samples of both."""
    size, texts = model.config.image_size, [p.text for p in drawn]
    said = texts[7:] + texts[:7] if hide == "shuffled" else texts
    tokens, keep = (x.to(where(model)) for x in tokenizer.encode(said, model.config.text_length))
    mask = {"mask": tokenizer.mask} if mode == "mlm" else {}
    maps = torch.cat([grounding.heat_map(model, pixels([p.scene for p in drawn[i:i + chunk]], size).to(tokens.device),
                                         tokens[i:i + chunk], keep[i:i + chunk], layer, mode, **mask).cpu()
                      for i in range(0, len(drawn), chunk)])
    hits: dict[str, list] = {"pointing": [], "proposals": []}
    for p, heat in zip(drawn, maps):
        box, boxes = size * torch.tensor(p.box), size * torch.tensor(p.proposals)
        chosen = grounding.choose_box(grounding.score_boxes(heat, boxes, (size, size)), boxes)
        hits["pointing"].append(grounding.pointing(heat, box, (size, size)))
        hits["proposals"].append(float(grounding.iou(chosen, box) >= 0.5))
    return {name: torch.tensor(values) for name, values in hits.items()}


def pixels(scenes: Sequence[Scene], size: int) -> Tensor:
    """Painted, as the model reads them: -> (i, 3, s, s)."""
    return torch.stack([data.transform(paint(scene, size), size) for scene in scenes])


# what needs no model


def simple_retrieval(draw: Draw) -> dict:
    """Chance, which is also what the objects alone tell within a family."""
    families = grouped(torch.full((len(draw("families", 800)),), 0.25), "families")
    return {"chance": {"families": {f"{name}_{way}_r1": families for name in ("itc", "itm") for way in ("i2t", "t2i")}}}


def simple_entailment(draw: Draw) -> dict:
    return {"majority": {"accuracy": grouped(commonest([p.label for p in draw("entailment", 1800)]), "entailment")}}


def simple_vqa(draw: Draw) -> dict:
    """VQA accuracy of the answer that scores best on all questions of a kind, and of a random one of those that may be right.

    To "what" that may be any object, to the other kinds a question's own options: to "compare" the two that it names
    """
    drawn = draw("vqa", 1800)
    objects = sorted({thing.name for p in drawn for thing in p.scene.objects})
    scores = [{said: agreement(said, p) for said in dict.fromkeys(p.answers)} for p in drawn]  # what nobody said scores 0
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


def simple_nlvr2(draw: Draw) -> dict:
    return {"majority": {"accuracy": grouped(commonest([p.true for p in draw("nlvr2", 1800)]), "nlvr2")}}


def simple_grounding(draw: Draw) -> dict:
    """A box at random, the largest box, and a point at random."""
    drawn = draw("grounding", 1000)
    def samples(values) -> Clusters:
        return grouped(torch.tensor(list(values)).float(), "grounding")
    return {"random_box": {"proposals": samples(map(random_box, drawn))},
            "largest_box": {"proposals": samples(map(largest_box, drawn))},
            "random_point": {"pointing": samples(p.box[2] * p.box[3] for p in drawn)}}
