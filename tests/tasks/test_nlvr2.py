"""tasks.nlvr2, tasks.text_assignment: against the original's figures, a plain computation, and numbers made by hand."""

import os
import socket
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from PIL import Image
from torch import nn, tensor
from torch.testing import assert_close

import golden_rule
from helpers import disturb, same_state, small, texts
from minalbef.albef import ALBEF
from minalbef.config import Config
from minalbef.pretrain import PretrainBatch
from minalbef.system import distributed
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import nlvr2, text_assignment
from minalbef.tasks.nlvr2 import (
    NLVR2,
    NLVR2Batch,
    NLVR2Record,
    PairFusion,
    PairModel,
    add_shared,
    drop_shared,
)
from minalbef.tasks.text_assignment import AssignDraws, TextAssignment
from minalbef.weights import key_table
from minalbef.weights.original import fill, read_original

HALF = {"small": 2, "native": 6}  # text layers, and as many of fusion
ABSENT = r"(albef\.)?(match_head|word_head|image_proj|text_proj|temperature)\b"


def golden_config(size: str) -> Config:
    return Config(
        image_size=32, patch_size=8, image_width=48, image_depth=4, image_heads=4, vocab_size=64,
        positions=40, text_width=48, text_depth=HALF[size], text_heads=4, fusion_depth=HALF[size],
        dropout=0.0, embed_dim=16, queue_size=16, batch=4,
    )


@cache
def original(name: str) -> tuple[dict, key_table.Original]:
    recorded = golden_rule.figures(name)
    return recorded, key_table.read(golden_rule.original_state(recorded["state_keys"]))


def golden_nlvr2(size: str) -> tuple[dict, NLVR2, NLVR2Batch]:
    recorded, read = original(f"nlvr_{size}")
    task = NLVR2(golden_config(size))
    arrays = recorded["arrays"]
    golden_rule.fill(task.student, drop_shared(read.student), ABSENT)
    golden_rule.fill(task.teacher, drop_shared(read.teacher), ABSENT)
    task.after_step(None)  # the original updates at the start of its forward
    first, second = (golden_rule.image(f"nlvr.image{i}", 3, 3, 32, 32) for i in (0, 1))
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
    recorded, read = original(f"nlvr_ta_{size}")
    task = TextAssignment(golden_config(size))
    golden_rule.fill(task.student, drop_shared(read.student), ABSENT)
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


def worst(ours, theirs, atol: float, rtol: float = 0.0) -> float:
    """The largest difference, over its tolerance."""
    ours, theirs = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (ours, theirs))
    return float(((ours - theirs).abs() / (atol + rtol * theirs.abs())).max())


def gradient_differences(
    student: PairModel, loss, recorded: dict, fusion_from: int, head: str
) -> dict[str, float]:
    """Norms of gradients under the original's names: of every parameter, and of those that have none there."""
    student.zero_grad()
    loss.backward()
    grads = {
        name.removeprefix("albef."): p.grad
        for name, p in student.named_parameters()
        if p.grad is not None
    }
    result = {}
    if "grad_norms" in recorded:
        norms = {
            key: float(value.norm())
            for key, value in key_table.write(grads, {}, {}, fusion_from, False, head).items()
            if not key.endswith("position_ids")
        }
        known = {key: value for key, value in recorded["grad_norms"].items() if value is not None}
        result = {
            f"gradient of {key}": worst(norms[key], known[key], 2e-6, 5e-6)
            for key in norms.keys() & known.keys()
        }
        result |= {
            f"gradient of {key}, of one alone": torch.inf for key in norms.keys() ^ known.keys()
        }
    whole = torch.cat([grad.flatten() for grad in grads.values()]).double().norm()
    # the original's own norms differ by up to a share of 3.7e-6 between fp32 and fp64; processors round differently
    return result | {"gradient": worst(whole, recorded["grad_norm_total"], 2e-6, 5e-6)}


def nlvr2_differences(size: str) -> dict[str, float]:
    """The original's NLVR2, as recorded, and ours: what -> worst difference over its tolerance."""
    recorded, task, batch = golden_nlvr2(size)
    seen = {}
    arrays = recorded["arrays"]
    for name, model in (("", task.student), ("_m", task.teacher)):
        model.head.register_forward_hook(
            lambda _, x, y, name=name: seen.update(
                {f"hidden_state{name}": x[0], f"prediction{name}": y}
            )
        )
    result = {}
    for alpha, key in ((0.0, "a0"), (0.4, "a04")):
        losses, _ = task(batch, alpha, None)
        result[f"loss {key}"] = worst(losses["nlvr2"], recorded[key]["loss"], 5e-6)
        result |= {
            f"{what} {key}": value
            for what, value in gradient_differences(
                task.student, losses["nlvr2"], recorded[key], HALF[size], "cls_head"
            ).items()
        }
        # without trust in the teacher it must not be asked
        assert ("prediction_m" in seen) == bool(alpha)
    result |= {
        name: worst(seen[name], arrays[f"a04/{name}"], 2e-5)
        for name in ("hidden_state", "prediction", "prediction_m")
    }
    with torch.no_grad():
        answer = task.eval().student(batch.image, batch.pairs, batch.tokens, batch.keep)
    return result | {"evaluation": worst(answer, arrays["eval_prediction_after_forward"], 2e-5)}


def assignment_differences(size: str) -> dict[str, float]:
    """The same of text assignment."""
    recorded, task, batch, draws = golden_assignment(size)
    arrays = recorded["arrays"]
    seen = {}
    task.student.head.register_forward_hook(lambda _, x, y: seen.update(pred=y))
    losses, _ = task(batch, 0.4, draws)
    image = task.student.albef.encode_image(batch.image)
    feature = task.student.albef.image_feature(image)
    left, right, labels, valid = task.assign(image, batch, draws)
    sim = feature @ feature.T / text_assignment.TEMPERATURE
    one = recorded["multinomial_choices"][:2]
    two = recorded["multinomial_choices"][2]
    weights = arrays["weights"] / arrays["weights"].sum(
        1, keepdim=True
    )  # ours are masked before the softmax
    chosen = (
        [0, one[1][0], two[0], 3],
        [one[0][0], 1, two[1], recorded["multinomial_choices"][3][0]],
    )
    assert valid.all()
    return {
        "image_feat": worst(feature, arrays["image_feat"], 2e-5),
        "sim": worst(sim, arrays["sim"], 1e-4),
        "weights": worst(sim.fill_diagonal_(-torch.inf).softmax(1), weights, 2e-5),
        "labels": worst(labels, arrays["labels"], 0.5),
        "left": worst(left, chosen[0], 0.5),
        "right": worst(right, chosen[1], 0.5),
        "pred": worst(seen["pred"], arrays["pred"], 2e-5),
        "loss": worst(losses["assign"], recorded["loss"], 5e-6),
        **gradient_differences(task.student, losses["assign"], recorded, HALF[size], "ta_head"),
    }


DIFFERENCES = {"nlvr": nlvr2_differences, "ta": assignment_differences}


@pytest.mark.parametrize("what", DIFFERENCES)
@pytest.mark.parametrize("size", HALF)
def test_as_the_original(what, size):
    off = {name: value for name, value in DIFFERENCES[what](size).items() if not value <= 1}
    assert not off, off


in_turn = PairFusion.keys_values
negatives = text_assignment.hard_negatives
fetch = distributed.fetch


# names and weights


def test_what_a_pair_shares_must_be_equal():
    weights = original("nlvr_small")[1].student
    assert not same_state(drop_shared(weights), weights)
    refusal = "layers.1.cross.k.weight differs from .*layers.0.cross.k.weight"
    with pytest.raises(ValueError, match=refusal):
        drop_shared(weights | {"fusion.layers.1.cross.k.weight": torch.zeros(48, 48)})


def test_a_plain_model_is_doubled_as_the_original_does():
    recorded = golden_rule.figures("full_checkpoint_key_maps")["Pretrain_nlvr.py"]
    keys = [key for key, *_ in golden_rule.figures("full_state_dict_keys")["keys"]]
    pretrained = {
        key: torch.full((3,), float(i)) for i, key in enumerate(keys)
    }  # three, for q, k and v
    for key, _, *once in golden_rule.figures("full_state_dict_keys")["keys"]:
        pretrained[key] = pretrained[once[0]] if once else pretrained[key]
    read = key_table.read(pretrained)
    student = {
        name: value
        for name, value in read.student.items()
        if not name.startswith(("match_head", "word_head"))
    }
    written = key_table.write(
        add_shared(nlvr2.double(student)), {}, {}, read.fusion_from, bert=False
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
    plain, teacher = (disturb(ALBEF(small(**SIZES, image_size=16)), seed=seed) for seed in (1, 2))
    task = model()
    head = {name: value.clone() for name, value in task.student.head.state_dict().items()}
    task.start(plain, teacher)
    for ours, theirs in ((task.student, plain), (task.teacher, teacher)):
        pairs = ours.albef.fusion.layers
        for i, layer in enumerate(theirs.fusion.layers):
            assert same_state(pairs[2 * i].state_dict(), layer.state_dict())
            assert pairs[2 * i + 1].cross.q.weight.equal(layer.cross.q.weight)
            assert pairs[2 * i + 1].cross.k is None
        assert ours.albef.image_encoder.pos_embed.shape == (1, 10, 32)
        assert same_state(ours.head.state_dict(), head)
    assert not any(p.requires_grad for p in task.teacher.parameters())
    again = model()
    again.start(task.student.albef)
    assert same_state(again.student.albef.state_dict(), task.student.albef.state_dict())
    assert same_state(again.teacher.state_dict(), again.student.state_dict())
    with pytest.raises(ValueError, match="fit"):
        task.start(ALBEF(small(**SIZES | {"fusion_depth": 1})))


def test_nlvr2_begins_from_the_originals_text_assignment():
    recorded = golden_rule.figures("nlvr_ta_small")
    state = golden_rule.original_state(recorded["state_keys"])
    opened = read_original(state, image_heads=4, text_heads=4)
    assigned = PairModel(opened.config, nn.Linear(48, 3))
    task = NLVR2(replace(golden_config("small"), image_size=48))
    fill(assigned, opened)
    task.start(assigned.albef)
    ours = task.student.albef.state_dict()
    expected = drop_shared(original("nlvr_ta_small")[1].student)
    assert {key for key in ours if key not in expected} == {
        key for key in ours if key.startswith(("match_head", "word_head"))
    }
    assert expected.keys() - ours.keys() == {"head.weight", "head.bias"}
    for key in ours.keys() & expected.keys():
        assert key.endswith("encoder.pos_embed") or ours[key].equal(expected[key])
    assert ours["image_encoder.pos_embed"].shape == (1, 37, 48)
    assert same_state(task.teacher.state_dict(), task.student.state_dict())
    # the original expects the same to be absent, and knows the same to be left over
    known = golden_rule.figures("full_checkpoint_key_maps")["NLVR.py (from TA checkpoint)"]
    assert {key for key in known["missing_in_checkpoint"] if "_m." not in key} == {
        f"cls_head.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")
    }
    assert {"ta_head.weight", "ta_head.bias"} < set(known["unexpected"])


# NLVR2 on its own


def plain_logits(model: PairModel, images, tokens) -> torch.Tensor:
    """One statement without padding about two images, layer by layer, head by head: (l,) -> (2,)."""
    albef = model.albef
    weights = model.albef.fusion.state_dict()
    seen = [albef.encode_image(image[None])[0] for image in images]  # (1 + n, 32) each
    x = albef.encode_text(tokens[None], torch.ones(1, len(tokens), dtype=torch.bool))[0]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def attend(x, source, i, part, keys):
        q = linear(x, f"layers.{i}.{part}.q")
        k, v = (linear(source, f"layers.{keys}.{part}.{which}") for which in "kv")
        each = [
            (q @ k.T / 12**0.5).softmax(-1) @ v
            for q, k, v in zip(*(y.split(12, -1) for y in (q, k, v)))
        ]
        return linear(torch.cat(each, -1), f"layers.{i}.{part}.proj")

    def norm(x, name):
        return F.layer_norm(x, (48,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    for i in range(4):
        x = norm(x + attend(x, x, i, "attn", i), f"layers.{i}.norm1")
        x = norm(x + attend(x, seen[i % 2], i, "cross", i - i % 2), f"layers.{i}.norm_cross")
        x = norm(
            x + linear(F.gelu(linear(x, f"layers.{i}.mlp.fc1")), f"layers.{i}.mlp.fc2"),
            f"layers.{i}.norm2",
        )
    return model.head[2](model.head[0](x[0]).clamp(min=0))


@torch.no_grad()
def test_logits_and_losses_are_those_of_a_plain_computation():
    task = model()
    batch = pair_batch()
    plain, teacher = (
        torch.stack(
            [
                plain_logits(who, (a, b), tokens[keep])
                for a, b, tokens, keep in zip(*batch.image[batch.pairs.T], batch.tokens, batch.keep)
            ]
        )
        for who in (task.student, task.teacher)
    )
    ours = task.student(batch.image, batch.pairs, batch.tokens, batch.keep)
    assert_close(ours, plain, atol=2e-5, rtol=1e-5)
    assert not torch.allclose(
        task.student(batch.image, batch.pairs.flip(1), batch.tokens, batch.keep), plain, atol=1e-3
    ), "blind"
    own = F.cross_entropy(plain, batch.labels)
    soft = -(teacher.softmax(1) * plain.log_softmax(1)).sum(1).mean()
    assert_close(task(batch, 0.0, None)[0]["nlvr2"], own)
    assert_close(task(batch, 0.3, None)[0]["nlvr2"], 0.7 * own + 0.3 * soft)


def test_forward_changes_nothing_and_a_step_moves_the_teacher():
    task = model().train()
    batch = pair_batch()
    assert not task.teacher.training and task.student.training
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses = [task(batch, 0.4, task.draws(0))[0]["nlvr2"] for _ in range(2)]
    assert losses[0].equal(losses[1]) and same_state(before, task.state_dict())
    losses[0].backward()
    for p in task.teacher.parameters():
        assert p.grad is None
    task.after_step(None)
    for name, value in task.teacher.state_dict().items():
        assert_close(value, 0.99 * before[f"teacher.{name}"] + 0.01 * before[f"student.{name}"])


def test_without_trust_the_teacher_is_not_asked(monkeypatch):
    task = model()
    monkeypatch.setattr(task.teacher, "forward", None)
    task(pair_batch(), 0.0, None)
    with pytest.raises(TypeError):
        task(pair_batch(), 0.1, None)


def test_consistency_by_hand():
    right = tensor([1, 1, 0, 1, 1, 0])
    statements = tensor([70, 70, 5, 5, 9, 33])
    assert nlvr2.consistency(right, statements).tolist() == [0, 1, 0, 1], "of 5, 9, 33 and 70"
    assert nlvr2.consistency(torch.ones(6), statements).mean() == 1


def test_collate_keeps_the_pictures_in_order_and_a_shared_one_once():
    words = Tokenizer.train(["both dogs run", "no cat sits"], 60)
    red, blue = (Image.new("RGB", (30, 20), colour) for colour in ("red", "blue"))
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


@torch.no_grad()
def test_text_assignment_is_that_of_a_plain_computation():
    task = assignment()
    batch = caption_batch()
    for step in range(3):
        draws = task.draws(step)
        total = 0.0
        feature = [
            task.student.albef.image_feature(task.student.albef.encode_image(image[None]))[0]
            for image in batch.image
        ]
        for i in range(6):
            wrong = [j for j in range(6) if j != i and {i, j} != {0, 1} and (i, j) != (2, 5)]
            score = {
                j: feature[i] @ feature[j] / 0.07 - (-draws.negative[i, j].log()).log()
                for j in wrong
            }
            first, second = sorted(wrong, key=score.get)[::-1][:2]
            label = 2 if draws.case[i] <= 1 / 3 else 0 if draws.side[i] > 0.5 else 1
            shown = [(i, first), (first, i), (first, second)][label]
            logits = task.student(batch.image, tensor([shown]), batch.tokens[[i]], batch.keep[[i]])
            total += F.cross_entropy(logits, tensor([label]))
        assert_close(task(batch, 0.4, draws)[0]["assign"], total / 6, atol=2e-5, rtol=1e-5)


def test_cases_sides_and_wrong_pictures_come_as_often_as_they_should():
    task = assignment()
    batch = caption_batch()
    image = task.student.albef.encode_image(batch.image)
    rows = [task.assign(image, batch, task.draws(step)) for step in range(2000)]
    left, right, labels, valid = (torch.stack(part) for part in zip(*rows))  # (steps, 6) each
    assert valid.all()
    assert_close(
        labels.flatten().bincount() / labels.numel(), torch.full((3,), 1 / 3), atol=0.015, rtol=0
    )
    feature = task.student.albef.image_feature(image)
    p = (feature[3] @ feature.T / 0.07).masked_fill(torch.arange(6) == 3, -torch.inf).softmax(0)
    assert (p > 0.02).sum() > 2, "one wrong picture alone would tell nothing"
    neither = labels[:, 3] == 2
    found = (
        torch.zeros(6, 6).index_put(
            (left[neither, 3], right[neither, 3]), tensor(1.0), accumulate=True
        )
        / neither.sum()
    )
    expected = p[:, None] * p / (1 - p[:, None]) * (1 - torch.eye(6))  # without putting back
    assert_close(found, expected, atol=0.06, rtol=0)
    for i, j in ((0, 1), (1, 0), (2, 5)):  # the text is true of both
        assert not ((left[:, i] == j) | (right[:, i] == j)).any()


def test_a_text_without_wrong_pictures_is_skipped():
    task = assignment()
    batch = caption_batch(2)
    one = PretrainBatch(*(x[:1] for x in (batch.image, batch.tokens, batch.keep, batch.ids)))
    draws = AssignDraws(tensor([0.9, 0.1]), tensor([0.9, 0.9]), torch.full((2, 2), 0.5))
    loss = task(one, 0.0, AssignDraws(draws.case[:1], draws.side[:1], draws.negative[:1, :1]))[0][
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


def test_a_picture_with_an_equal_caption_is_no_wrong_partner_if_the_option_says_so():
    batch = replace(caption_batch(), match=None, texts=torch.tensor([1, 2, 9, 9, 5, 6]))
    for option in (False, True):
        task = assignment()
        met = False
        task.config = replace(task.config, equal_texts_match=option)
        for step in range(20):
            images = torch.randn(6, 10, 32, generator=torch.Generator().manual_seed(step))
            left, right, labels, _ = task.assign(images, batch, task.draws(step))
            wrong = (
                torch.where(labels == 0, right, left)[2],
                torch.where(labels == 1, left, right)[2],
            )
            met |= 3 in [int(one) for one in wrong]
        assert met != option


def test_text_assignment_compares_similarities_in_fp32(monkeypatch):
    """At a temperature of .07 a step of bf16 in a similarity near 10 is .06."""
    task = assignment()
    batch = caption_batch()
    seen = []
    monkeypatch.setattr(
        text_assignment,
        "hard_negatives",
        lambda sim, *rest: seen.append(sim) or negatives(sim, *rest),
    )
    with torch.autocast("cpu", torch.bfloat16):
        task(batch, 0.0, task.draws(0))
    assert len(seen) == 2
    for sim in seen:
        assert sim.dtype == torch.float32 and (sim.bfloat16().float() != sim).any()


def test_text_assignment_changes_nothing_and_draws_agree_between_processes(monkeypatch):
    task = assignment().train()
    batch = caption_batch()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    first, second = (task(batch, 0.4, task.draws(3))[0]["assign"] for _ in range(2))
    assert first.equal(second) and same_state(before, task.state_dict())
    whole = task.draws(3)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        halves.append(task.draws(3))
    for part in ("case", "side", "negative"):
        assert torch.cat([getattr(half, part) for half in halves]).equal(getattr(whole, part))
    assert not task.draws(4).negative.equal(halves[1].negative)


def shared_step(rank: int = 0, world: int = 1) -> dict:
    """One step of a process with its part of four texts; of the first three, which share a picture, one is skipped."""
    task = assignment(batch=4)
    batch = caption_batch(4)
    batch.image[:3] = batch.image[0].clone()
    batch.ids[:3] = 0
    mine = slice(4 * rank // world, 4 * (rank + 1) // world)
    case = tensor([0.9, 0.1, 0.9, 0.1])[mine]
    side = tensor([0.9, 0.9, 0.1, 0.1])[mine]
    batch = PretrainBatch(
        *(x[mine] for x in (batch.image, batch.tokens, batch.keep, batch.ids)), batch.match
    )
    loss = task(batch, 0.0, AssignDraws(case, side, task.draws(0).negative))[0]["assign"]
    loss.backward()
    return {"loss": loss.detach()} | {
        name: p.grad for name, p in task.named_parameters() if p.grad is not None
    }


def worker(rank: int, port: int, folder):
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.save(
        {name: distributed.total(value) / 2 for name, value in shared_step(rank, 2).items()},
        folder / f"{rank}.pt",
    )
    distributed.leave()


@pytest.mark.slow
def test_two_processes_assign_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(worker, (port, tmp_path), nprocs=2)
    whole = shared_step()
    found = torch.load(tmp_path / "1.pt", weights_only=True)
    assert whole.keys() == found.keys()
    for name, value in whole.items():
        assert_close(found[name], value, atol=2e-5, rtol=1e-4)


def test_half_a_batch_asks_the_same_of_the_same_pictures():
    task = model().eval()
    batch = pair_batch()
    whole = task.student(batch.image, batch.pairs, batch.tokens, batch.keep)
    parts = [batch.part(i, 2, 6) for i in range(2)]
    assert_close(
        torch.cat([task.student(one.image, one.pairs, one.tokens, one.keep) for one in parts]),
        whole,
    )
    assert torch.cat([one.labels for one in parts]).equal(batch.labels)
    for one in parts:
        assert len(one.image) < 6
