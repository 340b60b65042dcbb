"""What hard negatives from all processes cost. From the root, as root:

    bash tests/support/two_machines.sh notebooks/experiments/traffic.py

RATE=1gbit before it: over a cable of that bandwidth. `torchrun --nproc-per-node=2` for the script: on one machine.
Steps with negatives of the global batch and of the own process alone take turns, at the sizes of `minalbef bench step`.
Prints JSON: seconds a step by the clock and of the first process's processor, medians.
"""
import json
import os
import statistics
import time
from dataclasses import replace

import torch
from torch import nn

from minalbef import distributed, train
from minalbef.bench.step import make_batch
from minalbef.presets import preset
from minalbef.recipes.report import commit, describe_device, now
from minalbef.tasks.pretrain import Pretrain

ROUNDS = 24
SIZES = dict(image_size=128, image_width=192, image_depth=6, image_heads=3, text_width=192, text_depth=3,
             fusion_depth=3, text_heads=3, vocab_size=2000, batch=32, queue_size=1024, text_length=25,
             hard_from=0.0, match_from=0.0)


def main():
    torch.set_num_threads(1)
    device, config = distributed.start(), preset("paper-4m", **SIZES)
    task = Pretrain(config).to(device)
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    model = nn.parallel.DistributedDataParallel(task, find_unused_parameters=True)
    own = make_batch(replace(config, batch=config.batch // distributed.world()))
    own = replace(own, ids=own.ids + len(own.ids) * distributed.rank())
    spent = {"global": [], "local": []}
    for step in range(2 * ROUNDS):
        kind = ("global", "local")[step % 2]
        task.config = replace(config, hard_negatives=kind)
        start = time.perf_counter(), time.process_time()
        _, carry = train.backward(model, task, own, 0.4, task.draws(step), task.config, device)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        task.after_step(carry)
        if step > 3:
            spent[kind].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    if distributed.rank() == 0:
        found = {kind: dict(zip(("seconds", "cpu_seconds"), (round(statistics.median(x), 4) for x in zip(*times))))
                 for kind, times in spent.items()}
        one, rate = os.environ["LOCAL_WORLD_SIZE"] == str(distributed.world()), os.environ.get("RATE")
        launcher = f"RATE={rate} bash tests/support/two_machines.sh" if rate else "bash tests/support/two_machines.sh"
        launcher = "torchrun --nproc-per-node=2" if one else launcher
        print(json.dumps({"command": f"{launcher} notebooks/experiments/traffic.py",
                          **found, "date": now(), "commit": commit(), "device": describe_device()}, indent=1))
    distributed.stop()


if __name__ == "__main__":
    main()
