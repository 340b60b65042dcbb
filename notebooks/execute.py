"""Run chapters and solutions in order and save them with their outputs, normalised: `make notebooks`, or name some."""
import base64
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image, PngImagePlugin

FOLDER = Path(__file__).parent


def smaller(png: str) -> str:
    """A figure in 128 colours, a third of the size; its text chunks, the alt text among them, stay."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode in ("RGBA", "P") and picture.convert("RGBA").getextrema()[3][0] < 255:
        return png                                       # transparency would suffer
    notes = PngImagePlugin.PngInfo()
    for key, value in picture.info.items():
        if isinstance(value, str):
            notes.add_text(key, value)
    file = io.BytesIO()
    picture = picture.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    picture.save(file, "PNG", optimize=True, pnginfo=notes)
    small = base64.b64encode(file.getvalue()).decode()
    return small if len(small) < len(png) else png


def run(path: Path):
    """Run one notebook from the top: -> it with its outputs, and the CPU seconds of its kernel."""
    notebook = nbformat.read(path, 4)
    before = os.times()
    NotebookClient(notebook, timeout=600, kernel_name="python3", coalesce_streams=True,
                   resources={"metadata": {"path": str(FOLDER)}}).execute()
    after = os.times()                           # Windows has no times of children: 0 there
    return notebook, round(sum(after[2:4]) - sum(before[2:4]))


def execute(path: Path):
    """Run one notebook and save it: no timestamps, no widget state, small figures, and the CPU seconds it took."""
    notebook, seconds = run(path)
    notebook.metadata = {"cpu_seconds": seconds,
                         "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":                     # no progress bars
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
    nbformat.write(notebook, path)
    print(f"{path.name}: {path.stat().st_size // 1024} KB")


if __name__ == "__main__":
    for name in sys.argv[1:] or [*sorted(FOLDER.glob("*.ipynb")), *sorted(FOLDER.glob("solutions/*.ipynb"))]:
        execute(Path(name))
