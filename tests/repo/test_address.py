"""The repository's address: it stands in one file, and every page that needs it has the same."""

import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "site"))
import address  # noqa: E402

REAL = "https://github.com/someone/a-name"
ALLOWED = {*address.PLACES, address.FILE.as_posix()}


def differing(root: Path) -> list[str]:
    """Places that have another address than the file's."""
    texts = {name: (root / name).read_text(encoding="utf-8") for name in address.PLACES}
    return [name for name, text in texts.items() if address.fill(text, address.read(root)) != text]


@pytest.fixture
def copy(tmp_path):
    """A checkout of the places alone, with the address that they have here."""
    for name in ALLOWED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_every_page_has_the_address_of_the_one_file():
    assert differing(ROOT) == []


def test_one_command_writes_the_address_everywhere_and_takes_it_out_again(copy, capsys):
    address.main(address.UNKNOWN, copy)
    before = {name: (copy / name).read_bytes() for name in ALLOWED}
    address.main(f"{REAL}/", copy)
    assert f"{REAL} is in docs/site/address.txt, README.md" in capsys.readouterr().out
    for name in address.PLACES:
        assert (copy / name).read_text(encoding="utf-8").count(REAL) == 1, name
        assert address.NOTE not in (copy / name).read_text(encoding="utf-8"), name
    assert f"\nrepository-code: {REAL}\n" in (copy / "CITATION.cff").read_text(encoding="utf-8")
    address.main(address.UNKNOWN, copy)
    assert {name: (copy / name).read_bytes() for name in ALLOWED} == before


@pytest.mark.parametrize(
    "wrong", ["github.com/someone/a-name", "https://github.com", "https://e.org/a name"]
)
def test_what_is_no_address_is_refused_and_nothing_is_written(copy, wrong):
    before = {name: (copy / name).read_bytes() for name in ALLOWED}
    refusal = "must be an address that git can clone, such as https://github.com/OWNER/NAME"
    with pytest.raises(ValueError, match=refusal):
        address.main(wrong, copy)
    assert {name: (copy / name).read_bytes() for name in ALLOWED} == before
