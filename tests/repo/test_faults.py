"""Fault injection: a full disk, damaged files, hostile records; in this process, with torch."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from full_disk import files_end_at
from minalbef import load
from minalbef.data import data_folder
from minalbef.system import checkpoint
from miniature_sets import img2dataset, photo
from processes import ENVIRONMENT, ROOT, SMALL, Refused, command, family, wait

pytestmark = pytest.mark.slow
STEPS = 8
# tiny's settings for photographs
PHOTOGRAPHS = [
    "objects=0", "warm_steps=0", "siblings=0", "restyle=0", "bucket=1", "vocab_size=64", "batch=4",
]


def train(run: Path, *words: str | Path) -> None:
    """Train for STEPS steps, or what of them is left."""
    command("pretrain", *SMALL, f"epoch={16 * STEPS}", *words, "--run", str(run), "--quiet")


def train_on(data: Path, run: Path) -> None:
    """The same, on a prepared set of photographs."""
    train(run, *PHOTOGRAPHS, "--data", data)


def weights(run: Path) -> dict[str, bytes]:
    return {name: (run / f"{name}.safetensors").read_bytes() for name in ("model", "teacher")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(run)
    return run


@pytest.mark.parametrize("size", [0, 700_000])
def test_a_full_disk_ends_a_run_in_a_sentence_and_space_lets_it_go_on(tmp_path, trained, size):
    """The largest size is enough for the warm start, and not for state.pt."""
    run = tmp_path / "run"
    with files_end_at(size), pytest.raises(Refused, match=f"could not write .*{run}.*free some"):
        train(run)
    assert not list(run.rglob(".*.tmp")), "no part of a file is left"
    train(run)
    assert weights(run) == weights(trained)


IN_TWO = ["demo", "--processes", "2", "--size", "0.01"]
KILLS = {  # the command, and a text in the environment of the process to kill
    "a training process": (IN_TWO, "\0RANK=1\0"),
    "the first training process": (IN_TWO, "\0RANK=0\0"),
    "a loader's worker": (["pretrain", "--workers", "2"], ""),
}
# torch learns a worker's signal by its handler of SIGCHLD or, where its queue runs dry first, not at all
BY_SIGNAL = "was killed by SIGKILL, perhaps for want of memory"
LINE = (
    rf"minalbef: (training process [01] \(pid {{pid}}\) {BY_SIGNAL}"
    rf"|a loader's worker \(pid {{pid}}\) ({BY_SIGNAL}|ended unexpectedly))"
    "; the same command goes on from the last checkpoint"
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("which", KILLS)
def test_a_process_that_is_killed_is_named_in_one_line_and_the_last_checkpoint_stands(
    tmp_path, which
):
    (name, *flags), mark = KILLS[which]
    run = tmp_path / "run"
    program = [sys.executable, "-m", "minalbef", name, *SMALL, "epoch=64000"]
    words = [*program, "--run", str(run), *flags, "--quiet"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors, env=ENVIRONMENT
        )
        try:
            wait(process, lambda: (run / "state.pt").exists(), 600)
            for pid in family(process.pid)[1:]:
                if mark in Path(f"/proc/{pid}/environ").read_text(encoding="utf-8"):
                    break
            os.kill(pid, signal.SIGKILL)
            assert process.wait(120) in (1, 137)
        finally:
            process.kill()
    text = (tmp_path / "errors").read_text(encoding="utf-8").strip()
    assert re.fullmatch(LINE.format(pid=pid), text), text
    checkpoint.read_state(run / "state.pt")


# damaged files

DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "other bytes before it": lambda data: b"\x80\x04" + data,
    "a list": lambda data: b"[]",
    "zeros": lambda data: bytes(len(data)),
}


def refuse_damage(path: Path, folder: Path, call) -> None:
    """`call` refuses a file that is damaged in any way, and names its folder and the way out."""
    sound = path.read_bytes()
    for damage in DAMAGE.values():
        path.write_bytes(damage(sound))
        with pytest.raises((Refused, ValueError), match=f"(?s){folder}.*;"):
            call()
        path.write_bytes(sound)  # a run that goes on writes it anew


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_of_a_run_that_is_loaded_is_named_with_the_way_out(tmp_path, name):
    run = shutil.copytree(data_folder() / "tiny", tmp_path / "run")
    refuse_damage(run / name, run, lambda: load(run))


@pytest.mark.parametrize("name", ["state.pt", "metrics.csv", "start/model.safetensors"])
def test_a_damaged_file_of_a_run_that_goes_on_is_named_with_the_way_out(tmp_path, trained, name):
    run = shutil.copytree(trained, tmp_path / "run")
    refuse_damage(run / name, run, lambda: train(run))


@pytest.mark.parametrize("pattern", ["about.json", "train*.npy", "train*.jsonl"])
def test_a_damaged_file_of_a_prepared_set_is_named_with_the_way_out(tmp_path, pattern):
    img2dataset(tmp_path / "in", 5, 8)
    command("prepare", "shards", "--from", tmp_path / "in", "--out", tmp_path / "out")
    data = tmp_path / "out" / "shards"
    refuse_damage(next(data.glob(pattern)), data, lambda: train_on(data, tmp_path / "run"))


def test_a_bit_that_changed_in_a_tensor_of_state_pt_is_found(tmp_path, trained):
    """torch.load doesn't verify the checksums that it writes, and a weight would be another."""
    run = shutil.copytree(trained, tmp_path / "run")
    path = run / "state.pt"
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        tensors = [member for member in file.infolist() if "/data/" in member.filename]
        largest = max(tensors, key=lambda member: member.file_size)
        place = sound.index(file.read(largest)) + largest.file_size // 2
    path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1:])
    torch.load(path, weights_only=True)          # the check isn't blind
    with pytest.raises(Refused, match="state.pt cannot be read .bytes of .* in it have changed"):
        train(run)


def remove_state(run: Path) -> None:
    (run / "state.pt").unlink()


def take_other_origin(run: Path) -> None:
    state = torch.load(run / "state.pt", weights_only=True)
    origin = state["origin"] | {"tokenizer": "of other captions"}
    torch.save(state | {"origin": origin}, run / "state.pt")


PARTS = [
    (remove_state, "holds a trained model .* without the state of its training"),
    (take_other_origin, "began from something else .tokenizer: of other captions there"),
]


@pytest.mark.parametrize("spoil, refusal", PARTS)
def test_a_run_whose_parts_do_not_belong_together_is_refused(tmp_path, trained, spoil, refusal):
    run = shutil.copytree(trained, tmp_path / "run")
    spoil(run)
    before = weights(run)
    with pytest.raises(Refused, match=f"{run}.*{refusal}"):
        train(run)
    assert weights(run) == before


# what strangers' records hold, that training must never see

BAD_CAPTIONS = ["", "?!", "\x00", "\u0301\u0302", "a \ud800 cat", None, 7, {"a": "cat"}, [["a cat"]]]
GOOD_CAPTIONS = [
    "a \x00 cat", "a\u200bcat", "a cat " * 10_000, "c" * 1_000_000, "[MASK] [PAD] a cat", "$a^{cat",
    "a cat", "two dogs", "a red apple",
]


def bad_images(folder: Path) -> dict[str, bytes]:
    """Files that are called .jpg. One is a program for Ghostscript: it writes `ran` here."""
    small = photo(0)
    bomb = photo(0, "PNG")
    program = (
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
        f"({folder}/ran) (w) file closefile showpage\n"
    )
    return {
        "program": program.encode(),
        "text": b"a cat",
        "cut": small[: len(small) // 2],
        "bomb": bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:],
    }


def test_hostile_captions_and_images_are_counted_and_the_rest_is_trained_on(tmp_path):
    source = tmp_path / "in"
    (source / "train2014").mkdir(parents=True)
    entries = []
    for name, data in bad_images(tmp_path).items():
        (source / "train2014" / f"{name}.jpg").write_bytes(data)
        entries.append({"image": f"train2014/{name}.jpg", "caption": "a dog"})
    for i, caption in enumerate([*BAD_CAPTIONS, *GOOD_CAPTIONS]):
        (source / "train2014" / f"{i}.jpg").write_bytes(photo(i))
        entries.append({"image": f"train2014/{i}.jpg", "caption": caption})
    (source / "coco_train.json").write_text(json.dumps(entries))
    out = tmp_path / "out"
    look = ["--look", "--most-bad", "0.9"]
    account = command("prepare", "coco", "--from", source, "--out", out, *look)
    faults = (out / "coco" / "train.faults.txt").read_text()
    assert f"{len(GOOD_CAPTIONS)} records" in account
    assert len(faults.splitlines()) == len(entries) - len(GOOD_CAPTIONS), faults
    train_on(out / "coco", tmp_path / "run")
    assert not (tmp_path / "ran").exists(), "an image was run as a program"
