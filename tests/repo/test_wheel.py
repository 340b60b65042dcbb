"""The wheel works outside the checkout, with the embedded data inside it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROBE = """
from pathlib import Path
import emojiscenes
import minalbef
from minalbef.data import data_folder
package = Path(minalbef.__file__).parent
world = Path(emojiscenes.__file__).parent
folder = data_folder()
print(folder)
assert (package / "py.typed").is_file()
assert world.parent == package.parent
assert (world / "artwork" / "objects.json").is_file()
assert (world / "artwork" / "noto.webp").stat().st_size > 100_000
assert emojiscenes.Scenes("test").draw(0).text
assert {path.suffix for path in package.rglob("page.*")} >= {".html", ".css"}
assert list((package / "viz").glob("explorer*.js"))
assert (folder / "clipart" / "images.zip").stat().st_size > 1_000_000
assert (folder / "pictures" / "model.safetensors").is_file()
for name in ("tiny", "tiny-paper"):
    assert minalbef.load(name).path == folder / name and str(minalbef.load(name))
"""


def test_the_wheel_carries_all_it_needs(tmp_path):
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)

    def run(*words) -> str:
        return subprocess.run(
            words, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout

    # no isolation, no index: nothing is downloaded
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, ROOT]
    run(*build)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    run(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel)
    # a plain line in a .pth lends torch and the rest, and runs no .pth of its own: the checkout stays out of sight
    libraries = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    Path(libraries.strip(), "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")

    folder = Path(run(python, "-c", PROBE).strip())
    assert folder.is_relative_to(tmp_path)
    assert folder.name == "_data"
    assert "demo" in run(scripts / "minalbef", "--help")
