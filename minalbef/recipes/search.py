"""Search for scenes, for images or for texts: ranked by similarity, the best re-ranked by ITM."""
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emojiscenes.scenes import Drawn, Scenes, paint
from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import Encoded
from minalbef.recipes.features import embed_folder
from minalbef.recipes.ranking import FIRST
from minalbef.recipes.report import similarity_weight
from minalbef.recipes.vocabulary import trained_words
from minalbef.scenes import questions
from minalbef.system.images import open_image
from minalbef.system.limits import printable
from minalbef.system.tokenizer import clean, excerpt
from minalbef.system.writing import restate
from minalbef.tasks.run import Run
from minalbef.viz.plots import Plot, gallery, shorten, wrap

LOG = logging.getLogger("minalbef")
CAPTIONS = 5000                       # of training: enough to contain every word of the grammar
SIDE = 144                            # pixels of an image in the figure
TITLE = 150                           # characters of a caption or path in the figure
COLUMN = 26                           # characters of a line of it
HEADING = 150                         # characters of the sentence in the figure
NAMES = 10                            # words that a note lists


@dataclass(frozen=True)
class Hit:
    """A search result: a scene, a file or a text.

    similarity: cosine
    match: ITM's probability; nan of a run that ranks by similarity alone
    score: by which hits are sorted, see `best_hits`
    title: the scene's caption, the file's path below the folder that was searched, or the text
    """

    similarity: float
    match: float
    score: float
    title: str
    example: Drawn | None = None
    path: Path | None = None

    @property
    def image(self) -> np.ndarray:
        """The scene painted, or the file's image: (SIDE, SIDE, 3)."""
        if self.path:
            return square(open_image(self.path))
        assert self.example
        return paint(self.example.scene, SIDE)


def square(image: Image.Image) -> np.ndarray:
    """An image on a white square: (SIDE, SIDE, 3)."""
    image = resize(image, SIDE)
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    sheet.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(sheet)


def resize(image: Image.Image, side: int) -> Image.Image:
    """An image with so many pixels on its longer side, and one at least on the other."""
    scale = side / max(image.size)
    width = max(1, round(scale * image.width))
    height = max(1, round(scale * image.height))
    return image.resize((width, height), Image.Resampling.BICUBIC)


@torch.no_grad()
def search(run: Run, sentence: str, scenes: int = 2000, top: int = 8) -> list[Hit]:
    """The `top` best of so many unseen scenes for a sentence, best first.

    They are ranked by ITM and similarity together, see `best_hits`.
    Raises ValueError for a sentence without words or with more than the model reads, and for a run
    that was trained on other data.
    """
    run.require("image_proj", "text_proj")
    questions.need_scenes(run.config, run.path)
    tokens, keep = run.tokenizer.encode([sentence], run.config.text_length, truncate=False)
    source = Scenes("test", size=run.config.image_size, objects=run.config.objects)
    examples = [source.draw(i) for i in range(scenes)]
    image_tokens = questions.image_tokens(run, [example.scene for example in examples])
    text = run.model.encode_text(tokens, keep)
    sim = ranking.similarity(run.model, Encoded(image_tokens, text, keep))[:, 0]  # (scenes,)
    return best_hits(run, sim, top, lambda numbers: Encoded(image_tokens[numbers], text, keep),
                     lambda i: {"title": examples[i].text, "example": examples[i]})


def search_images(run: Run, sentence: str, images: Path, top: int = 8) -> list[Hit]:
    """The `top` best images of a folder and its subfolders, as `search` ranks scenes.

    Those that can't be read are left out, with a warning.
    """
    folder, paths, features, broken = embed_folder(run, images)
    for reason in broken:
        LOG.warning("left out: %s", reason)
    return search_features(run, sentence, paths, features, folder, top)


def search_features(run: Run, sentence: str, paths: list[Path], features: Tensor, folder: Path,
                    top: int = 8) -> list[Hit]:
    """`search_images`, given the images' features (images, e), such as `embed_folder`'s."""
    sim = run.embed_texts(sentence)[0] @ features.to(run.device).T                # (images,)
    return best_hits(run, sim, top,
                     lambda numbers: encode(run, [paths[i] for i in numbers], [sentence]),
                     lambda i: {"title": paths[i].relative_to(folder).as_posix(),
                                "path": paths[i]})


def read_texts(file: Path) -> list[str]:
    """The texts of a file, one per line. Raises ValueError for a file that isn't text."""
    with restate(f"{file} cannot be read", "it must be text in UTF-8, one per line", OSError,
                 UnicodeDecodeError):
        lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip()]


def search_texts(run: Run, image: Path, texts: list[str], top: int = 8) -> list[Hit]:
    """The `top` best of your texts for an image, as `search` ranks scenes."""
    sim = run.similarity(image, texts)[0]                                         # (texts,)
    return best_hits(run, sim, top,
                     lambda numbers: encode(run, [image], [texts[i] for i in numbers]),
                     lambda i: {"title": texts[i]})


def encode(run: Run, paths: list[Path], texts: list[str]) -> Encoded:
    """Files and texts through their encoders."""
    tokens, keep = run.tokenizer.encode(texts, run.config.text_length, truncate=False)
    pixels = torch.stack([run.transform(path) for path in paths])
    return ranking.encode(run.model, pixels, tokens, keep)


@torch.no_grad()
def best_hits(run: Run, sim: Tensor, top: int, encode: Callable[[list[int]], Encoded],
              about: Callable[[int], dict[str, Any]]) -> list[Hit]:
    """The FIRST by similarity, best first by ITM's log-odds + a weight * cosine / temperature.

    The weight is the run's, see `similarity_weight`.
    sim: (n,) the query's cosine with each candidate
    encode: numbers of candidates -> these candidates and the query
    about: a candidate's number -> what else its Hit says
    """
    first = sim.topk(min(FIRST, len(sim))).indices
    weight = similarity_weight(run.path)
    both = sim[first] / run.model.mean_temperature
    match = torch.full_like(both, torch.nan)
    if math.isfinite(weight):
        run.require("fusion", "match_head")
        scores = ranking.score(run.model, encode(first.tolist())).over(run.model.mean_temperature)
        assert scores.itm is not None
        match = scores.itm.flatten().sigmoid()
        both = scores.both(weight).flatten()
    return [Hit(sim[first[row]].item(), match[row].item(), both[row].item(),
                **about(int(first[row])))
            for row in both.argsort(descending=True, stable=True)[:top].tolist()]


def unknown_words(run: Run, *texts: str) -> list[str]:
    """Words that occur in no training caption, so that the model can't know them.

    Empty if the training's words aren't recorded.
    """
    vocabulary = trained_words(run.path, run.config, CAPTIONS)
    if vocabulary is None:
        return []
    words = dict.fromkeys(" ".join(map(clean, texts)).split())
    return [word for word in words if word not in vocabulary]


def describe_hits(run: Run, query: str, hits: list[Hit]) -> str:
    """The hits in words: scores, titles, and a note on words that the model has never seen.

    query: the sentence; an image's path if the hits are texts
    """
    texts = [query]
    if hits[0].example:
        what = "the scene and its own caption"
    elif hits[0].path:
        what = "the image"
    else:
        what = "the text"
        texts = [hit.title for hit in hits]
    lines = [f"{'score':>7} {'match':>6} {'similarity':>11}  {what}"]
    for hit in hits:
        lines.append(f"{hit.score:7.2f} {hit.match:6.2f} {hit.similarity:11.2f}  "
                     f"{printable(hit.title)}")
    weight = similarity_weight(run.path)
    score = f"similarity / {run.model.mean_temperature.item():.3f}, the temperature"
    if math.isfinite(weight):
        score = f"the log-odds of match + {weight:g} x {score}"
    lines.append(f"Sorted by score: {score}. Only the {FIRST} most similar have one.")
    unknown = unknown_words(run, *texts)
    if unknown:
        names = ", ".join(map(excerpt, unknown[:NAMES]))
        if len(unknown) > NAMES:
            names += f" and {len(unknown) - NAMES} more words"
        lines.append(f"Note: no training caption says {names}, so the model cannot know it.")
    return "\n".join(lines)


def figure(sentence: str, hits: list[Hit], true: Sequence[bool] | None = None) -> Plot:
    """The hits with their scores, and by what they are ranked.

    true: of each hit, whether the sentence is true of it, for a green or a red frame
    """
    titles = []
    for hit in hits:
        name = shorten(printable(hit.title), TITLE)
        if hit.path:
            name = wrap(name, COLUMN)
        titles.append(f"score {hit.score:.1f}\n"
                      f"match {hit.match:.2f}, similarity {hit.similarity:.2f}\n{name}")
    heading = wrap(f"“{shorten(printable(sentence), HEADING)}”", HEADING // 2)
    if math.isnan(hits[0].match):
        heading += "\nranked by ITC"
    else:
        heading += f"\nranked by ITC, the best {FIRST} re-ranked by ITM and ITC"
    return gallery([hit.image for hit in hits], titles, heading, good=true)
