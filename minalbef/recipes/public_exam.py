"""The exams of the tasks on the public sets: what a model gets right of a prepared split, the work shared by all processes.

An exam is called as examine(model, tokenizer, records, how) -> samples by name, nested as `intervals.summarise` wants them,
and what else the report should say, with what guessing gets right under "chance", nested alike. A picture that cannot be
read is an error: figures on fewer pictures compare with nothing.
"""
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from minalbef import data, distributed
from minalbef.albef import ALBEF
from minalbef.data import Batch
from minalbef.evaluation import answers, ranking
from minalbef.evaluation.intervals import Clusters, commonest
from minalbef.tasks import entailment, grounding, nlvr2, vqa
from minalbef.tokenizer import Tokenizer

LENGTH = 30                           # of captions in retrieval, as the original; other tasks' texts are not cut
WRITTEN = 10                          # tokens of an answer that is written freely


@dataclass(frozen=True)
class How:
    """How to examine.

    batch: records that are read at once, by each process. workers: processes that open pictures ahead, for each
    top: candidates of the second stage. answers: what VQA may answer; None: it writes freely
    original: as the original scores, VQA's first word counted twice, and an overlap of boxes no wider than a pixel as none
    layer: of fusion's, whose map grounds a text; None: the middle, the paper's third of six; "all": each in turn, to choose one
    """

    batch: int = 32
    workers: int = 0
    device: torch.device = torch.device("cpu")
    top: int = 128
    answers: Sequence[str] | None = None
    original: bool = False
    layer: int | str | None = None


def over(records: Dataset, collate: Callable, answer: Callable, width: int, how: How) -> Tensor:
    """answer(some records, their batch) -> (b, width), for all records, each process doing its share: -> (n, width)."""
    mine = range(distributed.rank(), len(records), distributed.world())
    whole = torch.zeros(len(records), width, dtype=torch.double, device=how.device)
    loader = DataLoader(Subset(records, mine), how.batch, num_workers=how.workers, collate_fn=partial(_both, collate))
    done = 0
    for some, batch in progress(loader, "reading"):
        whole[torch.tensor(mine[done:done + len(some)])] = answer(some, batch.to(how.device)).to(whole)
        done += len(some)
    return distributed.total(whole).cpu()


def progress(some: Iterable, title: str) -> tqdm:
    """The same, with a bar in the first process; in a log file a line now and then."""
    return tqdm(some, title, disable=distributed.rank() > 0, file=sys.stderr, dynamic_ncols=True,
                mininterval=0.2 if sys.stderr.isatty() else 15)


def _both(collate: Callable, some: list):
    return some, collate(some)


def examine_retrieval(model: ALBEF, tokenizer: Tokenizer, records: Dataset, how: How) -> tuple[dict, dict]:
    """Recall at 1, 5 and 10, both ways, of every caption and every picture: by similarity, and of its `top` best by match.

    Captions of one picture share its id; any of them is right for it.
    """
    config, texts, ids, first = model.config, [], [], {}
    for i, record in enumerate(records[i] for i in range(len(records))):
        texts.append(record.text)
        ids.append(record.id)
        first.setdefault(record.id, i)
    size, length = config.image_size, min(LENGTH, config.positions)
    loader = DataLoader(Subset(records, list(first.values())), how.batch, num_workers=how.workers,
                        collate_fn=partial(pictures, size=size), pin_memory=how.device.type == "cuda")
    tokens, keep = (x.to(how.device) for x in tokenizer.encode(texts, length))
    with torch.no_grad():                        # every process encodes all: it is the pairs that take the time
        image = torch.cat([model.encode_image(some.to(how.device, non_blocking=True))
                           for some in progress(loader, "pictures")])
        text = torch.cat([model.encode_text(*some) for some in zip(tokens.split(256), keep.split(256))])
        scores = two_stage(model, ranking.Encoded(image, text, keep), how.top)
    true = (torch.tensor(list(first))[:, None] == torch.tensor(ids)).to(how.device)
    samples = {f"{name}_{way}_r{k}": ranking.recall(score, right, k).cpu() for name, both in scores.items()
               for way, score, right in zip(("i2t", "t2i"), both, (true, true.T)) for k in (1, 5, 10)}
    guessed = {f"{way}_r{k}": ranking.recall(torch.zeros_like(right, dtype=torch.float), right, k).mean().item()
               for way, right in (("i2t", true), ("t2i", true.T)) for k in (1, 5, 10)}
    chance = {f"{name}_{way}": value for name in scores for way, value in guessed.items()}
    return samples, {"pictures": len(first), "captions": len(texts), "top": how.top, "chance": chance}


def two_stage(model: ALBEF, encoded: ranking.Encoded, top: int) -> dict[str, tuple[Tensor, Tensor]]:
    """As tasks.retrieval.two_stage, the pairs to match shared by all processes."""
    sim = ranking.similarity(model, encoded)[0]                                  # (i, t)
    wanted = ranking.best(sim, top) | ranking.best(sim.T, top).T
    image, text = wanted.nonzero(as_tuple=True)
    # pictures stay together: what they offer to fusion is computed once
    mine = image * distributed.world() // len(sim) == distributed.rank()
    image, text, match = image[mine], text[mine], torch.zeros_like(sim)
    for some in progress(image.unique().split(64), "matching"):
        here = (image >= some[0]) & (image <= some[-1])
        near = replace(encoded, image=encoded.image[some[0]:some[-1] + 1])
        odds = ranking.match_odds(model, near, image[here] - some[0], text[here], yes_alone=True)
        match[image[here], text[here]] = odds
    match = distributed.total(match)
    return {"itc": (sim, sim.T)} | {name: (ranking.rerank(sim, score, top), ranking.rerank(sim.T, score.T, top))
                                    for name, score in (("rerank", match), ("rerank_plus", match + sim))}


def pictures(some: Sequence, size: int) -> Tensor:
    """Records' pictures as the model reads them: (b, 3, s, s)."""
    return torch.stack([data.transform(record.image, size) for record in some])


def examine_entailment(model: nn.Module, tokenizer: Tokenizer, records: Dataset, how: How) -> tuple[dict, dict]:
    """Accuracy, beside always saying what is commonest."""
    def answer(some, batch) -> Tensor:
        right = entailment.predict(model, batch.image, batch.tokens, batch.keep).argmax(-1) == batch.label
        return torch.stack([right, batch.label], 1)
    config = model.albef.config
    right, label = over(records, partial(entailment.collate, tokenizer=tokenizer, size=config.image_size,
                                         length=config.positions), answer, 2, how).unbind(1)
    return {"accuracy": right.float(), "baselines": {"majority": {"accuracy": commonest(label.tolist())}}}, {
        "chance": {"accuracy": 1 / len(entailment.LABELS)}}


def examine_nlvr2(model: nn.Module, tokenizer: Tokenizer, records: Dataset, how: How) -> tuple[dict, dict]:
    """Accuracy, and consistency: the share of statements judged rightly of all their pairs."""
    def answer(some, batch) -> Tensor:
        found = nlvr2.predict(model, batch.image, batch.pairs, batch.tokens, batch.keep).argmax(-1)
        return torch.stack([found == batch.labels, batch.labels], 1)
    config = model.albef.config
    right, label = over(records, partial(nlvr2.collate, tokenizer=tokenizer, size=config.image_size, length=config.positions),
                        answer, 2, how).unbind(1)
    statements, statement = torch.tensor([records[i].id for i in range(len(records))]).unique(return_inverse=True)
    consistent = torch.ones(len(statements)).scatter_reduce(0, statement, right.float(), "amin")
    return {"accuracy": Clusters(right.float(), statement), "consistency": consistent,
            "baselines": {"majority": {"accuracy": Clusters(commonest(label.tolist()), statement)}}}, {
                "chance": {"accuracy": 1 / 2, "consistency": (0.5 ** statement.bincount()).mean().item()}}


def asked(some: Sequence[vqa.VQARecord], tokenizer: Tokenizer, size: int, length: int) -> Batch:
    """Questions without their answers, which a test keeps to itself."""
    tokens, keep = tokenizer.encode([vqa.clean_question(record.question) for record in some], length, raw=True)
    return Batch(pictures(some, size), tokens, keep, torch.tensor([record.id for record in some]))


def examine_vqa(model: vqa.VQAModel, tokenizer: Tokenizer, records: Dataset, how: How) -> tuple[dict, dict]:
    """The answers, as the official server takes them, under "submission"; and where the right ones are there, VQA accuracy."""
    config = model.albef.config
    collate = partial(asked, tokenizer=tokenizer, size=config.image_size, length=config.positions)
    if how.answers:
        candidates = [x.to(how.device) for x in vqa.encode_answers(tokenizer, how.answers)]
        def choose(some, batch) -> Tensor:
            return vqa.rank(model, batch, *candidates, k=how.top, count_first_twice=how.original)[0][:, :1]
        said = [how.answers[int(i)] for i, in over(records, collate, choose, 1, how).tolist()]
    else:
        def write(some, batch) -> Tensor:
            tokens = vqa.generate(model, batch, tokenizer, WRITTEN)[0]
            return torch.nn.functional.pad(tokens, (0, WRITTEN - tokens.shape[1]), value=tokenizer.pad)
        said = [tokenizer.decode(map(int, row)) for row in over(records, collate, write, WRITTEN, how).tolist()]
    submission, scores, lacking, chance, listed = [], [], 0, [], set(how.answers or ())
    for i, answer in enumerate(said):
        record = records[i]
        submission.append({"question_id": record.id, "answer": answer})
        if record.answers:
            scores.append(answers.accuracy(answer, record.answers))
            lacking += bool(listed) and listed.isdisjoint(record.answers)
            guessed = sum(answers.accuracy(one, record.answers) for one in listed & set(record.answers))
            chance.append(guessed / max(1, len(listed)))
    more = {"submission": submission, "answered": "by choosing" if how.answers else "freely", "lacking": lacking}
    if listed and chance:
        more["chance"] = {"accuracy": sum(chance) / len(chance)}
    return {"accuracy": torch.tensor(scores)}, more | ({"answers": len(how.answers), "top": how.top} if how.answers else {})


def examine_grounding(model: ALBEF, tokenizer: Tokenizer, records: Dataset, how: How) -> tuple[dict, dict]:
    """By split: does the chosen proposal meet the true box by half, and does the map's highest patch lie in it?

    Beside it, choosing the largest proposal. Without proposals only the second is asked. layer="all" tries every layer of
    fusion's and tells how each did; the figures are then those of the best, so choose on validation, not on the test.
    """
    depth = model.config.fusion_depth
    layer = (depth - 1) // 2 if how.layer is None else how.layer
    if layer == "all":
        tried: dict[int, tuple[dict, dict]] = {}
        def reached(layer: int) -> float:
            tried[layer] = examine_grounding(model, tokenizer, records, replace(how, layer=layer))
            asked = "proposals" if tried[layer][1]["proposals"] else "pointing"
            return torch.cat([found[asked] for split, found in tried[layer][0].items() if split != "baselines"]).mean().item()
        best, figures = grounding.sweep(reached, range(depth))
        return tried[best][0], tried[best][1] | {"layers": {str(layer): figure for layer, figure in figures.items()}}

    def answer(some, batch) -> Tensor:
        maps, rows = grounding.heat_map(model, batch.image, batch.tokens, batch.keep, layer).cpu(), []
        for record, heat in zip(some, maps):
            box, boxes = torch.tensor(record.box), torch.tensor(record.proposals)
            def meets(chosen: Tensor) -> float:
                return float(grounding.iou(chosen, box, float(how.original)) >= 0.5)
            hits = [torch.nan] * 3
            if len(boxes):
                scores = grounding.score_boxes(heat, boxes, record.size)
                hits = [meets(grounding.choose_box(scores, boxes)), meets(boxes[boxes[:, 2:].prod(1).argmax()]),
                        sum(map(meets, boxes)) / len(boxes)]
            (x, y, w, h), (height, width) = record.box, record.size                 # the box may overhang the picture
            inside = (min(x + w, width) - max(x, 0)) * (min(y + h, height) - max(y, 0))
            rows.append([grounding.pointing(heat, box, record.size), *hits, inside / (height * width)])
        return torch.tensor(rows)
    config = model.config
    found = over(records, partial(data.collate, tokenizer=tokenizer, size=config.image_size, length=config.positions),
                 answer, 5, how).float()
    splits, samples, simple, chance = [records[i].split for i in range(len(records))], {}, {}, {}
    for split in dict.fromkeys(splits):
        point, chosen, largest, guessed, area = found[[one == split for one in splits]].unbind(1)
        samples[split] = {"pointing": point, "proposals": chosen[~chosen.isnan()]}
        simple[split] = {"proposals": largest[~largest.isnan()]}
        chance[split] = {"pointing": area.mean().item()}
        if len(samples[split]["proposals"]):
            chance[split]["proposals"] = guessed.nanmean().item()
    return samples | {"baselines": {"largest_box": simple}}, {
        "layer": layer, "proposals": int((~found[:, 1].isnan()).sum()), "chance": chance}


# in words


def protocol(kind: str, name: str, split: str, tuned: Sequence[str], pretrained: Iterable[str] | None = (),
             again: bool = False) -> str:
    """In words, what a run was trained on, and whether the set that it is evaluated on is among it.

    tuned, pretrained: sets or splits; pretrained=None: not recorded. again: the split's records are in them, under any name
    """
    if kind != "pretrain" and not tuned:
        return f"fine-tuned for {kind}, on which set the run does not say: name it with --tuned-on"
    if kind == "pretrain" and pretrained is None:
        return "the pretrained model as it is; what it was trained on is not recorded: name it with --tuned-on"
    parts = [f"{how} on {', '.join(sorted(sets))}" for how, sets in (("pretrained", pretrained), ("fine-tuned", tuned)) if sets]
    words = ", ".join(parts) or "the pretrained model as it is"
    seen = [*(pretrained or ()), *tuned]
    if again or f"{name}/{split}" in seen:
        return f"{words}: it was trained on what it is asked here"
    if name in {one.partition("/")[0] for one in tuned}:
        return words
    if name in {one.partition("/")[0] for one in seen}:
        return f"{words}: not zero-shot, for it was pretrained on {name}"
    unsaid = "; what it was pretrained on is not recorded" if pretrained is None else ""
    return f"zero-shot: {words}{f', not on {name}' if seen else ''}{unsaid}"


def table(found: dict) -> str:
    """A report of `study.evaluate_public` as text: every figure with its 95% interval and chance, and the protocol."""
    lines = [f"{found['task']} on {found['set']}/{found['split']}, {found['protocol']}"]
    def add(where: str, figures: dict, intervals: dict, chance: dict):
        for key, value in figures.items():
            if isinstance(value, dict):
                add(f"{where}{key} ", value, intervals[key], chance.get(key, {}))
            else:
                low, high = intervals[key]
                guessed = f"  chance {100 * chance[key]:.2f}" if key in chance else ""
                lines.append(f"  {where + key.replace('_', ' '):36} {100 * value:6.2f}  "
                             f"({100 * low:.2f} to {100 * high:.2f}){guessed}")
    for part, where, chance in (("test", "", found.get("chance", {})), ("baselines", "baseline: ", {})):
        add(where, found.get(part, {}), found["intervals"].get(part, {}), chance)
    if found.get("lacking"):
        lines.append(f"  {found['lacking']:,} questions have none of their answers among the {found['answers']:,} listed")
    lines += [f"  layer {layer}: {100 * figure:.2f}" for layer, figure in found.get("layers", {}).items()]
    if found["task"] == "vqa" and not found["test"]:
        lines.append("  the right answers are secret: send vqa_result.json to the official server")
    return "\n".join(lines)
