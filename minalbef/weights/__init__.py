"""Other people's weights: the original's checkpoints, DeiT and BERT, read and written by one table of keys.

Imports core files, train and tasks. recipes and cli import it."""
