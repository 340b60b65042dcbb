"""Text-to-image search over scenes: ranked by similarity, the best re-ranked by ITM."""
from dataclasses import dataclass

import torch

from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import Encoded
from minalbef.recipes.report import read_report
from minalbef.run import Run
from minalbef.scenes.exam import questions
from minalbef.scenes.scenes import Drawn, Scenes, paint
from minalbef.tokenizer import clean
from minalbef.viz.plots import Plot, gallery

FIRST = 32                            # the best by similarity, which fusion, far slower, re-ranks
WEIGHT = 0.2                          # of similarity, for a run that has not been evaluated
CAPTIONS = 5000                       # of training: enough that every word of the grammar is among them
SIDE = 144                            # pixels of a scene in the figure


@dataclass(frozen=True)
class Hit:
    """A scene that was found, with its own caption in `drawn.text`; similarity: cosine; match: probability."""

    drawn: Drawn
    similarity: float
    match: float


@torch.no_grad()
def search(run: Run, sentence: str, scenes: int = 2000, top: int = 8) -> list[Hit]:
    """The `top` best of so many unseen scenes for a sentence, by ITM and similarity together, best first.

    Raises ValueError for a sentence without words or with more than the model reads, and for a run of other data.
    """
    questions.need_scenes(run.config, run.path)
    if scenes < 1 or top < 1:
        raise ValueError(f"scenes={scenes} and top={top} must be at least 1")
    tokens, keep = run.tokenizer.encode([sentence], run.config.text_length, truncate=False)
    source = Scenes("test", size=run.config.image_size, objects=run.config.objects)
    drawn = [source.draw(i) for i in range(scenes)]
    seen = questions.image_tokens(run, [one.scene for one in drawn])
    encoded = Encoded(seen, run.model.encode_text(tokens, keep), keep)
    sim = ranking.similarity(run.model, encoded)[0, :, 0]                        # (scenes,)
    best = sim.topk(min(FIRST, scenes)).indices
    odds = ranking.match_odds(run.model, encoded, best, torch.zeros_like(best))
    order = (odds + weight(run) * sim[best] / run.model.temperature).argsort(descending=True, stable=True)[:top]
    return [Hit(drawn[best[i]], sim[best[i]].item(), odds[i].sigmoid().item()) for i in order]


def weight(run: Run) -> float:
    """Of similarity over temperature, added to ITM's log-odds, as the run's evaluation chose it; ITM alone is worse."""
    try:
        return read_report(run.path)["rerank_plus_weight"]
    except (ValueError, KeyError):
        return WEIGHT


def unknown_words(run: Run, sentence: str) -> list[str]:
    """Words of a sentence that are in no training caption, so that the model can't know them."""
    source = Scenes("train", seed=run.config.seed, objects=run.config.objects)
    known = {word for i in range(CAPTIONS) for word in clean(source.draw(i).text).split()}
    return [word for word in dict.fromkeys(clean(sentence).split()) if word not in known]


def describe(run: Run, sentence: str, hits: list[Hit]) -> str:
    """The hits in words: scores, captions, and a note on words that the model has never seen."""
    lines = [f"{'match':>7} {'similarity':>11}  the scene's own caption"]
    lines += [f"{hit.match:7.2f} {hit.similarity:11.2f}  {hit.drawn.text}" for hit in hits]
    if unknown := unknown_words(run, sentence):
        lines.append(f"Note: no training caption says {', '.join(map(repr, unknown))}, so the model cannot know it.")
    return "\n".join(lines)


def figure(sentence: str, hits: list[Hit]) -> Plot:
    """The hits with their scores."""
    return gallery([paint(hit.drawn.scene, SIDE) for hit in hits],
                   [f"match {hit.match:.2f}, similarity {hit.similarity:.2f}\n{hit.drawn.text}" for hit in hits],
                   f"“{sentence}”")
