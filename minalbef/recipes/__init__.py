"""Whole jobs: pretrain, fine-tune, evaluate, predict, search, and what a run will cost.

Imports everything but bench and cli."""
