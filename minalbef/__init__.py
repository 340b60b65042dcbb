"""minalbef: ALBEF (Align before Fuse, Li et al. 2021), minimal, faithful and fast.

Axes, everywhere: b batch, n image tokens, l words, d width, h heads, k keys, e shared space, v vocabulary.
"""
import importlib
from types import ModuleType

from minalbef import checks, losses, tasks
from minalbef.albef import ALBEF
from minalbef.checkpoint import save
from minalbef.config import Config
from minalbef.feature_queue import FeatureQueue
from minalbef.fusion import Fusion
from minalbef.layers import MLP, Attention
from minalbef.presets import preset
from minalbef.run import Run, load
from minalbef.text import TextEncoder
from minalbef.tokenizer import Tokenizer
from minalbef.vision import ViT
from minalbef.weights.original import load_original

__version__ = "0.1.0"
__all__ = ["ALBEF", "MLP", "Attention", "Config", "FeatureQueue", "Fusion", "Run", "TextEncoder", "Tokenizer", "ViT",
           "checks", "datasets", "load", "load_original", "losses", "preset", "recipes", "save", "scenes", "tasks",
           "viz"]


def __getattr__(name: str) -> ModuleType:
    """The rooms beside the library, once you name them: they take longer to load."""
    if name in ("datasets", "recipes", "scenes", "viz"):
        return importlib.import_module(f"minalbef.{name}")
    raise AttributeError(f"module 'minalbef' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
