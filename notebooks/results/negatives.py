"""By what the sampler picks its negatives at four steps of the run of `tiny`: `python notebooks/results/negatives.py`.

Trains as `minalbef pretrain` does with seed 0, in one process, from the start that is shipped, and stops at the last of
those steps. Writes negatives.json beside itself: of one batch of test scenes, the similarities over temperature, both
ways.
"""
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from minalbef import checkpoint, load, train
from minalbef.data import data_folder, transform
from minalbef.ema import make_teacher
from minalbef.presets import preset
from minalbef.recipes import pretrain
from minalbef.recipes.report import commit, describe_device, now
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.scenes import Scenes, paint, truth
from minalbef.tasks.pretrain import Pretrain, PretrainBatch

PATH = Path(__file__).with_suffix(".json")
STEPS = 0, 500, 2000                  # of 2,875; ITM begins at 230, hard negatives at 432
SCENES = dict(split="test", seed=6, size=48, objects=50, siblings=0.7)


class Seen(Exception):
    """There is nothing more to look at."""


def test_batch(config, tokenizer) -> PretrainBatch:
    """The first scenes of SCENES, as a batch of the run."""
    source = Scenes(**SCENES)
    drawn = [source.draw(i) for i in range(config.batch)]
    return PretrainBatch(torch.stack([transform(paint(one.scene, source.size), source.size) for one in drawn]),
                         *tokenizer.encode([one.text for one in drawn], config.text_length),
                         torch.tensor([one.id for one in drawn]), torch.from_numpy(truth(drawn)))


@torch.no_grad()
def similarities(task: Pretrain, batch: PretrainBatch) -> tuple[list[Tensor], Tensor]:
    """What `Pretrain.forward` gives the sampler: in-batch similarities of (images, texts) as queries; and ITC."""
    ours, theirs = ((model.image_feature(model.encode_image(batch.image)),
                     model.text_feature(model.encode_text(batch.tokens, batch.keep)))
                     for model in (task.student, task.teacher))
    sims, _, loss = task.align(*ours, theirs, (*theirs, batch.ids), batch, 0.0, queued=False)
    return sims, loss


def main():
    torch.set_num_threads(1)
    code, config = commit(), preset("tiny", save_every=10 ** 6)
    torch.manual_seed(config.seed)
    tokenizer, rates = pretrain.read_captions(config)
    config = replace(config, vocab_size=len(tokenizer))
    task = Pretrain(config, rates=rates)
    task.student.load_state_dict(load(data_folder() / "tiny" / "start").model.state_dict())
    task.teacher = make_teacher(task.student)
    batches, batch, looks = SceneBatches(config, tokenizer), test_batch(config, tokenizer), []

    def watched(step: int) -> PretrainBatch:
        """The run's batch; before it, at STEPS, a look at the model as it is then."""
        if step in STEPS:
            (image, text), loss = similarities(task, batch)
            rounded = {name: [[round(x, 2) for x in row] for row in sim.tolist()]
                       for name, sim in (("image_to_text", image), ("text_to_image", text))}
            looks.append({"step": step, "temperature": round(task.student.temperature.item(), 4),
                          "itc": round(loss.item(), 4), **rounded})
            about = {"command": "python notebooks/results/negatives.py", "date": now(),
                     "device": describe_device(), "commit": code, "torch": torch.__version__,
                     "cpu_seconds": round(time.process_time()), "scenes": SCENES, "looks": looks}
            text = json.dumps(about, separators=(",", ":")) + "\n"
            checkpoint.write_atomically(PATH, lambda path: path.write_text(text))
            print(f"step {step}: ITC {loss:.2f} on the test batch, CPU {time.process_time():.0f} s", flush=True)
        if step == STEPS[-1]:
            raise Seen
        return batches(step)

    with tempfile.TemporaryDirectory() as folder:
        try:
            train.fit(task, watched, config, Path(folder), quiet=True)
        except Seen:
            pass


if __name__ == "__main__":
    main()
