"""The explorer's two models: both answers in view, the panels show either, and a map switches its head off."""

import re

import numpy as np
import pytest
import torch

from chromium import SIZES, explorers, keep, settle, stored_run
from minalbef import load
from minalbef.layers import record_weights

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI
IDS = {"tiny": "", "tiny-paper": "paper-"}


@pytest.fixture(scope="module")
def runs():
    """Both shipped runs, with the weights of the page."""
    return {name: stored_run(name) for name in IDS}


@pytest.fixture
def open_page(browser, explorer_page):
    """open_page(size, address="", **options) -> the explorer, which has answered once.

    Its errors and messages fail the test.
    """
    with explorers(browser) as open_explorer:
        yield lambda size, address="", **options: open_explorer(
            explorer_page.as_uri() + address, size, **options
        )


def name_button(page, name: str):
    return page.locator("#names button", has_text=re.compile(f"^{name}$"))


def seen(page) -> tuple[np.ndarray, str]:
    """What the models are asked: pixels and sentence."""
    pixels = page.evaluate("[...explorer.painter.paint(explorer.scene)]")
    return np.array(pixels, np.uint8).reshape(48, 48, 3), page.locator("#text").input_value()


def said(page, name: str) -> tuple[float, str, float]:
    """A model's match, yes or no, and similarity, as the page shows them."""
    match = page.locator(f"#{IDS[name]}match")
    word = match.locator("xpath=following-sibling::span").inner_text()
    similarity = page.locator(f"#{IDS[name]}similarity").inner_text()
    return float(match.inner_text().strip("<> ")), word, float(similarity)


@pytest.mark.parametrize("size", SIZES)
def test_both_models_answers_are_torchs_and_in_view_at_first_and_after_each_sentence(
    runs, open_page, size
):
    page = open_page(size)
    width = page.viewport_size["width"]
    height = page.viewport_size["height"]
    shown = set()
    for sentence in ("an apple left of a cat", "an apple right of a cat", "two rockets"):
        page.locator("#text").fill(sentence)
        settle(page)
        pixels, _ = seen(page)
        for name, run in runs.items():
            match, word, similarity = said(page, name)
            true = run.match_probability(pixels, sentence).item()
            assert match == pytest.approx(true, abs=2e-3), (name, sentence)
            assert word == ("yes" if true > 0.5 else "no")
            assert similarity == pytest.approx(run.similarity(pixels, sentence).item(), abs=1e-3)
            shown.add((name, match))
            for number in ("match", "similarity"):
                box = page.locator(f"#{IDS[name]}{number}").bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert box["y"] + box["height"] <= height
    assert len({match for _, match in shown}) > 3, "the models can be told apart"
    assert (
        page.locator("#pair-note").inner_text()
        == "tiny-paper: the paper’s objectives alone, no minimal pairs"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == width
    keep(page, f"explorer-pair-{size}")


def attention_of_cls(run, pixels: np.ndarray, text: str) -> torch.Tensor:
    """[CLS]'s cross-attention by layer, head and patch."""
    tokens, mask = run.tokenizer.encode([text], run.config.text_length)
    with torch.no_grad(), record_weights(run.model.fusion, "cross") as weights:
        image = run.model.encode_image(run.transform(pixels)[None])
        run.model.fuse(run.model.encode_text(tokens, mask), mask, image)
    return torch.cat(weights)[:, :, 0, -36:]


def guesses(run, pixels: np.ndarray, text: str, place: int) -> list[str]:
    """The likeliest pieces for a masked token."""
    tokens, mask = run.tokenizer.encode([text], run.config.text_length)
    tokens[0, place] = run.tokenizer.mask
    with torch.no_grad():
        image = run.model.encode_image(run.transform(pixels)[None])
        logits = run.model.word_logits(
            run.model.fuse(run.model.encode_text(tokens, mask), mask, image)[0, place]
        )
    return [run.tokenizer.decode([number]) for number in logits.topk(2).indices.tolist()]


@pytest.mark.parametrize("size", SIZES)
def test_the_switch_makes_maps_guesses_flow_and_heads_show_the_other_model_by_keyboard_and_back(
    runs, open_page, size
):
    page = open_page(size)
    page.evaluate("document.querySelectorAll('.rest details').forEach(one => one.open = true)")
    page.locator("#text").fill("an apple right of a cat")
    settle(page)
    pixels, text = seen(page)
    panels = {}
    for name in ("tiny-paper", "tiny"):
        name_button(page, name).focus()
        page.keyboard.press("Enter")
        settle(page)
        assert page.evaluate("document.activeElement.textContent") == name, "the focus stays"
        assert page.locator("#names [aria-pressed=true]").all_inner_texts() == [name]
        assert page.locator("#attention .whole").all_inner_texts() == [name]
        assert set(page.locator(".inside-name").all_inner_texts()) == {name}
        run = runs[name]
        found = page.evaluate("""() => {
          const [mind] = explorer.minds(), looked = mind.look(explorer.painter.paint(explorer.scene));
          const {attention} = mind.ask(looked, document.getElementById("text").value);
          return attention.map(heads => heads.map(rows => [...rows[0]]));
        }""")
        assert torch.allclose(torch.tensor(found), attention_of_cls(run, pixels, text), atol=1e-3)
        page.locator("#words button", has_text="right").click()
        settle(page)
        assert page.locator("#guesses .guess > span:nth-child(3n + 1)").all_inner_texts()[
            :2
        ] == guesses(run, pixels, text, 3)
        page.locator("#words button", has_text="right").click()
        page.locator("#flow-blocks .itc").click()
        settle(page)
        assert (
            f"= {page.locator(f'#{IDS[name]}similarity').inner_text()}\n"
            in page.locator("#flow-numbers .formula").inner_text()
        )
        page.locator("#flow-blocks .itm").click()
        settle(page)
        assert (
            f"= {page.locator(f'#{IDS[name]}match').inner_text()}"
            in page.locator("#flow-numbers").inner_text()
        )
        unchanged = page.locator("#effect tr").nth(1).locator("td").first.inner_text()
        assert unchanged == page.locator(f"#{IDS[name]}match").inner_text()
        assert page.locator("#table td.value").first.is_visible()
        temperature = load(name).model.temperature.item()
        assert (
            page.locator("#temperature-said").inner_text()
            == f"{temperature:.3f} (learnt: {temperature:.3f})"
        )
        panels[name] = [
            page.locator(panel).inner_text()
            for panel in ("#attention", "#flow-numbers", "#effect", "#table", "#matrix")
        ]
    for one, other in zip(*panels.values()):
        assert one != other


def test_the_address_keeps_the_model_of_the_panels_and_undo_takes_it_back(open_page):
    page = open_page("desktop")
    name_button(page, "tiny-paper").click()
    page.wait_for_url("**model=tiny-paper*")
    address = page.url[page.url.index("#") :]
    other = open_page("phone", address)
    assert other.locator("#names [aria-pressed=true]").inner_text() == "tiny-paper"
    assert other.locator("#attention .whole").inner_text() == "tiny-paper"
    page.locator("#draw-scene").click()
    settle(page)
    assert page.locator("#names [aria-pressed=true]").inner_text() == "tiny-paper", (
        "another scene changes no model"
    )
    page.locator("#undo").click()
    page.locator("#undo").click()
    settle(page)
    assert page.locator("#names [aria-pressed=true]").inner_text() == "tiny"
    assert page.locator("#undo").is_disabled()
    other.evaluate("hash => location.hash = hash", address.replace("tiny-paper", "__proto__"))
    settle(other)
    assert (
        "names a model that this page hasn't; the panels show tiny."
        in other.locator("#address-note").inner_text()
    )
    assert other.locator("#names [aria-pressed=true]").inner_text() == "tiny"
    page.locator("#tour-start").click()
    name_button(other, "tiny-paper").click()
    other.locator("#tour-start").click()
    settle(other)
    assert other.evaluate("explorer.minds()[0].name") == "tiny", "the tour is about the first model"


def test_both_may_answer_in_every_panel_and_the_third_column_is_another_models(open_page):
    page = open_page("desktop")
    page.locator("#other-model summary").click()
    page.locator("#beside").select_option("pair")
    settle(page)
    assert page.locator("#attention .whole").all_inner_texts() == ["tiny", "tiny-paper"]
    assert page.locator("#figures tr").first.locator("td").count() == 2
    name_button(page, "tiny-paper").click()
    settle(page)
    assert page.locator("#attention .whole").all_inner_texts() == ["tiny-paper", "tiny"]
    assert page.locator("#beside option:checked").inner_text() == "tiny"
    page.locator("#beside").select_option("start")
    settle(page)
    assert page.locator("#names th").all_inner_texts() == ["tiny", "tiny-paper", "warm start"]
    assert page.locator("#figures tr").first.locator("td").count() == 3
    page.locator("#own").set_input_files(
        [
            load("tiny-paper").path / name
            for name in ("model.safetensors", "config.json", "tokenizer.json")
        ]
    )
    page.locator("#own-said", has_text="Loaded: a run of tiny").wait_for()
    settle(page)
    assert page.locator("#names th").last.inner_text() == "your model"
    own, stored = (
        float(page.locator(f"#{one}-match").inner_text().strip("<> ")) for one in ("other", "paper")
    )
    assert own == pytest.approx(stored, abs=3e-3)
    page.locator("#text").fill("")
    settle(page)
    assert page.locator("#numbers").inner_text().strip() == "Type a sentence."


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_click_on_a_heads_map_switches_it_off_and_on_again_by_pointer_and_keyboard(
    runs, open_page, size, name
):
    page = open_page(size)
    page.locator("#inside summary").click()
    name_button(page, name).click()
    settle(page)
    pixels, text = seen(page)
    module = runs[name].model.get_submodule("fusion.layers.1.cross")
    wide = module.proj.in_features // module.heads

    def change(projection, inputs):
        changed = inputs[0].clone()
        changed[..., wide : 2 * wide] = 0
        return (changed,)

    hook = module.proj.register_forward_pre_hook(change)
    try:
        true = runs[name].match_probability(pixels, text).item()
    finally:
        hook.remove()
    panel = page.locator("#heads [aria-label='Fusion: cross-attention'] [aria-pressed]").nth(4)
    box = page.locator(".maps button").nth(4)
    before = page.evaluate("document.getElementById('stage').toDataURL()")
    box.hover()
    assert page.evaluate("document.getElementById('stage').toDataURL()") != before, (
        "it lies over the picture"
    )
    for act in (box.click, lambda: page.keyboard.press("Enter")):
        act()
        settle(page)
        assert page.evaluate("Object.fromEntries(explorer.switches)") == {"cross_2_2": "off"}
        assert page.evaluate("document.activeElement.innerText").startswith(
            "layer\xa02, head\xa02"
        ), "the focus stays"
        assert box.get_attribute("aria-pressed") == panel.get_attribute("aria-pressed") == "true"
        assert "off" in panel.inner_text()
        assert page.locator(".maps .unused small").all_inner_texts() == ["switched off"]
        assert page.locator("#attention .whole").all_inner_texts() == [name, "heads changed"]
        assert float(page.locator("#other-match").inner_text().strip("<> ")) == pytest.approx(
            true, abs=2e-3
        )
        page.keyboard.press(" ")
        settle(page)
        assert page.evaluate("explorer.switches.size") == 0
        assert page.locator("#other-match").count() == 0
        assert box.get_attribute("aria-pressed") == panel.get_attribute("aria-pressed") == "false"
    box.click()
    settle(page)
    page.locator(".maps .unused").focus()
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("explorer.switches.size") == 0, (
        "that of the changed model switches it on, too"
    )
    assert page.evaluate("document.activeElement.innerText").startswith("layer\xa02, head\xa02")
    keep(page, f"explorer-map-{size}-{name}")
