"""The settings that the preset `tiny` had until 2026-11-30, where they differ from today's.

The ablation, the curves and the trials of the lesson were measured with them, and still are:
`preset("tiny", **SECOND)`.
"""

SECOND = dict(
    queue_size=1024, mlm_every=1, share_stem=False, muon_lr=0.0, epoch=153_600, warm_steps=2000,
    lesson_skew=2 / 3, siblings=0.6, sibling_negatives=True, more_kinds_from=1.0,
)
