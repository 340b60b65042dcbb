"""JupyterLab in a headless Chromium: a learner runs chapters, moves widgets; an instructor grades submissions."""

import importlib.util
import json
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

from checkout import python_path
from chromium import keep, lack
from hostile import SEEN, hostile

ROOT = Path(__file__).parents[2]
RUN = 400  # seconds for a chapter, on a busy machine
HEIGHT = 900  # pixels of the window, in which a widget fits
GRADED = "a1_encoders"  # the assignment that a class hands in
pytestmark = pytest.mark.slow(minutes=1)


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
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
                "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
                "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
            ],
            cwd=folder,
            stdout=said,
            stderr=said,
            env=os.environ
            | {
                "PYTHONPATH": python_path(ROOT),
                "JUPYTER_CONFIG_DIR": str(folder / "config"),
                "OMP_NUM_THREADS": "1",
                "JUPYTER_TOKEN": token,
            },
        )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5)
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end, (
                    f"JupyterLab does not start:\n{log.read_text()[-3000:]}"
                )
                time.sleep(0.5)
        yield address, token
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address and token of a JupyterLab with the chapters, their outputs cleared, and the same package and data."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(
        ROOT / "notebooks",
        folder / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    for path in (folder / "notebooks").glob(
        "*.ipynb"
    ):  # else the prompts of the commit say that all cells ran
        book = json.loads(path.read_text(encoding="utf-8"))
        for cell in book["cells"]:
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=None)
        path.write_text(json.dumps(book), encoding="utf-8")
    for name in ("minalbef", "data"):
        (folder / name).symlink_to(ROOT / name)
    with jupyterlab(folder) as address_and_token:
        yield address_and_token


def open_and_run(browser, lab: tuple[str, str], chapter: str):
    """The page of a chapter, every cell of which has run."""
    address, token = lab
    page = browser.new_page(viewport={"width": 1400, "height": HEIGHT})
    # JupyterLab may ask something at any time, twice in a row too, and its dialogs would take the clicks
    page.add_locator_handler(
        page.locator(".jp-Dialog").first,
        lambda: print(
            "JupyterLab asked:",
            page.evaluate(
                "[...document.querySelectorAll('.jp-Dialog')].map(it => (it.querySelector('.jp-mod-accept')?.click(), "
                "it.innerText))"
            ),
        ),
        no_wait_after=True,
    )
    # a document of its own, windowing off: cells that are out of sight would have no place in the page
    page.goto(
        f"{address}/doc/tree/notebooks/{chapter}.ipynb?token={token}", wait_until="domcontentloaded"
    )
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=120_000)
    # JupyterLab shows "idle" before there is a kernel: run then, each cell asks for one, and each answer starts another
    page.locator(".jp-KernelName", has_text="Python 3").wait_for(timeout=120_000)
    end = time.monotonic() + RUN
    marks = []
    blank = 20
    try:
        while not marks or not all(
            re.fullmatch(r"\[\d+\]:?", mark) for mark in marks
        ):  # a star waits
            assert time.monotonic() < end, "some cells have not run"
            if blank == 20:  # seconds: a kernel that is not ready leaves all blank, silently
                for name in ("Run", "Run All Cells"):
                    page.get_by_role("menuitem", name=name, exact=True).click(timeout=60_000)
            page.wait_for_timeout(1000)
            marks = [
                mark.strip()
                for mark in page.locator(
                    ".jp-Notebook .jp-CodeCell .jp-InputArea-prompt"
                ).all_text_contents()
            ]
            blank = 0 if any(re.search(r"[*\d]", mark) for mark in marks) else blank % 20 + 1
    finally:
        keep(page, f"{chapter}-ran")
    assert (
        page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-mod-error"
        ).count()
        == 0
    )
    return page


# chapters with each kind of control; support/move_widgets.py moves all widgets of all chapters, without a browser
CHAPTERS = {"00_tour": ("text", "button"), "01_data": ("slider",)}
CONTROLS = {
    "text": "input[type=text]",
    "button": ".widget-toggle-buttons button:not(.mod-active)",
    "slider": ".noUi-handle",
}


def move(page, area, control: str, back: bool = False) -> None:
    """Use the first control of this kind, as a learner would."""
    first = area.locator(CONTROLS[control]).first
    if control == "slider":
        first.focus()
        for _ in range(8):
            page.keyboard.press("ArrowLeft" if back else "ArrowRight")
    elif control == "text":
        first.fill("where is a big zebra?")
        first.press("Enter")
    else:
        first.click()


def try_explorer(page) -> None:
    """The explorer, which JupyterLab serves to the first chapter's frame, loads there and answers."""
    frame = page.frame_locator("iframe[src*='explorer.html']")
    frame.locator("html[data-ready]").wait_for(timeout=120_000)
    frame.locator("#text").fill("a rocket")
    frame.locator("#match", has_text=re.compile(r"^(0\.0|<)")).wait_for(timeout=60_000)
    frame.locator("#stage").scroll_into_view_if_needed()
    keep(page, "00_tour-explorer")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_learner_runs_a_chapter_and_moves_a_widget(browser, lab, chapter):
    page = open_and_run(browser, lab, chapter)
    if chapter == "00_tour":
        try_explorer(page)
    for news in page.get_by_role(
        "button", name="No", exact=True
    ).all():  # JupyterLab asks about news, on top
        news.click()
    pictures = page.locator("img.widget-image, .widget-image img")
    for i in range(pictures.count()):
        box = pictures.nth(i).bounding_box()
        assert box["width"] >= 200 and box["height"] >= 60, (
            f"a widget's image is {box['width']} x {box['height']}"
        )
    for control in CHAPTERS[chapter]:
        try_control(page, pictures, control, f"{chapter}-{control}")
    page.close()


def try_control(page, pictures, control: str, name: str) -> None:
    """The first widget with this control fits the window with its image, and the control changes that image."""
    area = page.locator(".jp-OutputArea-output").filter(has=pictures)
    area = area.filter(has=page.locator(CONTROLS[control])).first
    for _ in range(10):  # outputs above it may still grow, and push it down
        area.evaluate("area => area.scrollIntoView()")  # its top to the top
        page.wait_for_timeout(300)
    keep(page, f"{name}-before")
    picture = area.locator(pictures).first
    box = picture.bounding_box()
    before = picture.get_attribute("src")
    assert box["y"] + box["height"] <= HEIGHT, "image and controls fit the window"
    move(page, area, control)
    for tries in range(120):  # half a minute each way: more of some things changes nothing
        if picture.get_attribute("src") != before:
            break
        if tries == 60 and control == "slider":
            move(page, area, control, back=True)
        page.wait_for_timeout(500)
    assert picture.get_attribute("src") != before, "the picture stays as it was"
    if control == "text":
        area.get_by_text("No training text says 'zebra'.").wait_for(timeout=60_000)
    keep(page, f"{name}-after")


@pytest.fixture(scope="module")
def formgrader(browser, tmp_path_factory):
    """An assignment handed in twice, solved, and blank but for a hostile written answer, graded as
    notebooks/assignments/README.md says: *Nbgrader, Formgrader* in JupyterLab's menu, then a button a student.

    -> the course's folder, the address of the JupyterLab that serves it, a page that is signed in, scores by student
    """
    if importlib.util.find_spec("nbgrader") is None:
        lack("nbgrader", "pip install -e '.[course]' brings it")
    import course
    import nbformat

    folder = tmp_path_factory.mktemp("course")
    course.apart_sandbox.trust_ours()
    course.write(folder)
    course.nbgrader(folder, "generate_assignment", GRADED)
    release = nbformat.read(folder / "release" / GRADED / f"{GRADED}.ipynb", as_version=4)
    solved = course.notebook(course.read(course.HERE / GRADED), {})
    for student, notebook in (("solution", solved), ("hostile", hostile(release))):
        shutil.copytree(folder / "release" / GRADED, folder / "submitted" / student / GRADED)
        path = folder / "submitted" / student / GRADED / f"{GRADED}.ipynb"
        path.write_text(
            json.dumps(notebook), encoding="utf-8"
        )  # nbformat would leave out "trusted"

    with jupyterlab(folder) as (address, token):
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab?token={token}", wait_until="domcontentloaded")
        for item in ("Nbgrader", "Formgrader"):
            page.get_by_role("menuitem", name=item, exact=True).click(timeout=120_000)
        form = page.frame_locator("iframe[src*=formgrader]")
        row = form.locator("#main-table tr").filter(has_text=GRADED)
        row.wait_for(timeout=60_000)
        keep(page, "formgrader-assignments")
        row.locator(".num-submissions a").click()
        scores = {}
        for student in ("solution", "hostile"):
            row = form.locator("#main-table tr").filter(
                has=form.locator(f".student-id:text-is('{student}')")
            )
            try:
                row.locator(".autograde a").click(timeout=60_000)
                form.get_by_text(
                    f"Successfully autograded '{GRADED}' for student '{student}'."
                ).wait_for(timeout=1000 * RUN)
            finally:
                keep(page, f"formgrader-{student}")
            form.get_by_role("button", name="Close", exact=True).click()
            form.locator(".modal").wait_for(state="hidden")
            scores[student] = [
                float(points) for points in row.locator(".score").inner_text().split("/")
            ]
        keep(page, "formgrader-graded")
        yield folder, address, page, scores


def test_formgrader_gives_the_solution_all_points_of_tests_and_the_blank_none(formgrader):
    import course

    cells = course.read(course.HERE / GRADED)
    scores = formgrader[-1]
    by_tests = sum(cell.points for cell in cells if cell.kind == "tests")
    of = sum(cell.points for cell in cells)
    assert 0 < by_tests < of
    assert scores == {"solution": [by_tests, of], "hostile": [0, of]}


def test_nothing_in_a_submission_runs_where_an_instructor_or_a_student_reads_it(formgrader):
    """In Formgrader's page it could call the server as the instructor: read the secret, write files, start a kernel."""
    import course
    from nbgrader.api import Gradebook

    folder, address, page, _ = formgrader
    course.nbgrader(folder, "generate_feedback", GRADED, "--student", "hostile")
    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        number = book.find_submission_notebook(GRADED, GRADED, "hostile").id
    asked = set()
    page.context.on("request", lambda request: asked.add(request.url.partition(SEEN)[2]))
    page.context.on("page", lambda other: other.close())  # a link that opens one
    feedback = folder / "feedback" / "hostile" / GRADED / f"{GRADED}.html"
    found = {}
    for what, where, shown in (
        ("Formgrader", f"{address}/formgrader/submissions/{number}/", ".text_cell_render"),
        ("feedback", feedback.as_uri(), ".text_cell_render"),
        (
            "graded",
            f"{address}/doc/tree/autograded/hostile/{GRADED}/{GRADED}.ipynb",
            ".jp-RenderedMarkdown",
        ),
        (
            "submitted",
            f"{address}/doc/tree/submitted/hostile/{GRADED}/{GRADED}.ipynb",
            ".jp-RenderedMarkdown",
        ),
    ):
        asked.clear()
        page.goto(where, wait_until="domcontentloaded")
        answer = page.locator(shown).filter(has_text="Because").first
        answer.wait_for(timeout=60_000)
        keep(page, f"hostile-{what}")
        for part in ("strong", "table", "code", "img[src^=data]"):
            assert answer.locator(part).count(), f"{what}: an honest {part} is gone"
        answer.locator("a:text-is('link')").evaluate_all(
            "links => links.forEach(link => link.click())"
        )
        page.wait_for_timeout(2000)
        found[what] = asked - {""}
    found["submitted"].discard(
        "image"
    )  # the file as it came: JupyterLab loads its images, and runs nothing
    assert not any(found.values()), found
