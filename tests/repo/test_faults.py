"""Fault injection: a full disk, damaged files, hostile records; in this process, which has torch at hand."""
import io
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
from minalbef import checkpoint
from minalbef.data import data_folder
from minalbef.tokenizer import Tokenizer
from miniature_sets import img2dataset, photo, tar
from processes import ENVIRONMENT, ROOT, SMALL, Refused, command, family, wait

pytestmark = pytest.mark.slow
STEPS = 8


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


KILLS = {                             # which process: words of the command, and whether an environment is its
    "a training process": (["demo", "--processes", "2", "--size", "0.01"], lambda place: "\0RANK=1\0" in place),
    "the first training process": (["demo", "--processes", "2", "--size", "0.01"], lambda place: "\0RANK=0\0" in place),
    "a loader's worker": (["pretrain", "--workers", "2"], lambda place: True)}
# torch learns a worker's signal by its handler of SIGCHLD, or, where its queue runs dry first, not at all
LINE = re.compile(r"minalbef: (training process [01] \(pid \d+\) was killed by SIGKILL, perhaps for want of memory|"
                  r"a loader's worker \(pid \d+\) (was killed by SIGKILL, perhaps for want of memory|"
                  r"ended unexpectedly)); the same command goes on from the last checkpoint")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("which", KILLS)
def test_a_process_that_is_killed_is_named_in_one_line_and_the_last_checkpoint_stands(tmp_path, which, note):
    (name, *flags), is_it = KILLS[which]
    run, told = tmp_path / "run", tmp_path / "told"
    words = [sys.executable, "-m", "minalbef", name, *SMALL, "epoch=64000", "--run", str(run), *flags, "--quiet"]
    with told.open("w") as file:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=file, env=ENVIRONMENT)
        try:
            wait(process, lambda: (run / "state.pt").exists(), 600)
            children = family(process.pid)[1:]
            pid = next(one for one in children if is_it(Path(f"/proc/{one}/environ").read_text(encoding="utf-8")))
            os.kill(pid, signal.SIGKILL)
            assert process.wait(120) in (1, 137)
        finally:
            process.kill()
    lines = [line for line in told.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) == 1 and LINE.fullmatch(lines[0]) and f"(pid {pid})" in lines[0], lines
    checkpoint.read_state(run / "state.pt")
    note(f"{which} is killed", 1, "named in one line with its signal; the last checkpoint stands")


def flipped(data: bytes, place: float) -> bytes:
    """One bit of it turned."""
    i = int(place * (len(data) - 1))
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]


def members(data: bytes) -> dict[str, bytes]:
    """What a zip file holds, by name; their checksums are compared."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


DAMAGE = {"empty": lambda data: b"", "cut": lambda data: data[:len(data) // 2],
          "its last byte is missing": lambda data: data[:-1], "other bytes before it": lambda data: b"\x80\x04" + data,
          "a list": lambda data: b"[]", "a number": lambda data: b"3",
          "zeros": lambda data: bytes(len(data)),
          **{f"a bit at {place:.0%}": lambda data, place=place: flipped(data, place) for place in (0, 0.3, 0.6, 0.9)}}


def search(run: Path) -> list:
    """A command that reads a run, and little else."""
    return ["search", "a cat", "--run", run, "--scenes", "8"]


@pytest.mark.parametrize("name, reader", [
    ("state.pt", training), ("metrics.csv", training), ("start/config.json", training),
    ("start/tokenizer.json", training), ("start/model.safetensors", training),
    ("config.json", "search"), ("tokenizer.json", "search"), ("model.safetensors", "search"),
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
        if reader == "search":
            words = search(folder)
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
    if name == "state.pt":                                      # a zip, whose members' padding holds nothing
        whole = members(sound)
        assert all(members(DAMAGE[what](sound)) == whole for what in passed), passed


def set_step(step: int):
    def spoil(run: Path) -> None:
        state = torch.load(run / "state.pt", weights_only=True)
        torch.save(state | {"step": step}, run / "state.pt")
    return spoil


def remove_state(run: Path) -> None:
    (run / "state.pt").unlink()


def take_other_tokenizer(run: Path) -> None:
    Tokenizer.train(["zebras quiz"], 400).save(run / "tokenizer.json")


def take_other_origin(run: Path) -> None:
    state = torch.load(run / "state.pt", weights_only=True)
    origin = state["origin"] | {"tokenizer": "of other captions"}
    torch.save(state | {"origin": origin}, run / "state.pt")


@pytest.mark.parametrize("spoil, reader, says", [
    (set_step(-5), training, "state.pt cannot be read .step -5 is not one of its 8"),
    (set_step(1_000_000), training, "state.pt cannot be read .step 1000000 is not one of its 8"),
    (remove_state, training, "holds a trained model .* without the state of its training"),
    (take_other_origin, training, "began from something else: its tokenizer differs"),
    (take_other_tokenizer, search, "tokenizer.json belongs to another run")])
def test_a_run_whose_parts_do_not_belong_together_is_refused(tmp_path, trained, note, spoil, reader,
                                                             says):
    run = shutil.copytree(trained, tmp_path / "run")
    spoil(run)
    before = weights(run)
    with pytest.raises(Refused, match=f"{run}.*{says}.*;|{run}.*{says}.*or choose another folder"):
        command(*reader(run))
    assert weights(run) == before
    note(f"a run in parts: {says}", 1, "refused by name; its weights stand")


def test_a_set_that_was_prepared_again_is_not_trained_on_by_the_run_of_the_old_one(tmp_path, note):
    """With a vocabulary whose size is capped, a corrected caption changes word ids and no setting."""
    source = tmp_path / "in"
    source.mkdir()
    for i in range(40):
        (source / f"{i}.jpg").write_bytes(photo(i))
        (source / f"{i}.txt").write_text(f"a red apple number {i} beside a green pear")
    run = tmp_path / "run"
    pretrain = on_photographs(tmp_path / "prepared" / "pairs", run)
    prepare = ["prepare", "pairs", "--from", source, "--out", tmp_path / "prepared"]
    command(*prepare)
    command(*pretrain)
    before = {path.name: path.read_bytes() for path in run.glob("*.*")}
    (source / "3.txt").write_text("zebras quiz a box of jam")
    command(*prepare)
    with pytest.raises(Refused, match=f"{run} .*began from something else: .*; give|another folder"):
        command(*pretrain)
    assert {path.name: path.read_bytes() for path in run.glob("*.*")} == before
    note("a set prepared again, then the same pretrain", 1, "refused by name; the run stands")


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
    for fault in ("3 times malformed", "1 times missing image", "1 times no image", "lost with a broken"):
        assert fault in account, account
    good = int(account.partition(" images, ")[2].split()[0])
    assert good >= 5 + 6 + 2, "of the whole shard, all but one of the garbled, and two of the odd one"
    command(*on_photographs(tmp_path / "out" / "shards", tmp_path / "run"))
    assert not (tmp_path / "ran").exists(), "a picture was run as a program"
    note("hostile tars", 5, f"bad entries counted and named, {good} others trained on")


def test_odd_files_among_own_pictures_are_counted_and_the_rest_is_trained_on(tmp_path, note):
    """Root may read everything, so a folder or a dangling link stands for what may not be read."""
    source = tmp_path / "in"
    source.mkdir()
    for i in range(14):
        (source / f"{i}.jpg").write_bytes(photo(i))
        (source / f"{i}.txt").write_text("a cat\n")
    for i, name in enumerate(("10.jpg", "11.jpg", "12.txt", "13.txt")):
        (source / name).unlink()
        if i % 2:
            (source / name).symlink_to(tmp_path / "gone")
        else:
            (source / name).mkdir()
    (source / "9.txt").write_bytes(b"\xff\xfe\n\x00 \n")
    (source / "8.jpg").write_bytes(b"")
    account = command("prepare", "pairs", "--from", source, "--out", tmp_path / "out", "--look",
                      "--most-bad", "0.9")
    for fault in ("2 times missing image", "2 times unreadable text", "1 times no image"):
        assert fault in account, account
    command(*on_photographs(tmp_path / "out" / "pairs", tmp_path / "run"))
    note("folders and dangling links among own pictures", 6, "counted, named, the rest trained on")


def test_a_set_that_names_files_elsewhere_is_refused_and_deletes_nothing(tmp_path, photographs,
                                                                         note):
    mine = tmp_path / "mine.jsonl"
    mine.write_text("precious")
    (tmp_path / "in").mkdir()
    img2dataset(tmp_path / "in", 5)
    for file in ("../mine", "../../mine", str(tmp_path / "mine"), 7):
        folder = shutil.copytree(photographs, tmp_path / "out" / "shards", dirs_exist_ok=True)
        about = json.loads((folder / "about.json").read_text())
        about["splits"]["train"]["file"] = file
        (folder / "about.json").write_text(json.dumps(about))
        with pytest.raises(Refused, match="about.json is damaged .*; prepare the set again"):
            command(*on_photographs(folder, tmp_path / "run"))
        command("prepare", "shards", "--from", tmp_path / "in", "--out", tmp_path / "out")
        assert mine.read_text() == "precious"
    note("sets that name files elsewhere", 4, "refused by name; nothing outside is deleted")


def test_of_many_prepares_of_one_set_at_once_each_is_whole_or_refused(tmp_path, note):
    img2dataset(tmp_path / "in", 5, 8)
    words = [sys.executable, "-m", "minalbef", "prepare", "shards", "--from", str(tmp_path / "in"),
             "--out", str(tmp_path / "out")]
    jobs = [subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [job.communicate(timeout=300)[1] for job in jobs]
    refused = [text for job, text in zip(jobs, said) if job.returncode]
    assert all("shards is in use: process" in text for text in refused) and len(refused) < 4, said
    command(*on_photographs(tmp_path / "out" / "shards", tmp_path / "run"))
    note("prepares of one set at once", 4, f"{4 - len(refused)} done, {len(refused)} refused by name")
