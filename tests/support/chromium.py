"""A headless Chromium for tests of pages: where it is, and how it starts."""
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minalbef import ALBEF, Run, load
from minalbef.viz.explorer import stored_weights

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
SIZES = {"desktop": (1400, 900), "phone": (390, 844)}


def lack(what: str, way: str) -> None:
    """Skip a test for want of something; where MINALBEF_CI is set, as .ci/run does, fail it. way: how to get it."""
    if os.environ.get("MINALBEF_CI"):
        pytest.fail(f"no {what}, and MINALBEF_CI is set; {way}", pytrace=False)
    pytest.skip(f"no {what}; {way}")


def keep(page, name: str) -> None:
    """A screenshot, for people to look at, where MINALBEF_SCREENSHOTS says."""
    if folder := os.environ.get("MINALBEF_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def round_as_stored(model: ALBEF) -> ALBEF:
    """The model with the weights that an explorer's page has of it, in place."""
    model.load_state_dict(stored_weights(model))
    return model


def stored_run(name: str) -> Run:
    """A shipped run with the weights that the explorer's page has of it."""
    run = load(name)
    round_as_stored(run.model)
    return run


def settle(page) -> None:
    """Wait until the answer to the last change is on the page: two frames, or more if slow."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.locator("#time:not(.busy)").wait_for()


@contextmanager
def explorers(browser) -> Iterator[Callable]:
    """-> open_explorer(address, size, **options): a page that has answered once; all are closed at the end.

    Then errors and messages of any page fail the test.
    """
    pages = []
    wrong = []

    def open_explorer(address: str, size: str, **options):
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.goto(address)
        page.locator("html[data-ready]").wait_for(timeout=120_000)
        pages.append(page)
        return page

    yield open_explorer
    for page in pages:
        page.close()
    assert not wrong
