"""Pictures for a reader: figures, the overview, and the page of a run.

Imports the library and scenes."""
