"""Figures, the overview of ALBEF, the page of a run and the explorer.

Imports the library and scenes."""
