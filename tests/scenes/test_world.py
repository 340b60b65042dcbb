"""The embedded world meets the library: the shipped tokenizer knows its words,
boxes overlap alike."""


import pytest

from emojiscenes.problems import GROUP, Problems
from minalbef.data import data_folder
from minalbef.system.tokenizer import Tokenizer


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
