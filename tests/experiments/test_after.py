"""ALBEF's successors: what each computes, against numbers worked by hand or another way."""
import math
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
import boxes  # noqa: E402
import capfilt  # noqa: E402
import coca  # noqa: E402
import false_captions  # noqa: E402
import measure  # noqa: E402
from blip import BLIP, BLIPPretrain  # noqa: E402
from captioning import add_end, caption_loss, causal, log_likelihood  # noqa: E402
from coca import CoCa, CoCaPretrain  # noqa: E402
from emojiscenes.language import Noun, fits  # noqa: E402
from emojiscenes.staging import overlap  # noqa: E402
from filip import FILIPPretrain, late_interaction, late_similarity, split_keep  # noqa: E402
from helpers import Batches, disturb, small, texts  # noqa: E402
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
    if batch is None:
        batch = Batches(CONFIG)(0)
    return task(batch, 0.0, task.draws(0))[0]


def features_of(model, batch):
    image = model.image_feature(model.encode_image(batch.image))
    text = model.text_feature(model.encode_text(batch.tokens, batch.keep), batch.keep)
    return image, text


def true_pairs(batch):
    """(image, text): which texts are true of an image."""
    return (batch.match | (batch.ids[:, None] == batch.ids)).T


@pytest.fixture
def few_captions(monkeypatch):
    """The tokenizer learns from few captions, which takes less time."""
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)


# within the batch

def test_in_batch_itc_is_clips_loss_of_the_students_own_features():
    task = new_task(InBatch)
    batch = Batches(CONFIG)(0)
    image, text = features_of(task.student, batch)
    logits = image @ text.T / task.student.temperature
    true = true_pairs(batch)
    to_text = itc_loss(logits, logits, 0.0, true)
    to_image = itc_loss(logits.T, logits.T, 0.0, true.T)
    loss = losses_of(task)["itc"]
    assert_close(loss, (to_text + to_image) / 2)
    loss.backward()
    assert task.student.text_proj.weight.grad.abs().sum() > 0


def test_it_leaves_no_teacher_to_move_and_no_queue_to_fill():
    task = new_task(InBatch)
    _, carry = task(Batches(CONFIG)(0), 0.0, task.draws(0))
    with torch.no_grad():
        task.student.temperature.fill_(9.0)
    task.after_step(carry)
    assert not list(task.teacher.parameters())
    assert task.queue.filled == 0
    assert task.student.temperature.item() == CONFIG.temperature_max


# SigLIP

def test_siglips_loss_of_two_pairs_by_hand():
    def minus_log_sigmoid(x):
        return math.log(1 + math.exp(-x))

    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    positive = torch.eye(2, dtype=torch.bool)
    by_hand = sum(map(minus_log_sigmoid, (2.0, 1.0, -0.5, 3.0))) / 2
    assert sigmoid_loss(logits, positive).item() == pytest.approx(by_hand)
    assert sigmoid_loss(logits, ~positive).item() != pytest.approx(by_hand, abs=0.1)


def test_siglip_takes_all_pairs_with_the_learnt_bias():
    task = new_task(SigLIPPretrain, replace(CONFIG, temperature=0.1))
    assert task.student.bias.item() == pytest.approx(-10, abs=0.5)
    assert task.student.bias.requires_grad
    batch = Batches(CONFIG)(0)
    image, text = features_of(task.student, batch)
    true = true_pairs(batch)
    total = 0.0
    for i in range(CONFIG.batch):
        for t in range(CONFIG.batch):
            logit = image[i] @ text[t] / task.student.temperature + task.student.bias
            total -= F.logsigmoid(logit if true[i, t] else -logit)
    losses = losses_of(task)
    assert list(losses) == ["itc", "itm", "mlm"]
    assert_close(losses["itc"], total / CONFIG.batch)


# FILIP

def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_late_interaction_of_one_patch_and_one_word_is_itc():
    image = unit(3, 1, 8)
    text = unit(4, 1, 8, seed=1)
    keep = torch.ones(4, 1, dtype=torch.bool)
    for sim in late_interaction(image, text, keep):
        assert_close(sim, image[:, 0] @ text[:, 0].T)
    by_patches, by_words = late_interaction(unit(3, 2, 8), text, keep)
    assert not by_patches.allclose(by_words), "with more patches the two ways differ"


def test_late_interaction_by_hand_and_padding_is_no_word():
    image = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])               # two patches
    text = torch.tensor([[[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]]])   # two words, and padding
    keep = torch.tensor([[True, True, False]])
    by_patches, by_words = late_interaction(image, text, keep)
    assert by_patches.item() == pytest.approx((0.6 + 0.8) / 2), "the first word is best for both"
    assert by_words.item() == pytest.approx((0.8 + 0.0) / 2)
    by_patches, by_words = late_interaction(image, text, torch.ones_like(keep))
    assert by_patches.item() == pytest.approx((0.6 + 1.0) / 2)
    assert by_words.item() == pytest.approx((0.8 + 0.0 + 1.0) / 3)


def test_in_filip_images_ask_by_patches_and_texts_by_words():
    task = new_task(FILIPPretrain)
    batch = Batches(CONFIG)(0)
    image, text = features_of(task.student, batch)
    words, is_word = split_keep(text)
    assert image.shape == (8, 9, 24)
    assert is_word.equal(batch.keep[:, 1:])
    by_patches, by_words = late_interaction(image, words, is_word)
    true = true_pairs(batch)
    temperature = task.student.temperature
    to_text = itc_loss(by_patches / temperature, by_patches, 0.0, true)
    to_image = itc_loss(by_words.T / temperature, by_words, 0.0, true.T)
    assert_close(losses_of(task)["itc"], (to_text + to_image) / 2)


@torch.no_grad()
def test_evaluation_of_filip_ranks_by_the_mean_of_both_ways(monkeypatch):
    model = new_task(FILIPPretrain).student
    batch = Batches(CONFIG)(0)
    image = model.encode_image(batch.image)
    text = model.encode_text(batch.tokens, batch.keep)
    encoded = Encoded(image, text, batch.keep)
    image_feature, text_feature = features_of(model, batch)
    by_patches, by_words = late_interaction(image_feature, *split_keep(text_feature))
    whole = late_similarity(model, encoded)
    assert_close(whole, (by_patches + by_words) / 2)
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
    model = captioner(kind)
    image = torch.randn(3, 3, 24, 24)
    tokens, keep = texts(3, 9, lengths=[9, 9, 9])
    logits = logits_of(model, tokens, keep, image)
    changed = tokens.clone()
    changed[:, 5:] = (tokens[:, 5:].flip(0) + 1).clamp(max=63)
    changed_logits = logits_of(model, changed, keep, image)
    assert_close(changed_logits[:, :5], logits[:, :5])
    assert not changed_logits[:, 5].allclose(logits[:, 5], atol=1e-3), "words before it count"
    blank = logits_of(model, tokens, keep, 0 * image)
    assert not blank[:, 4].allclose(logits[:, 4], atol=1e-3), "the image counts"

    def see_all(keep):
        return keep[:, None].expand(-1, keep.shape[1], -1)

    for module in ("blip", "coca", "llava"):     # without the mask, the check fails
        monkeypatch.setattr(f"{module}.causal", see_all)
    changed_logits = logits_of(model, changed, keep, image)
    assert not changed_logits[:, :5].allclose(logits[:, :5], atol=1e-3)


@pytest.mark.parametrize("kind", CAPTIONERS)
def test_a_likelihood_is_of_one_word_after_the_other_and_padding_has_none(kind):
    model = captioner(kind)
    image = torch.randn(2, 3, 24, 24)
    tokens, keep = texts(2, 9, lengths=[9, 5])
    together = log_likelihood(logits_of(model, tokens, keep, image), tokens, keep)
    for row, length in enumerate((9, 5)):
        total = 0.0
        for i in range(1, length):
            before = tokens[row:row + 1, :i]
            all_words = torch.ones_like(before, dtype=torch.bool)
            logits = logits_of(model, before, all_words, image[row:row + 1])
            total += logits[0, -1].log_softmax(-1)[tokens[row, i]].item()
        assert together[row].item() == pytest.approx(total, abs=1e-4)


def test_the_mask_the_end_and_the_loss_by_hand():
    keep = torch.tensor([[True, True, True], [True, True, False]])
    assert causal(keep).long().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 0]],
    ]
    tokens = torch.tensor([[2, 7, 8], [2, 9, 0]])
    longer, longer_keep = add_end(tokens, keep, 3)
    assert longer.tolist() == [[2, 7, 8, 3], [2, 9, 3, 0]]
    assert longer_keep.sum(1).tolist() == [4, 3]
    logits = torch.zeros(2, 3, 10)
    logits[0, 0, 7] = 1.0                        # the image says 7 behind [CLS]; all else is even
    right = math.log(9 + math.e) - 1
    even = math.log(10)
    loss = caption_loss(logits, tokens, keep).item()
    assert loss == pytest.approx((right + 2 * even) / 3)
    assert_close(log_likelihood(logits, tokens, keep), torch.tensor([-right - even, -even]))


def test_blips_decoder_shares_all_but_self_attention_and_its_norm():
    model = BLIP(CONFIG)
    for name, _ in model.named_parameters():
        if name.startswith("causal_"):
            assert ".attn." in name or ".norm1." in name
    layer = 4 * (48 * 48 + 48) + 2 * 48
    extra = layer * (CONFIG.text_depth + CONFIG.fusion_depth)
    assert count(model) == count(ALBEF(CONFIG)) + extra
    own = model.causal_fusion.layers[0]
    shared = model.fusion.layers[0]
    assert own.cross.q.weight is shared.cross.q.weight
    assert own.attn.q.weight is not shared.attn.q.weight
    teacher = BLIPPretrain(CONFIG).teacher
    own = teacher.causal_text.layers[0]
    assert own.mlp.fc1.weight is teacher.text_encoder.layers[0].mlp.fc1.weight


def count(model) -> int:
    return sum(p.numel() for p in model.parameters())


def test_blip_keeps_itc_and_itm_and_smooths_the_labels_of_captions():
    def with_albefs_losses(config):
        return after.FastScenePretrain(config, student=BLIP(config))

    task = new_task(BLIPPretrain)
    batch = Batches(CONFIG)(0)
    losses = losses_of(task)
    assert list(losses) == ["itc", "itm", "caption"]
    tokens, keep = add_end(batch.tokens, batch.keep, 3)
    logits = logits_of(task.student, tokens, keep, batch.image)
    words = keep[:, 1:]
    log_probabilities = logits[:, :-1].log_softmax(-1)[words]                # (w, v)
    right = log_probabilities.gather(1, tokens[:, 1:][words][:, None])[:, 0]
    by_hand = -(0.9 * right + 0.1 * log_probabilities.mean(1)).mean()
    assert_close(losses["caption"], by_hand)
    assert_close(losses["itc"], losses_of(new_task(with_albefs_losses))["itc"])


def test_coca_encodes_each_text_once_and_pools_its_last_word(monkeypatch):
    task = new_task(CoCaPretrain)
    batch = Batches(CONFIG)(0)
    logits = logits_of(task.student, batch.tokens, batch.keep, batch.image)
    calls = Counter()

    def count_calls(name):
        method = getattr(CoCa, name)

        def counted(model, *inputs):
            calls[name] += 1
            return method(model, *inputs)

        monkeypatch.setattr(CoCa, name, counted)

    for name in ("encode_image", "encode_text", "fuse"):
        count_calls(name)
    losses = losses_of(task)
    assert calls == {"encode_image": 1, "encode_text": 1, "fuse": 1}, "one pass for both losses"
    assert list(losses) == ["itc", "caption"]
    assert_close(losses["caption"], caption_loss(logits, batch.tokens, batch.keep))
    assert isinstance(task.student.text_encoder, coca.CausalText)
    x = task.student.encode_text(batch.tokens, batch.keep)
    pooled = task.student.text_encoder.pool(x, batch.keep)
    for row in range(CONFIG.batch):
        last = int(batch.keep[row].sum()) - 1
        assert pooled[row].equal(x[row, last])


def test_llavas_image_encoder_stays_and_the_rest_learns():
    task = new_task(LLaVAPretrain).train()
    batch = Batches(CONFIG)(0)
    before = {name: value.clone() for name, value in task.student.state_dict().items()}
    rows = after.train_steps(task, lambda step: batch, CONFIG, range(6))
    assert rows[-1]["caption"] < 0.9 * rows[0]["caption"]
    for name, value in task.student.state_dict().items():
        if not name.endswith("type_embed.weight"):
            frozen = name.startswith("image_encoder.")
            assert value.equal(before[name]) == frozen, name


# X-VLM

def test_patches_under_a_box_by_hand():
    top_left = [0.25, 0.25, 0.4, 0.4]
    strip_at_the_bottom = [0.5, 0.9, 0.9, 0.1]
    patches = patches_under(torch.tensor([top_left, strip_at_the_bottom]), 4)
    assert patches.view(2, 4, 4).long().tolist() == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]],
    ]


@pytest.mark.parametrize("a, b, value", [
    ([0.2, 0.2, 0.2, 0.2], [0.6, 0.2, 0.2, 0.2], -(0.12 - 0.08) / 0.12),
    ([0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4], 1.0),
    ([0.3, 0.3, 0.2, 0.2], [0.4, 0.3, 0.2, 0.2], 0.02 / 0.06),
])
def test_generalised_iou_by_hand(a, b, value):
    iou = generalised_iou(torch.tensor([a]), torch.tensor([b]))
    assert iou.item() == pytest.approx(value, abs=1e-6)


def test_a_batchs_boxes_are_its_scenes_and_phrases_fit_them(few_captions):
    def corner_box(thing):
        return thing.x - thing.size / 2, thing.y - thing.size / 2, thing.size, thing.size

    config = preset("tiny", siblings=0.0, batch=16, bucket=2, seed=3)
    tokenizer, _ = pretrain.read_captions(config)
    batches = boxes.BoxBatches(config, tokenizer)
    batch = batches(1)
    for row, example in enumerate(batches.batches[1]):
        x, y, width, height = batch.boxes[row].tolist()
        corner = x - width / 2, y - height / 2, width, height
        objects = example.scene.objects
        thing = max(objects, key=lambda thing: overlap(corner, corner_box(thing)))
        assert thing.x == pytest.approx(x) and thing.size == pytest.approx(width)
        phrase = tokenizer.decode(batch.phrases[row].tolist())
        assert phrase.endswith(thing.name) and batch.fits[row, row]
        names = [each.name for each in objects]
        assert batch.alone[row] == (names.count(thing.name) == 1)
        word = phrase.split()[1]
        size = word if word in ("small", "big") else None
        assert fits(Noun(thing.name, size), thing) is True


def batch_with_boxes():
    """A small batch; of row 2 the phrase doesn't say which object."""
    phrases, keep = texts(8, 4, seed=9)
    generator = torch.Generator().manual_seed(0)
    fit = torch.eye(8, dtype=torch.bool)
    fit[0, 3] = True
    return boxes.BoxBatch(
        **vars(Batches(CONFIG)(0)), phrases=phrases, phrase_keep=keep, fits=fit,
        boxes=0.3 + 0.4 * torch.rand(8, 4, generator=generator), alone=torch.arange(8) != 2)


def test_xvlms_losses_another_way():
    task = new_task(XVLMPretrain)
    batch = batch_with_boxes()
    model = task.student
    losses = losses_of(task, batch)
    assert list(losses) == ["itc", "itm", "mlm", "itc_box", "itm_box", "box"]
    image = model.encode_image(batch.image)
    text = model.encode_text(batch.phrases, batch.phrase_keep)
    pooled = []
    for tokens, inside in zip(image, patches_under(batch.boxes, CONFIG.grid)):
        pooled.append(tokens[1:][inside].mean(0))
    regions = F.normalize(model.image_proj(torch.stack(pooled)), dim=-1)
    logits = regions @ model.text_feature(text).T / model.temperature
    to_text = itc_loss(logits, logits, 0.0, batch.fits.T)
    to_image = itc_loss(logits.T, logits.T, 0.0, batch.fits)
    assert_close(losses["itc_box"], (to_text + to_image) / 2)
    total = 0.0
    for row in range(8):
        part = slice(row, row + 1)
        fused = model.fuse(text[part], batch.phrase_keep[part], image[part])
        box = model.box_head(fused[:, 0]).sigmoid()
        error = (box - batch.boxes[part]).abs().sum()
        if row != 2:
            total += error + 1 - generalised_iou(box, batch.boxes[part])[0]
    assert_close(losses["box"], total / 7)


def test_itm_of_a_box_sees_its_patches_alone(monkeypatch):
    task = new_task(XVLMPretrain)
    box = torch.tensor([[0.2, 0.2, 0.2, 0.2]]).expand(8, -1)
    inside = patches_under(box, CONFIG.grid)
    passes = []
    original = XVLM.fuse

    def fuse(model, text, keep, images, image_keep=None, **options):
        def again(images):
            return original(model, text, keep, images, image_keep, **options)

        if image_keep is not None:
            assert image_keep[:, 1:].equal(inside)
            outside = images.clone()
            outside[:, 1:][~inside] += 1.0
            passes.append((again(images), again(outside), again(images + 1.0)))
        return again(images)

    monkeypatch.setattr(XVLM, "fuse", fuse)
    losses_of(task, replace(batch_with_boxes(), boxes=box))
    (before, changed_outside, changed_everywhere), = passes[:1]
    assert_close(before, changed_outside)
    assert not before.allclose(changed_everywhere, atol=1e-3)


# CapFilt

def pairs_of(*noise):
    return [SimpleNamespace(noise=kind) for kind in noise]


def test_a_filter_is_scored_against_the_truth_by_hand():
    pairs = pairs_of("", "wrong", "foreign", "", "wrong", "wrong")
    dropped = torch.tensor([True, True, True, False, False, False])
    assert false_captions.score(pairs, dropped) == pytest.approx({
        "filter chance": 2 / 3,
        "filter precision": 2 / 3,
        "filter recall": 1 / 2,
        "filter true dropped": 1 / 2,
        "filter recall wrong": 1 / 3,
        "filter recall foreign": 1.0,
    })
    nothing = false_captions.score(pairs, torch.zeros(6, dtype=torch.bool))
    assert nothing.pop("filter chance") == pytest.approx(2 / 3)
    assert set(nothing.values()) == {0.0}


def test_objects_that_a_caption_names():
    names = ("apple", "cat", "strawberry")
    caption = "two apples and a cat on the left"
    assert false_captions.named(caption, names) == {"apple", "cat"}
    assert false_captions.named("a category of strawberries", names) == {"strawberry"}


@pytest.mark.parametrize("share, words", [
    (0.9, [0, 1, 2]), (0.6, [0, 1]), (0.4, [0]), (1.0, [0, 1, 2, 3])])
def test_the_nucleus_has_the_likeliest_words_that_reach_the_share(share, words):
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = probabilities.log().expand(4_000, -1)
    picks = capfilt.pick_likely(logits, share, torch.Generator().manual_seed(0))
    shares = picks.bincount(minlength=4) / 4_000
    expected = torch.zeros(4)
    expected[words] = probabilities[words] / probabilities[words].sum()
    assert_close(shares, expected, atol=0.03, rtol=0)
    assert shares.nonzero()[:, 0].tolist() == words


@pytest.fixture(scope="module")
def blip_and_set():
    """A BLIP before training, and a set with false captions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "CAPTIONS", 300)
        config = after.config_of(after.RECIPES["noisy"], 5, 4, {"batch": 16})
        task, tokenizer, config = after.begin(after.RECIPES["noisy"], config)
    run = after.Run(task.student.eval(), tokenizer, config, "")
    return run, false_captions.noisy_set(config, 200)


def test_capfilt_keeps_what_a_filter_that_knows_the_truth_would_keep(blip_and_set, monkeypatch):
    run, pairs = blip_and_set
    spoilt = {pair.text for pair in pairs if pair.noise}
    assert 0.25 < len(spoilt) / 200 < 0.55, "NOISE says .4"

    def write(run, scenes, generator):
        return ["a cat", ""] * (len(scenes) // 2)

    def match_odds(run, scenes, texts):
        return torch.tensor([-1.0 if text in spoilt else 1.0 for text in texts])

    monkeypatch.setattr(capfilt, "write", write)
    monkeypatch.setattr(capfilt.questions, "match_odds", match_odds)
    clean, figures = capfilt.clean(run, pairs, 0)
    assert figures["filter precision"] > 0.95, "but for a true caption that is false elsewhere"
    for name in ("filter recall", "filter recall wrong", "written kept"):
        assert figures[name] == 1.0
    noise = Counter(pair.noise for pair in clean)
    assert noise["written"] == 100
    assert not noise["wrong"] and not noise["foreign"]


def test_each_caption_ends_where_the_captioner_says_so(blip_and_set, monkeypatch):
    run, pairs = blip_and_set
    picks = iter([(7, 3), (8, 9), (3, 9), (9, 9)])

    def pick_likely(logits, share, generator):
        return torch.tensor(next(picks))

    monkeypatch.setattr(capfilt, "pick_likely", pick_likely)
    captions = capfilt.write(run, [pair.scene for pair in pairs[:2]], None)
    assert captions == [run.tokenizer.decode([7, 8]), ""]
    assert next(picks) == (9, 9), "it stops when all have ended"


def test_a_sets_batches_have_each_pair_once_an_epoch_and_no_other_truth(blip_and_set):
    run, pairs = blip_and_set
    config = replace(run.config, batch=20, bucket=2)
    batches = false_captions.SetBatches(config, run.tokenizer, pairs)
    ids = []
    for step in range(10):
        batch = batches(step)
        assert batch.match is None and batch.siblings is None
        ids += batch.ids.tolist()
    assert sorted(ids) == sorted(pair.id for pair in pairs)
    with pytest.raises(ValueError, match="no pair is left to train on"):
        false_captions.SetBatches(config, run.tokenizer, [])


# the command

FEW = {"batch": 16, "queue_size": 32, "bucket": 2, "match_from": 0.0, "queue_from": 1.0,
       "hard_from": 0.0}
AT_CHANCE = {"itm", "itm_box", "itc_box"}        # losses that begin there, and stay a while
RECIPES = ("siglip", "filip", "xvlm", "blip", "coca", "llava-trained", "oracle")


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_learns_from_the_shipped_image_encoder(name, few_captions):
    recipe = after.RECIPES[name]
    config = after.config_of(recipe, 2, 10, FEW | {"warmup_steps": 2})
    assert config.steps == 10 and config.siblings == 0 and config.warm_steps == 0
    pairs = []
    if recipe.pairs:
        pairs = [pair for pair in false_captions.noisy_set(config, 64) if not pair.noise]
    task, tokenizer, config = after.begin(recipe, config)
    shipped = after.load(after.data_folder() / recipe.start).model.image_encoder.state_dict()
    for key, value in task.student.image_encoder.state_dict().items():
        assert value.equal(shipped[key])
    batch = after.make_batches(recipe, config, tokenizer, pairs)(0)
    rows = after.train_steps(task, lambda step: batch, config, range(10))
    assert all(map(math.isfinite, rows[-1].values()))
    for loss in rows[0].keys() - AT_CHANCE:
        assert rows[-1][loss] < rows[0][loss], loss


@pytest.mark.parametrize("make, parts", [
    (SigLIPPretrain, {"bias"}),
    (BLIPPretrain, {"causal_text", "causal_fusion"}),
    (CoCaPretrain, set()),
    (LLaVAPretrain, {"connector"}),
])
def test_minalbef_pretrain_takes_it_as_make_and_saves_it(make, parts, few_captions, tmp_path):
    config = preset("tiny", siblings=0.0, warm_steps=0, seed=1, **FEW, epoch=32, image_width=48,
                    text_width=48)
    pretrain.pretrain(config, tmp_path / "run", quiet=True, make=make)
    weights = load_file(tmp_path / "run" / "model.safetensors")
    assert parts <= {name.partition(".")[0] for name in weights}
    assert all(value.isfinite().all() for value in weights.values())


@pytest.fixture
def quick(monkeypatch, tmp_path, few_captions):
    """`after.py` whose runs are short and are asked few questions."""
    train_run = after.train_run
    out = tmp_path / "after.json"

    def train_short(*arguments):
        return train_run(*arguments, share=0.03, changes=FEW)

    def call(words):
        command = f"after.py {words} --out {out} --run {tmp_path}"
        monkeypatch.setattr(sys, "argv", command.split())
        run_script(after.main)
        return after.read_runs(out)

    monkeypatch.setattr(after, "train_run", train_short)
    monkeypatch.setattr(after, "TIMED", 2)
    monkeypatch.setattr(after, "WARM", 2)
    return call


def test_a_run_is_recorded_repeated_by_its_command_and_not_trained_twice(
        quick, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(after, "seconds_per_step", lambda recipe, config, pairs: 0.25)
    (first,) = quick("coca --seed 7 --cpu 1")
    assert first["steps"] == 4 and first["cpu"] > 0
    assert " coca --seed 7 --steps 4 --out " in first["command"]
    assert {"itc r1", "likelihood relation", "next all"} <= first["figures"].keys()
    assert not any(name.startswith(("itm", "word")) for name in first["figures"])
    weights = torch.load(tmp_path / "coca-7.pt")

    monkeypatch.setattr(after, "train_run", lambda *arguments: pytest.fail("trained again"))
    assert quick("coca --seed 7 --cpu 1") == [first]
    assert "coca, seed 7: is in" in capsys.readouterr().out

    monkeypatch.undo()
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)
    folder = tmp_path / "again"
    again = after.train_run("coca", 7, 300.0, 4, folder, share=0.03, changes=FEW)
    assert again["figures"] == first["figures"] and again["losses"] == first["losses"]
    for name, value in torch.load(folder / "coca-7.pt").items():
        assert value.equal(weights[name])


def test_a_run_that_breaks_has_no_figures(few_captions, tmp_path, monkeypatch):
    rows = [{"itc": 1.0}, {"itc": float("nan")}]
    monkeypatch.setattr(after, "train_steps", lambda *arguments: rows)
    broken = after.train_run("coca", 7, 300.0, 2, tmp_path, changes=FEW)
    assert broken["figures"] == {} and math.isnan(broken["losses"]["itc"])
    assert not list(tmp_path.iterdir())
    assert after_tables.values_of([broken | {"seed": 1}], "coca itc r1") == {}


def test_a_set_of_which_nothing_is_left_is_not_trained_on(few_captions, tmp_path, monkeypatch):
    def no_pairs(config, folder):
        return [], {"filter recall": 1.0}

    monkeypatch.setitem(after.RECIPES, "capfilt", replace(after.RECIPES["capfilt"], pairs=no_pairs))
    record = after.train_run("capfilt", 7, 300.0, None, tmp_path, changes=FEW)
    assert record["figures"] == {"filter recall": 1.0}
    assert record["steps"] == record["pairs"] == 0
    table = after_tables.runs_table([record], {"capfilt": "CapFilt"})
    assert "| `capfilt` | CapFilt | 1 | 0 | 0 | – / – |" in table


@pytest.mark.parametrize("words, message", [
    ("capfilt --seed 7 --steps 2", "noisy-7.pt isn't there; `python notebooks/experiments/after/"),
    ("siglipp", "no recipe 'siglipp' (did you mean 'siglip'?); there are all, base"),
])
def test_a_mistake_is_one_line(words, message, quick, capsys):
    with pytest.raises(SystemExit):
        quick(words)
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_changed_figure_is_of_the_score_that_prefers_the_true_caption(blip_and_set):
    run, _ = blip_and_set
    foils = measure.questions.foils(run, "test", 1, 4)
    true = {text for part in foils.values() for _, text, _ in part}

    def score(run, scenes, captions):
        """Of one that reads captions, but not without an image."""
        pairs = zip(scenes, captions)
        return torch.tensor([float(text in true and scene is not None) for scene, text in pairs])

    figures = measure.one_change(run, foils, "itm", score)
    assert figures["itm relation"].mean() > 0.8
    assert set(figures["grey itm relation"].tolist()) == {0.5}


# tables

def run_of(recipe, seed, **figures):
    return {"recipe": recipe, "seed": seed, "steps": 100, "cpu": 300.0, "figures": figures}


def test_claims_are_judged_by_pairs_of_seeds(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text(
        "# Claims\n\n| claim | more | less | predicted | least |\n|---|---|---|---|---|\n"
        "| boxes show places | xvlm itm place | base itm place | +.20 | +.05 |\n"
        "| the filter is right | capfilt filter precision | .5 | +.30 | +.10 |\n\nwords\n",
        encoding="utf-8")
    first, second = after_tables.read_claims(page)
    runs = [run_of("xvlm", 9, **{"itm place": 0.0})]      # seed 9 is a pilot
    for seed, gain in enumerate((0.2, 0.21, 0.2, 0.21, 0.2)):
        runs.append(run_of("base", seed, **{"itm place": 0.5}))
        runs.append(run_of("xvlm", seed, **{"itm place": 0.5 + gain}))
    more = after_tables.values_of(runs, first.more)
    less = after_tables.values_of(runs, first.less)
    effect = after_tables.paired_effect(more, less, 0.95)
    assert effect.values == pytest.approx((0.2, 0.21, 0.2, 0.21, 0.2))
    # Student's t for four degrees of freedom
    assert effect.high - effect.mean == pytest.approx(2.7764 * 0.0054772 / 5 ** 0.5, rel=1e-3)
    assert after_tables.values_of(runs, second.less) == dict.fromkeys(range(5), 0.5)
    verdict, missing = after_tables.claims_table(runs, page).splitlines()[2:4]
    assert verdict.endswith("| 5 | supported |") and missing.endswith("| not yet |")
    four_seeds = after_tables.claims_table(runs[:-1], page).splitlines()
    assert four_seeds[2].endswith("| 4 | not yet |")


def test_registered_claims_name_recipes_and_figures_that_were_measured():
    runs = after.read_runs(after.PATH)
    claims = after_tables.read_claims(after.CLAIMS)
    for claim in claims:
        for term in (claim.more, claim.less):
            assert len(after_tables.values_of(runs, term)) == after_tables.SEEDS, term
