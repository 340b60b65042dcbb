"""A headless Chromium for tests of pages: where it is, and how it starts."""
import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def lack(what: str, way: str) -> None:
    """Skip a test for want of something; where MINALBEF_CI is set, as .ci/run does, fail it. way: how to get it."""
    if os.environ.get("MINALBEF_CI"):
        pytest.fail(f"no {what}, and MINALBEF_CI is set; {way}", pytrace=False)
    pytest.skip(f"no {what}; {way}")


def keep(page, name: str) -> None:
    """A screenshot, for people to look at, where MINALBEF_SCREENSHOTS says."""
    if folder := os.environ.get("MINALBEF_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
