"""Chapter 07's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""

RIGHT = {
    "hide_words": """
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked), chosen
    """,
    "none_masked": """
        shares = [(1 - rate) ** length for length in lengths.tolist()]
        return sum(shares) / len(shares)
    """,
    "score_words": """
        x = self.norm(F.gelu(self.dense(x)))
        return torch.einsum("...d,vd->...v", x, word_table) + self.bias
    """,
    "mlm_loss": 'return F.cross_entropy(logits, labels, reduction="sum") / max(count, 1e-9)',
    "frequency_loss": """
        total = counts.sum().item()
        return sum(n / total * math.log(total / n) for n in counts.tolist() if n)
    """,
    "undo_rates": """
        p = log_p.exp() / rates
        return (p / p.sum(-1, keepdim=True)).log()
    """,
}
WRONG = {
    "hide_words": """
        chosen = choose < 0.15                               # special ones, too
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked), chosen
    """,
    "none_masked": "return (1 - rate) ** lengths.float().mean()",
    "score_words": "return self.norm(F.gelu(self.dense(x))) @ word_table.T",
    "mlm_loss": "return F.cross_entropy(logits, labels)",
    "frequency_loss": "return math.log(len(counts))",
    "undo_rates": "return (log_p + rates.log()).log_softmax(-1)",
}
