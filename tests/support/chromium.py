"""A headless Chromium for tests of pages: where it is, how it starts, and what a page and a model answer."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from emojiscenes.scenes import Scenes
from minalbef import ALBEF, Run, load
from minalbef.viz.explorer import stored_weights

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
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


def draw_pairs(run: Run, count: int) -> tuple[list[np.ndarray], list[str]]:
    """Images of test scenes and captions, half of them another scene's."""
    source = Scenes("test", objects=run.config.objects)
    scenes = [source.draw(i) for i in range(count)]
    texts = [scenes[(i + i % 2) % count].text for i in range(count)]
    return [source.picture(scene) for scene in scenes], texts


def answers(run: Run, images: list[np.ndarray], texts: list[str]) -> Tensor:
    """A run's similarity and match of pairs: (count, 2)."""
    similarity = run.similarity(images, texts).diagonal()
    return torch.stack([similarity, run.match_pairs(images, texts)], 1)


def asked(page) -> tuple[np.ndarray, str]:
    """What the page's model is asked now: the image's pixels, and the sentence."""
    pixels = page.evaluate("[...explorer.painter.paint(explorer.scene)]")
    text = page.locator("#text").input_value()
    return np.array(pixels, np.uint8).reshape(48, 48, 3), text


def number(page, selector: str) -> float:
    """A figure on the page; of "< .001" the bound."""
    return float(page.locator(selector).inner_text().strip("<> "))


def open_details(page) -> None:
    """Unfold all that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def settle(page) -> None:
    """Wait until the answer to the last change is on the page: two frames, or more if slow."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.locator("#time:not(.busy)").wait_for()


@contextmanager
def explorers(browser) -> Iterator[Callable]:
    """-> open_explorer(address, size, **options): a page that has answered once; all are closed at the end.

    Then errors, messages and requests of any page fail the test.
    """
    pages = []
    wrong = []

    def note_request(address: str) -> None:
        if not address.startswith(("file:", "data:", "blob:")):
            wrong.append(address)

    def open_explorer(address: str, size: str, **options):
        width, height = SIZES[size]
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: note_request(request.url))
        page.goto(address)
        page.locator("html[data-ready]").wait_for(timeout=120_000)
        pages.append(page)
        return page

    yield open_explorer
    for page in pages:
        page.close()
    assert not wrong
