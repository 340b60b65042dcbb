"""JupyterLab in a headless Chromium: a learner runs chapters and moves their widgets."""

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
from chromium import keep

ROOT = Path(__file__).parents[2]
RUN = 400  # seconds for a chapter, on a busy machine
HEIGHT = 900  # pixels of the window, in which a widget fits
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
