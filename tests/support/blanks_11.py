"""Chapter 11's blanks, filled in other right ways than its answers, and in likely wrong ones."""

RIGHT = {
    "accuracy_by_hand": """
        n, people = annotators.count(answer), len(annotators)
        return (n * min((n - 1) / 3, 1) + (people - n) * min(n / 3, 1)) / people
    """,
    "causal": """
        m = keep.shape[1]
        earlier = torch.triu(torch.ones(m, m), diagonal=1).eq(0)
        return earlier.expand(len(keep), m, m) & keep[:, None]
    """,
    "lowest_loss": """
        return sum(-math.log(annotators.count(one) / len(annotators))
                   for one in annotators) / len(annotators)
    """,
    "answer_loss": """
        each = -logits.log_softmax(-1).gather(1, tokens[:, 1:][keep[:, 1:]][:, None])[:, 0]
        return torch.stack([part.sum() for part in each.split((keep.sum(1) - 1).tolist())])
    """,
    "in_pairs": """
        one = two = 0
        for i in range(0, len(said), 2):
            one += said[i] == said[i + 1]
            two += said[i:i + 2] == right[i:i + 2]
        return torch.tensor([one, two]) / (len(said) // 2)
    """,
    "greedy": """
        tokens = torch.tensor([begin])
        for _ in range(most - 1):
            tokens = torch.cat([tokens, next_logits(tokens).argmax(-1, keepdim=True)])
            if tokens[-1] == end:
                break
        return tokens
    """,
}
WRONG = {
    "accuracy_by_hand": "return min(annotators.count(answer) / 3, 1)",
    "causal": """
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).tril()
        return before.expand(len(keep), -1, -1)
    """,
    "lowest_loss": "return -math.log(max(Counter(annotators).values()) / len(annotators))",
    "answer_loss": """
        target, kept = tokens[:, 1:], keep[:, 1:]
        each = F.cross_entropy(logits, target[kept], reduction="none")
        return torch.stack([part.mean() for part in each.split(kept.sum(1).tolist())])
    """,
    "in_pairs": """
        pairs = list(zip(said, said[1:], right, right[1:]))
        return (sum(a == b for a, b, _, _ in pairs) / len(pairs),
                sum((a, b) == (x, y) for a, b, x, y in pairs) / len(pairs))
    """,
    "greedy": """
        tokens = [begin]
        while len(tokens) < most:
            tokens.append(int(next_logits(tokens).argmax()))
            if tokens[-1] == end:
                return tokens[:-1]
        return tokens
    """,
}
