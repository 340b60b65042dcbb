"""ALBEF's successors, at equal CPU seconds: `python notebooks/experiments/after/after.py all`.

Trains recipes of RECIPES with seeds, each for as many steps as take the same CPU seconds, asks each
the questions of measure.py, and writes after.json beside this file after each run. The same command
goes on where it was stopped; a run that was stopped begins again. Each run's record has the command
that makes it again, with its number of steps; capfilt's needs the weights of noisy's, with the same
seed. Claims were registered in ../registered_after.md.
"""
import gc
import json
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

import capfilt  # noqa: E402
import false_captions  # noqa: E402
import filip  # noqa: E402
import siglip  # noqa: E402
from after_tables import claims_table, runs_table  # noqa: E402
from blip import BLIPPretrain  # noqa: E402
from boxes import BoxBatches  # noqa: E402
from coca import CoCaPretrain  # noqa: E402
from filip import FILIPPretrain  # noqa: E402
from in_batch import InBatch  # noqa: E402
from llava import LLaVAPretrain  # noqa: E402
from measure import measure  # noqa: E402
from minalbef import load, train  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.config import Config  # noqa: E402
from minalbef.data import data_folder  # noqa: E402
from minalbef.presets import preset  # noqa: E402
from minalbef.recipes import pretrain  # noqa: E402
from minalbef.recipes.report import commit, describe_device, now  # noqa: E402
from minalbef.scenes.batches import SceneBatches  # noqa: E402
from minalbef.scenes.pretrain import FastScenePretrain  # noqa: E402
from minalbef.system.limits import nearest
from minalbef.system.tokenizer import Tokenizer  # noqa: E402
from minalbef.tasks.run import Run  # noqa: E402
from results import write_json  # noqa: E402
from siglip import SigLIPPretrain  # noqa: E402
from xvlm import XVLMPretrain  # noqa: E402

PATH = Path(__file__).with_suffix(".json")
FOLDER = Path("runs/after")
CLAIMS = Path(__file__).parents[1] / "registered_after.md"
# steps that are timed, eight buckets of batches, behind one bucket that isn't
WARM, TIMED = 8, 64
LAST = 50                             # steps whose losses are noted
SCRIPT = "notebooks/experiments/after/after.py"
ALIGNED = ("itc", "itm", "mlm")


@dataclass(frozen=True)
class Recipe:
    """A successor, or the base.

    about: what it is. make: its task, as minalbef.pretrain takes it. ways: see measure.py
    changes: of the preset's options. batches: from config and tokenizer
    start: whose image encoder it begins from. similarity: in place of ranking.similarity
    pairs: the set that it learns, from a config and the run's folder, with figures about it; None:
        every scene is new
    """

    about: str
    make: Callable[..., Any]
    ways: tuple[str, ...] = ALIGNED
    changes: dict = field(default_factory=dict)
    batches: Callable[[Config, Tokenizer], Callable[[int], Any]] = SceneBatches
    start: str = "tiny/start"
    similarity: Callable[..., Any] | None = None
    pairs: Callable[[Config, Path], tuple[list, dict]] | None = None


def noisy_pairs(config: Config, folder: Path) -> tuple[list, dict]:
    """The set with its false captions."""
    return false_captions.noisy_set(config), {}


def true_pairs(config: Config, folder: Path) -> tuple[list, dict]:
    """The set without its false captions, as only a made world knows them."""
    return [pair for pair in false_captions.noisy_set(config) if not pair.noise], {}


def clean_pairs(config: Config, folder: Path) -> tuple[list, dict]:
    """What CapFilt leaves of the set, by the model that `noisy` has trained with this seed.

    Raises ValueError where there is none.
    """
    path = weights_path(folder, "noisy", config.seed)
    if not path.exists():
        raise ValueError(f"{path} isn't there; `python {SCRIPT} noisy --seed {config.seed}` makes "
                         "it, and must run before capfilt")
    task, tokenizer, config = begin(RECIPES["noisy"], config)
    task.student.load_state_dict(torch.load(path))
    run = Run(task.student.eval(), tokenizer, config, folder)
    return capfilt.clean(run, false_captions.noisy_set(config), config.seed)


BLIP_WAYS = ("itc", "itm", "likelihood")
RECIPES = {
    "base": Recipe("ALBEF: tiny-paper's recipe", FastScenePretrain),
    "in-batch": Recipe("ALBEF without teacher and queue", InBatch),
    "siglip": Recipe("SigLIP's loss", SigLIPPretrain, changes=siglip.CHANGES),
    "filip": Recipe("FILIP's late interaction", FILIPPretrain, similarity=filip.late_similarity),
    "xvlm": Recipe("X-VLM's boxes", XVLMPretrain, (*ALIGNED, "boxes"), batches=BoxBatches),
    "blip": Recipe("BLIP's captioning", BLIPPretrain, BLIP_WAYS),
    "coca": Recipe("CoCa's one pass", CoCaPretrain, ("itc", "likelihood")),
    "llava": Recipe("LLaVA's way, from the start", LLaVAPretrain, ("likelihood",)),
    "llava-trained": Recipe("LLaVA's way, from tiny-paper's images", LLaVAPretrain, ("likelihood",),
                            start="tiny-paper"),
    "noisy": Recipe("BLIP on false captions, too", BLIPPretrain, BLIP_WAYS, pairs=noisy_pairs),
    "capfilt": Recipe("the same, cleaned by CapFilt", BLIPPretrain, BLIP_WAYS, pairs=clean_pairs),
    "oracle": Recipe("the same, cleaned by the truth", BLIPPretrain, BLIP_WAYS, pairs=true_pairs),
}


def begin(recipe: Recipe, config: Config) -> tuple[Any, Tokenizer, Config]:
    """A recipe's task before training, with the image encoder that it starts from.

    -> with its tokenizer, and the settings with the tokenizer's size
    """
    task, tokenizer, config = pretrain.begin(config, make=recipe.make)
    start = load(data_folder() / recipe.start).model.image_encoder
    task.student.image_encoder.load_state_dict(start.state_dict())
    if hasattr(task, "make_teacher"):
        task.teacher = task.make_teacher(task.student)
    return task, tokenizer, config


def config_of(recipe: Recipe, seed: int, steps: int, changes: dict) -> Config:
    """The recipe's settings for so many steps: tiny's with the paper's objectives alone.

    changes: of more options, for tests
    """
    batch = changes.get("batch", preset("tiny").batch)
    settings = {"siblings": 0.0, "warm_steps": 0, "device": "cpu", **recipe.changes, **changes}
    return preset("tiny", seed=seed, epoch=steps * batch, **settings)


def make_batches(recipe: Recipe, config: Config, tokenizer: Tokenizer, pairs: Sequence[Any]
                 ) -> Callable[[int], Any]:
    """The recipe's batches, of its set if it has one."""
    if recipe.pairs:
        return false_captions.SetBatches(config, tokenizer, pairs)
    return recipe.batches(config, tokenizer)


def train_steps(task: Any, batches: Callable[[int], Any], config: Config, steps: range
                ) -> list[dict[str, float]]:
    """Train the steps, in place: -> the losses of each."""
    optimiser = train.choose_optimiser(task, config)
    task.train()
    rows = []
    for step in steps:
        losses, _ = train.train_step(task, task, optimiser, batches(step), step, config,
                                     torch.device("cpu"))
        rows.append({name: loss.item() for name, loss in losses.items()})
    return rows


def seconds_per_step(recipe: Recipe, config: Config, pairs: Sequence[Any]) -> float:
    """CPU seconds of a step of another model of the recipe, painting included."""
    task, tokenizer, config = begin(recipe, config)
    batches = make_batches(recipe, config, tokenizer, pairs)
    middle = config.steps // 2 // WARM * WARM
    train_steps(task, batches, config, range(middle, middle + WARM))
    start = time.process_time()
    train_steps(task, batches, config, range(middle + WARM, middle + WARM + TIMED))
    return (time.process_time() - start) / TIMED


def weights_path(folder: Path, name: str, seed: int) -> Path:
    """Where a run's weights are."""
    return folder / f"{name}-{seed}.pt"


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Values by name, to four digits."""
    return {name: round(value, 4) for name, value in values.items()}


def origin() -> dict[str, str]:
    """When, on what and from which commit results are."""
    return {"date": now(), "device": describe_device(), "commit": commit()}


def last_losses(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each loss over the last steps."""
    last = rows[-LAST:]
    return {name: statistics.mean(row[name] for row in last if name in row) for name in rows[-1]}


def train_run(name: str, seed: int, cpu: float, steps: int | None, folder: Path,
              share: float = 1.0, changes: dict | None = None) -> dict:
    """Train and measure a run: -> its record. Its weights are written to the folder.

    steps: how many; None: as many as take `cpu` seconds. share: of the questions
    A run whose losses aren't finite at its end has no figures. A set of which less than a batch is
    left isn't trained on: there is a record of how that came about alone.
    """
    recipe = RECIPES[name]
    configure = partial(config_of, recipe, seed, changes=changes or {})
    clock = time.process_time()
    pairs, figures = recipe.pairs(configure(1), folder) if recipe.pairs else ([], {})
    record: dict[str, Any] = {"recipe": name, "seed": seed, "pairs": len(pairs),
                              "cpu_before": round(time.process_time() - clock, 1)}
    if recipe.pairs and len(pairs) < configure(1).batch:
        nothing = {"steps": 0, "cpu": 0.0, "losses": {}}
        return record | nothing | {"figures": rounded(figures)} | origin()
    if steps is None:
        each = seconds_per_step(recipe, configure(1_000), pairs)
        steps = max(1, round(cpu / each))
        record["seconds_per_step"] = round(each, 4)
    record |= {"steps": steps, "command": f"python {SCRIPT} {name} --seed {seed} --steps {steps} "
                                          f"--out {FOLDER}/again.json"}

    task, tokenizer, config = begin(recipe, configure(steps))
    batches = make_batches(recipe, config, tokenizer, pairs)
    gc.collect()
    clock = time.process_time()
    losses = last_losses(train_steps(task, batches, config, range(steps)))
    record["cpu"] = round(time.process_time() - clock, 1)

    if all(map(math.isfinite, losses.values())):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(task.student.state_dict(), weights_path(folder, name, seed))
        run = Run(task.student.eval(), tokenizer, config, folder)
        figures |= measure(run, seed, recipe.ways, recipe.similarity, share)
    else:
        figures = {}
    record["parameters"] = sum(p.numel() for p in task.student.parameters())
    return record | {"losses": rounded(losses), "figures": rounded(figures)} | origin()


def read_runs(path: Path) -> list[dict]:
    """The runs of a file of results; none if there isn't one."""
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []


def add_run(path: Path, run: dict) -> None:
    """Add a run to a file of results, which another shell may have changed meanwhile."""
    names = list(RECIPES)
    runs = sorted([*read_runs(path), run],
                  key=lambda each: (each["seed"], names.index(each["recipe"])))
    write_json(path, {"command": shlex.join(["python", *sys.argv])} | origin() | {"runs": runs})


def names_of(names: Sequence[str]) -> list[str]:
    """Recipes by name; "all": each. Raises ValueError for another name."""
    for name in names:
        if name not in (*RECIPES, "all"):
            raise ValueError(f"no recipe {name!r}{nearest(name, RECIPES)}; there are all, "
                             f"{', '.join(RECIPES)}")
    return [name for name in RECIPES if name in names or "all" in names]


def main(names: Annotated[tuple[str, ...], tyro.conf.Positional] = (), /, seeds: int = 5,
         seed: tuple[int, ...] = (), cpu: float = 300.0, steps: int | None = None,
         run: Path = FOLDER, out: Path = PATH) -> None:
    """Train recipes with seeds at equal CPU seconds, and measure them; what is done isn't repeated.

    Args:
        names: of recipes, or all; none only prints the tables
        seeds: how many, from 0
        seed: these in place of --seeds
        cpu: CPU seconds of a run, its questions aside
        steps: so many in place of --cpu, as a run's record says, to make it again
        run: the folder for weights
        out: the file of results
    """
    torch.set_num_threads(1)
    recipes = names_of(names)
    for number in seed or range(seeds):
        for name in recipes:
            trained = {(each["recipe"], each["seed"]) for each in read_runs(out)}
            if (name, number) in trained:
                print(f"{name}, seed {number}: is in {out}", flush=True)
                continue
            record = train_run(name, number, cpu, steps, run)
            add_run(out, record)
            print(f"{name}, seed {number}: {record['steps']} steps, {record['cpu']} CPU s, "
                  f"{record['figures']}", flush=True)
    runs = read_runs(out)
    if runs:
        about = {name: recipe.about for name, recipe in RECIPES.items()}
        print(f"{runs_table(runs, about)}\n\n{claims_table(runs, CLAIMS)}")


if __name__ == "__main__":
    run_script(main)
