"""A trained model as you use it: `run = load("tiny")`, then similarity and match of pictures and texts."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.checkpoint import fit_weights, read_run, run_folder
from minalbef.config import Config
from minalbef.data import Source, open_image, pictures_in, transform
from minalbef.evaluation import ranking
from minalbef.gradcam import relevance, text_map
from minalbef.layers import record_weights
from minalbef.metrics import progress
from minalbef.tasks.base import entry
from minalbef.tokenizer import Tokenizer

Pictures = Source | Sequence[Source]
Texts = str | Sequence[str]
PICTURES = 32                         # whose keys and values fusion holds at a time; so many of ViT-B/16's take 0.3 GB


@dataclass
class Run:
    """A trained model, for pictures (paths, PIL pictures, arrays, a folder) and sentences; quiet=False shows progress.

    Rank many by `similarity`, and the best again by `match_probability`, which is slower and reads relations.
    """

    model: ALBEF
    tokenizer: Tokenizer
    config: Config
    path: Path
    task: str = "pretrain"
    absent: tuple[str, ...] = ()      # parts that its file does not have, left at random initialisation

    @property
    def device(self) -> torch.device:
        """Where the model is; `run.model.to("cuda")` moves it, and what it is asked goes there."""
        return self.model.temperature.device

    def transform(self, image: Source) -> Tensor:
        """Any picture (path, PIL, array) -> (3, s, s), as the model reads it."""
        return transform(open_image(image), self.config.image_size)

    def _need(self, *parts: str) -> None:
        if lacking := [part for part in parts if part in self.absent]:
            raise ValueError(f"{self.path} has no {' and no '.join(lacking)}: it came from a checkpoint of "
                             f"{self.task}, which lacks them; convert one of pretraining or retrieval")

    def _pixels(self, images: Pictures, quiet: bool) -> Iterator[Tensor]:
        """PICTURES at a time, opened only then: (<= PICTURES, 3, s, s)."""
        some = pictures_in(images)
        for first in progress(range(0, len(some), PICTURES), "pictures", quiet):
            yield torch.stack([self.transform(one) for one in some[first:first + PICTURES]]).to(self.device)

    def _read(self, text: Texts) -> tuple[Tensor, Tensor]:
        """Text tokens (t, l, d) and keep (t, l)."""
        if not (texts := [text] if isinstance(text, str) else list(text)):
            raise ValueError("no text; give at least one")
        tokens, keep = (x.to(self.device) for x in self.tokenizer.encode(texts, self.config.text_length, False))
        return torch.cat([self.model.encode_text(*part) for part in zip(tokens.split(128), keep.split(128))]), keep

    @torch.no_grad()
    def embed_images(self, image: Pictures, quiet: bool = True) -> Tensor:
        """Features in the shared space, of length 1, of pictures or of a folder's by name: -> (images, e)."""
        self._need("image_proj", "text_proj")
        return torch.cat([self.model.image_feature(self.model.encode_image(x)) for x in self._pixels(image, quiet)])

    @torch.no_grad()
    def embed_texts(self, text: Texts) -> Tensor:
        """Features of sentences in the shared space, of length 1: -> (texts, e)."""
        self._need("text_proj")
        return self.model.text_feature(self._read(text)[0])

    def similarity(self, image: Pictures, text: Texts, quiet: bool = True) -> Tensor:
        """Cosine of every picture and sentence in the shared space, as ITC learnt it: -> (images, texts)."""
        return self.embed_images(image, quiet) @ self.embed_texts(text).T

    @torch.no_grad()
    def match_probability(self, image: Pictures, text: Texts, quiet: bool = True) -> Tensor:
        """Probability that picture and sentence belong together, as ITM learnt it: -> (images, texts)."""
        self._need("match_head")
        (read, keep), odds = self._read(text), []
        for x in self._pixels(image, quiet):
            encoded = ranking.Encoded(self.model.encode_image(x), read, keep)
            i, t = torch.cartesian_prod(torch.arange(len(x)), torch.arange(len(read))).to(self.device).T
            odds.append(ranking.match_odds(self.model, encoded, i, t).view(len(x), -1))
        return torch.cat(odds).sigmoid()

    @torch.no_grad()
    def attention(self, image: Source, text: str) -> Tensor:
        """Cross-attention of [CLS] and every word piece over the patches: -> (layers, heads, pieces, g, g)."""
        (pixels,), (read, keep) = self._pixels(image, True), self._read(text)
        with record_weights(self.model.fusion, "cross") as weights:
            self.model.fuse(read, keep, self.model.encode_image(pixels))
        return torch.cat(weights)[..., -self.config.grid ** 2:].unflatten(-1, (self.config.grid, -1))

    def explain(self, image: Source, text: str) -> Tensor:
        """Grad-CAM: which patches speak for a match, by fusion's middle layer: -> (g, g)."""
        (pixels,), (read, keep) = self._pixels(image, True), self._read(text)
        maps = relevance(self.model, self.model.encode_image(pixels), read, keep,
                         layers=(self.config.fusion_depth - 1) // 2)
        return text_map(maps, keep)[0].unflatten(0, (self.config.grid, -1)).detach()

    def summary(self) -> str:
        """What this model is, in a few lines."""
        c, m = self.config, self.model
        def millions(*parts: nn.Module) -> str:
            return f"{sum(p.numel() for part in parts for p in part.parameters()) / 1e6:7.2f}M"
        lines = [
            f"ALBEF from {self.path}, preset {c.name}: {millions(m).strip()} parameters",
            f"  image encoder {millions(m.image_encoder)}  {c.image_depth} layers of width {c.image_width}, "
            f"{c.image_size} x {c.image_size} pixels as {c.grid ** 2} patches",
            f"  text encoder  {millions(m.text_encoder)}  {c.text_depth} layers of width {c.text_width}, "
            f"{c.vocab_size} word pieces",
            f"  fusion        {millions(m.fusion)}  {c.fusion_depth} layers",
            f"  shared space of {c.embed_dim}; temperature {m.temperature.item():.3f}"]
        if self.absent:
            lines.append(f"  the file has no {', '.join(sorted(self.absent))}, as is right for {self.task}")
        return "\n".join(lines)


def load(path: str | Path, build: Callable[[Config], ALBEF] = ALBEF) -> Run:
    """Read a run folder, or "tiny", the shipped one: its model, of a task the task's ALBEF, on the CPU, to evaluate.

    build: config -> an empty model, for one that is not `ALBEF(config)`, such as with another image encoder
    Raises ValueError that says what is missing or damaged, and what to do.
    """
    path = run_folder(path)
    config, task, tokenizer, weights = read_run(path)
    row = entry(task, path)
    if row.pairs:
        raise ValueError(f"{path} holds a model of pairs of pictures ({task}), which is no plain ALBEF; "
                         "build minalbef.tasks.nlvr2's model and give it the weights of minalbef.checkpoint.read_run")
    if any(name.startswith("albef.") for name in weights):
        weights = {name.removeprefix("albef."): value for name, value in weights.items() if name.startswith("albef.")}
    model = build(config)
    absent = fit_weights(model, weights, path / "model.safetensors", row.lacks)
    return Run(model.eval(), tokenizer, config, path, task, tuple({name.partition(".")[0] for name in absent}))
