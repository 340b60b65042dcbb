"""Search in a folder: what is read, left out, and kept for the next search."""
import os
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from commands import call
from emojiscenes.scenes import Scenes
from helpers import disturb
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.evaluation.loop import How
from minalbef.recipes import features
from minalbef.recipes import search as finder
from minalbef.recipes.features import embed_folder
from minalbef.system import checkpoint
from minalbef.system.images import list_images
from minalbef.tasks.run import load
from untrained import untrained

SENTENCE = "a pizza above a cat"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run with a folder."""
    path = tmp_path_factory.mktemp("runs") / "one"
    checkpoint.save(path, untrained().model, untrained().tokenizer)
    return load(path)


@pytest.fixture
def photos(run, tmp_path):
    """40 pictures, one of them not whole, and one file that is none."""
    (tmp_path / "photos").mkdir()
    source = Scenes("test", size=run.config.image_size, objects=run.config.objects)
    for i in range(40):
        picture = Image.fromarray(finder.paint(source.draw(i).scene, 60))
        picture.save(tmp_path / "photos" / f"{i:02d}.png")
    content = (tmp_path / "photos" / "06.png").read_bytes()
    (tmp_path / "photos" / "07.png").write_bytes(content[:900])
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def search(run, photos, *words):
    """`minalbef search` in the folder."""
    return call("search", SENTENCE, "--run", run.path, "--images", photos, "--quiet", *words)


def replace_image(photos):
    Image.new("RGB", (60, 60)).save(photos / "05.png")


@pytest.mark.parametrize("change, count", [
    (lambda photos: (photos / "03.png").unlink(), 38), (replace_image, 39)])
def test_features_are_computed_again_when_an_image_has_changed_come_or_gone(
        run, photos, tmp_path, change, count):
    before = embed_folder(run, photos, tmp_path)
    change(photos)
    after = embed_folder(run, photos, tmp_path)
    assert len(after.paths) == count
    assert after.paths != before.paths or not after.features.equal(before.features)
    assert_close(after.features, run.embed_images(after.paths), atol=1e-5, rtol=0)


def test_features_of_other_weights_or_settings_are_not_taken(run, photos, tmp_path):
    first = embed_folder(run, photos, tmp_path).features
    torch.manual_seed(1)
    changed = replace(run, model=disturb(ALBEF(run.config)).eval())
    assert not embed_folder(changed, photos, tmp_path).features.equal(first)
    assert embed_folder(run, photos, tmp_path).features.equal(first)
    paths = list_images(photos)
    stored = replace(run, config=replace(run.config, upright=False))
    assert features.key_of(run, paths) != features.key_of(stored, paths)


def test_a_search_keeps_features_and_finds_the_same_with_them(
        run, photos, tmp_path, monkeypatch):
    first = search(run, photos, "--out", tmp_path / "a.png")
    monkeypatch.setattr(features, "embed_paths", None)
    again = search(run, photos, "--out", tmp_path / "a.png")
    assert "left out: " in first.text and first.text.count("07.png") == 1
    assert again == first and Image.open(tmp_path / "a.png").width > 500


def test_texts_are_searched_by_a_picture(run, photos, tmp_path, monkeypatch, capsys):
    source = Scenes("test", objects=run.config.objects)
    texts = [source.draw(i).text for i in range(100, 140)]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    hits = finder.search_texts(run, photos / "00.png", texts, top=3)
    sim = run.similarity(photos / "00.png", texts)[0]
    match = run.match_probability(photos / "00.png", texts)[0]
    for hit in hits:
        i = texts.index(hit.title)
        assert hit.similarity == pytest.approx(sim[i].item(), abs=1e-5)
        assert hit.match == pytest.approx(match[i].item(), abs=1e-5)
    both = match.logit() + How.weight * sim / run.model.temperature.detach()
    best = sim.topk(finder.FIRST).indices
    order = best[both[best].argsort(descending=True)[:3]]
    for hit, i in zip(hits, order, strict=True):
        assert hit.title == texts[i]
    words = ["minalbef", "search", str(photos / "00.png"), "--run", str(run.path), "--texts",
             str(tmp_path / "texts.txt")]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert hits[0].title in capsys.readouterr().out


def test_strange_names_are_shown_safely_and_drawn(
        run, photos, tmp_path, monkeypatch, capsys):
    """Bytes that are no UTF-8, an escape sequence, a name of 240 letters, a picture of one row."""
    for path in photos.iterdir():
        path.unlink()
    names = [b"\xff\xe9.png", b"\x1b[31mred.png", b"a" * 236 + b".png"]
    for name in names:
        with open(os.path.join(os.fsencode(photos), name), "wb") as file:
            Image.new("RGB", (3000, 1), "red").save(file, "PNG")
    (photos / "\x1b[2Jbad.png").write_text("none")
    words = ["minalbef", "search", SENTENCE, "--run", str(run.path)]
    monkeypatch.setattr("sys.argv", [*words, "--images", str(photos), "--out",
                                     str(tmp_path / "s.png")])
    main()
    text = capsys.readouterr().out
    assert "\\udcff\\udce9.png\n" in text and "\\x1b[31mred.png\n" in text
    assert "\\x1b[2Jbad.png" in text
    assert "\x1b" not in text and text.encode() and Image.open(tmp_path / "s.png").width > 500
    assert len(list_images(photos)) == 4
    monkeypatch.setattr("sys.argv",
                        ["minalbef", "search", SENTENCE, "--run", "\x1b[2Jnowhere"])
    with pytest.raises(SystemExit):
        main()
    assert "\\x1b[2Jnowhere is not a run folder" in capsys.readouterr().err
