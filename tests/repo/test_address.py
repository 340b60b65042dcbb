"""The repository's address stands in one file, and one command writes it where pages need it."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "site"))
import address  # noqa: E402

REAL = "https://github.com/someone/a-name"
NAMES = {*address.PLACES, address.FILE.as_posix()}


def test_the_address_is_written_everywhere_and_taken_out_again(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    address.main(address.UNKNOWN, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    with pytest.raises(ValueError, match="must be an address that git can clone"):
        address.main("github.com/someone/a-name", tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before
    address.main(f"{REAL}/", tmp_path)
    for name in address.PLACES:
        assert (tmp_path / name).read_text(encoding="utf-8").count(REAL) == 1, name
    address.main(address.UNKNOWN, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before


def test_every_page_has_the_address_of_the_one_file():
    for name in address.PLACES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert address.fill(text, address.read(ROOT)) == text, name
