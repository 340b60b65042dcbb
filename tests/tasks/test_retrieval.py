"""retrieval: the original's recorded losses, negatives, gradients, queue and scores;
captions that share a picture."""
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from golden_encoders import CONFIG
from golden_rule import figures, fill, image, off, original_state, wrong
from golden_tasks import LARGE, gradient_differences
from helpers import Batches, pretrain, small
from minalbef import losses
from minalbef.data import Record
from minalbef.ema import update_teacher
from minalbef.evaluation import ranking
from minalbef.evaluation.ranking import encode, score, true_pairs, two_stage
from minalbef.pretrain import Draws, Pretrain, PretrainBatch
from minalbef.system.tokenizer import Tokenizer
from minalbef.tasks.retrieval import Retrieval, collate
from minalbef.weights import key_table

HALF = torch.full((4, 4), 0.5)
# equal uniforms: the likeliest negatives, as the original's
LIKELIEST = Draws(0, HALF, HALF, HALF, HALF, HALF)
PARTNER = (torch.arange(6), torch.arange(12) // 2)      # two captions for each of six pictures


def original() -> tuple[Retrieval, PretrainBatch, dict]:
    """The original's retrieval model before its first losses, its batch,
    and what was recorded of it."""
    recorded = figures("retrieval")
    inputs = figures("encoders")["arrays"]
    state = key_table.read(original_state(recorded["state_keys"]))
    task = Retrieval(replace(CONFIG, temperature_max=math.inf))
    # the original has none here
    fill(task.student, state.student, "word_head")
    fill(task.teacher, state.teacher, "word_head|match_head|temperature")
    task.queue.load_state_dict({name: state.queue[name] for name in ("image", "text")} | {
        "ids": recorded["arrays"]["init/idx_queue"][0].long(),
        "_extra_state": {"pointer": 12, "filled": 16}})
    batch = PretrainBatch(inputs["image"], inputs["input_ids"].long(),
                          inputs["attention_mask"].bool(),
                          recorded["arrays"]["idx"].long())
    return task, batch, recorded


def training(monkeypatch) -> dict[str, float]:
    """One step's figures: {what: worst difference over tolerance}."""
    task, batch, recorded = original()
    # as the original does, before its features
    update_teacher(task.teacher, task.student, CONFIG.teacher_momentum)
    calls: dict[str, list] = {}
    for home, name in ((Pretrain, "itc_loss"),
                       (Pretrain, "hard_negatives"), (Pretrain, "itm_loss")):
        def spy(*args, name=name, real=getattr(home, name)):
            calls.setdefault(name, []).append((args, real(*args)))
            return calls[name][-1][1]
        monkeypatch.setattr(home, name, staticmethod(spy))
    task.student.match_head.register_forward_hook(lambda _, x, logits: calls.update(fused=x[0]))
    result = {}
    for key, alpha in (("a0", 0.0), ("nodistill", 0.0), ("a04", 0.4)):
        calls.clear()
        out, carry = task(batch, alpha, LIKELIEST)
        for name, value in gradient_differences(task.student, sum(out.values()),
                                                recorded[key]).items():
            result[f"{key} {name}"] = value
        embedding = task.student.text_encoder.embeddings.word_embed
        values = {"loss_ita": out["itc"], "loss_itm": out["itm"],
                  "grad_temp": task.student.temperature.grad,
                  "pad_row_grad_norm": embedding.weight.grad[0].norm()}
        for name, value in values.items():
            result[f"{key} {name}"] = off(value, recorded[key][name], *LARGE)

    arrays = recorded["arrays"]
    for way, side, (args, _), (inputs, (negative, valid)) in zip(
            ("i2t", "t2i"), ("text", "image"), calls["itc_loss"], calls["hard_negatives"]):
        sim, teacher_sim, _, positive = args
        weights = arrays[f"a04/weights_{way}"]
        values = {f"sim_{way}": sim, f"sim_{way}_m": teacher_sim,
                  "pos_idx": positive, "mask": positive[:, :4],
                  f"sim_{way}_targets": losses.itc_targets(positive, teacher_sim, 0.4),
                  "sim_targets": losses.itc_targets(positive, teacher_sim, 0.0),
                  f"neg_{side}_idx": negative}
        for name, value in values.items():
            result[f"{name} ({way})"] = off(value, arrays[f"a04/{name}"], 1e-4)
        # the original zeroes after the softmax; one factor a row remains between its weights and ours
        result[f"weights_{way}"] = off(inputs[0].masked_fill(inputs[1], -math.inf).softmax(-1),
                                       weights / weights.sum(1, keepdim=True), 1e-4)
        assert valid.all()
    logits, labels, *_ = calls["itm_loss"][0][0]
    values = {"vl_embeddings": calls["fused"], "vl_output": logits,
              "itm_labels": labels, "image_feat_m": carry[0],
              "text_feat_m": carry[1]}
    for name, value in values.items():
        result[name] = off(value, arrays[f"a04/{name}"], 1e-4)
    task.after_step(carry)
    after = key_table.write({}, {}, {"image": task.queue.image,
                                     "text": task.queue.text, "ids": task.queue.ids,
                                 "pointer": torch.tensor(task.queue.pointer)}, 2, False)
    result["queue_ptr"] = off(after["queue_ptr"][0], recorded["a04"]["queue_ptr_after"], 1e-9)
    for name in ("image_queue", "text_queue", "idx_queue"):
        result[f"{name} after"] = off(after[name], arrays[f"a04/{name}_after"], 2e-5)
    return result


@torch.no_grad()
def temperature() -> dict[str, float]:
    """A temperature that the original's pretraining would clamp, and its retrieval does not."""
    task, batch, recorded = original()
    task.student.temperature.fill_(0.9)
    task.after_step([x[:0] for x in task.queue.features()])
    there = recorded["temp_0.9_not_clamped"]
    return {"temp": off(task.student.temperature, there["temp_after"], 1e-6),
            "loss_ita at 0.9": off(task(batch, 0.4, LIKELIEST)[0]["itc"],
                                   there["loss_ita"], 1e-5)}


def ranked() -> dict[str, float]:
    """Evaluation's figures: {what: worst difference over tolerance}."""
    task, _, recorded = original()
    arrays = {name.removeprefix("eval/"): value for name, value in recorded["arrays"].items()}
    encoded = encode(task.student, image("retrieval.eval.image", 6, 3, 32, 32),
                     arrays["input_ids"].long(),
                     arrays["attention_mask"].bool(), chunk=4)
    top = recorded["eval"]["k_test"]
    scores = two_stage(score(task.student, encoded, top=top, yes_alone=True, rows=4), top)
    # the original says -100 for what was not re-ranked, and numpy's sort then puts the last of what ties first
    filled = [x.double().nan_to_num(neginf=-100.0) for x in scores["rerank"]]
    figured = {}
    true = true_pairs(*PARTNER)
    for way, x, right in zip(("i2t", "t2i"), filled, (true, true.T)):
        x = x + 1e-9 * torch.arange(x.shape[1])
        for k in (1, 5, 10):
            figured[f"{way}_r{k}"] = ranking.recall(x, right, k).mean().item()
    for way in ("i2t", "t2i"):
        figured[f"{way}_r_mean"] = sum(figured[f"{way}_r{k}"] for k in (1, 5, 10)) / 3
    figured["r_mean"] = (figured["i2t_r_mean"] + figured["t2i_r_mean"]) / 2
    return {"sims_matrix_i2t": off(scores["itc"][0], arrays["sims_matrix_i2t"], 2e-5),
            **{f"score_{way}": off(x, arrays[f"score_{way}"], 1e-4)
               for way, x in zip(("i2t", "t2i"), filled)},
            **{name: off(100 * figured[name.replace("txt", "i2t").replace("img", "t2i")],
                         value, 1e-4)
               for name, value in recorded["eval"]["metrics"].items()}}


def all_figures(monkeypatch) -> dict[str, float]:
    return training(monkeypatch) | temperature() | ranked()


def test_training_and_evaluation_equal_the_original(monkeypatch):
    assert wrong(all_figures(monkeypatch)) == {}


# training, with unequal widths of image and text


def task_and_batch(**changes) -> tuple[Retrieval, PretrainBatch]:
    config = small(match_from=0.25, queue_from=0.5, hard_from=0.75, **changes)
    task = Retrieval(config)
    task.load_state_dict(pretrain(config).state_dict())
    return task, Batches(config)(0)


# evaluation


def test_scores_are_those_of_each_pair_alone_and_padding_cannot_be_seen():
    task, batch = task_and_batch()
    model = task.student.eval()
    encoded = encode(model, batch.image[:5], batch.tokens, batch.keep)
    scores = two_stage(score(model, encoded, top=2, yes_alone=True, rows=2), 2)
    junk = replace(encoded, text=encoded.text.masked_fill(~encoded.keep[..., None], 9.0))
    for name, ways in two_stage(score(model, junk, top=2, yes_alone=True), 2).items():
        for a, b in zip(ways, scores[name]):
            assert_close(a, b, atol=1e-5, rtol=1e-5)
    sim = model.image_feature(encoded.image) @ model.text_feature(encoded.text).T
    for reranked, sims, turned in zip(scores["rerank"], (sim, sim.T), (False, True)):
        assert ((reranked > -math.inf).sum(1) == 2).all()
        for q, c in (reranked > -math.inf).nonzero().tolist():
            i, t = (c, q) if turned else (q, c)
            assert (sims[q] > sims[q, c]).sum() < 2
            n = int(batch.keep[t].sum())
            tokens = batch.tokens[t:t + 1, :n]
            keep = batch.keep[t:t + 1, :n]
            alone = model.match_logits(model.fuse(model.encode_text(tokens, keep),
                                                  keep, encoded.image[i:i + 1]))
            assert_close(reranked[q, c], alone[0, 1], atol=1e-5, rtol=1e-4)
            plus = scores["rerank_plus"][turned][q, c]
            assert_close(plus, alone[0, 1] + sim[i, t], atol=1e-5, rtol=1e-4)
    assert model.config.image_width != model.config.text_width


@pytest.mark.parametrize("image_ids, text_ids, named", [
    ([4, 9], [4, 4, 4], r"image ids \[9\]"), ([4], [4, 9], r"text ids \[9\]")])
def test_what_has_no_partner_is_named(image_ids, text_ids, named):
    with pytest.raises(ValueError, match=named):
        true_pairs(torch.tensor(image_ids), torch.tensor(text_ids))


@pytest.mark.parametrize("equal_texts", [False, True])
@pytest.mark.parametrize("kind, equal_ids",
                         [(Retrieval, False), (Pretrain, False), (Pretrain, True)])
def test_captions_of_one_picture_are_positives_in_itc_if_the_option_says_so_and_never_negatives(
        kind, equal_ids, equal_texts, monkeypatch):
    """In retrieval they always are, as in the original;
    its pretraining knows each row's own pair alone."""
    config = small(equal_ids_match=equal_ids, equal_texts_match=equal_texts)
    task = kind(config)
    batch = Batches(config)(0)
    older, batch = (replace(batch, match=None, ids=torch.tensor(ids), texts=torch.tensor(texts))
                    for ids, texts in (
        ([1, 12, 13, 14, 15, 16, 17, 18], [90, 91, 92, 93, 94, 95, 96, 97]),
        ([1, 2, 2, 4, 5, 6, 7, 8], [60, 61, 62, 80, 81, 82, 80, 97])))
    task.after_step(task(older, 0.0, task.draws(0))[1])
    calls = []
    masks = []
    real = task.itc_loss
    negatives = task.hard_negatives
    monkeypatch.setattr(task, "itc_loss", lambda *args: calls.append(args[3]) or real(*args))
    monkeypatch.setattr(task, "hard_negatives", lambda sim, positive, uniform:
                        masks.append(positive) or negatives(sim, positive, uniform))
    task(batch, 0.0, task.draws(1))
    taught = torch.cat([torch.eye(8), torch.zeros(8, 8)], 1).bool()
    if equal_texts:
        taught[3, 6] = taught[6, 3] = taught[7, 15] = True
    pairs = taught.clone()
    pairs[1, 2] = pairs[2, 1] = pairs[0, 8] = True
    expected = pairs if equal_ids or kind is Retrieval else taught
    assert len(calls) == 2
    for positive in calls:
        assert torch.equal(positive, expected)
    for positive in masks:
        assert torch.equal(positive, pairs[:, :8])


def test_a_caption_has_one_hash_whatever_the_length_of_the_others_in_its_batch():
    """Equal captions meet across batches, through the queue:
    padding must not tell them apart."""
    tokenizer = Tokenizer.train(["a red cat sits on a mat", "a blue dog"], 64)
    picture = Image.new("RGB", (20, 30), "red")
    def hashes(*captions):
        records = [Record(picture, text, i) for i, text in enumerate(captions)]
        return collate(records, tokenizer, 24).texts.tolist()
    alone, = hashes("a red cat")
    short, longer = hashes("a red cat", "a red cat sits on a mat")
    assert alone == short != longer
