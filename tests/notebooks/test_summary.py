"""The course's summary scripts: a page or two each, they run in seconds and compute what the package computes."""
import ast
import copy
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import minalbef
from minalbef import presets
from minalbef.evaluation import ranking
from minalbef.scenes.batches import SceneBatches
from minalbef.scenes.task_problems import batch, problems
from minalbef.tasks import grounding, vqa
from minalbef.tasks.entailment import EntailmentModel
from minalbef.tasks.nlvr2 import PairModel
from minalbef.tasks.pretrain import Draws, Pretrain
from minalbef.train import choose_optimiser, lr_at

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks" / "summary"
sys.path.insert(0, str(FOLDER))
import encoders  # noqa: E402
import five_tasks  # noqa: E402
import objectives  # noqa: E402
import pretrain  # noqa: E402

SCRIPTS = {"encoders": "03", "objectives": "07", "pretrain": "08", "five_tasks": "13"}       # and the chapter it ends


@pytest.fixture(scope="module")
def tiny():
    return minalbef.load("tiny")


@pytest.fixture(scope="module")
def albef(tiny):
    model = objectives.ALBEF(tiny.config)
    model.load_state_dict(tiny.model.state_dict())       # strictly: every name and shape is the package's
    return model


@pytest.fixture(scope="module")
def some(tiny):
    """A batch of 12, on which the model is neither all right nor all wrong."""
    return objectives.scenes_batch(tiny, 0, 12)


def close(ours, theirs) -> bool:
    return torch.allclose(torch.as_tensor(ours), torch.as_tensor(theirs), rtol=1e-3, atol=1e-4)


def test_each_script_has_its_page_and_its_chapter():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SCRIPTS)
    page = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
    for name, number in SCRIPTS.items():
        source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        tree = ast.parse(source)
        words = sum(node.body[0].end_lineno - node.body[0].lineno + 1 for node in ast.walk(tree) if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node))
        code = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(code) - words <= 120, name
        assert all(len(line) <= 100 for line in source.splitlines()), name
        chapter, = (ROOT / "notebooks").glob(f"{number}*.ipynb")
        assert f"summary/{name}.py" in page and f"summary/{name}.py" in chapter.read_text(encoding="utf-8")


def test_the_encoders_give_the_packages_tokens(capsys):
    encoders.main()
    printed = capsys.readouterr().out
    assert float(re.search(r"difference from the package's: (\S+)", printed)[1]) < 1e-4


@pytest.mark.parametrize("text", ["a cat left of unbelievable zeppelins", "one ☃ here"])
def test_pieces_are_the_tokenizers(tiny, text):
    vocab = tiny.tokenizer._core.get_vocab()
    assert [piece for word in text.split() for piece in encoders.pieces(word, vocab)] == tiny.tokenizer.tokens(text)


def paper_way(tiny) -> minalbef.Config:
    """A run of four steps in which every objective counts from the first on, as in the paper."""
    return minalbef.preset("tiny", vocab_size=len(tiny.tokenizer), batch=12, epoch=4 * 12, muon_lr=0.0, warmup_steps=2,
                           share_stem=False, mlm_every=1, mask_power=0.0, mask_rate=0.3, alpha=0.4, siblings=0.0,
                           match_from=0.0, hard_from=0.0, queue_from=0.0, lesson_from=1.0, siblings_from=1.0)


def of_package(some) -> objectives.Batch:
    return objectives.Batch(some.image, some.tokens, some.keep, some.match | (some.ids[:, None] == some.ids))


def drawn(tiny, some, draws: Draws, config: minalbef.Config) -> tuple:
    """The package's random numbers, as the scripts take them."""
    length = some.tokens.shape[1]
    masked = objectives.mask_words(some.tokens, tiny.tokenizer.special, config.mask_rate, torch.stack(
        [draws.choose[:, :length], draws.kind[:, :length]]), draws.words[:, :length])
    return masked, torch.stack([draws.negative_text, draws.negative_image])


def test_pretraining_has_the_packages_losses_step_by_step(tiny):
    config = paper_way(tiny)
    torch.manual_seed(0)
    task = Pretrain(config, tiny.tokenizer.special, tiny.tokenizer.mask)
    student = objectives.ALBEF(config)
    student.load_state_dict(task.student.state_dict())
    batches = SceneBatches(config, tiny.tokenizer)
    some = [batches(step).to("cpu") for step in range(config.steps)]
    ours = pretrain.train(student, lambda step: of_package(some[step]), lambda step, _: drawn(
        tiny, some[step], task.draws(step), config), config)
    optimiser = choose_optimiser(task, config)
    for step, row in enumerate(ours):
        losses, carry = task(some[step], config.alpha * step * config.batch / config.epoch, task.draws(step))
        assert {name: pytest.approx(loss.item(), rel=1e-3) for name, loss in losses.items()} == row, step
        for group in optimiser.param_groups:
            group["lr"] = lr_at(step, config) * group["share"]
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(task.student.parameters(), config.clip)
        optimiser.step()
        task.after_step(carry)
    assert ours[-1]["mlm"] < ours[0]["mlm"], "nothing was learnt, so equal losses say little"


def test_a_changed_loss_of_a_script_would_be_seen(tiny, albef, some):
    """The comparison above can fail: another weight of the teacher gives another loss."""
    teacher, queue = copy.deepcopy(albef), (torch.zeros(0, tiny.config.embed_dim),) * 2
    torch.manual_seed(0)
    masked, uniform = objectives.draw_masks(some.tokens, tiny), torch.rand(2, 12, 12)
    found = [objectives.losses(albef, teacher, queue, some, alpha, masked, uniform)[0] for alpha in (0.0, 0.4)]
    assert all(found[0][name].item() != pytest.approx(found[1][name].item(), rel=1e-3) for name in ("itc", "mlm"))


def test_search_ranks_as_the_package_does(tiny, albef, some):
    with torch.no_grad():
        encoded = ranking.encode(tiny.model, some.image, some.tokens, some.keep)
        images = albef.image_encoder(some.image)
        texts = albef.text_encoder(some.tokens, some.keep)
    sim = ranking.similarity(tiny.model, encoded).T                           # (texts, images)
    for i in range(len(texts)):
        best = sim[i].topk(4).indices
        odds = ranking.match_odds(tiny.model, encoded, best, torch.full((4,), i))
        ours = five_tasks.search(albef, images, texts[i:i + 1], some.keep[i:i + 1], 4)
        assert ours.tolist() == best[odds.argsort(descending=True)].tolist()


def test_the_map_is_the_packages(tiny, albef, some):
    shortest = some.keep.sum(1).argmin().item()
    row = slice(shortest, shortest + 1)
    assert not some.keep[row].all(), "padding must not count"
    image, texts = albef.image_encoder(some.image[row]), albef.text_encoder(some.tokens[row], some.keep[row])
    ours = five_tasks.heat_map(albef, image, texts, some.keep[row], 0)
    theirs = grounding.heat_map(tiny.model, some.image[row], some.tokens[row], some.keep[row], 0)
    assert close(1000 * ours, 1000 * theirs.flatten()) and ours.max() > 1e-3


def lesson(tiny, task: str):
    source = problems(task, "train", tiny.config, 0)
    return batch(task, [source.draw(i) for i in range(9)], tiny.tokenizer, tiny.config.image_size)


def test_the_classifiers_are_the_packages(tiny, albef):
    width = tiny.config.text_width
    one, two = five_tasks.Classifier(albef, width, 3), five_tasks.Classifier(five_tasks.double(albef), width, 2)
    entailment, nlvr2 = EntailmentModel(tiny.config), PairModel(tiny.config, copy.deepcopy(two.head))
    entailment.start(tiny.model), nlvr2.start(tiny.model)
    entailment.head.load_state_dict(one.head.state_dict()), nlvr2.head.load_state_dict(two.head.state_dict())
    some = lesson(tiny, "entailment")
    assert close(one([albef.image_encoder(some.image)], some.tokens, some.keep),
                 entailment(some.image, some.tokens, some.keep))
    some, other = lesson(tiny, "nlvr2"), torch.tensor([1, 0])
    images = albef.image_encoder(some.image)
    left, right = (images[rows] for rows in some.pairs.T)
    theirs = nlvr2(some.image, some.pairs, some.tokens, some.keep)
    assert close(two([left, right], some.tokens, some.keep), theirs)
    assert not close(two([right, left], some.tokens, some.keep), theirs), "the order of the images counts"
    assert close(two([right, left], some.tokens, some.keep),
                 nlvr2(some.image, some.pairs[:, other], some.tokens, some.keep))


def test_the_decoders_answers_are_as_likely_as_the_packages(tiny, albef):
    some = lesson(tiny, "vqa")
    model = vqa.VQAModel(tiny.config)
    model.start(tiny.model)
    rows = torch.arange(len(some.counts)).repeat_interleave(some.counts)
    with torch.no_grad():
        question = albef.fuse(albef.text_encoder(some.tokens, some.keep), some.keep, albef.image_encoder(some.image))
        ours = five_tasks.Decoder(albef)(some.answers, some.answers_keep, question[rows], some.keep[rows])
        logits = model(some.answers, some.answers_keep, model.read(some), some.keep, rows)
        theirs = vqa.answer_loss(logits, some.answers, some.answers_keep)
    assert close(-ours, theirs) and theirs.std() > 0.1


@pytest.mark.parametrize("script, says", [
    (objectives, r"itc: \d\.\d\d, and 4.16 .*\nitm: \d\.\d\d, and 0.69 .*\nmlm: \d\.\d\d, and 5.88 "),
    (pretrain, r"itc: .*\nitm: .*\nmlm: .*\nitc has ever more keys: a guess costs 3.47 at first, and 5.66 "),
    (five_tasks, r"retrieval: .* right for \d\d of 100 captions\ngrounding: .*\nentailment: .*\nNLVR2, .*\nVQA: ")])
def test_a_script_runs(script, says, capsys, monkeypatch):
    if script is pretrain:                               # four of its forty steps
        monkeypatch.setattr(minalbef, "preset", lambda name, **changes: replace(
            presets.preset(name, **changes), epoch=4 * 32, warmup_steps=1))
    if script is five_tasks:
        monkeypatch.setattr(five_tasks.train, "__defaults__", (2,))
    script.main()
    assert re.match(says, capsys.readouterr().out)
