import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from changes import can_reach, changed_files
from chromium import CHROMIUM, QUIET, lack
from long_files import LONG_FILES
from minalbef import load
from minalbef.viz.explorer import write_explorer

# small matrices gain nothing from more, and waiting threads slow a shared machine
torch.set_num_threads(1)


def pytest_configure(config):
    # chapters run, and in their kernels move_widgets.py first
    if config.getoption("nbval", False):
        settings = tempfile.TemporaryDirectory()
        config.add_cleanup(settings.cleanup)
        startup = Path(settings.name) / "profile_default" / "startup"
        startup.mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "support" / "move_widgets.py", startup)
        os.environ["IPYTHONDIR"] = settings.name


def pytest_addoption(parser):
    parser.addoption("--changed-since", metavar="COMMIT",
                     help="files that a change since then can reach come first")


def minutes(item) -> float:
    """How long a test takes: what its mark says,
    or for notebooks and long files the table in support/long_files.py."""
    mark = item.get_closest_marker("slow")
    return max(LONG_FILES.get(item.path.name, 0), mark.kwargs.get("minutes", 0) if mark else 0)


@pytest.hookimpl(tryfirst=True)                 # before -m looks for marks
def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.parent.name == "solutions":
            item.add_marker(pytest.mark.slow)
    # files stay whole. Those that the change can reach come first, then long ones: a last long one would leave the
    # other workers idle
    longest: dict[Path, float] = {}
    for item in items:
        longest[item.path] = max(minutes(item), longest.get(item.path, 0))
    changed = changed_files(config.rootpath, config.getoption("--changed-since"))
    reached = {path: can_reach(path.relative_to(config.rootpath), changed) for path in longest}
    items.sort(key=lambda item: (not reached[item.path], -longest[item.path]))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(
                reason="no GPU here; `python -m pytest -m gpu` on a machine with one"))


@pytest.fixture(autouse=True)
def level_of_log():
    """A command called in a test sets the log's level; the next test finds it as it was."""
    log = logging.getLogger("minalbef")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(scope="session")
def explorer_page(tmp_path_factory) -> Path:
    """The explorer of the shipped model, in a file."""
    out = tmp_path_factory.mktemp("explorer") / "explorer.html"
    write_explorer(load("tiny"), out, captions=1000)
    return out


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; without it or playwright the test is skipped, but in CI it fails."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        lack("playwright", "pip install -e '.[browser]' brings it")
    if CHROMIUM is None:
        lack("Chromium", "Debian's package is `chromium`")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()
