"""The public world: readers of published sets, prepared shards of records, and batches of them.

Imports the library, never scenes. recipes, bench and cli import it."""
