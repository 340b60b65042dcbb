"""vqa: the original's recorded losses, gradients and rankings;
a plain decoder at unequal widths; open answers."""

import copy
import itertools
import json
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close

from golden_encoders import CONFIG
from golden_rule import GOLDEN, figures, fill, off, original_state, wrong
from helpers import disturb, small, texts
from minalbef.albef import ALBEF
from minalbef.evaluation.loop import How
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks import vqa
from minalbef.tasks.vqa import (
    VQA,
    VQABatch,
    VQAModel,
    VQARecord,
    answer_loss,
    collate,
    encode_answers,
)
from minalbef.weights import key_table

ABSENT = (
    # the original has none of these here
    r"image_proj|text_proj|match_head|word_head|temperature"
)
IDS = SimpleNamespace(pad=0, cls=2, sep=3)


@cache
def start(size: str) -> tuple[VQA, dict]:
    """The original's model before its first loss, and what was recorded of it."""
    recorded = figures(f"vqa_{size}")
    depth = {"small": 2, "native": 6}[size]
    state = key_table.read(original_state(recorded["state_keys"]))
    task = VQA(replace(CONFIG, text_depth=depth, fusion_depth=depth))
    fill(task.student, state.student, ABSENT)
    fill(task.teacher, state.teacher, ABSENT)
    return task, recorded


def original(size: str) -> tuple[VQA, VQABatch, dict]:
    """A fresh copy of it, and its batch."""
    task, recorded = copy.deepcopy(start(size))
    arrays = recorded["arrays"]
    batch = VQABatch(
        figures("encoders")["arrays"]["image"][:3],
        arrays["question_ids"].long(),
        arrays["question_mask"].bool(),
        torch.arange(3),
        arrays["answer_ids"].long(),
        arrays["answer_mask"].bool(),
        arrays["weights"],
        arrays["k"].long(),
    )
    return task, batch, recorded


def all_figures(size: str = "small") -> dict[str, float]:
    """{what: worst difference over tolerance}."""
    task, batch, recorded = original(size)
    task.after_step(None)  # the original updates its teacher before its first loss
    arrays = recorded["arrays"]
    depth = task.config.text_depth
    rows = torch.arange(3).repeat_interleave(batch.counts)
    answers = batch.answers
    keep = batch.answers_keep
    result = {}
    for key, alpha in (("a0", 0.0), ("nodistill", 0.0), ("a04", 0.4)):
        loss = task(batch, alpha)[0]["answer"]
        task.zero_grad()
        loss.backward()
        with torch.no_grad():
            logits = [
                model(answers, keep, model.read(batch), batch.keep, rows)
                for model in (task.student, task.teacher)
            ]
        grads = {}
        for name, p in task.student.named_parameters():
            if p.grad is not None:
                grads[name.removeprefix("albef.")] = p.grad
        norms = {}
        for name, grad in key_table.write(grads, {}, {}, depth, bert=False).items():
            if not name.endswith("position_ids") and not name.endswith(tuple(key_table.TIED)):
                norms[name] = grad.norm()
        values = {
            "loss": loss,
            "per_answer_loss": vqa.answer_loss(logits[0], answers, keep, logits[1], alpha),
            "grad_norm_total": torch.stack(list(norms.values())).norm(),
        }
        for name, value in values.items():
            result[f"{key} {name}"] = off(value, recorded[key][name], 5e-6, 2e-6)
    weights = recorded["a04"]["grad_norms"]
    assert norms.keys() == weights.keys()
    for name, norm in norms.items():
        result[f"gradient of {name}"] = off(norm, weights[name], 2e-6, 2e-6)

    with torch.no_grad():
        for model, name, cut in (
            (task.student, "logits", None),
            (task.teacher, "logits_m_shifted", -1),
        ):
            x = model.decoder(answers, keep, model.read(batch), batch.keep, rows)
            result[name] = off(model.decoder.word_logits(x[:, :cut]),
                               arrays[f"a04/{name}"], 2e-5)
        albef = task.student.albef
        states = albef.fuse(
            albef.encode_text(batch.tokens, batch.keep),
            batch.keep, albef.encode_image(batch.image)
        )
        result["question_states"] = off(states[rows], arrays["a04/question_states"], 2e-5)

        model = task.student.eval()
        words = arrays["answer_list_ids"].long()
        for name, k in (("rank", 4), ("rank_all", 10)):
            which, probability = vqa.rank(
                model, batch, words, words > 0, k, chunk=5, count_first_twice=True
            )
            result |= {
                f"{name} ids": off(which, arrays[f"{name}/topk_ids"], 0.5),
                f"{name} probabilities": off(probability, arrays[f"{name}/topk_probs"], 2e-6),
            }
        once = vqa.rank(model, batch, words, words > 0, 4)[1]
        words = arrays["rank/input_ids"].long()
        first, total = arrays["rank/log_probs"].T
        logits = model(
            words, words > 0, model.read(batch),
            batch.keep, torch.arange(3).repeat_interleave(4)
        )
        result["likelihoods"] = off(-answer_loss(logits, words, words > 0), total, 5e-6, 2e-6)
        logits = model(
            words[:, :2], words[:, :2] > 0, model.read(batch), batch.keep,
            torch.arange(3).repeat_interleave(4),
        )
        result["first words"] = off(
            -answer_loss(logits, words[:, :2], words[:, :2] > 0), first, 5e-6, 2e-6
        )
        expected = total.reshape(3, 4).softmax(1).sort(1, descending=True).values
        result["the first word counted once"] = off(once, expected, 2e-6)
    return result


@pytest.mark.parametrize("size", ["small", "native"])
def test_losses_gradients_and_rankings_equal_the_original(size):
    assert wrong(all_figures(size)) == {}


def test_the_decoder_starts_from_what_the_original_starts_it_from():
    renamed = json.loads((GOLDEN / "full_checkpoint_key_maps.json").read_text())["VQA.py"][
        "renamed_used"
    ]
    named = {"text_decoder.": {}, "text_decoder_m.": {}}
    for target, source in renamed.items():
        for part, sources in named.items():
            if target.startswith(part):
                sources[target.replace("_m.", ".")] = source.replace("_m.", ".")
    assert named["text_decoder."] == named["text_decoder_m."]
    names = key_table.names(6, bert=True)
    start = {}
    for target, source in named["text_decoder."].items():
        start[names.get(target)] = names.get(source)
    model = VQAModel(replace(CONFIG, text_depth=6, fusion_depth=6))
    albef = disturb(ALBEF(model.albef.config))
    model.decoder.start(albef)
    weights = albef.state_dict()
    started = {f"decoder.{key}": value for key, value in model.decoder.state_dict().items()}
    assert started.keys() == start.keys() - {None}  # None: tied weights and position numbers
    for key, value in started.items():
        assert value.equal(weights[start[key]])


# with unequal widths of image and text


def task_and_batch(**changes) -> tuple[VQA, VQABatch]:
    """Three questions of 9, 7 and 5 words, with 2, 1 and 3 answers of 2 to 5."""
    torch.manual_seed(0)
    task = VQA(small(**changes))
    disturb(task.student, 0.2)
    disturb(task.teacher, 0.2, seed=8)
    tokens, keep = texts(3, 9, task.config.vocab_size, lengths=[9, 7, 5])
    answers, answers_keep = texts(6, 5, task.config.vocab_size,
                                  seed=1, lengths=[3, 5, 2, 4, 3, 5])
    return task, VQABatch(
        torch.randn(3, 3, 24, 24), tokens, keep, torch.arange(3), answers, answers_keep,
        torch.tensor([0.7, 0.3, 0.5, 0.2, 0.5, 0.3]), torch.tensor([2, 1, 3]),
    )


def test_unequal_shares_of_two_processes_average_to_the_whole(monkeypatch):
    task, batch = task_and_batch()
    total = task(batch, 0.4)[0]["answer"]

    def cut(questions: slice, answers: slice) -> VQABatch:
        return VQABatch(
            *(getattr(batch, name)[questions] for name in ("image", "tokens", "keep", "ids")),
            *(getattr(batch, name)[answers] for name in ("answers", "answers_keep", "weights")),
            batch.counts[questions],
        )

    monkeypatch.setattr(vqa.distributed, "total", lambda x: torch.tensor(3.0))
    monkeypatch.setattr(vqa.distributed, "world", lambda: 2)
    shares = [
        task(part, 0.4)[0]["answer"]
        for part in (cut(slice(0, 1), slice(0, 2)), cut(slice(1, 3), slice(2, 6)))
    ]
    assert_close(sum(shares) / 2, total, atol=1e-5, rtol=1e-5)


# answers


@torch.no_grad()
def test_enough_beams_find_the_likeliest_of_all_answers():
    task, batch = task_and_batch(vocab_size=8)
    model = task.student.eval()
    answers, score = vqa.generate(model, batch, IDS, length=4, beams=400)
    ended = [
        [IDS.cls, *middle, IDS.sep]
        for n in (0, 1, 2)
        for middle in itertools.product((1, 2, 4, 5, 6, 7), repeat=n)
    ]
    cut = [
        [IDS.cls, *words] for words in itertools.product((1, 2, 4, 5, 6, 7), repeat=3)
    ]  # cut at four words
    tokens = torch.tensor([ids + [IDS.pad] * (4 - len(ids)) for ids in ended + cut])
    for row in range(3):
        keep = tokens > 0
        plain = -answer_loss(
            model(tokens, keep, model.read(batch), batch.keep, torch.full((len(tokens),), row)),
            tokens,
            keep,
        )
        assert (
            answers[row].tolist()
            == F.pad(tokens[plain.argmax()], (0, answers.shape[1] - 4)).tolist()
        )
        assert_close(score[row], plain.max(), atol=1e-5, rtol=1e-5)


# records


def test_questions_are_cleaned_as_the_original_cleans_them():
    for text, words, cleaned in figures("text")["pre_question"]:
        assert vqa.clean_question(text, words) == cleaned


def tokenizer(tmp_path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text(
        "\n".join([*figures("text")["tokenizer"]["vocab"], ":", "1", "30", "-"])
    )
    return Tokenizer.from_vocab(tmp_path / "vocab.txt")


def test_answers_end_in_sep_and_keep_their_punctuation(tmp_path):
    tokens, keep = encode_answers(tokenizer(tmp_path), ["yes", "a dog"])
    case = figures("text")["tokenizer"]["cases"][-1]
    assert case["texts"] == ["yes[SEP]", "a dog[SEP]"]
    assert tokens.tolist() == case["input_ids"]
    assert keep.long().tolist() == case["attention_mask"]
    assert encode_answers(tokenizer(tmp_path), ["1:30"])[0].tolist() == [[2, 21, 20, 22, 3]]


def test_an_evaluation_compares_normal_forms_only_where_annotators_differ(monkeypatch):
    """Chance too: listed are "2" and "two", both right where nine say "two" and one "2"."""
    written = ["The dog.", "The dog.", "two", "2", "2"]
    monkeypatch.setattr(vqa, "answer_questions", lambda *args: written)
    answers = [
        ("dog",) * 10, ("dog",) * 9 + ("cat",),
        ("two",) * 10, ("two",) * 9 + ("2",), ("cow",) * 10,
    ]
    records = [VQARecord(None, "what?", words, i) for i, words in enumerate(answers)]
    samples, more = vqa.evaluate_vqa(None, None, records, How(answers=["2", "two", "dog"]))
    assert samples["accuracy"].tolist() == pytest.approx([0, 1, 1, 1, 0])
    assert more["chance"]["accuracy"] == pytest.approx((1 + 1 + 1 + 2 + 0) / 3 / 5)
    assert more["lacking"] == 1


def test_records_become_a_batch_with_weighted_answers(tmp_path):
    picture = Image.new("RGB", (20, 30), "red")
    records = [
        VQARecord(
            picture, "Is the man on a surf-board?",
            ("yes",) * 6 + ("no",) * 3 + ("the man",), 31
        ),
        VQARecord(picture, "two?", ("two",), 7, trust=0.5),
    ]
    batch = collate(records, tokenizer(tmp_path), 24)
    assert batch.tokens.tolist() == [
        [2, 19, 13, 6, 10, 5, 11, 1],
        [2, 16, 0, 0, 0, 0, 0, 0],
    ]  # "surf board": 2 words
    assert batch.image.shape == (2, 3, 24, 24)
    assert batch.ids.tolist() == [31, 7]
    assert batch.counts.tolist() == [3, 1]
    assert batch.answers.tolist() == [[2, 14, 3, 0], [2, 15, 3, 0],
                                      [2, 13, 6, 3], [2, 16, 3, 0]]
    assert_close(batch.weights, torch.tensor([0.6, 0.3, 0.1, 0.5]))
    assert batch.to("cpu").answers.equal(batch.answers)
    with pytest.raises(ValueError, match="question 7, 'two\\?', has no answer"):
        collate([replace(records[1], answers=())], tokenizer(tmp_path), 24)
    with pytest.raises(ValueError, match="has no words"):
        collate([replace(records[1], answers=("",))], tokenizer(tmp_path), 24)
