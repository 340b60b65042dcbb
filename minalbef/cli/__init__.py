"""The command line: one function a command.

Imports everything; nothing imports it."""
