"""Two sweeps of the shipped model that need no training: `python notebooks/experiments/sweeps.py`, half a minute.

rerank: R@1 of 500 scenes, both ways, by how many of ITC's best ITM re-ranks (the paper's Table 6)
layer: pointing by Grad-CAM, by fusion's layer, of what made the match and of what made the guess of a masked word
Each on newly drawn scenes of the test split, with 95% intervals. Writes sweeps.json beside itself.
"""
import json
from pathlib import Path

import torch

from emojiscenes.scenes import truth
from minalbef import checkpoint, load
from minalbef.evaluation import ranking, words
from minalbef.evaluation.intervals import interval
from minalbef.gradcam import match_score, relevance, word_score
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes import questions
from minalbef.scenes.records import patches_inside, unique_nouns

PATH = Path(__file__).with_suffix(".json")
TEST = dict(split="test", seed=1800)
TOPS = (1, 2, 4, 8, 16, 32, 64, 128)


def rerank(run) -> dict[str, dict]:
    drawn = questions.plain(run, **TEST, count=500)
    encoded = questions.encode(run, [one.scene for one in drawn], [one.text for one in drawn])
    sim, true = ranking.similarity(run.model, encoded), torch.from_numpy(truth(drawn)).T[None]
    odds, found = ranking.match_best(run.model, encoded, sim, max(TOPS)), {}
    for top in TOPS:
        both = [ranking.recall(ranking.rerank(sim, odds, top), true), ranking.recall(
            ranking.rerank(sim.mT, odds.mT, top), true.mT)]
        found[str(top)] = {way: {"r1": round(right.mean().item(), 4), "interval": interval(right.flatten())}
                           for way, right in zip(("i2t", "t2i"), both)}
    return found


def layer(run) -> dict[str, dict]:
    drawn = questions.plain(run, **TEST, count=300)
    things = [(i, thing, spot) for i, one in enumerate(drawn) for thing, spot in unique_nouns(one)]
    hidden = words.hide(run, [one.text for one in drawn], [(i, spot) for i, _, spot in things])
    image = questions.image_tokens(run, [one.scene for one in drawn])
    inside = torch.stack([patches_inside(thing, run.config.grid) for _, thing, _ in things]).float()
    found = {}
    for mode in ("itm", "mlm"):
        tokens = hidden.tokens.masked_fill(hidden.hidden, run.tokenizer.mask) if mode == "mlm" else hidden.tokens
        why = word_score(run.model, hidden.tokens, hidden.hidden) if mode == "mlm" else match_score(run.model)
        with torch.no_grad():
            text = run.model.encode_text(tokens, hidden.keep)
        for name, layers in {**{str(i): i for i in range(run.config.fusion_depth)}, "all": slice(None)}.items():
            maps = (relevance(run.model, image[hidden.rows], text, hidden.keep, why, layers)
                    * hidden.hidden[:, :, None]).sum(1)
            top = (maps == maps.amax(1, keepdim=True)).float()
            right = (inside * top).sum(1) / top.sum(1)
            found.setdefault(mode, {})[name] = {"pointing": round(right.mean().item(), 4),
                                                "interval": interval(right)}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = load("tiny")
    about = {"command": "python notebooks/experiments/sweeps.py", "date": now(), "device": describe_device(),
             "commit": commit(), "rerank": rerank(run), "layer": layer(run)}
    text = json.dumps(about, indent=1) + "\n"
    checkpoint.write_atomically(PATH, lambda path: path.write_text(text, encoding="utf-8"))
    print(text)
