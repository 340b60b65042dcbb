"""Training played back in the explorer: checkpoints in a script beside the page, a step to choose, their curve."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chromium import (
    SIZES,
    answers,
    asked,
    draw_pairs,
    explorers,
    number,
    open_details,
    settle,
)
from minalbef import ALBEF, Run, load
from minalbef.system import checkpoint
from minalbef.viz import playback
from minalbef.viz.explorer import write_explorer

STEPS = (380, 1140, 1900)


def on_the_way(share: float) -> ALBEF:
    """A model on the straight line from a random one to tiny: at 0 random, at 1 tiny."""
    torch.manual_seed(0)
    run = load("tiny")
    model = ALBEF(run.config).eval()
    end = run.model.state_dict()
    mixed = {name: start.lerp(end[name], share) for name, start in model.state_dict().items()}
    model.load_state_dict(mixed)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of tiny with two checkpoints of a made-up training and its end, and two folders that are none."""
    folder = tmp_path_factory.mktemp("run")
    run = load("tiny")
    for step, share in zip(STEPS, (0.3, 0.8, 1.0)):
        checkpoint.save(folder / f"step_{step:04}", on_the_way(share), run.tokenizer)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.copy(run.path / name, folder)
    (folder / "step_last").mkdir()
    (folder / "stepping").mkdir()
    return folder


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "explorer.html"
    write_explorer(load(folder), out, captions=1000)
    return out


def load_rounded(path: Path) -> Run:
    """A checkpoint with the weights that the script has of it."""
    run = load(path)
    weights = run.model.state_dict()
    rounded = playback.on_grid(weights).float() * playback.GRID
    parts = rounded.split([value.numel() for value in weights.values()])
    for name, part in zip(weights, parts):
        weights[name] = part.view(weights[name].shape)
    run.model.load_state_dict(weights)
    return run


def test_a_checkpoint_of_another_run_is_refused(folder, tmp_path):
    run = load(folder)
    other = replace(run, config=replace(run.config, seed=5))
    refusal = r"step_1140 is no checkpoint of .*\(seed: 4 there, 5 here\); remove it"
    with pytest.raises(ValueError, match=refusal):
        write_explorer(other, tmp_path / "explorer.html", captions=10)


def test_rounding_hardly_moves_an_answer():
    run = load("tiny")
    pairs = draw_pairs(run, 200)
    exact = answers(run, *pairs)
    rounded = answers(load_rounded(run.path), *pairs)
    assert (rounded - exact).abs().max() < 0.01


# in a browser

in_browser = pytest.mark.slow  # skipped without Chromium, but for CI


@pytest.fixture
def open_training(browser, file):
    """open_training(size="desktop", address="") -> the explorer of the run with checkpoints."""
    with explorers(browser) as open_explorer:

        def open_training(size: str = "desktop", address: str = ""):
            return open_explorer(file.as_uri() + address, size)

        yield open_training


def load_checkpoints(page) -> None:
    page.locator("#load-training").click()
    page.locator("#step-line").wait_for()


def choose_step(page, index: int) -> None:
    page.locator("#step").fill(str(index))
    settle(page)


ASK = """([step, pixels, text]) => {
  const {mind, checkpoints} = explorer;
  return [mind, checkpoints.get(step)].map(each => {
    const {similarity, match} = each.ask(each.see(Uint8Array.from(pixels)), text);
    return [similarity, match];
  });
}"""


@in_browser
def test_every_checkpoint_answers_as_torch_does_with_the_files_weights(folder, open_training):
    page = open_training()
    load_checkpoints(page)
    for index, step in enumerate(STEPS[:2]):
        choose_step(page, index)
        run = load_rounded(folder / f"step_{step:04}")
        images, texts = draw_pairs(run, 20)
        by_torch = answers(run, images, texts)
        assert by_torch.std(0).min() > 0.01
        for pixels, text, expected in zip(images, texts, by_torch):
            on_page = page.evaluate(ASK, [step, pixels.flatten().tolist(), text])
            assert (torch.tensor(on_page) - expected).abs().max() < 1e-3


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_the_slider_shows_the_model_as_it_was_by_keyboard_and_back(
    folder, file, open_training, size
):
    page = open_training(size)
    open_details(page)
    panels = ("#figures", "#attention", "#table", "#matrix", "#effect")
    before = [page.locator(panel).inner_text() for panel in panels]
    megabytes = file.with_name("explorer_training.js").stat().st_size / 1e6
    label = page.locator("#load-training").inner_text()
    assert label == f"Load 3 checkpoints ({megabytes:.1f} MB)"
    page.locator("#load-training").focus()
    page.keyboard.press("Enter")
    page.locator("#step-line").wait_for()
    assert page.evaluate("document.activeElement.id") == "step"
    page.keyboard.press("Home")
    settle(page)
    assert page.locator("#step").get_attribute("aria-valuetext") == "380 of 1,900"
    name = "tiny, step\xa0380"
    assert page.locator("#names [aria-pressed=true]").inner_text() == name
    assert set(page.locator(".inside-name").all_inner_texts()) == {name}

    run = load_rounded(folder / "step_0380")
    pixels, text = asked(page)
    match = run.match_probability(pixels, text).item()
    similarity = run.similarity(pixels, text).item()
    assert number(page, "#match") == pytest.approx(match, abs=2e-3)
    assert number(page, "#similarity") == pytest.approx(similarity, abs=1e-3)
    page.locator("#step").focus()
    page.keyboard.press("End")
    settle(page)
    assert [page.locator(panel).inner_text() for panel in panels] == before


@in_browser
def test_a_page_whose_script_is_lacking_or_anothers_says_so_and_goes_on(browser, file, tmp_path):
    page = browser.new_page()
    shutil.copy(file, tmp_path)
    address = (tmp_path / "explorer.html").as_uri()
    page.goto(address + "#sentence=a+cat&background=blue&step=380")
    page.locator("html[data-ready]").wait_for(timeout=120_000)
    note = page.locator("#address-note").inner_text()
    assert "explorer_training.js isn't beside this page" in note
    assert page.locator("#text").input_value() == "a cat"
    assert page.locator("#step-line").is_hidden()
    script = file.with_name("explorer_training.js").read_text()
    other = script.replace('"digest":"', '"digest":"0')
    refusals = {"or is damaged": script[:1000], "belongs to another page": other}
    for refusal, text in refusals.items():
        (tmp_path / "explorer_training.js").write_text(text)
        page.locator("#load-training").click()
        page.locator("#playback-said", has_text=refusal).wait_for()
    (tmp_path / "explorer_training.js").write_text(script)
    load_checkpoints(page)
    assert page.locator("#step").is_visible()
    page.close()
