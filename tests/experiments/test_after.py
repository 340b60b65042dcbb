"""ALBEF's successors: what each computes, against numbers worked by hand or another way, and their command."""
import json
import math
import statistics
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.testing import assert_close

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "experiments" / "after"))

import after  # noqa: E402
import after_tables  # noqa: E402
import capfilt  # noqa: E402
import coca  # noqa: E402
import false_captions  # noqa: E402
import measure  # noqa: E402
from blip import BLIP, BLIPPretrain  # noqa: E402
from boxes import BoxBatches  # noqa: E402
from captioning import add_end, caption_loss, causal, log_likelihood  # noqa: E402
from coca import CoCa, CoCaPretrain  # noqa: E402
from emojiscenes.language import Noun, fits  # noqa: E402
from emojiscenes.staging import overlap  # noqa: E402
from filip import FILIPPretrain, late_interaction, late_similarity, split_keep  # noqa: E402
from helpers import Batches, disturb, short, short_interval, small, texts  # noqa: E402
from in_batch import InBatch  # noqa: E402
from llava import LLaVA, LLaVAPretrain  # noqa: E402
from minalbef import ALBEF  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.evaluation.ranking import Encoded  # noqa: E402
from minalbef.losses import itc_loss  # noqa: E402
from minalbef.presets import preset  # noqa: E402
from minalbef.recipes import pretrain  # noqa: E402
from siglip import SigLIPPretrain, sigmoid_loss  # noqa: E402
from xvlm import XVLM, XVLMPretrain, generalised_iou, patches_under  # noqa: E402

CONFIG = small()
CAPTIONERS = (BLIP, CoCa, LLaVA)


def new_task(make, config=CONFIG):
    torch.manual_seed(0)
    task = make(config)
    disturb(task.student)
    return task


def losses_of(task, batch=None):
    return task(Batches(CONFIG)(0) if batch is None else batch, 0.0, task.draws(0))[0]


@pytest.fixture
def few_captions(monkeypatch):
    """The tokenizer learns from few captions, which takes less time."""
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)


# within the batch


def test_in_batch_itc_is_clips_loss_of_the_students_own_features():
    task = new_task(InBatch)
    batch = Batches(CONFIG)(0)
    image = task.student.image_feature(task.student.encode_image(batch.image))
    text = task.student.text_feature(task.student.encode_text(batch.tokens, batch.keep))
    logits = image @ text.T / task.student.temperature
    true = (batch.match | (batch.ids[:, None] == batch.ids)).T               # (image, text)
    to_text = itc_loss(logits, logits, 0.0, true)
    to_image = itc_loss(logits.T, logits.T, 0.0, true.T)
    assert_close(losses_of(task)["itc"], (to_text + to_image) / 2)

    losses_of(task)["itc"].backward()
    assert task.student.text_proj.weight.grad.abs().sum() > 0
    assert not list(task.teacher.parameters()) and task.queue.filled == 0


def test_it_leaves_no_teacher_to_move_and_no_queue_to_fill():
    task = new_task(InBatch)
    _, carry = task(Batches(CONFIG)(0), 0.0, task.draws(0))
    with torch.no_grad():
        task.student.temperature.fill_(9.0)
    task.after_step(carry)
    assert task.queue.filled == 0 and task.student.temperature.item() == CONFIG.temperature_max


# SigLIP


def test_siglips_loss_of_two_pairs_by_hand():
    logits, positive = torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.eye(2, dtype=torch.bool)
    def no(x):                                   # minus the logarithm of a sigmoid
        return math.log(1 + math.exp(-x))
    by_hand = (no(2.0) + no(1.0) + no(-0.5) + no(3.0)) / 2
    assert sigmoid_loss(logits, positive).item() == pytest.approx(by_hand)
    assert sigmoid_loss(logits, ~positive).item() != pytest.approx(by_hand, abs=0.1)
    softmax = itc_loss(logits, logits, 0.0, positive).item()
    assert sigmoid_loss(logits, positive).item() != pytest.approx(softmax, abs=0.1)


def test_in_training_it_takes_all_pairs_with_the_learnt_bias_and_no_queue():
    task = new_task(SigLIPPretrain, replace(CONFIG, temperature=0.1))
    assert task.student.bias.item() == pytest.approx(-10, abs=0.5) and task.student.bias.requires_grad
    batch = Batches(CONFIG)(0)
    image = task.student.image_feature(task.student.encode_image(batch.image))
    text = task.student.text_feature(task.student.encode_text(batch.tokens, batch.keep))
    total = 0.0
    for i in range(CONFIG.batch):
        for t in range(CONFIG.batch):
            logit = image[i] @ text[t] / task.student.temperature + task.student.bias
            right = batch.match[t, i] or batch.ids[t] == batch.ids[i]
            total -= F.logsigmoid(logit if right else -logit)
    assert_close(losses_of(task)["itc"], total / CONFIG.batch)
    assert list(losses_of(task)) == ["itc", "itm", "mlm"]


# FILIP


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_late_interaction_of_one_patch_and_one_word_is_itc():
    image, text = unit(3, 1, 8), unit(4, 1, 8, seed=1)
    for sim in late_interaction(image, text, torch.ones(4, 1, dtype=torch.bool)):
        assert_close(sim, image[:, 0] @ text[:, 0].T)
    several = late_interaction(unit(3, 2, 8), text, torch.ones(4, 1, dtype=torch.bool))
    assert not several[0].allclose(several[1]), "with more patches the two ways differ"


def test_late_interaction_by_hand_and_padding_is_no_word():
    image = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])                         # two patches
    text = torch.tensor([[[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]]])             # two words, and padding
    keep = torch.tensor([[True, True, False]])
    by_patches, by_words = late_interaction(image, text, keep)
    assert by_patches.item() == pytest.approx((0.6 + 0.8) / 2)               # the first word is both patches' best
    assert by_words.item() == pytest.approx((0.8 + 0.0) / 2)
    seen = late_interaction(image, text, torch.ones_like(keep))
    assert seen[0].item() == pytest.approx((0.6 + 1.0) / 2) and seen[1].item() == pytest.approx((0.8 + 0.0 + 1.0) / 3)


def test_in_training_images_ask_by_patches_and_texts_by_words():
    task, batch = new_task(FILIPPretrain), Batches(CONFIG)(0)
    model = task.student
    image = model.image_feature(model.encode_image(batch.image))
    feature = model.text_feature(model.encode_text(batch.tokens, batch.keep), batch.keep)
    text, is_word = split_keep(feature)
    assert image.shape == (8, 9, 24) and text.shape == (8, batch.tokens.shape[1] - 1, 24)
    assert is_word.equal(batch.keep[:, 1:])
    by_patches, by_words = late_interaction(image, text, is_word)
    true = (batch.match | (batch.ids[:, None] == batch.ids)).T
    temperature = model.temperature
    expected = (itc_loss(by_patches / temperature, by_patches, 0.0, true)
                + itc_loss(by_words.T / temperature, by_words, 0.0, true.T)) / 2
    assert_close(losses_of(task)["itc"], expected)


def test_evaluation_ranks_by_the_mean_of_both_ways(monkeypatch):
    model, batch = new_task(FILIPPretrain).student, Batches(CONFIG)(0)
    with torch.no_grad():
        encoded = Encoded(model.encode_image(batch.image), model.encode_text(batch.tokens, batch.keep), batch.keep)
        text = model.text_feature(encoded.text, batch.keep)
        ways = late_interaction(model.image_feature(encoded.image), *split_keep(text))
    whole = late_similarity(model, encoded)
    assert_close(whole, (ways[0] + ways[1]) / 2)
    monkeypatch.setattr("filip.CHUNK", 3)
    assert_close(late_similarity(model, encoded), whole)


# captioners


def captioner(kind):
    torch.manual_seed(0)
    return disturb(kind(CONFIG)).eval()


@torch.no_grad()
def logits_of(model, tokens, keep, image):
    return model.next_word_logits(tokens, keep, model.encode_image(image))


@pytest.mark.parametrize("kind", CAPTIONERS)
def test_captioning_never_sees_the_word_it_predicts_nor_those_behind_it(kind, monkeypatch):
    model, image = captioner(kind), torch.randn(3, 3, 24, 24)
    tokens, keep = texts(3, 9, lengths=[9, 9, 9])
    logits = logits_of(model, tokens, keep, image)
    changed = tokens.clone()
    changed[:, 5:] = tokens[:, 5:].flip(0) + 1
    others = logits_of(model, changed.clamp(max=63), keep, image)
    assert_close(others[:, :5], logits[:, :5])
    assert not others[:, 5].allclose(logits[:, 5], atol=1e-3), "words before it count"
    assert not logits_of(model, tokens, keep, 0 * image)[:, 4].allclose(logits[:, 4], atol=1e-3), "the image counts"
    for module in {"blip", "coca", "llava"}:     # without the mask, the check fails
        monkeypatch.setattr(f"{module}.causal", lambda keep: keep[:, None].expand(-1, keep.shape[1], -1))
    assert not logits_of(model, changed.clamp(max=63), keep, image)[:, :5].allclose(logits[:, :5], atol=1e-3)


@pytest.mark.parametrize("kind", CAPTIONERS)
def test_a_likelihood_is_of_one_word_after_the_other_and_padding_has_none(kind):
    model, image = captioner(kind), torch.randn(2, 3, 24, 24)
    tokens, keep = texts(2, 9, lengths=[9, 5])
    together = log_likelihood(logits_of(model, tokens, keep, image), tokens, keep)
    for row, length in enumerate((9, 5)):
        total = 0.0
        for i in range(1, length):
            before = tokens[row:row + 1, :i]
            logits = logits_of(model, before, torch.ones_like(before, dtype=torch.bool), image[row:row + 1])
            total += logits[0, -1].log_softmax(-1)[tokens[row, i]].item()
        assert together[row].item() == pytest.approx(total, abs=1e-4)


def test_the_mask_the_end_and_the_loss_by_hand():
    keep = torch.tensor([[True, True, True], [True, True, False]])
    assert causal(keep).long().tolist() == [[[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 0, 0], [1, 1, 0], [1, 1, 0]]]
    tokens = torch.tensor([[2, 7, 8], [2, 9, 0]])
    ended, longer = add_end(tokens, keep, 3)
    assert ended.tolist() == [[2, 7, 8, 3], [2, 9, 3, 0]] and longer.sum(1).tolist() == [4, 3]
    logits = torch.zeros(2, 3, 10)
    logits[0, 0, 7] = 1.0                        # the image says 7 behind [CLS]; all else is even
    right = math.log(9 + math.e) - 1
    assert caption_loss(logits, tokens, keep).item() == pytest.approx((right + 2 * math.log(10)) / 3)
    assert_close(log_likelihood(logits, tokens, keep), torch.tensor([-right - math.log(10), -math.log(10)]))


def test_blips_decoder_shares_all_but_self_attention_and_its_norm():
    model = BLIP(CONFIG)
    own = {name for name, _ in model.named_parameters() if name.startswith("causal_")}
    assert own and all(".attn." in name or ".norm1." in name for name in own)
    extra = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in ALBEF(CONFIG).parameters())
    layer = 4 * (48 * 48 + 48) + 2 * 48
    assert extra == layer * (CONFIG.text_depth + CONFIG.fusion_depth)
    assert model.causal_fusion.layers[0].cross.q.weight is model.fusion.layers[0].cross.q.weight
    assert model.causal_fusion.layers[0].attn.q.weight is not model.fusion.layers[0].attn.q.weight
    twin = BLIPPretrain(CONFIG).teacher
    assert twin.causal_text.layers[0].mlp.fc1.weight is twin.text_encoder.layers[0].mlp.fc1.weight


def test_blip_keeps_itc_and_itm_and_smooths_the_labels_of_captions():
    task, batch = new_task(BLIPPretrain), Batches(CONFIG)(0)
    losses = losses_of(task)
    assert list(losses) == ["itc", "itm", "caption"]
    tokens, keep = add_end(batch.tokens, batch.keep, 3)
    logits = task.student.next_word_logits(tokens, keep, task.student.encode_image(batch.image))
    words = keep[:, 1:]
    log_probabilities = logits[:, :-1].log_softmax(-1)[words]                # (w, v)
    own = log_probabilities.gather(1, tokens[:, 1:][words][:, None])[:, 0]
    by_hand = -(0.9 * own + 0.1 * log_probabilities.mean(1)).mean()
    assert_close(losses["caption"], by_hand)
    assert_close(losses["itc"], losses_of(new_task(lambda config: after.FastScenePretrain(
        config, student=BLIP(config))))["itc"], msg="ITC is ALBEF's, with teacher and queue")


def test_coca_encodes_each_text_once_and_pools_its_last_word(monkeypatch):
    task, batch, calls = new_task(CoCaPretrain), Batches(CONFIG)(0), Counter()
    logits = task.student.next_word_logits(batch.tokens, batch.keep, task.student.encode_image(batch.image))
    for name in ("encode_image", "encode_text", "fuse"):
        def counted(model, *inputs, method=getattr(CoCa, name), name=name):
            calls[name] += 1
            return method(model, *inputs)
        monkeypatch.setattr(CoCa, name, counted)
    losses = losses_of(task)
    assert calls == {"encode_image": 1, "encode_text": 1, "fuse": 1}, "one pass serves both losses"
    assert list(losses) == ["itc", "caption"] and task.weights(0) == {"caption": 2.0}
    assert_close(losses["caption"], caption_loss(logits, batch.tokens, batch.keep))
    x = task.student.encode_text(batch.tokens, batch.keep)
    pooled = task.student.text_encoder.pool(x, batch.keep)
    for row in range(CONFIG.batch):
        assert pooled[row].equal(x[row, int(batch.keep[row].sum()) - 1])
    assert isinstance(task.student.text_encoder, coca.CausalText)


def test_llavas_image_encoder_stays_and_the_rest_learns():
    task, batch = new_task(LLaVAPretrain).train(), Batches(CONFIG)(0)
    before = {name: value.clone() for name, value in task.student.state_dict().items()}
    rows = after.train_steps(task, lambda step: batch, CONFIG, range(6))
    assert rows[-1]["caption"] < 0.9 * rows[0]["caption"]
    for name, value in task.student.state_dict().items():
        if not name.endswith("type_embed.weight"):
            assert value.equal(before[name]) == name.startswith("image_encoder."), name


# X-VLM


def test_patches_under_a_box_by_hand():
    boxes = torch.tensor([[0.25, 0.25, 0.4, 0.4], [0.5, 0.9, 0.9, 0.1]])     # top left; a strip at the bottom
    assert patches_under(boxes, 4).view(2, 4, 4).long().tolist() == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]]


def test_generalised_iou_by_hand():
    a = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.2]])
    b = torch.tensor([[0.6, 0.2, 0.2, 0.2], [0.5, 0.5, 0.4, 0.4], [0.4, 0.3, 0.2, 0.2]])
    third = 0.02 / 0.06                                                      # of what both cover together
    assert_close(generalised_iou(a, b), torch.tensor([0 - (0.12 - 0.08) / 0.12, 1.0, third]))


def test_a_batchs_boxes_are_its_scenes_and_phrases_fit_them(few_captions):
    config = preset("tiny", siblings=0.0, batch=16, bucket=2, seed=3)
    tokenizer, _ = pretrain.read_captions(config)
    batches = BoxBatches(config, tokenizer)
    batch = batches(1)
    texts_of = [tokenizer.decode(row) for row in batch.phrases.tolist()]
    for row, drawn in enumerate(batches.batches[1]):
        x, y, width, height = batch.boxes[row].tolist()
        left_top = (x - width / 2, y - height / 2, width, height)
        thing = max(drawn.scene.objects, key=lambda thing: overlap(
            left_top, (thing.x - thing.size / 2, thing.y - thing.size / 2, thing.size, thing.size)))
        assert thing.x == pytest.approx(x) and thing.size == pytest.approx(width)
        assert texts_of[row].endswith(thing.name) and batch.fits[row, row]
        names = [other.name for other in drawn.scene.objects]
        assert batch.alone[row] == (names.count(thing.name) == 1)
        size = texts_of[row].split()[1] if texts_of[row].split()[1] in ("small", "big") else None
        assert fits(Noun(thing.name, size), thing) is True


class BoxSource:
    """step -> a small batch with boxes."""

    def __call__(self, step):
        batch = Batches(CONFIG)(step)
        phrases, keep = texts(8, 4, seed=9)
        chance = torch.Generator().manual_seed(step)
        boxes = 0.3 + 0.4 * torch.rand(8, 4, generator=chance)
        fit = torch.eye(8, dtype=torch.bool)
        fit[0, 3] = True
        alone = torch.arange(8) != 2
        return SimpleBoxBatch(**vars(batch), phrases=phrases, phrase_keep=keep, boxes=boxes, alone=alone, fits=fit)


SimpleBoxBatch = sys.modules["boxes"].BoxBatch


def test_xvlms_losses_another_way():
    task, batch = new_task(XVLMPretrain), BoxSource()(0)
    model = task.student
    losses = losses_of(task, batch)
    assert list(losses) == ["itc", "itm", "mlm", "itc_box", "itm_box", "box"]
    image = model.encode_image(batch.image)
    inside = patches_under(batch.boxes, CONFIG.grid)
    pooled = torch.stack([tokens[1:][rows].mean(0) for tokens, rows in zip(image, inside)])
    text = model.encode_text(batch.phrases, batch.phrase_keep)
    logits = F.normalize(model.image_proj(pooled), dim=-1) @ model.text_feature(text).T / model.temperature
    itc = (itc_loss(logits, logits, 0.0, batch.fits.T) + itc_loss(logits.T, logits.T, 0.0, batch.fits)) / 2
    assert_close(losses["itc_box"], itc)
    total = 0.0
    for row in range(8):
        found = model.box_head(model.fuse(text[row:row + 1], batch.phrase_keep[row:row + 1],
                                          image[row:row + 1])[:, 0]).sigmoid()
        true = batch.boxes[row:row + 1]
        total += (row != 2) * ((found - true).abs().sum() + 1 - generalised_iou(found, true)[0])
    assert_close(losses["box"], total / 7)


def test_itm_of_a_box_sees_its_patches_alone(monkeypatch):
    task, batch = new_task(XVLMPretrain), BoxSource()(0)
    batch = replace(batch, boxes=torch.tensor([[0.2, 0.2, 0.2, 0.2]]).expand(8, -1))
    seen = []
    original = XVLM.fuse
    def fuse(model, text, keep, images, image_keep=None, **options):
        if image_keep is not None:
            assert image_keep[:, 1:].equal(patches_under(batch.boxes, CONFIG.grid)) and 0 < image_keep.sum() < 8 * 10
            changed = images.clone()
            changed[:, 1:][~image_keep[:, 1:]] += 1.0                        # outside the box
            seen.append([original(model, text, keep, each, image_keep, **options) for each in (images, changed)])
            changed = images + 1.0
            seen.append([original(model, text, keep, each, image_keep, **options) for each in (images, changed)])
        return original(model, text, keep, images, image_keep, **options)
    monkeypatch.setattr(XVLM, "fuse", fuse)
    losses_of(task, batch)
    outside, all_over = seen
    assert_close(outside[0], outside[1])
    assert not all_over[0].allclose(all_over[1], atol=1e-3)


# CapFilt


def pairs_of(*noise):
    return [SimpleNamespace(noise=kind) for kind in noise]


def test_a_filter_is_scored_against_the_truth_by_hand():
    pairs = pairs_of("", "wrong", "foreign", "", "wrong", "wrong")
    dropped = torch.tensor([True, True, True, False, False, False])
    assert false_captions.score(pairs, dropped) == pytest.approx({
        "filter chance": 2 / 3, "filter precision": 2 / 3, "filter recall": 1 / 2, "filter true dropped": 1 / 2,
        "filter recall wrong": 1 / 3, "filter recall foreign": 1.0})
    nothing = false_captions.score(pairs, torch.zeros(6, dtype=torch.bool))
    assert {value for name, value in nothing.items() if name != "filter chance"} == {0.0}


def test_objects_that_a_caption_names():
    names = ("apple", "cat", "strawberry")
    assert false_captions.named("two apples and a cat on the left", names) == {"apple", "cat"}
    assert false_captions.named("a category of strawberries", names) == {"strawberry"}


def test_the_nucleus_has_the_likeliest_words_that_reach_the_share():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4_000, -1)
    for share, words in ((0.9, [0, 1, 2]), (0.6, [0, 1]), (0.4, [0]), (1.0, [0, 1, 2, 3])):
        drawn = capfilt.pick_likely(logits, share, torch.Generator().manual_seed(0))
        assert drawn.unique().tolist() == words
    shares = drawn.bincount(minlength=4) / 4_000
    assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)


@pytest.fixture(scope="module")
def made():
    """A BLIP before training, and a set with false captions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "CAPTIONS", 300)
        config = after.config_of(after.RECIPES["noisy"], 5, 4, {"batch": 16})
        task, tokenizer, config = after.begin(after.RECIPES["noisy"], config)
    return after.Run(task.student.eval(), tokenizer, config, ""), false_captions.noisy_set(config, 200)


def test_capfilt_keeps_what_a_filter_that_knows_the_truth_would_keep(made, monkeypatch):
    run, pairs = made
    monkeypatch.setattr(capfilt, "write", lambda run, scenes, generator: ["a cat" if i % 2 else ""
                                                                          for i in range(len(scenes))])
    spoilt = {pair.text for pair in pairs if pair.noise}
    monkeypatch.setattr(capfilt.questions, "match_odds", lambda run, scenes, texts: torch.tensor(
        [-1.0 if text in spoilt else 1.0 for text in texts]))
    kept, figures = capfilt.clean(run, pairs, 0)
    assert figures["filter precision"] > 0.95, "but for a true caption that is false elsewhere"
    assert figures["filter recall"] == figures["filter recall wrong"] == figures["written kept"] == 1.0
    written = [pair for pair in kept if pair.noise == "written"]
    assert len(written) == 100 and len(kept) - 100 == sum(pair.text not in spoilt for pair in pairs)
    assert not any(pair.noise in ("wrong", "foreign") for pair in kept)
    assert 0.25 < len(spoilt) / 200 < 0.55, "NOISE says .4"


def test_each_caption_ends_where_the_captioner_says_so(made, monkeypatch):
    run, pairs = made
    said = iter([(7, 3), (8, 9), (3, 9), (9, 9)])
    monkeypatch.setattr(capfilt, "pick_likely", lambda logits, share, generator: torch.tensor(next(said)))
    texts_of = capfilt.write(run, [pair.scene for pair in pairs[:2]], None)
    assert texts_of == [run.tokenizer.decode([7, 8]), ""] and next(said) == (9, 9), "it stops when all have ended"


def test_a_sets_batches_have_each_pair_once_an_epoch_and_no_other_truth(made):
    run, pairs = made
    config = replace(run.config, batch=20, bucket=2)
    batches = false_captions.SetBatches(config, run.tokenizer, pairs)
    seen = Counter()
    for step in range(10):
        batch = batches(step)
        assert batch.match is None and batch.siblings is None
        seen.update(batch.ids.tolist())
    assert seen == Counter(pair.id for pair in pairs)
    with pytest.raises(ValueError, match="no pair is left to train on"):
        false_captions.SetBatches(config, run.tokenizer, [])


# the command


FEW = {"batch": 16, "queue_size": 32, "bucket": 2, "match_from": 0.0, "queue_from": 1.0, "hard_from": 0.0}


@pytest.mark.parametrize("name", ["siglip", "filip", "xvlm", "blip", "coca", "llava-trained", "oracle"])
def test_each_recipe_learns_from_the_shipped_image_encoder(name, few_captions):
    recipe = after.RECIPES[name]
    config = after.config_of(recipe, 2, 10, FEW | {"warmup_steps": 2})
    assert config.steps == 10 and config.siblings == 0 and config.warm_steps == 0
    pairs = [pair for pair in false_captions.noisy_set(config, 64) if not pair.noise] if recipe.pairs else []
    task, tokenizer, config = after.begin(recipe, config)
    start = after.load(after.data_folder() / recipe.start).model.image_encoder.state_dict()
    assert all(value.equal(start[key]) for key, value in task.student.image_encoder.state_dict().items())
    batches = after.make_batches(recipe, config, tokenizer, pairs)
    batch = batches(0)
    rows = after.train_steps(task, lambda step: batch, config, range(10))
    for loss in rows[0].keys() - {"itm", "itm_box", "itc_box"}:              # these begin at chance, and stay a while
        assert rows[-1][loss] < rows[0][loss], loss
    assert all(math.isfinite(value) for value in rows[-1].values())


@pytest.mark.parametrize("make, parts", [
    (SigLIPPretrain, {"bias"}), (BLIPPretrain, {"causal_text", "causal_fusion"}), (CoCaPretrain, set()),
    (LLaVAPretrain, {"connector"})])
def test_minalbef_pretrain_takes_it_as_make_and_saves_it(make, parts, few_captions, tmp_path):
    config = preset("tiny", siblings=0.0, warm_steps=0, seed=1, **FEW, epoch=32, image_width=48, text_width=48)
    pretrain.pretrain(config, tmp_path / "run", quiet=True, make=make)
    saved = load_file(tmp_path / "run" / "model.safetensors")
    assert parts <= {name.partition(".")[0] for name in saved}
    assert all(value.isfinite().all() for value in saved.values())


@pytest.fixture
def quick(monkeypatch, tmp_path, few_captions):
    """`after.py` whose runs are short and are asked few questions."""
    original = after.train_run
    monkeypatch.setattr(after, "train_run", lambda *arguments: original(*arguments, share=0.03, changes=FEW))
    monkeypatch.setattr(after, "TIMED", 2)
    monkeypatch.setattr(after, "WARM", 2)
    out = tmp_path / "after.json"
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["after.py", *words, "--out", str(out), "--run", str(tmp_path)])
        run_script(after.main)
        return after.read_runs(out)
    return call


def test_a_run_is_noted_made_again_by_its_command_and_not_repeated(quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(after, "seconds_per_step", lambda recipe, config, pairs: 0.25)
    (first,) = quick("coca", "--seed", "7", "--cpu", "1")
    assert first["steps"] == 4 and " coca --seed 7 --steps 4 --out " in first["command"]
    assert first["commit"] and first["date"] and first["device"] and first["cpu"] > 0
    assert {"itc r1", "likelihood relation", "grey likelihood relation", "next all"} <= first["figures"].keys()
    assert not any(name.startswith(("itm", "word", "pointing")) for name in first["figures"])
    weights = torch.load(tmp_path / "coca-7.pt")

    monkeypatch.setattr(after, "train_run", lambda *arguments: pytest.fail("trained again"))
    assert quick("coca", "--seed", "7", "--cpu", "1") == [first] and "coca, seed 7: is in" in capsys.readouterr().out
    page = tmp_path / "page.md"
    page.write_text("<!-- after -->\n<!-- end of after -->\n", encoding="utf-8")
    assert quick("--table", str(page)) == [first] and "| `coca` | CoCa's one pass | 1 | 4 |" in page.read_text("utf-8")

    monkeypatch.undo()
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)
    again = after.train_run("coca", 7, 300.0, 4, tmp_path / "again", share=0.03, changes=FEW)
    assert again["figures"] == first["figures"] and again["losses"] == first["losses"]
    theirs = torch.load(tmp_path / "again" / "coca-7.pt")
    assert all(value.equal(theirs[name]) for name, value in weights.items())


def test_a_step_takes_some_hundredths_of_a_second(few_captions, monkeypatch):
    monkeypatch.setattr(after, "TIMED", 2)
    monkeypatch.setattr(after, "WARM", 2)
    recipe = after.RECIPES["base"]
    per_step = after.seconds_per_step(recipe, after.config_of(recipe, 0, 100, FEW), [])
    assert 0.01 < per_step < 1


def test_a_run_that_breaks_has_no_figures(few_captions, tmp_path, monkeypatch):
    monkeypatch.setattr(after, "train_steps", lambda *arguments: [{"itc": 1.0}, {"itc": float("nan")}])
    broken = after.train_run("coca", 7, 300.0, 2, tmp_path, changes=FEW)
    assert broken["figures"] == {} and math.isnan(broken["losses"]["itc"]) and not list(tmp_path.iterdir())
    assert after_tables.values_of([broken | {"seed": 1}], "coca itc r1") == {}


def test_a_set_of_which_nothing_is_left_is_told_and_not_trained_on(few_captions, tmp_path, monkeypatch):
    nothing = replace(after.RECIPES["capfilt"], pairs=lambda config, folder: ([], {"filter recall": 1.0}))
    monkeypatch.setitem(after.RECIPES, "capfilt", nothing)
    record = after.train_run("capfilt", 7, 300.0, None, tmp_path, changes=FEW)
    assert record["figures"] == {"filter recall": 1.0} and record["steps"] == record["pairs"] == 0
    table = after_tables.runs_table([record], {"capfilt": "CapFilt"})
    assert "| `capfilt` | CapFilt | 1 | 0 | 0 | – / – |" in table


def test_capfilt_needs_the_model_that_cleans(quick, tmp_path, capsys):
    with pytest.raises(SystemExit):
        quick("capfilt", "--seed", "7", "--steps", "2")
    assert "noisy-7.pt isn't there; `python notebooks/experiments/after/after.py noisy --seed 7`" in " ".join(
        capsys.readouterr().err.split())


def test_an_unknown_recipe_is_one_line(quick, tmp_path, capsys):
    with pytest.raises(SystemExit):
        quick("siglipp")
    assert "no recipe 'siglipp' (did you mean 'siglip'?); there are all, base" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_changed_figure_is_of_the_score_that_prefers_the_true_caption(made):
    run, _ = made
    foils = measure.questions.foils(run, "test", 1, 4)
    true = {text for part in foils.values() for _, text, _ in part}
    knows = measure.one_change(run, foils, "itm", lambda run, shown, said: torch.tensor(
        [float(text in true and scene is not None) for scene, text in zip(shown, said)]))
    assert knows["itm relation"].mean() > 0.8 and set(knows["grey itm relation"].tolist()) == {0.5}
    assert len(knows) == 12


# tables


def a_run(recipe, seed, **figures):
    return {"recipe": recipe, "seed": seed, "steps": 100, "cpu": 300.0, "figures": figures}


def test_claims_are_judged_by_pairs_of_seeds(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text("# Claims\n\n| claim | more | less | predicted | least |\n|---|---|---|---|---|\n"
                    "| boxes show places | xvlm itm place | base itm place | +.20 | +.05 |\n"
                    "| the filter is right | capfilt filter precision | .5 | +.30 | +.10 |\n\nmore\n", encoding="utf-8")
    first, second = after_tables.read_claims(page)
    assert (first.more, first.less, first.predicted, first.least) == ("xvlm itm place", "base itm place", 0.2, 0.05)
    runs = [a_run("base", seed, **{"itm place": 0.5 + 0.01 * seed}) for seed in range(5)]
    runs += [a_run("xvlm", seed, **{"itm place": 0.7 + 0.01 * seed + 0.01 * (seed % 2)}) for seed in range(5)]
    runs += [a_run("xvlm", 9, **{"itm place": 0.0})]
    more, less = (after_tables.values_of(runs, term) for term in (first.more, first.less))
    assert set(more) == {0, 1, 2, 3, 4}, "seed 9 is a pilot"
    effect = after_tables.paired_effect(more, less, 0.95)
    assert effect.values == pytest.approx((0.2, 0.21, 0.2, 0.21, 0.2)) and effect.verdict(0.05) == "supported"
    assert effect.high - effect.mean == pytest.approx(2.7764 * 0.0054772 / 5 ** 0.5, rel=1e-3)      # Student's, 4
    assert after_tables.values_of(runs, second.less) == dict.fromkeys(range(5), 0.5)
    table = after_tables.claims_table(runs, page).splitlines()
    assert table[2].endswith("| 5 | supported |") and table[3].endswith("| not yet |")
    fewer = after_tables.claims_table(runs[1:], page).splitlines()
    assert fewer[2].endswith("| 4 | not yet |")


def test_the_table_has_a_dash_where_a_recipe_has_no_such_way():
    runs = [a_run("coca", seed, **{"itc r1": 0.5 + seed / 10, "itc place": 0.5, "likelihood place": 0.75})
            for seed in (0, 1)]
    table = after_tables.runs_table(runs, {"base": "ALBEF", "coca": "CoCa"}).splitlines()
    assert len(table) == 3 and table[2].startswith("| `coca` | CoCa | 2 | 100 | 300 | .55 / – |")
    assert "| .50 / – / .75 |" in table[2]


def test_registered_claims_name_recipes_and_figures_that_there_are():
    figures = {f"{title}{way} {kind}" for way in ("itc", "itm", "likelihood") for title in ("", "grey ")
               for kind in measure.KINDS}
    figures |= {f"{title}{word} {kind}" for word in ("word", "next") for title in ("", "grey ")
                for kind in (*measure.KINDS, "all")}
    figures |= {"itc r1", "itm r1", "pointing itm", "pointing mlm", "boxes"}
    figures |= false_captions.score(pairs_of("wrong", "foreign", ""), torch.ones(3, dtype=torch.bool)).keys()
    claims = after_tables.read_claims(after.CLAIMS)
    assert len(claims) > 5
    for claim in claims:
        assert claim.least > 0
        for term in (claim.more, claim.less):
            name, _, figure = term.partition(" ")
            assert (name in after.RECIPES and figure in figures) or float(term) >= 0, term


def test_what_chapter_18_says_of_the_table_is_what_was_measured():
    runs, claims = after.read_runs(after.PATH), after_tables.read_claims(after.CLAIMS)
    cells = json.loads((ROOT / "notebooks" / "18_after.ipynb").read_text(encoding="utf-8"))["cells"]
    text = next(said for said in (" ".join("".join(cell["source"]).split()) for cell in cells)
                if said.startswith("**What we predicted and wasn't so**"))
    wrong, _, rest = text.partition("**As predicted:**")
    predicted, _, unsure = rest.partition("**Can't tell**")

    def mean(term: str) -> str:
        return short(statistics.mean(after_tables.values_of(runs, term).values()))

    def by_size(term: str) -> list[str]:
        return [short(value) for value in sorted(after_tables.values_of(runs, term).values())]

    def runs_mean(name: str, what: str) -> float:
        return statistics.mean(run[what] for run in runs if run["recipe"] == name)

    said = {}
    for claim in claims:
        more, less = (after_tables.values_of(runs, term) for term in (claim.more, claim.less))
        effect = after_tables.paired_effect(more, less, after_tables.bonferroni(len(claims)))
        assert len(effect.values) == after_tables.SEEDS
        found = f"{short(effect.mean, '+.3f')} {short_interval(effect)}"
        said[claim.more] = (found, effect.verdict(claim.least))
    assert Counter(verdict for _, verdict in said.values()) == {
        "supported": 6, "contradicted: below zero": 1, "contradicted: too small": 1, "can't tell": 10}

    for part, terms in (
            (wrong, {"blip likelihood place": "supported", "capfilt itc r1": "supported", "coca itc r1": "supported",
                     "llava-trained likelihood object": "contradicted: too small",
                     "xvlm itm r1": "contradicted: below zero", "filip itc r1": "can't tell"}),
            (predicted, {"xvlm itm place": "supported"}),
            (unsure, {"siglip itc r1": "can't tell", "blip itm r1": "can't tell", "xvlm pointing itm": "can't tell",
                      "in-batch itc r1": "can't tell"})):
        for term, verdict in terms.items():
            assert said[term][1] == verdict and said[term][0] in part, term

    for part, sentence in (
            (wrong, f"Those of CoCa ({mean('coca likelihood place')}) and LLaVA ({mean('llava likelihood place')})"),
            (wrong, f"R@1 is {mean('noisy itc r1')} by ITC, and {mean('capfilt itc r1')} of what the filter keeps"),
            (wrong, f"{runs_mean('capfilt', 'cpu_before'):.0f} CPU seconds of cleaning. The true captions alone, "
                    f"{round(runs_mean('oracle', 'pairs'), -2):,.0f} and not "),
            (wrong, f" and not {round(runs_mean('capfilt', 'pairs'), -2):,.0f} pairs, give "
                    f"{mean('oracle itc r1')}: can't tell"),
            (wrong, f"so there are {runs_mean('coca', 'steps'):,.0f} of them"),
            (wrong, f"X-VLM has {runs_mean('xvlm', 'steps'):,.0f} steps where `in-batch` has "
                    f"{runs_mean('in-batch', 'steps'):,.0f}"),
            (predicted, f"X-VLM's ITM {mean('xvlm itm place')}"),
            (unsure, f"right in {by_size('in-batch pointing itm')[0]} in one seed and in "
                     f"{by_size('in-batch pointing itm')[1]} or more"),
            (unsure, f"CoCa's likelihood has {by_size('coca likelihood relation')[-1]}, in the others "
                     f"{by_size('coca likelihood relation')[0]} to {by_size('coca likelihood relation')[-2]}"),
            (wrong, f"counts ({mean('xvlm itm count')}, `in-batch` {mean('in-batch itm count')}) and backgrounds "
                    f"({mean('xvlm itm background')}, {mean('in-batch itm background')})"),
            (predicted, f"false in {mean('capfilt filter precision')} (chance {mean('capfilt filter chance')})"),
            (predicted, f"finds {mean('capfilt filter recall foreign')} of the foreign captions and "
                        f"{mean('capfilt filter recall wrong')} of those with one thing wrong, and drops "
                        f"{mean('capfilt filter true dropped')} of the true ones"),
            (unsure, f"points ({mean('blip pointing itm')}; chance {mean('blip pointing chance')}; ALBEF's "
                     f"{mean('base pointing itm')})"),
            (unsure, f"took {min(round(run['cpu']) for run in runs)} to {max(round(run['cpu']) for run in runs)}")):
        assert sentence in part, sentence

    grey = [mean(f"{name} grey likelihood {kind}") for name in ("blip", "coca", "llava", "llava-trained")
            for kind in measure.KINDS]
    assert f"tosses a coin ({min(grey)} to {max(grey)})" in wrong
    relations = [mean(f"{name} {way} relation") for name in list(after.RECIPES)[:9] for way in after_tables.WAYS
                 if after_tables.values_of(runs, f"{name} {way} relation")]
    assert f"read by none** ({min(relations)} to {max(relations)})" in unsure


def test_each_successor_is_a_change_of_under_80_lines():
    for name in ("siglip", "filip", "xvlm", "blip", "capfilt", "coca", "llava", "in_batch"):
        source = (after.PATH.parent / f"{name}.py").read_text(encoding="utf-8")
        assert all(word in source for word in ("Changes: ", "Leaves out: ")), name
        lines = [line for line in source.split('"""', 2)[2].splitlines() if line.strip()]
        assert len(lines) < 80, name
