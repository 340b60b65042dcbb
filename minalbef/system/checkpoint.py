"""Save, load and resume a run: nothing is half-written, and loading executes no code."""
import hashlib
import json
import logging
import pickle
import zipfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minalbef.config import Config, ModelConfig
from minalbef.data import data_folder
from minalbef.system import settings
from minalbef.system.distributed import precision_on
from minalbef.system.tokenizer import Tokenizer
from minalbef.system.writing import (
    MALFORMED,
    check_fields,
    check_texts,
    read_json,
    require_file,
    restate,
    write_atomically,
)
from minalbef.vision import resize_positions

LOG = logging.getLogger("minalbef")
REMOVE = "remove it to begin again"
COPY_AGAIN = "copy it or train it again"
POSITIONS = ("image_encoder.pos_embed", "albef.image_encoder.pos_embed")
# the settings that `definition` has, and their defaults
MEANINGFUL = (*(item.name for item in fields(ModelConfig)), "upright")
DEFAULTS = Config()
MISFITS = 4                           # weights that an error names if a file doesn't fit its model
WORDS = "words.json"                  # words of training captions, written by recipes.vocabulary
TRAINED_ON = "trained_on.json"        # the public splits of training, written by recipes.provenance
SHIPPED = ("tiny", "tiny-paper", "tiny/start")        # runs that come with the package
# the one key of the weights' metadata (safetensors writes several in random order), whose JSON has
# "definition", see there, and "untrained", parts at random initialisation
METADATA = "minalbef"


def run_folder(path: str | Path, **download: Any) -> Path:
    """The folder of a run.

    "tiny" and "tiny-paper" are shipped, and "tiny/start", a trained image encoder to begin from,
    unless a folder has that name; hf://OWNER/NAME is downloaded.
    download: options of huggingface_hub.snapshot_download
    Raises ValueError if the download fails.
    """
    address = Path(path).as_posix()
    if address in SHIPPED and not Path(path).exists():
        return data_folder() / address
    if not address.startswith("hf:/"):
        return Path(path)
    repository = address.removeprefix("hf:").strip("/")
    problem = f"{repository} cannot be fetched from the hub"
    way_out = ("pip install 'minalbef[hub]' brings its client; check name and network, "
               "or copy the files into a folder")
    with restate(problem, way_out, Exception):   # each layer below raises errors of its own
        from huggingface_hub import snapshot_download
        patterns = ["*.json", "model.safetensors"]
        return Path(snapshot_download(repository, allow_patterns=patterns, **download))


def save(path: str | Path, model: nn.Module, tokenizer: Tokenizer,
         teacher: nn.Module | None = None, task: str = "pretrain",
         untrained: Collection[str] = ()) -> None:
    """Write a run folder for `load`: config.json, tokenizer.json, model.safetensors.

    model: an ALBEF, or the model of a task, which has one as `.albef`
    teacher: written to teacher.safetensors
    untrained: parts that are still at random initialisation, see train.untrained_parts
    If the folder's weights change, its reports are removed.
    Raises ValueError if state.pt holds other weights: training would go on from those.
    """
    state = Path(path) / "state.pt"
    if state.exists():
        weights = weights_of(read_state(state, mmap=True), "student")
        if weights and not same_weights(weights, model.state_dict()):
            raise ValueError(f"{path} holds a run in training, whose state.pt has other weights; "
                             "name another folder, or remove that one first")
    albef: Any = getattr(model, "albef", model)                  # has a config
    files = {"model": model.state_dict()}
    if teacher is not None:
        files["teacher"] = teacher.state_dict()
    save_weights(path, albef.config, tokenizer, task, files, untrained)


def save_weights(path: str | Path, config: Config, tokenizer: Tokenizer, task: str,
                 files: dict[str, dict[str, Tensor]], untrained: Collection[str] = ()) -> None:
    """Write a run folder from state dicts. Tied weights are written under each of their names.

    files: state dicts by file name, "model" and "teacher"
    untrained: see `save`
    The files' metadata has `untrained`, so that copies of the weights keep it, and `definition`: a
    folder whose config.json or tokenizer.json says otherwise is not read.
    """
    folder = Path(path)
    stale = {TRAINED_ON, WORDS, "teacher.safetensors", "queue.safetensors"}    # of other weights
    stale -= {f"{name}.safetensors" for name in files}
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    if not _has_weights(folder, files["model"]):
        remove_reports(folder)
    save_settings(folder, config, tokenizer, task)
    about = {"definition": definition(config, tokenizer.digest(), task),
             "untrained": list(untrained)}
    metadata = {METADATA: json.dumps(about)}
    for name, state_dict in files.items():
        weights = {}
        for key, value in state_dict.items():
            # a copy: safetensors refuses tensors that share memory, as tied weights do
            weights[key] = value.detach().to("cpu", copy=True).contiguous()
        write_atomically(folder / f"{name}.safetensors", lambda p: save_file(weights, p, metadata))


def save_settings(folder: Path, config: Config, tokenizer: Tokenizer, task: str) -> None:
    """Write what `load` needs besides the weights; with a state.pt it can load the run."""
    text = settings_text(config, tokenizer, task)
    write_atomically(folder / "config.json", lambda p: p.write_text(text, encoding="utf-8"))
    write_atomically(folder / "tokenizer.json", lambda p: tokenizer.save(p))


def settings_text(config: Config, tokenizer: Tokenizer, task: str) -> str:
    """The text of config.json: the task, the hash of tokenizer.json, and the settings."""
    values = {"task": task, "tokenizer": tokenizer.digest(), **config.to_dict()}
    return json.dumps(values, indent=1) + "\n"


def definition(config: Config, tokenizer: str, task: str) -> dict[str, Any]:
    """What gives weights their meaning: with other values they load, and score something else.

    tokenizer: its digest
    -> settings of the model and of how it reads images, without those at their default: a field
       that comes later then doesn't matter to older weights
    """
    values: dict[str, Any] = {"task": task, "tokenizer": tokenizer}
    for name in MEANINGFUL:
        if getattr(config, name) != getattr(DEFAULTS, name):
            values[name] = getattr(config, name)
    return values


def check_definition(file: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises ValueError where weights were written under another `definition` than the folder's.

    file: the weights'. there, here: its definition, and that by config.json and tokenizer.json
    """
    changes = []
    for name in {**there, **here}:
        then, now = (values.get(name, getattr(DEFAULTS, name, None)) for values in (there, here))
        if then != now:
            changes.append(f"{name} was {then}, and is {now} in config.json")
    if changes:
        raise ValueError(f"{file} was trained with other settings than its folder now has: "
                         f"{'; '.join(changes)}. Restore or copy config.json and tokenizer.json; "
                         "a setting changes by training with it, or by minalbef.save")


def check_weights(file: Path, here: dict[str, Any]) -> None:
    """`check_definition` of a file of weights. Raises ValueError for one that has none, too."""
    about = read_metadata(file)
    if not about:
        raise ValueError(f"{file} doesn't say with which settings it was trained, as files of "
                         "other programs and older versions don't: train the run again, or load "
                         "the weights into an ALBEF and write it by minalbef.save")
    check_definition(file, about["definition"], here)


def read_metadata(file: Path) -> dict[str, Any]:
    """The "definition" and "untrained" of a file of weights; {} if it's another program's."""
    with restate(f"{file} is damaged", COPY_AGAIN, *MALFORMED):
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(METADATA)
        if text is None:
            return {}
        about = check_fields(json.loads(text), {"definition": dict})
        check_texts(about.get("untrained"))
        return about


def begin_run(folder: Path, config: Config, tokenizer: Tokenizer, task: str) -> bool:
    """Prepare a folder for a run, so that the run can be loaded from its first checkpoint on.

    -> whether the run is new; a folder with state.pt stays as it is, for `load_state`
    """
    if (folder / "state.pt").exists():
        return False
    stale = [folder / name for name in (TRAINED_ON, "teacher.safetensors", "queue.safetensors")]
    for path in [*stale, *folder.glob("unreadable*.txt")]:
        path.unlink(missing_ok=True)
    remove_reports(folder)
    save_settings(folder, config, tokenizer, task)
    return True


def settle_precision(config: Config, folder: Path, device: torch.device) -> Config:
    """The settings without precision="auto": with the run's in `folder`, or else the device's.

    So a run goes on in the precision in which it began, on any device.
    """
    if config.precision != "auto":
        return config
    precision = precision_on(device)
    if (folder / "state.pt").exists():
        with suppress(ValueError):               # damaged; who loads it says so
            precision = read_json(folder / "config.json", "", read_precision)
    return replace(config, precision=precision)


def read_precision(values: dict[str, Any]) -> str:
    """The precision of a run, by its config.json."""
    return settings.from_dict({"precision": values.get("precision", "fp32")}).precision


def remove_reports(folder: Path) -> None:
    """Remove the reports of a run whose weights are replaced, also those in folders by set."""
    stale = [path for path in folder.glob("report.*") if path.suffix in (".json", ".html")]
    for path in folder.glob("*/report.json"):
        if not (path.parent / "model.safetensors").exists():     # else that folder is another run
            stale.append(path)
    for path in stale:
        path.unlink()
    if stale:
        names = ", ".join(sorted(str(path.relative_to(folder)) for path in stale))
        LOG.info("%s: removed %s, made with the old weights", folder, names)


def _has_weights(folder: Path, weights: Mapping[str, Tensor]) -> bool:
    """Whether a folder's model has these weights; False if it can't be read."""
    try:
        return same_weights(load_file(folder / "model.safetensors"), weights)
    except (OSError, SafetensorError):
        return False


def same_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal, bit for bit."""
    if a.keys() != b.keys():
        return False
    return all(torch.equal(a[name].cpu(), b[name].detach().cpu()) for name in a)


def save_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, step: int,
               config: Config, origin: Mapping[str, str] | None = None,
               untrained: Collection[str] = (), writer: "StateWriter | None" = None) -> None:
    """Write all that a resume needs to one file: model and optimiser come from the same step.

    origin: what the run starts from besides its settings, by name, such as its tokenizer's hash
    untrained: see `save`, up to this step
    writer: writes it, maybe later. Without one, the file is there when this returns
    """
    state = {
        "step": step,
        "config": config.to_dict(),
        "task": task.state_dict(),
        "optimiser": optimiser.state_dict(),
        "origin": dict(origin or {}),
        "untrained": list(untrained),
    }
    if writer is None:
        write_state(folder, state)
    else:
        writer.write(folder, state)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write a training state's file. Raises OSError, see `write_atomically`."""
    write_atomically(folder / "state.pt", lambda p: torch.save(state, p))


def copy_to_cpu(value: Any) -> Any:
    """A copy of nested dicts, lists and tuples, with their tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_to_cpu(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(copy_to_cpu, value))
    return value


class StateWriter:
    """Writes the training states of a run, one after the other: `with StateWriter(True) as writer`.

    In the background a thread does it, while training goes on: the paper's 3.5 GB take a disk
    seconds, and their copy in memory less than one. The copy is of one step, and the thread has
    ended when the `with` block has.
    """

    def __init__(self, background: bool):
        self.thread = ThreadPoolExecutor(1) if background else None
        self.pending: Future[None] | None = None

    def write(self, folder: Path, state: dict[str, Any]) -> None:
        """Write a state, once the one before is written. Raises OSError where either can't be."""
        self.wait()
        if self.thread is None:
            write_state(folder, state)
        else:
            self.pending = self.thread.submit(write_state, folder, copy_to_cpu(state))

    def wait(self) -> None:
        """Wait until all is written. Raises OSError where it can't be."""
        pending = self.pending
        self.pending = None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self.thread is not None:
            self.thread.shutdown()               # it waits
        try:
            self.wait()
        except OSError as problem:
            if error is None:
                raise
            LOG.warning("%s", problem)           # the other error is the one to raise


def load_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, config: Config,
               origin: Mapping[str, str] | None = None) -> int:
    """Resume from the file of `save_state`, in place: -> the next step, 0 if there is no file.

    Raises ValueError if the file is damaged, or was made with other settings or another origin.
    """
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = read_state(path)
    if difference := settings.other_settings(state["config"], config):
        raise ValueError(f"{folder} holds a run with other settings ({difference}); "
                         "go on with the same ones, or choose another folder with --run")
    if difference := other_origin(state["origin"], origin or {}):
        raise ValueError(f"{folder} holds a run that began from something else: {difference}. "
                         "Go on with what it began from, or choose another folder with --run")
    errors = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
    with restate(f"{path} cannot be read", REMOVE, *errors):
        task.load_state_dict(state["task"])
        optimiser.load_state_dict(state["optimiser"])
        _check_moments(optimiser)
    return state["step"]


def _check_moments(optimiser: torch.optim.Optimizer) -> None:
    """Raises ValueError if the optimiser's moments don't have their parameter's shape."""
    for parameter, moments in optimiser.state.items():
        for value in moments.values():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError("the optimiser's state has other shapes than the weights")


def other_origin(origin: Mapping[str, str], current: Mapping[str, str]) -> str:
    """How a run's origin differs from the current one; "" if it doesn't or either is unknown."""
    if not origin or not current:
        return ""
    changes = []
    for name in origin:
        if name in current and origin[name] != current[name]:
            changes.append(f"its {name} differs")
    changes += [f"it had {name}, which is missing here" for name in origin if name not in current]
    changes += [f"it did not have {name}" for name in current if name not in origin]
    if not changes and list(origin) != list(current):
        changes = [f"its order was {', '.join(origin)}"]
    return "; ".join(changes)


def read_state(path: Path, mmap: bool = False) -> dict[str, Any]:
    """The file of `save_state`. Raises ValueError if it is cut off, damaged or another file.

    mmap: tensors stay in the file until they are used
    """
    errors = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)
    with restate(f"{path} cannot be read", REMOVE, *errors):
        require_file(path)
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():        # torch doesn't verify the checksums that it writes
                raise ValueError(f"bytes of {damaged} in it have changed")
        try:
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
        except (pickle.UnpicklingError, RuntimeError) as error:
            # torch's message would advise letting the file run its code
            raise ValueError("it holds more than tensors and numbers") from error
        _check_state(state)
    steps = settings.from_dict(state["config"], path).steps       # raises for a later version's
    if not 0 <= state["step"] <= steps:
        raise ValueError(f"{path} cannot be read (step {state['step']} is not one of its {steps}); "
                         f"{REMOVE}")
    return state


def _check_state(state: Any) -> None:
    """Raises ValueError if it is no training state; fills in what older versions didn't write."""
    if not isinstance(state, dict):
        raise ValueError("it is not a training state")
    for key, kind in {"step": int, "config": dict, "task": dict, "optimiser": dict}.items():
        if not isinstance(state.get(key), kind):
            raise ValueError("it is not a training state")
    origin = state.setdefault("origin", {})
    if not isinstance(origin, dict) or not _all_strings(origin.values()):
        raise ValueError("its origin must be strings by name")
    untrained = state.setdefault("untrained", [])
    if not isinstance(untrained, list) or not _all_strings(untrained):
        raise ValueError("its untrained parts must be a list of names")


def _all_strings(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def weights_of(state: Mapping[str, Any], part: str) -> dict[str, Tensor]:
    """The weights of a training state's "student" or "teacher"; {} if it has none."""
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


def hash_of_weights(path: str | Path) -> str:
    """A hash of a run's file of weights, and so of the settings that are bound to them.

    Of a run in training it's that of the last checkpoint. Raises ValueError if there is no file.
    """
    folder = run_folder(path)
    file = folder / "model.safetensors"
    if not file.exists():
        file = folder / "state.pt"
    with restate(f"{folder} has no weights", COPY_AGAIN, OSError, ValueError):
        require_file(file)
        status = file.stat()
        return _hash_file(file.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=32)
def _hash_file(path: Path, size: int, changed: int) -> str:
    """A file's hash; its size and time of change are here for the cache."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


class StoredRun(NamedTuple):
    """The contents of a run folder; step: the last checkpoint's, None once training has ended."""

    config: Config
    task: str
    tokenizer: Tokenizer
    weights: dict[str, Tensor]        # under the names of the task's model
    step: int | None


def read_run(path: str | Path) -> tuple[Config, str, Tokenizer, dict[str, Tensor]]:
    """Config, task, tokenizer and weights of a run folder, named as in the task's model.

    Raises ValueError that says what is missing or damaged, and what to do.
    """
    return open_run(path)[:4]


def open_run(path: str | Path) -> StoredRun:
    """As `read_run`, with the step if training hasn't ended; see `warn_unfinished`."""
    folder = run_folder(path)
    _check_files(folder)
    config, task, tokenizer = _read_settings(folder)
    meaning = definition(config, tokenizer.digest(), task)
    file = folder / "model.safetensors"
    step = None
    if file.exists():
        with restate(f"{folder} is damaged", COPY_AGAIN, OSError, SafetensorError, ValueError):
            require_file(file)
            weights = load_file(file)
        check_weights(file, meaning)
    else:
        file = folder / "state.pt"
        state = read_state(file, mmap=True)
        digest = state["origin"].get("tokenizer", tokenizer.digest())
        there = definition(settings.from_dict(state["config"], file), digest, task)
        check_definition(file, there, meaning)
        weights = weights_of(state, "student")
        step = state["step"]
    diverged = [name for name, value in weights.items() if not value.isfinite().all()]
    if diverged:
        raise ValueError(f"{file} cannot be used: {diverged[0]} is not finite, and is one of "
                         f"{len(diverged)} such tensors; train it again with a lower lr, or copy "
                         "it again")
    return StoredRun(config, task, tokenizer, weights, step)


def _check_files(folder: Path) -> None:
    """Raises ValueError if files of the run are missing."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    has_state = (folder / "state.pt").exists()
    if missing and has_state:
        raise ValueError(f"{folder} is a run in training that lacks {', '.join(missing)}, as an "
                         "older version left it; call the command that trains it again, to go on")
    has_weights = has_state or (folder / "model.safetensors").exists()
    if not missing and not has_weights:
        raise ValueError(f"{folder} has no weights: it lacks model.safetensors, and state.pt, "
                         "which training writes every save_every steps; wait, train it further or "
                         "copy it again")
    if missing:
        if not has_weights:
            missing.append("model.safetensors")
        raise ValueError(f"{folder} is not a run folder: it lacks {', '.join(missing)}; "
                         "`minalbef demo` makes runs/demo")


def _read_settings(folder: Path) -> tuple[Config, str, Tokenizer]:
    """Config, task and tokenizer of a run. Raises ValueError for the tokenizer of another run."""
    path = folder / "tokenizer.json"
    values = read_json(folder / "config.json", COPY_AGAIN, lambda value: check_fields(value, {}))
    task = str(values.pop("task", "pretrain"))
    digest = values.pop("tokenizer", None)
    with restate(f"{folder} is damaged", COPY_AGAIN, OSError, ValueError):
        tokenizer = Tokenizer.load(path)
    config = settings.from_dict(values, folder / "config.json")
    if digest != tokenizer.digest():
        raise ValueError(f"{path} belongs to another run: config.json names a tokenizer with other "
                         "word pieces; copy the run again")
    return config, task, tokenizer


def weights_file(folder: Path, step: int | None) -> Path:
    """The file of a run's weights; step: see `StoredRun`."""
    if step is None:
        return folder / "model.safetensors"
    return folder / "state.pt"


def warn_unfinished(path: str | Path, config: Config, step: int | None) -> None:
    """Log a warning if training hasn't ended, with the step of the weights."""
    if step is not None:
        LOG.warning("%s is not trained to the end: these are its weights after step %s of %s",
                    path, f"{step:,}", f"{config.steps:,}")


def read_teacher(path: str | Path) -> dict[str, Tensor]:
    """The weights of a run's teacher, also during training; {} if it has none."""
    folder = run_folder(path)
    file = folder / "teacher.safetensors"
    if file.exists():
        config, task, tokenizer = _read_settings(folder)
        with restate(f"{file} is damaged", COPY_AGAIN, OSError, SafetensorError, ValueError):
            require_file(file)
            weights = load_file(file)
        check_weights(file, definition(config, tokenizer.digest(), task))
        return weights
    state = folder / "state.pt"
    if (folder / "model.safetensors").exists() or not state.exists():
        return {}
    return weights_of(read_state(state, mmap=True), "teacher")


def untrained_parts(path: str | Path) -> tuple[str, ...]:
    """Parts of a run's model that its training never reached, see `save`.

    Call it after `read_run`, which checks the files.
    """
    folder = run_folder(path)
    if not (folder / "model.safetensors").exists():              # in training
        return tuple(read_state(folder / "state.pt", mmap=True)["untrained"])
    return tuple(read_metadata(folder / "model.safetensors").get("untrained", ()))


def require_trained(path: str | Path, untrained: Collection[str], parts: Collection[str]) -> None:
    """Raises ValueError if one of `parts` was never trained: the answers would be noise.

    untrained: the run's `untrained_parts`
    """
    missing = [part for part in parts if part in untrained]
    if missing:
        raise ValueError(f"{path} never trained its {' and '.join(missing)}: its task has no loss "
                         "for that, or ended before that loss began, and the answer would be "
                         "noise; name a run that trained it")


def part_of(name: str) -> str:
    """The part of an ALBEF, or of a task's model, that a weight belongs to."""
    return name.removeprefix("albef.").partition(".")[0]


def resize_weights(weights: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The weights with the image's position embeddings resized to config.image_size."""
    weights = dict(weights)
    for name in POSITIONS:
        if name in weights:
            weights[name] = resize_positions(weights[name], config.grid)
    return weights


def fit_weights(module: nn.Module, weights: dict[str, Tensor], source: str | Path,
                lacks: Collection[str] = ()) -> tuple[str, ...]:
    """load_state_dict, strict: -> the names of weights that are absent and stay as they are.

    source: where the weights come from, for the message
    lacks: parts that may be absent as a whole; for the file of a task see tasks.base.Task
    Raises ValueError that lists what does not fit.
    """
    state_dict = module.state_dict()
    absent = set(lacks) - set(map(part_of, weights))
    initial = {name: value for name, value in state_dict.items() if part_of(name) in absent}
    weights = weights | initial
    misfits = [f"missing {name}" for name in state_dict if name not in weights]
    misfits += [f"unexpected {name}" for name in weights if name not in state_dict]
    for name in state_dict:
        if name in weights and weights[name].shape != state_dict[name].shape:
            shape = tuple(weights[name].shape)
            misfits.append(f"{name} is {shape}, wanted {tuple(state_dict[name].shape)}")
    if misfits:
        listing = "; ".join(misfits[:MISFITS])
        if len(misfits) > MISFITS:
            listing += f"; and {len(misfits) - MISFITS} more"
        raise ValueError(f"{source} does not fit the model: {listing}. It has other parts or sizes "
                         "than config.json says: copy it again; if you trained it with an "
                         "encoder of your own, minalbef.load(RUN, build=...) builds the same, as "
                         "docs/extend.md shows")
    module.load_state_dict(weights)
    return tuple(initial)
