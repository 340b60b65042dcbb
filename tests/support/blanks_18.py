"""Chapter 18's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

import sys
from pathlib import Path

# a blank's cell runs without the cell of the chapter that adds this
sys.path.append(str(Path(__file__).parents[2] / "notebooks" / "experiments" / "after"))

RIGHT = {
    "pairs_loss": """
        target = positive.float()
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)
    """,
    "best_of_all": """
        by_patches = torch.zeros(len(image), len(text))
        by_words = torch.zeros(len(image), len(text))
        for i, patches in enumerate(image):
            for t, words in enumerate(text):
                cosines = patches @ words[keep[t]].T
                by_patches[i, t] = cosines.max(1).values.mean()
                by_words[i, t] = cosines.max(0).values.mean()
        return by_patches, by_words
    """,
    "giou": """
        low = [box[:, :2] - box[:, 2:] / 2 for box in (a, b)]
        high = [box[:, :2] + box[:, 2:] / 2 for box in (a, b)]
        size = torch.minimum(*high) - torch.maximum(*low)
        around = (torch.maximum(*high) - torch.minimum(*low)).prod(1)

        shared = torch.relu(size[:, 0]) * torch.relu(size[:, 1])
        union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared
        return shared / union + union / around - 1
    """,
    "caption_odds": """
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
        return -losses.where(keep[:, 1:], 0).sum(1)
    """,
    "nucleus": """
        p = logits.softmax(-1)
        likelier = (p[:, None, :] > p[:, :, None]) * p[:, None, :]
        return likelier.sum(-1) < share
    """,
    "patches_first": """
        length = patches + keep.shape[1]
        mask = torch.zeros(len(keep), length, length, dtype=torch.bool)
        for row, words in enumerate(keep):
            for i in range(length):
                for j in range(i + 1):
                    mask[row, i, j] = j < patches or words[j - patches]
        return mask
    """,
}
WRONG = {
    "pairs_loss": """
        sign = 2.0 * positive - 1
        return -F.logsigmoid(sign * logits).mean()                    # over pairs, not rows
    """,
    "best_of_all": """
        each = torch.einsum("ine,tle->itnl", image, text)

        return each.amax(3).mean(2), each.amax(2).mean(2)                 # padding counts in both
    """,
    "giou": """
        low = [box[:, :2] - box[:, 2:] / 2 for box in (a, b)]
        high = [box[:, :2] + box[:, 2:] / 2 for box in (a, b)]
        size = torch.minimum(*high) - torch.maximum(*low)
        around = (torch.maximum(*high) - torch.minimum(*low)).prod(1)

        shared = size.prod(1)
        union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
        return shared / union - (around - union) / around
    """,
    "caption_odds": """
        log_p = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return (log_p * keep).sum(1)                                  # each word predicts itself
    """,
    "nucleus": """
        p, words = logits.softmax(-1).sort(-1, descending=True)
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, p.cumsum(-1) < share)
    """,
    "patches_first": """
        seen = F.pad(keep, (patches, 0), value=True)
        return seen[:, None].expand(-1, seen.shape[1], -1)            # all sees all
    """,
}
