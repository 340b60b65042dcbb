"""The embedded world meets the library: the shipped tokenizer knows its words, boxes overlap alike."""

import random

import pytest
import torch

from emojiscenes.problems import GROUP, Problems
from emojiscenes.staging import overlap
from minalbef.data import data_folder
from minalbef.tasks.grounding import iou
from minalbef.tokenizer import Tokenizer


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
