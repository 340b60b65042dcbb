"""Build the site from the repository: `make site`, or `python docs/site/make_site.py FOLDER`.

It writes Sphinx's sources into FOLDER/source, in the repository's own layout so that links between pages hold, and the
site into FOLDER/html. No notebook is executed: the site shows the outputs that are committed.
Links to Colab, Binder and the code need the repository's name on GitHub: GITHUB_REPOSITORY=OWNER/NAME, which GitHub's
Actions set, or else the address in address.txt. Without it, there are none to the first two, and linked code is copied.
"""
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ASSIGNMENTS = ROOT / "notebooks" / "assignments"
REPORTS = ROOT / "notebooks" / "experiments" / "reports"
SOURCES = (ROOT, ROOT / "data", ASSIGNMENTS, ASSIGNMENTS / "grader", ASSIGNMENTS / "package")
sys.path[:0] = [str(folder) for folder in SOURCES]

import address  # noqa: E402
import bundle  # noqa: E402
import course  # noqa: E402
import package  # noqa: E402

import minalbef  # noqa: E402
from minalbef.viz.explorer import name_of  # noqa: E402

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "notebooks" / "experiments").rglob("*.md")), *sorted((ROOT / "data").rglob("*.md"))]
INSTEAD = {ROOT / "notebooks/assignments/README.md": "notebooks/assignments/index.md",       # the students' side
           ROOT / "notebooks/solutions": "notebooks/solutions/index.md"}
ROOMS = "system fast evaluation tasks weights scenes datasets viz recipes bench cli".split()
BRANCH = "gh-pages"                   # where .github/workflows/ci.yml puts the site, and Colab looks for chapters
COLAB = """# Only in Colab: installs minalbef, and fetches the files that chapters read
!git clone --quiet --depth 1 https://github.com/{repository} minalbef-checkout
%cd minalbef-checkout/notebooks
%pip install --quiet .."""
BINDER = "https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/notebooks/{name}"   # reads .binder
MODEL = ("The shipped model has 0.9M parameters, was trained in minutes on a CPU, and knows 50 kinds of emoji on plain "
         "backgrounds: move objects and type sentences, which never leave your browser.")
LINKS = ("- [Take the tour](notebooks/00_tour.ipynb), the first of nineteen chapters",
         "- [Install it](README.md#start) and train a model like it, in 10 to 20 minutes",
         "- [What it learned](docs/results.md), with baselines, and what it can't do",
         "- [Teach it](notebooks/assignments/index.md): six weeks of assignments",
         "- [Read the code](docs/architecture.md): one file per component of the paper")
GROUPS = {                            # of the pages of docs/, for the menu; Sphinx stops where one is missing
    "Use it": "install use data sources public tasks choices checkpoints own_images losses",
    "Train at scale": "scale first_gpu loading",
    "Change it": "architecture extend new_task",
    "Compare": "which differences related glossary",
}
WIDGET = "*Here are controls that redraw the figure, once you run the chapter.*"


class Site:
    """A build: where it writes, and OWNER/NAME on GitHub or None."""

    def __init__(self, folder: Path, repository: str | None):
        self.source, self.beside, self.html = folder / "source", folder / "beside", folder / "html"
        self.repository = repository
        self.github = f"https://github.com/{repository}"
        owner, _, name = (repository or "").partition("/")
        self.address = f"https://{owner}.github.io/{name}/"

    def write(self, name: str, text: str) -> None:
        """A page's source."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def put(self, name: str, data: bytes) -> None:
        """A file that goes into the site as it is."""
        path = self.beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def link(self, target: str, page: Path) -> str | None:
        """A link of a page of the repository, as its page of the site needs it; None where nothing can be shown."""
        name, mark, anchor = target.partition("#")
        path = Path(os.path.normpath(page.parent / name))
        if not name or re.match(r"\w+:", target) or path in (*PROSE, *CHAPTERS, *SOLUTIONS):
            return target
        if path in INSTEAD:
            return os.path.relpath(self.source / INSTEAD[path], self.source / page.parent.relative_to(ROOT))
        if not path.exists():
            raise ValueError(f"{page.relative_to(ROOT)} links to {target}, which isn't there; mend the link")
        shown = path.relative_to(ROOT).as_posix()
        if path.suffix not in (".png", ".webp") and self.repository:
            return f"{self.github}/{'tree' if path.is_dir() else 'blob'}/main/{shown}{mark}{anchor}"
        if path.is_dir():
            return None
        copy = self.source / shown
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        return target

    def mend(self, text: str, page: Path) -> str:
        """A page's Markdown with its links as the site needs them, and the repository's address; code stays."""
        def replace(found: re.Match) -> str:
            if not found["link"]:
                return found[0]
            link = self.link(found["link"], page)
            return found["words"] if link is None else f"[{found['words']}]({link})"
        text = re.sub(r"^\[!\[.*\n+", "", text, flags=re.M)              # badges are pictures from another host
        if self.repository:
            text = address.fill(text, self.github)
        return re.sub(r"```.*?```|`[^`\n]*`|\[(?P<words>[^\[\]]*)\]\((?P<link>[^()\s]+)\)", replace, text, flags=re.S)

    def notebook(self, page: Path) -> dict:
        """A notebook for the site: links mended, alt texts where MyST-NB looks for them, a note in a widget's place.

        Code that JupyterLab opens folded is folded here, too.
        """
        made = json.loads(page.read_text(encoding="utf-8"))
        for cell in made["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = self.mend("".join(cell["source"]), page)
            if cell["metadata"].get("jupyter", {}).get("source_hidden"):
                cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    cell["metadata"]["mystnb"] = {"image": {"alt": output["metadata"]["image/png"]["alt"]}}
                if "application/vnd.jupyter.widget-view+json" in data:
                    output["data"] = {"text/markdown": WIDGET}
                if "text/html" in data:          # chapter 00 writes the explorer beside itself; the site has it already
                    data["text/html"] = "".join(data["text/html"]).replace('"runs/explorer.html"', '"../explorer.html"')
        return made

    def chapters(self) -> None:
        """Chapters with their links; the files to download and, where the repository is known, those for Colab."""
        for page in CHAPTERS:
            made, name = self.notebook(page), page.name
            links = [f'<a href="{name}" download>Download this chapter</a>']
            self.put(f"notebooks/{name}", page.read_bytes())
            if self.repository:
                self.put(f"colab/{name}", json.dumps(self.for_colab(page), indent=1).encode())
                links.append(f'<a href="https://colab.research.google.com/github/{self.repository}/blob/{BRANCH}/colab/'
                             f'{name}">Open it in Colab</a>')
                links.append(f'<a href="{BINDER.format(repository=self.repository, name=name)}">Open it in Binder</a>')
            links.append(f'<a href="solutions/{page.stem}.html">Solutions of its exercises</a>')
            title, _, rest = made["cells"][0]["source"].partition("\n")
            made["cells"][0]["source"] = f'{title}\n\n<p class="links">{" · ".join(links)}</p>\n{rest}'
            self.write(f"notebooks/{name}", json.dumps(made))
        for page in SOLUTIONS:
            self.write(f"notebooks/solutions/{page.name}", json.dumps(self.notebook(page)))
        self.write("notebooks/solutions/index.md", "\n".join([
            "# Solutions", "", "Of each chapter's exercises. Try one first; its solution opens with a click.", "",
            toctree("", [page.stem for page in SOLUTIONS])]))

    def for_colab(self, page: Path) -> dict:
        """A chapter whose first cell installs what it needs, and whose links lead to the site or to GitHub."""
        made = json.loads(page.read_text(encoding="utf-8"))
        def replace(found: re.Match) -> str:
            name, mark, anchor = found[1].partition("#")
            path = Path(os.path.normpath(page.parent / name))
            shown = path.relative_to(ROOT).as_posix()
            if path in (*PROSE, *CHAPTERS, *SOLUTIONS):
                return f"]({self.address}{re.sub('[.][a-z]+$', '.html', shown)}{mark}{anchor})"
            return f"]({self.github}/blob/main/{shown})"
        for cell in made["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = re.sub(r"\]\((?!\w+:|#)([^()\s]+)\)", replace, "".join(cell["source"]))
        first = {"cell_type": "code", "id": "only-in-colab", "metadata": {}, "execution_count": None, "outputs": [],
                 "source": COLAB.format(repository=self.repository)}
        return made | {"cells": [first, *made["cells"]]}

    def assignments(self) -> None:
        """What students see of the assignments, never an answer: student.py as pages, and zips of what they work in."""
        lines, pages = [], []
        for folder in course.SOURCES:
            made = course.notebook(course.parse(folder / "student.py"))
            work = self.beside / "notebooks" / "assignments" / folder.name
            work.mkdir(parents=True)
            course.save(work / f"{folder.name}.ipynb", made)
            for needed in (*course.BESIDE, *course.GRADER.glob(f"{folder.name[:2]}_*.csv")):
                shutil.copy(needed, work)
            bundle.packed(work)
            shutil.rmtree(work)
            title, _, rest = made.cells[0].source.partition("\n")
            link = f'<a href="{folder.name}.zip" download>Download the notebook and its files</a>'
            made.cells[0].source = f'{title}\n\n<p class="links">{link}</p>\n{rest}'
            self.write(f"notebooks/assignments/{folder.name}.ipynb", json.dumps(made))
            pages.append(folder.name)
            summary = re.search(r"\*\*Needs:\*\*.*?\*\*Points:\*\*[^.]*\.", rest, re.S)[0]
            lines.append(f"- [{title.removeprefix('# ')}]({folder.name}.ipynb). {' '.join(summary.split())}")
        work = self.beside / "notebooks" / "assignments" / "package"
        package.save(package.files(), work)
        bundle.packed(work)
        shutil.rmtree(work)
        page = (ASSIGNMENTS / "student_readme.md").read_text(encoding="utf-8")
        self.write("notebooks/assignments/index.md", "\n".join([
            "# Assignments", "", "Six of them, a week each, as students see them: answers to write, and tests to run. "
            "If you hand in, take your course's own release. Instructors: `make course` writes it, and "
            "`notebooks/assignments/README.md` in the repository says how to run the course.", "", *lines, "",
            '<p class="links"><a href="package.zip" download>The same parts as a package to fill</a></p>', "",
            section(page, "How to work"), section(page, "Hand in"), toctree("", pages)]))

    def api(self) -> None:
        """Pages of docstrings: what `import minalbef` gives, the core in the architecture page's order, the rooms."""
        lines = ["API", "===", "", "What ``import minalbef`` gives; the rooms follow.", ""]
        for name in minalbef.__all__:
            found = getattr(minalbef, name)
            where = found.__name__ if inspect.ismodule(found) else f"{found.__module__}.{found.__qualname__}"
            role = "mod" if inspect.ismodule(found) else "class" if inspect.isclass(found) else "func"
            lines += [f":py:{role}:`minalbef.{name} <{where}>`", f"    {first_sentence(found)}", ""]
        page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
        files = re.findall(r"`(\w+)\.py`", re.search(r"^\| room \|.*?\n\n", page, re.M | re.S)[0])
        core = [name for name in files if (ROOT / "minalbef" / f"{name}.py").exists()]
        lines += [".. toctree::", "", "   core", *(f"   {room}" for room in ROOMS), ""]
        self.write("api/index.rst", "\n".join(lines))
        self.write("api/core.rst", "\n".join(["The core", "========", "", "The paper, one file per component.", "",
                                              *modules(f"minalbef.{name}" for name in core)]))
        for room in ROOMS:
            folder = ROOT / "minalbef" / room
            names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(folder.rglob("*.py"))
                     if path.name != "__init__.py"]
            about = inspect.getdoc(importlib.import_module(f"minalbef.{room}"))
            self.write(f"api/{room}.rst", "\n".join([
                f"minalbef.{room}", "=" * 40, "", f".. py:module:: minalbef.{room}", "", about, "", *modules(names)]))

    def front(self) -> None:
        """The front page: what this is, the explorer, a picture, and where to go on."""
        readme = self.mend((ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "README.md")
        about = re.search(r"^A small.*?(?=\n\n)", readme, re.M | re.S)[0]
        picture = re.search(r"^!\[.*?(?=\n\n)", readme, re.M | re.S)[0]
        self.write("index.md", "\n".join([
            "# minalbef", "", about, "",
            '<p class="links"><a href="explorer.html">Open the explorer</a>: two small models, to play with</p>', "",
            '<iframe class="explorer" src="explorer.html" loading="lazy" title="The explorer: a scene to change, and '
            'what the models say of it"></iframe>', "", MODEL, "", picture.replace("\n", "\n\n", 1), "", *LINKS, "",
            toctree("Chapters", [f"notebooks/{page.stem}" for page in CHAPTERS]),
            toctree("Course", ["docs/course", "notebooks/solutions/index", "notebooks/assignments/index"]),
            toctree("Commands", ["Commands and installing <README>"]),
            *(toctree(title, [f"docs/{name}" for name in names.split()]) for title, names in GROUPS.items()),
            toctree("Results", ["docs/results", *report_pages()]),
            toctree("Reference", ["api/index", "data/README", "data/emojiscenes/README", "data/tiny/README",
                                  "data/tiny-paper/README", "data/pictures/README",
                                  "data/clipart/README", "data/emojiscenes/artwork/LICENCES",
                                  "notebooks/experiments/tried",
                                  "notebooks/experiments/speed/README",
                                  *registered_pages(),
                                  "CONTRIBUTING", "CHANGELOG"])]))

    def sources(self) -> None:
        """All of it, but for the explorer."""
        for page in PROSE:
            self.write(page.relative_to(ROOT).as_posix(), self.mend(page.read_text(encoding="utf-8"), page))
        self.chapters()
        self.assignments()
        self.api()
        self.front()


def report_pages() -> list[str]:
    """The index of our experiments' reports, then each of them, in the order of its links."""
    index = (REPORTS / "README.md").read_text(encoding="utf-8")
    names = dict.fromkeys(re.findall(r"\]\((\w+)\.md\)", index))
    return [f"notebooks/experiments/reports/{name}" for name in ("README", *names)]


def registered_pages() -> list[str]:
    """Claims that were written down before their runs."""
    pages = sorted(REPORTS.parent.glob("registered*.md"))
    return [f"notebooks/experiments/{page.stem}" for page in pages]


def toctree(caption: str, pages: list[str]) -> str:
    options = f":caption: {caption}\n:hidden:\n" if caption else ":maxdepth: 1\n"
    return "```{toctree}\n" + options + "\n".join(pages) + "\n```\n"


def section(text: str, title: str) -> str:
    """A section of a Markdown text, heading included."""
    return re.search(rf"^## {title}\n.*?(?=^## |\Z)", text, re.M | re.S)[0]


def first_sentence(found) -> str:
    """Of a docstring, as reStructuredText."""
    paragraph = (inspect.getdoc(found) or "").partition("\n\n")[0]
    return re.split(r"(?<=\.) ", " ".join(paragraph.split()))[0].replace("`", "``")


def modules(names) -> list[str]:
    """reStructuredText that shows modules, each under a heading, with their public members in the order of the file."""
    lines = []
    for name in names:
        lines += [name, "-" * len(name), "", f".. automodule:: {name}", "   :members:", ""]
    return lines


def explored_run(run: Path = ROOT / "runs" / "checkpoints" / "tiny-4") -> str:
    """The shipped model's run with its checkpoints, if they are here and its weights the same, else tiny."""
    if (run / "model.safetensors").is_file() and name_of(minalbef.load(run)) == "tiny":
        return str(run)
    return "tiny"


def main(folder: Path) -> None:
    site = Site(folder, os.environ.get("GITHUB_REPOSITORY") or address.on_github(address.read()))
    for part in (site.source, site.beside, site.html):
        shutil.rmtree(part, ignore_errors=True)
    site.sources()
    run = [sys.executable, "-m"]
    subprocess.run([*run, "minalbef", "explore", explored_run(), "--out", site.beside / "explorer.html"], cwd=ROOT,
                   check=True)
    subprocess.run([*run, "sphinx", "-q", "-W", "--keep-going", "-c", HERE, "-d", folder / "doctrees", site.source,
                    site.html], check=True, env=os.environ | {"SITE_BESIDE": str(site.beside)})
    print(f"the site is {site.html}; open index.html in a browser")
    if not site.repository:
        print("without links to Colab and Binder: they need the repository's address on GitHub, "
              "`python docs/site/address.py https://github.com/OWNER/NAME`")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/site").resolve())
