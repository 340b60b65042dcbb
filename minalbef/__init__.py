"""minalbef: ALBEF (Align before Fuse, Li et al. 2021), minimal, faithful and fast.

Axes, everywhere: b batch, n image tokens, l words, d width, h heads, k keys, e shared space,
v vocabulary.
"""
import sys
from types import ModuleType
from typing import Any

import lazy_loader

__version__ = "0.1.0"
# The names of __init__.pyi, each imported when it is first used: torch alone takes over a second.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A name of __init__.pyi; any other raises AttributeError, which suggests the nearest one."""
    if name in __all__ or name.startswith("__"):
        return _load(name)
    from minalbef.system.limits import nearest
    raise AttributeError(f"minalbef has no {name!r}{nearest(name, __all__)}; "
                         "dir(minalbef) lists what it has")


class _Package(ModuleType):
    """`minalbef.pretrain` is the function; its file's classes are imported from the file."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets an imported file as an attribute: not where a function has its name
        if not (isinstance(value, ModuleType) and name == "pretrain"):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
