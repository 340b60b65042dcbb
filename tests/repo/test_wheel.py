"""The wheel works outside the checkout, with the embedded data inside it."""
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROBE = """
from pathlib import Path
import minalbef
from pathlib import Path
from minalbef.data import data_folder
folder = data_folder()
print(folder)
assert Path(minalbef.__file__).with_name("py.typed").is_file()
import emojiscenes
world = Path(emojiscenes.__file__).parent
assert world.parent == Path(minalbef.__file__).parents[1]
assert (world / "artwork" / "objects.json").is_file() and (world / "artwork" / "noto.webp").stat().st_size > 100_000
assert emojiscenes.Scenes("test").draw(0).text
assert {path.suffix for path in Path(minalbef.__file__).parent.rglob("page.*")} >= {".html", ".css"}
assert len([*Path(minalbef.__file__).with_name("viz").glob("explorer*.[hjc]*")]) == 26
assert (folder / "clipart" / "images.zip").stat().st_size > 1_000_000
for name in ("tiny", "tiny-paper"):
    assert minalbef.load(name).path == folder / name and str(minalbef.load(name))
"""


def test_the_wheel_carries_all_it_needs(tmp_path):
    run = dict(cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True,
               env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    # no isolation, no index: nothing is downloaded
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT], **run)
    wheel, = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], **run)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run([scripts / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel], **run)
    # a plain line in a .pth lends torch and the rest, but runs no .pth of its own: the checkout stays out of sight
    libraries = subprocess.run([scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                               **run)
    Path(libraries.stdout.strip(), "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")

    found = Path(subprocess.run([scripts / "python", "-c", PROBE], **run).stdout.strip())
    assert found.is_relative_to(tmp_path) and found.name == "_data"
    assert "demo" in subprocess.run([scripts / "minalbef", "--help"], **run).stdout
