"""entailment: the original's recorded predictions, losses, gradients, teacher; plain computation at unequal widths."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

from golden_encoders import CONFIG
from golden_rule import checksum, figures, fill, off, original_state, wrong
from golden_tasks import gradient_differences
from helpers import disturb, same_state, small, texts
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.entailment import LABELS, Entailment, EntailmentBatch, EntailmentRecord, collate
from minalbef.weights import key_table

ABSENT = (
    "image_proj|text_proj|match_head|word_head|temperature"  # the original has none of these here
)


def original() -> tuple[Entailment, EntailmentBatch, dict]:
    """The original's model before its first loss, its batch, and what was recorded of it."""
    recorded = figures("ve")
    inputs = figures("encoders")["arrays"]
    state = key_table.read(original_state(recorded["state_keys"]))
    task = Entailment(CONFIG)
    fill(task.student, state.student, ABSENT)
    fill(task.teacher, state.teacher, ABSENT)
    batch = EntailmentBatch(
        inputs["image"], inputs["input_ids"].long(), inputs["attention_mask"].bool(),
        torch.arange(4), recorded["arrays"]["targets"].long(),
    )
    return task, batch, recorded


def all_figures() -> dict[str, float]:
    """{what: worst difference over tolerance}."""
    task, batch, recorded = original()
    task.after_step(None)  # the original updates its teacher before its first loss
    inputs = (batch.image, batch.tokens, batch.keep)
    arrays = recorded["arrays"]
    result = {}
    for key, alpha in (("a0", 0.0), ("nodistill", 0.0), ("a04", 0.4)):
        loss = task(batch, alpha)[0]["entailment"]
        gradients = gradient_differences(task.student, loss, recorded[key])
        result |= {f"{key} {name}": value for name, value in gradients.items()}
        result[f"{key} loss"] = off(loss, recorded[key]["loss"], 5e-6)
    with torch.no_grad():
        for name, model in (("prediction", task.student), ("prediction_m", task.teacher)):
            result[name] = off(model(*inputs), arrays[f"a04/{name}"], 2e-5)
        answered = arrays["eval_prediction_after_forward"].softmax(-1)
        result["probabilities"] = off(task.student.eval()(*inputs).softmax(-1), answered, 2e-5)
    after = key_table.write(
        {}, {name.removeprefix("albef."): p for name, p in task.teacher.named_parameters()}, {}, 2,
        False,
    )
    return result | {
        name: off(checksum(after[name])[:2], sums[:2], 1e-4)
        for name, sums in recorded["a04"]["ema_checksums"].items()
    }


def test_predictions_losses_gradients_and_teacher_equal_the_original():
    assert wrong(all_figures()) == {}
    assert LABELS == ("contradiction", "neutral", "entailment")


# deliberate mistakes: where, what, and what comes in its place


# with unequal widths of image and text


def task_and_batch(**changes) -> tuple[Entailment, EntailmentBatch]:
    torch.manual_seed(0)
    task = Entailment(small(**changes))
    disturb(task.student, 0.2)
    disturb(task.teacher, 0.2, seed=8)
    tokens, keep = texts(6, 9)
    return task, EntailmentBatch(
        torch.randn(6, 3, 24, 24), tokens, keep, torch.arange(6), torch.tensor([0, 2, 1, 1, 0, 2])
    )


def test_the_loss_equals_a_plain_computation():
    task, batch = task_and_batch()
    assert task.config.image_width != task.config.text_width
    for alpha in (0.0, 0.4, 1.0):
        expected = 0.0
        for row in range(6):  # alone, without padding
            n = int(batch.keep[row].sum())
            words = batch.tokens[row : row + 1, :n]
            seen = batch.image[row : row + 1]
            keep = batch.keep[row : row + 1, :n]
            logits = []
            for model in (task.student, task.teacher):
                fused = model.albef.fuse(
                    model.albef.encode_text(words, keep), keep, model.albef.encode_image(seen)
                )
                hidden = (fused[0, 0] @ model.head[0].weight.T + model.head[0].bias).clamp(min=0)
                logits.append(hidden @ model.head[2].weight.T + model.head[2].bias)
            target = (1 - alpha) * F.one_hot(batch.label[row], 3) + alpha * logits[1].softmax(-1)
            expected = expected - (target * logits[0].log_softmax(-1)).sum() / 6
        assert_close(task(batch, alpha)[0]["entailment"], expected, atol=1e-5, rtol=1e-5)


def test_the_teacher_is_asked_only_where_it_is_trusted_and_never_trained(monkeypatch):
    task, batch = task_and_batch(dropout=0.3)
    task.train()
    assert task.student.training
    assert not task.teacher.training
    assert not task.teacher.albef.training
    task(batch, 0.4)[0]["entailment"].backward()
    for p in task.teacher.parameters():
        assert p.grad is None
    monkeypatch.setattr(task.teacher, "forward", None)
    task(batch, 0.0)
    with pytest.raises(TypeError):
        task(batch, 0.4)


def test_forward_changes_nothing_and_after_step_moves_the_teacher_alone():
    task, batch = task_and_batch()
    before = copy.deepcopy(task.state_dict())
    loss, carry = task(batch, 0.4, task.draws(3))
    assert same_state(before, task.state_dict())
    assert loss == task(batch, 0.4, task.draws(3))[0]
    task.after_step(carry)
    m = task.config.teacher_momentum
    for name, value in task.state_dict().items():
        was = before[name]
        student = before[name.replace("teacher.", "student.")]
        assert_close(value, m * was + (1 - m) * student if name.startswith("teacher.") else was)


# evaluation and records


@torch.no_grad()
def test_logits_do_not_depend_on_the_others_of_a_batch():
    task, batch = task_and_batch()
    model = task.student.eval()
    whole = model(batch.image, batch.tokens, batch.keep)
    alone = [
        model(batch.image[i : i + 1], batch.tokens[i : i + 1], batch.keep[i : i + 1])
        for i in range(6)
    ]
    assert_close(
        whole, torch.cat(alone), atol=1e-5, rtol=1e-5
    )  # fewer rows may be rounded otherwise
    junk = batch.tokens.masked_fill(~batch.keep, 9)
    assert_close(whole, model(batch.image, junk, batch.keep), atol=1e-6, rtol=1e-5)
    # the check is blind
    assert not torch.allclose(whole, model(batch.image, junk, batch.keep | True), atol=1e-3)


def test_records_become_a_batch_with_labels():
    tokenizer = Tokenizer.train(["a red cat sits", "a blue dog"], 64)
    picture = Image.new("RGB", (20, 30), "red")
    records = [EntailmentRecord(picture, "a red cat", i, label) for i, label in enumerate(LABELS)]
    batch = collate(records, tokenizer, 24, length=3)
    assert batch.label.tolist() == [0, 1, 2] and batch.ids.tolist() == [0, 1, 2]
    assert batch.image.shape == (3, 3, 24, 24)
    assert batch.tokens.shape == batch.keep.shape == (3, 3)
    assert batch.to("cpu").label.equal(batch.label)
    with pytest.raises(ValueError, match="label '-' of 'a red cat'"):
        collate([replace(records[0], label="-")], tokenizer, 24)
