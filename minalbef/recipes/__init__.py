"""Whole jobs: pretrain, fine-tune, evaluate, predict, search, convert; and what a run costs.

These modules may import everything but bench and cli.
"""
