"""The whole job on the embedded scenes: tokenizer, warm start, pretraining, each picked up where it stopped."""
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

import torch
import torch.distributed as dist
from torch import Tensor

from minalbef import checkpoint, distributed, exam, report, train, writing
from minalbef.config import Config
from minalbef.ema import make_teacher
from minalbef.loading import Ahead
from minalbef.masking import mask_rates
from minalbef.painting import all_names
from minalbef.scenes import Scenes
from minalbef.tasks.pretrain import Pretrain, SceneBatches
from minalbef.tasks.warm_start import LabelBatches, WarmStart
from minalbef.tokenizer import Tokenizer

CAPTIONS = 10_000                     # enough for every word of the grammar to be seen
PAINTERS = 4                          # cores that paint what a GPU learns from meanwhile, unless you say another number
POLL, GRACE = 0.05, 30                # seconds: between two looks at the training processes, and for them to end in peace
MENDABLE, STOPPED = 2, 130            # exit statuses: of an error that was said in a line, and of a run that was stopped
LEAST = 3                             # kinds of objects: as many as one scene shows


def for_scenes(config: Config) -> Config:
    """The same config. Raises ValueError where there are no kinds of objects for scenes or the warm start."""
    if not config.objects:
        raise ValueError(f"preset {config.name} with objects=0 trains on photographs: name a prepared set with --data; "
                         "for the embedded scenes it takes kinds of objects, as the presets tiny and small have them")
    left = len(all_names()) - config.objects
    if config.warm_steps and config.warm_objects == "other" and left < LEAST:
        raise ValueError(f"objects={config.objects} leaves {left} kinds for the warm start to see; take at most "
                         f"objects={len(all_names()) - LEAST}, or warm_objects=same")
    return config


def read_captions(config: Config) -> tuple[Tokenizer, Tensor]:
    """The word pieces of the captions that a run will read, and how often to mask each, (v,)."""
    scenes = Scenes("train", seed=config.seed, objects=config.objects, epoch=config.epoch)
    texts = [scenes.draw(i).text for i in range(CAPTIONS)]
    tokenizer = Tokenizer.train(texts, config.vocab_size)
    tokens, keep = tokenizer.encode(texts, config.text_length)
    return tokenizer, mask_rates(tokens, keep, len(tokenizer), config.mask_rate, config.mask_power)


def pretrain(config: Config, folder: Path, quiet: bool = False, workers: int = 0) -> None:
    """Warm start, then ALBEF, into a run folder; called again, it goes on from where it stopped. workers: paint ahead.

    Raises ValueError for a config that is not of the embedded scenes.
    """
    for_scenes(config)
    workers = workers or PAINTERS * (distributed.start(config.device).type == "cuda")
    with writing.lock(folder, config):
        torch.manual_seed(config.seed)
        tokenizer, rates = read_captions(config)
        config = replace(config, vocab_size=len(tokenizer))
        task, start = Pretrain(config, rates=rates), folder / "start"
        if (start / "model.safetensors").exists():
            if other := writing.other_settings(checkpoint.read_run(start)[0].to_dict(), config):
                raise ValueError(f"{start} was made with other settings ({other}); go on with the same ones, remove {start} to "
                                 "make it again, or choose another folder with --run")
        elif config.warm_steps:
            warm_up(task, config, folder / "warm", quiet, workers)
            if distributed.rank() == 0:
                checkpoint.save(start, task.student, tokenizer)
        if distributed.world() > 1:
            dist.barrier()
        if config.warm_steps:
            task.student.load_state_dict(checkpoint.load(start).model.state_dict())
            task.teacher = make_teacher(task.student)
        train.fit(task, Ahead(SceneBatches(config, tokenizer), config, workers), config, folder, quiet=quiet, title="ALBEF")
        if distributed.rank() == 0:
            checkpoint.save(folder, task.student, tokenizer, task.teacher)
    distributed.stop()


def warm_up(task: Pretrain, config: Config, folder: Path, quiet: bool = False, workers: int = 0) -> WarmStart:
    """The supervised start, handed to the task's image encoder. In place; -> the trained warm start."""
    recipe = replace(config, lr=config.warm_lr, weight_decay=config.warm_weight_decay, batch=config.warm_batch,
                     epoch=config.warm_steps * config.warm_batch, epochs=1.0, alpha=0.0, stem_lr=1.0, betas=(0.9, 0.999),
                     warmup_steps=20, accumulate=1)
    batches = LabelBatches(recipe)
    warm = WarmStart(recipe, len(batches.classes))
    train.fit(warm, Ahead(batches, recipe, workers), recipe, folder, quiet=quiet, title="warm start")
    warm.start(task.student.image_encoder)
    return warm


def launch(arguments: list[str], processes: int) -> int:
    """Run a command of minalbef's that trains, in several processes of a thread each: -> its exit status.

    Ctrl-C, SIGTERM and the failure of one process stop all of them after the step that they are in, or after GRACE seconds.
    They also stop when this process is killed: see distributed.follow_launcher.
    Small matrices gain little from a second thread; on a CPU of two cores two processes are faster.
    """
    # spinning threads slow a shared machine; and glibc returns and takes big blocks anew every step unless told not to
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296",
                   "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456",
                   "TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ, distributed.LAUNCHED: "yes"}
    if processes > 1:                            # as torchrun does: the store is here, so that no two runs take one port
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(processes),
                        "TORCHELASTIC_USE_AGENT_STORE": "True"}
    with ExitStack() as stack:
        stopped, workers = stack.enter_context(train.Signals()), []
        said = [None, *(stack.enter_context(TemporaryFile()) for _ in range(processes - 1))]     # rank 0 speaks for all
        try:
            for rank, stderr in enumerate(said):                 # in sessions of their own: Ctrl-C is for this process to pass on
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
                workers.append(subprocess.Popen([sys.executable, "-m", "minalbef", *arguments], env=environment | own,
                                                stdin=subprocess.PIPE, stderr=stderr, start_new_session=True))
            patience = GRACE
            while patience > 0 and any(worker.poll() is None for worker in workers):
                if stopped or any(worker.returncode for worker in workers):
                    patience -= POLL
                    for worker in workers:
                        worker.stdin.close()
                time.sleep(POLL)
        finally:
            for worker in workers:
                worker.kill()                    # of those that have ended nothing happens
                worker.wait()
                worker.stdin.close()
        codes = [worker.returncode for worker in workers]
        if stopped:
            if codes[0] != STOPPED:              # in training it would have said so itself
                print("minalbef: stopped; the same command goes on", file=sys.stderr)
            return STOPPED
        if any(codes) and codes[0] not in (MENDABLE, STOPPED):       # else rank 0 has said why
            for file in said[1:]:
                file.seek(0)
                print(file.read().decode(errors="replace"), end="", file=sys.stderr)
            for rank, code in enumerate(codes):
                if code == -signal.SIGKILL:
                    print(f"minalbef: training process {rank} was killed, for want of memory perhaps; the same command goes on "
                          "from the last checkpoint", file=sys.stderr)
        code = max((code for code in codes if code), default=0)
        return code if code >= 0 else 128 - code


def examine_run(folder: Path, size: float, seed: int, command: str, among: int | None = None, split: str = "test",
                out: Path | None = None) -> dict:
    """Examine a finished run and its start, on a GPU if there is one; write report.json. -> the report

    size, seed, among, split: see `exam.examine`. out: where to write, by default the run's folder
    Raises ValueError for a run that was not trained on the embedded scenes.
    """
    def load(place: Path) -> checkpoint.Run:
        run = checkpoint.load(place)
        run.model.to(distributed.device_at_hand(run.config.device))
        return run

    clock, run = time.perf_counter(), load(folder)
    checkpoint.need_scenes(run.config, folder)
    figures = exam.examine(run, seed, size, split, among or exam.BLOCK)
    if (folder / "start").exists():
        figures["start"] = exam.examine_start(load(folder / "start"), seed, size, split)
    seconds = {"warm_start": train.seconds(folder / "warm"), "train": train.seconds(folder),
               "evaluate": time.perf_counter() - clock}
    return report.write_report(out or folder, "pretrain", figures, run.config, seconds, command, run.config.seed)
