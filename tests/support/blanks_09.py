"""Chapter 09's blanks, filled in other right ways than its answers, and in likely wrong ones."""
RIGHT = {
    "recall_with_ties": ["""
        found = []
        for row, good in zip(scores.tolist(), right.tolist()):
            tied = [one for score, one in zip(row, good) if score == max(row)]
            found.append(sum(tied) / len(tied))
        return found"""],
    "others_expected": ["""
        return keys / pictures * (captions - 1) / captions"""],
    "pull": ["""
        with torch.enable_grad():
            sim = sim.clone().requires_grad_()
            loss = sum(-sim[i].log_softmax(0)[own].mean() for i, own in enumerate(positive))
            loss.backward()
        return -sim.grad""", """
        total = torch.zeros_like(sim)
        for row, own in enumerate(positive):
            total[row] = own.float() / own.sum() - torch.softmax(sim[row], 0)
        return total.numpy()"""],
    "itc_by_ids": ["""
        key_ids, losses = torch.cat([ids, old_ids]), []
        positive = (ids.unsqueeze(1) == key_ids).float()
        own = positive / positive.sum(-1, keepdim=True)
        for query, teacher, new, old in ((image, teacher_image, teacher_text, old_text),
                                         (text, teacher_text, teacher_image, old_image)):
            keys = torch.cat([new, old]).T
            sim, believed = (x @ keys / raw.temperature.item() for x in (query, teacher))
            target = (1 - alpha) * own + alpha * believed.softmax(-1)
            losses.append(F.cross_entropy(sim, target))
        return sum(losses) / 2"""],
    "proposed": ["""
        rows = torch.zeros_like(sim).scatter(1, sim.topk(k).indices, 1)
        columns = torch.zeros_like(sim.T).scatter(1, sim.T.topk(k).indices, 1).T
        return ((rows + columns) > 0).tolist()"""],
    "rerank_by_hand": ["""
        kth = sim.topk(k, dim=1).values[:, -1:]
        return torch.where(sim >= kth, score, torch.tensor(-1e9))""", """
        chosen = torch.zeros_like(sim, dtype=torch.bool).scatter(1, sim.topk(k).indices, True)
        return score.masked_fill(~chosen, -torch.inf)"""]}
WRONG = {
    "recall_with_ties": ["return right.gather(1, scores.argmax(1, keepdim=True))[:, 0].float()", """
        tied = scores == scores.amax(1, keepdim=True)
        return (tied & right).any(1).float()""", """
        tied = scores == scores.amax(1, keepdim=True)
        return 1 / tied.sum(1)"""],
    "others_expected": ["return keys / pictures", "return keys * captions / (pictures * captions)",
                        "return 256 * (captions - 1) / (pictures * captions)"],
    "pull": ["return sim.softmax(1) - positive / positive.sum(1, keepdim=True)",
             "return positive.float() - sim.softmax(1)",
             "return positive / positive.sum(1, keepdim=True) - sim.softmax(0)",
             "return (positive / positive.sum(1, keepdim=True) - sim.softmax(1)) / len(sim)"],
    "itc_by_ids": ["""
        loss, positive = 0.0, torch.eye(len(ids), len(ids) + len(old_ids))       # the diagonal
        for query, keys, old, opinion in ((image, teacher_text, old_text, teacher_image),
                                          (text, teacher_image, old_image, teacher_text)):
            keys = torch.cat([keys, old]).T / raw.temperature.item()
            target = (1 - alpha) * positive + alpha * (opinion @ keys).softmax(-1)
            loss = loss + F.cross_entropy(query @ keys, target) / 2
        return loss""", """
        loss, same = 0.0, ids[:, None] == torch.cat([ids, old_ids])
        for query, keys, old, opinion in ((image, teacher_text, old_text, teacher_text),
                                          (text, teacher_image, old_image, teacher_image)):
            keys = torch.cat([keys, old]).T / raw.temperature.item()
            target = (1 - alpha) * same / same.sum(1, keepdim=True)
            target = target + alpha * (opinion @ keys).softmax(-1)       # opinion of the wrong side
            loss = loss + F.cross_entropy(query @ keys, target) / 2
        return loss""", """
        loss, same = 0.0, ids[:, None] == torch.cat([ids, old_ids])
        for query, keys, old, opinion in ((image, teacher_text, old_text, teacher_image),
                                          (text, teacher_image, old_image, teacher_text)):
            keys = torch.cat([keys, old]).T                              # without temperature
            target = (1 - alpha) * same / same.sum(1, keepdim=True)
            target = target + alpha * (opinion @ keys).softmax(-1)
            loss = loss + F.cross_entropy(query @ keys, target) / 2
        return loss"""],
    "proposed": ["return ranking.best(sim, k)", "return ranking.best(sim.T, k).T",
                 "return ranking.best(sim, k) & ranking.best(sim.T, k).T",
                 "return sim >= sim.flatten().topk(k).values[-1]"],
    "rerank_by_hand": ["""
        new = torch.zeros_like(score)
        for row in range(len(sim)):
            first = sim[row].topk(k).indices
            new[row, first] = score[row, first]
        return new""", "return score", """
        kth = sim.topk(k, dim=1).values[:, -1:]
        return torch.where(sim >= kth, score, -100)          # a candidate's score may be lower""", """
        new = torch.full_like(score, -torch.inf)
        for row in range(len(sim)):
            first = score[row].topk(k).indices
            new[row, first] = sim[row, first]
        return new"""]}
NEEDS = {"itc_by_ids": ["folder = Path(run", "task = retrieval.Retrieval(config)"]}
