"""Two sweeps that need no training: `python notebooks/experiments/sweeps.py`, half a minute.

rerank: R@1 of 500 scenes, both ways, by how many of ITC's best ITM re-ranks (the paper's Table 6)
layer: pointing by Grad-CAM, by fusion's layer, of the match and of the guess of a masked word
Each on newly drawn scenes of the test split, with 95% intervals. Writes sweeps.json beside itself.
"""
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from emojiscenes.scenes import truth
from minalbef import Run, load
from minalbef.evaluation import ranking, words
from minalbef.evaluation.gradcam import match_score, relevance, word_score
from minalbef.evaluation.intervals import interval
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions
from minalbef.scenes.records import patches_inside, unique_nouns
from results import write_json

PATH = Path(__file__).with_suffix(".json")
TEST = dict(split="test", seed=1800)
TOPS = (1, 2, 4, 8, 16, 32, 64, 128)


def rerank(run: Run) -> dict[str, dict]:
    """R@1 with its interval, by number of candidates and direction."""
    pairs = questions.plain(run, **TEST, count=500)
    encoded = questions.encode(run, [pair.scene for pair in pairs], [pair.text for pair in pairs])
    scores = ranking.score(run.model, encoded, top=max(TOPS))
    true = torch.from_numpy(truth(pairs)).T
    figures = {}
    for top in TOPS:
        recalls = ranking.rank(scores, true, (1,), top)
        figures[str(top)] = {way: figure("r1", recalls[f"rerank_{way}_r1"])
                             for way in ("i2t", "t2i")}
    return figures


def layer(run: Run) -> dict[str, dict]:
    """Pointing with its interval, by score and layer of fusion."""
    pairs = questions.plain(run, **TEST, count=300)
    things = []
    spans = []
    for i, pair in enumerate(pairs):
        for thing, places in unique_nouns(pair):
            things.append(thing)
            spans.append((i, places))
    hidden = words.hide(run, [pair.text for pair in pairs], spans)
    image = questions.image_tokens(run, [pair.scene for pair in pairs])
    inside = torch.stack([patches_inside(thing, run.config.grid) for thing in things]).float()
    masked = hidden.tokens.masked_fill(hidden.hidden, run.tokenizer.mask)
    word = word_score(run.model, hidden.tokens, hidden.hidden)
    return {"itm": by_layer(run, hidden, image, inside, hidden.tokens, match_score(run.model)),
            "mlm": by_layer(run, hidden, image, inside, masked, word)}


def by_layer(run: Run, hidden: words.Hidden, image: Tensor, inside: Tensor, tokens: Tensor,
             score: Callable) -> dict[str, dict]:
    """Pointing of one score, by layer of fusion.

    hidden: the words that are pointed at, p of them. image: (i, 1 + n, d) tokens of the images
    inside: (p, n) patches within the object. tokens: (p, l) as the text encoder reads them
    """
    with torch.no_grad():
        text = run.model.encode_text(tokens, hidden.keep)
    layers: dict[str, int | slice] = {str(i): i for i in range(run.config.fusion_depth)}
    layers["all"] = slice(None)
    figures = {}
    for name, index in layers.items():
        maps = relevance(run.model, image[hidden.rows], text, hidden.keep, score, index)
        maps = (maps * hidden.hidden[:, :, None]).sum(1)                         # (p, n)
        top = (maps == maps.amax(1, keepdim=True)).float()
        right = (inside * top).sum(1) / top.sum(1)
        figures[name] = figure("pointing", right)
    return figures


def figure(name: str, right: Tensor) -> dict:
    """The mean of answers, by its name, and its interval."""
    return {name: round(right.mean().item(), 4), "interval": interval(right.flatten())}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = load("tiny")
    results = {
        "command": "python notebooks/experiments/sweeps.py",
        "date": now(),
        "device": describe_device(),
        "commit": commit(),
        "rerank": rerank(run),
        "layer": layer(run),
    }
    write_json(PATH, results)
    print(json.dumps(results, indent=1))
