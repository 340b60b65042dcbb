"""A trained model as you use it: `run = load("tiny")`, then similarity and match of pictures and texts."""
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.checkpoint import (
    fit_weights,
    open_run,
    part_of,
    require_trained,
    run_folder,
    untrained_parts,
    warn_unfinished,
    weights_file,
)
from minalbef.config import Config
from minalbef.data import Source, pictures_in, transform
from minalbef.evaluation import ranking
from minalbef.gradcam import relevance, text_map
from minalbef.layers import record_weights
from minalbef.metrics import progress
from minalbef.tasks.table import find_task
from minalbef.text import TextEncoder
from minalbef.tokenizer import Tokenizer
from minalbef.vision import ViT

ENCODERS = {"image_encoder": ViT, "text_encoder": TextEncoder}
Pictures = Source | Sequence[Source]
Texts = str | Sequence[str]
PICTURES = 32                         # whose keys and values fusion holds at a time; so many of ViT-B/16's take 0.3 GB
PAIRS = 1024                          # whose texts are encoded at a time


@dataclass
class Run:
    """A trained model, for sentences and pictures: paths, a folder, PIL's, uint8 arrays or tensors, or a batch of them.

    They are read a few at a time; quiet=False shows progress. What to rank by, with `tiny`'s R@1, image to text / text
    to image, of 500 scenes and of four with the same objects (means of three seeds, docs/results.md):
    - ITC, `similarity`: fast, reads some relations: 0.88 / 0.87 and 0.48 / 0.54
    - ITM, `match_probability` of ITC's ten best (top=10): slow, reads them: 0.89 / 0.90 and 0.86 / 0.92
    - both, added as in `recipes.search.by_both`: the best among many: 0.95 / 0.95 and 0.86 / 0.92
    """

    model: ALBEF
    tokenizer: Tokenizer
    config: Config
    path: Path
    task: str = "pretrain"
    absent: tuple[str, ...] = ()      # parts that its file does not have, left at random initialisation
    untrained: tuple[str, ...] = ()   # parts that its training left there, for want of a loss
    step: int | None = None           # after which the weights are, where training hasn't ended

    @property
    def device(self) -> torch.device:
        """Where the model is; `run.model.to("cuda")` moves it, and what it is asked goes there."""
        return self.model.temperature.device

    def transform(self, image: Source) -> Tensor:
        """Any picture (path, PIL, array) -> (3, s, s), as the model reads it: by config.upright."""
        return transform(image, self.config.image_size, self.config.upright)

    def require(self, *parts: str) -> None:
        """Raises ValueError if one of these parts is at random initialisation, so that answers would be noise."""
        require_trained(self.path, self.untrained, parts)
        if lacking := [part for part in parts if part in self.absent]:
            raise ValueError(f"{self.path} has no {' and no '.join(lacking)}: it came from a checkpoint of "
                             f"{self.task}, which lacks them; convert one of pretraining or retrieval")

    def _pixels(self, images: Pictures, quiet: bool) -> Iterator[Tensor]:
        """PICTURES at a time, opened only then: (<= PICTURES, 3, s, s)."""
        some = pictures_in(images)
        for first in progress(range(0, len(some), PICTURES), "pictures", quiet):
            yield torch.stack([self.transform(one) for one in some[first:first + PICTURES]]).to(self.device)

    def _tokens(self, text: Texts) -> tuple[Tensor, Tensor]:
        """Word pieces (t, l) and keep (t, l)."""
        if not (texts := [text] if isinstance(text, str) else list(text)):
            raise ValueError("no text; give at least one")
        tokens, keep = self.tokenizer.encode(texts, self.config.text_length, truncate=False)
        return tokens.to(self.device), keep.to(self.device)

    @torch.no_grad()
    def embed_images(self, image: Pictures, quiet: bool = True) -> Tensor:
        """Features in the shared space, of length 1, of pictures or of a folder's by name: -> (images, e)."""
        self.require("image_proj", "text_proj")
        return torch.cat([self.model.image_feature(self.model.encode_image(x)) for x in self._pixels(image, quiet)])

    @torch.no_grad()
    def embed_texts(self, text: Texts) -> Tensor:
        """Features of sentences in the shared space, of length 1: -> (texts, e)."""
        self.require("text_proj")
        features = []
        for tokens, keep in zip(*(x.split(PAIRS) for x in self._tokens(text))):
            features.append(self.model.text_feature(self.model.encode_text(tokens, keep), keep))
        return torch.cat(features)

    def similarity(self, image: Pictures, text: Texts, quiet: bool = True) -> Tensor:
        """Cosine of every picture and sentence in the shared space, as ITC learnt it: -> (images, texts)."""
        return self.embed_images(image, quiet) @ self.embed_texts(text).T

    @torch.no_grad()
    def match_probability(self, image: Pictures, text: Texts, quiet: bool = True, top: int | None = None) -> Tensor:
        """Probability that picture and sentence belong together, as ITM learnt it: -> (images, texts).

        top: read only so many texts of each picture, the most similar, as the paper re-ranks; all others get 0
        """
        self.require("fusion", "match_head")
        if top is not None and (not isinstance(top, int) or top < 1):
            raise ValueError(f"top={top!r} must be a whole number of at least 1, or None for all texts")
        (tokens, keep), odds, features = self._tokens(text), [], self.embed_texts(text) if top else None
        for x in self._pixels(image, quiet):
            seen = self.model.encode_image(x)
            wanted = torch.ones(len(x), len(tokens), dtype=torch.bool, device=self.device)
            if features is not None and top is not None:
                wanted = ranking.best(self.model.image_feature(seen) @ features.T, top)
            odds.append(torch.full(wanted.shape, -torch.inf, device=self.device))
            for t, i in zip(*(rows.split(PAIRS) for rows in wanted.T.nonzero(as_tuple=True))):   # text by text
                read, place = t.unique(return_inverse=True)
                encoded = ranking.Encoded(seen, self.model.encode_text(tokens[read], keep[read]), keep[read])
                odds[-1][i, t] = ranking.match_odds(self.model, encoded, i, place)
        return torch.cat(odds).sigmoid()

    @torch.no_grad()
    def match_pairs(self, image: Pictures, text: Texts, quiet: bool = True) -> Tensor:
        """`match_probability` of given pairs, the first picture with the first sentence and so on: -> (pairs,)."""
        self.require("fusion", "match_head")
        some, texts, odds = pictures_in(image), self._tokens(text), []
        if len(some) != len(texts[0]):
            raise ValueError(f"{len(some)} pictures and {len(texts[0])} texts are no pairs; give as many of each")
        for x, tokens, keep in zip(self._pixels(some, quiet), *(part.split(PICTURES) for part in texts)):
            encoded = ranking.Encoded(self.model.encode_image(x), self.model.encode_text(tokens, keep), keep)
            rows = torch.arange(len(x), device=self.device)
            odds.append(ranking.match_odds(self.model, encoded, rows, rows))
        return torch.cat(odds).sigmoid()

    def _pair(self, image: Source, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """One image (1, 3, s, s) and one text's tokens and keep (1, l). Raises ValueError for several."""
        (tokens, keep), images = self._tokens(text), pictures_in(image)
        if len(images) != 1 or len(tokens) != 1:
            raise ValueError(f"{len(images)} pictures and {len(tokens)} texts: a map is of one picture and one text; "
                             "ask for each pair")
        pixels, = self._pixels(images, True)
        return pixels, tokens, keep

    @torch.no_grad()
    def attention(self, image: Source, text: str) -> Tensor:
        """Cross-attention of [CLS] and every word piece over the patches: -> (layers, heads, pieces, g, g)."""
        self.require("fusion")
        pixels, tokens, keep = self._pair(image, text)
        with record_weights(self.model.fusion, "cross") as weights:
            self.model.fuse(self.model.encode_text(tokens, keep), keep, self.model.encode_image(pixels))
        return torch.cat(weights)[..., -self.config.grid ** 2:].unflatten(-1, (self.config.grid, -1))

    def explain(self, image: Source, text: str) -> Tensor:
        """Grad-CAM: which patches raise the match, by fusion's middle layer: -> (g, g)."""
        self.require("fusion", "match_head")
        pixels, tokens, keep = self._pair(image, text)
        maps = relevance(self.model, self.model.encode_image(pixels), self.model.encode_text(tokens, keep), keep,
                         layers=(self.config.fusion_depth - 1) // 2)
        return text_map(maps, keep)[0].unflatten(0, (self.config.grid, -1)).detach()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.task!r}, preset={self.config.name!r})"

    def summary(self) -> str:
        """What this model is, in a few lines."""
        encoders = {}
        for part, ours in ENCODERS.items():
            encoder = type(getattr(self.model, part))
            if encoder is not ours:
                encoders[part] = encoder.__name__
        return describe(self.path, self.config, self.task, dict(self.model.named_parameters()), encoders,
                        self.absent, self.untrained, self.step)


def describe(path: Path, config: Config, task: str, weights: Mapping[str, Tensor],
             encoders: Mapping[str, str],
             absent: Collection[str] = (), untrained: Collection[str] = (),
             step: int | None = None) -> str:
    """A model in a few lines: its parts, with their number of parameters.

    weights: by name, of an ALBEF or of a task's model. encoders: what stands in place of ours, by part
    absent, untrained: parts that its file lacks, and those that its training never reached
    step: where training hasn't ended, after which the weights are
    """
    counts: dict[str, int] = {}
    for name, value in weights.items():
        if part_of(name) not in absent:
            counts[part_of(name)] = counts.get(part_of(name), 0) + value.numel()
    layers = len({name.partition("fusion.layers.")[2].partition(".")[0] for name in weights
                  if "fusion.layers." in name})
    pixels = f"{config.image_size} x {config.image_size} pixels"
    known = {"image_encoder": f"{config.image_depth} layers of width {config.image_width}, {pixels} as "
                              f"{config.grid ** 2} patches",
             "text_encoder": f"{config.text_depth} layers of width {config.text_width}, "
                             f"{config.vocab_size} word pieces",
             "fusion": f"{layers} layers"}
    if "image_encoder" in encoders:
        known["image_encoder"] = f"{encoders['image_encoder']}, to tokens of width {config.image_width}; {pixels}"
    if "text_encoder" in encoders:
        known["text_encoder"] = (f"{encoders['text_encoder']}, to tokens of width {config.text_width}; "
                                 f"{config.vocab_size} word pieces")
    of_task = "" if task == "pretrain" else f", task {task}"
    lines = [f"ALBEF from {path}, preset {config.name}{of_task}: {sum(counts.values()) / 1e6:.2f}M parameters"]
    for part in [*known, *(name for name in ("decoder", "head") if name in counts)]:
        title = part.replace("_", " ")
        lines.append(f"  {title:13} {counts.get(part, 0) / 1e6:7.2f}M  {known.get(part, f'of {task}')}")
    if "image_proj" in counts:
        temperature, = (value for name, value in weights.items() if part_of(name) == "temperature")
        lines.append(f"  shared space of {config.embed_dim}; temperature {temperature.item():.3f}")
    if absent:
        lines.append(f"  the file has no {', '.join(sorted(absent))}, as is right for {task}")
    if untrained:
        lines.append(f"  its training never reached {', '.join(untrained)}, left at random initialisation")
    if step is not None:
        lines.append(f"  not trained to the end: weights after step {step:,} of {config.steps:,}")
    return "\n".join(lines)


def summary(path: str | Path) -> str:
    """What a run folder holds, of any task, also where `load` can't build it.

    Raises ValueError as `load` does, but for an encoder of your own, which is counted and not built.
    """
    path = run_folder(path)
    config, task, _, weights, step = open_run(path)
    row, untrained = find_task(task, path), untrained_parts(path)
    encoders = {}
    for part, kind in ENCODERS.items():
        with torch.device("meta"):
            ours = {f"{part}.{name}" for name in kind(config).state_dict()}
        names = {name.removeprefix("albef.") for name in weights if part_of(name) == part}
        if names - ours:
            encoders[part] = "an encoder of your own"
    if encoders:
        return describe(path, config, task, weights, encoders, (), untrained, step)
    absent = fit_weights(row.module(config).student, weights, weights_file(path, step), row.lacks)
    parts = {part_of(name) for name in absent}
    return describe(path, config, task, weights, {}, parts, untrained, step)


def load(path: str | Path, build: Callable[[Config], ALBEF] = ALBEF) -> Run:
    """Read a run folder, or "tiny", the shipped one: its model, of a task the task's ALBEF, on the CPU, to evaluate.

    Of a run whose training was stopped, or goes on, the weights are those of its last checkpoint: a
    warning in the log says of which step, as does `summary`.
    build: config -> an empty model, for one that is not `ALBEF(config)`, such as with another encoder
    Raises ValueError that says what is missing or damaged, and what to do.
    """
    path = run_folder(path)
    config, task, tokenizer, weights, step = open_run(path)
    row = find_task(task, path)
    if row.pairs:
        raise ValueError(f"{path} holds a model of pairs of pictures ({task}), which is no plain ALBEF; "
                         f"minalbef.tasks.table.load_model({task!r}, {str(path)!r}) gives it with its tokenizer")
    if any(name.startswith("albef.") for name in weights):
        weights = {name.removeprefix("albef."): value for name, value in weights.items() if name.startswith("albef.")}
    model = build(config)
    absent = fit_weights(model, weights, weights_file(path, step), row.lacks)
    warn_unfinished(path, config, step)
    parts = tuple({name.partition(".")[0] for name in absent})
    return Run(model.eval(), tokenizer, config, path, task, parts, untrained_parts(path), step)
