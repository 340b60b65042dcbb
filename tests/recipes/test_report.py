"""The report: one schema, numbers only, every figure beside what it means; and the page made from it."""
import csv
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from helpers import small
from minalbef.presets import preset
from minalbef.recipes import report
from minalbef.scenes import questions, tables
from minalbef.system import checkpoint
from minalbef.system.metrics import Log, read_metrics
from minalbef.viz import page
from untrained import untrained

FIGURES = {
    "plain": {"itc_i2t_r1": 0.951234567, "itc_t2i_r1": 0.9, "rerank_i2t_r1": 0.96, "oracle_r1": 0.95,
              "chance_r1": 0.002},
    "families": {"itc_i2t_r1": 0.5, "oracle_r1": 0.25, "chance_r1": 0.25},
    "unseen_style": {"itc_t2i_r1": 0.3, "chance_r1": 0.002, "families": {"itc_t2i_r1": 0.35}},
    "itm_one_change_accuracy": {"size": 0.85}, "itm_one_change_blank": {"size": 0.51},
    "stress": {"true_preferred": {"half_truth": 0.93}, "true_preferred_blank": {"half_truth": 0.7},
               "true_accepted": {"half_truth": 0.54}, "false_accepted": {"half_truth": 0.06}},
    "mlm_accuracy": {"object": 0.88}, "mlm_accuracy_without_image": {"object": 0.02},
    "itm_refused": {"true": 0.1, "one_change": 0.6}, "pointing_itm": 0.62, "pointing_chance": 0.12,
    "intervals": {"plain": {"itc_i2t_r1": [0.94, 0.96]}, "pointing_itm": [0.6, 0.64]},
    "start": {"itc_i2t_r1": 0.004, "families": {"itc_i2t_r1": 0.26}, "pointing_itm": 0.3}}
SECONDS = {"warm_start": 60.04, "train": 410.21, "evaluate": 55.0}


def write(folder, figures=FIGURES):
    return report.write_report(folder, "pretrain", figures, preset("tiny"), SECONDS, "minalbef demo", 0)


def test_what_is_written_is_what_is_read(tmp_path):
    written = write(tmp_path)
    assert written == report.read_report(tmp_path) == json.loads((tmp_path / "report.json").read_text())
    assert written["plain"]["itc_i2t_r1"] == 0.95123 and written["config"]["name"] == "tiny"
    assert {"schema", "task", "command", "seed", "commit", "date", "device", "versions", "seconds"} <= written.keys()


def test_a_setting_without_a_bound_is_written_in_words(tmp_path):
    config = preset("tiny", temperature_max="inf")               # as the original's retrieval has it
    assert report.write_report(tmp_path, "retrieval", {}, config, {}, "", 0)["config"]["temperature_max"] == "inf"


def test_nan_is_refused_and_the_old_report_stands(tmp_path):
    before = write(tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        write(tmp_path, {"plain": {"itc_i2t_r1": float("nan")}})
    assert report.read_report(tmp_path) == before


def test_an_older_reports_keys_are_read_by_todays_names(tmp_path):
    print("old key, new key:", *report.RENAMED.items(), sep="\n")
    written = write(tmp_path, FIGURES | {new: 3 for new in report.RENAMED.values()})
    older = {{new: old for old, new in report.RENAMED.items()}.get(key, key): value
             for key, value in written.items()}
    assert older.keys() >= report.RENAMED.keys() and not older.keys() & {*report.RENAMED.values()}
    (tmp_path / "report.json").write_text(json.dumps(older))
    assert report.read_report(tmp_path) == written


@pytest.mark.parametrize("text, why", [(None, "evaluate"), ("{", "evaluate"), ('{"schema": 99}', "schema 99")])
def test_a_report_that_cannot_be_read_says_how_to_make_it(tmp_path, text, why):
    if text:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=why):
        report.read_report(tmp_path)


def test_every_figure_stands_beside_what_it_means(tmp_path):
    rows = {(row.group[:8], row.name): row for row in tables.rows(write(tmp_path))}
    best = rows["Plain: t", "image to caption, by similarity"]
    assert best.value == 0.95123 and best.interval == (0.94, 0.96)
    assert best.beside == {"chance": 0.002, "objects known": 0.95, "start": 0.004}
    assert rows["Families", "image to caption, by similarity"].beside["start"] == 0.26
    assert rows["One chan", "size"].beside == {"chance": 0.5, "no image": 0.51}
    assert rows["Stress t", "half truth"].value == 0.93
    assert rows["Stress t", "half truth"].beside == {
        "chance": 0.5, "no image": 0.7, "true accepted": 0.54, "false accepted": 0.06}
    assert rows["Masked w", "object"].beside == {"no image": 0.02}
    assert rows["Pointing", "by the match"].beside == {"chance": 0.12, "start": 0.3}


def test_the_table_has_every_figure_and_a_report_without_figures_has_one_too(tmp_path):
    written = write(tmp_path)
    table = tables.summary_table(written)
    assert len([line for line in table.splitlines() if re.match(r"  \S", line)]) == len(tables.rows(written))
    assert "0.95  (0.94 to 0.96)    chance 0.002, objects known 0.95, start 0.004" in table
    assert "8.8 minutes in all" in table and "nan" not in table
    assert "minutes in all" in tables.summary_table({})


def test_the_device_is_told_in_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert re.fullmatch(r".+ \(\w+\), \d+ cores, \d+ threads, \w+, torch .+", report.describe_device())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert ", NVIDIA H100 80GB HBM3, " in report.describe_device()


class Page(HTMLParser):
    """What a page asks for, what it says of its pictures, and whether its tags close."""

    VOID = {"meta", "img", "br", "path", "use", "rect", "image"}

    def __init__(self, text):
        super().__init__()
        self.asked, self.alts, self.open, self.headings, self.words = [], [], [], [], []
        self.ids = re.findall(r' id="([^"]+)"', text)
        self.feed(text)

    def handle_starttag(self, tag, given):
        given = dict(given)
        self.asked += [given[key] for key in ("src", "href", "xlink:href") if key in given]
        if tag == "img" or given.get("role") == "img":
            self.alts.append(given.get("alt", given.get("aria-label")))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder with a model that has learnt nothing, and losses that somebody might have had."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(folder, untrained().model, untrained().tokenizer)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "samples", "seconds", "itc", "itm", "mlm"])
        writer.writerows([[i, 64 * i, i, 4 - i / 10, "" if i < 4 else 0.6, "" if i < 4 else 3] for i in range(1, 11)])
    write(folder)
    return folder


def test_the_page_stands_alone_and_shows_everything(folder, monkeypatch):
    monkeypatch.setattr(page, "POOL", 60)
    path = page.write_page(folder, report.read_report(folder), folder)
    text = path.read_text(encoding="utf-8")
    found = Page(text)
    assert path.stat().st_size < 3_000_000 and not found.open
    assert all(asked.startswith(("data:", "#")) for asked in found.asked), "the page wants the network"
    assert len(found.headings) == 9 and len(found.alts) > 40 and all(found.alts)
    assert len(found.ids) == len(set(found.ids))
    assert "prefers-color-scheme" in text or "light-dark(" in text
    assert "nan" not in re.sub(r"data:[^\"]+", "", text).lower().split()


def test_captions_and_names_are_words_on_the_page_and_no_markup(folder, tmp_path, monkeypatch):
    hostile = '<b>&"cat'
    def spoil(draw):
        return lambda *given: [replace(one, text=f"{one.text} {hostile}") for one in draw(*given)]
    for name in ("plain", "families"):
        monkeypatch.setattr(questions, name, spoil(getattr(questions, name)))
    monkeypatch.setattr(page, "POOL", 60)
    made = report.write_report(tmp_path, "pretrain", FIGURES | {"itm_refused": {hostile: 0.5}}, preset("tiny"),
                               SECONDS | {hostile: 1}, f"minalbef {hostile}", 0)
    assert hostile in made["command"]
    text = page.write_page(folder, made, tmp_path).read_text(encoding="utf-8")
    found = Page(text)
    assert not re.search(r'<b>&|&"cat|<b>&amp;', text) and not found.open
    assert any("<b>&cat" in alt for alt in found.alts), "the alt text of a map"
    words = "".join(found.words)
    for where in ("“", "refused: ", "seconds, ", "command: minalbef "):
        assert re.search(where + ".*" + re.escape(hostile), words), where
    assert words.count(hostile) > 40


def test_a_share_has_as_many_digits_as_it_deserves():
    shown = [tables.format_share(x) for x in (0, 0.954, 0.01, 0.0021, 0.00038)]
    assert shown == ["0.00", "0.95", "0.01", "0.002", "0.0004"]


def test_a_report_that_is_no_report_is_named(tmp_path):
    (tmp_path / "report.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="json is damaged .it holds no values by name.; `minalbef evaluate"):
        report.read_report(tmp_path)


def test_a_step_in_no_time_is_logged(monkeypatch, tmp_path):
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
    log = Log(tmp_path, 0, 1, small(), quiet=True, title="test")
    log.step(0, {"itc": torch.tensor(1.0)}, torch.tensor(1.0), lr=1e-3, alpha=0.4)
    log.close()
    assert len(read_metrics(tmp_path)) == 1
