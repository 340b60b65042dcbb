"""Other people's weights: the original's checkpoints, DeiT and BERT, read by one table of keys, which also writes.

Imports core files, train and tasks. recipes and cli import it."""
