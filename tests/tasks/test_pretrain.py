"""pretrain: one step against a plain computation, and what may change, when,
and what must not be seen."""
import copy
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from emojiscenes.scenes import Scenes
from helpers import Batches, pretrain, same_state, small
from minalbef import train
from minalbef.datasets.loader import Ahead
from minalbef.fast import loop
from minalbef.fast.pretrain import FastPretrain
from minalbef.pretrain import Negatives, Phase, Pretrain, make_draws
from minalbef.recipes import pretrain as recipe
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import distributed
from minalbef.system.checkpoint import save
from minalbef.system.tokenizer import Tokenizer

# from step 5, 10 and 15 of 20
CONFIG = small(match_from=0.25, queue_from=0.5, hard_from=0.75, epoch=160)
SHORT = {"itc"}
LONG = {"itc", "itm", "mlm"}


@pytest.mark.parametrize("kind", [Pretrain, FastPretrain])
@pytest.mark.parametrize("step, names", [
    (0, SHORT), (4, SHORT), (5, LONG), (9, LONG),
    (10, LONG), (14, LONG), (15, LONG), (19, LONG)])
def test_a_step_has_the_losses_of_its_phase(kind, step, names):
    task = pretrain(CONFIG, kind=kind)
    batch = Batches(CONFIG)(0)
    for alpha in (0.0, 0.4):
        assert task(batch, alpha, task.draws(step))[0].keys() == names
    if step == 15:
        losses = task(batch, 0.4, task.draws(step))[0]
        changed = task(batch, 0.4, task.draws(step), Phase(True, False, False))[0]
        for name in ("itc", "itm"):
            assert abs(changed[name] - losses[name]) > 1e-4


@pytest.mark.parametrize("step", [0, 5, 10, 15])
def test_without_siblings_pretraining_on_scenes_is_the_papers(step):
    batch = Batches(CONFIG)(0)
    for alpha in (0.0, 0.4):
        losses = []
        for kind in (Pretrain, ScenePretrain):
            task = pretrain(CONFIG, kind=kind)
            losses.append(task(batch, alpha, task.draws(step))[0])
        assert losses[0].keys() == losses[1].keys()
        for name in losses[0]:
            assert losses[0][name].equal(losses[1][name])


def four_pairs(task, batch, rows: list[int]) -> torch.Tensor:
    """The loss of siblings once more, one pair of picture and text after the other."""
    student = task.student
    loss = 0.0
    image = task.student.encode_image(batch.image)
    text = student.encode_text(batch.tokens, batch.keep)
    for row in rows:                             # with its own picture, and with its sibling's
        for picture, label in ((row, 1), (row + 1 if row % 2 == 0 else row - 1, 0)):
            fused = student.fuse(text[row:row + 1], batch.keep[row:row + 1],
                                 image[picture:picture + 1])
            loss = loss + F.cross_entropy(student.match_logits(fused),
                                          torch.tensor([label])) / len(rows) / 2
    return loss


def with_siblings(batch, rows: list[int]):
    return replace(batch, siblings=torch.tensor([i in rows for i in range(len(batch.ids))]))


def test_siblings_have_a_loss_of_their_own_and_the_other_losses_keep_their_count():
    task = pretrain(CONFIG)
    batch = with_siblings(Batches(CONFIG)(0), [2, 3, 6, 7])
    rows = [2, 3, 6, 7]
    losses, _ = task(batch, 0.4, task.draws(15))
    without, _ = task(replace(batch, siblings=None), 0.4, task.draws(15))
    assert losses.keys() == LONG | {"siblings"} and without.keys() == LONG
    assert_close(losses["siblings"], four_pairs(task, batch, rows), atol=1e-5, rtol=1e-5)
    for name in ("itc", "mlm"):
        assert_close(losses[name], without[name])
    # a sibling is no negative of ITM's own
    for row in rows:
        batch.match[row, row ^ 1] = True
    task.itc_loss = lambda sim, teacher_sim, alpha, positive: sim.sum() * 0
    alone, _ = task(replace(batch, siblings=None), 0.0, task.draws(15))
    assert_close(losses["itm"], alone["itm"])


def test_in_a_lesson_siblings_outweigh_all_else():
    # steps 5 to 9 of 20
    config = small(lesson_from=0.25, siblings_from=0.5, siblings=1.0, epoch=160)
    task = pretrain(config)
    batch = with_siblings(Batches(config)(0), list(range(8)))
    assert [step for step in range(20) if task.weights(step)] == [5, 6, 7, 8, 9]
    names, parameters = zip(*task.student.named_parameters())
    for step, weight in ((4, 1), (5, 10), (9, 10), (10, 1)):
        task.zero_grad()
        losses, _ = task(batch, 0.0, task.draws(step))
        expected = torch.autograd.grad(sum(losses.values()) + (weight - 1) * losses["siblings"],
                                       parameters)
        log, _ = loop.backward(task, task, batch, 0.0, task.draws(step),
                               config, torch.device("cpu"),
                                 task.weights(step))
        # what is logged has no weight
        assert_close(log["siblings"], losses["siblings"].detach())
        for name, p, grad in zip(names, parameters, expected):
            assert_close(p.grad, grad, msg=lambda m: f"{name} in step {step}: {m}")


def drawn_pairs(task, batch) -> tuple[set, set]:
    """(caption, picture) that ITM was shown as matching and as not matching,
    over many steps."""
    yes = set()
    no = set()
    for step in range(15, 135):
        draws = make_draws(step, task.config)
        b = len(batch.ids)
        true = batch.match | (batch.ids[:, None] == batch.ids)
        _, excluded = task.positives(batch, batch.ids)
        assert torch.equal(excluded[0] & true.T, true.T)
        text, has_text = task.hard_negatives(torch.zeros(b, b), excluded[0], draws.negative_text)
        image, has_image = task.hard_negatives(torch.zeros(b, b), excluded[1], draws.negative_image)
        negatives = Negatives(text, image, has_text, has_image)
        for text, image, label, ok in zip(*task.pair(negatives, batch)):
            if ok:
                (yes if label else no).add((int(text), int(image)))
    return yes, no


def test_captions_true_of_another_picture_are_never_negatives_in_itm():
    task = pretrain(CONFIG)
    batch = Batches(CONFIG)(0)
    true = set(map(tuple, batch.match.nonzero().tolist()))
    yes, no = drawn_pairs(task, batch)
    assert yes == set(zip(range(8), range(8)))
    assert no == set(itertools.product(range(8), range(8))) - true, (
        "all others are drawn, none that is true")


def test_captions_true_of_another_picture_are_positives_in_itc():
    task = pretrain(CONFIG)
    batch = Batches(CONFIG)(0)
    _, (texts, images) = task.positives(batch, batch.ids)
    assert texts[5, 2] and images[2, 5] and not texts[2, 5] and not images[5, 2]
    assert texts[0, 1] and texts[1, 0] and texts.sum() == images.sum() == 8 + 2 + 1
    unknown = replace(batch, match=None)                         # then equal ids alone match
    _, (texts, images) = task.positives(unknown, batch.ids)
    assert texts.equal(images) and texts.sum() == 8 + 2


def test_after_step_holds_the_temperature_moves_the_teacher_and_fills_the_queue():
    task = pretrain(CONFIG)
    batch = Batches(CONFIG)(0)
    carry = task(batch, 0.4, task.draws(0))[1]
    with torch.no_grad():
        expected_image = task.teacher.image_feature(task.teacher.encode_image(batch.image))
    name = "fusion.layers.1.cross.v.weight"
    expected = 0.99 * task.teacher.get_parameter(
        name) + 0.01 * task.student.get_parameter(name).detach()
    for value, limit in ((0.9, 0.5), (1e-5, 0.02), (0.3, 0.3)):
        with torch.no_grad():
            task.student.temperature.fill_(value)
        changed = copy.deepcopy(task)
        changed.after_step(carry)
        assert_close(changed.student.temperature.detach(), torch.tensor(limit))
    assert_close(changed.teacher.get_parameter(name), expected)
    # two batches of 8 were in a queue of 20
    slots = (16 + torch.arange(8)) % 20
    assert changed.queue.filled == 20 and changed.queue.pointer == 4
    assert_close(changed.queue.image[slots], expected_image)
    assert changed.queue.ids[slots].equal(batch.ids)


@pytest.mark.parametrize("kind", ["one", "one image", "one image by id", "all true of all"])
@pytest.mark.parametrize("hard", [0.0, 1.0])
def test_batches_without_negatives_give_finite_losses(kind, hard):
    config = small(batch=1 if kind == "one" else 8, hard_from=hard)
    task = pretrain(config)
    batch = Batches(config)(0)
    if kind == "one image":
        batch = replace(batch, ids=batch.ids * 0, image=batch.image[:1].expand(8, -1, -1, -1))
    if kind == "one image by id":
        batch = replace(batch, ids=batch.ids * 0, match=None)
    if kind == "all true of all":
        batch = replace(batch, match=torch.ones(8, 8, dtype=torch.bool))
    losses, carry = task(batch, 0.4, task.draws(3))
    sum(losses.values()).backward()
    for value in losses.values():
        assert value.isfinite()
    for p in task.student.parameters():
        assert p.grad.isfinite().all()
    fused = task.student.fuse(task.student.encode_text(batch.tokens, batch.keep), batch.keep,
                              task.student.encode_image(batch.image))
    assert_close(losses["itm"],
                 F.cross_entropy(task.student.match_logits(fused), torch.ones_like(batch.ids)))
    task.after_step(carry)


def test_padding_cannot_be_seen_by_any_loss():
    config = small(text_length=9)
    task = pretrain(config)
    short = Batches(small(text_length=7))(0)
    longer = replace(short, tokens=F.pad(short.tokens, (0, 2)), keep=F.pad(short.keep, (0, 2)))
    losses, carry = task(short, 0.4, task.draws(3))
    padded, carry_padded = task(longer, 0.4, task.draws(3))
    for name in LONG:
        assert_close(padded[name], losses[name], atol=1e-5, rtol=1e-5)
    assert_close(carry, carry_padded, atol=1e-5, rtol=1e-5)
    # what [PAD] looks like is not seen, either
    with torch.no_grad():
        for model in (task.student, task.teacher):
            model.text_encoder.embeddings.word_embed.weight[0] += 9
    changed, _ = task(short, 0.4, task.draws(3))
    assert_close(changed["itc"], losses["itc"])
    assert_close(changed["itm"], losses["itm"])
    blind, _ = task(replace(short, keep=torch.ones_like(short.keep)), 0.4, task.draws(3))
    for name in ("itc", "itm"):
        assert abs(blind[name] - losses[name]) > 1e-4, "the check is blind"


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("every", [2, 3, 100])
def test_mlm_of_fewer_rows_is_that_of_a_batch_whose_other_rows_hide_nothing(alpha, every):
    batch = Batches(CONFIG)(0)
    task = pretrain(CONFIG)
    fewer = pretrain(replace(CONFIG, mlm_every=every))
    draws = task.draws(15)
    losses, _ = fewer(batch, alpha, draws)
    spared = torch.full_like(draws.choose, 1 - 1e-7)
    spared[::every] = draws.choose[::every]
    expected, _ = task(batch, alpha, replace(draws, choose=spared))
    assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    assert abs(task(batch, alpha, draws)[0]["mlm"] - losses["mlm"]) > 1e-4, "the check is blind"


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_a_shared_stem_is_the_students_and_the_teacher_teaches_it_nothing(alpha):
    batch = Batches(CONFIG)(0)
    task = pretrain(CONFIG)
    shared = pretrain(replace(CONFIG, share_stem=True))
    with torch.no_grad():
        for each in (task, shared):
            each.student.image_encoder.patch_embed.norm.weight.mul_(1.5)
    losses, _ = shared(batch, alpha, task.draws(15))
    assert abs(task(batch, alpha, task.draws(15))[0]["itc"] - losses["itc"]) > 1e-4, (
        "the check is blind")
    task.teacher.image_encoder.patch_embed.load_state_dict(
        task.student.image_encoder.patch_embed.state_dict())
    expected, _ = task(batch, alpha, task.draws(15))
    assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    grads = [torch.autograd.grad(sum(parts.values()), each.student.parameters())
             for parts, each in ((losses, shared), (expected, task))]
    assert_close(*grads, atol=1e-5, rtol=1e-4)


# the embedded scenes

@pytest.fixture(scope="module")
def scenes():
    """Batches of scenes, siblings from step 10 of 20 on."""
    config = small(objects=12, siblings=1.0, siblings_from=0.5,
                   batch=16, epoch=320, vocab_size=256, text_length=30,
                   positions=32)
    captions = (Scenes("train", objects=12).draw(i).text for i in range(500))
    return SceneBatches(config, Tokenizer.train(captions, config.vocab_size))


def test_scene_batches_are_a_pure_function_of_the_step(scenes):
    for step in (0, 12):
        a = scenes(step)
        b = SceneBatches(scenes.config, scenes.tokenizer)(step)
        assert same_state(vars(a), vars(b))
        assert a.image.shape == (16, 3, 24, 24) and len(set(a.ids.tolist())) == 16
        assert a.match.diagonal().all() and not a.match.all()
    assert not scenes(0).image.equal(scenes(1).image)


def test_processes_share_a_scene_batch(scenes, monkeypatch):
    full = scenes(12)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        parts.append(SceneBatches(scenes.config, scenes.tokenizer)(12))
    for name in ("image", "tokens", "keep", "ids"):
        assert torch.cat([getattr(part, name)
                          for part in parts]).equal(getattr(full, name)), name
    for part in parts:
        assert part.match.equal(full.match)


def test_scenes_are_the_same_when_workers_paint_them_ahead(scenes):
    ahead = Ahead(scenes, scenes.config, workers=2)
    for step in (3, 4, 5, 12, 19):
        assert same_state(vars(ahead(step)), vars(scenes(step)))


def kinds(sample) -> list[str]:
    return sorted({thing.name for thing in sample.scene.objects})


def test_siblings_come_when_they_should(scenes):
    def pairs(step):
        kind = scenes.after if step >= 10 else scenes.before
        samples = list(map(kind.draw, range(16 * step, 16 * step + 16)))
        assert torch.tensor([item.id for item in samples]).equal(scenes(step).ids)
        return sum(kinds(a) == kinds(b) for a, b in zip(samples[::2], samples[1::2]))
    assert pairs(9) < 4 and pairs(10) == 8
    assert scenes(9).siblings is None and scenes(10).siblings.all()


def test_siblings_must_not_be_parted(scenes):
    with pytest.raises(ValueError,
                       match="batch=15 is not a multiple of 2 .*in pairs of siblings.; choose one"):
        SceneBatches(replace(scenes.config, batch=15), scenes.tokenizer)


def test_buckets_hold_the_same_scenes_sorted_by_length_with_siblings_together(scenes):
    bucketed = SceneBatches(replace(scenes.config, bucket=5), scenes.tokenizer)
    plain = list(map(scenes, range(10, 15)))
    sorted_ = list(map(bucketed, range(10, 15)))
    ids = torch.cat([batch.ids for batch in plain])
    ids_sorted = torch.cat([batch.ids for batch in sorted_])
    assert not ids.equal(ids_sorted)
    assert sorted(ids.tolist()) == sorted(ids_sorted.tolist())
    pairs = {frozenset(pair) for pair in ids.reshape(-1, 2).tolist()}
    pairs_sorted = {frozenset(pair) for pair in ids_sorted.reshape(-1, 2).tolist()}
    assert pairs == pairs_sorted
    def padding(batches):
        return sum((~batch.keep).sum().item() for batch in batches)
    assert padding(sorted_) < 0.7 * padding(plain)
    # a resumed run begins in the middle of a bucket
    again = SceneBatches(bucketed.config, bucketed.tokenizer)
    assert same_state(vars(again(13)), vars(sorted_[3]))


# the start of a run

@pytest.mark.parametrize("changes, says",
                         [({"warm_lr": 0.5}, "warm_lr"),
                          ({"text_width": 24}, "text_width: 48 there, 24 here")])
def test_a_start_that_was_made_with_other_settings_is_refused_before_anything_is_trained(
        tmp_path, monkeypatch, changes, says):
    config = small(objects=12, warm_steps=5)
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    tokenizer, _ = recipe.read_captions(config)
    config = replace(config, vocab_size=len(tokenizer))
    save(tmp_path / "start", Pretrain(config).student, tokenizer)
    (tmp_path / "warm").mkdir()
    monkeypatch.setattr(train, "fit", lambda *args, **named: trained.append(args[3]) or ())
    trained = []
    message = f"start was made with other settings .*{says}.*remove .*start .*or choose another folder"
    with pytest.raises(ValueError, match=message):
        recipe.pretrain(replace(config, **changes), tmp_path, quiet=True)
    assert not trained
    recipe.pretrain(replace(config, device="cpu"), tmp_path, quiet=True)
    assert trained == [tmp_path], "the same settings go on, and the start is not made again"


def test_validation_losses_are_the_students_alone_in_every_phase():
    task = pretrain(CONFIG)
    batch = Batches(CONFIG)(0)
    before = copy.deepcopy(task.state_dict())
    draws = make_draws(0, CONFIG)
    losses, (image, text, keys) = task.validate(batch, draws)
    alone = copy.deepcopy(task)
    alone.teacher = copy.deepcopy(task.student)
    expected, _ = alone(batch, 0.0, draws, Phase(True, False, True))
    assert losses.keys() == LONG, "at step 0, too, when only ITC is trained"
    for name, value in losses.items():
        assert_close(value, expected[name].detach(), atol=1e-5, rtol=1e-5)
        assert not value.requires_grad
    assert_close(image,
                 task.student.image_feature(task.student.encode_image(batch.image)).detach())
    assert keys.equal(batch.ids) and text.shape == (8, 24)
    assert same_state(before, task.state_dict())
