"""What the null GPU counts, for a process that runs on it."""
import ctypes
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARY = ctypes.CDLL("libnullgpu.so")
PACKAGE = Path(__file__).parents[2] / "minalbef"
FIELDS = ("kernels", "triton", "products", "cudnn", "cudnn_plans", "graphs", "collectives",
          "to_gpu", "from_gpu", "within_gpu", "memsets",
          "bytes_to_gpu", "bytes_from_gpu", "bytes_within_gpu",
          "waits")


class Counts(ctypes.Structure):
    """`nullgpu_counts` of nullgpu.c: the fields are the same, in the same order."""

    _fields_ = [(name, ctypes.c_long) for name in FIELDS]


COUNTS = Counts.in_dll(LIBRARY, "nullgpu_counts")
ON_WAIT = ctypes.c_void_p.in_dll(LIBRARY, "nullgpu_on_wait")


def place() -> str:
    """The package's line that is running, as file:line; else torch's."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    inner = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if not (inner or frames):
        return "a thread of torch's"
    frame = (inner or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


@contextmanager
def count() -> Iterator[dict]:
    """Counts by name of what runs meanwhile, and as "wait_lines" the lines that wait."""
    result: dict = {}
    lines: Counter[str] = Counter()
    note = ctypes.CFUNCTYPE(None)(lambda: lines.update([place()]))
    before = [getattr(COUNTS, name) for name in FIELDS]
    ON_WAIT.value = ctypes.cast(note, ctypes.c_void_p).value
    try:
        yield result
    finally:
        ON_WAIT.value = None
        for name, value in zip(FIELDS, before):
            result[name] = getattr(COUNTS, name) - value
        result["wait_lines"] = dict(lines)
