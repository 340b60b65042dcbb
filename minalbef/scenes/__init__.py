"""The embedded world: scenes of emoji, what is said of them, and their pictures.

Imports the library (core files, train, tasks, weights, evaluation), never datasets. recipes, viz, bench and cli import it."""
