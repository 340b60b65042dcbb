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
        on_page = torch.tensor(page.evaluate(READ_ATTENTION))
        assert torch.allclose(on_page, attention_of_cls(run, pixels, text), atol=1e-3)

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
    for on_page, by_torch in zip(panels["tiny"], panels["tiny-paper"]):
        assert on_page != by_torch
