"""Part 10: what `base` and `paper-4m` take on this machine, from the speed that was measured."""
from minalbef.gpu_check.parts import PASS, SKIPPED, Result, Setting, read_result
from minalbef.presets import preset
from minalbef.recipes.cost import step_flops
from minalbef.recipes.plan import duration, plan

GPUS = {"base": 1, "paper-4m": 8}     # that docs/scale.md trains them on


def check(setting: Setting) -> Result:
    """Hours and price from part `speed`; without it SKIPPED, with what `minalbef plan` assumes."""
    speed = read_result(setting.folder.parent / "speed")
    best = speed.details.get("best") if speed else None
    if best is None:
        assumed = [f"{name} {duration(3600 * plan(name, gpus=gpus).hours)} on {gpus} H100"
                   for name, gpus in GPUS.items()]
        return Result(SKIPPED, f"the part `speed` has no figure here; by plan: "
                               f"{', '.join(assumed)}", finished=False)
    rows = []
    for name, gpus in GPUS.items():
        config = preset(name, **setting.changes)
        flops = config.steps * step_flops(config, config.batch, 1, config.checkpointing)
        hours = flops / (1e12 * best["tflops"]) / 3600
        row = {"preset": name, "gpu_hours": hours, "gpus": gpus, "hours": hours / gpus}
        if setting.price:
            row["price"] = hours * setting.price
        rows.append(row)
    figures = []
    for row in rows:
        text = f"{row['preset']} {duration(3600 * row['hours'])} on {row['gpus']} of these"
        if setting.price:
            text += f" for {row['price']:.0f}"
        figures.append(text)
    figure = (f"{', '.join(figures)}, at {best['tflops']:.3g} TFLOP/s; without validation, and "
              "what 8 GPUs send each other")
    return Result(PASS, figure, {"presets": rows})
