"""What students hand in, a notebook or a package, as files: can it be read, and if not, why?"""
import json
from pathlib import Path
from typing import Any

LARGEST = 16 << 20                    # bytes of a notebook


def load_json(path: Path) -> Any:
    """What a file of JSON holds, such as a notebook."""
    return json.loads(path.read_text(encoding="utf-8"))


def problem_of(path: Path) -> str:
    """Why a notebook cannot be graded; nothing where it can."""
    try:
        if path.stat().st_size > LARGEST:
            return f"{path.name} is larger than {LARGEST >> 20} megabytes"
        notebook = load_json(path)
        if notebook["nbformat"] != 4:
            return (f"{path.name} has nbformat {str(notebook['nbformat'])[:20]}; 4 "
                    "can be graded, as which today's JupyterLab saves it")
        cells = notebook["cells"]
        ids = [str(cell["metadata"].get("nbgrader", {}).get("grade_id", ""))
               for cell in cells]
        for cell in cells:
            # half a pair of UTF-16 can't be saved
            f"{cell['cell_type']}{''.join(cell['source'])}".encode()
    except UnicodeDecodeError:
        return f"{path.name} is not UTF-8 text"
    except OSError as problem:
        return f"{path.name} cannot be read: {problem}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{path.name} is not a notebook"
    if not any(name.startswith("tests-") for name in ids):
        return f"{path.name} is not the assignment's notebook: it has none of its tests"
    return ""


def handed_in(folder: Path) -> tuple[dict[str, str], str]:
    """A package's files, from the folder that holds its adapters.py, nested or not; and what
    is wrong with it."""
    seams = [path for path in folder.rglob("adapters.py") if "__MACOSX" not in path.parts]
    if not seams:
        return {}, "no adapters.py: hand in adapters.py and the folder mine"
    files = {}
    root = min(sorted(seams), key=lambda path: len(path.parts)).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        try:
            if path.stat().st_size > 1 << 20:
                return {}, f"{name} is larger than a megabyte"
            files[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return {}, f"{name} is not UTF-8 text"
        except OSError as problem:
            return {}, f"{name} cannot be read: {problem}"
    return files, ""
