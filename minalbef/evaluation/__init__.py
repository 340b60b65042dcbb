"""Figures of a model: ranking, intervals, and the report with its tables.

Imports core files and train. tasks and everything above import it."""
