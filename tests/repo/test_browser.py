"""JupyterLab in a headless Chromium: a learner runs a chapter and moves a widget; an instructor grades submissions."""
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
RUN = 400                             # seconds for a chapter, on a busy machine
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; Debian's package is `chromium`")]


@contextmanager
def jupyterlab(folder: Path):
    """JupyterLab's address and its random token; it serves a folder, which holds its settings and log, in the block."""
    token = secrets.token_hex()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "lab.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
             "--ServerApp.port_retries=0", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"],
            cwd=folder, stdout=said, stderr=said,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "config"),
                              "OMP_NUM_THREADS": "1", "JUPYTER_TOKEN": token})
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (
                    f"JupyterLab does not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
        yield address, token
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address and token of a JupyterLab with copies of the chapters, and the same package and data."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("minalbef", "data"):
        (folder / name).symlink_to(ROOT / name)
    with jupyterlab(folder) as address_and_token:
        yield address_and_token


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install -e '.[browser]' brings it")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


def open_and_run(browser, lab: tuple[str, str], chapter: str):
    """The page of a chapter, every cell of which has run."""
    address, token = lab
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    # a document of its own, windowing off: cells that are out of sight would have no place in the page
    page.goto(f"{address}/doc/tree/notebooks/{chapter}.ipynb?token={token}", wait_until="domcontentloaded")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=120_000)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=120_000)
    end, marks, blank = time.monotonic() + RUN, [], 20
    try:
        while not marks or not all(re.fullmatch(r"\[\d+\]:?", mark) for mark in marks):       # a star waits
            assert time.monotonic() < end, "some cells have not run"
            if blank == 20:                      # seconds: a kernel that is not ready leaves all blank, silently
                for name in ("Run", "Run All Cells"):
                    page.get_by_role("menuitem", name=name, exact=True).click(timeout=60_000)
            page.wait_for_timeout(1000)
            marks = [mark.strip()
                     for mark in page.locator(".jp-Notebook .jp-CodeCell .jp-InputArea-prompt").all_text_contents()]
            blank = 0 if any(re.search(r"[*\d]", mark) for mark in marks) else blank % 20 + 1
    finally:
        keep(page, f"{chapter}-ran")
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], "
                        ".jp-mod-error").count() == 0
    return page


def keep(page, name: str) -> None:
    """A screenshot, for people to look at, where MINALBEF_SCREENSHOTS says."""
    if folder := os.environ.get("MINALBEF_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


CHAPTERS = {                          # the kind of widget, and what it is called
    "00_tour": ("text", None), "06_fuse": ("slider", "Move the apple from left to right")}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_learner_runs_a_chapter_and_moves_a_widget(browser, lab, chapter):
    how, label = CHAPTERS[chapter]
    page = open_and_run(browser, lab, chapter)
    widget = page.locator(".widget-slider" if how == "slider" else ".widget-text")
    area = page.locator(".jp-OutputArea-output").filter(has=widget)
    area = area.filter(has_text=label).first if label else area.first
    area.scroll_into_view_if_needed()
    keep(page, f"{chapter}-before")
    before = area.locator("img").first.screenshot()
    if how == "slider":
        area.locator(".noUi-handle").first.focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
    else:
        box = area.locator("input[type=text]").first
        box.fill("a big dog on a red background")
        box.press("Enter")
    end = time.monotonic() + 60
    while area.locator("img").first.screenshot() == before:
        assert time.monotonic() < end, "the picture stays as it was"
        page.wait_for_timeout(500)
    keep(page, f"{chapter}-after")
    page.close()


def test_formgrader_gives_the_solution_all_points_of_tests_and_the_blank_none(browser, tmp_path, monkeypatch):
    """As notebooks/assignments/README.md says: *Nbgrader, Formgrader* in JupyterLab's menu, then a button a student."""
    pytest.importorskip("nbgrader", reason="no nbgrader; pip install -e '.[course]' brings it")
    import nbformat
    monkeypatch.syspath_prepend(ROOT / "notebooks" / "assignments")
    import course
    name, folder = "a1_encoders", tmp_path
    cells = course.read(course.HERE / f"{name}.py")
    course.write(folder)
    course.nbgrader(folder, "generate_assignment", name)
    for student in ("blank", "solution"):
        shutil.copytree(folder / "release" / name, folder / "submitted" / student / name)
    nbformat.write(course.notebook(cells, {}), folder / "submitted" / "solution" / name / f"{name}.ipynb")

    with jupyterlab(folder) as (address, token):
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab?token={token}", wait_until="domcontentloaded")
        for item in ("Nbgrader", "Formgrader"):
            page.get_by_role("menuitem", name=item, exact=True).click(timeout=120_000)
        form = page.frame_locator("iframe[src*=formgrader]")
        row = form.locator("#main-table tr").filter(has_text=name)
        row.wait_for(timeout=60_000)
        keep(page, "formgrader-assignments")
        row.locator(".num-submissions a").click()
        scores = {}
        for student in ("solution", "blank"):
            row = form.locator("#main-table tr").filter(has=form.locator(f".student-id:text-is('{student}')"))
            try:
                row.locator(".autograde a").click(timeout=60_000)
                form.get_by_text(f"Successfully autograded '{name}' for student "
                                 f"'{student}'.").wait_for(timeout=1000 * RUN)
            finally:
                keep(page, f"formgrader-{student}")
            form.get_by_role("button", name="Close", exact=True).click()
            form.locator(".modal").wait_for(state="hidden")
            scores[student] = [float(points) for points in row.locator(".score").inner_text().split("/")]
        keep(page, "formgrader-graded")
        page.close()
    by_tests, of = sum(cell.points for cell in cells if cell.kind == "tests"), sum(cell.points for cell in cells)
    assert 0 < by_tests < of and scores == {"solution": [by_tests, of], "blank": [0, of]}
