"""Save, load and resume a run: nothing is half-written, and loading executes no code.

A run folder has config.json and tokenizer.json, model.safetensors once training has ended (and
teacher.safetensors, where there is a teacher), and state.pt, from which training resumes.
"""
import hashlib
import importlib
import json
import logging
import pickle
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
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
COPY_AGAIN = "copy it or train it again"
POSITIONS = ("image_encoder.pos_embed", "albef.image_encoder.pos_embed")
# the settings that `definition` has, by name
DEFAULTS = {name: getattr(Config(), name)
            for name in (*(item.name for item in fields(ModelConfig)), "upright")}
WORDS = "words.json"                  # words of training captions, written by recipes.vocabulary
TRAINED_ON = "trained_on.json"        # the public splits of training, written by recipes.provenance
SHIPPED = ("tiny", "tiny-paper", "tiny/start", "pictures")     # runs that come with the package
# the one key of the weights' metadata (safetensors writes several in random order), whose JSON has
# "definition", see there, and "untrained", parts at random initialisation
METADATA = "minalbef"
MISFITS = 4                           # weights that an error names if a file doesn't fit its model
STATE = {"step": int, "config": dict, "task": dict, "optimiser": dict, "origin": dict,
         "untrained": list}           # what state.pt holds


def run_folder(path: str | Path, **download: Any) -> Path:
    """The folder of a run.

    "tiny", "tiny-paper" and "pictures" are shipped, and "tiny/start", a trained image encoder to
    begin from, unless a folder has that name; hf://OWNER/NAME is downloaded.
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


# save


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
        if weights and digest_of(weights) != digest_of(model.state_dict()):
            raise ValueError(f"{path} holds a run in training, whose state.pt has other weights; "
                             "name another folder, or remove that one first")
    albef: Any = getattr(model, "albef", model)                  # has a config
    files = {"model": model.state_dict()}
    if teacher is not None:
        files["teacher"] = teacher.state_dict()
    from_start: Collection[str] = getattr(model, "from_start", ())   # set by the recipes
    save_weights(path, albef.config, tokenizer, task, files, untrained, from_start)


def save_weights(path: str | Path, config: Config, tokenizer: Tokenizer, task: str,
                 files: dict[str, dict[str, Tensor]], untrained: Collection[str] = (),
                 from_start: Collection[str] = ()) -> None:
    """Write a run folder from state dicts. Tied weights are written under each of their names.

    files: state dicts by file name, "model" and "teacher"
    untrained: see `save`
    from_start: weights that are as in what the run started from, and are left out: the run is thin,
        and its metadata has a hash of them, see weights.starts
    The files' metadata has `untrained`, so that copies of the weights keep it, and `definition`: a
    folder whose config.json or tokenizer.json says otherwise is not read.
    """
    folder = Path(path)
    for name in {TRAINED_ON, WORDS, "teacher.safetensors", "queue.safetensors"}:
        if name.removesuffix(".safetensors") not in files:
            (folder / name).unlink(missing_ok=True)              # of other weights
    save_settings(folder, config, tokenizer, task)
    about = {"definition": definition(config, tokenizer.digest(), task),
             "untrained": list(untrained)}
    left_out = set(from_start)
    if from_start:
        if task == "pretrain":       # what nothing has trained is random again, and refused there
            left_out |= {name for name in files["model"] if part_of(name) in untrained}
        about["from_start"] = digest_of({name: files["model"][name] for name in from_start})
    metadata = {METADATA: json.dumps(about)}
    for name, state_dict in files.items():
        weights = {}
        for key, value in state_dict.items():
            if key in left_out:
                continue
            # a copy: safetensors refuses tensors that share memory, as tied weights do
            weights[key] = value.detach().to("cpu", copy=True).contiguous()
        file = folder / f"{name}.safetensors"
        before = hash_file(file) if file.is_file() else ""
        write_atomically(file, lambda temporary: save_file(weights, temporary, metadata))
        if name == "model" and hash_file(file) != before:
            remove_reports(folder)


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
    for name, default in DEFAULTS.items():
        if getattr(config, name) != default:
            values[name] = getattr(config, name)
    return values


def remove_reports(folder: Path) -> None:
    """Remove the reports of a run whose weights are replaced, also those in folders by set."""
    stale = [folder / "report.json", folder / "report.html"]
    for path in folder.glob("*/report.json"):
        if not (path.parent / "model.safetensors").exists():     # else that folder is another run
            stale.append(path)
    for path in filter(Path.exists, stale):
        path.unlink()
        LOG.info("removed %s, made with the old weights", path)


# load


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
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    if is_in_training(folder) and not (folder / "state.pt").exists():
        missing.append("model.safetensors (during training: state.pt, every save_every steps)")
    if missing:
        raise ValueError(f"{folder} is not a run folder: it lacks {', '.join(missing)}; wait for "
                         "it, or name another folder: `minalbef demo` makes runs/demo")
    config, task, tokenizer = read_settings(folder)
    weights, step = read_weights(folder, "model", config, task, tokenizer.digest())
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"{folder} cannot be used: its weight {name} is not finite; train it "
                             "again with a lower lr, or copy it again")
    return StoredRun(config, task, tokenizer, weights, step)


def read_teacher(path: str | Path) -> dict[str, Tensor]:
    """The weights of a run's teacher, also during training; {} if it has none."""
    folder = run_folder(path)
    if not is_in_training(folder) and not (folder / "teacher.safetensors").exists():
        return {}
    config, task, tokenizer = read_settings(folder)
    return read_weights(folder, "teacher", config, task, tokenizer.digest())[0]


def is_in_training(folder: Path) -> bool:
    """Whether a run's weights are in its state.pt."""
    return not (folder / "model.safetensors").exists()


def read_settings(folder: Path) -> tuple[Config, str, Tokenizer]:
    """Config, task and tokenizer of a run."""
    file = folder / "config.json"
    values = read_json(file, COPY_AGAIN, lambda value: check_fields(value, {}))
    task = str(values.pop("task", "pretrain"))
    values.pop("tokenizer", None)                # its hash, which the weights have, too
    return settings.from_dict(values, file), task, Tokenizer.load(folder / "tokenizer.json")


def read_weights(folder: Path, part: str, config: Config, task: str, tokenizer: str
                 ) -> tuple[dict[str, Tensor], int | None]:
    """A run's "model" or "teacher": -> weights, and the step if training hasn't ended.

    config, task, tokenizer: by config.json, and tokenizer.json's digest
    Raises ValueError for damaged weights, and for those that were written under another one.
    """
    step = None
    meaning = definition(config, tokenizer, task)
    if is_in_training(folder):
        file = folder / "state.pt"
        state = read_state(file, mmap=True)
        weights = weights_of(state, "student" if part == "model" else part)
        step = state["step"]
        tokenizer = state["origin"].get("tokenizer", tokenizer)
        trained = definition(settings.from_dict(state["config"], file), tokenizer, task)
    else:
        file = folder / f"{part}.safetensors"
        about = read_metadata(file)
        trained = about["definition"]
        with restate(f"{file} is damaged", COPY_AGAIN, *MALFORMED):
            weights = load_file(file)
    if difference := settings.differences(DEFAULTS | trained, DEFAULTS | meaning):
        raise ValueError(f"{file} was trained with other settings than its folder now has "
                         f"({difference}). Restore or copy config.json and tokenizer.json; a "
                         "setting changes by training with it, or by minalbef.save")
    if step is None and "from_start" in about:
        # by name, since weights stand above this module and import it
        starts = importlib.import_module("minalbef.weights.starts")
        untrained = about["untrained"] if task == "pretrain" else ()
        weights |= starts.restore(config, weights, untrained, about["from_start"], file)
    return weights, step


def read_metadata(file: Path) -> dict[str, Any]:
    """The "definition" and "untrained" of a file of weights. Raises ValueError if it has none."""
    with restate(f"{file} is damaged", COPY_AGAIN, *MALFORMED):
        require_file(file)
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(METADATA)
        if text is not None:
            about = check_fields(json.loads(text), {"definition": dict})
            check_texts(about.get("untrained"))
            return about
    raise ValueError(f"{file} doesn't say with which settings it was trained, as files of other "
                     "programs don't: load the weights into an ALBEF and write it by minalbef.save")


def warn_unfinished(path: str | Path, config: Config, step: int | None) -> None:
    """Log a warning if training hasn't ended, with the step of the weights."""
    if step is not None:
        LOG.warning("%s is not trained to the end: these are its weights after step %s of %s",
                    path, f"{step:,}", f"{config.steps:,}")


def untrained_parts(path: str | Path) -> tuple[str, ...]:
    """Parts of a run's model that its training never reached, see `save`."""
    folder = run_folder(path)
    if is_in_training(folder):
        return tuple(read_state(folder / "state.pt", mmap=True)["untrained"])
    return tuple(read_metadata(folder / "model.safetensors")["untrained"])


def require_trained(path: str | Path, untrained: Collection[str], parts: Collection[str]) -> None:
    """Raises ValueError if one of `parts` was never trained: the answers would be noise.

    untrained: the run's `untrained_parts`
    """
    missing = [part for part in parts if part in untrained]
    if missing:
        raise ValueError(f"{path} never trained its {' and '.join(missing)}: its task has no loss "
                         "for that, or ended before that loss began, and the answer would be "
                         "noise; name a run that trained it")


def hash_of_weights(path: str | Path) -> str:
    """A hash of a run's file of weights, and so of the settings that are bound to them.

    Of a run in training it's that of the last checkpoint. Raises ValueError if there is no file.
    """
    folder = run_folder(path)
    with restate(f"{folder} has no weights", COPY_AGAIN, OSError, ValueError):
        return hash_file(folder / ("state.pt" if is_in_training(folder) else "model.safetensors"))


def hash_file(file: Path) -> str:
    """A hash of a file's bytes."""
    require_file(file)
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


# resume


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
            precision = read_settings(folder)[0].precision
    return replace(config, precision=precision)


def save_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, step: int,
               config: Config, origin: Mapping[str, str] | None = None,
               untrained: Collection[str] = ()) -> None:
    """Write all that a resume needs to one file: model and optimiser come from the same step.

    origin: what the run starts from besides its settings, by name, such as its tokenizer's hash
    untrained: see `save`, up to this step
    """
    state = {
        "step": step,
        "config": config.to_dict(),
        "task": task.state_dict(),
        "optimiser": optimiser.state_dict(),
        "origin": dict(origin or {}),
        "untrained": list(untrained),
    }
    write_atomically(folder / "state.pt", lambda p: torch.save(state, p))


def load_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, config: Config,
               origin: Mapping[str, str] | None = None) -> int:
    """Resume from the file of `save_state`, in place: -> the next step, 0 if there is no file.

    Raises ValueError if the file is damaged, or was made with other settings or another origin.
    """
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state = read_state(path)
    problem = ""
    if difference := settings.other_settings(state["config"], config):
        problem = f"with other settings ({difference})"
    elif origin and state["origin"]:             # a loop of your own may have none
        there = state["origin"]
        difference = (settings.differences(there, dict(origin))
                      or settings.differences({"order": list(there)}, {"order": list(origin)}))
        if difference:
            problem = f"that began from something else ({difference})"
    if problem:
        raise ValueError(f"{folder} holds a run {problem}; go on with what it began with, or "
                         "choose another folder with --run")
    with restate(f"{path} cannot be read", "remove it to begin again", *MALFORMED, RuntimeError):
        task.load_state_dict(state["task"])
        optimiser.load_state_dict(state["optimiser"])
        for parameter, moments in optimiser.state.items():
            for value in moments.values():
                if value.ndim and value.shape != parameter.shape:
                    raise ValueError("the optimiser's state has other shapes than the weights")
    return state["step"]


def read_state(path: Path, mmap: bool = False) -> dict[str, Any]:
    """The file of `save_state`. Raises ValueError if it is cut off, damaged or another file.

    mmap: tensors stay in the file until they are used
    """
    errors = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, *MALFORMED)
    with restate(f"{path} cannot be read", "remove it to begin again", *errors):
        require_file(path)
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():        # torch doesn't verify the checksums that it writes
                raise ValueError(f"bytes of {damaged} in it have changed")
        try:
            state = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
        except (pickle.UnpicklingError, RuntimeError) as error:
            # torch's message would advise letting the file run its code
            raise ValueError("it holds more than tensors and numbers") from error
        check_fields(state, STATE)
        check_texts(state["untrained"])
        steps = settings.from_dict(state["config"], path).steps
        if not 0 <= state["step"] <= steps:
            raise ValueError(f"step {state['step']} is not one of its {steps}")
    return state


# weights by name


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
        raise ValueError(f"{source} does not fit the model: {listing}. Parts and sizes must be "
                         "those of the settings: set the options that name them, such as "
                         "text_width, text_depth or image_encoder; of a run, restore its "
                         "config.json; if you trained it with an encoder of your own, "
                         "minalbef.load(RUN, build=...) builds the same, as docs/extend.md shows")
    module.load_state_dict(weights)
    return tuple(initial)
