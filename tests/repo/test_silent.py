"""Nothing is silent: with wrong input a command fails, or it names the cause in what it prints.

A case makes a folder in which something is wrong and calls commands; the last outcome is judged. Add one with
`@case("what is wrong", "words that the output must contain")`.
"""
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import Outcome, call

Case = Callable[[Path], Outcome]
CASES: dict[str, tuple[str, Case]] = {}


def case(name: str, pattern: str) -> Callable[[Case], Case]:
    """Register a case. pattern: a regular expression for the words that name the cause."""
    def register(make: Case) -> Case:
        assert name not in CASES, f"two cases are called {name!r}"
        CASES[name] = pattern, make
        return make
    return register


@case("a set that doesn't exist", "no set 'nope'")
def unknown_set(folder: Path) -> Outcome:
    return call("prepare", "nope", "--from", folder)


# --- match

LONG = " ".join(["and a hundred small blue boats", *(f"with {n} sails" for n in range(9))])          # 33 words


def boats(folder: Path) -> Path:
    """Forty images of two captions, which differ only after 33 words, prepared."""
    for split, count in (("train", 30), ("test", 10)):
        (folder / "own" / split).mkdir(parents=True)
        for i in range(count):
            noise = np.random.default_rng([i, count]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / "own" / split / f"{i}.png")
            (folder / "own" / split / f"{i}.txt").write_text(f"{LONG} number {i % 2}", encoding="utf-8")
    made = call("prepare", "pairs", "--from", folder / "own", "--out", folder / "prepared")
    assert not made.failed, made.text
    return folder / "prepared" / "pairs"


CUT = r"100\.0% of the texts are cut, and \d+\.\d% of their words lost"
SMALL = ["image_size=16", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16", "batch=8",
         "device=cpu", "epochs=1", "validate_every=0", "--quiet"]


@case("captions that pretraining cuts", CUT)
def cut_in_pretraining(folder: Path) -> Outcome:
    return call("pretrain", *SMALL, "--data", boats(folder), "--run", folder / "run")


@case("captions that an evaluation cuts", CUT)
def cut_in_evaluation(folder: Path) -> Outcome:
    return call("evaluate", "tiny", "--data", boats(folder) / "test", "--out", folder / "report")


@case("captions that training cut, for the doctor", CUT)
def cut_for_the_doctor(folder: Path) -> Outcome:
    return call("doctor", "tiny", "--data", boats(folder))


@case("a batch of one, in which ITM has no negatives", "batch=1: pretrain draws negatives from the rows of a pass")
def batch_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=1", "--data", boats(folder), "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("passes of one row, of a larger batch", "batch=4: .* take at least batch=8")
def passes_of_one(folder: Path) -> Outcome:
    outcome = call("pretrain", *SMALL, "batch=4", "accumulate=4", "--data", boats(folder), "--run", folder / "run")
    assert outcome.failed
    return outcome


# --- manifest

def drawings(folder: Path, count: int = 12) -> Path:
    """Different images in a folder `own`, with captions in a table: -> the folder."""
    (folder / "own").mkdir(parents=True)
    rows = ["file,caption"]
    for i in range(count):
        noise = np.random.default_rng([i, 7]).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(noise).save(folder / "own" / f"{i}.png")
        rows.append(f"{i}.png,a drawing number {i}")
    (folder / "own" / "captions.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "own"


def prepare_own(folder: Path) -> Outcome:
    return call("prepare", "pairs", "--from", folder / "own", "--out", folder / "prepared")


def rotate_images(folder: Path, by: int = 1) -> None:
    """Each image's file gets the bytes of the next one."""
    paths = sorted(folder.glob("*.png"))
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[by:] + contents[:by]):
        path.write_bytes(content)


CHANGED = r"has changed since the set was prepared.* minalbef prepare pairs"


@case("images that changed places after prepare, in training", CHANGED)
def changed_in_training(folder: Path) -> Outcome:
    drawings(folder)
    prepare_own(folder)
    rotate_images(folder / "own")
    outcome = call("pretrain", *SMALL, "batch=4", "--data", folder / "prepared" / "pairs", "--run", folder / "run")
    assert outcome.failed
    return outcome


@case("images that changed places after prepare, in evaluation", CHANGED)
def changed_in_evaluation(folder: Path) -> Outcome:
    drawings(folder, 40)
    prepare_own(folder)
    rotate_images(folder / "own")
    outcome = call("evaluate", "tiny", "--data", folder / "prepared" / "pairs" / "train", "--out", folder / "out")
    assert outcome.failed
    return outcome


@case("images that were replaced before a resume", CHANGED)
def changed_before_a_resume(folder: Path) -> Outcome:
    drawings(folder)
    prepare_own(folder)
    words = ["pretrain", *SMALL, "batch=4", "--data", folder / "prepared" / "pairs", "--run", folder / "run"]
    assert not call(*words).failed
    rotate_images(folder / "own")
    outcome = call("pretrain", *SMALL, "batch=4", "epochs=2", "--data", folder / "prepared" / "pairs", "--run",
                   folder / "run2")
    assert outcome.failed
    return outcome


@case("records that were edited by hand", "train.jsonl has changed since the set was prepared")
def edited_records(folder: Path) -> Outcome:
    drawings(folder)
    prepare_own(folder)
    path = folder / "prepared" / "pairs" / "train.jsonl"
    path.write_bytes(path.read_bytes().replace(b"drawing number 1", b"cartoon number 1"))
    return call("pretrain", *SMALL, "batch=4", "--data", folder / "prepared" / "pairs", "--run", folder / "run")


@case("a set's name that leads out of its folder", "is a path and no name")
def name_that_is_a_path(folder: Path) -> Outcome:
    drawings(folder, 40)
    prepare_own(folder)
    path = folder / "prepared" / "pairs" / "about.json"
    path.write_text(path.read_text().replace('"set": "pairs"', '"set": "../../../x"'))
    outcome = call("evaluate", "tiny", "--data", path.parent, "--out", folder / "out")
    assert outcome.failed and not (folder.parent / "x-test").exists()
    return outcome


@case("an older version's prepared folder", "an older version wrote it: .minalbef prepare pairs --from FOLDER. makes it")
def older_folder(folder: Path) -> Outcome:
    drawings(folder)
    prepare_own(folder)
    path = folder / "prepared" / "pairs" / "about.json"
    path.write_text(re.sub(r'"digest": "\w+",?', "", path.read_text()))
    return call("pretrain", *SMALL, "--data", path.parent, "--run", folder / "run")


@case("two folders of images with equal names", "image '0.png' may be .*a.0.png or ")
def equal_names(folder: Path) -> Outcome:
    source = drawings(folder)
    for part in ("a", "b"):
        (folder / part).mkdir()
        for path in source.glob("*.png"):
            (folder / part / path.name).write_bytes(path.read_bytes())
            if part == "b":
                rotate_images(folder / part)
    for path in source.glob("*.png"):
        path.unlink()
    outcome = call("prepare", "pairs", "--from", source, "--images", folder / "a", folder / "b", "--out", folder / "out")
    assert outcome.failed
    return outcome


@case("captions of the test set that stand in training", "captions of test stand word for word in train")
def repeated_captions(folder: Path) -> Outcome:
    source = drawings(folder, 40)
    rows = [f"{i}.png,a drawing number {i % 3},{'test' if i > 29 else 'train'}" for i in range(40)]
    (source / "captions.csv").write_text("\n".join(["file,caption,split", *rows]))
    return prepare_own(folder)


@case("a text in another encoding", "isn't in UTF-8")
def another_encoding(folder: Path) -> Outcome:
    source = drawings(folder)
    (source / "captions.csv").unlink()
    for path in source.glob("*.png"):
        path.with_suffix(".txt").write_text("un café", encoding="cp1252" if path.stem == "3" else "utf-8")
    return prepare_own(folder)


@case("an SVG called PNG", r"3.png is SVG, and must be JPEG")
def svg(folder: Path) -> Outcome:
    (drawings(folder) / "3.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return prepare_own(folder)


@case("an image without a caption", "1 images have no caption, such as")
def no_caption(folder: Path) -> Outcome:
    source = drawings(folder)
    (source / "left.png").write_bytes((source / "3.png").read_bytes())
    return prepare_own(folder)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_silent(name, tmp_path):
    pattern, make = CASES[name]
    outcome = make(tmp_path)
    assert re.search(pattern, outcome.text), f"exit status {outcome.status}, and it said:\n{outcome.text}"
