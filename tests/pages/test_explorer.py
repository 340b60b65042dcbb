"""The explorer: its JavaScript computes and paints as the package does, and each control answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from chromium import (
    answers,
    asked,
    draw_pairs,
    keep,
    number,
    open_details,
    settle,
    stored_run,
)
from emojiscenes.language import Object, Scene
from emojiscenes.scenes import Scenes, paint
from helpers import disturb
from minalbef import ALBEF, load
from minalbef.layers import record_weights
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer
from minalbef.viz.explorer import write_explorer

MODELS = ("tiny", "tiny-paper")  # the page's pair
in_browser = pytest.mark.slow  # skipped without Chromium, but for CI: see the fixture `browser`


@pytest.fixture(scope="module")
def run():
    return load("tiny")


def test_a_run_of_other_data_or_another_task_is_refused(run, tmp_path):
    for other in (replace(run, task="vqa"), replace(run, config=replace(run.config, objects=0))):
        with pytest.raises(ValueError, match="not a pretrained model of the embedded scenes"):
            write_explorer(other, tmp_path / "explorer.html")


# in a browser


@pytest.fixture
def page(open_page):
    page = open_page()
    open_details(page)
    return page


ASK = """([pixels, text, index = 0]) => {
  const mind = explorer.pair[index];
  const {similarity, match} = mind.ask(mind.see(Uint8Array.from(pixels)), text);
  return [similarity, match];
}"""


@in_browser
@pytest.mark.parametrize("name", MODELS)
def test_javascript_equals_torch_on_100_pairs(page, name, capsys):
    """To 1e-4 with the file's weights, where we promise 1e-3; with the run's as near as these are rounded."""
    images, texts = draw_pairs(load(name), 100)
    rows = []
    for image, text in zip(images, texts):
        rows.append(page.evaluate(ASK, [image.flatten().tolist(), text, MODELS.index(name)]))
    on_page = torch.tensor(rows)
    stored = (on_page - answers(stored_run(name), images, texts)).abs().amax(0)
    exact = (on_page - answers(load(name), images, texts)).abs().amax(0)
    with capsys.disabled():
        print(f"\n{name}: similarity and match differ by at most {stored} stored, {exact} exact")
    assert stored.max() < 1e-4
    assert exact.max() < 2e-3
    assert on_page[:, 1].min() < 0.1 < 0.9 < on_page[:, 1].max()


READ_MASKED = """([pixels, tokens]) => {
  const {mind} = explorer, attention = [];
  const {seen} = mind.see(Uint8Array.from(pixels));
  const fused = mind.model.fuse(mind.read(tokens), seen, attention);
  const maps = attention.map(heads => heads.map(rows => [...rows[2]]));
  return [[...mind.model.wordProbabilities(fused, 2)], maps];
}"""


@in_browser
def test_masked_words_attention_and_pieces_equal_torch(page):
    run = stored_run("tiny")
    model = run.model
    for image, caption in zip(*draw_pairs(run, 10)):
        text = caption + " and a zebra's CAFÉ-bar"
        tokens, mask = run.tokenizer.encode([text], run.config.text_length)
        encode = "text => explorer.tokenizer.encode(text, 30).tokens"
        assert page.evaluate(encode, text) == tokens[0].tolist()
        tokens[0, 2] = run.tokenizer.mask
        with torch.no_grad(), record_weights(model.fusion, "cross") as weights:
            seen = model.encode_image(run.transform(image)[None])
            fused = model.fuse(model.encode_text(tokens, mask), mask, seen)
            likely = model.word_logits(fused[0, 2]).softmax(-1)
        words, maps = page.evaluate(READ_MASKED, [image.flatten().tolist(), tokens[0].tolist()])
        assert torch.allclose(torch.tensor(words), likely, atol=1e-3)
        assert torch.allclose(torch.tensor(maps), torch.cat(weights)[:, :, 2], atol=1e-3)


def as_javascript(scene: Scene) -> dict:
    """A scene as the page's scripts have it."""
    objects = []
    for thing in scene.objects:
        values = {name: getattr(thing, name) for name in Object.__slots__}
        objects.append(values | {"style": thing.vendor})
    return {"background": scene.background, "photo": None, "objects": objects}


@in_browser
def test_it_paints_as_the_package_paints(run, page):
    """To 2 of 255, which a canvas loses of half transparent colours.

    A flat colour may fall on a step's other side.
    """
    angles = np.random.default_rng(3)
    source = Scenes("test", objects=run.config.objects, restyle=0.5)
    flat_errors = []
    for i in range(60):
        drawn = source.draw(i).scene
        things = []
        for thing in drawn.objects:
            angle = float(angles.integers(-180, 180)) if i % 2 else 0.0
            things.append(replace(thing, angle=angle))
        scene = Scene(tuple(things), drawn.background)
        paint_scene = "scene => [...explorer.painter.paint(scene)]"
        on_page = np.array(page.evaluate(paint_scene, as_javascript(scene))).reshape(48, 48, 3)
        errors = np.abs(on_page - paint(scene, 48).astype(int)).max(-1)
        if any("flat" in thing.vendor for thing in things):
            flat_errors.append(errors)
        else:
            assert errors.max() <= 2
    assert len(flat_errors) > 9
    assert (np.stack(flat_errors) > 2).mean() < 1e-3


def stage(page) -> str:
    """The image of the scene, as a browser writes it."""
    return page.evaluate("document.getElementById('stage').toDataURL()")


def answer(page) -> list[float]:
    """Log-odds of a match, and similarity, of what is on the stage."""
    return page.evaluate("""() => {
      const {mind, painter, scene} = explorer, text = document.getElementById("text").value;
      const {odds, similarity} = mind.ask(mind.see(painter.paint(scene)), text);
      return [odds, similarity];
    }""")


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Across the stage, in its pixels of 480."""
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    scale = box["width"] / 480
    page.mouse.move(box["x"] + start[0] * scale, box["y"] + start[1] * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * scale, box["y"] + end[1] * scale, steps=4)
    page.mouse.up()


# each changes the picture; the apple stands at (0.25, 0.5), a square of 0.3:
# its corner at (192, 312) of 480, its handle at (120, 146)
DRAGS = {
    "turn": ((120, 146), (220, 240)),
    "resize": ((190, 310), (230, 350)),
    "move": ((120, 240), (200, 120)),
}
SLIDERS = {"#angle": "20", "#x": "0.74", "#y": "0.5", "#size": "0.2"}
CHOICES = {"#style": "fluent", "#finish": "flat", "#background": "blue"}
KEYS = ("ArrowLeft", "+", "]", "Delete")


@in_browser
def test_every_control_of_the_picture_changes_the_picture_and_the_answer(page, tmp_path):
    Image.new("RGB", (90, 60), (20, 160, 90)).save(tmp_path / "photo.png")
    seen = [(stage(page), answer(page))]

    def expect_change(control: str) -> None:
        settle(page)
        picture_before, answer_before = seen[-1]
        seen.append((stage(page), answer(page)))
        assert seen[-1][0] != picture_before, control
        assert seen[-1][1] != answer_before, control

    for name, (start, end) in DRAGS.items():
        drag(page, start, end)
        expect_change(name)
    for slider, value in SLIDERS.items():
        page.locator(slider).fill(value)
        expect_change(slider)
    for menu, option in CHOICES.items():
        page.locator(menu).select_option(option)
        expect_change(menu)
    assert page.evaluate("explorer.scene.objects[0].style") == "fluent+flat"
    page.locator("#add").click()
    expect_change("#add")
    assert page.locator("#things button").count() == 3
    for key in KEYS:
        page.locator("#stage").press(key)
        expect_change(key)
    page.locator("#remove").click()
    expect_change("#remove")
    assert page.locator("#things button").count() == 1
    page.locator("#photo").set_input_files(tmp_path / "photo.png")
    page.locator("#photo-off").wait_for()
    expect_change("#photo")
    page.locator("#photo-off").click()
    expect_change("#photo-off")
    assert page.locator("#remove").is_disabled(), "nothing is left to choose"


@in_browser
def test_a_sentence_is_completed_and_its_words_are_masked_and_unknown_ones_marked(page):
    box = page.locator("#text")
    before = answer(page)
    box.fill("an apple left of a ca")
    assert page.locator("#completions li").first.inner_text() == "cacti"
    box.press("ArrowDown")
    box.press("Enter")
    assert box.input_value() == "an apple left of a cactus"
    settle(page)
    assert answer(page) != before
    assert page.locator("#completions").is_hidden()
    box.fill("an apple left of a zebra")
    settle(page)
    assert page.locator("#words .strange").all_inner_texts() == ["zebra"]
    assert "zebra" in page.locator("#unknown").inner_text()
    attention_map = page.locator("#attention canvas").first
    before = attention_map.evaluate("canvas => canvas.toDataURL()")
    page.locator("#words button", has_text="apple").click()
    settle(page)
    assert page.locator("#guesses .guess span").first.inner_text() == "apple"
    assert attention_map.evaluate("canvas => canvas.toDataURL()") != before
    page.locator("#words button", has_text="zebra").click()
    settle(page)
    pieces = page.evaluate("explorer.tokenizer.wordIds('zebra')")
    assert page.locator("#guesses .guess").count() == len(pieces) > 1
    box.fill("")
    settle(page)
    assert page.locator("#numbers").inner_text() == "Type a sentence."


@in_browser
def test_attention_occlusion_pixels_curve_table_and_the_warm_start_answer(page):
    assert page.locator("#attention button").count() == 2 * 3
    choices = {
        "a head's map": lambda: page.locator("#veil-map").select_option(index=4),
        "another head's": lambda: page.locator("#veil-map").select_option(index=5),
        "occlusion": lambda: page.locator("[name=veil][value=occlusion]").check(),
        "no map": lambda: page.locator("[name=veil][value=none]").check(),
        "pixels": lambda: page.locator("#pixels").check(),
    }
    before = stage(page)
    for name, choose in choices.items():
        choose()
        settle(page)
        assert stage(page) != before, name
        before = stage(page)
    page.locator("[name=veil][value=occlusion]").check()
    page.locator("#occlusion", has_text="changes the match most").wait_for(timeout=60_000)
    page.locator("#draw-curve").click()
    page.locator("#curve-note", has_text="dotted").wait_for(timeout=60_000)
    assert page.locator("#curve polyline").count() == 4
    page.locator("#sentences").fill("a cat\n\nan apple\na rocket")
    settle(page)
    cells = page.locator("#table td.value:nth-child(2)").all_inner_texts()
    cat, apple, rocket = [float(text.strip("<> ")) for text in cells]
    assert min(cat, apple) > 0.1 > rocket
    page.locator("#beside").select_option("start")
    settle(page)
    assert abs(number(page, "#other-similarity")) < 0.4 < number(page, "#similarity")


@in_browser
def test_the_tour_asks_for_a_prediction_before_it_answers_and_has_eight_steps(page):
    page.locator("#tour-start").click()
    for i in range(1, 9):
        assert page.locator("#tour-title").inner_text().startswith(f"{i} of 8")
        assert page.locator("#numbers").is_hidden()
        assert page.locator("#tour-next").is_disabled()
        page.locator("#tour-options button").first.click()
        page.locator("#tour-next:not([disabled])").wait_for(timeout=60_000)
        assert page.locator("#numbers").is_visible()
        assert page.locator("#tour-answer").inner_text()
        keep(page, f"explorer-tour-{i}")
        page.locator("#tour-next").click()
    assert page.locator("#tour").is_hidden()


# a model of your own beside the page's


@pytest.fixture(scope="module")
def own(run, tmp_path_factory) -> Path:
    """A run folder of other depths, heads and words than the page's."""
    source = Scenes("train", seed=5, objects=run.config.objects)
    tokenizer = Tokenizer.train([source.draw(i).text for i in range(300)], 150)
    config = replace(
        run.config, seed=5, image_depth=1, text_depth=2, fusion_depth=3, text_heads=4,
        fuse_cls=True, vocab_size=len(tokenizer),
    )
    folder = tmp_path_factory.mktemp("own")
    checkpoint.save(folder, disturb(ALBEF(config)), tokenizer)
    return folder


ASK_OWN = """() => {
  const {minds, painter, scene} = explorer, mind = minds()[1];
  const looked = mind.see(painter.paint(scene)), text = document.getElementById("text").value;
  const {similarity, match, attention} = mind.ask(looked, text);
  return [similarity, match, attention.map(heads => heads.map(rows => [...rows[3]]))];
}"""


@in_browser
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_model_of_your_own_answers_as_torch_does_beside_the_pages(page, own, tmp_path, dtype):
    run = load(own)
    run.model.to(dtype).float()
    weights = load_file(own / "model.safetensors")
    weights = {name: value.to(dtype) for name, value in weights.items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    page.locator("#words button", has_text="apple").click()
    page.locator("#own").set_input_files(
        [tmp_path / "model.safetensors", own / "config.json", own / "tokenizer.json"]
    )
    page.locator("#own-said", has_text="Loaded: a run of tiny, seed 5.").wait_for()
    settle(page)
    pixels, text = asked(page)
    similarity, match, maps = page.evaluate(ASK_OWN)
    assert similarity == pytest.approx(run.similarity(pixels, text).item(), abs=1e-5)
    assert match == pytest.approx(run.match_probability(pixels, text).item(), abs=1e-5)
    by_torch = run.attention(pixels, text)[:, :, 3].flatten(2)
    on_page = torch.tensor(maps)[..., -by_torch.shape[2] :]  # its [CLS] aside
    assert torch.allclose(on_page, by_torch, atol=1e-5)
    assert page.locator("#other-match").inner_text() == f"{match:.3f}"
    assert page.locator("#other-similarity").inner_text() == f"{similarity:.3f}"
    assert page.locator("#guesses .whole").all_inner_texts() == ["tiny", "your model"]
    assert page.locator("#attention button").count() == 2 * 3 + 3 * 4
    assert page.locator("#table tr").count() == 1 + 2 * 6

    page.mouse.move(5, 5)  # away from the word, which lights up
    plain = stage(page)
    page.locator("#attention button").last.hover()
    assert stage(page) != plain, "its attention can be laid over the picture"
    page.locator("#attention button").last.click(force=True)  # it says that it is disabled
    assert page.evaluate("explorer.switches.size") == 0, "its heads can't be switched off"
    page.locator("#draw-curve").click()
    page.locator("#curve-note", has_text="dotted").wait_for(timeout=60_000)
    assert page.locator("#curve polyline").count() == 8
    page.locator("#beside").select_option("")
    settle(page)
    assert page.locator("#other-match").count() == 0
    assert page.locator("#attention button").count() == 6


@in_browser
def test_files_that_make_no_model_of_the_page_are_refused_by_name(page, run, own, tmp_path):
    weights = own / "model.safetensors"
    config = own / "config.json"

    def said_of(*paths: Path) -> str:
        page.evaluate("document.getElementById('own-said').textContent = ''")
        page.locator("#own").set_input_files(paths)
        page.locator("#own-said", has_text="oaded").wait_for()
        return page.locator("#own-said").inner_text()

    def change_config(**changes) -> Path:
        values = json.loads(config.read_text()) | changes
        (tmp_path / "config.json").write_text(json.dumps(values))
        return tmp_path / "config.json"

    lacking = said_of(weights)
    assert "norm1.weight is not there in the file, and 96 by the settings" in lacking
    assert "choose the run's config.json and tokenizer.json with it" in lacking
    assert "word pieces, and the settings say" in said_of(weights, config)
    assert "no weights; choose the run's" in said_of(config, own / "tokenizer.json")
    assert "report.json is no part of a model" in said_of(weights, run.path / "report.json")
    assert "its image_size is 64, and this page's 48" in said_of(
        weights, change_config(image_size=64))
    assert "it was tuned for vqa" in said_of(weights, change_config(task="vqa"))
    lent = "with this page's config.json and tokenizer.json"
    loaded = said_of(run.path / "model.safetensors")
    assert loaded == f"Loaded: a run of tiny, seed {run.config.seed}, {lent}."
