"""Search: the best of unseen scenes, with their scores, as words and as a picture."""
import copy
import math
import re
from dataclasses import replace

import pytest
from matplotlib.text import Text
from PIL import Image

from minalbef.albef import ALBEF
from minalbef.cli.main import main
from minalbef.presets import preset
from minalbef.recipes import search as finder
from minalbef.recipes.evaluate import evaluate_run
from minalbef.recipes.finetune import settings
from minalbef.system import checkpoint
from minalbef.tasks.run import Run, load
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


def test_only_the_most_similar_are_read_again(run, monkeypatch):
    everything = sorted((hit.similarity for hit in finder.search(run, "a pizza", scenes=30, top=30)), reverse=True)
    monkeypatch.setattr(finder, "FIRST", 3)
    best = finder.search(run, "a pizza", scenes=30, top=8)
    assert sorted((hit.similarity for hit in best), reverse=True) == pytest.approx(everything[:3])


def test_words_that_training_never_said_are_named(run):
    assert finder.unknown_words(run, "A red apple, left of two bananas!") == []
    assert finder.unknown_words(run, "a zeppelin above a gnu above an apple") == ["zeppelin", "gnu"]
    hits = finder.search(run, "a zeppelin", scenes=8, top=2)
    text = finder.describe_hits(run, "a zeppelin", hits)
    assert "'zeppelin'" in text and all(hit.example.text in text for hit in hits)
    assert "Note" not in finder.describe_hits(run, "an apple", hits)


def test_the_answer_is_a_picture(run, tmp_path):
    hits = finder.search(run, "an apple", scenes=8, top=3)
    finder.figure("an apple", hits).save(tmp_path / "search.png")
    assert Image.open(tmp_path / "search.png").width > 500


def test_the_figure_says_by_what_hits_are_ranked_and_frames_those_that_are_right(run):
    hits = finder.search(run, "an apple", scenes=8, top=2)
    plots = [finder.figure("an apple", hits, true) for true in (None, [True, False])]
    for plot in plots:
        words = [text.get_text() for text in plot.findobj(Text)]
        assert "“an apple”\nranked by ITC, the best 32 re-ranked by ITM and ITC" in words
    without, framed = ([ax.spines["top"].get_edgecolor() for ax in plot.axes] for plot in plots)
    assert without[0] == without[1] and framed[0] != framed[1]


def test_a_word_of_a_million_letters_is_cut_before_it_is_drawn(run, tmp_path, note):
    """matplotlib takes five seconds for 10,000 letters, and far more than in proportion for others."""
    sentence = "x" * 1_000_000
    hits = finder.search(run, sentence, scenes=8, top=2)
    assert "(1,000,000 letters)" in finder.describe_hits(run, sentence, hits)
    plot = finder.figure(sentence, hits)
    assert max(len(text.get_text()) for text in plot.findobj(Text)) < 1000
    plot.save(tmp_path / "search.png")
    assert Image.open(tmp_path / "search.png").height < 1000
    note("a word of a million letters, searched", 1, "answered; the figure cuts it")


def test_a_note_names_ten_words_at_most(run):
    hits = finder.search(run, "an apple", scenes=8, top=2)
    sentence = " ".join(f"gnu{i}" for i in range(12))
    said = finder.describe_hits(run, sentence, hits)
    assert "says 'gnu0', 'gnu1'," in said and "'gnu9' and 2 more words, so the model" in said


def test_names_in_the_figure_stay_apart(run, tmp_path):
    """Names of 100 letters without a gap, in a row: no label reaches the next."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    hit = finder.search(run, "an apple", scenes=8, top=1)[0]
    hits = [replace(hit, title="holidays_2024" * 8, path=tmp_path / "a.png")] * 4
    plot = finder.figure("an apple", hits)
    plot.save(tmp_path / "search.png")
    labels = [ax.xaxis.label.get_window_extent() for ax in plot.axes]
    assert all(one.x1 < other.x0 for one, other in zip(labels, labels[1:]))


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
    said = capsys.readouterr().out
    assert best in said and re.search("left out: .*broken.png", said)
    assert Image.open(tmp_path / "found" / "answer.png").width > 500


@pytest.mark.parametrize("sentence, why", [("", "no words"), ("!?", "no words"), ("an apple " * 20, "limit")])
def test_a_sentence_that_cannot_be_read_is_refused(run, sentence, why):
    with pytest.raises(ValueError, match=why):
        finder.search(run, sentence, scenes=8)


def test_a_run_of_other_data_has_no_scenes_to_search(run):
    other = Run(run.model, run.tokenizer, preset("paper-4m"), run.path)
    with pytest.raises(ValueError,
                       match="not trained on the embedded scenes.*--data prepared/SET, or name .* such as tiny"):
        finder.search(other, "an apple")


def test_a_run_of_other_data_is_not_evaluated_or_tuned_on_scenes(run, tmp_path):
    other = ALBEF(replace(run.config, objects=0))
    for task in ("pretrain", "retrieval"):
        checkpoint.save(tmp_path / task, other, run.tokenizer, None, task)
    for ask in (lambda: evaluate_run(tmp_path / "pretrain", size=0.02),
                lambda: evaluate_run(tmp_path / "retrieval"),
                lambda: settings("vqa", tmp_path / "pretrain")):
        with pytest.raises(ValueError, match="not trained on the embedded scenes"):
            ask()
