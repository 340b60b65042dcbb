"""What a chapter keeps is checked before it is written, and refused with a reason."""
from types import ModuleType

import pytest
import torch

from minalbef.evaluation.checks import check_same
from minalbef.recipes.keep import keep_part, run_module

IMPORTS = "import torch\nfrom torch import Tensor, nn\nimport minalbef"
HALF = '''def half(x: Tensor) -> Tensor:
    """Half of it."""
    return x / 2
'''


def keep(folder, names, cells, check=lambda module: None, **options):
    keep_part("part", names, check, cells=cells, folder=folder, **options)
    return own_part(folder)


def own_part(folder) -> ModuleType:
    return run_module("part", (folder / "part.py").read_text(encoding="utf-8"))


def test_a_part_that_differs_is_refused_with_the_reason_and_an_older_one_stays(tmp_path):
    def check(module: ModuleType) -> None:
        check_same(module.half, lambda x: x / 2, make_input=lambda: torch.randn(3))

    keep(tmp_path, ["half"], [IMPORTS, HALF], check)
    wrong = HALF.replace("/ 2", "/ 3")
    with pytest.raises(ValueError,
                       match="part isn't kept .mine.half and .*differ"):
        keep(tmp_path, ["half"], [IMPORTS, HALF, wrong], check)
    assert own_part(tmp_path).half(8.0) == 4.0


def test_a_name_that_cannot_be_kept_is_named(tmp_path):
    with pytest.raises(ValueError,
                       match="half uses scale, which is neither imported nor defined"):
        keep(tmp_path, ["half"], [IMPORTS, "scale = 2", HALF.replace("/ 2", "/ scale")])
    with pytest.raises(ValueError, match="no cell that ran defines half"):
        keep(tmp_path, ["half"], [IMPORTS])
    assert not list(tmp_path.iterdir())
