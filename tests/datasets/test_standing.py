"""prepare's set on the disk: damaged or foreign notes, a second process, a set that is refused."""

import json
import os
from contextlib import suppress

import pytest

from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records, seal
from miniature_sets import TRAIN, VAL, coco, jpeg, write

# what about.json says instead
DAMAGE = ["", "[]", "null", "[" * 100_000, '{"root": "/", "splits": {}}']
CHANGES = {
    "no split": {"splits": []},
    "a split of no notes": {"splits": {"train": "x"}},
    "an unknown kind": {"kind": "Recrod"},
    "a kind of another type": {"kind": ["Record"]},
    "a count that is none": {"records": "x"},
    "a file that is none": {"file": 3},
    "a file elsewhere": {"file": "../../mine"},
    "a file on a drive": {"file": "C:\\mine"},
    "a set elsewhere": {"set": "../../mine"},
}


def damaged(text: str, change: dict) -> str:
    """about.json's text, changed and sealed again as a stranger would."""
    about = json.loads(text)
    for name, value in change.items():
        if name in about:
            about[name] = value
        else:
            about["splits"]["train"][name] = value
    with suppress(TypeError, AttributeError):
        about["seal"] = seal(about)
    return json.dumps(about)


@pytest.fixture
def folders(tmp_path):
    """A folder with pictures, and one for what is prepared."""
    for image in (TRAIN, VAL, "VG_100K/5.jpg"):
        jpeg(tmp_path / "in" / image)
    return tmp_path / "in", tmp_path / "out"


@pytest.mark.parametrize("change", [*DAMAGE, *CHANGES], ids=lambda change: change[:30])
def test_a_damaged_about_json_is_named_and_replaced_by_preparing_again(folders, change):
    source, out = folders
    coco(source)
    prepare("coco", source, out)
    path = out / "coco" / "about.json"
    path.write_text(damaged(path.read_text(), CHANGES[change]) if change in CHANGES else change)
    with pytest.raises(ValueError, match="json is damaged .*; prepare the set again"):
        Records(out / "coco", "train")
    write(source / "vg.json", [{"image": "image/5.jpg", "caption": "a cat"}])
    account = prepare("vg", source, out)
    assert f"not compared with {out}/coco: " in account, "another set's damage stops no set"
    prepare("coco", source, out)
    assert len(Records(out / "coco", "train")) == 2


def test_a_strangers_set_cannot_have_files_outside_its_folder_deleted(folders, tmp_path):
    source, out = folders
    coco(source)
    mine = [tmp_path / "out" / f"mine{ending}" for ending in (".jsonl", ".npy", ".photos.npy")]
    for hostile in (
        {"train": {"kind": "Record", "file": "../mine"}},
        {"../mine": {"kind": "Record"}},
        {"train": {"kind": "Record", "file": str(tmp_path / "out" / "mine")}},
    ):
        (out / "coco").mkdir(parents=True, exist_ok=True)
        for path in mine:
            path.write_text("precious")
        write(out / "coco" / "about.json", {"set": "coco", "root": "/", "splits": hostile})
        prepare("coco", source, out)
        assert all(path.read_text() == "precious" for path in mine)
        assert len(Records(out / "coco", "train")) == 2


def test_two_processes_that_prepare_one_set_do_not_mix(folders, monkeypatch):
    source, out = folders
    coco(source)
    (ready, tell), (wait, go) = os.pipe(), os.pipe()

    def open_slowly(*given):
        os.write(tell, b"x")
        os.read(wait, 1)

    if not (child := os.fork()):
        monkeypatch.setattr("minalbef.datasets.prepare.open_image", open_slowly)
        status = 1
        with suppress(BaseException):
            prepare("coco", source, out, look=True)
            status = 0
        os._exit(status)
    os.read(ready, 1)
    refusal = f"coco is in use: process {child} of .* prepares it; wait until it ends, or choose"
    with pytest.raises(ValueError, match=refusal):
        prepare("coco", source, out)
    for _ in range(9):
        os.write(go, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    prepare("coco", source, out)
    assert len(Records(out / "coco", "train")) == 2 and not [*(out / "coco").glob(".*")]


def test_a_prepare_that_is_refused_leaves_the_old_sets_lists_of_faults(folders):
    source, out = folders
    good = {"image": TRAIN, "caption": "a cat"}
    gone, lost, away = (
        {"image": f"{name}.jpg", "caption": "x"} for name in ("gone", "lost", "away")
    )
    coco(source, coco_train=[good, gone])
    prepare("coco", source, out)
    faults = out / "coco" / "train.faults.txt"
    assert "gone.jpg" in (before := faults.read_text())
    coco(source, coco_train=[good, lost, away])
    refused = out / "coco" / "train.refused.faults.txt"
    with pytest.raises(ValueError, match=f"1 good records and 2 bad .*; all of them: {refused}"):
        prepare("coco", source, out)
    assert faults.read_text() == before and len(refused.read_text().splitlines()) == 2
    coco(source)
    prepare("coco", source, out)
    assert faults.read_text() == "" and not refused.exists()
