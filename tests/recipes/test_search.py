"""Search: the best of unseen scenes, with their scores, as words and as a picture."""
import copy
import math
import re
from dataclasses import replace

import pytest
from PIL import Image

from minalbef.cli.main import main
from minalbef.recipes import search as finder
from minalbef.tasks.run import load
from untrained import untrained


@pytest.fixture
def run(monkeypatch):
    # twelve objects are named more often than 64
    monkeypatch.setattr(finder, "CAPTIONS", 1000)
    return untrained()


def values(hits, name: str) -> list:
    return [getattr(hit, name) for hit in hits]


def test_hits_are_ordered_and_score_as_the_model_does_alone(run):
    sentence = "an apple to the left of a banana"
    hits = finder.search(run, sentence, scenes=40, top=5)
    assert len(hits) == 5 and len({hit.example.id for hit in hits}) == 5
    weight = finder.similarity_weight(run.path) / run.model.temperature.item()
    scores = [math.log(hit.match / (1 - hit.match)) + weight * hit.similarity for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert values(hits, "score") == pytest.approx(scores, rel=1e-4)
    lines = finder.describe_hits(run, sentence, hits).splitlines()
    assert lines[0].split()[:3] == ["score", "match", "similarity"]
    for line, score in zip(lines[1:6], scores, strict=True):
        assert line.split()[0] == f"{score:.2f}"
    assert lines[6].startswith("Sorted by score: the log-odds of match + 0.2 x similarity / 0.07")
    pictures = [finder.paint(hit.example.scene, run.config.image_size) for hit in hits]
    sim = run.similarity(pictures, sentence)[:, 0].tolist()
    match = run.match_probability(pictures, sentence)[:, 0].tolist()
    assert values(hits, "similarity") == pytest.approx(sim, abs=1e-5)
    assert values(hits, "match") == pytest.approx(match, abs=1e-5)


def test_words_that_training_never_said_are_named(run):
    assert finder.unknown_words(run, "A red apple, left of two bananas!") == []
    words = finder.unknown_words(run, "a zeppelin above a gnu above an apple")
    assert words == ["zeppelin", "gnu"]
    hits = finder.search(run, "a zeppelin", scenes=8, top=2)
    text = finder.describe_hits(run, "a zeppelin", hits)
    assert "'zeppelin'" in text
    for hit in hits:
        assert hit.example.text in text
    assert "Note" not in finder.describe_hits(run, "an apple", hits)


def test_a_folder_of_pictures_is_searched_as_scenes_are(run, tmp_path, monkeypatch, capsys):
    scenes = finder.search(run, "a pizza", scenes=40, top=40)
    for i, hit in enumerate(scenes):
        pixels = finder.paint(hit.example.scene, run.config.image_size)
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
    hits = finder.search_images(run, "a pizza", tmp_path, top=5)
    # in the order of the scenes
    assert values(hits, "title") == ["00.png", "01.png", "02.png", "03.png", "04.png"]
    assert values(hits, "match") == pytest.approx(values(scenes[:5], "match"), abs=1e-5)
    assert "00.png" in finder.describe_hits(run, "a pizza", hits)
    run = replace(run, model=copy.deepcopy(run.model))           # others use it, too
    # so sure that probabilities are 1 and 0, and odds still differ
    run.model.match_head.weight.data *= 1e4
    sure = finder.search_images(run, "a pizza", tmp_path, top=40)
    order = [hit.example.id for hit in finder.search(run, "a pizza", scenes=40, top=40)]
    assert order[:len(sure)] == [scenes[int(hit.path.stem)].example.id for hit in sure]
    (tmp_path / "found").mkdir()
    finder.figure("a pizza", hits).save(tmp_path / "found" / "search.png")
    best = finder.search_images(load("tiny"), "a pizza", tmp_path, top=1)[0].title
    (tmp_path / "broken.png").write_text("no picture")
    words = ["minalbef", "search", "a pizza", "--images", str(tmp_path), "--run", "tiny"]
    monkeypatch.setattr("sys.argv", [*words, "--out", str(tmp_path / "found" / "answer.png")])
    main()
    text = capsys.readouterr().out
    assert best in text and re.search("left out: .*broken.png", text)
    assert Image.open(tmp_path / "found" / "answer.png").width > 500


@pytest.mark.parametrize("sentence, why",
                         [("", "no words"), ("!?", "no words"), ("an apple " * 20, "limit")])
def test_a_sentence_that_cannot_be_read_is_refused(run, sentence, why):
    with pytest.raises(ValueError, match=why):
        finder.search(run, sentence, scenes=8)
