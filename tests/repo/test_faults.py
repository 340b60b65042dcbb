"""Fault injection: kills, a full disk, two commands at once, damaged files, hostile records; at its end a table."""
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch

from helpers import same_state
from minalbef.cli import main
from minalbef.data import data_folder
from minalbef.recipes import pipeline
from test_shards import img2dataset, photo, tar
from test_train import files_end_at

pytestmark = pytest.mark.slow
proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a run's processes")
ROOT = Path(__file__).parents[2]
EVERY = 4                             # steps between two saves
SOON = 20                             # seconds in which a job goes down; on two busy cores it took 4
SMALL = ["image_size=24", "image_width=32", "text_width=32", "image_heads=2", "text_heads=2", "embed_dim=16",
         "batch=16", "queue_size=64", f"save_every={EVERY}", "objects=12", "warm_steps=6", "match_from=0",
         "queue_from=0", "hard_from=0", "siblings_from=0",
         "device=cpu"]
LAUNCHERS = {1: [sys.executable],
             2: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--"],
             "machines": ["bash", str(ROOT / "tests" / "support" / "two_machines.sh"), "--"]}   # a process on each
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
CAPTIONS = 300                        # of which a run learns its word pieces: fewer than usual, to start sooner
# the command, which writes down each step that it has done, before it may save it
NOTING = f"""
from minalbef import __main__, metrics
from minalbef.recipes import pipeline
pipeline.CAPTIONS = {CAPTIONS}
plain = metrics.Log.step
def step(self, number, *given):
    if self.on:
        with open(self.folder / "done.txt", "a") as file:
            file.write(f"{{number + 1}}\\n")
    plain(self, number, *given)
metrics.Log.step = step
__main__.main()
"""


@pytest.fixture(scope="module")
def note(request):
    """note(fault, times, outcome): a row of the table."""
    rows = [("what was injected", "times", "what came of it")]
    yield lambda *row: rows.append(tuple(map(str, row)))
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        width = max(len(fault) for fault, _, _ in rows)
        print("\n" + "\n".join(f"{fault:{width}}  {times:>5}  {outcome}" for fault, times, outcome in rows))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(steps, processes, changes) -> what a run that nobody disturbs keeps at its end."""
    return cache(lambda *how: finish(tmp_path_factory.mktemp("whole") / "run", *how))


@pytest.fixture
def machines():
    """Skips where this machine cannot play two."""
    name = f"minalbef-{os.getpid()}"
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("network namespaces want Linux, root and Debian's iproute2")
    subprocess.run(["ip", "netns", "del", name], check=True)


def start(run: Path, steps: int, processes: int | str, *changes: str) -> subprocess.Popen:
    script = run.with_suffix(".py")
    script.write_text(NOTING)
    words = [*LAUNCHERS[processes], str(script), "pretrain", *SMALL, *changes, f"epoch={16 * steps}", "--run",
             str(run), "--quiet"]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)


def family(pid: int) -> list[int]:
    """A process and all that it started, by /proc: torchrun's workers are no part of its group."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:                                          # it has just ended
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def running(pids: list[int]) -> list[int]:
    """Those that have not ended; one that has, and waits to be fetched, has no command line."""
    with contextlib.suppress(OSError):                           # it ended while we looked
        return [pid for pid in pids if (path := Path(f"/proc/{pid}/cmdline")).exists() and path.read_bytes()]
    return running(pids)


def kill(process: subprocess.Popen) -> None:
    for pid in family(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def saved(run: Path) -> int:
    """The step of the last checkpoint."""
    path = run / "state.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def done(run: Path) -> list[int]:
    """Steps that were done, of all lives one after the other."""
    path = run / "done.txt"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait(process: subprocess.Popen, happened, seconds: float = 120) -> None:
    """Until something happened, or the process ended."""
    end = time.monotonic() + seconds
    while not happened() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.002)


def finish(run: Path, steps: int, processes: int | str, *changes: str) -> dict:
    """A run's final state: weights, teacher, queue, the optimiser's state, the step; and its files of weights."""
    process = start(run, steps, processes, *changes)
    assert process.wait(600) == 0
    state = torch.load(run / "state.pt", weights_only=True)
    del state["config"]                                          # save_every may differ
    kinds = {name.split(".")[0] for name in state["task"]}
    assert kinds >= {"student", "teacher", "queue"} and state["optimiser"]["state"] and state["step"] == steps
    return state | {name: (run / f"{name}.safetensors").read_bytes() for name in ("model", "teacher")}


@proc
@pytest.mark.parametrize("processes, kills, dropout", [(1, 20, 0.1), (1, 5, 0.0), (2, 5, 0.1)])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_weights(
        tmp_path, whole, note, processes, kills, dropout):
    steps, run, chance, changed = 15 * kills, tmp_path / "run", random.Random(processes), f"dropout={dropout}"
    caught, early = 0, 0
    for life in range(kills):
        before, known = saved(run), len(done(run))
        process = start(run, steps, processes, changed)
        if life % 4 == 0:                                        # at any time, while it starts, too
            time.sleep(chance.uniform(0.5, 4) if life else 1)
        elif life % 4 == 1:                                      # in the middle of writing a checkpoint
            wait(process, lambda: any(run.glob(".state.pt.*.tmp")))
            caught += any(run.glob(".state.pt.*.tmp"))
        else:                                                    # a little after one
            stamp = os.stat(run / "state.pt").st_mtime_ns if before else 0
            wait(process, lambda: (run / "state.pt").exists() and os.stat(run / "state.pt").st_mtime_ns != stamp)
            time.sleep(chance.uniform(0, 0.15))
        assert process.poll() is None, "it ended before it could be killed: more steps are needed"
        kill(process)
        early += not (run / "state.pt").exists()
        lived = done(run)[known:]
        assert lived == list(range(before + 1,
                                   before + 1 + len(lived))), "it did not go on where the last checkpoint was"
        last = lived[-1] if lived else before
        kept = {last // EVERY * EVERY} | ({last - EVERY} if lived and last % EVERY == 0 else set())   # not yet saved
        assert saved(run) in kept, f"step {last} was done, and the checkpoint is of step {saved(run)}"
    assert caught and early, "no kill fell into the writing of a checkpoint, or before the first"
    assert same_state(finish(run, steps, processes, changed), whole(steps, processes, changed))
    assert not list(run.rglob(".*.tmp")), "what was half written is swept up"
    note(f"SIGKILL, {processes} processes, {changed}", kills,
         f"the same bits as undisturbed; {early} before, {caught} in a save")


@proc
@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_a_checkpoint_and_ends_and_the_same_command_goes_on(tmp_path, whole, note, processes):
    steps, run, rarely = 40, tmp_path / "run", "save_every=1000"
    process = start(run, steps, processes, rarely)
    wait(process, lambda: len(done(run)) > 5)
    others = family(process.pid)
    assert process.poll() is None and not (run / "state.pt").exists()
    process.terminate()
    status = process.wait(SOON)
    assert status == 130 if processes == 1 else status != 0      # torchrun has a status of its own
    assert not running(others)
    assert 5 < saved(run) == done(run)[-1] < steps, "the last step that was done is not the one that was saved"
    assert same_state(finish(run, steps, processes, rarely),
                      whole(steps, processes)) and done(run) == list(range(1, steps + 1))
    note(f"SIGTERM, {processes} processes", 1, "saved at that step; the same bits as undisturbed")


@proc
def test_a_rank_that_dies_brings_the_job_down_and_relaunching_resumes(tmp_path, whole, note):
    steps, run = 40, tmp_path / "run"
    process = start(run, steps, 2)
    wait(process, lambda: (run / "state.pt").exists())
    worker = next(pid for pid in family(process.pid)[1:] if b"pretrain" in Path(f"/proc/{pid}/cmdline").read_bytes())
    others = family(process.pid)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(SOON) != 0, "the job goes down with it, and says so by its status"
    assert not running(others), "and leaves nobody behind"
    assert 0 < saved(run) < steps and same_state(finish(run, steps, 2), whole(steps, 2))
    note("SIGKILL of one rank of two", 1, "the other ends, too; the same bits as undisturbed")


def test_two_machines_train_as_one_and_either_that_dies_brings_the_other_down(tmp_path, whole, note, machines):
    steps, run = 40, tmp_path / "run"
    for lost in range(2):
        before, process = saved(run), start(run, steps, "machines")
        wait(process, lambda: saved(run) > before)
        everyone = family(process.pid)
        machine = family(sorted(everyone[1:3])[lost])
        assert len(machine) > 1, "a machine is a torchrun and its process"
        for pid in machine:
            os.kill(pid, signal.SIGKILL)
        assert process.wait(SOON) != 0
        assert not running(everyone)
        assert before < saved(run) < steps
    assert same_state(finish(run, steps, "machines"), whole(steps, 2))
    note("a machine of two is lost", 2, "the other ends, too; the same bits as undisturbed")


def test_machines_whose_names_lead_nowhere_are_told_what_to_say(tmp_path, machines):
    words, told = [*LAUNCHERS["machines"][:-1], "-m", "--", "minalbef", "pretrain", *SMALL, "--run",
                   str(tmp_path / "run")], tmp_path / "told"
    with told.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, env=ENVIRONMENT | {"INTERFACE": ""})
        wait(process, lambda: "minalbef: the processes do not reach each other" in told.read_text())
    process.terminate()                                          # one of them may wait for half an hour, torch's rule
    assert process.wait(SOON) != 0 and "GLOO_SOCKET_IFNAME=eth0" in told.read_text() and not (tmp_path / "run").exists()


# one process that is told what to do, and says no; in this process, which has torch at hand

STEPS = 8


class Refused(Exception):
    """minalbef's own paragraph."""


def command(*words: str) -> str:
    """Run a command of minalbef's: -> what it printed. Raises Refused with what it says when it ends with 2."""
    told, printed = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(told), contextlib.redirect_stdout(printed):
        patch.setattr(pipeline, "CAPTIONS", CAPTIONS)
        patch.setattr(sys, "argv", ["minalbef", *map(str, words)])
        try:
            main.main()
        except SystemExit as end:
            if end.code:
                assert end.code == 2 and told.getvalue().startswith("minalbef: "), (end.code, told.getvalue())
                raise Refused(told.getvalue()) from end
    return printed.getvalue()


def training(run: Path, *changes: str) -> list[str]:
    return ["pretrain", *SMALL, *changes, f"epoch={16 * STEPS}", "--run", str(run), "--quiet"]


def weights(run: Path) -> dict[str, bytes]:
    return {name: (run / f"{name}.safetensors").read_bytes() for name in ("model", "teacher")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of eight steps that nothing disturbed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    command(*training(run))
    return run


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A prepared set of 13 pictures in two tars, one whose faults do no harm."""
    folder = tmp_path_factory.mktemp("photographs")
    img2dataset(folder / "in", 5, 8)
    command("prepare", "shards", "--from", folder / "in", "--out", folder / "out")
    return folder / "out" / "shards"


def on_photographs(folder: Path, run: Path) -> list:
    return [*training(run, "objects=0", "warm_steps=0", "siblings=0", "restyle=0", "bucket=1", "vocab_size=64",
                      "batch=4"), "--data", folder]


def test_a_full_disk_ends_a_run_in_a_sentence_and_space_lets_it_go_on(tmp_path, trained, note):
    sizes = (0, 100, 1_000, 300_000, 500_000, 700_000)           # the last: enough for the warm start, not for state.pt
    for size in sizes:
        run = tmp_path / str(size)
        with files_end_at(size), pytest.raises(Refused, match="could not write .*free some space") as told:
            command(*training(run))
        assert str(run) in str(told.value)
        assert not list(run.rglob(".*.tmp")), "no part of a file is left"
        command(*training(run))
        assert weights(run) == weights(trained)
    note("full disk while training", len(sizes), "refused by name; with space the same bits as undisturbed")


@proc
def test_a_second_command_in_a_run_folder_is_refused_and_the_first_ends_undisturbed(tmp_path, whole, note):
    steps, run = 40, tmp_path / "run"
    process, others = start(run, steps, 1), ([], ["seed=1"], ["warm_steps=7"], ["lr=0.5"])
    for happened in (lambda: (run / ".lock").exists() and (run / ".lock").stat().st_size, lambda: done(run)):
        wait(process, happened)                                  # as it starts, and while it trains
        process.send_signal(signal.SIGSTOP)                      # lest it end before the others come
        for changes in others:
            with pytest.raises(Refused, match=f"{run} is in use: process {process.pid} of .*--run"):
                command("pretrain", *SMALL, *changes, f"epoch={16 * steps}", "--run", run, "--quiet")
        process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    assert same_state(finish(run, steps, 1), whole(steps, 1))
    note("a second command in a run folder", 2 * len(others), "refused by name; the first ends as undisturbed")


def flipped(data: bytes, place: float) -> bytes:
    """One bit of it turned."""
    i = int(place * (len(data) - 1))
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]


DAMAGE = {"empty": lambda data: b"", "cut": lambda data: data[:len(data) // 2],
          "its last byte is missing": lambda data: data[:-1], "other bytes before it": lambda data: b"\x80\x04" + data,
          "a list": lambda data: b"[]", "a number": lambda data: b"3",
          "zeros": lambda data: bytes(len(data)),
          **{f"a bit at {place:.0%}": lambda data, place=place: flipped(data, place) for place in (0, 0.3, 0.6, 0.9)}}


@pytest.mark.parametrize("name, reader", [
    ("state.pt", training), ("metrics.csv", training), ("start/config.json", training),
    ("start/tokenizer.json", training), ("start/model.safetensors", training),
    ("config.json", "summary"), ("tokenizer.json", "summary"), ("model.safetensors", "summary"),
    ("about.json", on_photographs), ("train.npy", on_photographs),
    ("train.jsonl", on_photographs)])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, trained, photographs, note, name, reader):
    source = photographs if reader is on_photographs else data_folder() / "tiny" if isinstance(reader, str) else trained
    folder = shutil.copytree(source, tmp_path / "copy")
    if reader is on_photographs and name != "about.json":        # its name is noted in about.json
        name = next(folder.glob(f"train*{Path(name).suffix}")).name
    path = folder / name
    sound, refused, passed = path.read_bytes(), 0, []
    for what, damage in DAMAGE.items():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        path.write_bytes(damage(sound))
        if reader == "summary":
            words = ["summary", folder]
        else:
            words = training(folder) if reader is training else on_photographs(folder, tmp_path / "run")
        try:
            command(*words)
            passed.append(what)
        except Refused as error:
            refused += 1
            said = str(error)
            assert str(folder) in said and ";" in said, f"{what}: it names no file, or no way out: {said}"
            assert len(said) < 1_000 and "weights_only" not in said, said
        path.write_bytes(sound)                                  # a run that goes on writes it anew
    note(f"damaged {name}", len(DAMAGE),
         f"{refused} refused by name" + (f"; read: {', '.join(passed)}" if passed else ""))
    assert all(what.startswith("a bit") or what == "its last byte is missing" for what in passed), passed
    assert name != "state.pt" or not passed, passed


# what strangers' records hold: (a caption, or a picture's bytes) that training must never see

BAD_CAPTIONS = ["", "  ", "?!", "\x00", "\u200b", "\u0301\u0302", "a \ud800 cat", None, 7, [], {"a": "cat"},
                [["a cat"]]]
ODD_CAPTIONS = ["a \x00 cat", "a\u200bcat", "a cat " * 10_000, "c" * 1_000_000, "\u202ea cat",
                "[MASK] [PAD] a cat", "$a^{cat", "<b>&cat"]
NESTED = b"[" * 100_000 + b"]" * 100_000


def bad_pictures(here: Path) -> dict[str, bytes]:
    """Files that are called .jpg. One is a program for Ghostscript, which writes into `here`."""
    small, bomb = photo(0), photo(0, "PNG")
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({here}/ran) (w) file closefile showpage\n"
    return {"program": program.encode(), "empty": b"", "text": b"a cat", "cut": small[:len(small) // 2],
            "zeros": bytes(1000), "bomb": bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:],
            "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}


def test_hostile_captions_and_pictures_are_counted_and_the_rest_is_trained_on(tmp_path, note):
    source, pictures = tmp_path / "in", bad_pictures(tmp_path)
    files = {f"train2014/bad_{name}.jpg": data for name, data in pictures.items()}
    files |= {f"train2014/{i}.jpg": photo(i) for i in range(len(BAD_CAPTIONS + ODD_CAPTIONS) + 4)}
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    captions = [*BAD_CAPTIONS, *ODD_CAPTIONS, "a cat", "two dogs", "a red apple", "a lemon", *["a dog"] * len(pictures)]
    lines = [{"image": image, "caption": caption} for image, caption in zip(reversed(files), captions, strict=True)]
    (source / "coco_train.json").write_text(json.dumps(lines))
    account = command("prepare", "coco", "--from", source, "--out", tmp_path / "out", "--look", "--most-bad", "0.9")
    bad, good = len(BAD_CAPTIONS) + len(pictures), len(ODD_CAPTIONS) + 4
    faults = (tmp_path / "out" / "coco" / "train.faults.txt").read_text()
    assert f"{good} records" in account and len(faults.splitlines()) == bad, account + faults
    command(*on_photographs(tmp_path / "out" / "coco", tmp_path / "run"))
    assert not (tmp_path / "ran").exists(), "a picture was run as a program"
    note("hostile captions and pictures", bad, "left out, counted and named")
    note("odd captions", len(ODD_CAPTIONS), "trained on")


def test_hostile_tars_are_counted_and_the_rest_is_trained_on(tmp_path, note):
    source = tmp_path / "in"
    _, cut, garbled = img2dataset(source, 5, 6, 7)
    cut.write_bytes(cut.read_bytes()[:cut.stat().st_size // 2])
    garbled.write_bytes(flipped(garbled.read_bytes(), 0.5))
    tar(source / "00003.tar", {
        "0.jpg": photo(0), "0.json": NESTED, "1.jpg": photo(1), "1.txt": b"\xff\xfe", "2.jpg": photo(2),
        "2.txt": b" " * (17 << 20), "3.txt": b"a cat", "4.jpg": bad_pictures(tmp_path)["program"], "4.txt": b"a cat",
        "5.jpg": photo(5), "5.txt": b"a cat", "../6.jpg": photo(6), "../6.txt": b"a cat"})
    (source / "00004.tar").write_bytes(bytes(10_000))
    (source / "00005.tar").write_bytes(b"")
    account = command("prepare", "shards", "--from", source, "--out", tmp_path / "out", "--look", "--most-bad", "0.9")
    for fault in ("3 times malformed", "1 times missing picture", "1 times unreadable picture", "lost with a broken"):
        assert fault in account, account
    good = int(account.partition(" pictures, ")[2].split()[0])
    assert good >= 5 + 6 + 2, "of the whole shard, all but one of the garbled, and two of the odd one"
    command(*on_photographs(tmp_path / "out" / "shards", tmp_path / "run"))
    assert not (tmp_path / "ran").exists(), "a picture was run as a program"
    note("hostile tars", 5, f"bad entries counted and named, {good} others trained on")
