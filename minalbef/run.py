"""A trained model as you use it: `run = load("tiny")`, then similarity and match of pictures and texts."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.checkpoint import fit_weights, read_run, run_folder
from minalbef.config import Config
from minalbef.data import Source, open_image, transform
from minalbef.evaluation import ranking
from minalbef.tasks.base import entry
from minalbef.tokenizer import Tokenizer

PICTURES = 32                         # whose keys and values fusion holds at a time; so many of ViT-B/16's take 0.3 GB


@dataclass
class Run:
    """A trained model with all it needs to read pictures and sentences."""

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

    def _encode(self, image: Source | Sequence[Source], text: str | Sequence[str]) -> ranking.Encoded:
        images = image if isinstance(image, Sequence) and not isinstance(image, str) else [image]
        texts = [text] if isinstance(text, str) else list(text)
        if not images or not texts:
            raise ValueError(f"{len(images)} pictures and {len(texts)} texts; give at least one of each")
        tokens, keep = self.tokenizer.encode(texts, self.config.text_length, truncate=False)
        return ranking.encode(self.model, torch.stack([self.transform(one) for one in images]), tokens, keep)

    @torch.no_grad()
    def similarity(self, image: Source | Sequence[Source], text: str | Sequence[str]) -> Tensor:
        """Cosine of every picture and sentence in the shared space, as ITC learnt it: -> (images, texts)."""
        self._need("image_proj", "text_proj")
        return ranking.similarity(self.model, self._encode(image, text))[0]

    @torch.no_grad()
    def match_probability(self, image: Source | Sequence[Source], text: str | Sequence[str]) -> Tensor:
        """Probability that picture and sentence belong together, as ITM learnt it: -> (images, texts)."""
        self._need("match_head")
        encoded = self._encode(image, text)
        i, t = torch.cartesian_prod(torch.arange(len(encoded.image)), torch.arange(len(encoded.text))).to(self.device).T
        odds = ranking.match_odds(self.model, encoded, i, t, rows=PICTURES)
        return odds.sigmoid().reshape(len(encoded.image), -1)

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
    """Read a run folder, such as "runs/demo", or "tiny", the shipped one. The model, of a task its ALBEF, is on the CPU
    in evaluation mode.

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
