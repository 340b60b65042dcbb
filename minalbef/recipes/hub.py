"""A run on Hugging Face's hub: its folder with a model card; save_pretrained, from_pretrained, push_to_hub."""
import shutil
from pathlib import Path
from typing import Any

from minalbef import checkpoint
from minalbef.recipes import evaluate
from minalbef.recipes.report import read_report
from minalbef.run import Run, load
from minalbef.scenes.exam import tables
from minalbef.writing import write_atomically

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin
except ImportError:
    raise ImportError("the hub's client is not installed: pip install 'minalbef[hub]' brings it") from None

FILES = ("config.json", "tokenizer.json", "model.safetensors", "report.json", checkpoint.TRAINED_ON)
CARD = """---
{{ card_data }}
---

# {{ run.config.name }}: ALBEF, {{ run.task }}

An [ALBEF](https://arxiv.org/abs/2107.07651) (Li et al. 2021), trained and read by minalbef:
`pip install 'minalbef[hub]'`, then `minalbef.load("hf://OWNER/NAME")`, with the names of this page.

```
{{ summary }}
```
{% for report in reports %}
## Figures{% if report.set %} on {{ report.set }}/{{ report.split }}{% endif %}

`{{ report.command }}`, {{ report.date }}, {{ report.device }}, commit {{ report.commit }}, seed {{ report.seed }}

```
{{ figures(report) }}
```
{% else %}
It has not been evaluated.
{% endfor %}
Licence of the weights: {{ license }}. They know what they were trained on, and nothing else.
"""


class HubRun(Run, ModelHubMixin, library_name="minalbef", tags=["albef", "image-text-matching"]):
    """A Run with the mixin's methods: `HubRun(run).push_to_hub("OWNER/NAME")`, and back by `load("hf://OWNER/NAME")`.

    What is saved is the run's folder, of which other weights in memory are not part: `minalbef.save` writes those.
    The card has the folder's figures; model_card_kwargs={"license": "cc-by-4.0"}: of the weights, by default MIT.
    """

    _hub_mixin_config: dict = {}      # the folder has its own; from arguments the mixin would make one with the weights

    def __init__(self, run: Run):
        vars(self).update(vars(run))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the folder and its card. Raises ValueError for the run's own, whose config.json the mixin removes."""
        if Path(save_directory).resolve() == self.path.resolve():
            raise ValueError(f"{save_directory} is the run's own folder; name another one to save it to")
        return super().save_pretrained(save_directory, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        for source in (self.path / name for name in FILES):
            if source.exists():
                write_atomically(save_directory / source.name, lambda path: shutil.copyfile(source, path))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, revision: str | None, cache_dir: str | Path | None,
                         force_download: bool, local_files_only: bool, token: str | bool | None, **_: Any) -> "HubRun":
        return cls(load(model_id if Path(model_id).is_dir() else checkpoint.fetch_run(
            model_id, revision=revision, cache_dir=cache_dir, force_download=force_download,
            local_files_only=local_files_only, token=token)))

    def generate_model_card(self, license: str = "mit") -> ModelCard:
        """README.md: what the run is, and the figures of its reports, each with command, date and hardware."""
        sets = [read_report(path.parent) for path in sorted(self.path.glob("*/report.json"))]
        whole = [read_report(self.path)] if (self.path / "report.json").exists() else []
        data = ModelCardData(**self._hub_mixin_info.model_card_data.to_dict() | {"license": license})
        return ModelCard.from_template(data, template_str=CARD, run=self, figures=figures,
                                       summary=self.summary().replace(f" from {self.path}", ""),
                                       reports=whole + [report for report in sets if "set" in report])


def figures(report: dict) -> str:
    """A report's figures in words: of a prepared set, of pretraining, or of a task on the embedded scenes."""
    if "set" in report:
        return evaluate.table(report)
    return (tables.summary_table(report) if report["task"] == "pretrain" else tables.task_table([report])).strip()
