"""Chapter 07's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""
RIGHT = {
    "hide_words": ["""
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked), chosen""", """
        rows, flags = tokens.tolist(), torch.zeros(tokens.shape).tolist()
        for i, row in enumerate(tokens.tolist()):
            for j, word in enumerate(row):
                flags[i][j] = choose[i, j].item() < 0.15 and word not in special
                if flags[i][j] and kind[i, j] < 0.9:
                    rows[i][j] = special[-1] if kind[i, j] < 0.8 else other[i, j].item()
        return torch.tensor(rows), torch.tensor(flags)"""],
    "none_masked": ["""
        shares = [(1 - rate) ** length for length in lengths.tolist()]
        return sum(shares) / len(shares)""", """
        return (lengths * math.log(1 - rate)).exp().mean()"""],
    "score_words": ["""
        x = self.norm(F.gelu(self.dense(x)))
        return torch.einsum("...d,vd->...v", x, word_table) + self.bias""", """
        return F.linear(self.norm(F.gelu(self.dense(x))), word_table, self.bias)"""],
    "mlm_loss": ["""
        return F.cross_entropy(logits, labels, reduction="sum") / max(count, 1e-9)""", """
        own = logits.gather(1, labels[:, None]).squeeze(1) - logits.logsumexp(1)
        return -own.sum() / count if count else own.sum()"""],
    "frequency_loss": ["""
        total = counts.sum().item()
        return sum(n / total * math.log(total / n) for n in counts.tolist() if n)""", """
        frequency = counts / counts.sum()
        return -(frequency * frequency.clamp(min=1e-30).log()).sum()""", """
        return torch.distributions.Categorical(counts / counts.sum()).entropy().numpy()"""],
    "undo_rates": ["""
        p = log_p.exp() / rates
        return (p / p.sum(-1, keepdim=True)).log()""", """
        log_p = log_p + (1 / rates).log()
        return log_p - log_p.logsumexp(1, keepdim=True)"""]}
WRONG = {
    "hide_words": ["""
        chosen = choose < 0.15                               # special ones, too
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked), chosen""", """
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        masked = torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked)
        return masked, masked != tokens                      # words left as they are don't count""", """
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8), other, masked), chosen""", """
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        return torch.where(chosen, special[-1], tokens), chosen""", """
        chosen = (choose < 0.15) & ~torch.isin(tokens, torch.tensor(special))
        tokens[chosen & (kind < 0.8)] = special[-1]          # in place
        tokens[chosen & (kind >= 0.8) & (kind < 0.9)] = 7
        return tokens, chosen"""],
    "none_masked": ["return (1 - rate) ** lengths.float().mean()", "return (rate ** lengths).mean()",
                    "return (1 - rate * lengths).mean()", "return (1 - rate) ** lengths.sum().item()"],
    "score_words": ["""
        return self.norm(F.gelu(self.dense(x))) @ word_table.T""", """
        return F.gelu(self.norm(self.dense(x))) @ word_table.T + self.bias""", """
        x = self.norm(F.gelu(self.dense(x)))
        return x @ word_table.detach().T + self.bias""", """
        x = self.norm(F.gelu(self.dense(x)))
        return x @ F.normalize(word_table, dim=1).T + self.bias"""],
    "mlm_loss": ["return F.cross_entropy(logits, labels)",
                 "return F.cross_entropy(logits, labels) / (count or 1)", """
        return F.cross_entropy(logits, labels, reduction="sum") / count if count else torch.nan * (
            logits.sum())""", """
        return F.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)""", """
        return F.cross_entropy(logits, labels, reduction="sum") / max(count, 1)  # a count below 1"""],
    "frequency_loss": ["return math.log(len(counts))", """
        frequency = counts / counts.sum()
        return -(frequency * frequency.log()).sum()""", """
        frequency = counts[counts > 0] / counts.sum()
        return -frequency.log().mean()""", """
        frequency = counts[counts > 0] / counts.sum()
        return -(frequency * frequency.log2()).sum()"""],
    "undo_rates": ["return (log_p + rates.log()).log_softmax(-1)", "return log_p - rates.log()",
                   "return (log_p - rates.log()).log_softmax(0)",
                   "return (log_p / rates).log_softmax(-1)", "return (log_p - rates).log_softmax(-1)",
                   "return (log_p.exp() / rates).log_softmax(-1)"]}
NEEDS: dict[str, list[str]] = {}
