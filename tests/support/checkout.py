"""Where a checkout's two packages lie, for processes that tests start."""

import os
from pathlib import Path


def python_path(root: Path) -> str:
    """PYTHONPATH under which a process takes minalbef and emojiscenes from this checkout."""
    return os.pathsep.join((str(root), str(root / "data")))
