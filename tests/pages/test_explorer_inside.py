"""The explorer's inside, as torch computes it: heads switched off or patched, and the flow of a pass."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from chromium import SIZES, explorers, keep, settle, stored_run
from emojiscenes.scenes import Scenes

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI


@pytest.fixture(scope="module")
def run():
    """The shipped run, with the weights of the page."""
    return stored_run("tiny")


@pytest.fixture
def open_page(browser, explorer_page):
    """open_page(size, address="", **options) -> the explorer with its heads open.

    Its errors fail the test.
    """
    with explorers(browser) as open_explorer:

        def open_page(size: str, address: str = "", **options):
            page = open_explorer(explorer_page.as_uri() + address, size, **options)
            page.locator("#inside summary").click()
            page.locator("#effect table").wait_for()
            return page

        yield open_page


PARTS = {
    "image": "image_encoder.blocks.{}.attn",
    "text": "text_encoder.layers.{}.attn",
    "self": "fusion.layers.{}.attn",
    "cross": "fusion.layers.{}.cross",
}


def attention(model, head: str):
    """ "cross_1_2" -> the attention layer, and a slice of its heads' outputs, those of one head."""
    part, layer, number = head.split("_")
    module = model.get_submodule(PARTS[part].format(int(layer) - 1))
    wide = module.proj.in_features // module.heads
    return module, slice((int(number) - 1) * wide, int(number) * wide)


def answer(run, pixels: np.ndarray, text: str, switches: dict[str, str]) -> list[float]:
    """Torch's similarity and match with these heads off, or patched from the mirror image."""
    model = run.model
    outputs: dict = {}

    def record(projection, inputs):
        outputs[projection] = inputs[0].clone()

    def change(projection, inputs):
        changed = inputs[0].clone()  # (b, n, h * d)
        for head, state in switches.items():
            module, columns = attention(model, head)
            if module.proj is projection:
                changed[..., columns] = 0 if state == "off" else outputs[projection][..., columns]
        return (changed,)

    projections = {attention(model, head)[0].proj for head in switches}
    with ExitStack() as hooks:
        for projection in projections:
            hooks.callback(projection.register_forward_pre_hook(record).remove)
        run.match_probability(pixels[:, ::-1].copy(), text)
    with ExitStack() as hooks:
        for projection in projections:
            hooks.callback(projection.register_forward_pre_hook(change).remove)
        match = run.match_probability(pixels, text).item()
        return [run.similarity(pixels, text).item(), match]


ASK = """([pixels, text, switches]) => {
  const {changedMind} = explorer;
  changedMind.model.set(new Map(Object.entries(switches)));
  changedMind.forget();
  const {similarity, match} = changedMind.ask(changedMind.see(Uint8Array.from(pixels)), text);
  return [similarity, match];
}"""

CASES = (
    {"cross_2_3": "off"},
    {"cross_1_1": "off", "cross_1_2": "off", "cross_1_3": "off"},
    {"self_2_1": "off"},
    {"image_1_2": "off", "image_2_3": "off"},
    {"text_1_1": "off"},
    {"text_3_2": "off"},
    {"cross_1_1": "mirror"},
    {"cross_2_2": "mirror"},
    {"image_2_1": "mirror", "cross_2_2": "mirror"},
    {"self_2_3": "mirror", "cross_1_2": "off", "text_2_2": "off"},
    {"text_2_1": "off", "text_3_1": "mirror"},
)


@pytest.mark.parametrize("switches", CASES, ids=str)
def test_a_head_switched_off_or_patched_answers_as_torch_with_a_hook_before_its_projection(
    run, open_page, switches
):
    page = open_page("desktop")
    source = Scenes("test", objects=run.config.objects)
    moved = 0.0
    for drawn in map(source.draw, range(6)):
        pixels = source.picture(drawn)
        found = page.evaluate(ASK, [pixels.flatten().tolist(), drawn.text, switches])
        true = answer(run, pixels, drawn.text, switches)
        assert found == pytest.approx(true, abs=1e-3), drawn.text
        plain = answer(run, pixels, drawn.text, {})
        moved = max(moved, *(abs(one - other) for one, other in zip(true, plain)))
    assert moved > 0.003, "the change can be told from none"


def test_every_head_of_the_model_can_be_switched_off_and_changes_the_answer_as_in_torch(
    run, open_page
):
    page = open_page("desktop")
    page.locator("#try-heads").click()
    page.locator("#trial-said", has_text="largest change").wait_for(timeout=60_000)
    pixels = np.array(
        page.evaluate("[...explorer.painter.paint(explorer.scene)]"), np.uint8
    ).reshape(48, 48, 3)
    text = page.locator("#text").input_value()
    heads = page.evaluate("HEADS")
    assert len(heads) == 2 * 3 + 3 * 3 + 2 * 3 + 2 * 3
    assert page.locator("#heads button[aria-pressed] small").count() == len(heads)
    for head, said in zip(
        heads, page.locator("#heads button[aria-pressed] small").all_inner_texts()
    ):
        match = answer(run, pixels, text, {head: "off"})[1]
        assert said in ("> .999", "< .001") or float(said) == pytest.approx(match, abs=1e-3), head
    keep(page, "explorer-heads-tried")


def head(page, part: str, layer: int, number: int):
    title = {
        "image": "Image encoder",
        "text": "Text encoder",
        "self": "Fusion: self-attention",
        "cross": "Fusion: cross-attention",
    }[part]
    group = page.locator(f"#heads [aria-label='{title}']")
    return group.locator("[aria-pressed]").nth(3 * (layer - 1) + number - 1)


@pytest.mark.parametrize("size", SIZES)
def test_the_answer_is_shown_before_and_after_a_head_is_switched_and_a_reset_takes_it_back(
    open_page, size
):
    page = open_page(size)
    page.locator("#words button", has_text="left").click()
    settle(page)
    before = page.locator("#match").inner_text()
    assert page.locator("#other-match").count() == 0
    for number in (1, 2, 3):
        head(page, "cross", 2, number).click()
        settle(page)
    assert head(page, "cross", 2, 1).get_attribute("aria-pressed") == "true"
    assert "off" in head(page, "cross", 2, 1).inner_text()
    assert page.locator("#match").inner_text() == before
    after = page.locator("#other-match").inner_text()
    assert after != before
    lines = [
        [cell.strip() for cell in row.split("\t")]
        for row in page.locator("#effect tr").all_inner_texts()
    ]
    assert lines[0][-3:] == ["unchanged", "heads changed", "mirror image"]
    assert lines[1][:3] == ["Match (ITM)", before, after]
    assert lines[3][0] == "Masked “left”"
    assert lines[3][1].startswith("left ")
    assert lines[3][1] != lines[3][2]
    assert page.locator(".maps .unused").count() == 3, "the maps of heads that are off say so"
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    keep(page, f"explorer-heads-{size}")
    page.locator("#heads-reset").click()
    settle(page)
    assert page.locator("#other-match").count() == 0
    assert page.locator(".maps .unused").count() == 0
    assert page.locator("#heads [aria-pressed=true]").count() == 0
    assert page.locator("#heads-reset").is_disabled()


def switched(page) -> dict[str, str]:
    settle(page)
    return page.evaluate("Object.fromEntries(explorer.switches)")


def test_switched_heads_are_in_the_address_and_undone_one_by_one_by_keyboard(open_page):
    page = open_page("desktop")
    head(page, "image", 1, 2).focus()
    page.keyboard.press("Enter")
    states = [{}, switched(page)]
    assert states[1] == {"image_1_2": "off"}
    assert page.evaluate("document.activeElement.textContent").endswith("head 2: off"), (
        "the focus stays"
    )
    page.locator("[name=mode][value=mirror]").check()
    page.locator("#heads [aria-label='layer 2, all heads']").last.focus()
    page.keyboard.press(" ")
    states.append(switched(page))
    assert states[2] == {"image_1_2": "off"} | {
        f"cross_2_{number}": "mirror" for number in (1, 2, 3)
    }
    page.wait_for_url("**mirror=cross_2_3*")
    other = open_page("phone", page.url[page.url.index("#") :])
    assert switched(other) == states[2]
    assert other.locator("#other-match").inner_text() == page.locator("#other-match").inner_text()
    page.locator("#draw-scene").click()
    assert switched(page) == states[2], "another scene is asked with the same heads off"
    page.locator("#undo").click()
    for state in states[1::-1]:
        page.locator("#undo").click()
        assert switched(page) == state
    assert page.locator("#beside").input_value() == ""


def test_another_model_beside_it_switches_all_heads_on_again(open_page):
    page = open_page("desktop")
    head(page, "cross", 1, 1).click()
    assert switched(page) and page.locator("#beside").input_value() == "heads"
    page.locator("#other-model summary").click()
    page.locator("#beside").select_option("start")
    assert switched(page) == {}
    assert page.locator("#beside option").all_text_contents() == [
        "no other model",
        "tiny-paper",
        "the warm start",
    ]
    head(page, "cross", 1, 1).click()
    settle(page)
    page.locator("#tour-start").click()
    assert switched(page) == {}, "the tour is about the whole model"


BLOCKS = ("patches", "image", "text", "itc", "fusion", "itm", "mlm")
SUMS = {
    "image": (PARTS["image"], "image_encoder.blocks.{}.mlp"),
    "text": (PARTS["text"], "text_encoder.layers.{}.mlp"),
    "fusion": (PARTS["self"], PARTS["cross"], "fusion.layers.{}.mlp"),
}


def layer_outputs(run, pixels: np.ndarray, text: str) -> dict[str, torch.Tensor]:
    """What torch's attention layers and MLPs add for one image and text, by name: (n, d)."""
    outputs = {}
    with ExitStack() as hooks:
        for name, module in run.model.named_modules():
            if name.endswith((".attn", ".cross", ".mlp")):

                def keep_output(module, inputs, output, name=name):
                    outputs[name] = output[0]

                hooks.callback(module.register_forward_hook(keep_output).remove)
        tokens, mask = run.tokenizer.encode([text], run.config.text_length)
        with torch.no_grad():
            image = run.model.encode_image(run.transform(pixels)[None])
            run.model.fuse(run.model.encode_text(tokens, mask), mask, image)
    return outputs


def test_the_flow_shows_the_lengths_of_what_each_layer_adds_in_torch(run, open_page):
    page = open_page("desktop")
    page.locator("#flow summary").click()
    pixels = np.array(page.evaluate("[...explorer.painter.paint(explorer.scene)]"), np.uint8)
    outputs = layer_outputs(run, pixels.reshape(48, 48, 3), page.locator("#text").input_value())
    for block, names in SUMS.items():
        page.locator(f"#flow-blocks .{block}").click()
        choice, token = ("patch", 15) if block == "image" else ("word", 3)
        page.locator(f"#flow-{choice}").select_option(str(token))
        rows = page.locator("#flow-numbers table").last.locator("tr").all()[1:]
        for layer, row in enumerate(rows):
            lengths = [float(cell) for cell in row.locator("td").all_inner_texts()]
            true = [outputs[name.format(layer)][token].norm().item() for name in names]
            assert lengths == pytest.approx(true, abs=0.006), (block, layer)
        assert len(rows) == (3 if block == "text" else 2)


@pytest.mark.parametrize("size", SIZES)
def test_every_block_of_the_flow_opens_to_its_formula_and_numbers_by_keyboard(open_page, size):
    page = open_page(size)
    page.locator("#flow summary").focus()
    page.keyboard.press("Enter")
    page.locator("#words button", has_text="left").click()
    settle(page)
    seen = set()
    for block in BLOCKS:
        page.locator(f"#flow-blocks .{block}").focus()
        page.keyboard.press("Enter")
        settle(page)
        assert page.locator("#flow-blocks [aria-pressed=true]").count() == 1
        assert page.locator("#flow-numbers .formula").first.is_visible()
        seen.add(page.locator("#flow-numbers").inner_text())
        assert (
            page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
        ), block
        page.locator("#flow-blocks").scroll_into_view_if_needed()
        keep(page, f"explorer-flow-{block}-{size}")
    assert len(seen) == len(BLOCKS)
    assert "left" in page.locator("#flow-numbers table").inner_text()
    page.locator("#flow-blocks .itm").click()
    match = page.locator("#match").inner_text()
    assert f"= {match}" in page.locator("#flow-numbers .formula").inner_text()
    page.locator("#flow-blocks .itc").click()
    similarity = page.locator("#similarity").inner_text()
    assert f"s = v · t = {similarity}" in page.locator("#flow-numbers .formula").inner_text()
    page.locator("#text").fill("a cat")
    settle(page)
    assert page.locator("#flow-word option").all_text_contents() == ["[CLS]", "a", "cat"]
    assert f"s = v · t = {similarity}" not in page.locator("#flow-numbers .formula").inner_text()
