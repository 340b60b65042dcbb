"""What a chapter keeps: source from the cells that ran, checked before it is written, refused with a reason."""
from types import ModuleType

import pytest
import torch

from minalbef.evaluation.checks import check_same
from minalbef.presets import preset
from minalbef.recipes.assemble import assemble, own_parts
from minalbef.recipes.keep import keep_part, run_module

IMPORTS = "import torch\nfrom torch import Tensor, nn\nimport minalbef"
HALF = '''def half(x: Tensor) -> Tensor:
    """Half of it."""
    return x / 2
'''
LAYER = """class Layer(minalbef.Attention):
    def forward(self, x):
        return torch.relu(half(x))
"""


def keep(folder, names, cells, check=lambda module: None, **options):
    keep_part("part", names, check, cells=cells, folder=folder, **options)
    return own_part(folder)


def own_part(folder) -> ModuleType:
    return run_module("part", (folder / "part.py").read_text(encoding="utf-8"))


def test_a_kept_part_has_what_it_uses_and_no_more(tmp_path, capsys):
    cells = [IMPORTS, "x = 1\n%matplotlib inline", HALF, LAYER + "\n\ncheck = 1", "def other():\n    return 3"]
    part = keep(tmp_path, ["Layer"], cells)
    assert torch.equal(part.Layer(4, 2)(torch.tensor([-2.0, 2.0])), torch.tensor([0.0, 1.0]))
    text = (tmp_path / "part.py").read_text(encoding="utf-8")
    assert "other" not in text and "check" not in text and "import nn" not in text
    assert "part: kept in" in capsys.readouterr().out


def test_of_a_name_the_last_definition_is_kept(tmp_path):
    cells = [IMPORTS, HALF, HALF.replace("/ 2", "/ 4")]
    assert keep(tmp_path, ["half"], cells).half(8.0) == 2.0


def test_an_annotation_may_name_a_class_that_ran_later(tmp_path):
    cells = [IMPORTS, "def size(layer: Layer) -> int:\n    return layer.heads", LAYER + HALF]
    part = keep(tmp_path, ["size", "Layer"], cells)
    assert part.size(part.Layer(4, 2)) == 2


def test_own_names_stand_in_place_of_the_packages(tmp_path):
    cells = [IMPORTS, "class Attention:\n    pass", "class Layer:\n    kind = minalbef.Attention"]
    part = keep(tmp_path, ["Layer", "Attention"], cells, instead={"minalbef.Attention": "Attention"})
    assert part.Layer.kind is part.Attention


def test_a_part_with_a_blank_is_not_kept_and_an_older_one_stays(tmp_path, capsys):
    keep(tmp_path, ["half"], [IMPORTS, HALF])
    capsys.readouterr()
    blank = "def half(x: Tensor) -> Tensor:\n    raise NotImplementedError\n"
    assert keep(tmp_path, ["half"], [IMPORTS, HALF, blank]).half(8.0) == 4.0
    assert capsys.readouterr().out == "part: half is yours to write; the package's is used until then\n"


def test_a_part_that_differs_is_refused_with_the_reason_and_an_older_one_stays(tmp_path):
    def check(module: ModuleType) -> None:
        check_same(module.half, lambda x: x / 2, make_input=lambda: torch.randn(3))

    keep(tmp_path, ["half"], [IMPORTS, HALF], check)
    wrong = HALF.replace("/ 2", "/ 3")
    with pytest.raises(ValueError, match="part isn't kept, as it differs from the package's: mine.half and"):
        keep(tmp_path, ["half"], [IMPORTS, HALF, wrong], check)
    assert own_part(tmp_path).half(8.0) == 4.0


def test_a_name_that_cannot_be_kept_is_named(tmp_path):
    with pytest.raises(ValueError, match="half uses scale, which is neither imported nor defined"):
        keep(tmp_path, ["half"], [IMPORTS, "scale = 2", HALF.replace("/ 2", "/ scale")])
    with pytest.raises(ValueError, match="no cell that ran defines half"):
        keep(tmp_path, ["half"], [IMPORTS])
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "itc.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match="itc.py can't be run: .*run its chapter again, or remove it"):
        own_parts(tmp_path)


def test_without_own_parts_the_packages_are_assembled(tmp_path):
    config = preset("tiny", vocab_size=30, queue_size=8)
    torch.manual_seed(0)
    first = assemble(config, tmp_path / "none")
    task = assemble(config, tmp_path / "none", start=first.student)
    assert all(torch.equal(a, b) for a, b in zip(first.student.parameters(), task.student.parameters(), strict=True))
    assert type(task.student.fusion).__module__ == "minalbef.fusion"
