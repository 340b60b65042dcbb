"""Evaluation of a pretrained ALBEF on unseen scenes; baselines: chance, and an oracle that knows objects alone."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emojiscenes.grammar import KINDS, kinds_of_word
from emojiscenes.language import needs
from emojiscenes.scenes import Drawn, truth
from minalbef.evaluation import ranking
from minalbef.evaluation.intervals import Clusters, summarise
from minalbef.evaluation.ranking import recall, rerank
from minalbef.run import Run
from minalbef.scenes import questions, words
from minalbef.scenes.questions import families, plain

BLOCK = 500                           # images and captions that are ranked together, as in our experiments
TOP = 10                              # candidates that ITM re-ranks
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
UNSEEN = ("openmoji",)


def evaluate(run: Run, seed: int = 0, size: float = 1.0, split: str = "test", among: int = BLOCK) -> dict:
    """All metrics of a report, from 0 to 1; "intervals": 95% intervals; "counts": the number of samples or families.

    seed: of the freshly drawn scenes; size: share of their number; split: "validation" while you tune

    plain: scenes of 2 or 3 objects, in blocks of `among`, at least one block. families: four scenes of the same
    objects, ranked among themselves, and by the kind of their difference.
    itc: ranked by similarity. rerank: its ten best re-ranked by ITM's log-odds. rerank_plus: by these plus similarity
    over temperature times `rerank_plus_weight`. That weight and `itm_threshold` are tuned on validation scenes.
    """
    weight, threshold = calibrate(run, seed, size)
    def among_many(count: float, block: int = BLOCK, ks: Sequence[int] = (1,), **options) -> dict[str, Tensor]:
        drawn = plain(run, split, seed, max(count, block) * size, block, **options)
        found = hits(compete(run, drawn, min(block, len(drawn))), weight, ks)
        return {name: value.flatten() for name, value in found.items()}
    def among_four(group: list[Drawn]) -> dict[str, Clusters]:
        return {name: Clusters.of(value) for name, value in hits(compete(run, group, 4), weight).items()}
    group = families(run, split, seed, 500 * size)
    values: dict = {
        "plain": among_many(2000, among, ks=(1, 5, 10)), "families": (found := among_four(group))
        | {"by_kind": by_kind(found, [one.kind for one in group])},
        "unseen_style": among_many(1000, vendors=UNSEEN)
        | {"families": among_four(families(run, split, seed, 250 * size, vendors=UNSEEN))},
        "unseen_pairs": among_many(500, pairs="unseen") | {"control": among_many(500, pairs="control")}}
    values["rerank_gain"] = sum(values["plain"][f"rerank_{way}_r1"] - values["plain"][f"itc_{way}_r1"]
                                for way in ("i2t", "t2i")) / 2
    foils = questions.foils(run, split, seed, 500 * size)
    rejected = rejections(match_odds(run, questions.wrong_pairs(run, split, seed, 500 * size, foils)), threshold)
    said = {name + suffix: some for suffix, one_half in (("", False), ("_in_one_half", True)) for name, some
            in questions.paraphrases(run, split, seed, 500 * size, one_half).items()}
    accepted = {name: 1 - value for name, value in rejections(match_odds(run, said), threshold).items()}
    close = [(*true, foil) for true, (_, foil) in zip(said["caption_in_one_half"], said["foil_in_one_half"])]
    values |= {
        "itm_balanced_accuracy": balanced_accuracy(rejected), "itm_refused": rejected,
        "itm_accepted": accepted, "itm_one_change_blank": one_change(run, foils, blank=True),
        "itm_one_change_accuracy": one_change(run, foils | {"relation_in_one_half": close}),
        "itc_one_change_accuracy": one_change(run, foils, questions.similarity),
        **masked_words(run, plain(run, split, seed, 400 * size)),
        **words.pointing_game(run, plain(run, split, seed, 500 * size))}
    figures, intervals, counts = summarise(values)
    return {**figures, "split": split, "scenes_seed": seed, "among": among, "rerank_plus_weight": weight,
            "itm_threshold": threshold, "intervals": intervals, "counts": counts}


def evaluate_start(run: Run, seed: int = 0, size: float = 1.0, split: str = "test") -> dict:
    """Metrics of a run's initial weights, after the warm start: retrieval by ITC, and the pointing game."""
    def itc(drawn: list[Drawn], block: int | None = None) -> dict[str, Tensor]:
        found = hits(compete(run, drawn, block, match=False), 0.0)
        return {name: value for name, value in found.items() if name.startswith("itc")}
    many, four = itc(plain(run, split, seed, 500 * size)), itc(families(run, split, seed, 200 * size), 4)
    return summarise({**{name: value.flatten() for name, value in many.items()},
                      "families": {name: Clusters.of(value) for name, value in four.items()},
                      **words.pointing_game(run, plain(run, split, seed, 300 * size))})[0]


def calibrate(run: Run, seed: int = 0, size: float = 1.0) -> tuple[float, float]:
    """Tuned on validation scenes: the weight of similarity in rerank_plus, and the threshold of ITM's log-odds."""
    seed += 1_000_000                 # other scenes than those of an evaluation on the validation split
    contests = [compete(run, plain(run, "validation", seed, 500 * size)),
                compete(run, families(run, "validation", seed, 100 * size), 4)]
    def reached(weight: float) -> float:
        return sum(value.mean().item() for contest in contests for name, value in hits(contest, weight).items()
                   if name.startswith("rerank_plus"))
    foils = questions.foils(run, "validation", seed, 50 * size)
    odds = match_odds(run, questions.wrong_pairs(run, "validation", seed, 300 * size, foils))
    limits = torch.cat(list(odds.values())).quantile(torch.linspace(0, 1, 201)).tolist()
    return max(WEIGHTS, key=reached), max(limits, key=lambda x: balanced_accuracy(rejections(odds, x)).mean().item())


@dataclass(frozen=True)
class Contest:
    """Scores of images and captions within blocks: (g, image, text) each.

    sim: similarity over temperature; odds: ITM's log-odds, -inf where it was not computed
    true: the caption is true of the image; shared: intersection over union of their objects
    """

    sim: Tensor
    odds: Tensor
    true: Tensor
    shared: Tensor

    @property
    def mT(self) -> "Contest":
        """With captions as queries: (g, text, image) each."""
        return Contest(*(scores.mT for scores in vars(self).values()))


def compete(run: Run, drawn: list[Drawn], block: int | None = None, match: bool = True) -> Contest:
    """Score captions against images, within blocks of so many; match=False: without ITM."""
    block = block or min(BLOCK, len(drawn))
    encoded = questions.encode(run, [one.scene for one in drawn], [one.text for one in drawn])
    sim = ranking.similarity(run.model, encoded, block) / run.model.temperature.item()
    odds = ranking.match_best(run.model, encoded, sim, TOP) if match else torch.full_like(sim, -torch.inf)
    blocks = [drawn[i:i + block] for i in range(0, len(drawn), block)]
    return Contest(sim.cpu(), odds.cpu(), torch.stack([torch.from_numpy(truth(some)).T for some in blocks]),
                   torch.stack([objects_shared(some) for some in blocks]))


def objects_shared(drawn: Sequence[Drawn]) -> Tensor:
    """Intersection over union of an image's and a caption's objects: -> (image, text)."""
    seen = [{thing.name for thing in one.scene.objects} for one in drawn]
    said = [needs(one.form) for one in drawn]
    return torch.tensor([[len(a & b) / len(a | b) for b in said] for a in seen])


def hits(contest: Contest, weight: float, ks: Sequence[int] = (1,)) -> dict[str, Tensor]:
    """Recall@k of each query: by name (g, query), 0 to 1.

    i2t: image-to-text; t2i: text-to-image; oracle, ranked by shared objects, and chance level: the mean of both
    weight: of the similarity in rerank_plus
    """
    values: dict[str, list[Tensor]] = {}
    for way, c in (("i2t", contest), ("t2i", contest.mT)):
        scores = {f"itc_{way}": c.sim, f"rerank_{way}": rerank(c.sim, c.odds, TOP),
                  f"rerank_plus_{way}": rerank(c.sim, c.odds + weight * c.sim, TOP),
                  "oracle": c.shared, "chance": torch.zeros_like(c.sim)}
        for name, score in scores.items():
            for k in ks if "rerank" not in name else [k for k in ks if k < TOP]:     # among all ten, order is no matter
                values.setdefault(f"{name}_r{k}", []).append(recall(score, c.true, k))
    return {name: sum(both) / len(both) for name, both in values.items()}


def by_kind(values: dict[str, Clusters], kinds: Sequence[str]) -> dict[str, dict[str, Clusters]]:
    """Samples by kind, of which `kinds` has one a sample."""
    return {kind: {name: value[[other == kind for other in kinds]] for name, value in values.items()}
            for kind in dict.fromkeys(kinds)}


def match_odds(run: Run, pairs: dict[str, list]) -> dict[str, Tensor]:
    """ITM's log-odds of pairs of scene and text: by kind (p,)."""
    odds = questions.match_odds(run, *zip(*(pair for some in pairs.values() for pair in some)))
    return dict(zip(pairs, odds.split([len(some) for some in pairs.values()])))


def rejections(odds: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """Which pairs ITM classifies as no match: by kind (p,), 0 or 1."""
    return {kind: (value <= threshold).float() for kind, value in odds.items()}


def balanced_accuracy(rejected: dict[str, Tensor]) -> Tensor:
    """Of `rejections`, every kind of negative weighted alike: -> (p,), p pairs of each kind."""
    count = min(map(len, rejected.values()))
    wrong = torch.stack([share[:count] for kind, share in rejected.items() if kind != "true"]).mean(0)
    return (1 - rejected["true"][:count] + wrong) / 2


def one_change(run: Run, foils: dict[str, list], score: Callable[..., Tensor] = questions.match_odds,
               blank: bool = False) -> dict[str, Tensor]:
    """Does the true caption score higher than the foil? By kind (p,): 1, 0, or a half for a tie.

    foils: of `questions.foils`; score: by ITM, or questions.similarity; blank: a grey image, as the text-only baseline
    """
    pictures, true, false = zip(*(trio for some in foils.values() for trio in some))
    pictures = [None] * len(true) if blank else pictures
    true, false = score(run, [*pictures, *pictures], [*true, *false]).chunk(2)
    better = (true > false).float() + (true == false).float() / 2
    return dict(zip(foils, better.split([len(some) for some in foils.values()])))


def masked_words(run: Run, drawn: list[Drawn]) -> dict[str, dict[str, Tensor]]:
    """MLM accuracy with every word masked in turn, with its image and with a blank one: by kind (w,)."""
    texts = [one.text for one in drawn]
    spans = [(i, j, kind) for i, text in enumerate(texts) for j, kind in enumerate(kinds_of_word(text))]
    hidden = words.hide(run, texts, [(i, [j]) for i, j, _ in spans])
    figures = {}
    for name, rows, pictures in (("mlm_accuracy", hidden, [one.scene for one in drawn]),
                                 ("mlm_accuracy_without_image", replace(hidden, rows=hidden.rows * 0), [None])):
        guessed = words.guess(run, rows, questions.image_tokens(run, pictures))
        right = ((guessed == hidden.tokens).all(1) & hidden.hidden.any(1)).float().cpu()
        figures[name] = {kind: right[[kind == other for _, _, other in spans]] for kind in KINDS} | {"all": right}
    return figures
