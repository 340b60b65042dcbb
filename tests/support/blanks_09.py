"""Chapter 09's blanks, filled in other right ways than its answers, and in likely wrong ones."""

RIGHT = {
    "recall_with_ties": """
        found = []
        for row, good in zip(scores.tolist(), right.tolist()):
            tied = [one for score, one in zip(row, good) if score == max(row)]
            found.append(sum(tied) / len(tied))
        return found
    """,
    "others_expected": "return keys / pictures * (captions - 1) / captions",
    "pull": """
        with torch.enable_grad():
            sim = sim.clone().requires_grad_()
            loss = sum(-sim[i].log_softmax(0)[own].mean() for i, own in enumerate(positive))
            loss.backward()
        return -sim.grad
    """,
    "itc_by_ids": """
        key_ids, losses = torch.cat([ids, old_ids]), []
        positive = (ids.unsqueeze(1) == key_ids).float()
        own = positive / positive.sum(-1, keepdim=True)
        for query, teacher, new, old in ((image, teacher_image, teacher_text, old_text),
                                         (text, teacher_text, teacher_image, old_image)):
            keys = torch.cat([new, old]).T
            sim, believed = (x @ keys / raw.temperature.item() for x in (query, teacher))
            target = (1 - alpha) * own + alpha * believed.softmax(-1)
            losses.append(F.cross_entropy(sim, target))
        return sum(losses) / 2
    """,
    "proposed": """
        rows = torch.zeros_like(sim).scatter(1, sim.topk(k).indices, 1)
        columns = torch.zeros_like(sim.T).scatter(1, sim.T.topk(k).indices, 1).T
        return ((rows + columns) > 0).tolist()
    """,
    "rerank_by_hand": """
        kth = sim.topk(k, dim=1).values[:, -1:]
        return torch.where(sim >= kth, score, torch.tensor(-1e9))
    """,
}
WRONG = {
    "recall_with_ties": "return right.gather(1, scores.argmax(1, keepdim=True))[:, 0].float()",
    "others_expected": "return keys / pictures",
    "pull": "return sim.softmax(1) - positive / positive.sum(1, keepdim=True)",
    "itc_by_ids": """
        loss, positive = 0.0, torch.eye(len(ids), len(ids) + len(old_ids))       # the diagonal
        for query, keys, old, opinion in ((image, teacher_text, old_text, teacher_image),
                                          (text, teacher_image, old_image, teacher_text)):
            keys = torch.cat([keys, old]).T / raw.temperature.item()
            target = (1 - alpha) * positive + alpha * (opinion @ keys).softmax(-1)
            loss = loss + F.cross_entropy(query @ keys, target) / 2
        return loss
    """,
    "proposed": "return ranking.best(sim, k)",
    "rerank_by_hand": """
        new = torch.zeros_like(score)
        for row in range(len(sim)):
            first = sim[row].topk(k).indices
            new[row, first] = score[row, first]
        return new
    """,
}
# parts of cells above that run whole for a blank
NEEDS = {"itc_by_ids": ["folder = Path(run", "task = retrieval.Retrieval(config)"]}
