"""What an ablation asks of a model, answer by answer, and what it sees of it as it learns."""
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from emojiscenes.scenes import Drawn, Scenes, truth
from minalbef import checkpoint
from minalbef.evaluation.intervals import Clusters
from minalbef.recipes import finetune
from minalbef.run import Run
from minalbef.scenes import evaluation, jobs, questions, words
from minalbef.tasks.pretrain import Pretrain
from minalbef.tasks.table import load_model
from minalbef.tokenizer import Tokenizer

FIRST = 2000                          # test seed of a run's questions, plus its own: new questions with each seed
LOOK = dict(split="validation", seed=1401)
DOWNSTREAM = ("entailment", "vqa", "nlvr2", "grounding")
TASK_STEPS = 300
BUDGET = ("image_size=48", "epochs=3", f"epoch={TASK_STEPS * 64 // 3}")
FALSE = ("wrong", "foreign")          # spoilt captions that are not true; one with words missing still is


def digits(values: Tensor | Clusters) -> str:
    """Each answer in a digit, 0 wrong to 9 right."""
    values = values.values if isinstance(values, Clusters) else values
    return "".join(str(round(9 * value)) for value in values.flatten().tolist())


def outcomes(run: Run, seed: int) -> dict[str, str]:
    """Answers by question: retrieval, ITM alone among ten, families, one change, masked objects and pointing."""
    test = dict(split="test", seed=FIRST + seed)
    drawn, families = questions.plain(run, **test, count=300), questions.families(run, **test, count=100)
    def hits(some: Sequence[Drawn], block: int, name: str) -> Tensor:
        found = evaluation.hits(evaluation.compete(run, list(some), block), 0.0)
        return torch.stack([found[f"{name}_i2t_r1"].flatten(), found[f"{name}_t2i_r1"].flatten()])
    found = {"itc": hits(drawn, 300, "itc"), "both": hits(drawn, 300, "rerank"), "itm": hits(drawn, 10, "rerank")}
    four = hits(families, 4, "rerank")
    for kind in dict.fromkeys(one.kind for one in families):
        found[f"families {kind}"] = four[:, [one.kind == kind for one in families]]
    foils = questions.foils(run, **test, count=100)
    found |= {f"change {kind}": right for kind, right in evaluation.one_change(run, foils).items()}
    found["change relation by itc"] = evaluation.one_change(run, foils, questions.similarity)["relation"]
    found["words object"] = evaluation.masked_words(run, drawn[:100])["mlm_accuracy"]["object"]
    found |= {name: right for name, right in words.pointing_game(run, drawn).items() if "chance" not in name}
    return {name: digits(values) for name, values in found.items()}


def outcomes_of_tasks(task: Pretrain, tokenizer: Tokenizer, folder: Path, alpha: float, seed: int) -> dict[str, str]:
    """Answers of the model fine-tuned for each of DOWNSTREAM, with that share of the teacher's targets."""
    checkpoint.save(folder / "whole", task.student, tokenizer, task.teacher)
    found = {}
    for name in DOWNSTREAM:
        config = finetune.settings(name, folder / "whole", (*BUDGET, f"alpha={alpha}"))
        finetune.finetune(name, folder / "whole", folder / name, config, assign=64 * TASK_STEPS, quiet=True)
        draw = jobs.draws(config, "test", FIRST + seed, 0.3)
        samples = jobs.examine(name, *load_model(name, folder / name)[:2], draw)
        found[name] = digits(samples["pointing" if name == "grounding" else "accuracy"])
    return found


@torch.no_grad()
def look(task: Pretrain, tokenizer: Tokenizer, scenes: Scenes, step: int) -> dict[str, float]:
    """As it learns: how often ITM is right, by kind of change, and what the teacher believes of the first captions.

    teacher_right, of captions that are true, teacher_right_spoilt, of false ones: its probability for texts that are
    true of the picture, among 256; teacher_own_spoilt: for the false caption itself
    """
    run = Run(task.student, tokenizer, task.config, "")
    found = {kind: right.mean().item() for kind, right in evaluation.one_change(
        run, questions.foils(run, **LOOK, count=50)).items()}
    drawn = [scenes.draw(i) for i in range(256)]
    spoilt = torch.tensor([one.noise in FALSE for one in drawn])
    true = torch.from_numpy(truth(drawn)).T                                       # (picture, caption)
    true[spoilt, spoilt] = False                 # `truth` counts a caption as true of its own picture
    encoded = questions.encode(replace(run, model=task.teacher), [one.scene for one in drawn],
                               [one.text for one in drawn])
    sim = task.teacher.image_feature(encoded.image) @ task.teacher.text_feature(encoded.text).T
    trust = (sim / task.student.temperature).softmax(1).cpu()
    right = (trust * true).sum(1)
    found["teacher_right"] = right[~spoilt].mean().item()
    if spoilt.any():
        found |= {"teacher_right_spoilt": right[spoilt].mean().item(),
                  "teacher_own_spoilt": trust.diagonal()[spoilt].mean().item()}
    return {"step": step} | {name: round(value, 4) for name, value in found.items()}
