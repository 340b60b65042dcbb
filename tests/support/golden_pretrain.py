"""Pretraining's figures beside the original's: every value between a batch and its losses, and three steps."""
import contextlib
from dataclasses import replace
from unittest import mock

import torch
from torch import nn

from golden_encoders import CONFIG
from golden_rule import chance, checksum, figures, fill, image, off, original_state
from minalbef.fast.pretrain import FastPretrain
from minalbef.losses import itc_targets
from minalbef.pretrain import Draws, Pretrain, PretrainBatch
from minalbef.train import parameter_groups
from minalbef.weights import key_table

LENGTHS = torch.tensor([12, 7, 9, 5])
CLS = 2
LOGITS = 1e-4                           # the original's float32 and float64 differ by less than 8e-6
LARGE = dict(atol=2e-5, rtol=2e-6)


def task_at_start(temperature: float | None = None, kind: type[Pretrain] = FastPretrain) -> Pretrain:
    """The original's model before its first losses, and its queue, full, its pointer at 12 of 16.

    The original moves the teacher and clamps the temperature before a step, ours after it: so once more at first.
    """
    state = key_table.read(original_state(figures("encoders")["state_keys"]))
    task = kind(CONFIG)
    fill(task.student, state.student)
    fill(task.teacher, state.teacher, absent="match_head|temperature")          # the original's teacher has none
    task.queue.push(state.queue["image"], state.queue["text"], torch.full((16,), -1))
    task.queue.pointer = 12
    if temperature is not None:
        nn.init.constant_(task.student.temperature, temperature)
    task.after_step((torch.zeros(0, 16), torch.zeros(0, 16), torch.zeros(0, dtype=torch.long)))
    return task


def batch_at(step: int) -> PretrainBatch:
    tag = f".step{step}" if step > 1 else ""
    tokens = torch.from_numpy(chance(f"input.text{tag}").integers(5, 64, (4, 12)))
    tokens[:, 0] = CLS
    keep = torch.arange(12) < LENGTHS[:, None]
    return PretrainBatch(image(f"input.image{tag}", 4, 3, 32, 32), tokens * keep, keep, 10 * step + torch.arange(4))


def draws_at(step: int) -> Draws:
    """The recorded chance, said in our terms; negatives are the most likely ones, so all uniforms are alike."""
    tag = f".step{step}" if step > 1 else ""
    choose, mask80, rand50 = (torch.from_numpy(chance(f"mlm.{name}{tag}").random((4, 12)) < share)
                              for name, share in (("select", 0.5), ("mask80", 0.6), ("rand50", 0.5)))
    words = torch.from_numpy(chance(f"mlm.words{tag}").integers(0, 64, (4, 12)))
    kind = torch.where(mask80, 0.4, torch.where(rand50, 0.85, 0.95))
    return Draws(step, 1 - choose.float(), kind, words, *torch.full((2, 4, 4), 0.5))


@contextlib.contextmanager
def overheard():
    """What forward's parts are given and give back: {name: [(arguments, result), ...]}."""
    heard = {name: [] for name in ("itc_loss", "hard_negatives", "mask_words", "itm_loss", "mlm_loss")}
    with contextlib.ExitStack() as stack:
        for name, calls in heard.items():
            def spy(*arguments, real=getattr(Pretrain, name), calls=calls):
                calls.append((arguments, real(*arguments)))
                return calls[-1][1]
            stack.enter_context(mock.patch.object(Pretrain, name, staticmethod(spy)))
        yield heard


def gradients(task: Pretrain) -> dict[str, torch.Tensor]:
    """The student's gradients under the original's names."""
    ours = {name: p.grad for name, p in task.student.named_parameters()}
    return {name: value for name, value in key_table.write(ours, {}, {}, CONFIG.text_depth, True).items()
            if not name.endswith((*key_table.TIED, "position_ids"))}


def noise(name: str) -> bool:
    """An attention's key bias has no gradient but rounding errors, which the optimiser makes as large as any other."""
    return name.endswith(("key.bias", "qkv.bias"))


def checked(state: dict, recorded: dict, atol: float, trained: bool) -> float:
    """The worst sum or norm of the recorded weights, without noise once they are trained, over tolerance."""
    sums = {name: (checksum(state[name]), expected) for name, expected in recorded.items()
            if not (trained and noise(name))}
    assert len(sums) > 100 and all(ours[2] == theirs[2] for ours, theirs in sums.values())
    return max(off(ours[:2], theirs[:2], atol, 2e-6) for ours, theirs in sums.values())


def one_step(task: Pretrain, step: int, alpha: float, recorded: dict) -> tuple[dict[str, float], dict, tuple]:
    """Losses and gradients of a step -> differences, what was overheard, and the carry."""
    with overheard() as heard:
        losses, carry = task(batch_at(step), alpha, draws_at(step))
    total = sum(losses.values())
    total.backward()
    i2t, t2i = (result for _, result in heard["itc_loss"])
    ours = {"loss_ita": losses["itc"], "loss_itm": losses["itm"], "loss_mlm": losses["mlm"], "loss_i2t": i2t,
            "loss_t2i": t2i, "total": total, "temp_after": task.student.temperature}
    differences = {name: off(value, recorded[name], **LARGE) for name, value in ours.items()}
    grads = gradients(task)
    norms = {name: value.norm() for name, value in grads.items()}
    differences["grad_norm_total"] = off(torch.stack(list(norms.values())).norm(), recorded["grad_norm_total"], **LARGE)
    if "grad_norms" in recorded:
        assert norms.keys() == recorded["grad_norms"].keys()
        differences["grad_norms"] = max(off(norms[name], value, **LARGE)
                                        for name, value in recorded["grad_norms"].items())
    teacher = key_table.write({}, task.teacher.state_dict(), {}, CONFIG.text_depth, True)
    differences["teacher"] = checked(teacher, recorded["ema_checksums_after_forward"], 2e-5, step > 1)
    if "neg_image_idx" in recorded:
        texts, images = (index for _, (index, _) in heard["hard_negatives"])
        differences["negatives"] = off(torch.stack([images, texts]),
                                       [recorded["neg_image_idx"], recorded["neg_text_idx"]], 0.5)
    return differences, heard, carry


def within(heard: dict, theirs: dict) -> dict[str, float]:
    """What forward's parts were given and gave, against the recorded arrays of the step."""
    differences = {}
    for (arguments, _), (chosen, (index, valid)), side, drawn in zip(
            heard["itc_loss"], heard["hard_negatives"], ("i2t", "t2i"), ("text", "image")):
        sim, teacher_sim, alpha, positive = arguments
        differences[f"sim_{side}"] = off(sim, theirs[f"sim_{side}"], LOGITS)
        differences[f"sim_{side}_m"] = off(teacher_sim, theirs[f"sim_{side}_m"], LOGITS)
        differences[f"sim_{side}_targets"] = off(itc_targets(positive, teacher_sim, alpha),
                                                 theirs[f"sim_{side}_targets"], 1e-5)
        differences["sim_targets"] = off(positive, theirs["sim_targets"], 0.5)
        weights = theirs[f"weights_{side}"]                      # theirs are masked after the softmax, ours before
        differences[f"weights_{side}"] = off(chosen[0].masked_fill(chosen[1], -torch.inf).softmax(-1),
                                             weights / weights.sum(-1, keepdim=True), 1e-5)
        differences[f"neg_{drawn}_idx"] = off(index, theirs[f"neg_{drawn}_idx"], 0.5)
        assert valid.all()
    masked, chosen = heard["mask_words"][0][1]
    logits, labels, *_ = heard["itm_loss"][0][0]
    word_logits, words, _, teacher_logits, _ = heard["mlm_loss"][0][0]
    there = theirs["labels"] != -100
    differences |= {"input_ids": off(masked, theirs["input_ids"], 0.5), "chosen": off(chosen, there, 0.5),
                    "vl_output": off(logits, theirs["vl_output"], LOGITS),
                    "itm_labels": off(labels, theirs["itm_labels"], 0.5),
                    "labels": off(words, theirs["labels"][there], 0.5),
                    "mlm_logits": off(word_logits, theirs["mlm_logits"][there], LOGITS),
                    "logits_m": off(teacher_logits, theirs["logits_m"][there], LOGITS)}
    return differences


def without_teacher(kind: type[Pretrain] = FastPretrain) -> dict[str, float]:
    """One step at alpha 0, and the temperature held in its range: {what: worst difference over tolerance}."""
    recorded, task = figures("pretrain"), task_at_start(kind=kind)
    theirs = recorded["arrays"]
    with mock.patch.object(task.teacher, "fuse", side_effect=AssertionError("at alpha 0 the teacher need not fuse")):
        differences, heard, _ = one_step(task, 1, 0.0, recorded["a0"])
    for (arguments, _), side in zip(heard["itc_loss"], ("i2t", "t2i")):
        differences[f"sim_{side}_targets"] = off(itc_targets(arguments[3], *arguments[1:3]),
                                                 theirs[f"a0/sim_{side}_targets"], 1e-5)
    for temperature, name in ((0.9, "clamp_temp_0.9"), (1e-5, "clamp_temp_1e-05")):
        task = task_at_start(temperature, kind)
        losses, _ = task(batch_at(1), 0.4, draws_at(1))
        differences[name] = max(off(losses["itc"], recorded[name]["loss_ita"], **LARGE),
                                off(task.student.temperature, recorded[name]["temp_after"], 1e-8))
    return {f"a0/{name}": value for name, value in differences.items()}


def training(steps: int = 3, task: Pretrain | None = None) -> dict[str, float]:
    """Steps of training at alpha 0.4: {what: worst difference over tolerance}."""
    everything, task = figures("pretrain"), task or task_at_start()
    recorded = everything["a04"]
    theirs = {name.removeprefix("a04/"): value for name, value in everything["arrays"].items()}
    optimiser = torch.optim.AdamW(parameter_groups(task, CONFIG), lr=CONFIG.lr, betas=CONFIG.betas, fused=True)
    fused = []
    hook = task.student.match_head.register_forward_pre_hook(lambda _, given: fused.append(given[0]))
    differences = {"init": off(torch.stack([task.queue.image, task.queue.text]),
                               torch.stack([theirs[f"init/{name}_queue"].T for name in ("image", "text")]), 1e-6)}
    for step, figure in enumerate([recorded, *recorded["steps_2_3_same_recipe_tag_.stepN"]][:steps], 1):
        found, heard, carry = one_step(task, step, 0.4, figure)
        if step == 1:
            hook.remove()
            grads = gradients(task)
            found |= within(heard, theirs) | {
                "vl_embeddings": off(torch.cat(fused), theirs["vl_embeddings"], 2e-5),
                "image_feat_m": off(carry[0], theirs["image_feat_m"], 2e-5),
                "text_feat_m": off(carry[1], theirs["text_feat_m"], 2e-5),
                "grad_temp": off(grads["temp"], recorded["grad_temp"], **LARGE),
                "grad_pos_embed": off(grads["visual_encoder.pos_embed"], theirs["grad_pos_embed"], 2e-5),
                "grad_word_embeddings": off(grads["text_encoder.bert.embeddings.word_embeddings.weight"],
                                            theirs["grad_word_embeddings"], 2e-5)}
        optimiser.step()
        optimiser.zero_grad()
        if step == 1:
            student = key_table.write(task.student.state_dict(), {}, {}, CONFIG.text_depth, True)
            found["student"] = checked(student, recorded["param_checksums_after_step1"], 2e-4, True)
        task.after_step(carry)
        found["pointer"] = off(task.queue.pointer, figure["queue_ptr_after"], 0.5)
        after = {1: "_after", 3: "_after_step3"}.get(step)
        for side, queue in (("image", task.queue.image), ("text", task.queue.text)):
            if f"{side}_queue{after}" in theirs:
                found[f"{side}_queue"] = off(queue.T, theirs[f"{side}_queue{after}"], 2e-5)
        differences |= {f"step{step}/{name}": value for name, value in found.items()}
    return differences


def decay(decay_all: bool) -> dict[str, bool]:
    """The original's name of each parameter, and whether it decays."""
    task = Pretrain(CONFIG)
    own = {id(p): name for name, p in task.student.named_parameters()}
    marks = {own[id(p)]: torch.full(p.shape, group["weight_decay"]) for group in
             parameter_groups(task, replace(CONFIG, decay_all=decay_all)) for p in group["params"]}
    written = key_table.write(marks, {}, {}, CONFIG.text_depth, True)
    return {name: bool(value.any())
            for name, value in written.items() if not name.endswith((*key_table.TIED, "position_ids"))}


def groups() -> dict[str, float]:
    """The optimiser's groups: {what: 0 if the same parameters decay, 2 if not}."""
    theirs = figures("pretrain")["a04"]["optimizer"]
    expected = {name: kind == "decay" for kind in ("decay", "no_decay") for name in theirs[kind]}
    return {"groups": 0.0 if decay(decay_all=True) == expected else 2.0}
