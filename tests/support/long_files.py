"""Minutes of the longest files, so that they start first: a last long one would leave the other processes idle."""
LONG_FILES = {
    "08_pretrain.ipynb": 2,
}
