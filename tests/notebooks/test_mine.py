"""A reader who fills all blanks has an ALBEF of their own, which trains as the package's does."""

import ast
from functools import partial
from pathlib import Path

import pytest

import minalbef
from blanks import CHAPTERS, ROOT, filled_cells, needed_by, parse
from minalbef.recipes import finetune, pretrain
from minalbef.recipes.assemble import PARTS, assemble, describe_parts, own_parts
from minalbef.recipes.keep import keep_part
from minalbef.system.metrics import read_metrics

BUILDING = ("02", "03", "04", "05", "06", "07", "08")


def keep_parts(chapter: str, folder: Path) -> int:
    """Run the cells that keep a chapter's parts, its blanks filled: -> how many cells there are."""
    cells = filled_cells(chapter)
    keeping = [place for place, cell in enumerate(cells) if 'keep_part("' in cell]
    for place in keeping:
        names = needed_by(cells[place], cells[:place])
        names["keep_part"] = partial(keep_part, cells=cells[:place], folder=folder)
        exec(compile(ast.Module(parse(cells[place]), []), f"keep {chapter}", "exec"), names)
    return len(keeping)


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """The parts of all chapters, kept with the answers in the blanks."""
    folder = tmp_path_factory.mktemp("own") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT / "notebooks")
        for chapter in BUILDING:
            assert keep_parts(chapter, folder), CHAPTERS
    return folder


def test_every_part_is_kept_by_its_chapter_and_is_the_packages(mine):
    """keep_part compares each, and writes none that differs."""
    assert own_parts(mine).keys() == PARTS.keys()
    assert f"{len(PARTS)} of {len(PARTS)} parts are yours" in describe_parts(mine)


def test_a_run_of_own_parts_is_an_ordinary_run_which_is_stopped_resumed_loaded_and_fine_tuned(
    mine, tmp_path
):
    changes = {"batch": 16, "epoch": 64, "bucket": 1, "save_every": 2, "warm_steps": 0}
    config = minalbef.preset("tiny", **changes)
    stopped = []

    def stop() -> None:
        stopped.append(True)
        if len(stopped) == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "mine"
    make = partial(assemble, folder=mine, watch=stop)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(config, folder, make=make, quiet=True)
    pretrain.pretrain(config, folder, make=make, quiet=True)
    assert len(stopped) == 3 + 2, "it went on after step 2"
    pretrain.pretrain(config, tmp_path / "package", quiet=True)
    row = read_metrics(folder)[-1]
    package = read_metrics(tmp_path / "package")[-1]
    assert float(row["itc"]) == pytest.approx(float(package["itc"]), rel=1e-2)
    assert type(minalbef.load(folder).model.image_encoder) is minalbef.ViT
    tuned = finetune.settings("entailment", folder, ["epoch=16", "epochs=1", "batch=8"])
    minalbef.finetune("entailment", folder, tmp_path / "tuned", tuned, quiet=True)
    assert (tmp_path / "tuned" / "model.safetensors").exists()
