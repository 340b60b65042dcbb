"""ONNX: onnxruntime computes what torch does, also where the export saw other sizes."""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from helpers import disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.data import transform
from minalbef.recipes.export import export
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run, load

onnx = pytest.importorskip("onnx", reason="pip install -e '.[onnx]' brings it")
onnxruntime = pytest.importorskip("onnxruntime")
PARTS = {"image": ("image_tokens", "image_feature"), "text": ("text_tokens", "text_feature"),
         "fusion": ("match_logits", "word_logits")}


OTHER = dict(stem="patch", fuse_cls=False, image_width=40, text_width=24, text_depth=2,
             patch_size=6, embed_dim=16)


@pytest.fixture(scope="module", params=[{}, OTHER], ids=["conv", "patch"])
def exported(request, tmp_path_factory):
    """(a run, its three graphs in onnxruntime)."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red apple above two cats",
                                 "a big dog on a blue background"], 64)
    config = small(vocab_size=len(tokenizer), **request.param)
    folder = tmp_path_factory.mktemp("onnx")
    run = Run(disturb(ALBEF(config)).eval(), tokenizer, config, folder)
    export(run, folder)
    return run, {name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
                 for name in PARTS}


@pytest.mark.parametrize("rows, length", [(1, 1), (5, 12)])
@torch.no_grad()
def test_onnxruntime_computes_what_torch_does(exported, rows, length):
    run, graphs = exported
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 24, 24, 3), dtype=np.uint8)
    tokens, keep = texts(rows, length, len(run.tokenizer),
                         lengths=[length - i for i in range(rows)])
    image = run.model.encode_image(torch.stack([transform(picture, 24) for picture in pixels]))
    text = run.model.encode_text(tokens, keep)
    fused = run.model.fuse(text, keep, image)
    truth = {"image_tokens": image, "image_feature": run.model.image_feature(image),
             "text_tokens": text, "text_feature": run.model.text_feature(text),
             "match_logits": run.model.match_logits(fused),
             "word_logits": run.model.word_logits(fused)}
    values = {"pixels": pixels, "tokens": tokens.numpy(), "keep": keep.numpy()}
    for name, outputs in PARTS.items():
        inputs = {node.name: values[node.name] for node in graphs[name].get_inputs()}
        assert [node.name for node in graphs[name].get_outputs()] == [*outputs]
        values |= zip(outputs, graphs[name].run(None, inputs))
    for name, value in truth.items():
        assert value.shape == values[name].shape
        np.testing.assert_allclose(values[name], value.numpy(), atol=1e-4, rtol=1e-4,
                                   err_msg=name)


def save_hard_images(folder: Path) -> list[Path]:
    """The example image as it is; rotated, which EXIF undoes; and with a transparent half."""
    example = Image.open(folder / "data" / "tiny" / "example.png").convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    example.transpose(Image.Transpose.ROTATE_90).save(folder / "rotated.png", exif=exif)
    clear = example.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, clear.width // 2, clear.height))
    clear.save(folder / "clear.png")
    return [Path("data", "tiny", "example.png"), Path("rotated.png"), Path("clear.png")]


def test_the_example_of_the_page_gives_the_runs_own_answers(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    (tmp_path / "data").symlink_to(root / "data")
    monkeypatch.chdir(tmp_path)
    page = (root / "docs" / "use.md").read_text(encoding="utf-8")
    command, = re.findall("`minalbef (export .*?)`", page)
    monkeypatch.setattr("sys.argv", ["minalbef", *command.split()])
    main()
    for path in (tmp_path / "runs" / "onnx").glob("*.onnx"):
        onnx.checker.check_model(path, full_check=True)
    _, code = re.findall(r"```python\n(.*?)```", page, re.S)
    run = load("tiny")
    text = "a big rocket on a blue background"
    assert code.count('"data/tiny/example.png"') == code.count(f'"{text}"') == 1
    for path in save_hard_images(tmp_path):
        names: dict = {}
        exec(compile(code.replace("data/tiny/example.png", str(path)), "docs/use.md", "exec"),
             names)
        similarity = names["image_feature"] @ names["text_feature"].T
        assert similarity == pytest.approx(run.similarity(path, text).item(), abs=1e-4), path
        no, yes = names["match"][0]
        match = run.match_probability(path, text).item()
        assert 1 / (1 + np.exp(no - yes)) == pytest.approx(match, abs=1e-4), path
