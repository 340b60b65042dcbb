import io
import os

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from helpers import small
from minalbef.data import MEAN, STD, Record, collate, normalise, transform
from minalbef.system import images
from minalbef.system.images import ImageFile, open_image
from minalbef.system.tokenizer import Tokenizer
from minalbef.vision import ViT

RED = (204, 0, 51)                    # in PIL's palette, as is blue


def picture(mode="RGB", size=(20, 10)):
    image = Image.new("RGB", size, RED)
    image.paste((0, 0, 255), (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return io.BytesIO(file.getvalue())


def test_every_way_in_gives_the_same_pixels(tmp_path):
    image = picture()
    path = tmp_path / "a.png"
    image.save(path)
    for source in (image, path, str(path), file_of(image),
                   np.array(image), picture("P"), file_of(picture("P"))):
        assert np.array_equal(np.array(open_image(source)), np.array(image))


RAMP = np.linspace(0, 1, 256).reshape(16, 16)      # of grey


@pytest.mark.parametrize("values", [
    RAMP.astype(np.float32), (RAMP * 255).astype(np.int32), (RAMP * 255).astype(np.float32),
    (RAMP * 65535).astype(np.int32),
    (RAMP * 65535).astype(np.uint16), (RAMP * 255).astype(np.uint16)],
    ids=["float 0..1", "int32 0..255", "float 0..255",
         "int32 0..65535", "uint16", "uint16 0..255"])
def test_deep_grey_has_the_brightness_of_8_bits(values, tmp_path):
    Image.fromarray(values).save(tmp_path / "deep.tif")
    pixels = np.array(open_image(tmp_path / "deep.tif"))[..., 0].astype(int)
    assert np.abs(pixels - 255 * RAMP).max() <= 1


def test_transparency_lies_over_white():
    clear = picture("RGBA")
    clear.putalpha(0)
    assert (np.array(open_image(file_of(clear))) == 255).all()
    palette = picture("P")
    hole = palette.getpixel((0, 0))
    pixels = np.array(open_image(file_of(palette, transparency=hole)))
    assert (pixels[0, 0] == 255).all() and tuple(pixels[0, -1]) == RED


def test_a_sets_picture_is_read_as_stored():
    """As the original does: Image.open(path).convert("RGB"), no more."""
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = picture("RGBA")
    clear.putalpha(0)
    grey = picture("RGB").convert("L")
    for file in (file_of(picture(), "JPEG", exif=exif),
                 file_of(clear), file_of(picture("P"), transparency=1),
                 file_of(grey)):
        reference = Image.open(file).convert("RGB")
        assert np.array_equal(np.array(open_image(file, upright=False)), np.array(reference))
        assert torch.equal(transform(file, 8),
                           transform(reference.resize((8, 8), Image.Resampling.BICUBIC), 8))


@pytest.mark.parametrize("content",
                         [b"", b"no picture", file_of(picture(), "JPEG").getvalue()[:-200],
                          file_of(picture("RGB", (90, 90))).getvalue()[:100]])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.jpg cannot be read.*leave it out"):
        open_image(path)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "TGA", "JPEG2000", "PCX"])
def test_no_other_format_opens_and_no_postscript_runs_whatever_the_files_name(
        tmp_path, monkeypatch, kind):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript",
                        lambda *_, **__: pytest.fail("a picture's program was run"))
    path = tmp_path / "a.jpg"
    path.write_bytes(file_of(picture("L" if kind == "PCX" else "RGB"), kind).getvalue())
    for source in (path, str(path), io.BytesIO(path.read_bytes()),
                   ImageFile(path), ImageFile(path, 0, path.stat().st_size)):
        with pytest.raises(ValueError,
                           match="must be a whole file of JPEG, PNG, WebP, GIF, BMP, TIFF or PPM; save it again"):
            open_image(source)


def test_a_pipe_is_no_picture_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    for path in (tmp_path / "x.jpg", str(tmp_path / "x.jpg")):
        with pytest.raises(ValueError,
                           match="x.jpg cannot be read as an image: it is no file, but a"):
            open_image(path)


@pytest.mark.parametrize("array",
                         [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 7), np.uint8),
                          np.zeros((0, 4, 3), np.uint8)])
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(ValueError, match="array of shape"):
        open_image(array)


def test_a_gigantic_picture_is_an_error_and_not_decoded(monkeypatch):
    assert images.MAX_PIXELS < Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(images, "MAX_PIXELS", 199)
    with pytest.raises(ValueError,
                       match="20 x 10 is over the limit of 199 pixels .*make it smaller"):
        open_image(file_of(picture()))
    monkeypatch.setattr(images, "MAX_PIXELS", 200)
    assert open_image(file_of(picture())).size == (20, 10)


def test_a_batch_of_bytes_is_normalised_to_the_bits_of_each_image_alone():
    tokenizer = Tokenizer.train(["a cat"], 60)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    pixels[:2] = np.arange(384).reshape(2, 8, 8, 3) % 256                # every value
    batch = collate([Record(image, "a cat", i) for i, image in enumerate(pixels)], tokenizer, 8)
    assert batch.image.dtype == torch.uint8 and batch.image.is_contiguous()
    mean = 255 * torch.tensor(MEAN)[:, None, None]
    std = 255 * torch.tensor(STD)[:, None, None]
    alone = torch.stack([(torch.from_numpy(image).permute(2, 0, 1) - mean) / std
                         for image in pixels])
    on_device = batch.to("cpu").image
    assert torch.equal(on_device, alone) and on_device.stride() == alone.stride()
    assert torch.equal(alone, torch.stack([transform(image, 8) for image in pixels]))
    parts = [batch.part(i, 5, 5).to("cpu").image for i in range(5)]
    assert torch.equal(torch.cat(parts), alone), "so are micro-batches"
    assert torch.equal(batch.to("cpu").to("cpu").image, alone), "nothing is normalised twice"


def test_a_model_refuses_images_that_nobody_normalised():
    model = ViT(small())
    pixels = torch.zeros(2, 3, 24, 24, dtype=torch.uint8)
    assert model(normalise(pixels)).shape == (2, 10, 32)
    with pytest.raises(ValueError,
                       match="image is uint8, and the model reads normalised images"):
        model(pixels)
