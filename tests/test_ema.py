"""ema: the teacher follows the student slowly, and nothing else moves it."""
import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from helpers import disturb, same_state, small
from minalbef.albef import ALBEF
from minalbef.ema import make_teacher, update_teacher
from minalbef.tasks.entailment import Entailment
from minalbef.tasks.nlvr2 import NLVR2
from minalbef.tasks.retrieval import Retrieval
from minalbef.tasks.vqa import VQA


def test_three_updates_by_hand():
    student = nn.Linear(1, 1, bias=False)
    nn.init.constant_(student.weight, 1.0)
    teacher = make_teacher(student)
    expected = 1.0
    for value in (2.0, 5.0, -1.0):
        nn.init.constant_(student.weight, value)
        update_teacher(teacher, student, 0.9)
        expected = 0.9 * expected + 0.1 * value                  # 1.1, 1.49, 1.241
        assert_close(teacher.weight, torch.tensor([[expected]]))
    assert student.weight.item() == -1


def test_the_teacher_is_a_copy_without_gradient_in_evaluation_mode():
    student = ALBEF(small(dropout=0.3)).train()
    teacher = make_teacher(student)
    assert student.training and not any(part.training for part in teacher.modules())
    for p in teacher.parameters():
        assert not p.requires_grad
    for p in student.parameters():
        assert p.requires_grad
    before = copy.deepcopy(teacher.state_dict())
    disturb(student)
    for key, value in teacher.state_dict().items():
        assert value.equal(before[key]), "they share memory"


@pytest.mark.parametrize("make", [Entailment, VQA, NLVR2, Retrieval])
@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_tasks_teacher_starts_as_its_student_or_from_pretrainings_teacher(make, with_teacher):
    """A head that pretraining lacks is the student's either way:
    a random one would teach noise."""
    torch.manual_seed(0)
    task = make(small())
    albef = disturb(ALBEF(small()))
    older = disturb(ALBEF(small()), seed=8)
    disturb(task.teacher)                                # what it was before does not matter
    task.start(albef, older if with_teacher else None)
    expected = copy.deepcopy(task.student)
    if with_teacher:
        expected.start(older)
    student = task.student.state_dict()
    teacher = task.teacher.state_dict()
    assert same_state(teacher, expected.state_dict())
    assert same_state(teacher, student) is not with_teacher
    for p in task.teacher.parameters():
        assert not p.requires_grad
    assert not task.teacher.training
