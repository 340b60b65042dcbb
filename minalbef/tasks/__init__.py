"""The paper's tasks, one file each: records, batches, model, losses, and what is measured.

Imports core files and evaluation. weights and everything above import it."""
