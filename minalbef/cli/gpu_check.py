"""`minalbef gpu-check` on the command line."""
from pathlib import Path

from minalbef.cli import next_steps
from minalbef.cli.train import Changes


def gpu_check(changes: Changes = (), /, minutes: float = 25.0, out: Path = Path("runs/gpu"),
              parts: tuple[str, ...] = (), price_per_hour: float = 0.0) -> None:
    """Check a new machine and its GPU before you train: a page with PASS or FAIL for each part.

    Repeat the command, and it goes on with the parts that haven't finished; to repeat a part,
    remove its folder in OUT. Exit status 1 if a part fails.

    Args:
        changes: options of the presets to change, to make them small
        minutes: for all parts; each has its share, and is killed when that is over
        out: the folder to write: gpu_check.html and gpu_check.json, and what the parts write
        parts: which, by default all: {gpu_check_parts}
        price_per_hour: of one GPU, in your currency
    """
    from minalbef.gpu_check import run
    from minalbef.gpu_check.parts import FAIL
    results = run.gpu_check(out, minutes, parts, changes, price_per_hour)
    print(f"\n{out}/gpu_check.html shows all figures")
    if any(result.verdict == FAIL for result in results.values()):
        raise SystemExit(1)
    next_steps.announce(next_steps.after_gpu_check(results), "then pretrain: docs/first_gpu.md")
