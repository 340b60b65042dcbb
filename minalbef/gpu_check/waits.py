"""Part 3: does a training step ever wait for the GPU? The host should run ahead of it."""
import traceback

import torch

from minalbef.gpu_check.parts import Result, Setting, pass_or_fail
from minalbef.gpu_check.small_steps import SmallRecipe, make_recipe, recipe_names

FIRST, LAST = 3, 5                    # steps that must not wait; those before may
MICRO_BATCHES = (1, 2)


def check(setting: Setting) -> Result:
    """Train each recipe in small, where every wait is an error; PASS if there is none."""
    rows = []
    for name in recipe_names():
        for count in MICRO_BATCHES:
            print(f"{name}, {count} micro-batches", flush=True)
            changes = {**setting.changes, "precision": "bf16", "accumulate": count}
            wait = find_wait(make_recipe(name, changes, setting.device), setting.device)
            rows.append({"recipe": name, "micro_batches": count, "waits_in": wait,
                         "verdict": pass_or_fail(not wait)})
    failures = [row for row in rows if row["waits_in"]]
    figure = f"{len(rows) - len(failures)} of {len(rows)} never wait in steps {FIRST} to {LAST}"
    if failures:
        figure += f"; {failures[0]['recipe']} waits in {failures[0]['waits_in']}"
    return Result(pass_or_fail(not failures), figure, {"recipes": rows})


def find_wait(recipe: SmallRecipe, device: torch.device) -> str:
    """Where a step waits for the GPU, or fails; "" if none does."""
    batches = [recipe.batch(step).pin_memory() for step in range(LAST + 1)]
    for step in range(FIRST):
        recipe.train(step, device, batches[step])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(FIRST, LAST + 1):
            recipe.train(step, device, batches[step])
    except RuntimeError as error:
        return place_of(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def place_of(error: RuntimeError) -> str:
    """The innermost line of ours in an error's traceback, and its message."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "minalbef" in frame.filename:
            place = f"{frame.filename.rpartition('minalbef')[2].lstrip('/')}:{frame.lineno}"
    return f"{place}: {(str(error).splitlines() or [''])[0]}"
