"""The embedded world: scenes of emoji as images with captions.

It imports the library (core, train, tasks, weights, evaluation), never datasets; recipes, viz,
bench and cli import it.
"""
