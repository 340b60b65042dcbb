"""Assignment 2: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% similarity
mistakes = {
    "pictures not normalised": ("F.normalize(image, dim=-1)", "image"),
    "sentences not normalised": ("F.normalize(text, dim=-1)", "text"),
    "normalised over the batch": ("F.normalize(image, dim=-1)",
                                  "F.normalize(image, dim=0)"),
    "lengths by absolute values": ("F.normalize(text, dim=-1)",
                                   "F.normalize(text, p=1, dim=-1)"),
    "normalised after the product": ("F.normalize(image, dim=-1) "
                                     "@ F.normalize(text, dim=-1).T",
                                     "F.normalize(image @ text.T, dim=-1)"),
    "times the temperature": ("/ temperature", "* temperature"),
    "no temperature": (" / temperature", ""),
    "root of the temperature": ("/ temperature", "/ temperature ** 0.5"),
    "already a softmax": ("/ temperature", "/ temperature).softmax(-1)", "return ",
                          "return ("),
    "a distance": ("return ", "return -"),
    "pictures cannot learn": ("F.normalize(image, dim=-1)",
                              "F.normalize(image, dim=-1).detach()"),
    "sentences cannot learn": ("F.normalize(text, dim=-1)",
                               "F.normalize(text, dim=-1).detach()"),
    "lengths cannot learn": ("F.normalize(image, dim=-1)",
                             "(image / image.detach().norm(dim=-1, keepdim=True))"),
    "the caller's pictures are normalised": (
        "return F.normalize(image, dim=-1)",
        "image /= image.norm(dim=-1, keepdim=True)\n    return image"),
    "three pictures": ("F.normalize(image, dim=-1)", "F.normalize(image[:3], dim=-1)")}


def similarity_by_lengths(image, text, temperature):
    return image @ text.T / image.norm(dim=1)[:, None] / text.norm(dim=1) / temperature


def similarity_by_torch(image, text, temperature):
    return F.cosine_similarity(image.unsqueeze(1), text.unsqueeze(0), dim=2).div(
        temperature)


def similarity_by_einsum(image, text, temperature):
    image = image / (image ** 2).sum(-1, keepdim=True) ** 0.5
    text = text / (text ** 2).sum(-1, keepdim=True) ** 0.5
    return torch.einsum("be,ke->bk", image, text) / temperature


def similarity_by_loops(image, text, temperature):
    rows = [torch.stack([a @ b / (a.norm() * b.norm()) for b in text]) for a in image]
    return torch.stack(rows) / temperature


# %% itc_loss
mistakes = {
    "the diagonal alone": ("ids[:, None] == key_ids",
                           "torch.eye(*sim.shape, dtype=torch.bool)"),
    "its own pair as its negative": ("ids[:, None] == key_ids",
                                     "(ids[:, None] == key_ids) & "
                                     "~torch.eye(*sim.shape, dtype=torch.bool)"),
    "targets that do not sum to one": (" / positive.sum(-1, keepdim=True)", " * 1.0"),
    "shared by column": ("positive.sum(-1, keepdim=True)", "positive.sum(0)"),
    "softmax over queries": ("log_softmax(-1)", "log_softmax(0)"),
    "softmax twice": ("sim.log_softmax(-1)", "sim.softmax(-1).log_softmax(-1)"),
    "no logarithm": ("log_softmax", "softmax"),
    "logarithm of a softmax": ("log_softmax(-1)", "softmax(-1).log()"),
    "mean over keys": (".sum(-1).mean()", ".mean(-1).mean()"),
    "sum over queries": (".sum(-1).mean()", ".sum()"),
    "sign": ("return -", "return "),
    "any true key will do": ("-(target * sim.log_softmax(-1)).sum(-1).mean()",
                             "-(positive * sim.softmax(-1)).sum(-1).log().mean()"),
    "mean over pairs": ("-(target * sim.log_softmax(-1)).sum(-1).mean()",
                        "-sim.log_softmax(-1)[positive].mean()"),
    "a small number added": ("sim.log_softmax(-1)", "(sim.softmax(-1) + 1e-12).log()"),
    "probabilities clamped": ("sim.log_softmax(-1)",
                              "sim.softmax(-1).clamp(min=1e-12).log()"),
    "similarities clamped": ("sim.log_softmax(-1)",
                             "sim.clamp(-50, 50).log_softmax(-1)"),
    "exponentials without the maximum": (
        "sim.log_softmax(-1)", "(sim - sim.exp().sum(-1, keepdim=True).log())"),
    "the maximum of the whole table": ("sim.log_softmax(-1)",
                                       "(sim - sim.max() - (sim - "
                                       "sim.max()).exp().sum(-1, keepdim=True).log())"),
    "the normaliser cannot learn": ("sim.log_softmax(-1)",
                                    "(sim - sim.logsumexp(-1, keepdim=True).detach())"),
    "ids below ten": ("ids[:, None] == key_ids",
                      "(F.one_hot(ids, 10) @ F.one_hot(key_ids, 10).T).bool()"),
    "ids as fractions": ("ids[:, None] == key_ids",
                         "ids.float()[:, None] == key_ids.float()"),
    "an id of nought is none": ("ids[:, None] == key_ids",
                                "(ids[:, None] == key_ids) & (key_ids > 0)"),
    "the first query's keys for all": (
        "ids[:, None] == key_ids", "(ids[:1, None] == key_ids).expand(len(ids), -1)"),
    "the caller's similarities lose their maximum": (
        "return -", "sim -= sim.amax(-1, keepdim=True)\n    return -")}


def itc_loss_by_torch(sim, ids, key_ids):
    positive = (ids.unsqueeze(1) == key_ids.unsqueeze(0)).float()
    return F.cross_entropy(sim, positive / positive.sum(1, keepdim=True))


def itc_loss_by_logsumexp(sim, ids, key_ids):
    positive = ids[:, None] == key_ids
    return (sim.logsumexp(-1) - (sim * positive).sum(-1) / positive.sum(-1)).mean()


def itc_loss_by_loop(sim, ids, key_ids):
    loss = 0
    for row, row_id in zip(sim, ids):
        true = torch.nonzero(key_ids == row_id)[:, 0]
        loss = loss + sum(F.cross_entropy(row, j) for j in true) / len(true)
    return loss / len(sim)


def itc_loss_by_divergence(sim, ids, key_ids):
    positive = ids[:, None] == key_ids
    count = positive.sum(-1, keepdim=True)
    return (F.kl_div(sim.log_softmax(-1), positive / count, reduction="batchmean")
            + count.log().mean())


def itc_loss_cheat(sim, ids, key_ids):
    from minalbef.losses import itc_loss as theirs
    return theirs(sim, sim, 0.0, ids[:, None] == key_ids)


# %% both_ways
mistakes = {
    "sentences meet queued sentences": ("queue_image.detach()", "queue_text.detach()"),
    "pictures meet queued pictures": ("queue_text.detach()", "queue_image.detach()"),
    "queues change places": ("queue_text.detach()", "queue_image.detach()",
                             "[image, queue_image.detach()]",
                             "[image, queue_text.detach()]"),
    "pictures meet pictures": ("[text, queue_text.detach()]",
                               "[image, queue_text.detach()]"),
    "one way only": ("(loss(i2t, ids, key_ids) + loss(t2i, ids, key_ids)) / 2",
                     "loss(i2t, ids, key_ids)"),
    "sum of both ways": (" / 2", ""),
    "queued positives taught as negatives": ("torch.cat([ids, queue_ids])",
                                             "torch.cat([ids, -1 - queue_ids])"),
    "gradient into the queue": ("queue_text.detach()", "queue_text"),
    "no gradient to the batch's keys": ("torch.cat([text, ",
                                        "torch.cat([text.detach(), "),
    "one way without the queue": ("torch.cat([image, queue_image.detach()])", "image",
                                  "loss(t2i, ids, key_ids)", "loss(t2i, ids, ids)"),
    "one temperature forgotten": ("[image, queue_image.detach()]), temperature",
                                  "[image, queue_image.detach()]), 1.0"),
    "queue before the batch": ("[text, queue_text.detach()]",
                               "[queue_text.detach(), text]"),
    "pictures cannot learn as queries": ("similarity(image, torch",
                                         "similarity(image.detach(), torch"),
    "sentences cannot learn as queries": ("similarity(text, torch",
                                          "similarity(text.detach(), torch"),
    "pictures cannot learn as keys": ("[image, queue_image",
                                      "[image.detach(), queue_image"),
    "the caller's queue is cut off": ("queue_text.detach()", "queue_text.detach_()"),
    "a batch of three": ("torch.cat([ids, queue_ids])",
                         "torch.cat([ids[:3], queue_ids])"),
    "a queue of four": (
        "[text, queue_text.detach()]", "[text, queue_text[:4].detach()]",
        "[image, queue_image.detach()]", "[image, queue_image[:4].detach()]",
        "[ids, queue_ids]", "[ids, queue_ids[:4]]"),
    "an id of nought is none": ("torch.cat([ids, queue_ids])",
                                "torch.cat([ids, queue_ids.where(queue_ids > 0, -9)])")}


def both_ways_by_blocks(image, text, ids, temperature, queue_image, queue_text,
                        queue_ids, loss):
    all_ids = torch.cat((ids, queue_ids))
    in_batch = similarity(image, text, temperature)
    i2t = torch.cat((in_batch, similarity(image, queue_text.detach(), temperature)),
                    dim=1)
    t2i = torch.cat((in_batch.T, similarity(text, queue_image.detach(), temperature)),
                    dim=1)
    return 0.5 * loss(i2t, ids, all_ids) + 0.5 * loss(t2i, ids, all_ids)


def both_ways_by_stacking(image, text, ids, temperature, queue_image, queue_text,
                          queue_ids, loss):
    with torch.no_grad():
        queue_image = queue_image.clone()
        queue_text = queue_text.clone()
    all_ids = torch.cat([queue_ids, ids])
    losses = [loss(similarity(a, torch.cat([past, b]), temperature), ids, all_ids)
              for a, b, past in ((image, text, queue_text), (text, image, queue_image))]
    return torch.stack(losses).mean()


def both_ways_by_one_batch(image, text, ids, temperature, queue_image, queue_text,
                           queue_ids, loss):
    i2t = similarity(image, torch.cat([text, queue_text.detach()]), temperature)
    t2i = similarity(text, torch.cat([image, queue_image.detach()]), temperature)
    return loss(torch.cat([i2t, t2i]), ids.repeat(2), torch.cat([ids, queue_ids]))


def both_ways_by_matmul(image, text, ids, temperature, queue_image, queue_text,
                        queue_ids, loss):
    image = F.normalize(image, dim=1)
    text = F.normalize(text, dim=1)
    past_image = F.normalize(queue_image, dim=1).detach()
    past_text = F.normalize(queue_text, dim=1).detach()
    all_ids = torch.cat([ids, queue_ids])
    return (loss(image @ torch.cat([text, past_text]).T / temperature, ids, all_ids)
            + loss(text @ torch.cat([image, past_image]).T / temperature, ids,
                   all_ids)) / 2


# %% sigmoid_loss
mistakes = {
    "false pairs are 0, not -1": ("2.0 * positive - 1", "1.0 * positive"),
    "signs reversed": ("2.0 * positive - 1", "1 - 2.0 * positive"),
    "no bias": (" + bias", ""),
    "bias subtracted": ("sim + bias", "sim - bias"),
    "bias outside the sign": ("sign * (sim + bias)", "sign * sim + bias"),
    "mean over keys": (".sum(-1).mean()", ".mean()"),
    "sum over queries": (".sum(-1).mean()", ".sum()"),
    "sum over queries, mean over keys": (".sum(-1).mean()", ".sum(0).mean()"),
    "softmax": ("F.logsigmoid(sign * (sim + bias))",
                "F.log_softmax(sign * (sim + bias), -1)"),
    "true pairs alone": ("F.logsigmoid(sign * (sim + bias))",
                         "(positive * F.logsigmoid(sign * (sim + bias)))"),
    "the diagonal alone is true": ("2.0 * positive - 1",
                                   "2.0 * torch.eye(*sim.shape) - 1"),
    "logarithm of a sigmoid": ("F.logsigmoid(sign * (sim + bias))",
                               "torch.sigmoid(sign * (sim + bias)).log()"),
    "minus forgotten": ("return -", "return "),
    "a small number added": ("F.logsigmoid(sign * (sim + bias))",
                             "(torch.sigmoid(sign * (sim + bias)) + 1e-12).log()"),
    "sigmoids clamped": ("F.logsigmoid(sign * (sim + bias))",
                         "torch.sigmoid(sign * (sim + bias)).clamp(1e-7, "
                         "1 - 1e-7).log()"),
    "binary cross-entropy of sigmoids": ("return -F.logsigmoid(sign * (sim + bias))",
                                         "return "
                                         "F.binary_cross_entropy(torch.sigmoid(sim + "
                                         "bias), positive.float(), reduction='none')"),
    "an exponential that overflows": ("return -F.logsigmoid(sign * (sim + bias))",
                                      "return torch.log1p((-sign * (sim + "
                                      "bias)).exp())"),
    "the bias cannot learn": ("sim + bias", "sim + float(bias)"),
    "the first query's keys for all": ("2.0 * positive - 1", "2.0 * positive[:1] - 1"),
    "the caller's similarities are moved": ("return -F.logsigmoid(sign * (sim + bias))",
                                            "sim += bias\n"
                                            "    return -F.logsigmoid(sign * sim)")}


def sigmoid_loss_by_torch(sim, positive, bias):
    return F.binary_cross_entropy_with_logits(sim + bias, positive.float(),
                                              reduction="sum") / sim.shape[0]


def sigmoid_loss_by_softplus(sim, positive, bias):
    return F.softplus(torch.where(positive, -1, 1) * (sim + bias)).sum(1).mean(0)


def sigmoid_loss_by_kind(sim, positive, bias):
    logits = sim + bias
    return -(F.logsigmoid(logits[positive]).sum()
             + F.logsigmoid(-logits[~positive]).sum()) / len(sim)


def sigmoid_loss_by_logaddexp(sim, positive, bias):
    logits = sim + bias
    return ((torch.logaddexp(logits, torch.zeros_like(logits))
             - logits * positive).sum() / len(sim))


# %% Ring
mistakes = {
    "pointer one slot short": ("self.pointer + len(ids)) % size",
                               "self.pointer + len(ids) - 1) % size"),
    "pointer one slot too far": ("self.pointer + len(ids)) % size",
                                 "self.pointer + len(ids) + 1) % size"),
    "pointer stays": ("self.pointer = (self.pointer + len(ids)) % size", "pass"),
    "end does not wrap": ("(self.pointer + torch.arange(len(ids))) % size",
                          "(self.pointer + "
                          "torch.arange(len(ids))).clamp(max=size - 1)"),
    "starts one slot late": ("(self.pointer + torch.arange(len(ids))) % size",
                             "(self.pointer + 1 + torch.arange(len(ids))) % size"),
    "backwards": ("(self.pointer + torch.arange(len(ids))) % size",
                  "(self.pointer - torch.arange(len(ids))) % size"),
    "empty slots count": ("self.keys[:self.filled], self.ids[:self.filled]",
                          "self.keys, self.ids"),
    "one key too few": ("min(size, ", "min(size - 1, "),
    "counts batches": ("self.filled + len(ids))", "self.filled + 1)"),
    "keeps the gradient": (".detach()", ""),
    "first rows of a large batch": ("keys[-size:].detach()", "keys[:size].detach()",
                                    "ids[-size:]", "ids[:size]"),
    "ids left behind": ("self.keys[slots] = keys", "self.keys[slots] = keys.flip(0)"),
    "mixed with the old": ("self.keys[slots] = keys",
                           "self.keys[slots] = (self.keys[slots] + keys) / 2"),
    "ids kept by reference": ("        self.keys[slots] = keys\n"
                              "        self.ids[slots] = ids\n",
                              "        self.held = [*getattr(self, 'held', []), "
                              "*zip(keys.clone(), ids)][-size:]\n",
                              "return self.keys[:self.filled], self.ids[:self.filled]",
                              "keys, ids = zip(*self.held) if self.filled else "
                              "(self.keys[:0], self.ids[:0])\n"
                              "        return (torch.stack(keys), torch.stack(ids)) "
                              "if self.filled else (keys, ids)"),
    "a batch as long as the ring kept by reference": (
        "        self.keys[slots] = keys\n        self.ids[slots] = ids\n",
        "        if len(ids) == size:\n"
        "            self.keys, self.ids = keys, ids\n"
        "        self.keys[slots] = keys\n"
        "        self.ids[slots] = ids\n"),
    "the caller's keys are cut off": ("keys[-size:].detach()",
                                      "keys.detach_()[-size:]")}


class Ring_deque:
    def __init__(self, size, width):
        from collections import deque
        self.width = width
        self.held = deque(maxlen=size)

    def push(self, keys, ids):
        self.held.extend((key.detach().clone(), i.clone()) for key, i in zip(keys, ids))

    def features(self):
        if not self.held:
            return torch.zeros(0, self.width), torch.zeros(0, dtype=torch.long)
        return torch.stack([key for key, _ in self.held]), torch.stack(
            [i for _, i in self.held])


class Ring_newest_first(Ring):
    def push(self, keys, ids):
        size = len(self.ids)
        self.filled = min(size, self.filled + len(ids))
        self.keys = torch.cat([keys.detach().flip(0), self.keys])[:size]
        self.ids = torch.cat([ids.flip(0), self.ids])[:size]

    def features(self):
        return self.keys[:self.filled], self.ids[:self.filled]


class Ring_one_by_one(Ring):
    def push(self, keys, ids):
        with torch.no_grad():
            for key, i in zip(keys, ids):
                self.keys[self.pointer] = key
                self.ids[self.pointer] = i
                self.pointer += 1
                self.filled = max(self.filled, self.pointer)
                if self.pointer == len(self.ids):
                    self.pointer = 0

    def features(self):
        return self.keys[:self.filled].clone(), self.ids[:self.filled].clone()


class Ring_history:
    def __init__(self, size, width):
        self.size = size
        self.keys = torch.zeros(0, width)
        self.ids = torch.zeros(0, dtype=torch.long)

    def push(self, keys, ids):
        self.keys = torch.cat([self.keys, keys.detach()])
        self.ids = torch.cat([self.ids, ids])

    def features(self):
        return self.keys[-self.size:], self.ids[-self.size:]


class Ring_cheat:
    def __init__(self, size, width):
        from minalbef import FeatureQueue
        self.theirs = FeatureQueue(size, width)

    def push(self, keys, ids):
        self.theirs.push(keys, keys, ids)

    def features(self):
        return self.theirs.features()[1:]
