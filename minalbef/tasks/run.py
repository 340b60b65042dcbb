"""A trained model to use: `run = load("tiny")`, then similarity and match of images and texts."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.data import transform
from minalbef.evaluation import ranking
from minalbef.evaluation.gradcam import relevance, text_map
from minalbef.layers import record_weights
from minalbef.system.checkpoint import (
    fit_weights,
    open_run,
    part_of,
    require_trained,
    run_folder,
    untrained_parts,
    warn_unfinished,
)
from minalbef.system.images import Source, list_images
from minalbef.system.metrics import progress
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.table import find_task
from minalbef.text import TextEncoder
from minalbef.vision import ViT

Images = Source | Sequence[Source]
Texts = str | Sequence[str]
IMAGE_CHUNK = 32                      # images at a time: 0.3 GB of keys and values for ViT-B/16
TEXT_CHUNK = 1024                     # texts encoded at a time


@dataclass
class Run:
    """A trained model, and what it says of images and texts.

    Images: paths, a folder, PIL images, uint8 arrays or tensors, or a batch of them, which are read
    a few at a time; quiet=False shows progress. What to rank by, with `tiny`'s R@1, image to text /
    text to image, of 500 scenes and of four with the same objects (means of five seeds,
    docs/results.md):
    - ITC, `similarity`: fast, but misses relations: 0.88 / 0.88 and 0.49 / 0.55
    - ITM, `match_probability` of ITC's ten best (top=10): slow: 0.89 / 0.91 and 0.86 / 0.93
    - both, added as in `recipes.search`: the best of many: 0.95 / 0.95 and 0.86 / 0.92
    """

    model: ALBEF
    tokenizer: Tokenizer
    config: Config
    path: Path
    task: str = "pretrain"
    absent: tuple[str, ...] = ()      # parts that the file lacks, left at random initialisation
    untrained: tuple[str, ...] = ()   # parts that no loss of its training reached
    step: int | None = None           # of the weights, if training hasn't ended

    @property
    def device(self) -> torch.device:
        """The model's device; `run.model.to("cuda")` moves it, and inputs follow."""
        return self.model.device

    def transform(self, image: Source) -> Tensor:
        """An image (path, PIL, array) -> (3, s, s), the model's input; see config.upright."""
        return transform(image, self.config.image_size, self.config.upright)

    def require(self, *parts: str) -> None:
        """Raises ValueError if one of these parts is at random initialisation."""
        require_trained(self.path, self.untrained, parts)
        missing = [part for part in parts if part in self.absent]
        if missing:
            raise ValueError(f"{self.path} has no {' and no '.join(missing)}: it came from a "
                             f"checkpoint of {self.task}, which lacks them; convert one of "
                             "pretraining or retrieval")

    def _pixels(self, images: Images, quiet: bool) -> Iterator[Tensor]:
        """IMAGE_CHUNK images at a time, opened only then: (<= IMAGE_CHUNK, 3, s, s)."""
        sources = list_images(images)
        for first in progress(range(0, len(sources), IMAGE_CHUNK), "images", quiet):
            chunk = sources[first:first + IMAGE_CHUNK]
            yield torch.stack([self.transform(image) for image in chunk]).to(self.device)

    def _tokens(self, text: Texts) -> tuple[Tensor, Tensor]:
        """-> tokens (t, l) and keep (t, l)."""
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("no text; give at least one")
        tokens, keep = self.tokenizer.encode(texts, self.config.text_length, truncate=False)
        return tokens.to(self.device), keep.to(self.device)

    @torch.no_grad()
    def embed_images(self, image: Images, quiet: bool = True) -> Tensor:
        """Unit vectors in the shared space: -> (images, e); a folder's images by path."""
        self.require("image_proj", "text_proj")
        features = []
        for pixels in self._pixels(image, quiet):
            features.append(self.model.image_feature(self.model.encode_image(pixels)))
        return torch.cat(features)

    @torch.no_grad()
    def embed_texts(self, text: Texts) -> Tensor:
        """Unit vectors in the shared space: -> (texts, e)."""
        self.require("text_proj")
        tokens, keep = self._tokens(text)
        features = []
        for chunk in zip(tokens.split(TEXT_CHUNK), keep.split(TEXT_CHUNK)):
            text_tokens, mask = ranking.encode_texts(self.model, *chunk)
            features.append(self.model.text_feature(text_tokens, mask))
        return torch.cat(features)               # a text's tokens are 30 times as large

    def similarity(self, image: Images, text: Texts, quiet: bool = True) -> Tensor:
        """Cosine similarity of each image and text in ITC's shared space: -> (images, texts)."""
        return self.embed_images(image, quiet) @ self.embed_texts(text).T

    @torch.no_grad()
    def match_probability(self, image: Images, text: Texts, quiet: bool = True,
                          top: int | None = None) -> Tensor:
        """ITM's probability that image and text match: -> (images, texts).

        top: score the most similar texts of each image alone, as the paper re-ranks; others get 0
        """
        self.require("fusion", "match_head")
        if top is not None and (not isinstance(top, int) or top < 1):
            raise ValueError(f"top={top!r} must be a whole number of at least 1, "
                             "or None for all texts")
        tokens, keep = self._tokens(text)
        text_tokens, keep = ranking.encode_texts(self.model, tokens, keep)
        if top is not None:
            self.require("image_proj", "text_proj")
            text_features = self.model.text_feature(text_tokens, keep)
        probabilities = []
        for pixels in self._pixels(image, quiet):
            image_tokens = self.model.encode_image(pixels)
            pairs = torch.ones(len(pixels), len(tokens), dtype=torch.bool, device=self.device)
            if top is not None:
                pairs = ranking.best(self.model.image_feature(image_tokens) @ text_features.T, top)
            images, texts = pairs.nonzero(as_tuple=True)
            encoded = ranking.Encoded(image_tokens, text_tokens, keep)
            odds = torch.full(pairs.shape, -torch.inf, device=self.device)
            odds[images, texts] = ranking.match_odds(self.model, encoded, images, texts)
            probabilities.append(odds.sigmoid())
        return torch.cat(probabilities)

    @torch.no_grad()
    def match_pairs(self, image: Images, text: Texts, quiet: bool = True) -> Tensor:
        """`match_probability` of each image with the text at its index: -> (pairs,)."""
        self.require("fusion", "match_head")
        images, tokens, keep = self._pairs(image, text)
        odds = []
        chunks = zip(tokens.split(IMAGE_CHUNK), keep.split(IMAGE_CHUNK))
        for pixels, (chunk, mask) in zip(self._pixels(images, quiet), chunks):
            image_tokens = self.model.encode_image(pixels)
            encoded = ranking.Encoded(image_tokens, self.model.encode_text(chunk, mask), mask)
            rows = torch.arange(len(pixels), device=self.device)
            odds.append(ranking.match_odds(self.model, encoded, rows, rows))
        return torch.cat(odds).sigmoid()

    def _pairs(self, image: Images, text: Texts, most: int | None = None
               ) -> tuple[Sequence[Source], Tensor, Tensor]:
        """Images, tokens and keep (t, l). Raises ValueError for unequal or too large numbers."""
        images = list_images(image)
        tokens, keep = self._tokens(text)
        if len(images) != len(tokens) or len(images) > (most or len(images)):
            rule = "a map needs one image and one text" if most else "give as many of each"
            raise ValueError(f"{len(images)} images and {len(tokens)} texts: {rule}")
        return images, tokens, keep

    @torch.no_grad()
    def attention(self, image: Source, text: str) -> Tensor:
        """Cross-attention from [CLS] and each word piece to the patches.

        -> (layers, heads, pieces, g, g)
        """
        self.require("fusion")
        images, tokens, keep = self._pairs(image, text, most=1)
        pixels, = self._pixels(images, quiet=True)
        with record_weights(self.model.fusion, "cross") as weights:
            text_tokens = self.model.encode_text(tokens, keep)
            self.model.fuse(text_tokens, keep, self.model.encode_image(pixels))
        grid = self.config.grid
        return torch.cat(weights)[..., -grid ** 2:].unflatten(-1, (grid, -1))

    def explain(self, image: Source, text: str) -> Tensor:
        """Grad-CAM: which patches raise the match, by fusion's middle layer: -> (g, g)."""
        self.require("fusion", "match_head")
        images, tokens, keep = self._pairs(image, text, most=1)
        pixels, = self._pixels(images, quiet=True)
        image_tokens = self.model.encode_image(pixels)
        text_tokens = self.model.encode_text(tokens, keep)
        middle = (self.config.fusion_depth - 1) // 2
        maps = relevance(self.model, image_tokens, text_tokens, keep, layers=middle)
        return text_map(maps, keep)[0].unflatten(0, (self.config.grid, -1)).detach()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, task={self.task!r}, preset={self.config.name!r})"

    def __str__(self) -> str:
        """The model in a few lines: its parts, with their number of parameters."""
        config = self.config
        counts: dict[str, int] = {}
        for name, value in self.model.named_parameters():
            if part_of(name) not in self.absent:
                counts[part_of(name)] = counts.get(part_of(name), 0) + value.numel()
        total = sum(counts.values()) / 1e6
        of_task = "" if self.task == "pretrain" else f", task {self.task}"
        pixels = f"{config.image_size} x {config.image_size} pixels"
        pieces = f"{config.vocab_size} word pieces"
        image = (f"{config.image_depth} layers of width {config.image_width}, {pixels} as "
                 f"{config.grid ** 2} patches")
        text = f"{config.text_depth} layers of width {config.text_width}, {pieces}"
        image_encoder = type(self.model.image_encoder)
        text_encoder = type(self.model.text_encoder)
        if image_encoder is not ViT:
            image = f"{image_encoder.__name__}, to tokens of width {config.image_width}; {pixels}"
        if text_encoder is not TextEncoder:
            text = f"{text_encoder.__name__}, to tokens of width {config.text_width}; {pieces}"
        parts = {"image_encoder": image, "text_encoder": text,
                 "fusion": f"{config.fusion_depth} layers"}
        lines = [f"ALBEF from {self.path}, preset {config.name}{of_task}: {total:.2f}M parameters"]
        for part, words in parts.items():
            title = part.replace("_", " ")
            lines.append(f"  {title:13} {counts.get(part, 0) / 1e6:7.2f}M  {words}")
        lines.append(f"  shared space of {config.embed_dim}; "
                     f"temperature {self.model.mean_temperature.item():.3f}")
        if self.absent:
            lines.append(f"  the file has no {', '.join(sorted(self.absent))}, as is right for "
                         f"{self.task}")
        if self.untrained:
            lines.append(f"  its training never reached {', '.join(self.untrained)}, left at "
                         "random initialisation")
        if self.step is not None:
            lines.append("  not trained to the end: "
                         f"weights after step {self.step:,} of {config.steps:,}")
        return "\n".join(lines)


def load(path: str | Path, build: Callable[[Config], ALBEF] = ALBEF) -> Run:
    """Read a run folder, or "tiny", the shipped one: its ALBEF, on the CPU, in evaluation mode.

    If training was stopped or still goes on, the weights are those of the last checkpoint: a
    warning in the log names its step, as `print(run)` does.
    build: config -> an untrained model, if it isn't `ALBEF(config)`, such as for another encoder
    Raises ValueError that says what is missing or damaged, and what to do.
    """
    path = run_folder(path)
    config, task, tokenizer, weights, step = open_run(path)
    entry = find_task(task, path)
    if entry.pairs:
        raise ValueError(f"{path} holds a model of pairs of images ({task}), which is not a plain "
                         f"ALBEF; minalbef.tasks.table.load_model({task!r}, {str(path)!r}) gives "
                         "it with its tokenizer")
    albef = {}
    for name, value in weights.items():
        if name.startswith("albef."):
            albef[name.removeprefix("albef.")] = value
    model = build(config)
    absent = fit_weights(model, albef or weights, path, entry.lacks)
    warn_unfinished(path, config, step)
    parts = tuple({name.partition(".")[0] for name in absent})
    untrained = untrained_parts(path)
    return Run(model.eval(), tokenizer, config, path, task, parts, untrained, step)
