"""pretrain: one step against a plain computation, and what may change, when, and what must not be seen."""
import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from emojiscenes.contrasts import CONTRASTS
from emojiscenes.grammar import directions
from emojiscenes.scenes import Scenes
from helpers import Batches, pretrain, same_state, small
from minalbef import train
from minalbef.data import BLOCK
from minalbef.datasets.loader import Ahead
from minalbef.fast import loop
from minalbef.fast.pretrain import FastPretrain
from minalbef.pretrain import Phase, Pretrain, make_draws
from minalbef.recipes import pretrain as recipe
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.pretrain import ScenePretrain
from minalbef.system import distributed
from minalbef.system.checkpoint import save
from minalbef.system.tokenizer import Tokenizer

CONFIG = small(match_from=0.25, queue_from=0.5, hard_from=0.75, epoch=160)          # from step 5, 10 and 15 of 20
SHORT = {"itc"}
LONG = {"itc", "itm", "mlm"}


@pytest.mark.parametrize("kind", [Pretrain, FastPretrain])
@pytest.mark.parametrize("step, names", [
    (0, SHORT), (4, SHORT), (5, LONG), (9, LONG), (10, LONG), (14, LONG), (15, LONG), (19, LONG)])
def test_a_step_has_the_losses_of_its_phase(kind, step, names):
    task, batch = pretrain(CONFIG, kind=kind), Batches(CONFIG)(0)
    for alpha in (0.0, 0.4):
        assert task(batch, alpha, task.draws(step))[0].keys() == names
    if step == 15:
        losses = task(batch, 0.4, task.draws(step))[0]
        other = task(batch, 0.4, task.draws(step), Phase(True, False, False))[0]
        assert all(abs(other[name] - losses[name]) > 1e-4 for name in ("itc", "itm"))


FUNCTIONS = ("itc_loss", "itm_loss", "mlm_loss", "hard_negatives", "mask_words", "make_queue", "make_teacher",
             "update_teacher")


def test_a_subclass_may_replace_each_function_that_a_step_computes_with():
    called = set()

    def watched(name: str):
        function = getattr(Pretrain(CONFIG), name)
        return staticmethod(lambda *given: called.add(name) or function(*given))

    kind = type("Watched", (ScenePretrain,), {name: watched(name) for name in FUNCTIONS})
    task, batch = kind(CONFIG), Batches(CONFIG)(0)
    task.after_step(task(batch, 0.0, task.draws(15))[1])
    assert called == set(FUNCTIONS)


def test_padding_may_stand_anywhere_among_the_words():
    """MLM's fusion takes hidden words first, and their mask with them."""
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    tokens, keep = batch.tokens.clone(), batch.keep.clone()
    tokens[:, 3], keep[:, 3] = 0, False
    batch = replace(batch, tokens=tokens, keep=keep)
    losses, _ = task(batch, 0.4, task.draws(15))
    plain = pretrain(CONFIG, kind=Pretrain)(batch, 0.4, task.draws(15))[0]
    assert_close(losses["mlm"], plain["mlm"], atol=1e-5, rtol=1e-5)


def test_no_gradient_reaches_the_teacher():
    assert not any(p.requires_grad for p in pretrain(CONFIG).teacher.parameters())


@pytest.mark.parametrize("step", [0, 5, 10, 15])
def test_without_siblings_pretraining_on_scenes_is_the_papers(step):
    batch = Batches(CONFIG)(0)
    for alpha in (0.0, 0.4):
        losses = []
        for kind in (Pretrain, ScenePretrain):
            task = pretrain(CONFIG, kind=kind)
            losses.append(task(batch, alpha, task.draws(step))[0])
        assert losses[0].keys() == losses[1].keys()
        assert all(losses[0][name].equal(losses[1][name]) for name in losses[0])


def four_pairs(task, batch, rows: list[int]) -> torch.Tensor:
    """The loss of siblings once more, one pair of picture and text after the other."""
    student, loss, image = task.student, 0.0, task.student.encode_image(batch.image)
    text = student.encode_text(batch.tokens, batch.keep)
    for row in rows:                             # with its own picture, and with its sibling's
        for picture, label in ((row, 1), (row + 1 if row % 2 == 0 else row - 1, 0)):
            fused = student.fuse(text[row:row + 1], batch.keep[row:row + 1], image[picture:picture + 1])
            loss = loss + F.cross_entropy(student.match_logits(fused), torch.tensor([label])) / len(rows) / 2
    return loss


def with_siblings(batch, rows: list[int]):
    return replace(batch, siblings=torch.tensor([i in rows for i in range(len(batch.ids))]))


def test_siblings_have_a_loss_of_their_own_and_the_other_losses_keep_their_count():
    task, batch, rows = pretrain(CONFIG), with_siblings(Batches(CONFIG)(0), [2, 3, 6, 7]), [2, 3, 6, 7]
    losses, _ = task(batch, 0.4, task.draws(15))
    without, _ = task(replace(batch, siblings=None), 0.4, task.draws(15))
    assert losses.keys() == LONG | {"siblings"} and without.keys() == LONG
    assert_close(losses["siblings"], four_pairs(task, batch, rows), atol=1e-5, rtol=1e-5)
    for name in ("itc", "mlm"):
        assert_close(losses[name], without[name])
    for row in rows:                                             # a sibling is no negative of ITM's own
        batch.match[row, row ^ 1] = True
    task.itc_loss = lambda sim, teacher_sim, alpha, positive: sim.sum() * 0
    apart, _ = task(replace(batch, siblings=None), 0.0, task.draws(15))
    assert_close(losses["itm"], apart["itm"])


def test_siblings_may_have_their_other_half_as_their_only_wrong_pair():
    task, rows = pretrain(replace(CONFIG, sibling_negatives=False)), [2, 3, 6, 7]
    batch, usual = with_siblings(Batches(CONFIG)(0), rows), pretrain(CONFIG)
    pairs, losses = [], []
    for each in (task, usual):
        each.pair = lambda *args, of=each: pairs.append(type(of).pair(of, *args)) or pairs[-1]
        losses.append(each(batch, 0.4, each.draws(15))[0])
    few, all_pairs = pairs
    others = [row for row in range(len(batch.ids)) if row not in rows]
    kept = [*range(8), *(8 + row for row in others), *(16 + row for row in others)]
    assert few.labels.tolist() == all_pairs.labels[kept].tolist() == [1] * 8 + [0] * 8
    for ours, whole in ((few.texts, all_pairs.texts), (few.images, all_pairs.images)):
        assert ours.tolist() == whole[[*kept, *range(24, 28)]].tolist(), "and behind them the siblings'"
    assert losses[0]["siblings"].equal(losses[1]["siblings"]) and not losses[0]["itm"].equal(losses[1]["itm"])


def test_fewer_siblings_than_processes_weigh_what_they_should(monkeypatch):
    logits = torch.tensor([[0.3, 1.0], [2.0, -1.0]])
    task = pretrain(CONFIG)
    alone = task.sibling_loss(logits, -logits)
    monkeypatch.setattr(distributed, "world", lambda: 8)         # of which one has the two siblings
    monkeypatch.setattr(distributed, "total", lambda x: x)
    assert_close(task.sibling_loss(logits, -logits) / 8, alone)


def test_in_a_lesson_siblings_outweigh_all_else():
    config = small(lesson_from=0.25, siblings_from=0.5, siblings=1.0, epoch=160)          # steps 5 to 9 of 20
    task, batch = pretrain(config), with_siblings(Batches(config)(0), list(range(8)))
    assert [step for step in range(20) if task.weights(step)] == [5, 6, 7, 8, 9]
    names, parameters = zip(*task.student.named_parameters())
    for step, weight in ((4, 1), (5, 10), (9, 10), (10, 1)):
        task.zero_grad()
        losses, _ = task(batch, 0.0, task.draws(step))
        expected = torch.autograd.grad(sum(losses.values()) + (weight - 1) * losses["siblings"], parameters)
        told, _ = loop.backward(task, task, batch, 0.0, task.draws(step), config, torch.device("cpu"),
                                 task.weights(step))
        assert_close(told["siblings"], losses["siblings"].detach())                 # what is logged has no weight
        for name, p, grad in zip(names, parameters, expected):
            assert_close(p.grad, grad, msg=lambda m: f"{name} in step {step}: {m}")


def test_a_lesson_begins_and_ends_with_a_bucket():
    config = small(lesson_from=0.3, siblings_from=0.55, siblings=0.1, epoch=160, bucket=4)
    assert [step for step in range(20) if config.in_lesson(step)] == [8, 9, 10, 11]
    assert not any(replace(config, siblings=0.0).in_lesson(step) for step in range(20))


def test_a_share_of_a_run_ends_with_the_step_that_its_digits_say():
    config = small(epoch=8 * 2400)
    assert config.steps == 2400 and 0.34 * 2400 > 816
    assert [config.step_of(share) for share in (0.0, 0.04, 0.34, 0.3401, 1.0)] == [0, 96, 816, 817, 2400]


def drawn_pairs(task, batch) -> tuple[set, set]:
    """(caption, picture) that ITM was shown as matching and as not matching, over many steps."""
    yes, no = set(), set()
    for step in range(15, 135):
        draws = make_draws(step, task.config)
        b = len(batch.ids)
        true = batch.match | (batch.ids[:, None] == batch.ids)
        sims = [torch.zeros(b, b)] * 2
        negatives = task.draw_negatives(sims, [true.T, true], batch, draws, True)
        for text, image, label, ok in zip(*task.pair(negatives, batch)):
            if ok:
                (yes if label else no).add((int(text), int(image)))
    return yes, no


def test_captions_true_of_another_picture_are_never_negatives_in_itm():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    true = set(map(tuple, batch.match.nonzero().tolist()))
    yes, no = drawn_pairs(task, batch)
    assert yes == {(i, i) for i in range(8)}
    assert no == {(i, j) for i in range(8) for j in range(8)} - true, "all others are drawn, none that is true"


@pytest.mark.parametrize("true_of_all, of", [("caption", "images"), ("image", "captions")])
def test_a_row_without_a_negative_of_one_kind_still_has_one_of_the_other(true_of_all, of):
    """A caption that is true of all images has no wrong image, and its image still has wrong captions."""
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    match = torch.eye(8).bool()                                  # caption i is true of image j
    if true_of_all == "caption":
        match[0] = True
    else:
        match[:, 0] = True
    negatives = task.draw_negatives([torch.zeros(8, 8)] * 2, [match.T, match], batch, make_draws(20, CONFIG), True)
    texts, images, labels, valid = task.pair(negatives, batch)
    own, wrong_images, wrong_texts = valid.view(3, 8).tolist()
    assert all(own) and wrong_images == [of == "captions", *[True] * 7] and wrong_texts == [of == "images", *[True] * 7]
    false = valid & (labels == 0)
    assert not match[texts[false], images[false]].any(), "what is said not to match doesn't"


def test_captions_true_of_another_picture_are_positives_in_itc():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    _, (texts, images) = task.positives(batch, batch.ids)
    assert texts[5, 2] and images[2, 5] and not texts[2, 5] and not images[5, 2]
    assert texts[0, 1] and texts[1, 0] and texts.sum() == images.sum() == 8 + 2 + 1
    unknown = replace(batch, match=None)                         # then equal ids alone match
    _, (texts, images) = task.positives(unknown, batch.ids)
    assert texts.equal(images) and texts.sum() == 8 + 2


def test_an_old_picture_of_the_same_id_is_a_positive_too():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    def itc():
        return task(batch, 0.0, task.draws(10))[0]["itc"]
    before = itc()
    row = len(task.queue.ids[:task.queue.filled]) - 1
    task.queue.ids[row] = batch.ids[3]
    assert abs(itc() - before) > 1e-3


def test_losses_change_nothing_and_come_out_the_same_twice():
    task, batch = pretrain(CONFIG).train(), Batches(CONFIG)(0)
    before, random = copy.deepcopy(task.state_dict()), torch.get_rng_state()
    losses, carry = task(batch, 0.4, task.draws(15))
    again, carry_again = task(batch, 0.4, task.draws(15))
    assert same_state(losses, again) and same_state(carry, carry_again)
    sum(again.values()).backward()
    assert same_state(before, task.state_dict()) and random.equal(torch.get_rng_state())
    task.after_step(carry)
    assert not same_state(before, task.state_dict()), "the check is blind"


def test_after_step_holds_the_temperature_moves_the_teacher_and_fills_the_queue():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    carry = task(batch, 0.4, task.draws(0))[1]
    with torch.no_grad():
        expected_image = task.teacher.image_feature(task.teacher.encode_image(batch.image))
    name = "fusion.layers.1.cross.v.weight"
    expected = 0.99 * task.teacher.get_parameter(name) + 0.01 * task.student.get_parameter(name).detach()
    for value, held in ((0.9, 0.5), (1e-5, 0.02), (0.3, 0.3)):
        with torch.no_grad():
            task.student.temperature.fill_(value)
        other = copy.deepcopy(task)
        other.after_step(carry)
        assert_close(other.student.temperature.detach(), torch.tensor(held))
    assert_close(other.teacher.get_parameter(name), expected)
    slots = (16 + torch.arange(8)) % 20                          # two batches of 8 were in a queue of 20
    assert other.queue.filled == 20 and other.queue.pointer == 4
    assert_close(other.queue.image[slots], expected_image)
    assert other.queue.ids[slots].equal(batch.ids)


@pytest.mark.parametrize("kind", ["one", "one image", "one image by id", "all true of all"])
@pytest.mark.parametrize("hard", [0.0, 1.0])
def test_batches_without_negatives_give_finite_losses(kind, hard):
    config = small(batch=1 if kind == "one" else 8, hard_from=hard)
    task, batch = pretrain(config), Batches(config)(0)
    if kind == "one image":
        batch = replace(batch, ids=batch.ids * 0, image=batch.image[:1].expand(8, -1, -1, -1))
    if kind == "one image by id":
        batch = replace(batch, ids=batch.ids * 0, match=None)
    if kind == "all true of all":
        batch = replace(batch, match=torch.ones(8, 8, dtype=torch.bool))
    losses, carry = task(batch, 0.4, task.draws(3))
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in task.student.parameters())
    fused = task.student.fuse(task.student.encode_text(batch.tokens, batch.keep), batch.keep,
                              task.student.encode_image(batch.image))
    assert_close(losses["itm"], F.cross_entropy(task.student.match_logits(fused), torch.ones_like(batch.ids)))
    task.after_step(carry)


def test_padding_cannot_be_seen_by_any_loss():
    config = small(text_length=9)
    task, short = pretrain(config), Batches(small(text_length=7))(0)
    longer = replace(short, tokens=F.pad(short.tokens, (0, 2)), keep=F.pad(short.keep, (0, 2)))
    losses, carry = task(short, 0.4, task.draws(3))
    padded, carry_padded = task(longer, 0.4, task.draws(3))
    for name in LONG:
        assert_close(padded[name], losses[name], atol=1e-5, rtol=1e-5)
    assert_close(carry, carry_padded, atol=1e-5, rtol=1e-5)
    with torch.no_grad():                                        # what [PAD] looks like is not seen, either
        for model in (task.student, task.teacher):
            model.text_encoder.embeddings.word_embed.weight[0] += 9
    other, _ = task(short, 0.4, task.draws(3))
    assert_close(other["itc"], losses["itc"])
    assert_close(other["itm"], losses["itm"])
    blind, _ = task(replace(short, keep=torch.ones_like(short.keep)), 0.4, task.draws(3))
    assert all(abs(blind[name] - losses[name]) > 1e-4 for name in ("itc", "itm")), "the check is blind"


def test_every_part_of_the_student_learns():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    sum(task(batch, 0.0, task.draws(15))[0].values()).backward()
    idle = [name for name, p in task.student.named_parameters()
            if p.grad is None or p.grad.abs().max() < 1e-7 and not name.endswith(".k.bias")]     # softmax ignores it
    assert not idle


def test_nothing_masked_gives_zero_and_no_nan():
    task = pretrain(small(mask_rate=0.0))
    losses, _ = task(Batches(task.config)(0), 0.4, task.draws(3))
    losses["mlm"].backward()
    assert losses["mlm"] == 0 and all(p.grad is None or p.grad.isfinite().all() for p in task.student.parameters())


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("every", [2, 3, 100])
def test_mlm_of_fewer_rows_is_that_of_a_batch_whose_other_rows_hide_nothing(alpha, every):
    batch = Batches(CONFIG)(0)
    task, fewer = pretrain(CONFIG), pretrain(replace(CONFIG, mlm_every=every))
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
    task, shared = pretrain(CONFIG), pretrain(replace(CONFIG, share_stem=True))
    with torch.no_grad():
        for each in (task, shared):
            each.student.image_encoder.patch_embed.norm.weight.mul_(1.5)
    losses, _ = shared(batch, alpha, task.draws(15))
    assert abs(task(batch, alpha, task.draws(15))[0]["itc"] - losses["itc"]) > 1e-4, "the check is blind"
    task.teacher.image_encoder.patch_embed.load_state_dict(task.student.image_encoder.patch_embed.state_dict())
    expected, _ = task(batch, alpha, task.draws(15))
    assert_close(losses, expected, atol=1e-5, rtol=1e-5)
    grads = [torch.autograd.grad(sum(found.values()), each.student.parameters())
             for found, each in ((losses, shared), (expected, task))]
    assert_close(*grads, atol=1e-5, rtol=1e-4)


def test_a_stem_that_does_not_stand_apart_cannot_be_shared():
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 4))
    student = pretrain(CONFIG).student
    student.image_encoder = encoder
    with pytest.raises(ValueError, match="share_stem=True needs .*Sequential.*share_stem=False"):
        FastPretrain(replace(CONFIG, share_stem=True), student=student)


def test_the_teacher_never_drops_out():
    task = pretrain(small(dropout=0.5)).train()
    assert task.student.training and not any(part.training for part in task.teacher.modules())
    batch = Batches(task.config)(0)
    (losses, carry), (again, carry_again) = (task(batch, 0.4, task.draws(3)) for _ in range(2))
    assert same_state(carry, carry_again)
    assert losses["itm"] != again["itm"], "the student does"


def test_draws_come_from_seed_and_step_alone():
    config = small()
    a, b = make_draws(3, config), make_draws(3, config)
    assert same_state(vars(a), vars(b))
    assert not a.choose.equal(make_draws(4, config).choose)
    assert not a.choose.equal(make_draws(3, small(seed=1)).choose)
    for name in ("choose", "kind", "negative_image", "negative_text"):
        u = getattr(a, name)
        assert 0 < u.min() and u.max() < 1


def test_no_two_draws_of_a_step_are_one():
    """So a row's negative image foretells neither its negative text nor a masked word."""
    draws = make_draws(3, small(batch=64, text_length=64, positions=64, queue_size=64))
    uniforms = torch.stack([draws.choose, draws.kind, draws.negative_image, draws.negative_text])
    assert (torch.corrcoef(uniforms.flatten(1)) - torch.eye(4)).abs().max() < 0.1


@pytest.mark.parametrize("batch, world", [(4, 2), (192, 1), (192, 3), (150, 5), (150, 2)])
def test_processes_draw_their_rows_of_the_whole(batch, world):
    config = small(batch=batch)
    whole = make_draws(3, config)
    parts = [make_draws(3, config, rank, world) for rank in range(world)]
    for name in ("choose", "kind", "words", "negative_image", "negative_text"):
        assert len(getattr(whole, name)) == batch
        assert torch.cat([getattr(part, name) for part in parts]).equal(getattr(whole, name))


def test_each_block_of_a_step_is_drawn_anew_and_no_step_repeats_one():
    config = small(batch=192)
    blocks = [part for step in (3, 4) for part in make_draws(step, config).choose.split(BLOCK)]
    for i, block in enumerate(blocks):
        assert not any(block.equal(other) for other in blocks[:i])


def test_a_batch_of_one_block_takes_the_draws_in_their_order_from_one_generator():
    """So runs of up to 64 rows a step keep their numbers."""
    config = small(batch=BLOCK)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + 3)
    draws = make_draws(3, config)
    assert draws.choose.equal(torch.rand(BLOCK, config.text_length, generator=generator).clamp(1e-7))


def test_a_process_of_eighty_draws_no_more_rows_than_its_own(monkeypatch):
    rand = torch.rand
    counts = []

    def counted_rand(count: int, *rest, **options):
        counts.append(count)
        return rand(count, *rest, **options)

    monkeypatch.setattr(torch, "rand", counted_rand)
    make_draws(3, small(batch=5120), 7, 80)
    assert set(counts) == {BLOCK}


# the embedded scenes

@pytest.fixture(scope="module")
def scenes():
    """Batches of scenes, siblings from step 10 of 20 on."""
    config = small(objects=12, siblings=1.0, siblings_from=0.5, batch=16, epoch=320, vocab_size=256, text_length=30,
                   positions=32)
    captions = (Scenes("train", objects=12).draw(i).text for i in range(500))
    return SceneBatches(config, Tokenizer.train(captions, config.vocab_size))


def test_scene_batches_are_a_pure_function_of_the_step(scenes):
    for step in (0, 12):
        a, b = scenes(step), SceneBatches(scenes.config, scenes.tokenizer)(step)
        assert same_state(vars(a), vars(b))
        assert a.image.shape == (16, 3, 24, 24) and len(set(a.ids.tolist())) == 16
        assert a.match.diagonal().all() and not a.match.all()
    assert not scenes(0).image.equal(scenes(1).image)


def test_processes_share_a_scene_batch(scenes, monkeypatch):
    whole = scenes(12)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        parts.append(SceneBatches(scenes.config, scenes.tokenizer)(12))
    for name in ("image", "tokens", "keep", "ids"):
        assert torch.cat([getattr(part, name) for part in parts]).equal(getattr(whole, name)), name
    assert all(part.match.equal(whole.match) for part in parts)


def test_scenes_are_the_same_when_workers_paint_them_ahead(scenes):
    ahead = Ahead(scenes, scenes.config, workers=2)
    assert all(same_state(vars(ahead(step)), vars(scenes(step))) for step in (3, 4, 5, 12, 19))


def kinds(drawn) -> list[str]:
    return sorted({thing.name for thing in drawn.scene.objects})


def test_siblings_come_when_they_should(scenes):
    def pairs(step):
        kind = scenes.after if step >= 10 else scenes.before
        drawn = [kind.draw(i) for i in range(16 * step, 16 * step + 16)]
        assert torch.tensor([one.id for one in drawn]).equal(scenes(step).ids)
        return sum(kinds(a) == kinds(b) for a, b in zip(drawn[::2], drawn[1::2]))
    assert pairs(9) < 4 and pairs(10) == 8
    assert scenes(9).siblings is None and scenes(10).siblings.all()


def test_a_lesson_on_scenes_is_drawn_when_the_task_takes_it(scenes):
    config = replace(scenes.config, lesson_from=0.2, bucket=4, siblings=0.5)       # steps 4 to 11 of 20
    batches = SceneBatches(config, scenes.tokenizer)
    for step in range(20):
        siblings, lesson = batches(step).siblings, config.in_lesson(step)
        assert lesson == (4 <= step < 12)
        assert (siblings is None) == (step < 4) and (step < 4 or siblings.all() == lesson)


def test_a_lesson_on_scenes_has_the_skew_of_the_settings(scenes):
    for skew in (0.0, 1.0):
        config = replace(scenes.config, lesson_from=0.2, bucket=1, siblings=0.5, lesson_skew=skew)
        texts = [pair.text for pair in SceneBatches(config, scenes.tokenizer).draw_bucket(5)[0]]
        skewed = [directions(text) in ({"left"}, {"above"}) for text in texts]
        assert all(skewed) if skew else not all(skewed), skew


def test_more_kinds_of_siblings_are_drawn_from_their_share_of_the_run_on(scenes):
    config = replace(scenes.config, siblings=1.0, siblings_from=0.2, more_kinds_from=0.6, bucket=1)    # step 12 of 20
    batches = SceneBatches(config, scenes.tokenizer)
    drawn = [{pair.kind for pair in batches.draw_bucket(step)[0]} for step in range(20)]
    new = [bool(kinds & set(CONTRASTS)) for kinds in drawn]
    assert not any(new[:12]) and all(new[12:]) and drawn[3] == {""}


def test_siblings_stay_together_in_a_second_epoch_of_an_odd_number_of_scenes(scenes):
    batches = SceneBatches(replace(scenes.config, epoch=33, epochs=2, siblings_from=0.0), scenes.tokenizer)
    for step in range(4):
        drawn = [batches.after.draw(i % 34) for i in range(16 * step, 16 * step + 16)]
        assert torch.tensor([one.id for one in drawn]).equal(batches(step).ids)
        assert all(kinds(a) == kinds(b) for a, b in zip(drawn[::2], drawn[1::2]))


def test_siblings_must_not_be_parted(scenes):
    with pytest.raises(ValueError, match="batch=15 is not a multiple of 2 .*in pairs of siblings.; choose one"):
        SceneBatches(replace(scenes.config, batch=15), scenes.tokenizer)


def test_buckets_hold_the_same_scenes_sorted_by_length_with_siblings_together(scenes):
    bucketed = SceneBatches(replace(scenes.config, bucket=5), scenes.tokenizer)
    plain, sorted_ = ([each(step) for step in range(10, 15)] for each in (scenes, bucketed))
    ids, ids_sorted = (torch.cat([batch.ids for batch in batches]) for batches in (plain, sorted_))
    assert not ids.equal(ids_sorted) and sorted(ids.tolist()) == sorted(ids_sorted.tolist())
    pairs, pairs_sorted = ({frozenset(pair) for pair in each.reshape(-1, 2).tolist()} for each in (ids, ids_sorted))
    assert pairs == pairs_sorted
    def padding(batches):
        return sum((~batch.keep).sum().item() for batch in batches)
    assert padding(sorted_) < 0.7 * padding(plain)
    again = SceneBatches(bucketed.config, bucketed.tokenizer)    # a resumed run begins in the middle of a bucket
    assert same_state(vars(again(13)), vars(sorted_[3]))


def test_a_step_on_scenes_has_finite_losses(scenes):
    task = Pretrain(replace(scenes.config, vocab_size=len(scenes.tokenizer)))
    losses, _ = task(scenes(12), 0.0, task.draws(12))
    assert all(value.isfinite() for value in losses.values())
    assert abs(losses["itm"] - math.log(2)) < 0.1
    assert abs(losses["mlm"] - math.log(len(scenes.tokenizer))) < 0.5


def test_rates_at_hand_are_the_buffers_after_a_move_and_a_load():
    """A move to a GPU, and a change of type, make a new buffer: what is loaded into it must mask the batches."""
    saved = FastPretrain(CONFIG, rates=torch.linspace(0, 1, CONFIG.vocab_size)).state_dict()
    for moved in (FastPretrain(CONFIG), FastPretrain(CONFIG).double()):
        moved.load_state_dict(saved)
        assert moved.cpu_rates.equal(moved.rates) and moved.rates.float().equal(saved["rates"])
    other = copy.deepcopy(moved)
    other.load_state_dict(FastPretrain(CONFIG).state_dict())
    assert other.cpu_rates.equal(other.rates) and moved.cpu_rates.float().equal(saved["rates"])


# the start of a run

@pytest.mark.parametrize("changes, says",
                         [({"warm_steps": 7}, "warm_steps: 5 there, 7 here"), ({"warm_lr": 0.5}, "warm_lr"),
                          ({"text_width": 24}, "text_width: 48 there, 24 here"), ({"warm_steps": 0}, "warm_steps")])
def test_a_start_that_was_made_with_other_settings_is_refused_before_anything_is_trained(tmp_path, monkeypatch,
                                                                                         changes, says):
    config = small(objects=12, warm_steps=5)
    monkeypatch.setattr(recipe, "CAPTIONS", 300)
    tokenizer, _ = recipe.read_captions(config)
    config = replace(config, vocab_size=len(tokenizer))
    save(tmp_path / "start", Pretrain(config).student, tokenizer)
    (tmp_path / "warm").mkdir()
    monkeypatch.setattr(train, "fit", lambda *given, **named: trained.append(given[3]) or ())
    trained = []
    with pytest.raises(ValueError,
                       match=f"start was made with other settings .*{says}.*remove .*start .*or choose another folder"):
        recipe.pretrain(replace(config, **changes), tmp_path, quiet=True)
    assert not trained
    recipe.pretrain(replace(config, device="cpu"), tmp_path, quiet=True)
    assert trained == [tmp_path], "the same settings go on, and the start is not made again"


def test_validation_losses_are_the_students_alone_in_every_phase():
    task, batch = pretrain(CONFIG), Batches(CONFIG)(0)
    before, draws = copy.deepcopy(task.state_dict()), make_draws(0, CONFIG)
    losses, (image, text, keys) = task.validate(batch, draws)
    alone = copy.deepcopy(task)
    alone.teacher = copy.deepcopy(task.student)
    expected, _ = alone(batch, 0.0, draws, Phase(True, False, True))
    assert losses.keys() == LONG, "at step 0, too, when only ITC is trained"
    for name, value in losses.items():
        assert_close(value, expected[name].detach(), atol=1e-5, rtol=1e-5)
        assert not value.requires_grad
    assert_close(image, task.student.image_feature(task.student.encode_image(batch.image)).detach())
    assert keys.equal(batch.ids) and text.shape == (8, 24)
    assert same_state(before, task.state_dict())
