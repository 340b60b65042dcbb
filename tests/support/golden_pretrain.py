"""Pretraining beside the original's: each value between a batch and its losses, and three steps."""
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
LOGITS = 1e-4  # the original's float32 and float64 differ by less than 8e-6
LARGE = dict(atol=2e-5, rtol=2e-6)
WITHOUT_GRADIENT = (*key_table.TIED, "position_ids")


def task_at_start(
    temperature: float | None = None, kind: type[Pretrain] = FastPretrain
) -> Pretrain:
    """The original's model before its first losses, and its queue, full, its pointer at 12 of 16.

    The original moves the teacher and clamps the temperature before a step, ours after it: so once
    more at first.
    """
    state = key_table.read(original_state(figures("encoders")["state_keys"]))
    task = kind(CONFIG)
    fill(task.student, state.student)
    # the original's teacher has neither
    fill(task.teacher, state.teacher, absent="match_head|temperature")
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
    pixels = image(f"input.image{tag}", 4, 3, 32, 32)
    return PretrainBatch(pixels, tokens * keep, keep, 10 * step + torch.arange(4))


def draws_at(step: int) -> Draws:
    """The recorded chance, in our terms; negatives are the likeliest, so all uniforms are alike."""
    tag = f".step{step}" if step > 1 else ""

    def draw(name: str, share: float) -> torch.Tensor:
        return torch.from_numpy(chance(f"mlm.{name}{tag}").random((4, 12)) < share)

    words = torch.from_numpy(chance(f"mlm.words{tag}").integers(0, 64, (4, 12)))
    kind = torch.where(draw("mask80", 0.6), 0.4, torch.where(draw("rand50", 0.5), 0.85, 0.95))
    choose = 1 - draw("select", 0.5).float()
    return Draws(step, choose, kind, words, *torch.full((2, 4, 4), 0.5))


@contextlib.contextmanager
def overheard():
    """What forward's parts are given and give back: {name: [(arguments, result), ...]}."""
    names = ("itc_loss", "hard_negatives", "mask_words", "itm_loss", "mlm_loss")
    heard = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        for name, calls in heard.items():

            def spy(*arguments, real=getattr(Pretrain, name), calls=calls):
                calls.append((arguments, real(*arguments)))
                return calls[-1][1]

            stack.enter_context(mock.patch.object(Pretrain, name, staticmethod(spy)))
        yield heard


def gradients(task: Pretrain) -> dict[str, torch.Tensor]:
    """The student's gradients under the original's names."""
    grads = {name: p.grad for name, p in task.student.named_parameters()}
    written = key_table.write(grads, {}, {}, CONFIG.text_depth, True)
    return {name: grad for name, grad in written.items() if not name.endswith(WITHOUT_GRADIENT)}


def noise(name: str) -> bool:
    """An attention's key bias has no gradient but rounding errors.

    The optimiser makes these as large as any other.
    """
    return name.endswith(("key.bias", "qkv.bias"))


def checked(state: dict, recorded: dict, atol: float, trained: bool) -> float:
    """The worst sum or norm of the recorded weights, over tolerance.

    trained: without noise
    """
    worst = []
    for name, expected in recorded.items():
        if not (trained and noise(name)):
            sums = checksum(state[name])
            assert sums[2] == expected[2]
            worst.append(off(sums[:2], expected[:2], atol, 2e-6))
    assert len(worst) > 100
    return max(worst)


def one_step(task: Pretrain, step: int, alpha: float, recorded: dict) -> tuple[dict, dict, tuple]:
    """Losses and gradients of a step -> differences, what was overheard, and the carry."""
    with overheard() as heard:
        losses, carry = task(batch_at(step), alpha, draws_at(step))
    total = sum(losses.values())
    total.backward()
    i2t, t2i = (result for _, result in heard["itc_loss"])
    values = {
        "loss_ita": losses["itc"], "loss_itm": losses["itm"], "loss_mlm": losses["mlm"],
        "loss_i2t": i2t, "loss_t2i": t2i, "total": total, "temp_after": task.student.temperature,
    }
    norms = {name: grad.norm() for name, grad in gradients(task).items()}
    values["grad_norm_total"] = torch.stack(list(norms.values())).norm()
    differences = {name: off(value, recorded[name], **LARGE) for name, value in values.items()}
    if "grad_norms" in recorded:
        expected = recorded["grad_norms"]
        assert norms.keys() == expected.keys()
        worst = [off(norms[name], value, **LARGE) for name, value in expected.items()]
        differences["grad_norms"] = max(worst)
    teacher = key_table.write({}, task.teacher.state_dict(), {}, CONFIG.text_depth, True)
    expected = recorded["ema_checksums_after_forward"]
    differences["teacher"] = checked(teacher, expected, 2e-5, step > 1)
    if "neg_image_idx" in recorded:
        texts, images = (index for _, (index, _) in heard["hard_negatives"])
        expected = [recorded["neg_image_idx"], recorded["neg_text_idx"]]
        differences["negatives"] = off(torch.stack([images, texts]), expected, 0.5)
    return differences, heard, carry


def within(heard: dict, arrays: dict) -> dict[str, float]:
    """What forward's parts were given and gave, against the recorded arrays of the step."""
    differences = {}

    def compare(name: str, value: torch.Tensor, atol: float) -> None:
        differences[name] = off(value, arrays[name], atol)

    sides = zip(heard["itc_loss"], heard["hard_negatives"], ("i2t", "t2i"), ("text", "image"))
    for (arguments, _), ((sim, excluded, _), (index, valid)), side, kind in sides:
        itc_sim, teacher_sim, alpha, positive = arguments
        compare(f"sim_{side}", itc_sim, LOGITS)
        compare(f"sim_{side}_m", teacher_sim, LOGITS)
        compare(f"sim_{side}_targets", itc_targets(positive, teacher_sim, alpha), 1e-5)
        compare("sim_targets", positive, 0.5)
        weights = arrays[f"weights_{side}"]  # theirs are masked after the softmax, ours before
        weights = weights / weights.sum(-1, keepdim=True)
        chances = sim.masked_fill(excluded, -torch.inf).softmax(-1)
        differences[f"weights_{side}"] = off(chances, weights, 1e-5)
        compare(f"neg_{kind}_idx", index, 0.5)
        assert valid.all()
    tokens, places = heard["mask_words"][0][1]
    logits, labels, *_ = heard["itm_loss"][0][0]
    word_logits, words, _, teacher_logits, _ = heard["mlm_loss"][0][0]
    there = arrays["labels"] != -100
    compare("input_ids", tokens, 0.5)
    compare("vl_output", logits, LOGITS)
    compare("itm_labels", labels, 0.5)
    differences["chosen"] = off(places, there, 0.5)
    differences["labels"] = off(words, arrays["labels"][there], 0.5)
    differences["mlm_logits"] = off(word_logits, arrays["mlm_logits"][there], LOGITS)
    differences["logits_m"] = off(teacher_logits, arrays["logits_m"][there], LOGITS)
    return differences


def without_teacher(kind: type[Pretrain] = FastPretrain) -> dict[str, float]:
    """One step at alpha 0, and the temperature held in its range.

    -> {what: worst difference over tolerance}
    """
    recorded = figures("pretrain")
    arrays = recorded["arrays"]
    task = task_at_start(kind=kind)
    idle = AssertionError("at alpha 0 the teacher need not fuse")
    with mock.patch.object(task.teacher, "fuse", side_effect=idle):
        differences, heard, _ = one_step(task, 1, 0.0, recorded["a0"])
    for (arguments, _), side in zip(heard["itc_loss"], ("i2t", "t2i")):
        _, teacher_sim, alpha, positive = arguments
        name = f"sim_{side}_targets"
        targets = itc_targets(positive, teacher_sim, alpha)
        differences[name] = off(targets, arrays[f"a0/{name}"], 1e-5)
    for temperature, name in ((0.9, "clamp_temp_0.9"), (1e-5, "clamp_temp_1e-05")):
        task = task_at_start(temperature, kind)
        losses, _ = task(batch_at(1), 0.4, draws_at(1))
        loss = off(losses["itc"], recorded[name]["loss_ita"], **LARGE)
        clamped = off(task.student.temperature, recorded[name]["temp_after"], 1e-8)
        differences[name] = max(loss, clamped)
    return {f"a0/{name}": value for name, value in differences.items()}


def training(steps: int = 3, task: Pretrain | None = None) -> dict[str, float]:
    """Steps of training at alpha 0.4: {what: worst difference over tolerance}."""
    everything = figures("pretrain")
    task = task or task_at_start()
    recorded = everything["a04"]
    arrays = {name.removeprefix("a04/"): array for name, array in everything["arrays"].items()}
    optimiser = torch.optim.AdamW(
        parameter_groups(task, CONFIG), lr=CONFIG.lr, betas=CONFIG.betas, fused=True
    )
    differences = {}
    for side, queue in (("image", task.queue.image), ("text", task.queue.text)):
        differences[f"init_{side}"] = off(queue, arrays[f"init/{side}_queue"].T, 1e-6)
    records = [recorded, *recorded["steps_2_3_same_recipe_tag_.stepN"]]
    for step, record in enumerate(records[:steps], 1):
        if step == 1:
            values, carry = first_step(task, record, arrays)
        else:
            values, _, carry = one_step(task, step, 0.4, record)
        optimiser.step()
        optimiser.zero_grad()
        if step == 1:
            student = key_table.write(task.student.state_dict(), {}, {}, CONFIG.text_depth, True)
            expected = recorded["param_checksums_after_step1"]
            values["student"] = checked(student, expected, 2e-4, True)
        task.after_step(carry)
        values["pointer"] = off(task.queue.pointer, record["queue_ptr_after"], 0.5)
        after = {1: "_after", 3: "_after_step3"}.get(step)
        for side, queue in (("image", task.queue.image), ("text", task.queue.text)):
            if f"{side}_queue{after}" in arrays:
                expected = arrays[f"{side}_queue{after}"]
                values[f"{side}_queue"] = off(queue.T, expected, 2e-5)
        differences |= {f"step{step}/{name}": value for name, value in values.items()}
    return differences


def first_step(task: Pretrain, recorded: dict, arrays: dict) -> tuple[dict[str, float], tuple]:
    """The step of which every value was recorded -> differences, and the carry."""
    fused = []
    head = task.student.match_head
    hook = head.register_forward_pre_hook(lambda _, arguments: fused.append(arguments[0]))
    differences, heard, carry = one_step(task, 1, 0.4, recorded)
    hook.remove()
    grads = gradients(task)
    differences["grad_temp"] = off(grads["temp"], recorded["grad_temp"], **LARGE)
    values = {
        "vl_embeddings": torch.cat(fused),
        "image_feat_m": carry[0],
        "text_feat_m": carry[1],
        "grad_pos_embed": grads["visual_encoder.pos_embed"],
        "grad_word_embeddings": grads["text_encoder.bert.embeddings.word_embeddings.weight"],
    }
    for name, value in values.items():
        differences[name] = off(value, arrays[name], 2e-5)
    return differences | within(heard, arrays), carry


def decay(decay_all: bool) -> dict[str, bool]:
    """The original's name of each parameter, and whether it decays."""
    task = Pretrain(CONFIG)
    names = {id(p): name for name, p in task.student.named_parameters()}
    marks = {}
    for group in parameter_groups(task, replace(CONFIG, decay_all=decay_all)):
        for p in group["params"]:
            marks[names[id(p)]] = torch.full(p.shape, group["weight_decay"])
    written = key_table.write(marks, {}, {}, CONFIG.text_depth, True)
    decays = {}
    for name, value in written.items():
        if not name.endswith(WITHOUT_GRADIENT):
            decays[name] = bool(value.any())
    return decays


def groups() -> dict[str, float]:
    """The optimiser's groups: {what: 0 if the same parameters decay, 2 if not}."""
    recorded = figures("pretrain")["a04"]["optimizer"]
    expected = dict.fromkeys(recorded["decay"], True) | dict.fromkeys(recorded["no_decay"], False)
    return {"groups": 0.0 if decay(decay_all=True) == expected else 2.0}
