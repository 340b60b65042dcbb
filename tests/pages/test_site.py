"""The site: sources from the repository, then every link, formula and page of what Sphinx makes of them."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from chromium import CHROMIUM, keep
from release import secret_lines, text_of

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.insert(0, str(ROOT / "docs" / "site"))
import make_site  # noqa: E402

OWNER = "someone/a-name"


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text_of_cells(cells: list[dict], kind: str = "") -> str:
    """The sources of all cells, or of those of a kind."""
    sources = []
    for cell in cells:
        if kind in ("", cell["cell_type"]):
            sources.append("".join(cell["source"]))
    return "\n".join(sources)


# sources


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The site's sources and files where the repository's name is known, without Sphinx."""
    site = make_site.Site(tmp_path_factory.mktemp("site"), OWNER)
    site.sources()
    return site


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_copy_for_colab_installs_first_and_is_the_chapter_otherwise(sources, chapter):
    first, *rest = cells(sources.beside / "colab" / chapter.name)
    assert f"git clone --quiet --depth 1 https://github.com/{OWNER} " in first["source"]
    assert text_of_cells(rest, "code") == text_of_cells(cells(chapter), "code")
    links = re.findall(r"\]\(([^()\s]+)\)", text_of_cells(rest, "markdown"))
    assert links
    for link in links:  # those to the site and to GitHub lead to what is there
        assert re.match(r"https://|#", link), link
        if link.startswith("https://someone.github.io/a-name/"):
            page = ROOT / urlsplit(link).path.removeprefix("/a-name/")
            assert page.with_suffix(".ipynb").exists() or page.with_suffix(".md").exists(), link
        elif link.startswith(f"https://github.com/{OWNER}/"):
            assert (ROOT / link.partition("/blob/main/")[2]).exists(), link
    page = text_of_cells(cells(sources.source / "notebooks" / chapter.name))
    colab = f"https://colab.research.google.com/github/{OWNER}/blob/gh-pages/colab"
    assert f'"{colab}/{chapter.name}"' in page
    binder = f"https://mybinder.org/v2/gh/{OWNER}/HEAD?urlpath=lab/tree/notebooks"
    assert f'"{binder}/{chapter.name}"' in page
    assert (sources.beside / "notebooks" / chapter.name).read_bytes() == chapter.read_bytes()


def test_a_link_to_nothing_stops_the_build_and_code_is_no_link(sources):
    page = ROOT / "docs" / "data.md"
    with pytest.raises(ValueError, match="docs/data.md links to nowhere.md, which isn't there"):
        sources.mend("[a](nowhere.md)", page)
    code = "`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```"
    assert sources.mend(code, page) == code


def test_the_sources_hold_no_line_of_an_answer_a_hidden_test_or_a_mistake(sources):
    texts = []
    for path in (*sources.source.rglob("*.*"), *sources.beside.rglob("*.ipynb")):
        if path.is_file() and path.name not in ("index.rst", "explorer.html"):
            texts.append(text_of(path))
    text = "\n".join(texts)
    secret = secret_lines()
    assert len(secret) > 1500
    assert [line for line in secret if line in text] == []
    assert text.count("raise NotImplementedError()") > 20


# what Sphinx makes of them


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, without a repository's name: so every link to code leads to a copy."""
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml", "bs4"):
        pytest.importorskip(name, reason="no Sphinx; pip install -e '.[site]' brings it")
    folder = tmp_path_factory.mktemp("built")
    environment = dict(os.environ)
    environment.pop("GITHUB_REPOSITORY", None)
    run = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "make_site.py", folder],
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    return folder / "html"


@functools.cache
def parse(path: Path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def anchors(path: Path) -> set[str]:
    return {tag["id"] for tag in parse(path).find_all(id=True)}


def pages_of(folder: Path) -> list[Path]:
    """All pages but the explorer, which is one file of its own with tests of its own."""
    return [path for path in sorted(folder.rglob("*.html")) if path.name != "explorer.html"]


def leads_somewhere(link: str, path: Path, folder: Path) -> bool:
    """Whether a link on a page of the site leads to a file of it, and to an anchor there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = path
    if parts.path:
        target = Path(os.path.normpath(path.parent / unquote(parts.path)))
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file() or not target.is_relative_to(folder):
        return False
    if parts.fragment and target.suffix == ".html":
        return unquote(parts.fragment) in anchors(target)
    return True


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(site):
    pages = pages_of(site)
    assert len(pages) > 60
    for path in pages:
        for tag in parse(path).find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
            link = tag.get("href") or tag.get("src") or ""
            assert leads_somewhere(link, path, site), f"{path.relative_to(site)}: {link}"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is `chromium`")
@pytest.mark.parametrize(
    "name, width",
    [
        ("index", 1500), ("index", 390), ("notebooks/06_fuse", 390),
        ("notebooks/assignments/a1_encoders", 1200), ("api/core", 1200),
    ],
)
def test_in_a_browser_a_page_fits_loads_itself_alone_and_complains_of_nothing(
    browser, site, name, width
):
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests = []
    errors = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append((message.type, message.text)))
    page.on("pageerror", lambda error: errors.append(("error", str(error))))
    page.goto((site / f"{name}.html").as_uri())
    if name == "index" and width > 1200:  # the explorer is in the page, and its model answers
        page.locator("iframe.explorer").scroll_into_view_if_needed()
        frame = page.frame_locator("iframe.explorer")
        frame.get_by_text("similarity").first.wait_for(timeout=60_000)
    else:
        assert not page.locator("iframe.explorer").is_visible()
    keep(page, f"site-{name.replace('/', '-')}-{width}")
    assert [text for kind, text in errors if kind == "error"] == []
    for address in requests:
        assert address.startswith(("file:", "data:", "blob:"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


# Colab

CHECK = """
from pathlib import Path
import minalbef
assert Path("experiments/tasks.json").exists()
print(minalbef.__file__)
print(minalbef.load("tiny").path)
"""


@pytest.mark.slow
def test_the_first_cell_for_colab_installs_the_package_and_fetches_the_files(
    tmp_path, sources, monkeypatch
):
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    import nbformat
    from nbclient import NotebookClient

    # a kernel of its own: that of the chapters' tests imports minalbef when it starts
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    target = tmp_path / "installed"  # pip installs there, without the libraries that are here
    target.mkdir()
    settings = {
        "PIP_TARGET": target,
        "PIP_NO_DEPS": 1,
        "PIP_NO_BUILD_ISOLATION": 0,  # no isolation: pip reads it as the value of build_isolation
        "PYTHONPATH": target,
        "PIP_NO_INDEX": 1,
        "GIT_CONFIG_COUNT": 1,
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{OWNER}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    install = cells(sources.beside / "colab" / "00_tour.ipynb")[0]["source"]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in (install, CHECK)]
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    printed = "".join(output["text"] for output in notebook.cells[1].outputs)
    assert printed.startswith(str(target)), notebook.cells[0].outputs
