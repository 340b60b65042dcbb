"""minalbef: ALBEF (Align before Fuse, Li et al. 2021), minimal, faithful and fast.

Axes, everywhere: b batch, n image tokens, l words, d width, h heads, k keys, e shared space, v vocabulary.
"""
from minalbef import checks, losses
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
           "checks", "load", "load_original", "losses", "preset", "save"]
