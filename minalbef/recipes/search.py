"""Search for scenes, for pictures or for texts: ranked by similarity, the best re-ranked by ITM."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from minalbef.data import open_image, pictures_in
from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import Encoded
from minalbef.recipes.choices import weight
from minalbef.recipes.vocabulary import trained_words
from minalbef.run import Run
from minalbef.scenes.exam import questions
from minalbef.scenes.scenes import Drawn, Scenes, paint
from minalbef.tokenizer import clean
from minalbef.viz.plots import Plot, gallery

FIRST = 32                            # the best by similarity, which fusion, far slower, re-ranks
CAPTIONS = 5000                       # of training: enough that every word of the grammar is among them
SIDE = 144                            # pixels of a scene in the figure


@dataclass(frozen=True)
class Hit:
    """What was found: a scene with its caption, a file or a text; similarity: cosine, match: probability."""

    drawn: Drawn | None
    similarity: float
    match: float
    path: Path | None = None
    text: str = ""

    @property
    def title(self) -> str:
        return self.path.name if self.path else self.text or self.drawn.text

    @property
    def picture(self) -> np.ndarray:
        if self.path:
            return np.asarray(ImageOps.pad(open_image(self.path), (SIDE, SIDE), color="white"))
        return paint(self.drawn.scene, SIDE)


@torch.no_grad()
def search(run: Run, sentence: str, scenes: int = 2000, top: int = 8) -> list[Hit]:
    """The `top` best of so many unseen scenes for a sentence, by ITM and similarity together, best first.

    Raises ValueError for a sentence without words or with more than the model reads, and for a run of other data.
    """
    run.require("image_proj", "text_proj", "fusion", "match_head")
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
    return [Hit(drawn[best[i]], sim[best[i]].item(), odds[i].sigmoid().item())
            for i in by_both(run, sim[best], odds)[:top]]


def search_images(run: Run, sentence: str, images: Path, top: int = 8) -> list[Hit]:
    """The `top` best pictures of a folder for a sentence, as `search` ranks scenes."""
    paths: list[Path] = pictures_in(images)
    return search_features(run, sentence, paths, run.embed_images(paths, quiet=False), top)


def search_features(run: Run, sentence: str, paths: list[Path], features: Tensor, top: int = 8) -> list[Hit]:
    """`search_images` where the pictures' features (images, e) are known, as from an index."""
    sim = run.embed_texts(sentence)[0] @ features.to(run.device).T                               # (images,)
    return [Hit(None, *scores, paths[i]) for i, *scores in rerank(run, sim, paths, [sentence])[:top]]


def search_texts(run: Run, picture: Path, texts: list[str], top: int = 8) -> list[Hit]:
    """The `top` best of your texts for a picture, as `search` ranks scenes."""
    sim = run.similarity(picture, texts)[0]                                                      # (texts,)
    return [Hit(None, *scores, text=texts[i]) for i, *scores in rerank(run, sim, [picture], texts)[:top]]


@torch.no_grad()
def rerank(run: Run, sim: Tensor, paths: list[Path], texts: list[str]) -> list[tuple[int, float, float]]:
    """The FIRST of many pictures for one text, or of many texts for one: number, similarity, match, the best first."""
    run.require("fusion", "match_head")
    best = sim.topk(min(FIRST, len(sim))).indices
    paths, texts = (some if len(some) == 1 else [some[i] for i in best] for some in (paths, texts))
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length, truncate=False)
    encoded = ranking.encode(run.model, torch.stack([run.transform(one) for one in paths]), tokens, keep)
    pairs = torch.cartesian_prod(torch.arange(len(paths)), torch.arange(len(texts))).to(run.device)
    odds = ranking.match_odds(run.model, encoded, *pairs.T)
    return [(int(best[i]), sim[best[i]].item(), odds[i].sigmoid().item()) for i in by_both(run, sim[best], odds)]


def by_both(run: Run, sim: Tensor, odds: Tensor) -> list[int]:
    """The order by ITM's log-odds and ITC's cosine together, the best first."""
    return (odds + weight(run) * sim / run.model.temperature).argsort(descending=True, stable=True).tolist()


def unknown_words(run: Run, sentence: str) -> list[str]:
    """Words of a sentence that are in no training caption, so that the model can't know them; none if unrecorded."""
    known = trained_words(run.path, run.config, CAPTIONS)
    if known is None:
        return []
    return [word for word in dict.fromkeys(clean(sentence).split()) if word not in known]


def describe(run: Run, sentence: str, hits: list[Hit]) -> str:
    """The hits in words: scores, captions, and a note on words that the model has never seen."""
    what = "the scene and its own caption" if hits[0].drawn else "the picture" if hits[0].path else "the text"
    lines = [f"{'match':>7} {'similarity':>11}  {what}"]
    lines += [f"{hit.match:7.2f} {hit.similarity:11.2f}  {hit.title}" for hit in hits]
    if unknown := unknown_words(run, sentence):
        lines.append(f"Note: no training caption says {', '.join(map(repr, unknown))}, so the model cannot know it.")
    return "\n".join(lines)


def figure(sentence: str, hits: list[Hit]) -> Plot:
    """The hits with their scores."""
    titles = [f"match {hit.match:.2f}, similarity {hit.similarity:.2f}\n{hit.title}" for hit in hits]
    return gallery([hit.picture for hit in hits], titles, f"“{sentence}”")
