"""minalbef: ALBEF (Align before Fuse, Li et al. 2021), minimal, faithful and fast.

Axes, everywhere: b batch, n image tokens, l words, d width, h heads, k keys, e shared space, v vocabulary.
"""
import lazy_loader

__version__ = "0.1.0"
# the names of __init__.pyi, each imported when it is first used: torch alone takes more than a second
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
