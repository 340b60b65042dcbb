"""Search for scenes, for pictures or for texts: ranked by similarity, the best re-ranked by ITM."""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emojiscenes.scenes import Drawn, Scenes, paint
from minalbef.config import printable
from minalbef.data import list_images, open_image
from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import Encoded
from minalbef.recipes.report import similarity_weight
from minalbef.recipes.vocabulary import trained_words
from minalbef.run import Run
from minalbef.scenes import questions
from minalbef.tokenizer import clean, excerpt
from minalbef.viz.plots import Plot, gallery, shorten, wrap

FIRST = 32                            # the best by similarity, which fusion, far slower, re-ranks
CAPTIONS = 5000                       # of training: enough that every word of the grammar is among them
SIDE = 144                            # pixels of a scene in the figure
TITLE, COLUMN = 150, 26               # letters of a caption or path there, and of its lines
HEADING = 150                         # and of the sentence
NAMED = 10                            # words that a note names

Ranked = tuple[int, list[float]]      # of a hit its number, and similarity, match and score


@dataclass(frozen=True)
class Hit:
    """What was found: a scene, a file or a text.

    similarity: cosine. match: probability. score: by which hits are sorted, see `scores`
    title: the scene's caption, the file's path in the folder that was searched, or the text
    """

    similarity: float
    match: float
    score: float
    title: str
    drawn: Drawn | None = None
    path: Path | None = None

    @property
    def picture(self) -> np.ndarray:
        return square(open_image(self.path)) if self.path else paint(self.drawn.scene, SIDE)


def square(image: Image.Image) -> np.ndarray:
    """A picture on a white square: (SIDE, SIDE, 3). A side keeps a pixel, however narrow it is."""
    scale = SIDE / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC),
                ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(sheet)


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
    ranked = by_both(run, sim, best, odds)[:top]
    return [Hit(*figures, drawn[i].text, drawn[i]) for i, figures in ranked]


def search_images(run: Run, sentence: str, images: Path, top: int = 8) -> list[Hit]:
    """The `top` best pictures of a folder and its subfolders, as `search` ranks scenes."""
    paths: list[Path] = list_images(images)
    features = run.embed_images(paths, quiet=False)
    return search_features(run, sentence, paths, features, images, top)


def search_features(run: Run, sentence: str, paths: list[Path], features: Tensor, folder: Path,
                    top: int = 8) -> list[Hit]:
    """`search_images` where the pictures' features (images, e) are known, as from an index."""
    sim = run.embed_texts(sentence)[0] @ features.to(run.device).T                # (images,)
    ranked = rerank(run, sim, paths, [sentence])[:top]
    return [Hit(*figures, paths[i].relative_to(folder).as_posix(), path=paths[i])
            for i, figures in ranked]


def search_texts(run: Run, picture: Path, texts: list[str], top: int = 8) -> list[Hit]:
    """The `top` best of your texts for a picture, as `search` ranks scenes."""
    sim = run.similarity(picture, texts)[0]                                       # (texts,)
    return [Hit(*figures, texts[i]) for i, figures in rerank(run, sim, [picture], texts)[:top]]


@torch.no_grad()
def rerank(run: Run, sim: Tensor, paths: list[Path], texts: list[str]) -> list[Ranked]:
    """The FIRST of many pictures for one text, or of many texts for one, by `by_both`."""
    run.require("fusion", "match_head")
    best = sim.topk(min(FIRST, len(sim))).indices
    paths, texts = (some if len(some) == 1 else [some[i] for i in best] for some in (paths, texts))
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length, truncate=False)
    encoded = ranking.encode(run.model, torch.stack([run.transform(one) for one in paths]), tokens, keep)
    pairs = torch.cartesian_prod(torch.arange(len(paths)), torch.arange(len(texts))).to(run.device)
    odds = ranking.match_odds(run.model, encoded, *pairs.T)
    return by_both(run, sim, best, odds)


def scores(run: Run, sim: Tensor, odds: Tensor) -> Tensor:
    """What hits are sorted by: ITM's log-odds + the run's weight * cosine / temperature."""
    return odds + similarity_weight(run.path) * sim / run.model.temperature


def by_both(run: Run, sim: Tensor, best: Tensor, odds: Tensor) -> list[Ranked]:
    """Those of sim (n,) whose numbers are `best` (k,), sorted by `scores`, the best first.

    odds: (k,), ITM's  ->  number, and similarity, match and score, of each
    """
    both = scores(run, sim[best], odds)
    figures = torch.stack([sim[best], odds.sigmoid(), both], 1)                   # (k, 3)
    order = both.argsort(descending=True, stable=True)
    return list(zip(best[order].tolist(), figures[order].tolist()))


def unknown_words(run: Run, *texts: str) -> list[str]:
    """Words of texts that are in no training caption, so that the model can't know them.

    None where they aren't recorded.
    """
    known = trained_words(run.path, run.config, CAPTIONS)
    if known is None:
        return []
    words = dict.fromkeys(word for text in texts for word in clean(text).split())
    return [word for word in words if word not in known]


def describe(run: Run, sentence: str, hits: list[Hit]) -> str:
    """The hits in words: scores, captions, and a note on words that the model has never seen.

    sentence: that was searched for; a picture's path where the hits are texts
    """
    what, asked = "the text", [hit.title for hit in hits]
    if hits[0].drawn or hits[0].path:
        what = "the scene and its own caption" if hits[0].drawn else "the picture"
        asked = [sentence]
    lines = [f"{'score':>7} {'match':>6} {'similarity':>11}  {what}"]
    lines += [f"{hit.score:7.2f} {hit.match:6.2f} {hit.similarity:11.2f}  {printable(hit.title)}"
              for hit in hits]
    lines.append(f"Sorted by score: the log-odds of match + {similarity_weight(run.path):g} x similarity / "
                 f"{run.model.temperature.item():.3f}, the temperature. "
                 f"Only the {FIRST} most similar have one.")
    if unknown := unknown_words(run, *asked):
        named = ", ".join(map(excerpt, unknown[:NAMED]))
        more = f" and {len(unknown) - NAMED} more words" if len(unknown) > NAMED else ""
        lines.append(f"Note: no training caption says {named}{more}, so the model cannot know it.")
    return "\n".join(lines)


def figure(sentence: str, hits: list[Hit]) -> Plot:
    """The hits with their scores."""
    titles = []
    for hit in hits:
        name = shorten(printable(hit.title), TITLE)
        titles.append(f"score {hit.score:.1f}\n"
                      f"match {hit.match:.2f}, similarity {hit.similarity:.2f}\n"
                      f"{wrap(name, COLUMN) if hit.path else name}")
    heading = wrap(f"“{shorten(printable(sentence), HEADING)}”", HEADING // 2)
    return gallery([hit.picture for hit in hits], titles, heading)
