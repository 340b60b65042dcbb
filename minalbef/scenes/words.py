"""Single words: predicting a masked one, and the pointing game with its Grad-CAM map."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emojiscenes.language import Object
from emojiscenes.scenes import Drawn
from minalbef.gradcam import match_score, relevance, word_score
from minalbef.run import Run
from minalbef.scenes import questions
from minalbef.tokenizer import clean


@dataclass(frozen=True)
class Hidden:
    """Texts with one word to mask in each.

    rows: (r,) the image of each text; tokens: (r, l), before masking; keep: (r, l) bool
    hidden: (r, l) bool, the word's pieces
    """

    rows: Tensor
    tokens: Tensor
    keep: Tensor
    hidden: Tensor


def piece_places(run: Run, text: str) -> list[list[int]]:
    """The token positions of each word's pieces; position 0 is [CLS]."""
    places: list[list[int]] = []
    for i, piece in enumerate(run.tokenizer.tokens(text), start=1):
        if piece.startswith("##"):
            places[-1].append(i)
        else:
            places.append([i])
    return places


def hide(run: Run, texts: Sequence[str], spans: Sequence[tuple[int, Sequence[int]]]) -> Hidden:
    """spans: a text's index and the words in it to mask together -> a row for each span, on the model's device."""
    tokens, keep = run.tokenizer.encode(list(texts), run.config.text_length)
    places = [piece_places(run, text) for text in texts]
    rows = torch.tensor([i for i, _ in spans], dtype=torch.long)
    hidden = torch.zeros(len(spans), tokens.shape[1], dtype=torch.bool)
    for row, (i, words) in zip(hidden, spans):
        row[[place for word in words for place in places[i][word] if place < len(row)]] = True
    return Hidden(*(x.to(run.device) for x in (rows, tokens[rows], keep[rows], hidden)))


@torch.no_grad()
def guess(run: Run, hidden: Hidden, image_tokens: Tensor, chunk: int = 256) -> Tensor:
    """MLM's prediction at masked positions, the tokens elsewhere: image_tokens (i, 1 + n, d) -> (r, l)."""
    model, guessed = run.model, hidden.tokens.clone()
    keys_values = model.fusion.keys_values(image_tokens)
    for some in torch.arange(len(guessed), device=run.device).split(chunk):
        keep, place = hidden.keep[some], hidden.hidden[some]
        text = model.encode_text(hidden.tokens[some].masked_fill(place, run.tokenizer.mask), keep)
        fused = model.fuse(text, keep, None, pairs=(some - some[0], hidden.rows[some]), keys_values=keys_values)
        guessed[some] = guessed[some].masked_scatter(place, model.word_logits(fused[place]).argmax(-1))
    return guessed


def word_maps(run: Run, hidden: Hidden, image_tokens: Tensor, score: str = "itm", chunk: int = 128) -> Tensor:
    """Grad-CAM of each row's word over the patches, of all fusion layers: image_tokens (i, 1 + n, d) -> (r, n).

    score: "itm" explains the match, with nothing masked; "mlm" the masked word's prediction
    """
    # On 300 validation scenes with three seeds of `tiny` no single layer is better than all. Masked words: .71, .72,
    # .77, and .19 with the worst layer; match: .66, .59, .25, and the last layer adds nothing
    maps = []
    for some in torch.arange(len(hidden.rows)).split(chunk):
        tokens, keep, place = hidden.tokens[some], hidden.keep[some], hidden.hidden[some]
        masked = tokens.masked_fill(place, run.tokenizer.mask) if score == "mlm" else tokens
        with torch.no_grad():
            text = run.model.encode_text(masked, keep)
        why = word_score(run.model, tokens, place) if score == "mlm" else match_score(run.model)
        maps.append((relevance(run.model, image_tokens[hidden.rows[some]], text, keep, why) * place[:, :, None]).sum(1))
    return torch.cat(maps)


def patches_inside(thing: Object, grid: int) -> Tensor:
    """Patches whose centre is in the object's box: (n,) bool, row-major."""
    centre = (torch.arange(grid) + 0.5) / grid
    near = [(centre - at).abs() <= thing.size / 2 for at in (thing.y, thing.x)]
    return (near[0][:, None] & near[1]).flatten()


def unique_nouns(drawn: Drawn) -> list[tuple[Object, list[int]]]:
    """Objects whose name is unique in the scene and occurs once in the caption, with the indices of its words."""
    words, found = clean(drawn.text).split(), []
    for thing in drawn.scene.objects:
        name = thing.name.split()
        starts = [i for i in range(len(words)) if words[i:i + len(name)] == name]
        if len(starts) == 1 and sum(other.name == thing.name for other in drawn.scene.objects) == 1:
            found.append((thing, list(range(starts[0], starts[0] + len(name)))))
    return found


def pointing_game(run: Run, drawn: Sequence[Drawn], scores: Sequence[str] = ("itm", "mlm")) -> dict[str, Tensor]:
    """Does the maximum of a noun's map lie in its object? -> by name (w,), 0 to 1: pointing_itm, pointing_chance."""
    things = [(i, thing, words) for i, one in enumerate(drawn) for thing, words in unique_nouns(one)]
    hidden = hide(run, [one.text for one in drawn], [(i, words) for i, _, words in things])
    image_tokens = questions.image_tokens(run, [one.scene for one in drawn])
    inside = torch.stack([patches_inside(thing, run.config.grid) for _, thing, _ in things]).float()      # (w, n)
    values = {"pointing_chance": inside.mean(1)}
    for score in scores:
        maps = word_maps(run, hidden, image_tokens, score).cpu()
        top = (maps == maps.amax(1, keepdim=True)).float()       # a flat map points everywhere, at chance level
        values[f"pointing_{score}"] = (inside * top).sum(1) / top.sum(1)
    return values
