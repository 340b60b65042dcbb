"""The explorer's two models: both answers in view, the panels show either, and a map switches its head off."""

import re

import numpy as np
import pytest
import torch

from chromium import SIZES, asked, keep, likeliest, number, open_details, settle, stored_run
from minalbef import load
from minalbef.layers import record_weights

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI
IDS = {"tiny": "", "tiny-paper": "paper-"}  # how the ids of a model's figures begin


@pytest.fixture(scope="module")
def runs():
    """Both shipped runs, with the weights of the page."""
    return {name: stored_run(name) for name in IDS}


def name_button(page, name: str):
    return page.locator("#names button", has_text=re.compile(f"^{name}$"))


@pytest.mark.parametrize("size", SIZES)
def test_both_models_answers_are_torchs_and_in_view_after_each_sentence(runs, open_page, size):
    page = open_page(size)
    width = page.viewport_size["width"]
    height = page.viewport_size["height"]
    matches = set()
    for sentence in ("an apple left of a cat", "an apple right of a cat", "two rockets"):
        page.locator("#text").fill(sentence)
        settle(page)
        pixels, _ = asked(page)
        for name, run in runs.items():
            match = run.match_probability(pixels, sentence).item()
            similarity = run.similarity(pixels, sentence).item()
            assert number(page, f"#{IDS[name]}match") == pytest.approx(match, abs=2e-3)
            assert number(page, f"#{IDS[name]}similarity") == pytest.approx(similarity, abs=1e-3)
            word = page.locator(f"#{IDS[name]}match + span").inner_text()
            assert word == ("yes" if match > 0.5 else "no")
            matches.add(round(match, 2))
            for figure in ("match", "similarity"):
                box = page.locator(f"#{IDS[name]}{figure}").bounding_box()
                assert 0 <= box["x"] <= width - box["width"]
                assert box["y"] <= height - box["height"]
    assert len(matches) > 3, "the models can be told apart"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    keep(page, f"explorer-pair-{size}")


def attention_of_cls(run, pixels: np.ndarray, text: str) -> torch.Tensor:
    """[CLS]'s cross-attention by layer, head and patch."""
    model = run.model
    tokens, mask = run.tokenizer.encode([text], run.config.text_length)
    with torch.no_grad(), record_weights(model.fusion, "cross") as weights:
        image = model.encode_image(run.transform(pixels)[None])
        model.fuse(model.encode_text(tokens, mask), mask, image)
    return torch.cat(weights)[:, :, 0, -36:]


READ_ATTENTION = """() => {
  const [mind] = explorer.minds(), looked = mind.look(explorer.painter.paint(explorer.scene));
  const {attention} = mind.ask(looked, document.getElementById("text").value);
  return attention.map(heads => heads.map(rows => [...rows[0]]));
}"""


@pytest.mark.parametrize("size", SIZES)
def test_the_switch_makes_every_panel_show_the_other_model_by_keyboard(runs, open_page, size):
    page = open_page(size)
    open_details(page)
    page.locator("#text").fill("an apple right of a cat")
    settle(page)
    pixels, text = asked(page)
    panels = {}
    for name in ("tiny-paper", "tiny"):
        run = runs[name]
        name_button(page, name).focus()
        page.keyboard.press("Enter")
        settle(page)
        assert page.evaluate("document.activeElement.textContent") == name, "the focus stays"
        assert page.locator("#names [aria-pressed=true]").all_inner_texts() == [name]
        assert page.locator("#attention .whole").all_inner_texts() == [name]
        assert set(page.locator(".inside-name").all_inner_texts()) == {name}
        ours = torch.tensor(page.evaluate(READ_ATTENTION))
        assert torch.allclose(ours, attention_of_cls(run, pixels, text), atol=1e-3)

        right = page.locator("#words button", has_text="right")
        right.click()
        settle(page)
        words = page.locator("#guesses .guess > span:nth-child(3n + 1)").all_inner_texts()
        assert words[:2] == likeliest(run, pixels, text, place=3, count=2)
        right.click()
        match = page.locator(f"#{IDS[name]}match").inner_text()
        similarity = page.locator(f"#{IDS[name]}similarity").inner_text()
        page.locator("#flow-blocks .itc").click()
        settle(page)
        assert f"= {similarity}\n" in page.locator("#flow-numbers .formula").inner_text()
        page.locator("#flow-blocks .itm").click()
        settle(page)
        assert f"= {match}" in page.locator("#flow-numbers").inner_text()
        assert page.locator("#effect tr").nth(1).locator("td").first.inner_text() == match
        temperature = f"{load(name).model.temperature.item():.3f}"
        learnt = page.locator("#temperature-said").inner_text()
        assert learnt == f"{temperature} (learnt: {temperature})"
        names = ("#attention", "#flow-numbers", "#effect", "#table", "#matrix")
        panels[name] = [page.locator(panel).inner_text() for panel in names]
    for ours, theirs in zip(panels["tiny"], panels["tiny-paper"]):
        assert ours != theirs


def test_the_address_keeps_the_model_of_the_panels_and_undo_takes_it_back(open_page):
    page = open_page()
    name_button(page, "tiny-paper").click()
    page.wait_for_url("**model=tiny-paper*")
    address = page.url[page.url.index("#") :]
    copy = open_page("phone", address)
    chosen = "#names [aria-pressed=true]"
    assert copy.locator(chosen).inner_text() == "tiny-paper"
    assert copy.locator("#attention .whole").inner_text() == "tiny-paper"
    page.locator("#draw-scene").click()
    settle(page)
    assert page.locator(chosen).inner_text() == "tiny-paper", "another scene changes no model"
    page.locator("#undo").click()
    page.locator("#undo").click()
    settle(page)
    assert page.locator(chosen).inner_text() == "tiny"
    assert page.locator("#undo").is_disabled()
    copy.evaluate("hash => location.hash = hash", address.replace("tiny-paper", "__proto__"))
    settle(copy)
    assert "names a model that this page hasn't" in copy.locator("#address-note").inner_text()
    assert copy.locator(chosen).inner_text() == "tiny"
    name_button(copy, "tiny-paper").click()
    copy.locator("#tour-start").click()
    settle(copy)
    assert copy.evaluate("explorer.minds()[0].name") == "tiny", "the tour is about the first model"


def test_both_may_answer_in_every_panel_and_the_third_column_is_another_models(open_page):
    page = open_page()
    page.locator("#other-model summary").click()
    page.locator("#beside").select_option("pair")
    settle(page)
    assert page.locator("#attention .whole").all_inner_texts() == ["tiny", "tiny-paper"]
    assert page.locator("#figures tr").first.locator("td").count() == 2
    name_button(page, "tiny-paper").click()
    settle(page)
    assert page.locator("#attention .whole").all_inner_texts() == ["tiny-paper", "tiny"]
    page.locator("#beside").select_option("start")
    settle(page)
    assert page.locator("#names th").all_inner_texts() == ["tiny", "tiny-paper", "warm start"]
    assert page.locator("#figures tr").first.locator("td").count() == 3
    names = ("model.safetensors", "config.json", "tokenizer.json")
    folder = load("tiny-paper").path
    page.locator("#own").set_input_files([folder / name for name in names])
    page.locator("#own-said", has_text="Loaded: a run of tiny").wait_for()
    settle(page)
    assert page.locator("#names th").last.inner_text() == "your model"
    stored = number(page, "#paper-match")
    assert number(page, "#other-match") == pytest.approx(stored, abs=3e-3)
    page.locator("#text").fill("")
    settle(page)
    assert page.locator("#numbers").inner_text().strip() == "Type a sentence."


def match_without_head(run, pixels: np.ndarray, text: str) -> float:
    """Torch's match with the second head of the second layer's cross-attention at zero."""
    module = run.model.get_submodule("fusion.layers.1.cross")
    width = module.proj.in_features // module.heads

    def change(projection, inputs):
        changed = inputs[0].clone()
        changed[..., width : 2 * width] = 0
        return (changed,)

    hook = module.proj.register_forward_pre_hook(change)
    try:
        return run.match_probability(pixels, text).item()
    finally:
        hook.remove()


@pytest.mark.parametrize("size, name", [("desktop", "tiny"), ("phone", "tiny-paper")])
def test_a_click_on_a_heads_map_switches_it_off_and_on_again(runs, open_page, size, name):
    page = open_page(size)
    page.locator("#inside summary").click()
    name_button(page, name).click()
    settle(page)
    match = match_without_head(runs[name], *asked(page))
    panel = page.locator("#heads [aria-label='Fusion: cross-attention'] [aria-pressed]").nth(4)
    head_map = page.locator(".maps button").nth(4)
    stage = "document.getElementById('stage').toDataURL()"
    before = page.evaluate(stage)
    head_map.hover()
    assert page.evaluate(stage) != before, "it lies over the picture"
    for press in (head_map.click, lambda: page.keyboard.press("Enter")):
        press()
        settle(page)
        assert page.evaluate("Object.fromEntries(explorer.switches)") == {"cross_2_2": "off"}
        focused = page.evaluate("document.activeElement.innerText")
        assert focused.startswith("layer\xa02, head\xa02"), "the focus stays"
        assert head_map.get_attribute("aria-pressed") == "true"
        assert panel.get_attribute("aria-pressed") == "true"
        assert page.locator(".maps .unused small").all_inner_texts() == ["switched off"]
        assert page.locator("#attention .whole").all_inner_texts() == [name, "heads changed"]
        assert number(page, "#other-match") == pytest.approx(match, abs=2e-3)
        page.keyboard.press(" ")
        settle(page)
        assert page.evaluate("explorer.switches.size") == 0
        assert page.locator("#other-match").count() == 0
        assert head_map.get_attribute("aria-pressed") == "false"
        assert panel.get_attribute("aria-pressed") == "false"
    head_map.click()
    settle(page)
    page.locator(".maps .unused").focus()
    page.keyboard.press("Enter")
    settle(page)
    assert page.evaluate("explorer.switches.size") == 0, "the changed model's map switches it on"
    keep(page, f"explorer-map-{size}-{name}")
