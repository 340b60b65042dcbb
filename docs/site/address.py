"""The repository's address: docs/site/address.txt holds it, and this puts it wherever a page needs it.

`python docs/site/address.py https://github.com/OWNER/NAME` writes it into that file, and into README.md,
docs/first_gpu.md and CITATION.cff, which can't read the file. Links to Colab, Binder and code are made from it by
make_site.py. REPOSITORY stands for an address that isn't known yet.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path("docs") / "site" / "address.txt"
PLACES = ("README.md", "docs/first_gpu.md", "CITATION.cff")
UNKNOWN = "REPOSITORY"
NOTE = f"{UNKNOWN}: the address of this page"


def read(root: Path = ROOT) -> str:
    """The repository's address, or UNKNOWN."""
    return (root / FILE).read_text(encoding="utf-8").strip()


def on_github(address: str) -> str | None:
    """OWNER/NAME of an address on GitHub, which links to Colab and Binder need; None for any other."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address)
    return found[1] if found else None


def fill(text: str, address: str) -> str:
    """A page or CITATION.cff with this address in place of the one that it has.

    CITATION.cff has a line for it only where it is known: its format asks for an address there.
    """
    clone = f"git clone {address} minalbef && cd minalbef"
    if address == UNKNOWN:
        clone = f"{clone:<56}# {NOTE}"
    text = re.sub(r"^git clone \S+ minalbef && cd minalbef\b.*$", clone, text, flags=re.M)
    if text.startswith("cff-version:"):
        text = re.sub(r"^repository-code: .*\n", "", text, flags=re.M)
        if address != UNKNOWN:
            text = re.sub(r"^license: .*\n", rf"\g<0>repository-code: {address}\n", text, flags=re.M)
    return text


def main(address: str, root: Path = ROOT) -> None:
    """Write the address into its file and into all places.

    Raises ValueError for what is neither an address nor UNKNOWN.
    """
    if address != UNKNOWN and not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+/?", address):
        raise ValueError(f"{address!r} must be an address that git can clone, such as https://github.com/OWNER/NAME; "
                         f"{UNKNOWN} takes it out again")
    address = address.removesuffix("/")
    (root / FILE).write_text(f"{address}\n", encoding="utf-8")
    for name in PLACES:
        path = root / name
        path.write_text(fill(path.read_text(encoding="utf-8"), address), encoding="utf-8")
    print(f"{address} is in {FILE.as_posix()}, {', '.join(PLACES)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or [read()])
    except ValueError as error:
        sys.exit(f"address.py: {error}")
