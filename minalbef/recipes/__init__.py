"""Whole jobs: pretrain, fine-tune, evaluate, predict, search, convert, their report.json, and what a run costs.

Imports everything but bench and cli."""
