"""What an ablation asks of a model, answer by answer, and what it measures while the model learns."""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from emojiscenes.scenes import Drawn, Scenes, truth
from minalbef.evaluation.intervals import Clusters
from minalbef.pretrain import Pretrain
from minalbef.recipes import finetune
from minalbef.scenes import evaluation, questions, task_problems
from minalbef.system import checkpoint
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.run import Run
from minalbef.tasks.table import load_model

TEST_SEED = 2000                      # of a run's questions, plus the run's seed: other questions with each
LOOK = dict(split="validation", seed=1401)
DOWNSTREAM = ("entailment", "vqa", "nlvr2", "grounding")
TASK_STEPS = 300
BUDGET = ("image_size=48", "epochs=3", f"epoch={TASK_STEPS * 64 // 3}")
FALSE = ("wrong", "foreign")          # spoilt captions that are false; one with words missing is true


def digits(values: Tensor | Clusters) -> str:
    """Each answer in a digit, 0 wrong to 9 right."""
    if isinstance(values, Clusters):
        values = values.values
    return "".join(str(round(9 * value)) for value in values.flatten().tolist())


def recall_at_1(run: Run, pairs: Sequence[Drawn], block: int, name: str) -> Tensor:
    """Whether the right one of a block is ranked first, image to text and back: -> (2, p).

    name: "itc", or "rerank" for ITC's ten best re-ranked by ITM
    """
    recalls = evaluation.recalls(evaluation.compete(run, list(pairs), block), 0.0)
    return torch.stack([recalls[f"{name}_i2t_r1"], recalls[f"{name}_t2i_r1"]])


def outcomes(run: Run, seed: int) -> dict[str, str]:
    """A pretrained model's answers by question, in digits.

    itc, both: retrieval among 300, by ITC and re-ranked. itm: among ten, by ITM alone
    families KIND: among four scenes of the same objects. change KIND: ITM on one-change foils
    words object: masked objects. pointing_itm, pointing_mlm: the pointing game
    """
    test = dict(split="test", seed=TEST_SEED + seed)
    plain = questions.plain(run, **test, count=300)
    families = questions.families(run, **test, count=100)
    answers = {"itc": recall_at_1(run, plain, 300, "itc"),
               "both": recall_at_1(run, plain, 300, "rerank"),
               "itm": recall_at_1(run, plain, 10, "rerank")}
    in_family = recall_at_1(run, families, 4, "rerank")
    for kind in dict.fromkeys(pair.kind for pair in families):
        answers[f"families {kind}"] = in_family[:, [pair.kind == kind for pair in families]]
    foils = questions.foils(run, **test, count=100)
    change = evaluation.one_change(run, foils)
    for kind, right in change["itm"].items():
        answers[f"change {kind}"] = right
    answers["change relation by itc"] = change["itc"]["relation"]
    masked_words = evaluation.masked_words(run, plain[:100])
    answers["words object"] = masked_words["mlm_accuracy"]["object"]
    for name, right in evaluation.pointing_game(run, plain).items():
        if "chance" not in name:
            answers[name] = right
    return {name: digits(right) for name, right in answers.items()}


def outcomes_of_tasks(task: Pretrain, tokenizer: Tokenizer, folder: Path, alpha: float, seed: int
                      ) -> dict[str, str]:
    """Answers of the model fine-tuned for each of DOWNSTREAM.

    alpha: weight of the teacher's soft targets in fine-tuning
    """
    start = folder / "whole"
    checkpoint.save(start, task.student, tokenizer, task.teacher)
    answers = {}
    for name in DOWNSTREAM:
        config = finetune.settings(name, start, (*BUDGET, f"alpha={alpha}"))
        finetune.finetune(name, start, folder / name, config, assign=64 * TASK_STEPS, quiet=True)
        draw = task_problems.draws(config, "test", TEST_SEED + seed, 0.3)
        model, tuned_tokenizer, _ = load_model(name, folder / name)
        samples = task_problems.evaluate_problems(name, model, tuned_tokenizer, draw).samples
        answers[name] = digits(samples["pointing" if name == "grounding" else "accuracy"])
    return answers


@torch.no_grad()
def look(task: Pretrain, tokenizer: Tokenizer, scenes: Scenes, step: int) -> dict[str, float]:
    """What a model can do while it learns: ITM's accuracy by kind of change, and `teacher_trust`."""
    run = Run(task.student, tokenizer, task.config, "")
    foils = questions.foils(run, **LOOK, count=50)
    figures: dict[str, float] = {"step": step}
    for kind, right in evaluation.one_change(run, foils)["itm"].items():
        figures[kind] = round(right.mean().item(), 4)
    trust = teacher_trust(task, tokenizer, list(map(scenes.draw, range(256))))
    for name, probability in trust.items():
        figures[name] = round(probability, 4)
    return figures


def teacher_trust(task: Pretrain, tokenizer: Tokenizer, pairs: Sequence[Drawn]
                  ) -> dict[str, float]:
    """What probability the teacher gives to captions, among those of all pairs.

    teacher_right: to captions that are true of the image, where its own is true
    teacher_right_spoilt: the same where its own is false
    teacher_own_spoilt: to the false caption itself
    """
    spoilt = torch.tensor([pair.noise in FALSE for pair in pairs])
    true = torch.from_numpy(truth(pairs)).T                              # (image, caption)
    true[spoilt, spoilt] = False                 # `truth` counts a caption as true of its own image
    run = Run(task.teacher, tokenizer, task.config, "")
    scenes = [pair.scene for pair in pairs]
    encoded = questions.encode(run, scenes, [pair.text for pair in pairs])
    image = task.teacher.image_feature(encoded.image)
    text = task.teacher.text_feature(encoded.text, encoded.keep)
    trust = (image @ text.T / task.student.temperature).softmax(1).cpu()
    right = (trust * true).sum(1)
    figures = {"teacher_right": right[~spoilt].mean().item()}
    if spoilt.any():
        figures["teacher_right_spoilt"] = right[spoilt].mean().item()
        figures["teacher_own_spoilt"] = trust.diagonal()[spoilt].mean().item()
    return figures
