"""A linear probe: what a linear classifier reads from frozen features of images."""
import logging
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from minalbef.recipes.label_folders import (
    LabelledImages,
    chance_levels,
    classified,
    read_label_folders,
    write_results,
)
from minalbef.tasks.run import Run

LOG = logging.getLogger("minalbef")
HELD_OUT = 0.2                        # share of the images
# weights of the probe's L2, the strongest first; features are standardised
L2S = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
USUAL_L2 = 0.1                        # where no image can be held out to choose


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
            raise ValueError(f"--probe: label {label!r} has too few different images that can "
                             f"be read, {in_train} to train on and {in_test} to test on, and "
                             "needs at least 1 of each; add some, or take its folder away")


def fit_logistic(x: Tensor, truths: Tensor, labels: int, l2: float) -> Tensor:
    """Multinomial logistic regression by L-BFGS: -> (d + 1, labels), the last row the bias.

    x: (n, d), standardised
    l2: the weight of half the sum of squared weights, without the bias
    """
    weights = x.new_zeros(x.shape[1] + 1, labels, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, tolerance_grad=1e-7,
                                  tolerance_change=1e-12, line_search_fn="strong_wolfe")

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
    """A probe fitted to the images `train`: -> its scores of all (n, labels), and its L2.

    L2 is that of the highest accuracy on a part of `train` that is held out, of equal ones
    that of the lower loss; then all of `train` is fitted.
    features: (n, d)
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
        trials = []
        for strength in L2S:
            weights = fit_logistic(x[rest], data.truths[rest], labels, strength)
            scores = logits(x[held], weights)
            wrong = int((scores.argmax(1) != data.truths[held]).sum())
            loss = F.cross_entropy(scores, data.truths[held]).item()
            trials.append((wrong, loss, strength))
        l2 = min(trials)[2]
    return logits(x, fit_logistic(x[train], data.truths[train], labels, l2)), l2


def probe(run: Run, folder: Path, out: Path | None = None, command: str = "",
          seed: int = 0) -> dict:
    """Fit a linear probe to a folder's images, test it on others, write report.json: -> it.

    Features are the image encoder's [CLS], and that in the shared space if it was trained.
    folder: label folders, a fifth of whose images is held out as test; or train and test with
        such folders
    seed: of the split
    Raises ValueError for a label with too few images; see also `read_label_folders`.
    """
    clock = time.perf_counter()
    data = read_label_folders(run, folder, cls=True)
    test = data.in_test
    if test is None:
        test = hold_out(data.truths, data.contents, seed)
    copies = ~test & torch.isin(data.contents, data.contents[test])
    if copies.any():
        LOG.warning("%d images to train on are copies of images to test on, and left out",
                    int(copies.sum()))
    train = ~test & ~copies
    check_training(data, train, test)
    features = {"cls": data.features}
    if "image_proj" not in (*run.absent, *run.untrained):
        with torch.no_grad():
            tokens = data.features[:, None].to(run.device)               # (n, 1, d)
            features["shared_space"] = run.model.image_feature(tokens).cpu()
    truths = data.truths[test]
    samples = {}
    strengths = {}
    for name, x in features.items():
        scores, strengths[name] = probe_scores(x, data, train, seed)
        samples[name] = classified(scores[test], truths, data.contents[test])
    majority = data.truths[train].mode().values
    baseline = {"top_1": (truths == majority).float()}
    more = {"images": {"train": int(train.sum()), "test": int(test.sum())},
            "l2": strengths, "split_seed": seed,
            "chance": dict.fromkeys(features, chance_levels(data.labels))}
    parts = {"test": samples, "baselines": {"commonest_label": baseline}}
    seconds = time.perf_counter() - clock
    return write_results(run, "probe", data, parts, more, seconds, out, command)
