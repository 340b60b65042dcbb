"""By what a run ranks: ITC, ITM or both, as its validation split says is best."""
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from minalbef.evaluation.loop import How, Records, encode_images, values_of
from minalbef.evaluation.ranking import Encoded, Scores, encode_texts, rank, score, true_pairs
from minalbef.system import checkpoint
from minalbef.system.writing import MALFORMED, check_fields, read_json, restate, write_atomically
from minalbef.tasks.retrieval import candidates, recall_means
from minalbef.tasks.run import Run

LOG = logging.getLogger("minalbef")
FILE = "ranking.json"                 # in the run's folder
FIRST = 32                            # the best by similarity, which fusion, far slower, re-ranks
WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)    # of similarity over temperature, beside ITM


@dataclass(frozen=True)
class Ranking:
    """What orders the FIRST by similarity.

    weight: of similarity over temperature, added to ITM's log-odds; inf: similarity alone
    r_mean: of the validation split, by way: itc, itm, both
    weights: the hash of the weights that were asked
    """

    weight: float
    r_mean: dict[str, float]
    queries: int
    weights: str

    def __str__(self) -> str:
        figures = ", ".join(f"{way} {value:.3f}" for way, value in self.r_mean.items())
        by = "ITC alone" if math.isinf(self.weight) else f"ITM + {self.weight:g} x ITC"
        line = f"search ranks by {by}: mean recall on {self.queries} validation pairs: {figures}"
        if not self.r_mean["itm"]:
            line += ". ITM wasn't trained"
        elif self.r_mean["itm"] < self.r_mean["itc"]:
            line += ". ITM alone ranks worse than ITC here"
        return line


@torch.no_grad()
def choose(run: Run, records: Records, quiet: bool = False) -> Ranking:
    """The best way on these records; of equal ones the first of ITC, both and ITM."""
    texts, ids, matches, keys = values_of(records, "text", "id", "match", "match_key")
    images, captions = candidates(ids, texts, matches)
    how = How(device=run.device, quiet=quiet)
    tokens, keep = run.tokenizer.encode([texts[i] for i in captions], run.config.text_length)
    encoded = Encoded(encode_images(run.model, records, images, how),
                      *encode_texts(run.model, tokens, keep))
    true = true_pairs(torch.tensor([keys[i] for i in images], device=run.device),
                      torch.tensor([keys[i] for i in captions], device=run.device))
    has_itm = not {"fusion", "match_head"} & {*run.untrained, *run.absent}
    scores = score(run.model, encoded, itm=has_itm, top=FIRST, quiet=quiet)
    scores = scores.over(run.model.mean_temperature)
    itc = means(Scores(scores.itc), true)["itc"]
    r_mean = {"itc": itc, "both": itc, "itm": 0.0}
    weight = math.inf
    for candidate in WEIGHTS if has_itm else ():
        value = means(scores, true, candidate)["rerank_plus"]
        if candidate == 0:
            r_mean["itm"] = value
        if value > r_mean["both"]:
            r_mean["both"] = value
            weight = candidate
    return Ranking(weight, r_mean, len(texts), checkpoint.digest_of(run.model.state_dict()))


def means(scores: Scores, true: torch.Tensor, weight: float = 1.0) -> dict[str, float]:
    """The mean of R@1, 5 and 10, both ways, by itc, rerank and rerank_plus."""
    samples: Any = rank(scores, true, top=FIRST, weight=weight)
    return recall_means(samples)


def write(folder: Path, ranking: Ranking) -> None:
    """Keep it in the run's folder, and log it."""
    values = asdict(ranking)
    if math.isinf(ranking.weight):
        values["weight"] = None                  # JSON has no infinity
    text = json.dumps(values, indent=1) + "\n"
    write_atomically(folder / FILE, lambda path: path.write_text(text, encoding="utf-8"))
    LOG.info("%s", ranking)


def read(folder: Path) -> Ranking | None:
    """The ranking of a run; None where none was chosen. Raises ValueError for a damaged file."""
    path = folder / FILE
    if not path.is_file():
        return None
    again = "remove it, and ITM and ITC are added with the usual weight"
    fields = {"r_mean": dict, "queries": int, "weights": str}
    values = read_json(path, again, lambda value: check_fields(value, fields))
    with restate(f"{path} is damaged", again, *MALFORMED):
        weight = math.inf if values["weight"] is None else float(values["weight"])
        r_mean = {way: float(values["r_mean"][way]) for way in ("itc", "both", "itm")}
    return Ranking(weight, r_mean, values["queries"], values["weights"])
