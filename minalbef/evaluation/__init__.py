"""Figures of a model: the loop over records, ranking, intervals, VQA's score.

Imports core files and train. tasks and everything above import it."""
