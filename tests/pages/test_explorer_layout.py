"""The explorer's layout at two sizes, its address and the way back, and what lights up."""

import pytest
import torch

from chromium import SIZES, settle

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI


def box(page, selector: str) -> tuple[float, float, float, float]:
    """-> left, top, right and bottom in the window's pixels."""
    bounds = page.locator(selector).bounding_box()
    left = bounds["x"]
    top = bounds["y"]
    return left, top, left + bounds["width"], top + bounds["height"]


def fits_the_window(page) -> bool:
    width = page.evaluate("document.documentElement.scrollWidth")
    return width == page.viewport_size["width"]


# the address, and the way back


def state(page) -> list:
    """-> the picture's pixels, the sentence and the match."""
    settle(page)
    return page.evaluate("""() => {
      const {mind, painter, scene} = explorer, text = document.getElementById("text").value;
      const pixels = painter.paint(scene);
      return [pixels.join(), text, mind.ask(mind.see(pixels), text).match];
    }""")


def test_a_link_shows_the_scene_and_the_sentence_that_were_seen(open_page):
    page = open_page()
    assert "#" not in page.url
    page.locator("#controls summary").click()
    page.locator("#background").select_option("blue")
    page.locator("#kind").select_option("rocket")
    page.locator("#add").click()
    page.locator("#style").select_option("fluent")
    page.locator("#finish").select_option("outlined")
    page.locator("#stage").press("ArrowLeft")
    page.locator("#stage").press("]")
    page.locator("#text").fill("a cat's CAFÉ & 50% #1_")
    page.wait_for_url("**#*1_*")
    copy = open_page("phone", page.url[page.url.index("#") :])
    assert copy.locator("#address-note").is_hidden()
    assert state(copy) == state(page)
    styles = copy.evaluate("explorer.scene.objects.map(thing => thing.style)")
    assert "fluent+outlined" in styles
    copy.evaluate("location.hash = 'sentence=a+rocket&background=white'")
    settle(copy)
    assert copy.locator("#text").input_value() == "a rocket"
    assert copy.evaluate("explorer.scene.objects.length") == 0


CAT = "#sentence=a&background=blue&object=cat"
DAMAGED = (
    "#%E0%A4%A&&==",
    "#sentence=a+cat",
    "#sentence=a&background=__proto__",
    f"{CAT}_0.5_0.5_0.3_0_nobody",
    f"{CAT}_0.5_NaN_0.3_0_noto",
    "#sentence=a+cat&background=blue&off=cross_3_1",
)


def test_a_damaged_or_foreign_address_leaves_the_first_scene_and_says_so(open_page):
    first = state(open_page())
    page = open_page(address=DAMAGED[1])
    assert state(page) == first
    assert "names no scene" in page.locator("#address-note").inner_text()
    page.locator("#text").fill("a cat")
    assert page.locator("#address-note").is_hidden(), "it isn't said any more after a change"
    page.locator("#text").fill(first[1])
    for address in DAMAGED:
        page.evaluate("hash => location.hash = hash", address)
        assert state(page) == first, address
        assert page.evaluate("explorer.switches.size") == 0, address
        assert page.locator("#address-note").is_visible(), address
    markup = "<img src=x onerror=alert(1)>"
    page.evaluate("hash => location.hash = hash", f"#background=red&sentence={markup}")
    settle(page)
    assert page.locator("#text").input_value() == markup
    assert page.locator("main img").count() == 0


def test_several_changes_are_undone_one_by_one_and_a_drag_is_one_step(open_page):
    page = open_page()
    assert page.locator("#undo").is_disabled()
    states = [state(page)]
    left, top, right, _ = box(page, "#stage")
    width = right - left
    page.mouse.move(left + 0.25 * width, top + 0.5 * width)
    page.mouse.down()
    page.mouse.move(left + 0.4 * width, top + 0.8 * width, steps=10)
    page.mouse.up()
    states.append(state(page))
    page.locator("#text").press_sequentially(" now", delay=20)
    states.append(state(page))
    for button in ("#draw-scene", "#add", "#remove", "#draw-scene"):
        page.locator(button).dispatch_event("click")
        states.append(state(page))
    for before in states[-2::-1]:
        page.locator("#undo").click()
        assert state(page) == before
    assert page.locator("#undo").is_disabled()


# what lights up


def matrix(page) -> torch.Tensor:
    """The cells of sentences by pictures."""
    rows = []
    for row in page.locator("#matrix tr").all()[1:]:
        rows.append([float(cell) for cell in row.locator("td").all_inner_texts()])
    return torch.tensor(rows)


@pytest.mark.parametrize("size", SIZES)
def test_the_matrix_of_sentences_by_pictures_is_a_softmax_at_the_temperature(open_page, size):
    page = open_page(size)
    page.locator("#sentences").fill("an apple left of a cat\ntwo cats\na rocket")
    page.locator("#keep").click()
    settle(page)
    among_sentences = matrix(page)
    assert among_sentences.shape == (3, 4)
    assert among_sentences[:, 0].equal(among_sentences[:, 3]), "the picture of now was kept"
    assert (among_sentences.sum(0) - 1).abs().max() < 0.02
    page.locator("#cell").select_option("among pictures")
    settle(page)
    assert (matrix(page).sum(1) - 1).abs().max() < 0.03
    page.locator("#cell").select_option("similarity")
    settle(page)
    cosines = matrix(page)
    page.locator("#cell").select_option("among sentences")
    page.locator("#temperature").evaluate("""slider => {
      slider.value = -1;
      slider.dispatchEvent(new Event("input"));
    }""")
    settle(page)
    assert torch.allclose(matrix(page), (cosines / 0.1).softmax(0), atol=0.03)
    page.locator("#matrix button").first.click()
    settle(page)
    assert matrix(page).shape == (3, 3)
    assert fits_the_window(page)
