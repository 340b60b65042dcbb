"""Assemble an ALBEF of the parts that chapters kept, and of the package's where there are none."""
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.fast.pretrain import in_form
from minalbef.fusion import Images, KeysValues
from minalbef.losses import mlm_loss
from minalbef.pretrain import Keys
from minalbef.recipes.keep import FOLDER, count_lines, run_module
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.text import TextEncoder

# the chapter that keeps a part, and what it is
PARTS = {
    "image": ("02", "image encoder"),
    "text": ("03", "text encoder"),
    "itc": ("04", "ITC's loss"),
    "queue": ("04", "queue"),
    "teacher": ("05", "teacher"),
    "fusion": ("06", "fusion"),
    "itm": ("06", "ITM's loss, hard negatives"),
    "masking": ("07", "masking"),
    "word_head": ("07", "word head"),
    "mlm": ("07", "MLM's loss"),
    "step": ("08", "what changes after a step"),
}
RATE = 0.15                           # at which chapter 07's hide_words masks


def own_parts(folder: Path = FOLDER) -> dict[str, ModuleType]:
    """The parts that chapters kept in a folder, by name."""
    parts = {}
    for part in PARTS:
        path = folder / f"{part}.py"
        if path.exists():
            parts[part] = run_module(part, path.read_text(encoding="utf-8"))
    return parts


def describe_parts(folder: Path = FOLDER) -> str:
    """Whose each part is, a line each, and the number of lines of your own code."""
    own = own_parts(folder)
    lines = []
    total = 0
    for part, (chapter, words) in PARTS.items():
        owner = f"the package's; chapter {chapter} keeps yours"
        if part in own:
            count = count_lines((folder / f"{part}.py").read_text(encoding="utf-8"))
            total += count
            owner = f"yours, {count} lines"
        lines.append(f"{words:26} {owner}")
    return "\n".join([*lines, f"{len(own)} of {len(PARTS)} parts are yours, {total} lines"])


def assemble(config: Config, folder: Path = FOLDER, start: nn.Module | None = None,
             watch: Callable[[], None] | None = None, **options: Any) -> ScenePretrain:
    """Pretraining on scenes with your own parts, which `recipes.pretrain` takes as `make`.

    start: an ALBEF whose weights to begin from; None: those of a new ALBEF of the package's
    watch: called after each step, to draw curves
    options: those of Pretrain
    """
    own = own_parts(folder)
    student = ALBEF(config)
    weights = (start or student).state_dict()
    use_own_modules(student, own)
    student.load_state_dict(weights)

    base: Any = in_form(ScenePretrain, config)

    class YourPretrain(base):
        def after_step(self, carry: Keys) -> None:
            if "step" in own:
                own["step"].after_step(self, carry, self.config)
            else:
                super().after_step(carry)
            if watch is not None:
                watch()

    for name, function in own_functions(own).items():
        setattr(YourPretrain, name, staticmethod(function))
    return YourPretrain(config, student=student, **options)


def use_own_modules(albef: ALBEF, own: Mapping[str, ModuleType]) -> None:
    """Put your encoders, fusion and word head in the place of the package's; names agree."""
    if "image" in own:
        albef.image_encoder = own["image"].ViT(albef.config)
    if "text" in own:
        # what ALBEF asks of a text encoder beside: see albef.check_text_encoder
        methods = {"word_table": TextEncoder.word_table}
        kind = type("TextEncoder", (own["text"].TextEncoder,), methods)
        albef.text_encoder = kind(albef.config)
    if "fusion" in own:
        albef.fusion = make_fusion(own["fusion"], albef.config)      # type: ignore[assignment]
    if "word_head" in own:
        module = own["word_head"]
        kind = type("WordHead", (module.WordHead,), {"forward": module.score_words})
        albef.word_head = kind(albef.config)


def make_fusion(module: ModuleType, config: Config) -> nn.Module:
    """Chapter 06's fusion behind the interface of `Fusion`.

    It computes an image's keys and values in every pass: what its `keys_values` shares is the
    image.
    """
    base: Any = module.Fusion

    class YourFusion(base):
        def keys_values(self, image_tokens: Tensor) -> KeysValues:
            return [(image_tokens, image_tokens)]

        def forward(self, text_tokens: Tensor, keep: Tensor, image_tokens: Images | None,
                    image_keep: Tensor | None = None, pairs: tuple[Tensor, Tensor] | None = None,
                    queries: int | None = None, keys_values: KeysValues | None = None) -> Tensor:
            image = keys_values[0][0] if keys_values else image_tokens
            assert isinstance(image, Tensor) and image_keep is None
            if pairs is not None:
                texts, images = pairs
                text_tokens = text_tokens.index_select(0, texts)
                keep = keep[texts]
                image = image.index_select(0, images)
            return super().forward(text_tokens, keep, image)[:, :queries]

    return YourFusion(config)


def own_functions(own: Mapping[str, ModuleType]) -> dict[str, Callable[..., Any]]:
    """What Pretrain and Distilled compute with, by their names there."""
    functions: dict[str, Callable[..., Any]] = {}
    if "itc" in own:
        functions["itc_loss"] = own["itc"].itc_loss
    if "queue" in own:
        functions["make_queue"] = own["queue"].Ring
    if "teacher" in own:
        functions["make_teacher"] = own["teacher"].make_teacher
        functions["update_teacher"] = own["teacher"].update_teacher
    if "itm" in own:
        functions["itm_loss"] = own["itm"].itm_loss
        functions["hard_negatives"] = own["itm"].hard_negatives
    if "masking" in own:
        functions["mask_words"] = mask_by_rates(own["masking"].hide_words)
    if "mlm" in own:
        functions["mlm_loss"] = mlm_without_teacher(own["mlm"].mlm_loss)
    return functions


def mask_by_rates(hide_words: Callable[..., tuple[Tensor, Tensor]]
                  ) -> Callable[..., tuple[Tensor, Tensor]]:
    """Chapter 07's hide_words, which masks 15%, as masking.mask_words, at a rate for each word."""
    def mask_words(tokens: Tensor, special: tuple[int, ...], mask_id: int, rate: float | Tensor,
                   choose: Tensor, kind: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        others = [i for i in special if i != mask_id]
        choose = choose * (RATE / rate)          # below RATE where it was below the rate
        return hide_words(tokens, (*others, mask_id), choose, kind, words)

    return mask_words


def mlm_without_teacher(own_loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Chapter 07's loss; with a teacher's soft targets the package's."""
    def loss(logits: Tensor, labels: Tensor, count: Tensor | float,
             teacher_logits: Tensor | None = None, alpha: float = 0.0) -> Tensor:
        if alpha:
            return mlm_loss(logits, labels, count, teacher_logits, alpha)
        return own_loss(logits, labels, count)

    return loss
