"""A reader's own ALBEF: chapters keep the parts that were built, and the last of them trains it."""
