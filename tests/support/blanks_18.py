"""Chapter 18's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""
import sys
from pathlib import Path

# a blank's cell runs without the cell of the chapter that adds these
EXPERIMENTS = Path(__file__).parents[2] / "notebooks" / "experiments"
sys.path += [str(EXPERIMENTS), str(EXPERIMENTS / "after")]

EACH = 'each = torch.einsum("ine,tle->itnl", image, text)\n'
CORNERS = """
    low = [box[:, :2] - box[:, 2:] / 2 for box in (a, b)]
    high = [box[:, :2] + box[:, 2:] / 2 for box in (a, b)]
    size = torch.minimum(*high) - torch.maximum(*low)
    around = (torch.maximum(*high) - torch.minimum(*low)).prod(1)
"""
RIGHT = {
    "pairs_loss": ["""
    return F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="sum") / len(logits)
""", """
    true, false = logits[positive], logits[~positive]
    return (F.softplus(-true).sum() + F.softplus(false).sum()) / logits.shape[0]
"""],
    "best_of_all": ["""
    by_patches = torch.zeros(len(image), len(text))
    by_words = torch.zeros(len(image), len(text))
    for i, patches in enumerate(image):
        for t, words in enumerate(text):
            cosines = patches @ words[keep[t]].T
            by_patches[i, t] = cosines.max(1).values.mean()
            by_words[i, t] = cosines.max(0).values.mean()
    return by_patches, by_words
""", """
    each = (image[:, None, :, None] * text[None, :, None]).sum(-1)
    by_patches = each.where(keep[:, None], -torch.inf).max(-1).values.mean(-1)
    best = each.max(2).values.masked_fill(~keep, torch.nan)
    return by_patches, best.nanmean(-1)
"""],
    "giou": [CORNERS + """
    shared = torch.relu(size[:, 0]) * torch.relu(size[:, 1])
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared
    return shared / union + union / around - 1
""", """
    found = []
    for (x, y, w, h), (x2, y2, w2, h2) in zip(a, b):
        left, right = torch.minimum(x + w / 2, x2 + w2 / 2), torch.maximum(x - w / 2, x2 - w2 / 2)
        low, high = torch.minimum(y + h / 2, y2 + h2 / 2), torch.maximum(y - h / 2, y2 - h2 / 2)
        shared = (left - right).clamp(min=0) * (low - high).clamp(min=0)
        union = w * h + w2 * h2 - shared
        wide = torch.maximum(x + w / 2, x2 + w2 / 2) - torch.minimum(x - w / 2, x2 - w2 / 2)
        tall = torch.maximum(y + h / 2, y2 + h2 / 2) - torch.minimum(y - h / 2, y2 - h2 / 2)
        found.append(shared / union - (wide * tall - union) / (wide * tall))
    return torch.stack(found)
"""],
    "caption_odds": ["""
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return -losses.where(keep[:, 1:], 0).sum(1)
""", """
    odds = []
    for row, words, length in zip(logits, tokens, keep.sum(1)):
        odds.append(sum((row[i].log_softmax(0)[words[i + 1]] for i in range(length - 1)),
                        torch.tensor(0.0)))
    return torch.stack(odds)
"""],
    "nucleus": ["""
    p = logits.softmax(-1)
    likelier = (p[:, None, :] > p[:, :, None]) * p[:, None, :]
    return likelier.sum(-1) < share
""", """
    p, words = logits.softmax(-1).sort(descending=True)
    count = 1 + (p.cumsum(-1) < share).sum(-1, keepdim=True)
    ranks = words.argsort(-1)
    return ranks < count
"""],
    "patches_first": ["""
    length = patches + keep.shape[1]
    mask = torch.zeros(len(keep), length, length, dtype=torch.bool)
    for row, words in enumerate(keep):
        for i in range(length):
            for j in range(i + 1):
                mask[row, i, j] = j < patches or words[j - patches]
    return mask
""", """
    place = torch.arange(patches + keep.shape[1])
    return (place <= place[:, None]) & F.pad(keep, (patches, 0), value=True)[:, None]
"""]}
WRONG = {
    "pairs_loss": ["""
    sign = 2.0 * positive - 1
    return -F.logsigmoid(sign * logits).mean()                    # over pairs, not rows
""", """
    return -F.logsigmoid(logits)[positive].sum() / len(logits)    # true pairs alone
""", """
    return F.cross_entropy(logits, positive / positive.sum(-1, keepdim=True).clamp(min=1))   # a softmax
""", """
    sign = positive.float()                                       # 0 for a wrong pair
    return -F.logsigmoid(sign * logits).sum() / len(logits)
"""],
    "best_of_all": [EACH + """
return each.amax(3).mean(2), each.amax(2).mean(2)                 # padding counts in both
""", EACH + """
each = each.masked_fill(~keep[:, None], -2)
return each.amax(3).mean(2), each.amax(2).mean(2)                 # -2 counts in a mean
""", EACH + """
each = each * keep[:, None]                                       # 0 may be the best word
return each.amax(3).mean(2), each.amax(2).sum(2) / keep.sum(1)
""", EACH + """
by_patches = each.masked_fill(~keep[:, None], -2).amax(3).mean(2)
return (each.amax(2) * keep).sum(2) / keep.sum(1), by_patches     # the other way round
"""],
    "giou": [CORNERS + """
    shared = size.prod(1)                                         # two negative sides make an area
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
    return shared / union - (around - union) / around
""", CORNERS + """
    shared = size.clamp(min=0).prod(1)
    return shared / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared)       # IoU
""", CORNERS + """
    shared = size.clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1)                   # what they share counts twice
    return shared / union - (around - union) / around
""", """
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)                    # as if boxes were corners
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    around = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return shared / union - (around - union) / around
"""],
    "caption_odds": ["""
    log_p = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return (log_p * keep).sum(1)                                  # each word predicts itself
""", """
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return log_p.sum(1)                                           # padding counts
""", """
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return (log_p * keep[:, 1:]).sum(1) / keep[:, 1:].sum(1)      # a mean
""", """
    log_p = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return (log_p * keep[:, :-1]).sum(1)                          # one padded word too many
"""],
    "nucleus": ["""
    p, words = logits.softmax(-1).sort(-1, descending=True)
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, p.cumsum(-1) < share)
""", """
    p, words = logits.softmax(-1).sort(-1, descending=True)
    return p.cumsum(-1) - p < share                               # in the order of likelihood
""", """
    return logits.softmax(-1) > 1 - share                         # likely ones, one by one
""", """
    p, words = logits.softmax(-1).sort(-1)                        # the least likely first
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, p.cumsum(-1) - p < share)
"""],
    "patches_first": ["""
    seen = F.pad(keep, (patches, 0), value=True)
    return seen[:, None].expand(-1, seen.shape[1], -1)            # all sees all
""", """
    length = patches + keep.shape[1]
    return torch.ones(len(keep), length, length, dtype=torch.bool).tril()        # padding is seen
""", """
    seen = F.pad(keep, (patches, 0), value=False)                 # patches count as padding
    return seen[:, None] & torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool).tril()
""", """
    seen = F.pad(keep, (0, patches), value=True)                  # patches behind the words
    return seen[:, None] & torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool).tril()
"""]}
