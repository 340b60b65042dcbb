import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from chromium import CHROMIUM, QUIET, lack
from minalbef import load
from minalbef.viz.explorer import write_explorer

# small matrices gain nothing from more, and waiting threads slow a shared machine
torch.set_num_threads(1)
# minutes of the longest files: a long one that starts last would leave the other workers idle
LONG_FILES = {
    "16_your_data.ipynb": 3, "08_pretrain.ipynb": 2, "05_teacher.ipynb": 2,
    "02_image_encoder.ipynb": 1.8, "test_scene_finetune.py": 1.6, "test_kills.py": 1.6,
    "test_course.py": 1.5, "test_chapters.py": 1.5, "test_train.py": 1.3, "test_blanks.py": 1,
    "04_align.ipynb": 0.8, "11_vqa.ipynb": 0.8, "15_scale.ipynb": 0.8, "test_mine.py": 0.8,
}


def pytest_configure(config):
    # chapters run, and in their kernels move_widgets.py first
    if config.getoption("nbval", False):
        settings = tempfile.TemporaryDirectory()
        config.add_cleanup(settings.cleanup)
        startup = Path(settings.name) / "profile_default" / "startup"
        startup.mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "support" / "move_widgets.py", startup)
        os.environ["IPYTHONDIR"] = settings.name


@pytest.hookimpl(tryfirst=True)                 # before -m looks for marks
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: -LONG_FILES.get(item.path.name, 0))
    for item in items:
        if item.path.parent.name == "solutions":
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
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
