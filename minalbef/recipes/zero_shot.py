"""Zero-shot classification: an image's label is the one whose text is most similar."""
import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.evaluation.intervals import by_kind, commonest
from minalbef.recipes.label_folders import (
    chance_levels,
    classified,
    has_parts,
    most_confused,
    read_label_folders,
    write_results,
)
from minalbef.recipes.search import unknown_words
from minalbef.tasks.run import Run

LOG = logging.getLogger("minalbef")
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a drawing of a {}")
# how a word begins that takes "an"
VOWEL = re.compile("hour|(?!eu|one|uni|us[eu])[aeiou]", re.IGNORECASE)


def fill(template: str, label: str) -> str:
    """A template with the label in place of each {}; "a {}" becomes "an apple"."""
    if VOWEL.match(label):
        template = re.sub(r"\b([aA]) \{\}", r"\1n {}", template)
    return template.replace("{}", label)


@torch.no_grad()
def label_features(run: Run, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Each label's text feature, the mean over templates, of unit length: -> (labels, e)."""
    texts = [fill(template, label) for label in labels for template in templates]
    features = run.embed_texts(texts).unflatten(0, (len(labels), -1))
    return F.normalize(features.mean(1), dim=-1).cpu()


def zero_shot(run: Run, folder: Path, templates: Sequence[str] = (),
              out: Path | None = None, command: str = "") -> dict:
    """Classify a folder's images by their labels' texts, write report.json: -> it.

    folder: label folders, or train and test with such, of which test is taken
    templates: sentences with {} for the label, by default TEMPLATES
    Raises ValueError for a template without {}; see also `read_label_folders`.
    """
    clock = time.perf_counter()
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"--template {template!r} has no {{}}, where the label goes; "
                             "write it like 'a photo of a {}'")
    folder = Path(folder)
    if has_parts(folder):
        folder = folder / "test"
    data = read_label_folders(run, folder)
    sentences = [template.replace("{}", " ") for template in templates]
    if unknown := unknown_words(run, *data.labels, *sentences):
        LOG.warning("no training caption says %s, so the model can't know it",
                    ", ".join(map(repr, unknown)))
    templates = templates or TEMPLATES
    texts = label_features(run, data.labels, templates)
    scores = data.features @ texts.T                                     # (n, labels)
    samples = classified(scores, data.truths, data.contents)
    names = [data.labels[i] for i in data.truths]
    baseline = {"top_1": commonest(names)}
    more = {"images": {"test": len(names)}, "chance": chance_levels(data.labels),
            "templates": [*templates],
            "most_confused": most_confused(scores, data.truths, data.labels)}
    parts = {"test": samples, "baselines": {"commonest_label": baseline},
             "by_label": by_kind(samples["top_1"], names)}
    seconds = time.perf_counter() - clock
    return write_results(run, "zero-shot", data, parts, more, seconds, out, command)
