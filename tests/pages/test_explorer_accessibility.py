"""axe-core finds no barrier in either explorer, at two sizes and in the dark, whatever is open."""

import shutil

import pytest
from PIL import Image

from chromium import explorers, lack, open_details, settle
from minalbef import load
from minalbef.recipes.explore import write_page
from minalbef.viz.explorer import write_explorer

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI
LOOKS = {"desktop": ("desktop", "light"), "phone": ("phone", "light"), "dark": ("desktop", "dark")}
RULES = {"rules": {"target-size": {"enabled": True}}}  # of WCAG 2.2; axe leaves it out unless asked


@pytest.fixture(scope="module")
def axe():
    """axe-core, which comes with this package."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ModuleNotFoundError:
        lack("axe-core", "pip install -e '.[browser]' brings it")
    return Axe()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The explorer of scenes, of a run with a checkpoint, and that of a folder with three images."""
    folder = tmp_path_factory.mktemp("pages")
    tiny = load("tiny")
    shutil.copytree(tiny.path, folder / "run")
    shutil.copytree(tiny.path, folder / "run" / "step_0950")
    write_explorer(load(folder / "run"), folder / "scenes.html", captions=1000)
    images = folder / "images"
    images.mkdir()
    for name, colour in {"a red apple": "red", "a blue car": "blue", "a tree": "green"}.items():
        Image.new("RGB", (60, 60), colour).save(images / f"{name}.png")
    write_page(tiny, images, folder / "pictures.html")
    return folder


@pytest.fixture
def open_in(browser, files):
    """open_in(look, name) -> a page."""
    with explorers(browser) as open_explorer:

        def open_in(look: str, name: str):
            size, scheme = LOOKS[look]
            return open_explorer((files / f"{name}.html").as_uri(), size, color_scheme=scheme)

        yield open_in


def barriers(axe, page) -> list[str]:
    """What axe finds wrong, one line for each element.

    At the top of the page: lower down, axe finds a control too small that is half under what stays in
    view. Keys never lead to such a one, as a test below holds.
    """
    page.evaluate("scrollTo(0, 0)")
    lines = []
    for violation in axe.run(page, options=RULES).response["violations"]:
        for node in violation["nodes"]:
            lines.append(f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}")
    return lines


@pytest.mark.parametrize("look", LOOKS)
def test_the_explorer_of_scenes_has_none_at_first_or_with_all_open_or_in_the_tour(
    axe, open_in, look
):
    page = open_in(look, "scenes")
    assert barriers(axe, page) == []
    open_details(page)
    page.locator("#load-training").click()
    page.locator("#step").fill("0")
    page.locator("#training-curve[aria-busy=false]").wait_for(timeout=60_000)
    assert barriers(axe, page) == []

    page.locator("#names button").last.click()
    page.locator("#text").fill("an apple left of a zebra")
    page.locator("#words button", has_text="left").click()
    page.locator("#heads [aria-label='layer 2, all heads']").last.click()
    page.locator("#try-heads").click()
    page.locator("#trial-said", has_text="largest change").wait_for(timeout=60_000)
    page.locator("#draw-curve").click()
    page.locator("#curve-note", has_text="dotted").wait_for(timeout=60_000)
    page.locator(".maps button").last.click()
    settle(page)  # the answer, which draws words and maps anew
    page.locator(".maps button").first.focus()
    page.keyboard.press("ArrowRight")
    page.mouse.move(1, 1)  # from the map that was clicked
    assert page.locator("#words button[style*='--lit']").count() > 0
    assert barriers(axe, page) == []
    page.evaluate("""for (const word of document.querySelectorAll("#words button")) {
      word.style.setProperty("--lit", 1);
    }""")
    assert barriers(axe, page) == [], "a word that is lit most, masked or unknown"

    page.locator("#text").fill("an apple left of a ca")
    page.locator("#completions li").first.wait_for()
    assert barriers(axe, page) == []
    page.locator("#tour-start").click()
    assert barriers(axe, page) == []
    page.locator("#tour-options button").first.click()
    page.locator("#tour-next:not([disabled])").wait_for(timeout=60_000)
    assert barriers(axe, page) == []


@pytest.mark.parametrize("look", LOOKS)
def test_the_explorer_of_your_pictures_has_none_at_first_or_with_all_open(axe, open_in, look):
    page = open_in(look, "pictures")
    assert barriers(axe, page) == []
    open_details(page)
    assert barriers(axe, page) == []
