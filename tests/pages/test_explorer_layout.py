"""The explorer's layout at two sizes, its address and the way back, and what lights up."""

import pytest
import torch

from chromium import SIZES, explorers, keep, settle

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI


@pytest.fixture
def open_page(browser, explorer_page):
    """open_page(size, address="", **options) -> the explorer, which has answered once.

    Its errors fail the test.
    """
    with explorers(browser) as open_explorer:
        yield lambda size, address="", **options: open_explorer(
            explorer_page.as_uri() + address, size, **options
        )


def box(page, selector: str) -> tuple[float, float, float, float]:
    """-> left, top, right and bottom in the window's pixels."""
    found = page.locator(selector).bounding_box()
    return (found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"])


def is_in_view(page, selector: str) -> bool:
    left, top, right, bottom = box(page, selector)
    width = page.viewport_size["width"]
    height = page.viewport_size["height"]
    return left >= 0 and top >= 0 and right <= width and bottom <= height


def overlap(page, one: str, other: str) -> bool:
    a = box(page, one)
    b = box(page, other)
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("size", SIZES)
def test_picture_sentence_and_answer_are_in_view_at_first_and_where_one_scrolls(open_page, size):
    page = open_page(size)
    stays = ("#text", "#words", "#stage", "#things", "#numbers", "#pair-note", "#time")
    for selector in stays:
        assert is_in_view(page, selector)
    left, top, right, bottom = box(page, "#stage")
    assert right - left > (500 if size == "desktop" else 250)
    assert right - left == bottom - top
    for target in ("#controls", "#attention", "#table"):
        page.locator(target).scroll_into_view_if_needed()
        assert all(is_in_view(page, selector) for selector in stays), target
    assert page.evaluate("scrollY") > 500
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    assert not page.locator(".maps canvas").first.evaluate("one => one.offsetWidth <= 96")


@pytest.mark.parametrize("size", SIZES)
def test_the_tour_is_beside_or_below_what_stays_and_never_over_it(open_page, size):
    page = open_page(size)
    page.locator("#tour-start").click()
    assert page.evaluate("document.activeElement.id") == "tour-title"
    assert not overlap(page, "#tour-title", "#view") and is_in_view(page, "#tour-title")
    page.locator("#tour-options button").first.click()
    page.locator("#tour-next:not([disabled])").wait_for(timeout=60_000)
    assert is_in_view(page, "#tour-next") and is_in_view(page, "#stage")
    assert not overlap(page, "#tour-next", "#view")
    keep(page, f"explorer-tour-{size}")


def test_a_low_window_scrolls_as_a_whole(open_page):
    page = open_page("phone")
    page.set_viewport_size({"width": 390, "height": 400})
    page.locator("#table").scroll_into_view_if_needed()
    assert box(page, "#view")[3] < 0


def shown(page) -> tuple[str, str, float]:
    """-> the picture's pixels, the sentence and the match."""
    settle(page)
    return page.evaluate("""() => {
      const {mind, painter, scene} = explorer, text = document.getElementById("text").value;
      const pixels = painter.paint(scene);
      return [pixels.join(), text, mind.ask(mind.see(pixels), text).match];
    }""")


def test_a_link_shows_the_scene_and_the_sentence_that_were_seen(open_page):
    page = open_page("desktop")
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
    address = page.url[page.url.index("#") :]
    other = open_page("phone", address)
    assert other.locator("#address-note").is_hidden()
    assert shown(other) == shown(page)
    assert "fluent+outlined" in other.evaluate("explorer.scene.objects.map(one => one.style)")
    other.evaluate("location.hash = 'sentence=a+rocket&background=white'")
    other.locator("#text").evaluate("box => box.value === 'a rocket' || Promise.reject(box.value)")
    assert other.evaluate("explorer.scene.objects.length") == 0


DAMAGED = (
    "#",
    "#table",
    "#sentence=a+cat",
    "#background=blue",
    "#%E0%A4%A&&==",
    "#sentence=a&background=__proto__",
    "#sentence=a&background=blue&object=",
    "#sentence=a&background=blue&object=toString_0.5_0.5_0.3_0_noto",
    "#sentence=a&background=blue&object=cat_0.5_0.5_0.3_0_nobody",
    "#sentence=a&background=blue&object=cat_0.5_0.5_0.3_0",
    "#sentence=a&background=blue&object=cat_0.5_0.5_0.3_0_noto+gold",
    "#sentence=a&background=blue&object=cat_0.5_NaN_0.3_0_noto",
    "#sentence=a&background=blue&object=cat_0.5_0.5_99_0_noto",
    "#sentence=a&background=blue&object=cat_0.5_0.5_0.3_0_noto_1",
    "#sentence=" + "a+cat+" * 1000 + "&background=blue",
)


def test_a_damaged_or_foreign_address_leaves_the_first_scene_and_says_so(open_page):
    page = open_page("desktop")
    first = shown(page)
    page = open_page("desktop", DAMAGED[1])
    assert shown(page) == first
    assert "names no scene" in page.locator("#address-note").inner_text()
    page.locator("#text").fill("a cat")
    assert page.locator("#address-note").is_hidden(), "after a change it isn't said any more"
    page.locator("#text").fill(first[1])
    for address in DAMAGED:
        page.evaluate("hash => location.hash = hash", address)
        settle(page)
        assert shown(page) == first, address
        assert page.locator("#address-note").is_visible() == (address != "#"), address
    safe = "<img src=x onerror=alert(1)>"
    page.evaluate("hash => location.hash = hash", f"#background=red&sentence={safe}")
    settle(page)
    assert page.locator("#text").input_value() == safe
    assert page.locator("main img").count() == 0


def test_a_random_scene_has_a_sentence_that_is_true_of_it(open_page):
    page = open_page("phone")
    seen = set()
    matches = []
    for _ in range(20):
        page.locator("#draw-scene").click()
        pixels, text, match = shown(page)
        seen.add(text)
        matches.append(match)
    assert len(seen) > 15 and sum(match > 0.5 for match in matches) > 12
    assert page.locator("#unknown").is_hidden()


def test_several_changes_are_undone_one_by_one_and_a_drag_is_one_step(open_page):
    page = open_page("desktop")
    assert page.locator("#undo").is_disabled()
    states = [shown(page)]
    left, top, right, _ = box(page, "#stage")
    wide = right - left
    page.mouse.move(left + 0.25 * wide, top + 0.5 * wide)
    page.mouse.down()
    page.mouse.move(left + 0.4 * wide, top + 0.8 * wide, steps=10)
    page.mouse.up()
    states.append(shown(page))
    page.locator("#text").press_sequentially(" now", delay=20)
    states.append(shown(page))
    for act in ("#draw-scene", "#add", "#remove", "#draw-scene"):
        page.locator(act).dispatch_event("click")
        states.append(shown(page))
    assert len({state[:2] for state in map(tuple, states)}) > 5
    for state in states[-2::-1]:
        page.locator("#undo").click()
        assert shown(page) == state
    assert page.locator("#undo").is_disabled()


def test_an_answer_that_takes_long_shows_a_busy_sign_before(open_page):
    page = open_page("desktop", reduced_motion="reduce", color_scheme="dark")
    page.evaluate("""() => {
      const {mind} = explorer, ask = mind.ask, time = document.getElementById("time");
      mind.ask = (...asked) => {
        const end = performance.now() + 120;
        while (performance.now() < end);
        return ask.apply(mind, asked);
      };
      window.said = [];
      const note = () => said.push([time.textContent, time.classList.contains("busy")]);
      new MutationObserver(note).observe(time, {childList: true});
    }""")
    page.locator("#words button").last.click()
    page.locator("#veil-map").select_option(index=5)  # it lies over the picture while one waits
    for sentence in ("a cat", "a rocket", "apple"):
        page.locator("#text").fill(sentence)
        settle(page)
        page.wait_for_function("said.at(-1)?.[0].startsWith('Answered')")
    assert ["Computing …", True] in page.evaluate("said")
    assert page.locator("#numbers[aria-busy]").count() == 0


def maps(page) -> list[str]:
    return page.evaluate("""[...document.querySelectorAll(".maps canvas")]
      .map(one => one.toDataURL())""")


def lit(page) -> list[float]:
    """How much each word is lit."""
    return page.evaluate("""[...document.querySelectorAll("#words button")]
      .map(one => Number(one.style.getPropertyValue("--lit")))""")


@pytest.mark.parametrize("way", ["pointer", "keyboard"])
def test_a_word_lights_its_patches_in_every_layer_while_it_is_pointed_at(open_page, way):
    page = open_page("desktop")
    before = maps(page)
    word = page.locator("#words button", has_text="cat")
    if way == "pointer":
        word.hover()
    else:
        page.locator("#text").focus()
        for _ in range(6):
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "cat"
    during = maps(page)
    for one, other in zip(before, during):
        assert one != other
    assert page.locator("#attention-title").inner_text() == "Cross-attention of “cat”"
    keep(page, f"explorer-lit-by-{way}")
    if way == "pointer":
        page.mouse.move(5, 5)
    else:
        page.keyboard.press("Tab")
    assert maps(page) == before
    assert page.locator("#words [aria-pressed=true]").count() == 0, "nothing was masked"


def test_a_patch_lights_the_words_that_take_from_it(open_page):
    page = open_page("desktop")
    assert lit(page) == [0] * 6
    left, top, right, _ = box(page, "#stage")
    page.mouse.move(left + 0.75 * (right - left), top + 0.55 * (right - left))
    weights = page.evaluate("""() => {
      const {mind, painter, scene} = explorer, looked = mind.see(painter.paint(scene));
      const {attention} = mind.ask(looked, document.getElementById("text").value);
      const rows = attention.flat(), patch = 3 * 6 + 4;
      return [1, 2, 3, 4, 5, 6].map(i => rows.reduce((sum, one) => sum + one[i][patch], 0) / 6);
    }""")
    most = max(weights)
    assert most > 2 / 36
    assert lit(page) == pytest.approx([weight / most for weight in weights], abs=1e-3)
    page.mouse.move(5, 5)
    assert lit(page) == [0] * 6
    page.locator(".maps button").first.focus()
    page.keyboard.press("ArrowRight")
    first = lit(page)
    page.keyboard.press("ArrowLeft")
    assert max(first) > 0 and lit(page) != first
    page.locator("#text").focus()
    assert lit(page) == [0] * 6


def cells(page) -> list[list[float]]:
    return [
        [float(cell.inner_text()) for cell in row.locator("td").all()]
        for row in page.locator("#matrix tr").all()[1:]
    ]


@pytest.mark.parametrize("size", SIZES)
def test_the_matrix_of_sentences_by_pictures_is_a_softmax_at_the_temperature(open_page, size):
    page = open_page(size)
    page.locator("#sentences").fill("an apple left of a cat\ntwo cats\na rocket")
    page.locator("#keep").click()
    settle(page)
    found = cells(page)
    assert [len(row) for row in found] == [4] * 3
    for row in found:
        assert row[0] == row[3], "the picture of now was kept"
    for column in zip(*found):
        assert abs(sum(column) - 1) < 0.02
    page.locator("#cell").select_option("among pictures")
    settle(page)
    assert all(abs(sum(row) - 1) < 0.03 for row in cells(page))
    page.locator("#cell").select_option("similarity")
    settle(page)
    cosines = torch.tensor(cells(page))
    page.locator("#cell").select_option("among sentences")
    page.locator("#temperature").evaluate("""one => {
      one.value = -1;
      one.dispatchEvent(new Event("input"));
    }""")
    settle(page)
    assert page.locator("#temperature-said").inner_text().startswith("0.100")
    softened = torch.tensor(cells(page))
    assert torch.allclose(softened, (cosines / 0.1).softmax(0), atol=0.03)
    page.locator("#matrix button").first.click()
    settle(page)
    assert [len(row) for row in cells(page)] == [3] * 3
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
