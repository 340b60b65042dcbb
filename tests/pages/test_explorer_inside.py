"""The explorer's inside, as torch computes it: heads switched off or patched, and the flow of a pass."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from chromium import asked, draw_pairs, stored_run

pytestmark = pytest.mark.slow  # skipped without Chromium, but for CI


@pytest.fixture(scope="module")
def run():
    """The shipped run, with the weights of the page."""
    return stored_run("tiny")


@pytest.fixture
def open_inside(open_page):
    """open_page, with the heads unfolded."""

    def open_inside(*where):
        page = open_page(*where)
        page.locator("#inside summary").click()
        page.locator("#effect table").wait_for()
        return page

    return open_inside


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
    width = module.proj.in_features // module.heads
    return module, slice((int(number) - 1) * width, int(number) * width)


def answer(run, pixels: np.ndarray, text: str, switches: dict[str, str]) -> list[float]:
    """Torch's similarity and match with these heads off, or patched from the mirror image."""
    outputs: dict = {}

    def record(projection, inputs):
        outputs[projection] = inputs[0].clone()

    def change(projection, inputs):
        changed = inputs[0].clone()  # (b, n, h * d)
        for head, state in switches.items():
            module, columns = attention(run.model, head)
            if module.proj is projection:
                patch = 0 if state == "off" else outputs[projection][..., columns]
                changed[..., columns] = patch
        return (changed,)

    projections = {attention(run.model, head)[0].proj for head in switches}
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
SWITCHES = (
    {"cross_2_3": "off"},
    {"cross_1_1": "off", "cross_1_2": "off", "cross_1_3": "off"},
    {"self_2_1": "off"},
    {"image_1_2": "off", "image_2_3": "off"},
    {"text_3_2": "off"},
    {"cross_1_1": "mirror"},
    {"image_2_1": "mirror", "cross_2_2": "mirror"},
    {"self_2_3": "mirror", "cross_1_2": "off", "text_2_2": "off"},
)


def test_heads_switched_off_or_patched_answer_as_torch_with_a_hook_before_the_projection(
    run, open_inside
):
    page = open_inside()
    images, texts = draw_pairs(run, 6)
    for switches in SWITCHES:
        effect = 0.0
        for pixels, text in zip(images, texts):
            by_torch = answer(run, pixels, text, switches)
            on_page = page.evaluate(ASK, [pixels.flatten().tolist(), text, switches])
            assert on_page == pytest.approx(by_torch, abs=1e-3), (switches, text)
            plain = answer(run, pixels, text, {})
            effect = max(effect, abs(by_torch[0] - plain[0]), abs(by_torch[1] - plain[1]))
        assert effect > 0.003, f"{switches}: the change can't be told from none"


# the flow of a pass
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


def test_the_flow_shows_the_lengths_of_what_each_layer_adds_in_torch(run, open_inside):
    page = open_inside()
    page.locator("#flow summary").click()
    outputs = layer_outputs(run, *asked(page))
    for block, names in SUMS.items():
        page.locator(f"#flow-blocks .{block}").click()
        kind, token = ("patch", 15) if block == "image" else ("word", 3)
        page.locator(f"#flow-{kind}").select_option(str(token))
        rows = page.locator("#flow-numbers table").last.locator("tr").all()[1:]
        assert len(rows) == (3 if block == "text" else 2)
        for layer, row in enumerate(rows):
            on_page = [float(cell) for cell in row.locator("td").all_inner_texts()]
            by_torch = [outputs[name.format(layer)][token].norm().item() for name in names]
            assert on_page == pytest.approx(by_torch, abs=0.006), (block, layer)
