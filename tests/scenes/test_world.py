"""The embedded world meets the library: the shipped tokenizer knows its words, boxes overlap alike."""

import random

import pytest
import torch

from emojiscenes.problems import GROUP, Problems, answer_list
from emojiscenes.staging import overlap
from minalbef.data import data_folder
from minalbef.evaluation import answers
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.grounding import iou


@pytest.mark.parametrize("task", GROUP)
def test_texts_of_problems_fit_the_shipped_tokenizer(task):
    tokenizer = Tokenizer.load(data_folder() / "tiny" / "tokenizer.json")
    problems = Problems(task, "train", objects=50)
    texts = []
    for i in range(1000):
        problem = problems.draw(i)
        texts += problem.texts if hasattr(problem, "texts") else [problem.text]
    tokens, _ = tokenizer.encode(texts, length=30, truncate=False)
    assert not (tokens == tokenizer.unk).any()
    unknown = tokenizer.encode(["exactly one"])[0] == tokenizer.unk
    assert unknown.any(), "the check is blind: there are no letters j, q, x"


def test_the_world_and_the_task_measure_overlap_alike():
    numbers = random.Random(0)
    for _ in range(200):
        a, b = ([numbers.random() for _ in range(4)] for _ in range(2))
        expected = iou(torch.tensor(a, dtype=torch.double), torch.tensor(b, dtype=torch.double))
        assert overlap(tuple(a), tuple(b)) == expected.item()


def test_the_normal_form_changes_no_score_of_a_scenes_answer():
    problems = Problems("vqa", "train", objects=50)
    listed = answer_list(223)
    assert len(set(map(answers.normalise, listed))) == len(listed), "no two of them become one"
    for one in [problems.draw(i) for i in range(600)]:
        normal = list(map(answers.normalise, one.answers))
        for said in answer_list(50):
            agree = [written == said for written in one.answers]
            by_letters = sum(min((sum(agree) - left_out) / 3, 1) for left_out in agree) / 10
            assert answers.accuracy(said, one.answers) == by_letters
            # the rule before: everything in normal form
            assert answers.accuracy(answers.normalise(said), normal) == by_letters
