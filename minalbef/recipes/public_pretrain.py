"""Pretraining on prepared sets, as records or shards: from DeiT and BERT or from scratch, on one rank or many."""
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from minalbef import checkpoint, distributed, train
from minalbef.config import Config, read_changes
from minalbef.datasets.loader import RecordBatches, count_unreadable, order
from minalbef.ema import make_teacher
from minalbef.masking import mask_rates
from minalbef.presets import preset
from minalbef.recipes.forecast import forecast
from minalbef.recipes.pipeline import CAPTIONS
from minalbef.recipes.public_tasks import open_records, record_training
from minalbef.tasks.pretrain import Pretrain
from minalbef.tasks.retrieval import collate
from minalbef.tokenizer import Tokenizer
from minalbef.weights import pretrained


def begin(data: Sequence[str | Path], name: str, changes: Sequence[str] = (), vocab: Path | None = None,
          vit: str | None = None, bert: str | None = None) -> tuple[Pretrain, Tokenizer, Config]:
    """The task, its tokenizer and its settings, where an epoch is all records unless you change it.

    data, vocab, vit, bert: see `pretrain`. name: of the preset. Raises ValueError for what does not fit together.
    """
    records = open_records("retrieval", data, "train")           # pictures and captions, as retrieval's are
    config = preset(name, **{"epoch": len(records), **read_changes(tuple(changes))})
    texts = [records[int(i)].text for i in order(len(records), config.seed, 0)[:CAPTIONS]]
    tokenizer = Tokenizer.from_vocab(vocab) if vocab else Tokenizer.train(texts, config.vocab_size)
    config = replace(config, vocab_size=len(tokenizer), objects=0)                # it sees no scenes
    tokens, keep = tokenizer.encode(texts, config.text_length)
    rates = mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)
    torch.manual_seed(config.seed)
    task = Pretrain(config, tokenizer.special, tokenizer.mask, rates)
    if vit:
        pretrained.load_vit(task.student.image_encoder, vit)
    if bert:
        pretrained.load_bert(task.student, bert)
    task.teacher = make_teacher(task.student)
    return task, tokenizer, config


def pretrain(data: Sequence[str | Path], run: Path, name: str = "paper-4m", changes: Sequence[str] = (),
             vocab: Path | None = None, vit: str | None = None, bert: str | None = None, workers: int = 0,
             most_bad: float = 0.01, quiet: bool = False) -> None:
    """Pretrain on prepared sets, into a run folder; called again, it resumes from the last checkpoint.

    data: folders of `minalbef prepare`, or splits of them; of a folder, "train" is taken
    vocab: BERT's vocab.txt, which `bert` needs; without it, a tokenizer is trained on the captions
    vit, bert: initial weights, files or names, see weights.pretrained. workers, most_bad: see loader.RecordBatches
    Raises ValueError for what does not fit together, and when too many images cannot be read.
    """
    distributed.start(preset(name, **read_changes(tuple(changes))).device)
    task, tokenizer, config = begin(data, name, changes, vocab, vit, bert)
    batches = RecordBatches(open_records("retrieval", data, "train"), collate, config, tokenizer, workers=workers,
                            most_bad=most_bad, folder=run)
    if distributed.rank() == 0:
        print(forecast(config, "pretraining"), flush=True)
    train.fit(task, batches, config, run, quiet=quiet, title="ALBEF")
    if distributed.rank() == 0:
        checkpoint.save(run, task.student, tokenizer, task.teacher)
        record_training(run, "pretrained", data, {"pretrained": {}, "tuned": {}})
        if bad := count_unreadable(run):
            print(f"could not be read, and gave way to others: {bad} of the pictures, named in {run}/unreadable*.txt")
    distributed.stop()
