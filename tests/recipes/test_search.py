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
    monkeypatch.setattr(finder, "CAPTIONS", 1000)                # twelve objects are named more often than 64
    return untrained()


def test_hits_are_ordered_and_score_as_the_model_does_alone(run):
    sentence = "an apple to the left of a banana"
    hits = finder.search(run, sentence, scenes=40, top=5)
    assert len(hits) == 5 and len({hit.example.id for hit in hits}) == 5
    weight = finder.similarity_weight(run.path) / run.model.temperature.item()
    scores = [math.log(hit.match / (1 - hit.match)) + weight * hit.similarity
              for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(scores, rel=1e-4)
    lines = finder.describe_hits(run, sentence, hits).splitlines()
    assert lines[0].split()[:3] == ["score", "match", "similarity"]
    assert [line.split()[0] for line in lines[1:6]] == [f"{score:.2f}" for score in scores]
    assert lines[6].startswith("Sorted by score: the log-odds of match + 0.2 x similarity / 0.07")
    pictures = [finder.paint(hit.example.scene, run.config.image_size) for hit in hits]
    assert [hit.similarity for hit in hits] == pytest.approx(run.similarity(pictures, sentence)[:, 0].tolist(),
                                                             abs=1e-5)
    assert [hit.match for hit in hits] == pytest.approx(run.match_probability(pictures, sentence)[:, 0].tolist(),
                                                        abs=1e-5)


def test_words_that_training_never_said_are_named(run):
    assert finder.unknown_words(run, "A red apple, left of two bananas!") == []
    assert finder.unknown_words(run, "a zeppelin above a gnu above an apple") == ["zeppelin", "gnu"]
    hits = finder.search(run, "a zeppelin", scenes=8, top=2)
    text = finder.describe_hits(run, "a zeppelin", hits)
    assert "'zeppelin'" in text and all(hit.example.text in text for hit in hits)
    assert "Note" not in finder.describe_hits(run, "an apple", hits)


def test_a_folder_of_pictures_is_searched_as_scenes_are(run, tmp_path, monkeypatch, capsys):
    scenes = finder.search(run, "a pizza", scenes=40, top=40)
    for i, hit in enumerate(scenes):
        Image.fromarray(finder.paint(hit.example.scene, run.config.image_size)).save(tmp_path / f"{i:02d}.png")
    hits = finder.search_images(run, "a pizza", tmp_path, top=5)
    assert [hit.title for hit in hits] == [f"{i:02d}.png" for i in range(5)], "in the order of the scenes"
    assert [hit.match for hit in hits] == pytest.approx([hit.match for hit in scenes[:5]], abs=1e-5)
    assert "00.png" in finder.describe_hits(run, "a pizza", hits)
    run = replace(run, model=copy.deepcopy(run.model))           # others use it, too
    run.model.match_head.weight.data *= 1e4          # so sure that probabilities are 1 and 0, and odds still differ
    sure = finder.search_images(run, "a pizza", tmp_path, top=40)
    order = [hit.example.id for hit in finder.search(run, "a pizza", scenes=40, top=40)]
    assert [order[i] for i in range(len(sure))] == [scenes[int(hit.path.stem)].example.id for hit in sure]
    (tmp_path / "found").mkdir()
    finder.figure("a pizza", hits).save(tmp_path / "found" / "search.png")
    best = finder.search_images(load("tiny"), "a pizza", tmp_path, top=1)[0].title
    (tmp_path / "broken.png").write_text("no picture")
    monkeypatch.setattr("sys.argv", ["minalbef", "search", "a pizza", "--images", str(tmp_path), "--run", "tiny",
                                     "--out", str(tmp_path / "found" / "answer.png")])
    main()
    text = capsys.readouterr().out
    assert best in text and re.search("left out: .*broken.png", text)
    assert Image.open(tmp_path / "found" / "answer.png").width > 500


@pytest.mark.parametrize("sentence, why", [("", "no words"), ("!?", "no words"), ("an apple " * 20, "limit")])
def test_a_sentence_that_cannot_be_read_is_refused(run, sentence, why):
    with pytest.raises(ValueError, match=why):
        finder.search(run, sentence, scenes=8)
