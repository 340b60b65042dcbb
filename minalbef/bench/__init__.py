"""How fast a step, loading and ranking are, what several seeds learn, and what each part is worth.

Imports everything but cli."""
