"""How fast a step and loading are. Imports everything but cli."""
