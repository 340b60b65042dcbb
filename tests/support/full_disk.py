"""A disk that is full, as far as a process can tell."""

import contextlib

import pytest


@contextlib.contextmanager
def files_end_at(size: int):
    """No file may grow beyond `size` bytes: the kernel refuses, as it does on a full disk.

    Windows has no such limit, and the test is skipped there.
    """
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
