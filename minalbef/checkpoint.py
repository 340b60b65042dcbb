"""Save, load, resume: nothing half-written, nothing executed on loading."""
import hashlib
import json
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

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

REMOVE = "remove it to begin again"
POSITIONS = ("image_encoder.pos_embed", "albef.image_encoder.pos_embed")
MISFITS = 4                           # weights that are named where a file does not fit its model
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
    """
    albef: Any = getattr(model, "albef", model)                  # has a config
    modules = {"model": model, "teacher": teacher}
    save_weights(path, albef.config, tokenizer, task,
                 {name: module.state_dict() for name, module in modules.items() if module is not None}, untrained)


def save_weights(path: str | Path, config: Config, tokenizer: Tokenizer, task: str,
                 files: dict[str, dict[str, Tensor]], untrained: Collection[str] = ()) -> None:
    """A run folder out of weights by file ("model", "teacher"). Tied weights are written once for each name.

    untrained: see `save`; the metadata of the files list it, so that it goes where the weights go
    """
    metadata = {UNTRAINED: " ".join(untrained)} if untrained else None
    folder = Path(path)
    for stale in {TRAINED_ON, "teacher.safetensors", "queue.safetensors"} - {f"{name}.safetensors" for name in files}:
        (folder / stale).unlink(missing_ok=True)                 # of other weights; the caller writes TRAINED_ON
    text = json.dumps({"task": task, **config.to_dict()}, indent=1)
    write_atomically(folder / "config.json", lambda p: p.write_text(text + "\n", encoding="utf-8"))
    write_atomically(folder / "tokenizer.json", lambda p: tokenizer.save(p))
    for name, weights in files.items():
        # copies: safetensors refuses tensors that share memory, as tied weights of a user's model do
        weights = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in weights.items()}
        write_atomically(folder / f"{name}.safetensors", lambda p: save_file(weights, p, metadata))


def save_state(folder: Path, task: nn.Module, optimiser: torch.optim.Optimizer, step: int,
               config: Config, origin: Mapping[str, str] | None = None) -> None:
    """All that a resume needs, in one file: model and optimiser always come from the same step.

    origin: what the run is made of besides its settings, by name, such as its tokenizer's hash
    """
    state = {"step": step, "config": config.to_dict(), "task": task.state_dict(),
             "optimiser": optimiser.state_dict(), "origin": dict(origin or {})}
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
    steps = configs.from_dict(state["config"], path).steps       # or it is of a later version
    if not 0 <= state["step"] <= steps:
        raise ValueError(f"{path} cannot be read (step {state['step']} is none of its {steps}); "
                         f"{REMOVE}")
    return state


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """A hash of weights and their names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        digest.update(name.encode("utf-8"))
        flat = weights[name].detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_run(path: str | Path) -> tuple[Config, str, Tokenizer, dict[str, Tensor]]:
    """A run folder's config, task, tokenizer and weights, under the names of the task's model.

    Raises ValueError that says what is missing or damaged, and what to do.
    """
    folder = run_folder(path)
    missing = [name for name in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / name).exists()]
    if missing:
        raise ValueError(f"{folder} is no run folder: it lacks {', '.join(missing)}; `minalbef demo` makes runs/demo")
    with explain(f"{folder} is damaged", "copy or train it again", OSError, SafetensorError, ValueError):
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("config.json holds no settings by name")
        task = str(values.pop("task", "pretrain"))
        tokenizer, weights = Tokenizer.load(folder / "tokenizer.json"), load_file(folder / "model.safetensors")
    config = configs.from_dict(values, folder / "config.json")
    if broken := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise ValueError(f"{folder / 'model.safetensors'} is of no use: {broken[0]} is not finite, and is one of "
                         f"{len(broken)} such tensors; train it again with a lower lr, or copy it again")
    return config, task, tokenizer, weights


def untrained_parts(path: str | Path) -> tuple[str, ...]:
    """Parts of a run's model that its training never reached, see `save`. Call it after `read_run`, which checks."""
    with safe_open(run_folder(path) / "model.safetensors", "pt") as file:
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

    lacks: parts that may be absent, as a whole; of a task's file see tasks.base.TASKS
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
                         "sizes than config.json says: copy it again; if you trained it with an image encoder of your "
                         "own, minalbef.load(RUN, build=...) builds the same, as docs/extend.md shows")
    module.load_state_dict(weights)
    return tuple(kept)
