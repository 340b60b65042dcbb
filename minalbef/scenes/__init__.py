"""The embedded world: scenes of emoji, their captions and their pictures.

Imports the library (core, train, tasks, weights, evaluation), never datasets; recipes, viz, bench and cli import it."""
