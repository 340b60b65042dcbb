"""The site: sources from the repository, then every link, picture, formula and page of what Sphinx makes of them."""
import functools
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import minalbef
from chromium import CHROMIUM, keep
from release import secret_lines, text_of

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.insert(0, str(ROOT / "docs" / "site"))
import make_site  # noqa: E402

OWNER = "someone/a-name"
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}       # what a page fetches


# sources

@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The site's sources and files where the repository's name is known, without Sphinx."""
    site = make_site.Site(tmp_path_factory.mktemp("site"), OWNER)
    site.sources()
    return site


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def text(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells(path))


def test_every_page_of_docs_is_in_the_menu_once(sources):
    index = (sources.source / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^docs/(\w+)$", index, re.M)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_the_copy_for_colab_installs_first_and_is_the_chapter_otherwise(sources, chapter):
    first, *rest = cells(sources.beside / "colab" / chapter.name)
    assert f"git clone --quiet --depth 1 https://github.com/{OWNER} " in first["source"]
    assert "%pip install --quiet .." in first["source"]
    code = [[cell["source"] for cell in some if cell["cell_type"] == "code"] for some in (rest, cells(chapter))]
    assert code[0] == code[1]
    links = re.findall(r"\]\(([^()\s]+)\)", "\n".join("".join(cell["source"]) for cell in rest
                                                       if cell["cell_type"] == "markdown"))
    assert links and not [link for link in links if not re.match(r"https://|#", link)]
    for link in links:                           # those to the site and to GitHub lead to what is there
        if link.startswith("https://someone.github.io/a-name/"):
            page = ROOT / urlsplit(link).path.removeprefix("/a-name/")
            assert any(page.with_suffix(kind).exists() for kind in (".ipynb", ".md")), link
        elif link.startswith(f"https://github.com/{OWNER}/"):
            assert (ROOT / link.partition("/blob/main/")[2]).exists(), link
    page = text(sources.source / "notebooks" / chapter.name)
    assert f'"https://colab.research.google.com/github/{OWNER}/blob/gh-pages/colab/{chapter.name}"' in page
    assert f'"https://mybinder.org/v2/gh/{OWNER}/HEAD?urlpath=lab/tree/notebooks/{chapter.name}"' in page
    assert (sources.beside / "notebooks" / chapter.name).read_bytes() == chapter.read_bytes()


def test_links_to_code_lead_to_the_repository_and_commands_name_it(sources):
    assert f"(https://github.com/{OWNER}/blob/main/minalbef/losses.py)" in text(
        sources.source / "notebooks" / "04_align.ipynb")
    for page in ("README.md", "docs/first_gpu.md"):
        shown = (sources.source / page).read_text(encoding="utf-8")
        assert f"git clone https://github.com/{OWNER} minalbef && cd minalbef\n" in shown, page


def test_the_front_page_says_what_it_is_then_the_explorer_a_picture_and_five_links(sources):
    front = (sources.source / "index.md").read_text(encoding="utf-8").partition("```{toctree}")[0]
    order = [front.index(part) for part in (
        "# minalbef", "A small", 'href="explorer.html"', "<iframe", "The shipped model", "![", "\n- [")]
    assert order == sorted(order) and front.count("![") == front.count("<iframe") == 1
    links = re.findall(r"^- \[[^\]]+\]\(([^)#]+)", front, re.M)
    assert len(links) == len(set(links)) == 5 and all((sources.source / link).exists() for link in links)
    prose = front[front.index("A small"):front.index("\n- [")]
    prose = re.sub(r"!\[.*\]\(.*\)|\(Li et al\., [^)]*\)|<.*>|Open the explorer.*", "", prose).replace("0.9M", "")
    assert len(re.findall(r"\.(?=\s|$)", prose)) == 3


def test_the_explorer_is_of_the_run_with_checkpoints_only_where_its_weights_are_the_shipped_ones(tmp_path):
    assert make_site.explored_run(tmp_path) == "tiny"
    for name, explored in (("tiny-paper", "tiny"), ("tiny", str(tmp_path / "tiny"))):
        shutil.copytree(minalbef.load(name).path, tmp_path / name)
        assert make_site.explored_run(tmp_path / name) == explored


def test_a_link_to_nothing_stops_the_build_and_code_is_no_link(sources):
    page = ROOT / "docs" / "data.md"
    with pytest.raises(ValueError, match="docs/data.md links to nowhere.md, which isn't there"):
        sources.mend("[a](nowhere.md)", page)
    assert sources.mend("`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```", page) == (
        "`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```")
    assert sources.mend("[![CI](../../actions/badge.svg)](../../actions)\n\n# A\n", ROOT / "README.md") == "# A\n"


def test_the_sources_hold_no_line_of_an_answer_a_hidden_test_or_a_mistake(sources):
    secret = secret_lines()
    pages = [path for path in (*sources.source.rglob("*.*"), *sources.beside.rglob("*.ipynb"))
             if path.name not in ("index.rst", "explorer.html") and path.is_file()]
    shown = "\n".join(map(text_of, pages))
    assert len(secret) > 1500 and not [line for line in secret if line in shown]
    assert shown.count("raise NotImplementedError()") > 20 and "Hand in" in shown


# what Sphinx makes of them

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, without a repository's name: so every link to code leads to a copy."""
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml", "bs4"):
        pytest.importorskip(name, reason="no Sphinx; pip install -e '.[site]' brings it")
    folder = tmp_path_factory.mktemp("built")
    environment = {name: value for name, value in os.environ.items() if name != "GITHUB_REPOSITORY"}
    run = subprocess.run([sys.executable, ROOT / "docs" / "site" / "make_site.py", folder], text=True, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "without links to Colab and Binder" in run.stdout
    return folder / "html"


@functools.cache
def page(path: Path):
    from bs4 import BeautifulSoup

    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def anchors(path: Path) -> set[str]:
    return {tag["id"] for tag in page(path).find_all(id=True)}


def pages(folder: Path) -> list[Path]:
    """All pages but the explorer, which is one file of its own with tests of its own."""
    return [path for path in sorted(folder.rglob("*.html")) if path.name != "explorer.html"]


def dead_links(folder: Path) -> list[str]:
    """Links and sources of a site's pages that lead to no file of it, or to no anchor."""
    dead = []
    for path in pages(folder):
        for tag in page(path).find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
            link = urlsplit(tag.get("href") or tag.get("src") or "")
            if link.scheme or link.netloc:
                continue
            target = Path(os.path.normpath(path.parent / unquote(link.path))) if link.path else path
            target = target / "index.html" if target.is_dir() else target
            found = target.is_file() and target.is_relative_to(folder)
            if found and link.fragment and target.suffix == ".html":
                found = unquote(link.fragment) in anchors(target)
            if not found:
                dead.append(f"{path.relative_to(folder)}: {link.geturl()}")
    return dead


def test_a_dead_link_of_a_page_would_be_seen(tmp_path):
    pytest.importorskip("bs4")
    links = "b.html#there", "#here", "c.html", "b.html#gone", "https://e.org", "../out.html"
    (tmp_path / "a.html").write_text('<p id="here"><img src="d.png">' + "".join(
        f'<a href="{link}">x</a>' for link in links), encoding="utf-8")
    (tmp_path / "b.html").write_text('<p id="there">', encoding="utf-8")
    assert dead_links(tmp_path) == ["a.html: d.png", "a.html: c.html", "a.html: b.html#gone", "a.html: ../out.html"]


@pytest.mark.slow
def test_no_link_of_the_site_is_dead(site):
    assert len(pages(site)) > 60 and dead_links(site) == []


@pytest.mark.slow
def test_every_picture_says_what_it_shows_and_it_is_what_the_chapter_says(site):
    shown = {path.relative_to(site).as_posix(): [tag.get("alt", "") for tag in page(path).find_all("img")]
             for path in pages(site)}
    assert not {name: alts for name, alts in shown.items() if any(len(alt.split()) < 4 for alt in alts)}
    for chapter in CHAPTERS:
        alts = [" ".join(output["metadata"]["image/png"]["alt"].split()) for cell in cells(chapter)
                for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        assert [" ".join(alt.split()) for alt in shown[f"notebooks/{chapter.stem}.html"]] == alts, chapter.stem


@pytest.mark.slow
def test_a_page_fetches_nothing_from_another_host(site):
    fetched = [f"{path.name}: {tag}" for path in pages(site) for tag in page(path).find_all(list(LOADED))
               if urlsplit(tag.get(LOADED[tag.name]) or "").netloc]
    styles = [f"{path.name}: {link}" for path in site.rglob("*.css")
              for link in re.findall(r"(?:url\(|@import)\s*[\"']?(https?:|//)", path.read_text(encoding="utf-8"))]
    assert fetched + styles == []


@pytest.mark.slow
def test_formulas_are_mathml_without_a_command_left(site):
    books = [page(path).find("article") for path in (site / "notebooks").glob("*.html")]
    formulas = [tag.get_text() for book in books for tag in book.find_all("math")]
    assert len(formulas) > 200 and not [one for one in formulas if "\\" in one]
    assert not [book.find("h1").get_text() for book in books if "$$" in book.get_text()]


@pytest.mark.slow
@pytest.mark.parametrize("chapter", [path.stem for path in CHAPTERS])
def test_a_chapter_has_its_outputs_its_file_and_folded_solutions(site, chapter):
    shown = page(site / "notebooks" / f"{chapter}.html")
    assert shown.find("a", href=f"{chapter}.ipynb", download=True) and shown.find("a", href=f"solutions/{chapter}.html")
    outputs = [output for cell in cells(ROOT / "notebooks" / f"{chapter}.ipynb") for output in cell.get("outputs", [])]
    printed = ["".join(output["text"]).splitlines()[0] for output in outputs if output.get("name") == "stdout"]
    article = " ".join(shown.find("article").get_text().split())
    assert printed and all(" ".join(line.split()) in article for line in printed)
    hidden = [cell for cell in cells(ROOT / "notebooks" / f"{chapter}.ipynb")
              if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    assert len(shown.select("div.cell_input details, details.hide.above-input")) == len(hidden)
    widgets = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert article.count(make_site.WIDGET.strip("*")) == len(widgets)
    answers = page(site / "notebooks" / "solutions" / f"{chapter}.html")
    folded = answers.select("section section > details.solution:not([open]) > summary")
    exercises = [cell for cell in cells(ROOT / "notebooks" / "solutions" / f"{chapter}.ipynb")
                 if "".join(cell["source"]).startswith("## ")]
    assert len(folded) == len(exercises) > 0
    for details in answers.select("details.solution"):
        details.extract()
    assert "Expected:" not in answers.find("article").get_text()


@pytest.mark.slow
def test_a_table_that_a_cell_displays_is_a_table(site):
    for page, cell in (("00_tour", "fine-tune: answer a question"), ("18_after", "ALBEF without teacher and queue")):
        html = (site / "notebooks" / f"{page}.html").read_text(encoding="utf-8")
        assert f"<td><p>{cell}</p></td>" in html, "else a reader sees its bars and dashes"


@pytest.mark.slow
def test_every_public_name_and_room_is_documented(site):
    front = page(site / "api" / "index.html").find("article")
    for name in minalbef.__all__:
        link = front.find("a", title=True, string=lambda text: text and text.removesuffix("()") == f"minalbef.{name}")
        assert link and link.find_parent("dt").find_next("dd").get_text().strip(), name
    named = set().union(*(anchors(path) for path in (site / "api").glob("*.html")))
    assert {"minalbef.losses.itc_loss", "minalbef.albef.ALBEF.fuse", "minalbef.recipes.search.search"} <= named
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "minalbef").rglob("[!_]*.py")]
    assert not [file for file in files if f"module-{'.'.join(file.parts)}" not in named]
    said = [tag.get_text() for path in (site / "api").glob("*.html") for tag in page(path).select("dd p, dd .line")]
    assert len(said) > 500 and not [line for line in said if line.startswith("| ") or "`" in line]
    alpha, = [line for line in inspect.getdoc(minalbef.losses.itc_loss).splitlines() if line.startswith("alpha: ")]
    assert alpha in [tag.get_text() for tag in page(site / "api" / "core.html").select("dd .line")]


@pytest.mark.slow
def test_the_site_shows_no_answer_of_an_assignment(site):
    shown = "\n".join(page(path).find("article").get_text() for path in (site / "notebooks/assignments").glob("*.html"))
    lines = [line for line in secret_lines() if line in shown]
    assert not lines and shown.count("raise NotImplementedError()") > 20
    assert not {path.name for path in site.rglob("*")} & {"solution.py", "hidden.py", "mistakes.py", "make_curves.py"}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is `chromium`")
@pytest.mark.parametrize("name, width", [("index", 1500), ("index", 390), ("notebooks/06_fuse", 390),
                                         ("notebooks/assignments/a1_encoders", 1200), ("api/core", 1200)])
def test_in_a_browser_a_page_fits_loads_itself_alone_and_complains_of_nothing(browser, site, name, width):
    opened, asked, said = browser.new_page(viewport={"width": width, "height": 900}), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto((site / f"{name}.html").as_uri())
    if name == "index" and width > 1200:         # the explorer is in the page, and its model answers
        frame = opened.frame_locator("iframe.explorer")
        opened.locator("iframe.explorer").scroll_into_view_if_needed()
        frame.get_by_text("similarity").first.wait_for(timeout=60_000)
    else:
        assert not opened.locator("iframe.explorer").is_visible()
    keep(opened, f"site-{name.replace('/', '-')}-{width}")
    assert said == [] and not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()


# Colab

@pytest.mark.slow
def test_the_first_cell_for_colab_installs_the_package_and_fetches_the_files(tmp_path, sources, monkeypatch):
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    import nbformat
    from nbclient import NotebookClient

    target = tmp_path / "installed"              # pip installs there, without the libraries that are here
    target.mkdir()                               # 0 means no isolation: pip reads it as the value of build_isolation
    for name, value in {"PIP_TARGET": target, "PIP_NO_DEPS": 1, "PIP_NO_BUILD_ISOLATION": 0, "PYTHONPATH": target,
                        "PIP_NO_INDEX": 1, "GIT_CONFIG_COUNT": 1, "GIT_CONFIG_VALUE_0": f"https://github.com/{OWNER}",
                        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf"}.items():
        monkeypatch.setenv(name, str(value))
    first = cells(sources.beside / "colab" / "00_tour.ipynb")[0]["source"]
    check = ("from pathlib import Path\nimport minalbef\nassert Path('experiments/tasks.json').exists()\n"
             "print(minalbef.__file__)\nprint(minalbef.load('tiny'))")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in (first, check)])
    NotebookClient(made, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(output["text"] for output in made.cells[1].outputs)
    assert shown.startswith(str(target)) and "preset tiny" in shown, (shown, made.cells[0].outputs, os.listdir(target))
