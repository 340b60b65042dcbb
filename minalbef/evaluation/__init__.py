"""Figures of a model: ranking, intervals, and report.json.

Imports core files and train. tasks and everything above import it."""
