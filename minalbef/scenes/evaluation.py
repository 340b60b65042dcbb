"""Evaluation of a pretrained ALBEF on unseen scenes.

Which records are used, and the baseline that knows a scene's objects and nothing else.
"""
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emojiscenes.grammar import KINDS
from emojiscenes.language import Scene, needs
from emojiscenes.scenes import Drawn, truth
from emojiscenes.stress import Contrast
from minalbef.evaluation import choices, pointing, words
from minalbef.evaluation.intervals import Clusters, by_kind, summarise
from minalbef.evaluation.loop import unique
from minalbef.evaluation.ranking import Scores, rank, score
from minalbef.scenes import questions, records
from minalbef.scenes.questions import families, how, plain
from minalbef.tasks.run import Run

BLOCK = 500                           # images and captions ranked together, as in our experiments
TOP = 10                              # candidates that ITM re-ranks
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
UNSEEN = ("openmoji",)


def evaluate_scenes(run: Run, seed: int = 0, size: float = 1.0, split: str = "test",
                    among: int = BLOCK) -> dict:
    """All metrics of a report, from 0 to 1.

    seed: of the freshly drawn scenes; size: share of their number
    split: "validation" while you tune

    plain: scenes of 2 or 3 objects, in blocks of `among`, at least one block. families: four scenes
    of the same objects, ranked among themselves.
    itc, rerank, rerank_plus: see `recalls`, among the ten best. The weight of similarity in
    rerank_plus and `itm_threshold` are tuned on validation scenes.
    stress: sentences unlike those of training, by kind; see `stress_values`
    "intervals": 95% intervals; "counts": the number of samples or families
    """
    weight, threshold = calibrate(run, seed, size)
    values = ranking_values(run, weight, seed, size, split, among)
    values |= match_values(run, threshold, seed, size, split)
    values["stress"] = stress_values(run, threshold, seed, size, split)
    values |= masked_words(run, plain(run, split, seed, 400 * size))
    values |= pointing_game(run, plain(run, split, seed, 500 * size))
    figures, intervals, counts = summarise(values)
    return {**figures, "split": split, "scenes_seed": seed, "among": among,
            "rerank_plus_weight": weight, "itm_threshold": threshold,
            "intervals": intervals, "counts": counts}


def evaluate_start(run: Run, seed: int = 0, size: float = 1.0, split: str = "test") -> dict:
    """Metrics of a run's initial weights, after the warm start.

    Retrieval by ITC, and the pointing game.
    """
    scenes = plain(run, split, seed, 500 * size)
    group = families(run, split, seed, 200 * size)
    plain_recalls = recalls(compete(run, scenes, match=False), 0.0)
    family_recalls = recalls(compete(run, group, 4, match=False), 0.0)
    itc = ("itc_i2t_r1", "itc_t2i_r1")
    values: dict[str, Any] = {name: plain_recalls[name] for name in itc}
    values["families"] = {name: in_families(family_recalls[name]) for name in itc}
    values |= pointing_game(run, plain(run, split, seed, 300 * size))
    return summarise(values)[0]


def calibrate(run: Run, seed: int = 0, size: float = 1.0) -> tuple[float, float]:
    """The weight of similarity in rerank_plus and the threshold of ITM's log-odds.

    Both are tuned on validation scenes.
    """
    seed += 1_000_000                 # not the scenes of an evaluation on validation
    rankings = [compete(run, plain(run, "validation", seed, 500 * size)),
                compete(run, families(run, "validation", seed, 100 * size), 4)]

    def total_recall(weight: float) -> float:
        total = 0.0
        for contest in rankings:
            for name, value in recalls(contest, weight).items():
                if name.startswith("rerank_plus"):
                    total += value.mean().item()
        return total

    foils = questions.foils(run, "validation", seed, 50 * size)
    pairs = questions.wrong_pairs(run, "validation", seed, 300 * size, foils)
    return max(WEIGHTS, key=total_recall), best_threshold(odds_by_kind(run, pairs))


# retrieval


def ranking_values(run: Run, weight: float, seed: int, size: float, split: str, among: int
                   ) -> dict[str, Any]:
    """Recall of plain scenes and families, also in an unseen style and with unseen pairs.

    -> samples by name
    """
    def plain_recall(count: float, block: int = BLOCK, ks: Sequence[int] = (1,),
                     **options: Any) -> dict[str, Any]:
        scenes = plain(run, split, seed, max(count, block) * size, block, **options)
        return recalls(compete(run, scenes, block), weight, ks)

    def family_recall(scenes: list[Drawn]) -> dict[str, Any]:
        figures = recalls(compete(run, scenes, 4), weight)
        return {name: in_families(value) for name, value in figures.items()}

    values: dict[str, Any] = {"plain": plain_recall(2000, among, ks=(1, 5, 10))}
    values["families"] = family_recall(families(run, split, seed, 500 * size))
    values["unseen_style"] = plain_recall(1000, vendors=UNSEEN)
    unseen = families(run, split, seed, 250 * size, vendors=UNSEEN)
    values["unseen_style"]["families"] = family_recall(unseen)
    values["unseen_pairs"] = plain_recall(500, pairs="unseen")
    values["unseen_pairs"]["control"] = plain_recall(500, pairs="control")
    return values


@dataclass(frozen=True)
class Contest:
    """Scenes and captions that compete within blocks: (i, t) each.

    scores: similarity over temperature and log-odds, -inf for pairs of different blocks
    true: bool, the caption is true of the scene
    oracle: scores of a baseline that knows the objects alone
    """

    scores: Scores
    true: Tensor
    oracle: Tensor


@torch.no_grad()
def compete(run: Run, scenes: list[Drawn], block: int = BLOCK, match: bool = True) -> Contest:
    """Score captions against images, within blocks of so many; match=False: without ITM."""
    encoded = questions.encode(run, [scene.scene for scene in scenes],
                               [scene.text for scene in scenes])
    group = torch.arange(len(scenes), device=run.device) // block
    rivals = group[:, None] == group
    scores = score(run.model, encoded, itm=match, top=TOP, rivals=rivals)
    blocks = [scenes[i:i + block] for i in range(0, len(scenes), block)]
    true = torch.block_diag(*(torch.from_numpy(truth(part)).T for part in blocks))
    oracle = torch.block_diag(*map(objects_shared, blocks))
    return Contest(scores.over(run.model.mean_temperature.item()), true.to(run.device),
                   oracle.to(run.device).masked_fill(~rivals, -torch.inf))


def recalls(contest: Contest, weight: float, ks: Sequence[int] = (1,)) -> dict[str, Tensor]:
    """Recall@k of each query: by name (q,), 0 to 1, on the CPU.

    itc, rerank, rerank_plus: see `ranking.two_stage`, in both directions
    oracle, chance: the mean of both directions
    """
    figures = {}
    for name, value in rank(contest.scores, contest.true, ks, TOP, weight).items():
        way, _, r_at_k = name.rsplit("_", 2)
        if way == "itc" or int(r_at_k[1:]) < TOP:        # among all TOP, order doesn't matter
            figures[name] = value
    equal = torch.where(contest.oracle == -torch.inf, -torch.inf, 0.0)
    for name, baseline in (("oracle", contest.oracle), ("chance", equal)):
        values = rank(Scores(baseline), contest.true, ks)
        for k in ks:
            figures[f"{name}_r{k}"] = (values[f"itc_i2t_r{k}"] + values[f"itc_t2i_r{k}"]) / 2
    return {name: value.cpu() for name, value in figures.items()}


def in_families(samples: Tensor) -> Clusters:
    """Samples of scenes as clusters of four, a family each."""
    return Clusters.of(samples.view(-1, 4))


def objects_shared(scenes: Sequence[Drawn]) -> Tensor:
    """Intersection over union of an image's and a caption's objects: -> (image, text)."""
    captions = [needs(example.form) for example in scenes]
    rows = []
    for example in scenes:
        image = questions.object_names(example.scene)
        rows.append([len(image & text) / len(image | text) for text in captions])
    return torch.tensor(rows)


# match or not


def match_values(run: Run, threshold: float, seed: int, size: float, split: str) -> dict[str, Any]:
    """ITM's answers to negatives, paraphrases and foils: -> samples by name."""
    foils = questions.foils(run, split, seed, 500 * size)
    pairs = questions.wrong_pairs(run, split, seed, 500 * size, foils)
    refused = rejected(odds_by_kind(run, pairs), threshold)
    relations = questions.paraphrases(run, split, seed, 500 * size)
    halves = questions.paraphrases(run, split, seed, 500 * size, one_half=True)
    for name, part in halves.items():
        relations[f"{name}_in_one_half"] = part
    unmatched = rejected(odds_by_kind(run, relations), threshold)
    half_foils = []
    for (scene, caption), (_, foil) in zip(halves["caption"], halves["foil"]):
        half_foils.append((scene, caption, foil))
    change = one_change(run, foils | {"relation_in_one_half": half_foils})
    return {"itm_balanced_accuracy": balanced_accuracy(refused),
            "itm_refused": refused,
            "itm_accepted": {name: 1 - value for name, value in unmatched.items()},
            "itm_one_change_accuracy": change["itm"],
            "itm_one_change_blank": {kind: change["blank"][kind] for kind in foils},
            "itc_one_change_accuracy": {kind: change["itc"][kind] for kind in foils}}


def odds_by_kind(run: Run, pairs: Mapping[str, Sequence[tuple[Scene, str]]]) -> dict[str, Tensor]:
    """ITM's log-odds of pairs of scene and text: by kind (p,)."""
    kinds: list[str] = []
    for kind, part in pairs.items():
        kinds += [kind] * len(part)
    scenes, texts = zip(*itertools.chain.from_iterable(pairs.values()))
    return by_kind(questions.match_odds(run, scenes, texts), kinds)


def rejected(odds: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """Which pairs are no match at a threshold: by kind (p,), 0 or 1."""
    return {kind: (value <= threshold).float() for kind, value in odds.items()}


def balanced_accuracy(rejected: dict[str, Tensor]) -> Tensor:
    """Of `rejected`, every kind of negative weighted equally: -> (p,), p pairs of each kind."""
    count = min(map(len, rejected.values()))
    negatives = [values[:count] for kind, values in rejected.items() if kind != "true"]
    wrong = torch.stack(negatives).mean(0)
    return (1 - rejected["true"][:count] + wrong) / 2


def best_threshold(odds: dict[str, Tensor]) -> float:
    """The threshold with the highest balanced accuracy, among quantiles of the log-odds.

    odds: ITM's log-odds of pairs by kind
    """
    quantiles = torch.cat([*odds.values()]).quantile(torch.linspace(0, 1, 201))

    def accuracy(threshold: float) -> float:
        return balanced_accuracy(rejected(odds, threshold)).mean().item()

    return max(quantiles.tolist(), key=accuracy)


def one_change(run: Run, foils: records.Foils) -> dict[str, dict[str, Tensor]]:
    """Does the true caption score higher than the foil?

    -> by "itc", "itm" and "blank", then by kind (p,): 1, 0, or a half for a tie
    foils: of `questions.foils`; blank: ITM with a grey image, the text-only baseline
    """
    pairs = records.choice_records(foils, run.config.image_size)
    samples = choices.samples_by_way(run, pairs, how(run))
    kinds = [record.kind for record in pairs]
    itc = choices.WAYS.index("itc")
    itm = choices.WAYS.index("itm")
    return {"itc": by_kind(samples[:, 0, itc, 0], kinds),
            "itm": by_kind(samples[:, 0, itm, 0], kinds),
            "blank": by_kind(samples[:, 1, itm, 0], kinds)}


# the stress test


def stress_values(run: Run, threshold: float, seed: int, size: float, split: str
                  ) -> dict[str, dict[str, Tensor]]:
    """ITM's answers to the stress test, of emojiscenes/stress.py: -> by figure, then by kind (q,).

    true_preferred: the true pair has the higher log-odds, a half for a tie
    true_preferred_blank: the same with a grey image; away from a half, words give the foil away
    true_accepted, false_accepted: the log-odds are over `threshold`, that of `itm_accepted`

    The last kind is the first one in the unseen style.
    """
    contrasts = questions.contrasts(run, split, seed, 200 * size)
    first = "relation_anywhere"
    unseen = questions.contrasts(run, split, seed, 200 * size, [first], UNSEEN)
    contrasts["relation_in_unseen_style"] = unseen[first]
    values: dict[str, dict[str, Tensor]] = {}
    for kind, part in contrasts.items():
        for name, samples in contrast_values(run, threshold, part).items():
            values.setdefault(name, {})[kind] = samples
    return values


def contrast_values(run: Run, threshold: float, contrasts: Sequence[Contrast]
                    ) -> dict[str, Tensor]:
    """ITM's answers to questions of one kind: -> by figure (q,), see `stress_values`."""
    true, false = zip(*contrasts)
    scenes, texts = zip(*true, *false)
    true_odds, false_odds = questions.match_odds(run, scenes, texts).chunk(2)
    first, rows = unique(texts)                  # a text has one score: ties are exact
    blank = questions.match_odds(run, [None] * len(first), [texts[i] for i in first])[rows]
    return {"true_preferred": preferred(true_odds, false_odds),
            "true_preferred_blank": preferred(*blank.chunk(2)),
            "true_accepted": (true_odds > threshold).float(),
            "false_accepted": (false_odds > threshold).float()}


def preferred(true_odds: Tensor, false_odds: Tensor) -> Tensor:
    """Whether the true pair scores higher, a half for a tie: -> (q,)"""
    return (true_odds > false_odds).float() + (true_odds == false_odds).float() / 2


# words


def masked_words(run: Run, scenes: Sequence[Drawn]) -> dict[str, dict[str, Tensor]]:
    """MLM accuracy with every word masked in turn: by kind (w,).

    Once with the image, and once with a blank one.
    """
    captions = records.word_records(scenes, run.config.image_size)
    samples, _ = words.evaluate_words(run, captions, how(run))
    accuracy = samples["accuracy"]
    blank = samples["baselines"]["without_image"]["accuracy"]
    kinds = [kind for kind in (*KINDS, "all") if kind in accuracy]       # the order of a table
    return {"mlm_accuracy": {kind: accuracy[kind] for kind in kinds},
            "mlm_accuracy_without_image": {kind: blank[kind] for kind in kinds}}


def pointing_game(run: Run, scenes: Sequence[Drawn], scores: Sequence[str] = ("itm", "mlm")
                  ) -> dict[str, Tensor]:
    """Does the maximum of a noun's map lie in its object?

    -> by name (w,), 0 to 1, such as pointing_itm and pointing_chance
    """
    nouns = records.pointing_records(scenes, run.config.image_size)
    samples, _ = pointing.evaluate_pointing(run, nouns, how(run), scores)
    return {f"pointing_{name}": value for name, value in samples.items()}
