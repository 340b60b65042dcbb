"""Classification of label folders: zero-shot by the labels' texts, and by a linear probe."""
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
    LabelledImages,
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
VOWEL = re.compile("hour|(?!eu|one|uni|us[eu])[aeiou]", re.IGNORECASE)       # begins after "an"
HELD_OUT = 0.2                        # share of the images
# weights of the probe's L2, the strongest first; features are standardised
L2S = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
USUAL_L2 = 0.1                        # where no image can be held out to choose


def fill(template: str, label: str) -> str:
    """A template with the label in place of each {}; "a {}" becomes "an apple"."""
    if VOWEL.match(label):
        template = re.sub(r"\b([aA]) \{\}", r"\1n {}", template)
    return template.replace("{}", label)


@torch.no_grad()
def label_features(run: Run, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
    """The mean over templates of each label's text features, of unit length: -> (labels, e)."""
    texts = [fill(template, label) for label in labels for template in templates]
    features = run.embed_texts(texts).unflatten(0, (len(labels), -1))
    return F.normalize(features.mean(1), dim=-1).cpu()


def zero_shot(run: Run, folder: Path, templates: Sequence[str] = (), out: Path | None = None,
              command: str = "") -> dict:
    """Classify a folder's images by their labels' texts, and write report.json: -> the report.

    folder: label folders, or train and test with such, of which test is taken
    templates: sentences with {} for the label, by default TEMPLATES
    Raises ValueError for a template without {}; see also `read_label_folders`.
    """
    clock = time.perf_counter()
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"--template {template!r} has no {{}}, where the label goes; write it "
                             "like 'a photo of a {}'")
    folder = Path(folder)
    if has_parts(folder):
        folder = folder / "test"
    data = read_label_folders(run, folder)
    sentences = [template.replace("{}", " ") for template in templates]
    if unknown := unknown_words(run, *data.labels, *sentences):
        LOG.warning("no training caption says %s, so the model can't know it",
                    ", ".join(map(repr, unknown)))
    templates = templates or TEMPLATES
    scores = data.features @ label_features(run, data.labels, templates).T       # (n, labels)
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


# the linear probe


def hold_out(truths: Tensor, contents: Tensor, seed: int) -> Tensor:
    """HELD_OUT of each label's images, one at least where there are two: -> (n,) bool.

    contents: (n,) equal for copies of an image, which stay together
    """
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros_like(truths, dtype=torch.bool)
    for label in truths.unique():
        images = contents[truths == label].unique()
        order = torch.randperm(len(images), generator=generator)
        number = max(1, round(HELD_OUT * len(images)))
        if len(images) > 1:
            held |= torch.isin(contents, images[order[:number]])
    return held


def check_training(data: LabelledImages, train: Tensor, test: Tensor) -> None:
    """Raises ValueError for a label without an image to train on, or none to test on.

    Labels of FOLDER/train may be missing in FOLDER/test.
    """
    needs_test = data.in_test is None
    for i, label in enumerate(data.labels):
        of_label = data.truths == i
        in_train = int((of_label & train).sum())
        in_test = int((of_label & test).sum())
        if not in_train or needs_test and not in_test:
            raise ValueError(f"--probe: label {label!r} has {in_train} images to train on and "
                             f"{in_test} to test on, and needs 1 of each, with different content, "
                             "that can be read; add images, or take its folder away")


def fit_logistic(x: Tensor, truths: Tensor, labels: int, l2: float) -> Tensor:
    """Multinomial logistic regression by L-BFGS: -> weights (d + 1, labels), the last the bias.

    x: (n, d), standardised; l2: the weight of half the squared weights, without the bias
    """
    weights = x.new_zeros(x.shape[1] + 1, labels, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-6,
                                  line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(logits(x, weights), truths)
        value = value + l2 / 2 * weights[:-1].square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach()


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """(n, d) and (d + 1, labels) -> (n, labels)."""
    return x @ weights[:-1] + weights[-1]


def probe_scores(features: Tensor, data: LabelledImages, train: Tensor, seed: int
                 ) -> tuple[Tensor, float]:
    """A probe that is fitted to the images `train`: -> its scores of all (n, labels), and its L2.

    features: (n, d). L2 is that with the lowest loss on a part of `train` that is held out; then
    all of it is fitted.
    """
    x = features.double()
    std, mean = torch.std_mean(x[train], 0)
    x = (x - mean) / std.clamp(min=1e-6)
    labels = len(data.labels)
    held = torch.zeros_like(train)
    held[train] = hold_out(data.truths[train], data.contents[train], seed)
    rest = train & ~held
    l2 = USUAL_L2
    if held.any():
        losses = []
        for strength in L2S:
            weights = fit_logistic(x[rest], data.truths[rest], labels, strength)
            losses.append(F.cross_entropy(logits(x[held], weights), data.truths[held]).item())
        l2 = L2S[losses.index(min(losses))]
    return logits(x, fit_logistic(x[train], data.truths[train], labels, l2)), l2


def probe(run: Run, folder: Path, out: Path | None = None, command: str = "",
          seed: int = 0) -> dict:
    """Fit a linear probe to a folder's images, test it on others, and write report.json: -> it.

    The features are the image encoder's [CLS], and that in the shared space if it was trained.
    folder: label folders, a fifth of whose images is held out as test, or train and test with such
    seed: of the split
    Raises ValueError for a label with too few images; see also `read_label_folders`.
    """
    clock = time.perf_counter()
    data = read_label_folders(run, folder, cls=True)
    test = data.in_test
    if test is None:
        test = hold_out(data.truths, data.contents, seed)
    train = ~test & ~torch.isin(data.contents, data.contents[test])
    check_training(data, train, test)
    features = {"cls": data.features}
    if "image_proj" not in (*run.absent, *run.untrained):
        with torch.no_grad():
            tokens = data.features[:, None].to(run.device)                       # (n, 1, d)
            features["shared_space"] = run.model.image_feature(tokens).cpu()
    truths = data.truths[test]
    samples = {}
    strengths = {}
    for name, x in features.items():
        scores, strengths[name] = probe_scores(x, data, train, seed)
        samples[name] = classified(scores[test], truths, data.contents[test])
    majority = data.truths[train].mode().values
    baseline = {"top_1": (truths == majority).float()}
    more = {"images": {"train": int(train.sum()), "test": int(test.sum())}, "l2": strengths,
            "chance": dict.fromkeys(features, chance_levels(data.labels))}
    parts = {"test": samples, "baselines": {"commonest_label": baseline}}
    seconds = time.perf_counter() - clock
    return write_results(run, "probe", data, parts, more, seconds, out, command)
