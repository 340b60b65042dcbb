"""Weights of others: the original's checkpoints, DeiT and BERT, by one table of keys.

Imports core files, train and tasks. recipes and cli import it."""
