"""ALBEF's successors: what each computes, against numbers worked by hand or another way."""
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "experiments" / "after"))

import after  # noqa: E402
import after_tables  # noqa: E402
import boxes  # noqa: E402
import false_captions  # noqa: E402
from blip import BLIP, BLIPPretrain  # noqa: E402
from captioning import add_end, caption_loss, causal, log_likelihood  # noqa: E402
from coca import CoCa  # noqa: E402
from filip import late_interaction  # noqa: E402
from helpers import Batches, disturb, small, texts  # noqa: E402
from llava import LLaVA  # noqa: E402
from minalbef import ALBEF  # noqa: E402
from minalbef.cli.main import run_script  # noqa: E402
from minalbef.losses import itc_loss  # noqa: E402
from minalbef.recipes import pretrain  # noqa: E402
from siglip import sigmoid_loss  # noqa: E402
from xvlm import XVLMPretrain, generalised_iou, patches_under  # noqa: E402

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


@pytest.fixture
def few_captions(monkeypatch):
    """The tokenizer learns from few captions, which takes less time."""
    monkeypatch.setattr(pretrain, "CAPTIONS", 300)


# SigLIP

def test_siglips_loss_of_two_pairs_by_hand():
    def minus_log_sigmoid(x):
        return math.log(1 + math.exp(-x))

    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    positive = torch.eye(2, dtype=torch.bool)
    by_hand = sum(map(minus_log_sigmoid, (2.0, 1.0, -0.5, 3.0))) / 2
    assert sigmoid_loss(logits, positive).item() == pytest.approx(by_hand)
    assert sigmoid_loss(logits, ~positive).item() != pytest.approx(by_hand, abs=0.1)


# FILIP


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


@pytest.mark.parametrize("words, message", [
    ("capfilt --seed 7 --steps 2", "noisy-7.pt isn't there; `python notebooks/experiments/after/"),
    ("siglipp", "no recipe 'siglipp' (did you mean 'siglip'?); there are all, base"),
])
def test_a_mistake_is_one_line(words, message, quick, capsys):
    with pytest.raises(SystemExit):
        quick(words)
    assert message in " ".join(capsys.readouterr().err.split())


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
