"""The report is written as it is read, and its page holds no markup of strangers."""
import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.scenes import questions
from minalbef.system import checkpoint
from minalbef.viz import page
from untrained import untrained

FIGURES = {
    "plain": {"itc_i2t_r1": 0.951234567, "itc_t2i_r1": 0.9, "rerank_i2t_r1": 0.96,
              "oracle_r1": 0.95, "chance_r1": 0.002},
    "families": {"itc_i2t_r1": 0.5, "oracle_r1": 0.25, "chance_r1": 0.25},
    "unseen_style": {"itc_t2i_r1": 0.3, "chance_r1": 0.002, "families": {"itc_t2i_r1": 0.35}},
    "itm_one_change_accuracy": {"size": 0.85}, "itm_one_change_blank": {"size": 0.51},
    "stress": {"true_preferred": {"half_truth": 0.93},
               "true_preferred_blank": {"half_truth": 0.7},
               "true_accepted": {"half_truth": 0.54}, "false_accepted": {"half_truth": 0.06}},
    "mlm_accuracy": {"object": 0.88}, "mlm_accuracy_without_image": {"object": 0.02},
    "itm_refused": {"true": 0.1, "one_change": 0.6}, "pointing_itm": 0.62,
    "pointing_chance": 0.12,
    "intervals": {"plain": {"itc_i2t_r1": [0.94, 0.96]}, "pointing_itm": [0.6, 0.64]},
    "start": {"itc_i2t_r1": 0.004, "families": {"itc_i2t_r1": 0.26}, "pointing_itm": 0.3}}
SECONDS = {"warm_start": 60.04, "train": 410.21, "evaluate": 55.0}


def write(folder, figures=FIGURES):
    return report.write_report(folder, "pretrain", figures, preset("tiny"), SECONDS,
                               "minalbef demo")


def test_what_is_written_is_what_is_read(tmp_path):
    written = write(tmp_path)
    assert written == report.read_report(tmp_path)
    assert written == json.loads((tmp_path / "report.json").read_text())
    assert written["plain"]["itc_i2t_r1"] == 0.95123
    assert written["config"]["name"] == "tiny"
    assert {"schema", "task", "command", "seed", "commit",
            "date", "device", "versions", "seconds"} <= written.keys()


def test_nan_is_refused_and_the_old_report_stands(tmp_path):
    before = write(tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        write(tmp_path, {"plain": {"itc_i2t_r1": float("nan")}})
    assert report.read_report(tmp_path) == before


@pytest.mark.parametrize("figure", ["cat", None, True, [0.5, "cat"], {"itc_i2t_r1": "0.9"}])
def test_a_report_whose_figures_are_no_numbers_is_damaged(tmp_path, figure):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(write(tmp_path) | {"plain": {"itc_i2t_r1": figure}}))
    with pytest.raises(ValueError, match="report.json is damaged .*'plain'"):
        report.read_report(tmp_path)


class Page(HTMLParser):
    """What a page says, and of its pictures, and whether its tags close."""

    VOID = {"meta", "img", "br", "path", "use", "rect", "image"}

    def __init__(self, text):
        super().__init__()
        self.alts = []
        self.open = []
        self.words = []
        self.ids = re.findall(r' id="([^"]+)"', text)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img" or attributes.get("role") == "img":
            self.alts.append(attributes.get("alt", attributes.get("aria-label")))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder with a model that has learnt nothing, and losses that it might have had."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder, untrained().model, untrained().tokenizer)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "samples", "seconds", "itc", "itm", "mlm"])
        for i in range(1, 11):
            later = ["", ""] if i < 4 else [0.6, 3]
            writer.writerow([i, 64 * i, i, 4 - i / 10, *later])
    write(folder)
    return folder


def test_captions_and_names_are_words_on_the_page_and_no_markup(
        folder, tmp_path, monkeypatch):
    hostile = '<b>&"cat'
    def spoil(draw):
        def draw_hostile(*args):
            examples = draw(*args)
            return [replace(example, text=f"{example.text} {hostile}") for example in examples]
        return draw_hostile
    for name in ("plain", "families"):
        monkeypatch.setattr(questions, name, spoil(getattr(questions, name)))
    monkeypatch.setattr(page, "POOL", 60)
    figures = FIGURES | {"itm_refused": {hostile: 0.5}}
    record = report.write_report(tmp_path, "pretrain", figures, preset("tiny"),
                                 SECONDS | {hostile: 1}, f"minalbef {hostile}")
    assert hostile in record["command"]
    page.write_page(folder, record, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert not re.search(r'<b>&|&"cat|<b>&amp;', text) and not parsed.open
    assert "<b>&cat" in "\n".join(parsed.alts), "the alt text of a map"
    words = "".join(parsed.words)
    for where in ("“", "refused: ", "seconds, ", "command: minalbef "):
        assert re.search(where + ".*" + re.escape(hostile), words), where
    assert words.count(hostile) > 30
