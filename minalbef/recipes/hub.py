"""A run on Hugging Face's hub: its folder and a model card."""
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from minalbef.recipes import evaluate
from minalbef.recipes.report import read_report
from minalbef.scenes import tables
from minalbef.system.checkpoint import TRAINED_ON, WORDS, hash_of_weights, run_folder, settings_text
from minalbef.system.writing import restate, write_atomically, write_text
from minalbef.tasks.run import Run, load

with restate("the hub's client is not installed", "pip install 'minalbef[hub]' brings it",
             ImportError):
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin

FILES = ("tokenizer.json", "model.safetensors", "report.json", TRAINED_ON, WORDS)
CARD = """---
{{ card_data }}
---

# {{ run.config.name }}: ALBEF, {{ run.task }}

An [ALBEF](https://arxiv.org/abs/2107.07651) (Li et al. 2021), for minalbef:
`minalbef.load("hf://OWNER/NAME")`

```
{{ summary }}
```
{% for report in reports %}
## Figures{% if report.set %} on {{ report.set }}/{{ report.split }}{% endif %}

`{{ report.command }}`, {{ report.date }}, {{ report.device }}, commit {{ report.commit }},
seed {{ report.seed }}\
{%- if "scenes_seed" in report %}, test scenes of seed {{ report.scenes_seed }}{% endif %}

```
{{ figures(report) }}
```
{% else %}
It has not been evaluated.
{% endfor %}
Licence of the weights: {{ license }}.
"""


class HubRun(Run, ModelHubMixin, library_name="minalbef", tags=["albef", "image-text-matching"]):
    """A Run with the mixin's save_pretrained, from_pretrained and push_to_hub.

    `HubRun(run).push_to_hub("OWNER/NAME")`, and `load("hf://OWNER/NAME")` brings it back.
    It saves the run's folder, not weights that you changed in memory: `minalbef.save` writes those.
    The card has the folder's figures. model_card_kwargs={"license": "cc-by-4.0"}: the licence of
    the weights, by default MIT.
    """

    # the folder has its own; the mixin would write one, weights and all, from the arguments
    _hub_mixin_config: dict = {}

    def __init__(self, run: Run):
        vars(self).update(vars(run))

    def _save_pretrained(self, save_directory: Path) -> None:
        if self.step is not None:
            raise ValueError(f"{self.path} is not trained to the end and has no model.safetensors; "
                             "train it further, or write these weights into a new folder, by "
                             "minalbef.save")
        text = settings_text(self.config, self.tokenizer, self.task)     # the mixin removed it
        write_text(save_directory / "config.json", text)
        for name in FILES:
            source = self.path / name
            if source.exists():
                write_atomically(save_directory / name, partial(shutil.copyfile, source))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, task: str = "", **download: Any) -> "HubRun":
        folder: str | Path = model_id
        if not Path(model_id).is_dir():
            folder = run_folder(f"hf://{model_id}", **download)
        return cls(load(folder))

    def generate_model_card(self, license: str = "mit") -> ModelCard:
        """README.md: what the run is, and its figures, each with command, date and hardware."""
        reports = []
        for path in [*self.path.glob("report.json"), *sorted(self.path.glob("*/report.json"))]:
            report = read_report(path.parent)
            if report.get("weights") != hash_of_weights(self.path):
                raise ValueError(f"{path} is of other weights than {self.path} now has; evaluate "
                                 "the run again, or remove that report")
            if "set" in report or path.parent == self.path:
                reports.append(report)
        about = self._hub_mixin_info.model_card_data.to_dict() | {"license": license}
        return ModelCard.from_template(ModelCardData(**about), template_str=CARD, run=self,
                                       reports=reports, figures=figures,
                                       summary=str(self).replace(f" from {self.path}", ""))


def figures(report: dict) -> str:
    """A report's figures in words: of a prepared set, or of pretraining or a task on scenes."""
    if "set" in report:
        return evaluate.table(report)
    if report["task"] == "pretrain":
        return tables.summary_table(report).strip()
    return tables.task_table([report]).strip()
