"""Chapter 11's blanks, filled in other right ways than its answers, and in likely wrong ones."""
RIGHT = {
    "accuracy_by_hand": ["""
        n, people = annotators.count(answer), len(annotators)
        return (n * min((n - 1) / 3, 1) + (people - n) * min(n / 3, 1)) / people""", """
        scores = torch.zeros(len(annotators))
        for out in range(len(annotators)):
            others = annotators[:out] + annotators[out + 1:]
            scores[out] = min(others.count(answer), 3) / 3
        return scores.mean()"""],
    "causal": ["""
        m = keep.shape[1]
        return torch.triu(torch.ones(m, m), diagonal=1).eq(0).expand(len(keep), m, m) & keep[:, None]""",
               """
        mask = torch.zeros(*keep.shape, keep.shape[1])
        for query in range(keep.shape[1]):
            mask[:, query, :query + 1] = keep[:, :query + 1].float()
        return mask"""],
    "lowest_loss": ["""
        return sum(-math.log(annotators.count(one) / len(annotators))
                   for one in annotators) / len(annotators)""", """
        shares = torch.tensor([*Counter(annotators).values()], dtype=torch.double)
        shares = shares / shares.sum()
        return -(shares * shares.log()).sum()"""],
    "answer_loss": ["""
        each = -logits.log_softmax(-1).gather(1, tokens[:, 1:][keep[:, 1:]][:, None])[:, 0]
        return torch.stack([part.sum() for part in each.split((keep.sum(1) - 1).tolist())])""", """
        losses, first = [], 0
        for row, seen in zip(tokens, keep):
            target = row[1:][seen[1:]]
            losses.append(F.cross_entropy(logits[first:first + len(target)], target, reduction="sum"))
            first += len(target)
        return torch.stack(losses)"""],
    "in_pairs": ["""
        one = two = 0
        for i in range(0, len(said), 2):
            one += said[i] == said[i + 1]
            two += said[i:i + 2] == right[i:i + 2]
        return torch.tensor([one, two]) / (len(said) // 2)"""],
    "greedy": ["""
        tokens = torch.tensor([begin])
        for _ in range(most - 1):
            tokens = torch.cat([tokens, next_logits(tokens).argmax(-1, keepdim=True)])
            if tokens[-1] == end:
                break
        return tokens"""]}
WRONG = {
    "accuracy_by_hand": ["return min(annotators.count(answer) / 3, 1)",
                         "return annotators.count(answer) / len(annotators)",
                         "return min(0.9 * annotators.count(answer) / 3, 1) if annotators else 0",
                         "return max(min((annotators.count(answer) - 1) / 3, 1), 0)"],
    "causal": ["""
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).tril()
        return before.expand(len(keep), -1, -1)""", """
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).triu()
        return keep[:, None, :] & before""", """
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).tril(-1)
        return keep[:, None, :] & before""", """
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).tril()
        return keep[:, :, None] & before"""],
    "lowest_loss": ["return -math.log(max(Counter(annotators).values()) / len(annotators))",
                    "return -sum(n / 10 * math.log(n / 10) for n in Counter(annotators).values())",
                    """
        return -sum(n / len(annotators) * math.log2(n / len(annotators))
                    for n in Counter(annotators).values())""", "return 0.0"],
    "answer_loss": ["""
        target, kept = tokens[:, 1:], keep[:, 1:]
        each = F.cross_entropy(logits, target[kept], reduction="none")
        return torch.stack([part.mean() for part in each.split(kept.sum(1).tolist())])""", """
        target, kept = tokens[:, :-1], keep[:, 1:]
        each = F.cross_entropy(logits, target[kept], reduction="none")
        return torch.stack([part.sum() for part in each.split(kept.sum(1).tolist())])""", """
        target, kept = tokens[:, 1:], keep[:, 1:]
        each = F.cross_entropy(logits, target[kept], reduction="none")
        return torch.stack([part[:-1].sum() for part in each.split(kept.sum(1).tolist())])"""],
    "in_pairs": ["""
        pairs = list(zip(said, said[1:], right, right[1:]))
        return (sum(a == b for a, b, _, _ in pairs) / len(pairs),
                sum((a, b) == (x, y) for a, b, x, y in pairs) / len(pairs))""", """
        same = sum(a == b for a, b in zip(said[::2], said[1::2]))
        return same / len(said), sum(a == b for a, b in zip(said, right)) / len(said)""", """
        same = sum(a == b for a, b in zip(said[::2], said[1::2])) / (len(said) / 2)
        return same, 1 - same"""],
    "greedy": ["""
        tokens = [begin]
        while len(tokens) < most:
            tokens.append(int(next_logits(tokens).argmax()))
            if tokens[-1] == end:
                return tokens[:-1]
        return tokens""", """
        tokens = [begin]
        while len(tokens) < most and tokens[-1] != end:
            tokens.append(int(next_logits(tokens[-1:]).argmax()))
        return tokens""", """
        tokens = [begin]
        while len(tokens) <= most and tokens[-1] != end:
            tokens.append(int(next_logits(tokens).argmax()))
        return tokens""", """
        tokens = [begin]
        while len(tokens) < most:
            tokens.append(int(next_logits(tokens).argmax()))
        return tokens"""]}
