"""How fast a step, loading and ranking are, and what several seeds learn.

Imports everything but cli."""
