"""The first day with a GPU: ten checks, each in its own process, and a page with their verdicts.

Imports everything but cli."""
