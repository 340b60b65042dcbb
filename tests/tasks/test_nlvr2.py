"""tasks.nlvr2, tasks.text_assignment: against the original's figures,
a plain computation, and numbers made by hand."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import tensor
from torch.testing import assert_close

import golden_rule
from helpers import disturb, same_state, small, texts
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.pretrain import PretrainBatch
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import nlvr2, text_assignment
from minalbef.tasks.nlvr2 import (
    NLVR2,
    NLVR2Batch,
    NLVR2Record,
    PairModel,
    add_shared,
    drop_shared,
)
from minalbef.tasks.text_assignment import AssignDraws, TextAssignment
from minalbef.weights import key_table

HALF = {"small": 2, "native": 6}  # text layers, and as many of fusion
ABSENT = r"(albef\.)?(match_head|word_head|image_proj|text_proj|temperature)\b"


def golden_config(size: str) -> Config:
    return Config(
        image_size=32, patch_size=8, image_width=48,
        image_depth=4, image_heads=4, vocab_size=64,
        positions=40, text_width=48, text_depth=HALF[size],
        text_heads=4, fusion_depth=HALF[size],
        dropout=0.0, embed_dim=16, queue_size=16, batch=4,
    )


@cache
def original(name: str) -> tuple[dict, key_table.Original]:
    recorded = golden_rule.figures(name)
    return recorded, key_table.read(golden_rule.original_state(recorded["state_keys"]))


def golden_nlvr2(size: str) -> tuple[dict, NLVR2, NLVR2Batch]:
    recorded, state = original(f"nlvr_{size}")
    task = NLVR2(golden_config(size))
    arrays = recorded["arrays"]
    golden_rule.fill(task.student, drop_shared(state.student), ABSENT)
    golden_rule.fill(task.teacher, drop_shared(state.teacher), ABSENT)
    task.after_step(None)  # the original updates at the start of its forward
    first = golden_rule.image("nlvr.image0", 3, 3, 32, 32)
    second = golden_rule.image("nlvr.image1", 3, 3, 32, 32)
    return (
        recorded,
        task,
        NLVR2Batch(
            torch.cat([first, second]),
            arrays["input_ids"].long(),
            arrays["attention_mask"].bool(),
            torch.arange(3),
            torch.arange(6).reshape(2, 3).T,
            arrays["targets"].long(),
        ),
    )


def golden_assignment(size: str) -> tuple[dict, TextAssignment, PretrainBatch, AssignDraws]:
    recorded, state = original(f"nlvr_ta_{size}")
    task = TextAssignment(golden_config(size))
    golden_rule.fill(task.student, drop_shared(state.student), ABSENT)
    inputs = golden_rule.figures("encoders")["arrays"]
    batch = PretrainBatch(
        inputs["image"], inputs["input_ids"].long(), inputs["attention_mask"].bool(),
        torch.arange(4),
    )
    assert recorded["rand_values"] == [
        0.9, 0.9, 0.9, 0.1, 0.1, 0.5, 0.7,
    ]  # text 2, at 0.1, asks for no side
    # equal uniforms: the likeliest are drawn, as in the original's run
    draws = AssignDraws(
        tensor([0.9, 0.9, 0.1, 0.5]), tensor([0.9, 0.1, 0.9, 0.7]), torch.full((4, 4), 0.5)
    )
    return recorded, task, batch, draws


def worst(actual, expected, atol: float, rtol: float = 0.0) -> float:
    """The largest difference, over its tolerance."""
    actual = torch.as_tensor(actual, dtype=torch.float64).detach()
    expected = torch.as_tensor(expected, dtype=torch.float64).detach()
    return float(((actual - expected).abs() / (atol + rtol * expected.abs())).max())


def gradient_differences(
    student: PairModel, loss, recorded: dict, fusion_from: int, head: str
) -> dict[str, float]:
    """Norms of gradients under the original's names: of every parameter,
    and of those that have none there."""
    student.zero_grad()
    loss.backward()
    grads = {}
    for name, p in student.named_parameters():
        if p.grad is not None:
            grads[name.removeprefix("albef.")] = p.grad
    result = {}
    if "grad_norms" in recorded:
        norms = {}
        for key, value in key_table.write(grads, {}, {}, fusion_from, False, head).items():
            if not key.endswith("position_ids"):
                norms[key] = float(value.norm())
        expected = {}
        for key, value in recorded["grad_norms"].items():
            if value is not None:
                expected[key] = value
        result = {}
        for key in norms.keys() & expected.keys():
            result[f"gradient of {key}"] = worst(norms[key], expected[key], 2e-6, 5e-6)
        for key in norms.keys() ^ expected.keys():
            result[f"gradient of {key}, of one alone"] = torch.inf
    total = torch.cat([grad.flatten() for grad in grads.values()]).double().norm()
    # the original's own norms differ by up to a share of 3.7e-6 between fp32 and fp64; processors round differently
    return result | {"gradient": worst(total, recorded["grad_norm_total"], 2e-6, 5e-6)}


def nlvr2_differences(size: str) -> dict[str, float]:
    """The original's NLVR2, as recorded, and ours:
    what -> worst difference over its tolerance."""
    recorded, task, batch = golden_nlvr2(size)
    outputs = {}
    arrays = recorded["arrays"]
    for name, model in (("", task.student), ("_m", task.teacher)):
        model.head.register_forward_hook(
            lambda _, x, y, name=name: outputs.update(
                {f"hidden_state{name}": x[0], f"prediction{name}": y}
            )
        )
    result = {}
    for alpha, key in ((0.0, "a0"), (0.4, "a04")):
        losses, _ = task(batch, alpha, None)
        result[f"loss {key}"] = worst(losses["nlvr2"], recorded[key]["loss"], 5e-6)
        for what, value in gradient_differences(
            task.student, losses["nlvr2"], recorded[key], HALF[size], "cls_head"
        ).items():
            result[f"{what} {key}"] = value
        # without trust in the teacher it must not be asked
        assert ("prediction_m" in outputs) == bool(alpha)
    for name in ("hidden_state", "prediction", "prediction_m"):
        result[name] = worst(outputs[name], arrays[f"a04/{name}"], 2e-5)
    with torch.no_grad():
        answer = task.eval().student(batch.image, batch.pairs, batch.tokens, batch.keep)
    return result | {"evaluation": worst(answer, arrays["eval_prediction_after_forward"], 2e-5)}


def assignment_differences(size: str) -> dict[str, float]:
    """The same of text assignment."""
    recorded, task, batch, draws = golden_assignment(size)
    arrays = recorded["arrays"]
    outputs = {}
    task.student.head.register_forward_hook(lambda _, x, y: outputs.update(pred=y))
    losses, _ = task(batch, 0.4, draws)
    image = task.student.albef.encode_image(batch.image)
    feature = task.student.albef.image_feature(image)
    first, second, labels, valid = task.assign(image, batch, draws)
    sim = feature @ feature.T / text_assignment.TEMPERATURE
    single = recorded["multinomial_choices"][:2]
    two = recorded["multinomial_choices"][2]
    weights = arrays["weights"] / arrays["weights"].sum(
        1, keepdim=True
    )  # ours are masked before the softmax
    expected = (
        [0, single[1][0], two[0], 3],
        [single[0][0], 1, two[1], recorded["multinomial_choices"][3][0]],
    )
    assert valid.all()
    return {
        "image_feat": worst(feature, arrays["image_feat"], 2e-5),
        "sim": worst(sim, arrays["sim"], 1e-4),
        "weights": worst(sim.fill_diagonal_(-torch.inf).softmax(1), weights, 2e-5),
        "labels": worst(labels, arrays["labels"], 0.5),
        "left": worst(first, expected[0], 0.5),
        "right": worst(second, expected[1], 0.5),
        "pred": worst(outputs["pred"], arrays["pred"], 2e-5),
        "loss": worst(losses["assign"], recorded["loss"], 5e-6),
        **gradient_differences(task.student, losses["assign"], recorded, HALF[size], "ta_head"),
    }


DIFFERENCES = {"nlvr": nlvr2_differences, "ta": assignment_differences}


@pytest.mark.parametrize("what", DIFFERENCES)
@pytest.mark.parametrize("size", HALF)
def test_as_the_original(what, size):
    off = {name: value for name, value in DIFFERENCES[what](size).items() if not value <= 1}
    assert not off, off


# names and weights


def test_a_plain_model_is_doubled_as_the_original_does():
    recorded = golden_rule.figures("full_checkpoint_key_maps")["Pretrain_nlvr.py"]
    keys = [key for key, *_ in golden_rule.figures("full_state_dict_keys")["keys"]]
    # three, for q, k and v
    pretrained = {}
    for i, key in enumerate(keys):
        pretrained[key] = torch.full((3,), float(i))
    for key, _, *once in golden_rule.figures("full_state_dict_keys")["keys"]:
        pretrained[key] = pretrained[once[0]] if once else pretrained[key]
    state = key_table.read(pretrained)
    student = {}
    for name, value in state.student.items():
        if not name.startswith(("match_head", "word_head")):
            student[name] = value
    written = key_table.write(
        add_shared(nlvr2.double(student)), {}, {}, state.fusion_from, bert=False
    )
    used = recorded["renamed_used"]
    assert len(used) == recorded["n_model_keys"] - recorded["identical"] - len(
        recorded["missing_in_checkpoint"]
    )
    assert len(written) == len(used) + recorded["identical"]
    for key, value in written.items():
        if not key.endswith("position_ids"):
            assert value.equal(pretrained[used.get(key, key)]), key
    assert used.keys() <= written.keys()


SIZES = dict(image_width=32, text_width=48, fusion_depth=2, batch=6)


def model(**changes) -> NLVR2:
    """Weights and a teacher that tell; image and text of different widths."""
    torch.manual_seed(0)
    task = NLVR2(small(**SIZES | changes))
    disturb(task.student, 0.15)
    disturb(task.teacher, 0.15, seed=8)
    return task


def pair_batch(rows: int = 6, size: int = 24) -> NLVR2Batch:
    chance = torch.Generator().manual_seed(5)
    image = torch.randn(rows, 3, size, size, generator=chance)
    pairs = torch.randint(rows, (rows, 2), generator=chance)
    tokens, keep = texts(rows, 9)
    return NLVR2Batch(
        image, tokens, keep, torch.arange(rows) // 2, pairs, torch.arange(rows) % 3 % 2
    )


def test_a_model_of_pairs_starts_from_a_plain_one_of_another_image_size():
    torch.manual_seed(1)
    plain = disturb(ALBEF(small(**SIZES, image_size=16)), seed=1)
    teacher = disturb(ALBEF(small(**SIZES, image_size=16)), seed=2)
    task = model()
    head = {name: value.clone() for name, value in task.student.head.state_dict().items()}
    task.start(plain, teacher)
    for pair_model, single in ((task.student, plain), (task.teacher, teacher)):
        pairs = pair_model.albef.fusion.layers
        for i, layer in enumerate(single.fusion.layers):
            assert same_state(pairs[2 * i].state_dict(), layer.state_dict())
            assert pairs[2 * i + 1].cross.q.weight.equal(layer.cross.q.weight)
            assert pairs[2 * i + 1].cross.k is None
        assert pair_model.albef.image_encoder.pos_embed.shape == (1, 10, 32)
        assert same_state(pair_model.head.state_dict(), head)
    for p in task.teacher.parameters():
        assert not p.requires_grad
    again = model()
    again.start(task.student.albef)
    assert same_state(again.student.albef.state_dict(), task.student.albef.state_dict())
    assert same_state(again.teacher.state_dict(), again.student.state_dict())
    with pytest.raises(ValueError, match="fit"):
        task.start(ALBEF(small(**SIZES | {"fusion_depth": 1})))


# NLVR2 on its own


def test_consistency_by_hand():
    second = tensor([1, 1, 0, 1, 1, 0])
    statements = tensor([70, 70, 5, 5, 9, 33])
    assert nlvr2.consistency(second, statements).tolist() == [0, 1, 0, 1], "of 5, 9, 33 and 70"
    assert nlvr2.consistency(torch.ones(6), statements).mean() == 1


def test_collate_keeps_the_pictures_in_order_and_a_shared_one_once():
    words = Tokenizer.train(["both dogs run", "no cat sits"], 60)
    red = Image.new("RGB", (30, 20), "red")
    blue = Image.new("RGB", (30, 20), "blue")
    records = [
        NLVR2Record((red, blue), "both dogs run", True, 7),
        NLVR2Record((blue, blue), "no cat", False, 8),
    ]
    batch = nlvr2.collate(records, words, 24)
    assert batch.image.shape == (2, 3, 24, 24)
    assert batch.pairs.tolist() == [[0, 1], [1, 1]]
    assert [picture[:, 0, 0].argmax().item() for picture in batch.image] == [0, 2], "red, blue"
    assert batch.labels.tolist() == [1, 0]
    assert batch.ids.tolist() == [7, 8]
    assert batch.keep.sum(1).tolist() == [4, 3]
    assert batch.to("cpu").pairs.equal(batch.pairs)
    with pytest.raises(ValueError, match="has 1 images"):
        NLVR2Record((red,), "both dogs run", True, 7)
    with pytest.raises(ValueError, match="label 'maybe'"):
        NLVR2Record((red, blue), "both dogs run", "maybe", 7)


# text assignment on its own


def assignment(**changes) -> TextAssignment:
    torch.manual_seed(0)
    task = TextAssignment(small(**SIZES | changes))
    disturb(task.student, 0.15)
    return task


def caption_batch(rows: int = 6) -> PretrainBatch:
    """Rows 0 and 1 have one picture; caption 2 is true of picture 5, too."""
    images = pair_batch(rows)
    ids = torch.arange(rows)
    match = torch.eye(rows, dtype=torch.bool)
    if rows > 5:
        images.image[1] = images.image[0]
        ids[1] = ids[0]
        match[2, 5] = True
    return PretrainBatch(images.image, images.tokens, images.keep, ids, match)


def test_a_text_without_wrong_pictures_is_skipped():
    task = assignment()
    batch = caption_batch(2)
    single = PretrainBatch(*(x[:1] for x in (batch.image, batch.tokens, batch.keep, batch.ids)))
    draws = AssignDraws(tensor([0.9, 0.1]), tensor([0.9, 0.9]), torch.full((2, 2), 0.5))
    loss = task(single, 0.0, AssignDraws(draws.case[:1], draws.side[:1],
                                         draws.negative[:1, :1]))[0][
        "assign"
    ]
    loss.backward()
    assert loss == 0
    for p in task.parameters():
        if p.grad is not None:
            assert p.grad.isfinite().all()
    # of two texts the second wants two wrong pictures, where there is one
    logits = task.student(batch.image, tensor([[0, 1]]), batch.tokens[:1], batch.keep[:1])
    assert_close(
        task(batch, 0.0, draws)[0]["assign"], F.cross_entropy(logits, tensor([0])), atol=2e-5,
        rtol=1e-5,
    )
