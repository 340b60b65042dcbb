"""Training played back in the explorer: checkpoints in a script beside the page, a step to choose, and their curve."""
import base64
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from chromium import SIZES, explorers, keep, settle
from emojiscenes.scenes import Scenes
from minalbef import ALBEF, Run, checkpoint, load
from minalbef.cli.use import explore
from minalbef.viz import explorer, playback
from minalbef.viz.explorer import write_explorer

STEPS = (380, 1140, 1900)
TRAINED = Path(__file__).parents[2] / "runs" / "checkpoints" / "tiny-4"       # experiments/checkpoints.py makes it


def on_the_way(share: float) -> ALBEF:
    """A model on the straight line from a random one to tiny: at 0 random, at 1 tiny."""
    torch.manual_seed(0)
    run = load("tiny")
    model = ALBEF(run.config).eval()
    weights = run.model.state_dict()
    model.load_state_dict({name: value.lerp(weights[name], share) for name, value in model.state_dict().items()})
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


def rounded(run: Run) -> Run:
    """A checkpoint with the weights that the script has of it."""
    weights = run.model.state_dict()
    numbers = playback.on_grid(weights).float() * playback.GRID
    parts = numbers.split([value.numel() for value in weights.values()])
    run.model.load_state_dict({name: part.view(weights[name].shape) for name, part in zip(weights, parts)})
    return run


def answers(run: Run, count: int = 200) -> torch.Tensor:
    """A run's similarity and match of drawn scenes and captions, half of them another's: (count, 2)."""
    source = Scenes("test", objects=run.config.objects)
    drawn = [source.draw(i) for i in range(count)]
    texts = [drawn[(i + i % 2) % count].text for i in range(count)]
    pixels = [source.picture(one) for one in drawn]
    return torch.stack([run.similarity(pixels, texts).diagonal(), run.match_pairs(pixels, texts)], 1)


def test_a_runs_checkpoints_are_found_by_step_without_its_end(folder):
    assert [*playback.checkpoints_of(load(folder))] == [380, 1140] and playback.checkpoints_of(load("tiny")) == {}


def test_the_script_lies_beside_a_page_that_is_no_larger_and_loads_nothing_else(file, explorer_page):
    script = file.with_name("explorer_training.js")
    assert sorted(file.parent.iterdir()) == [file, script]
    assert script.read_text().startswith("receiveTraining({")
    assert file.stat().st_size < explorer_page.stat().st_size + 500
    policy = "script-src 'unsafe-inline' 'self' file:;"
    assert policy in file.read_text() and policy not in explorer_page.read_text()


def test_the_command_says_where_the_script_is(folder, tmp_path, capsys):
    explore(folder, out=tmp_path / "own.html")
    assert f"{tmp_path / 'own_training.js'} holds the run's checkpoints; keep it" in capsys.readouterr().out


def test_numbers_are_restored_of_what_is_compressed_and_too_large_a_change_is_refused():
    numbers = torch.tensor([0, -1, 1, 300, -32767, 32767])
    data = zlib.decompress(base64.b64decode(playback.compress(numbers)))
    found = np.frombuffer(data[:6], np.uint8) + 256 * np.frombuffer(data[6:], np.uint8).astype(int)
    assert np.where(found % 2, -(found + 1) // 2, found // 2).tolist() == numbers.tolist()
    with pytest.raises(ValueError, match="a weight changes by 16 from one checkpoint to the next, and 16 is the limit"):
        playback.compress(torch.tensor([0, -32768]))


def test_a_checkpoint_of_another_run_is_refused(folder, tmp_path):
    other = load(folder)
    with pytest.raises(ValueError, match=r"step_1140 is no checkpoint of .*\(seed: 4 there, 5 here\); remove it"):
        write_explorer(replace(other, config=replace(other.config, seed=5)), tmp_path / "explorer.html", captions=10)


def test_rounding_moves_tinys_answers_by_no_more_than_the_page_says(capsys):
    """Its end, and its checkpoints where they are."""
    text = Path(explorer.__file__).with_name("explorer.html").read_text(encoding="utf-8")
    assert f"rounded to 1/{1 / playback.GRID:.0f}." in text and "by less than 0.01 (200 test scenes" in text
    for path in [load("tiny").path, *TRAINED.glob("step_*")]:
        found = answers(rounded(load(path)))
        moved = (found - answers(load(path))).abs().amax(0)
        with capsys.disabled():
            print(f"\n{path.name}: rounding moves similarity and match by at most {moved.tolist()}")
        assert moved.max() < 0.01
        assert found[:, 1].std() > 0.02, "the pairs can tell, though early ones hardly differ"


# in a browser

in_browser = pytest.mark.slow         # skipped without Chromium, but for CI


@pytest.fixture
def open_page(browser, file):
    """open_page(size, address="", **options) -> the explorer, which has answered once."""
    with explorers(browser) as open_explorer:
        yield lambda size, address="", **options: open_explorer(file.as_uri() + address, size, **options)


def load_checkpoints(page) -> None:
    page.locator("#load-training").click()
    page.locator("#step-line").wait_for()


def choose_step(page, index: int) -> None:
    page.locator("#step").fill(str(index))
    settle(page)


def seen(page) -> tuple[np.ndarray, str]:
    """-> the pixels that the model sees, and the sentence."""
    pixels = page.evaluate("[...explorer.painter.paint(explorer.scene)]")
    return np.array(pixels, np.uint8).reshape(48, 48, 3), page.locator("#text").input_value()


@in_browser
def test_every_checkpoint_answers_as_torch_does_with_the_files_weights(folder, open_page):
    page = open_page("desktop")
    load_checkpoints(page)
    source, found, true = Scenes("test", objects=50), [], []
    drawn = [source.draw(i) for i in range(20)]
    for index, step in enumerate(STEPS[:2]):
        choose_step(page, index)
        run = rounded(load(folder / f"step_{step:04}"))
        for i, one in enumerate(drawn):
            text, pixels = drawn[(i + i % 2) % 20].text, source.picture(one)
            found.append(page.evaluate("""([step, pixels, text]) => {
              const {mind, checkpoints} = explorer;
              return [mind, checkpoints.get(step)].map(one => {
                const {similarity, match} = one.ask(one.see(Uint8Array.from(pixels)), text);
                return [similarity, match];
              });
            }""", [step, pixels.flatten().tolist(), text]))
            true.append([run.similarity(pixels, text).item(), run.match_probability(pixels, text).item()])
    found, true = torch.tensor(found), torch.tensor(true)
    assert (found - true[:, None]).abs().max() < 1e-3 and true.std(0).min() > 0.01


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_the_slider_shows_the_model_as_it_was_in_every_panel_by_keyboard_and_back(folder, open_page, size):
    page = open_page(size)
    page.evaluate("document.querySelectorAll('.rest details').forEach(one => one.open = true)")
    before = [page.locator(panel).inner_text() for panel in ("#figures", "#attention", "#table", "#matrix", "#effect")]
    assert page.locator("#load-training").inner_text() == f"Load 3 checkpoints ({size_of_script(page)} MB)"
    page.locator("#names button").last.click()               # the other model's panels
    settle(page)
    page.locator("#load-training").focus()
    page.keyboard.press("Enter")
    page.locator("#step-line").wait_for()
    assert page.evaluate("document.activeElement.id") == "step" and page.locator("#load-training").is_hidden()
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert page.locator("#step-said").inner_text() == "1,140 of 1,900"
    assert page.locator("#step").get_attribute("aria-valuetext") == "1,140 of 1,900"
    page.keyboard.press("Home")
    settle(page)
    name = "tiny, step\xa0380"
    assert page.locator("#names [aria-pressed=true]").inner_text() == name
    assert set(page.locator(".inside-name").all_inner_texts()) == {name}
    run, (pixels, text) = rounded(load(folder / "step_0380")), seen(page)
    match, similarity = (float(page.locator(f"#{one}").inner_text().strip("<> ")) for one in ("match", "similarity"))
    assert match == pytest.approx(run.match_probability(pixels, text).item(), abs=2e-3)
    assert similarity == pytest.approx(run.similarity(pixels, text).item(), abs=1e-3)
    assert page.locator("#effect tr").nth(1).locator("td").first.inner_text() == page.locator("#match").inner_text()
    page.locator("#words button", has_text="left").click()
    settle(page)
    assert page.locator("#guesses .guess > span:first-child").first.inner_text() == likeliest(run, pixels, text, 3)
    page.locator("#words button", has_text="left").click()
    stays = ("#text", "#words", "#stage", "#numbers", "#step", "#step-said", "#time")
    width, height = page.viewport_size["width"], page.viewport_size["height"]
    page.locator("#table").scroll_into_view_if_needed()
    for selector in stays:
        box = page.locator(selector).bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= width and 0 <= box["y"] <= height - box["height"], selector
    assert page.locator("#stage").bounding_box()["width"] > (500 if size == "desktop" else 250)
    keep(page, f"explorer-playback-{size}")
    page.locator("#step").focus()
    page.keyboard.press("End")
    settle(page)
    assert before == [page.locator(panel).inner_text() for panel in ("#figures", "#attention", "#table", "#matrix",
                                                                     "#effect")]


def size_of_script(page) -> str:
    script = Path(page.url.partition("#")[0].removeprefix("file://")).with_name("explorer_training.js")
    return f"{script.stat().st_size / 1e6:.1f}"


def likeliest(run: Run, pixels: np.ndarray, text: str, place: int) -> str:
    """The likeliest piece for a masked token."""
    tokens, mask = run.tokenizer.encode([text], run.config.text_length)
    tokens[0, place] = run.tokenizer.mask
    with torch.no_grad():
        image = run.model.encode_image(run.transform(pixels)[None])
        logits = run.model.word_logits(run.model.fuse(run.model.encode_text(tokens, mask), mask, image)[0, place])
    return run.tokenizer.decode([logits.argmax().item()])


@in_browser
def test_the_curve_asks_every_checkpoint_the_sentence_and_its_foil_and_follows_the_step(folder, open_page):
    page = open_page("desktop")
    load_checkpoints(page)
    for text, foil in (("an apple left of a cat", "an apple right of a cat"), ("an apple and a cat", None)):
        page.locator("#text").fill(text)
        page.wait_for_function("text => explorer.played()?.isDone && explorer.played().sentences[0] === text", arg=text)
        sentences, lines = page.evaluate("[explorer.played().sentences, explorer.played().lines]")
        assert sentences == [text, foil][:1 + bool(foil)] and [one["where"] for one in lines[0]] == [0.2, 0.6, 1]
        pixels, _ = seen(page)
        for sentence, line in zip(sentences, lines):
            for step, said in zip(STEPS, line):
                run = rounded(load(folder / f"step_{step:04}"))
                assert said["match"] == pytest.approx(run.match_probability(pixels, sentence).item(), abs=5e-3)
        charts = page.locator("#training-curve svg")
        assert charts.count() == 2 and charts.first.locator("polyline").count() == len(sentences)
        assert "training step" in charts.first.text_content() and "1,900" in charts.first.text_content()
    dotted = "document.querySelector('#training-curve [stroke-dasharray=\"2 4\"]').getAttribute('x1')"
    assert float(page.evaluate(dotted)) == 390
    choose_step(page, 0)
    assert float(page.evaluate(dotted)) == pytest.approx(40 + 350 * 0.2)
    page.locator("#text").fill("a rocket")
    settle(page)
    assert page.locator("#training-curve").get_attribute("aria-busy") == "true", "until it is drawn anew"
    page.locator("#training-curve[aria-busy=false]").wait_for()


@in_browser
def test_the_address_holds_the_step_undo_takes_it_back_and_the_tour_is_about_the_end(open_page):
    page = open_page("desktop")
    load_checkpoints(page)
    choose_step(page, 0)
    page.wait_for_url("**step=380*")
    said = page.locator("#figures").inner_text()
    other = open_page("phone", page.url[page.url.index("#"):])
    assert other.locator("#step-said").inner_text() == "380 of 1,900" and other.locator("#step").is_visible()
    assert other.locator("#figures").inner_text() == said
    other.evaluate("location.hash = location.hash.replace('step=380', 'step=381')")
    settle(other)
    assert "names a training step that this page hasn't" in other.locator("#address-note").inner_text()
    assert other.locator("#step-said").inner_text() == "1,900 of 1,900"
    page.locator("#draw-scene").click()
    settle(page)
    assert page.locator("#step-said").inner_text() == "380 of 1,900", "another scene stays at the step"
    page.locator("#undo").click()
    page.locator("#undo").click()
    settle(page)
    assert page.locator("#step-said").inner_text() == "1,900 of 1,900" and page.locator("#undo").is_disabled()
    choose_step(page, 1)
    page.locator("#tour-start").click()
    settle(page)
    assert page.locator("#step-said").inner_text() == "1,900 of 1,900"


@in_browser
def test_a_page_whose_script_is_lacking_or_anothers_says_so_and_goes_on(browser, file, tmp_path):
    page = browser.new_page()
    shutil.copy(file, tmp_path)
    page.goto((tmp_path / "explorer.html").as_uri() + "#sentence=a+cat&background=blue&step=380")
    page.locator("html[data-ready]").wait_for(timeout=120_000)
    assert "explorer_training.js isn't beside this page" in page.locator("#address-note").inner_text()
    assert page.locator("#text").input_value() == "a cat" and page.locator("#step-line").is_hidden()
    script = file.with_name("explorer_training.js").read_text()
    other = script.replace('"digest":"', '"digest":"0')
    for text, said in ((script[:1000], "or is damaged"), (other, "belongs to another page")):
        (tmp_path / "explorer_training.js").write_text(text)
        page.locator("#load-training").click()
        page.locator("#playback-said", has_text=said).wait_for()
    shutil.copy(file.with_name("explorer_training.js"), tmp_path)
    load_checkpoints(page)
    assert page.locator("#step").is_visible()
    page.close()


@in_browser
def test_a_page_without_checkpoints_has_no_slider(browser, explorer_page):
    with explorers(browser) as open_explorer:
        page = open_explorer(explorer_page.as_uri() + "#sentence=a+cat&background=blue&step=380", "desktop")
        assert page.locator("#playback").is_hidden() and page.locator("#step-line").is_hidden()
        assert "names a training step that this page hasn't" in page.locator("#address-note").inner_text()


@in_browser
def test_the_slider_is_44_pixels_high_for_a_finger_and_the_dark_page_shows_it(open_page):
    page = open_page("phone", has_touch=True, color_scheme="dark", reduced_motion="reduce")
    page.locator("#load-training").tap()
    page.locator("#step").wait_for()
    box = page.locator("#step").bounding_box()
    assert box["height"] >= 44 and box["width"] >= 44
    page.touchscreen.tap(box["x"] + 3, box["y"] + 22)
    settle(page)
    assert page.locator("#step-said").inner_text() == "380 of 1,900"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    keep(page, "explorer-playback-dark")
