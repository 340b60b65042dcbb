"""The test sets of embedded scenes: questions, and what a model gets right of them."""
