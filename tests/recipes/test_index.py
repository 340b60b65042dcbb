"""An index gives what a search of its folder gives, and knows its run and its pictures."""
import os

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from emojiscenes.scenes import Scenes
from helpers import disturb
from minalbef import checkpoint
from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.evaluation.loop import How
from minalbef.recipes import index as indexer
from minalbef.recipes import search as finder
from minalbef.run import load
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
        Image.fromarray(finder.paint(source.draw(i).scene, 60)).save(tmp_path / "photos" / f"{i:02d}.png")
    (tmp_path / "photos" / "07.png").write_bytes((tmp_path / "photos" / "06.png").read_bytes()[:900])
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def scores(hits):
    return [(hit.title, round(hit.similarity, 5), round(hit.match, 5)) for hit in hits]


def test_a_search_of_the_index_finds_what_a_search_of_the_folder_finds(run, photos, tmp_path):
    broken = indexer.write_index(run, photos, tmp_path / "index.safetensors")
    assert list(broken) == ["07.png"] and "07.png cannot be read as an image" in broken["07.png"]
    folder, paths, features, gone = indexer.read_index(run, tmp_path / "index.safetensors")
    assert folder == photos and len(paths) == 39 and not gone
    assert_close(features, run.embed_images(paths), atol=1e-5, rtol=0)
    (photos / "07.png").unlink()
    found = finder.search_features(run, SENTENCE, paths, features, folder)
    assert scores(found) == scores(finder.search_images(run, SENTENCE, photos)) and len(found) == 8


def test_only_the_best_are_opened_again(run, photos, tmp_path, monkeypatch):
    indexer.write_index(run, photos, tmp_path / "index.safetensors")
    _, paths, features, _ = indexer.read_index(run, tmp_path / "index.safetensors")
    opened, real = [], type(run).transform
    best = run.similarity(paths, SENTENCE)[:, 0].topk(3).indices
    monkeypatch.setattr(finder, "FIRST", 3)
    monkeypatch.setattr(type(run), "transform", lambda self, path: opened.append(path) or real(self, path))
    finder.search_features(run, SENTENCE, paths, features, photos)
    assert set(opened) == {paths[i] for i in best} and len(opened) == 3


def test_pictures_that_changed_vanished_or_came_are_named_and_left_out(run, photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "index.safetensors"
    words = ["minalbef", "index", str(photos), "--run", str(run.path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert "left out: " in (said := capsys.readouterr().out) and "07.png" in said
    (photos / "03.png").unlink()
    Image.new("RGB", (60, 60)).save(photos / "05.png")
    os.utime(photos / "11.png", ns=(0, 0))
    Image.new("RGB", (60, 60)).save(photos / "99.png")
    monkeypatch.setattr("sys.argv", ["minalbef", "search", SENTENCE, "--run", str(run.path), "--index", str(out),
                                     "--out", str(tmp_path / "search.png")])
    main()
    said = capsys.readouterr().out
    assert "changed, vanished or new since the folder was indexed, which" in said
    assert ": 03.png, 05.png, 99.png\n" in said, "11.png was only touched, 07.png was named before"
    assert Image.open(tmp_path / "search.png").width > 500
    read = {path.name for path in indexer.read_index(run, out).paths}
    assert {"03.png", "05.png", "07.png"}.isdisjoint(read) and "11.png" in read
    for path in photos.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="all images of .* have changed or vanished; index .*photos again"):
        indexer.read_index(run, out)


def test_an_index_of_other_weights_is_refused(run, photos, tmp_path):
    indexer.write_index(run, photos, tmp_path / "index.safetensors")
    torch.manual_seed(1)
    checkpoint.save(tmp_path / "other", disturb(ALBEF(run.config)), run.tokenizer)
    with pytest.raises(ValueError, match="written with other weights than those of .*other: name .*one with --run"):
        indexer.read_index(load(tmp_path / "other"), tmp_path / "index.safetensors")


def test_no_other_file_is_overwritten_or_read_as_an_index(run, photos, tmp_path):
    model = run.path / "model.safetensors"
    for ask in (lambda: indexer.write_index(run, photos, model), lambda: indexer.read_index(run, model),
                lambda: indexer.read_index(run, photos / "notes.txt"),
                lambda: indexer.read_index(run, tmp_path / "nowhere")):
        with pytest.raises(ValueError, match="is no index .*`minalbef index FOLDER` writes one"):
            ask()
    indexer.write_index(run, photos, tmp_path / "index.safetensors")
    indexer.write_index(run, photos, tmp_path / "index.safetensors")         # again: allowed
    photos.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="is the index of .*photos; name another file with --out"):
        indexer.write_index(run, tmp_path / "moved", tmp_path / "index.safetensors")


def test_a_folder_of_nothing_that_can_be_read_is_refused(run, photos, tmp_path):
    for path in photos.glob("*.png"):
        path.write_bytes(b"none")
    with pytest.raises(ValueError, match="no image of .*photos can be read, the first because .*00.png cannot"):
        indexer.write_index(run, photos, tmp_path / "index.safetensors")
    assert not (tmp_path / "index.safetensors").exists()


def test_texts_are_searched_by_a_picture(run, photos, tmp_path, monkeypatch, capsys):
    source = Scenes("test", objects=run.config.objects)
    texts = [source.draw(i).text for i in range(100, 140)]
    (tmp_path / "texts.txt").write_text("\n\n".join(texts), encoding="utf-8")
    hits = finder.search_texts(run, photos / "00.png", texts, top=3)
    sim, match = run.similarity(photos / "00.png", texts)[0], run.match_probability(photos / "00.png", texts)[0]
    for hit in hits:
        i = texts.index(hit.title)
        assert hit.similarity == pytest.approx(sim[i].item(), abs=1e-5)
        assert hit.match == pytest.approx(match[i].item(), abs=1e-5)
    both = match.logit() + How.weight * sim / run.model.temperature.detach()
    best = sim.topk(finder.FIRST).indices
    assert [hit.title for hit in hits] == [texts[best[i]] for i in both[best].argsort(descending=True)[:3]]
    words = ["minalbef", "search", str(photos / "00.png"), "--run", str(run.path), "--texts",
             str(tmp_path / "texts.txt")]
    monkeypatch.setattr("sys.argv", words)
    main()
    assert hits[0].title in (said := capsys.readouterr().out) and "the text" in said
    monkeypatch.setattr("sys.argv", [*words, "--images", str(photos)])
    with pytest.raises(SystemExit):
        main()
    assert "name one of them" in capsys.readouterr().err
    assert "no training caption" not in said, "the picture's path is no caption"
    (tmp_path / "texts.txt").write_text(f"{texts[0]}\na wolpertinger", encoding="utf-8")
    monkeypatch.setattr("sys.argv", words)
    main()
    assert "Note: no training caption says 'wolpertinger', so" in capsys.readouterr().out


def test_subfolders_are_read_and_what_is_left_out_is_said(run, photos, tmp_path, monkeypatch,
                                                          capsys):
    """Subfolders, two pictures of one name, a pipe, a link to a folder, six other files."""
    (photos / "cats" / "small").mkdir(parents=True)
    (photos / "00.png").rename(photos / "cats" / "small" / "01.png")
    for i in range(5):
        (photos / "cats" / f"{i}.json").touch()
    os.mkfifo(photos / "x.jpg")
    (photos / "link").symlink_to(photos)
    (photos / "cats" / "broken.JPG").write_text("no picture")
    words = ["minalbef", "search", SENTENCE, "--run", str(run.path)]
    monkeypatch.setattr("sys.argv", [*words, "--images", str(photos.parent), "--out",
                                     str(tmp_path / "out" / "s.png")])
    main()
    said = capsys.readouterr().out
    for line in ("/photos/07.png cannot be read", "/photos/cats/broken.JPG cannot be read",
                 "left out, not an image by its suffix: photos/cats/0.json, "
                 "photos/cats/1.json, photos/cats/2.json, photos/cats/3.json, "
                 "photos/cats/4.json and 1 more\n",
                 "left out, not a file, but a folder, device or pipe: photos/x.jpg\n",
                 "left out, a link to a folder, which isn't followed: photos/link\n"):
        assert line in said
    out = tmp_path / "index.safetensors"
    assert sorted(indexer.write_index(run, photos, out)) == ["07.png", "cats/broken.JPG"]
    found = indexer.read_index(run, out)
    names = [path.relative_to(photos).as_posix() for path in found.paths]
    assert len(names) == 39 and {"01.png", "cats/small/01.png"} < set(names)
    monkeypatch.setattr(finder, "FIRST", 39)
    hits = finder.search_features(run, SENTENCE, found.paths, found.features, found.folder, top=39)
    assert {"01.png", "cats/small/01.png"} <= {hit.title for hit in hits} <= set(names)
    (photos / "cats" / "small" / "01.png").unlink()
    assert indexer.read_index(run, out).stale == ["cats/small/01.png"]


def test_a_folder_without_pictures_and_a_file_for_a_folder_are_refused(run, photos, tmp_path):
    (tmp_path / "none" / "inner").mkdir(parents=True)
    for ask in (lambda: finder.search_images(run, SENTENCE, tmp_path / "none"),
                lambda: indexer.write_index(run, tmp_path / "none", tmp_path / "i.safetensors")):
        with pytest.raises(ValueError, match="no image is in /[^']*none or its subfolders: "):
            ask()
    with pytest.raises(ValueError, match="01.png is no folder; name the one"):
        indexer.write_index(run, photos / "01.png", tmp_path / "index.safetensors")


def test_strange_names_are_shown_safely_and_drawn(run, photos, tmp_path, monkeypatch, capsys,
                                                  note):
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
    said = capsys.readouterr().out
    assert "\\udcff\\udce9.png\n" in said and "\\x1b[31mred.png\n" in said
    assert "\\x1b[2Jbad.png" in said
    assert "\x1b" not in said and said.encode() and Image.open(tmp_path / "s.png").width > 500
    assert len(indexer.list_images(photos)) == 4
    monkeypatch.setattr("sys.argv", ["minalbef", "search", SENTENCE, "--run", "\x1b[2Jnowhere"])
    with pytest.raises(SystemExit):
        main()
    assert "\\x1b[2Jnowhere is not a run folder" in capsys.readouterr().err
    note("names that no terminal should obey, or that are no UTF-8", 5, "read, shown as one plain line")
