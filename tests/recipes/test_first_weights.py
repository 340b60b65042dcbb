"""The first weights of pretraining: --vit's and --bert's are the student's and the teacher's."""
from dataclasses import replace

import pytest
import torch

from captions import CAPTIONS, SIZES, prepare_captions
from helpers import disturb, same_state
from minalbef.recipes import pretrain
from minalbef.weights import pretrained
from minalbef.weights.original import Report


@pytest.mark.parametrize("names, changed", [
    ({"image_start": "some"}, {"image_encoder"}),
    ({"image_start": "some", "text_start": "some"}, {"image_encoder", "text_encoder"})])
def test_the_teacher_begins_with_the_weights_that_the_student_was_given(
        names, changed, tmp_path, monkeypatch):
    data = prepare_captions(tmp_path, CAPTIONS)
    config = pretrain.settings("tiny", [*SIZES, "vocab_size=48"], [data])
    random = pretrain.begin(config, [data])[0].student.state_dict()
    report = Report("some", (), (), (), ())
    monkeypatch.setattr(pretrained, "load_vit",
                        lambda encoder, source: (disturb(encoder), report)[1])
    monkeypatch.setattr(pretrained, "load_bert",
                        lambda model, source: (disturb(model.text_encoder), report)[1])
    task, _, _ = pretrain.begin(replace(config, **names), [data])
    student = task.student.state_dict()
    teacher = task.teacher.state_dict()
    assert same_state({name: student[name] for name in teacher}, teacher)
    parts = set()
    for name in student:
        if not torch.equal(student[name], random[name]):
            parts.add(name.partition(".")[0])
    assert parts == changed
