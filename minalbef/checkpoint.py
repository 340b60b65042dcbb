"""Save, load, resume: nothing half-written, nothing executed on loading."""
import hashlib
import json
import logging
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minalbef import config as configs
from minalbef.config import Config
from minalbef.data import data_folder
from minalbef.tokenizer import Tokenizer
from minalbef.vision import resize_positions
from minalbef.writing import explain, write_atomically

LOG = logging.getLogger("minalbef")
REMOVE, AGAIN = "remove it to begin again", "copy or train it again"
POSITIONS = ("image_encoder.pos_embed", "albef.image_encoder.pos_embed")
MISFITS = 4                           # weights that are named where a file does not fit its model
WORDS = "words.json"                  # words of the training captions, written by recipes.vocabulary
TRAINED_ON = "trained_on.json"        # public splits that a run's weights have seen, written by recipes.provenance
UNTRAINED = "untrained"               # key of a weights file's metadata: parts at random initialisation


def run_folder(path: str | Path, **download: Any) -> Path:
    """The folder of a run: "tiny" is the shipped one, unless a folder has that name; hf://OWNER/NAME is fetched.

    download: see huggingface_hub.snapshot_download. Raises ValueError for what cannot be fetched.
    """
    if not Path(path).as_posix().startswith("hf:/"):
        return data_folder() / "tiny" if str(path) == "tiny" and not Path(path).exists() else Path(path)
    name = Path(path).as_posix().removeprefix("hf:").strip("/")
    with explain(f"{name} cannot be fetched from the hub", "pip install 'minalbef[hub]' brings its client; check name "
                 "and network, or copy the files into a folder", Exception):             # each layer below has its own
        from huggingface_hub import snapshot_download
        return Path(snapshot_download(name, allow_patterns=["*.json", "model.safetensors"], **download))


def save(path: str | Path, model: nn.Module, tokenizer: Tokenizer, teacher: nn.Module | None = None,
         task: str = "pretrain", untrained: Collection[str] = ()) -> None:
    """Write a run folder that `load` reads: config.json, tokenizer.json, model.safetensors (and teacher's).

    model: an ALBEF, or a task's model, whose `.albef` it is
    untrained: parts of it that are still at random initialisation, see train.untrained_parts
    Reports of other weights, which these replace, are removed.
    Raises ValueError where state.pt is of other weights: training would go on from those.
    """
    albef: Any = getattr(model, "albef", model)                  # has a config
    modules = {"model": model, "teacher": teacher}
    if (state := Path(path) / "state.pt").exists():
        trained = weights_of(read_state(state, mmap=True), "student")
        if trained and not same_weights(trained, model.state_dict()):
            raise ValueError(f"{path} holds a run in training, whose state.pt is of other weights; "
                             "name another folder, or remove that one first")
    save_weights(path, albef.config, tokenizer, task,
                 {name: module.state_dict() for name, module in modules.items() if module is not None}, untrained)


def save_weights(path: str | Path, config: Config, tokenizer: Tokenizer, task: str,
                 files: dict[str, dict[str, Tensor]], untrained: Collection[str] = ()) -> None:
    """A run folder out of weights by file ("model", "teacher"). Tied weights are written once for each name.

    untrained: see `save`; the metadata of the files list it, so that it goes where the weights go
    """
    metadata = {UNTRAINED: " ".join(untrained)} if untrained else None
    folder = Path(path)
    kept = {f"{name}.safetensors" for name in files}
    for stale in {TRAINED_ON, WORDS, "teacher.safetensors", "queue.safetensors"} - kept:
        (folder / stale).unlink(missing_ok=True)                 # of other weights; the caller writes these two
    if not _is_model_of(folder, files["model"]):
        remove_reports(folder)
    save_settings(folder, config, tokenizer, task)
    for name, weights in files.items():
        # copies: safetensors refuses tensors that share memory, as tied weights of a user's model do
        weights = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in weights.items()}
        write_atomically(folder / f"{name}.safetensors", lambda p: save_file(weights, p, metadata))


def save_settings(folder: Path, config: Config, tokenizer: Tokenizer, task: str) -> None:
    """Write what `load` needs besides weights; with state.pt, a run in training can be loaded."""
    text = settings_text(config, tokenizer, task)
    write_atomically(folder / "config.json", lambda p: p.write_text(text, encoding="utf-8"))
    write_atomically(folder / "tokenizer.json", lambda p: tokenizer.save(p))


def settings_text(config: Config, tokenizer: Tokenizer, task: str) -> str:
    """config.json: settings, task, and the hash of the tokenizer, which is a file of its own."""
    values = {"task": task, "tokenizer": tokenizer.digest(), **config.to_dict()}
    return json.dumps(values, indent=1) + "\n"


def begin_run(folder: Path, config: Config, tokenizer: Tokenizer, task: str) -> bool:
    """Make a folder ready for a run, which can then be loaded from its first checkpoint on.

    -> whether it is new; a folder with state.pt is left as it is: its run goes on, or is refused
    """
    if (folder / "state.pt").exists():
        return False
    for name in (TRAINED_ON, "teacher.safetensors", "queue.safetensors"):
        (folder / name).unlink(missing_ok=True)
    remove_reports(folder)
    save_settings(folder, config, tokenizer, task)
    return True


def remove_reports(folder: Path) -> None:
    """Remove a run's reports, its own and those in folders by set: its weights are replaced."""
    stale = [path for path in folder.glob("report.*") if path.suffix in (".json", ".html")]
    for path in folder.glob("*/report.json"):
        if not (path.parent / "model.safetensors").exists():     # else a run of its own
            stale.append(path)
    for path in stale:
        path.unlink()
    if stale:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in stale))
        LOG.info("%s: removed %s, as of the weights before", folder, names)


def _is_model_of(folder: Path, weights: Mapping[str, Tensor]) -> bool:
    """Whether a folder's model has these weights; one that can't be read has not."""
    try:
        return same_weights(load_file(folder / "model.safetensors"), weights)
    except (OSError, SafetensorError):
        return False


def same_weights(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal, bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(one[name].cpu(), other[name].detach().cpu()) for name in one)


def save_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, step: int,
               config: Config, origin: Mapping[str, str] | None = None,
               untrained: Collection[str] = ()) -> None:
    """All that a resume needs, in one file: model and optimiser always come from the same step.

    origin: what the run is made of besides its settings, by name, such as its tokenizer's hash
    untrained: see `save`, up to now
    """
    state = {"step": step, "config": config.to_dict(), "task": task.state_dict(),
             "optimiser": optimiser.state_dict(), "origin": dict(origin or {}),
             "untrained": list(untrained)}
    write_atomically(folder / "state.pt", lambda p: torch.save(state, p))


def load_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, config: Config,
               origin: Mapping[str, str] | None = None) -> int:
    """Go on from `save_state`'s file, if the folder has one: -> the step to do next, 0 without a file.

    Raises ValueError when the file is damaged, or was made with other settings or of another
    origin.
    """
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = read_state(path)
    if other := configs.other_settings(state["config"], config):
        raise ValueError(f"{folder} holds a run with other settings ({other}); "
                         "go on with the same ones, or choose another folder with --run")
    if other := other_origin(state["origin"], origin or {}):
        raise ValueError(f"{folder} holds a run that began from something else: {other}. Go on "
                         "with what it began from, or choose another folder with --run")
    with explain(f"{path} cannot be read", REMOVE, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        task.load_state_dict(state["task"])
        optimiser.load_state_dict(state["optimiser"])
        if any(one.ndim and one.shape != p.shape for p, held in optimiser.state.items() for one in held.values()):
            raise ValueError("the optimiser's state has other shapes than the weights")
    return state["step"]


def other_origin(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How a run's origin differs from `now`, in words; "" if not, or if either is unknown."""
    if not was or not now:
        return ""
    changed = [f"its {name} is another" for name in was if name in now and was[name] != now[name]]
    changed += [f"it had {name}, which is missing here" for name in was if name not in now]
    changed += [f"it did not have {name}" for name in now if name not in was]
    if not changed and list(was) != list(now):
        changed = [f"its order was {', '.join(was)}"]
    return "; ".join(changed)


def read_state(path: Path, mmap: bool = False) -> dict[str, Any]:
    """`save_state`'s file. Raises ValueError for one that is cut off, has a byte changed or is something else."""
    kinds = {"step": int, "config": dict, "task": dict, "optimiser": dict}
    with explain(f"{path} cannot be read", REMOVE, zipfile.BadZipFile, EOFError, NotImplementedError, OSError,
                 RuntimeError, ValueError):
        with zipfile.ZipFile(path) as file:
            if changed := file.testzip():        # torch does not compare the check sums that it writes
                raise ValueError(f"bytes of {changed} in it have changed")
        try:
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
        except (pickle.UnpicklingError, RuntimeError) as error:  # torch would advise to let the file run its code
            raise ValueError("it holds more than tensors and numbers") from error
        if not isinstance(state, dict) or not all(isinstance(state.get(key), kind) for key, kind in kinds.items()):
            raise ValueError("it is no state of training")
        origin = state.setdefault("origin", {})                  # older versions recorded none
        if not isinstance(origin, dict) or not all(isinstance(one, str) for one in origin.values()):
            raise ValueError("its origin is no table of texts")
        untrained = state.setdefault("untrained", [])
        if not isinstance(untrained, list) or not all(isinstance(one, str) for one in untrained):
            raise ValueError("its untrained parts are no list of names")
    steps = configs.from_dict(state["config"], path).steps       # or it is of a later version
    if not 0 <= state["step"] <= steps:
        raise ValueError(f"{path} cannot be read (step {state['step']} is none of its {steps}); "
                         f"{REMOVE}")
    return state


def weights_of(state: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """The weights of a part ("student", "teacher") of a training state's task; {} without it."""
    prefix = f"{part}."
    weights = {}
    for name, value in state["task"].items():
        if name.startswith(prefix) and isinstance(value, Tensor):
            weights[name.removeprefix(prefix)] = value.clone()   # a view would keep the file open
    return weights


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """A hash of weights and their names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        digest.update(name.encode("utf-8"))
        flat = weights[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


class StoredRun(NamedTuple):
    """What a run folder holds; step: where training hasn't ended, after which the weights are."""

    config: Config
    task: str
    tokenizer: Tokenizer
    weights: dict[str, Tensor]        # under the names of the task's model
    step: int | None


def read_run(path: str | Path) -> tuple[Config, str, Tokenizer, dict[str, Tensor]]:
    """A run folder's config, task, tokenizer and weights, under the names of the task's model.

    Raises ValueError that says what is missing or damaged, and what to do.
    """
    return open_run(path)[:4]


def open_run(path: str | Path) -> StoredRun:
    """As `read_run`, with the step of a run whose training hasn't ended; see `warn_unfinished`."""
    folder = run_folder(path)
    _check_files(folder)
    config, task, tokenizer = _read_settings(folder)
    model, step = folder / "model.safetensors", None
    if model.exists():
        with explain(f"{folder} is damaged", AGAIN, OSError, SafetensorError, ValueError):
            weights = load_file(model)
    else:
        model = folder / "state.pt"
        state = read_state(model, mmap=True)
        weights, step = weights_of(state, "student"), state["step"]
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise ValueError(f"{model} is of no use: {broken[0]} is not finite, and is one of "
                         f"{len(broken)} such tensors; train it again with a lower lr, or copy it "
                         "again")
    return StoredRun(config, task, tokenizer, weights, step)


def _check_files(folder: Path) -> None:
    """Raises ValueError where a run's files are missing."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    begun = (folder / "state.pt").exists()
    if missing and begun:
        raise ValueError(f"{folder} is a run in training that lacks {', '.join(missing)}, as an "
                         "older version left it; call the command that trains it again, to go on")
    weights = begun or (folder / "model.safetensors").exists()
    if not missing and not weights:
        raise ValueError(f"{folder} has no weights: it lacks model.safetensors, and state.pt, "
                         "which training writes every save_every steps; wait, train it further or "
                         "copy it again")
    if missing:
        missing += [] if weights else ["model.safetensors"]
        raise ValueError(f"{folder} is no run folder: it lacks {', '.join(missing)}; "
                         "`minalbef demo` makes runs/demo")


def _read_settings(folder: Path) -> tuple[Config, str, Tokenizer]:
    """A run's config, task and tokenizer. Raises ValueError for the tokenizer of another run."""
    path = folder / "tokenizer.json"
    with explain(f"{folder} is damaged", AGAIN, OSError, ValueError):
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("config.json holds no settings by name")
        task, digest = str(values.pop("task", "pretrain")), values.pop("tokenizer", None)
        tokenizer = Tokenizer.load(path)
    config = configs.from_dict(values, folder / "config.json")
    pieces, words = len(tokenizer), config.vocab_size
    if pieces > words or digest is None and pieces < words:      # older versions wrote no hash
        raise ValueError(f"{path} is of another run: it has {pieces} word pieces, and the model "
                         f"{words} words; copy the run again")
    if digest is not None and digest != tokenizer.digest():
        raise ValueError(f"{path} is of another run: config.json names a tokenizer with other word "
                         "pieces; copy the run again")
    return config, task, tokenizer


def weights_file(folder: Path, step: int | None) -> Path:
    """Where a run's weights are; step: see `StoredRun`."""
    return folder / ("model.safetensors" if step is None else "state.pt")


def warn_unfinished(path: str | Path, config: Config, step: int | None) -> None:
    """Say in the log that weights are those of a step, where training hasn't ended."""
    if step is not None:
        LOG.warning("%s is not trained to the end: these are its weights after step %s of %s", path,
                    f"{step:,}", f"{config.steps:,}")


def read_teacher(path: str | Path) -> dict[str, Tensor]:
    """The weights of a run's teacher, of a run in training too; {} without one."""
    folder = run_folder(path)
    if (teacher := folder / "teacher.safetensors").exists():
        with explain(f"{teacher} is damaged", AGAIN, OSError, SafetensorError):
            return load_file(teacher)
    state = folder / "state.pt"
    if (folder / "model.safetensors").exists() or not state.exists():
        return {}
    return weights_of(read_state(state, mmap=True), "teacher")


def untrained_parts(path: str | Path) -> tuple[str, ...]:
    """Parts of a run's model that its training never reached, see `save`. Call it after `read_run`, which checks."""
    folder = run_folder(path)
    if not (folder / "model.safetensors").exists():              # in training
        return tuple(read_state(folder / "state.pt", mmap=True)["untrained"])
    with safe_open(folder / "model.safetensors", "pt") as file:
        return tuple((file.metadata() or {}).get(UNTRAINED, "").split())


def require_trained(path: str | Path, untrained: Collection[str], parts: Collection[str]) -> None:
    """Raises ValueError if one of `parts` is among a run's `untrained_parts`: answers would be noise."""
    if idle := [part for part in parts if part in untrained]:
        raise ValueError(f"{path} never trained its {' and '.join(idle)}: its task has no loss for that, or ended "
                         "before that loss began, and the answer would be noise; name a run that trained it")


def part_of(name: str) -> str:
    """The part of an ALBEF, or of a task's model, that a weight lies in."""
    return name.removeprefix("albef.").partition(".")[0]


def resize_weights(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights with the image's positions resized for pictures of config.image_size."""
    return weights | {name: resize_positions(weights[name], config.grid) for name in POSITIONS if name in weights}


def fit_weights(module: nn.Module, weights: dict[str, Tensor], source: str | Path,
                lacks: Collection[str] = ()) -> tuple[str, ...]:
    """load_state_dict, strict; raises ValueError that lists what does not fit. -> what is absent and keeps its start

    lacks: parts that may be absent, as a whole; of a task's file see tasks.base.Task
    """
    wanted, absent = module.state_dict(), set(lacks) - set(map(part_of, weights))
    kept = {name: value for name, value in wanted.items() if part_of(name) in absent}
    weights = weights | kept
    wrong = ([f"missing {key}" for key in wanted if key not in weights]
             + [f"unexpected {key}" for key in weights if key not in wanted]
             + [f"{key} is {tuple(weights[key].shape)}, wanted {tuple(wanted[key].shape)}"
                for key in wanted if key in weights and wanted[key].shape != weights[key].shape])
    if wrong:
        more = f"; and {len(wrong) - MISFITS} more" if len(wrong) > MISFITS else ""
        raise ValueError(f"{source} does not fit the model: {'; '.join(wrong[:MISFITS])}{more}. It has other parts or "
                         "sizes than config.json says: copy it again; if you trained it with an encoder of your "
                         "own, minalbef.load(RUN, build=...) builds the same, as docs/extend.md shows")
    module.load_state_dict(weights)
    return tuple(kept)
