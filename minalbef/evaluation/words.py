"""Masked words: which word does MLM predict in the place of one that is masked, with the image and
without it, and where does the model look for it?"""
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minalbef.data import Record, transform
from minalbef.evaluation.gradcam import match_score, relevance, word_score
from minalbef.evaluation.intervals import by_kind
from minalbef.evaluation.loop import How, Pretrained, encode_images, grey_image


@dataclass(frozen=True)
class WordsRecord(Record):
    """An image and its caption, every word of which is masked in turn.

    kinds: one for each word, to report apart; "" for a word that counts among all alone
    """

    kinds: tuple[str, ...] = ()


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


def piece_places(run: Pretrained, text: str) -> list[list[int]]:
    """The token positions of each word's pieces; position 0 is [CLS]."""
    places: list[list[int]] = []
    for i, piece in enumerate(run.tokenizer.tokens(text), start=1):
        if piece.startswith("##"):
            places[-1].append(i)
        else:
            places.append([i])
    return places


def hide(run: Pretrained, texts: Sequence[str], spans: Sequence[tuple[int, Sequence[int]]]
         ) -> Hidden:
    """A row for each span, on the model's device.

    spans: a text's index, and the words in it to mask together
    """
    tokens, keep = run.tokenizer.encode(list(texts), run.config.text_length)
    places = [piece_places(run, text) for text in texts]
    rows = torch.tensor([i for i, _ in spans], dtype=torch.long)
    hidden = torch.zeros(len(spans), tokens.shape[1], dtype=torch.bool)
    for row, (i, words) in zip(hidden, spans):
        for word in words:
            row[[place for place in places[i][word] if place < len(row)]] = True
    device = run.device
    return Hidden(rows.to(device), tokens[rows].to(device), keep[rows].to(device),
                  hidden.to(device))


@torch.no_grad()
def guess(run: Pretrained, hidden: Hidden, image_tokens: Tensor, chunk: int = 256) -> Tensor:
    """MLM's prediction at masked positions, the tokens elsewhere.

    image_tokens: (i, 1 + n, d)  ->  (r, l)
    """
    model = run.model
    guessed = hidden.tokens.clone()
    keys_values = model.fusion.keys_values(image_tokens)
    for rows in torch.arange(len(guessed), device=run.device).split(chunk):
        keep = hidden.keep[rows]
        place = hidden.hidden[rows]
        masked = hidden.tokens[rows].masked_fill(place, run.tokenizer.mask)
        fused = model.fuse(model.encode_text(masked, keep), keep, None,
                           pairs=(rows - rows[0], hidden.rows[rows]), keys_values=keys_values)
        words = model.word_logits(fused[place]).argmax(-1)
        guessed[rows] = guessed[rows].masked_scatter(place, words)
    return guessed


def word_maps(run: Pretrained, hidden: Hidden, image_tokens: Tensor, score: str = "itm",
              chunk: int = 128) -> Tensor:
    """Grad-CAM of each row's word over the patches, of all fusion layers.

    image_tokens: (i, 1 + n, d)
    score: "itm" explains the match, with nothing masked; "mlm" the masked word's prediction
    -> (r, n)
    """
    # On 300 validation scenes with three seeds of `tiny` no single layer is better than all.
    # Masked words: .71, .72, .77, and .19 with the worst layer; match: .66, .59, .25, and the
    # last layer adds nothing
    maps = []
    for rows in torch.arange(len(hidden.rows)).split(chunk):
        tokens = hidden.tokens[rows]
        keep = hidden.keep[rows]
        place = hidden.hidden[rows]
        if score == "mlm":
            shown = tokens.masked_fill(place, run.tokenizer.mask)
            explained = word_score(run.model, tokens, place)
        else:
            shown = tokens
            explained = match_score(run.model)
        with torch.no_grad():
            text = run.model.encode_text(shown, keep)
        heat = relevance(run.model, image_tokens[hidden.rows[rows]], text, keep, explained)
        maps.append((heat * place[:, :, None]).sum(1))
    return torch.cat(maps)


def evaluate_words(run: Pretrained, records: Sequence[WordsRecord], how: How) -> tuple[dict, dict]:
    """Accuracy of single words by kind, and of "all"; "without_image" is its text-only baseline.

    A word counts if all its pieces are predicted. -> samples, what else to report; see loop
    """
    texts = [record.text for record in records]
    kinds = [kind for record in records for kind in record.kinds]
    spans = [(i, [j]) for i, record in enumerate(records) for j in range(len(record.kinds))]
    hidden = hide(run, texts, spans)
    image = encode_images(run.model, records, range(len(records)), how)
    grey = transform(grey_image(run.config.image_size), run.config.image_size)[None]
    with torch.no_grad():
        blank = run.model.encode_image(grey.to(run.device))
    samples = {"accuracy": words_right(run, hidden, image, kinds)}
    without = words_right(run, replace(hidden, rows=torch.zeros_like(hidden.rows)), blank, kinds)
    return samples | {"baselines": {"without_image": {"accuracy": without}}}, {}


def words_right(run: Pretrained, hidden: Hidden, image_tokens: Tensor, kinds: Sequence[str]
                ) -> dict[str, Tensor]:
    """Which masked words are predicted: by kind (w,), and "all", 0 or 1."""
    guessed = guess(run, hidden, image_tokens)
    right = (guessed == hidden.tokens).all(1) & hidden.hidden.any(1)
    samples = right.float().cpu()
    parts = by_kind(samples, kinds)
    parts.pop("", None)
    return parts | {"all": samples}
