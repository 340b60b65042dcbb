"""prepare's set on the disk: foreign notes, a second process."""

import os
from contextlib import suppress

import pytest

from minalbef.datasets.prepare import prepare
from minalbef.datasets.store import Records
from miniature_sets import TRAIN, VAL, coco, jpeg, write


@pytest.fixture
def folders(tmp_path):
    """A folder with pictures, and one for what is prepared."""
    for image in (TRAIN, VAL, "VG_100K/5.jpg"):
        jpeg(tmp_path / "in" / image)
    return tmp_path / "in", tmp_path / "out"


def test_a_strangers_set_cannot_have_files_outside_its_folder_deleted(folders, tmp_path):
    source, out = folders
    coco(source)
    files = [tmp_path / "out" / f"mine{ending}" for ending in (".jsonl", ".npy", ".photos.npy")]
    for hostile in (
        {"train": {"kind": "Record", "file": "../mine"}},
        {"../mine": {"kind": "Record"}},
        {"train": {"kind": "Record", "file": str(tmp_path / "out" / "mine")}},
    ):
        (out / "coco").mkdir(parents=True, exist_ok=True)
        for path in files:
            path.write_text("precious")
        write(out / "coco" / "about.json", {"set": "coco", "root": "/", "splits": hostile})
        prepare("coco", source, out)
        for path in files:
            assert path.read_text() == "precious"
        assert len(Records(out / "coco", "train")) == 2


def test_two_processes_that_prepare_one_set_do_not_mix(folders, monkeypatch):
    source, out = folders
    coco(source)
    ready, tell = os.pipe()
    wait, go = os.pipe()

    def open_slowly(*args):
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
