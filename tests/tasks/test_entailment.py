"""entailment: the original's recorded predictions, losses, gradients, teacher;
plain computation at unequal widths."""


import torch
from PIL import Image

from golden_encoders import CONFIG
from golden_rule import checksum, figures, fill, off, original_state, wrong
from golden_tasks import gradient_differences
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.entailment import LABELS, Entailment, EntailmentBatch, EntailmentRecord, collate
from minalbef.weights import key_table

ABSENT = (
    # the original has none of these here
    "image_proj|text_proj|match_head|word_head|temperature"
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
        for name, value in gradients.items():
            result[f"{key} {name}"] = value
        result[f"{key} loss"] = off(loss, recorded[key]["loss"], 5e-6)
    with torch.no_grad():
        for name, model in (("prediction", task.student), ("prediction_m", task.teacher)):
            result[name] = off(model(*inputs), arrays[f"a04/{name}"], 2e-5)
        answered = arrays["eval_prediction_after_forward"].softmax(-1)
        result["probabilities"] = off(task.student.eval()(*inputs).softmax(-1), answered, 2e-5)
    after = key_table.write(
        {}, {name.removeprefix("albef."): p for name, p in task.teacher.named_parameters()},
        {}, 2,
        False,
    )
    for name, sums in recorded["a04"]["ema_checksums"].items():
        result[name] = off(checksum(after[name])[:2], sums[:2], 1e-4)
    return result


def test_predictions_losses_gradients_and_teacher_equal_the_original():
    assert wrong(all_figures()) == {}
    assert LABELS == ("contradiction", "neutral", "entailment")


# evaluation and records


def test_records_become_a_batch_with_labels():
    tokenizer = Tokenizer.train(["a red cat sits", "a blue dog"], 64)
    picture = Image.new("RGB", (20, 30), "red")
    records = [EntailmentRecord(picture, "a red cat", i, label)
               for i, label in enumerate(LABELS)]
    batch = collate(records, tokenizer, 24, length=3)
    assert batch.label.tolist() == [0, 1, 2] and batch.ids.tolist() == [0, 1, 2]
    assert batch.image.shape == (3, 3, 24, 24)
    assert batch.tokens.shape == batch.keep.shape == (3, 3)
    assert batch.to("cpu").label.equal(batch.label)
