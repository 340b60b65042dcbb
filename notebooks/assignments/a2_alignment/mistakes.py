"""Assignment 2: mistakes that must lose an answer's points, other right answers, and calls
of the package."""


# %% similarity
mistakes = {
    "pictures not normalised": ("F.normalize(image, dim=-1)", "image"),
    "sentences not normalised": ("F.normalize(text, dim=-1)", "text"),
    "normalised over the batch": ("F.normalize(image, dim=-1)",
                                  "F.normalize(image, dim=0)"),
    "pictures cannot learn": ("F.normalize(image, dim=-1)",
                              "F.normalize(image, dim=-1).detach()"),
    "the caller's pictures are normalised": (
        "return F.normalize(image, dim=-1)",
        "image /= image.norm(dim=-1, keepdim=True)\n    return image"),
    "three pictures": ("F.normalize(image, dim=-1)", "F.normalize(image[:3], dim=-1)")}


def similarity_by_lengths(image, text, temperature):
    return image @ text.T / image.norm(dim=1)[:, None] / text.norm(dim=1) / temperature


# %% itc_loss
mistakes = {
    "the diagonal alone": ("ids[:, None] == key_ids",
                           "torch.eye(*sim.shape, dtype=torch.bool)"),
    "its own pair as its negative": ("ids[:, None] == key_ids",
                                     "(ids[:, None] == key_ids) & "
                                     "~torch.eye(*sim.shape, dtype=torch.bool)"),
    "targets that do not sum to one": (" / positive.sum(-1, keepdim=True)", " * 1.0"),
    "the normaliser cannot learn": ("sim.log_softmax(-1)",
                                    "(sim - sim.logsumexp(-1, keepdim=True).detach())"),
    "the caller's similarities lose their maximum": (
        "return -", "sim -= sim.amax(-1, keepdim=True)\n    return -")}


def itc_loss_by_torch(sim, ids, key_ids):
    positive = (ids.unsqueeze(1) == key_ids.unsqueeze(0)).float()
    return F.cross_entropy(sim, positive / positive.sum(1, keepdim=True))


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
    "no gradient to the batch's keys": ("torch.cat([text, ",
                                        "torch.cat([text.detach(), "),
    "the caller's queue is cut off": ("queue_text.detach()", "queue_text.detach_()")}


def both_ways_by_blocks(image, text, ids, temperature, queue_image, queue_text,
                        queue_ids, loss):
    all_ids = torch.cat((ids, queue_ids))
    in_batch = similarity(image, text, temperature)
    i2t = torch.cat((in_batch, similarity(image, queue_text.detach(), temperature)),
                    dim=1)
    t2i = torch.cat((in_batch.T, similarity(text, queue_image.detach(), temperature)),
                    dim=1)
    return 0.5 * loss(i2t, ids, all_ids) + 0.5 * loss(t2i, ids, all_ids)


# %% sigmoid_loss
mistakes = {
    "false pairs are 0, not -1": ("2.0 * positive - 1", "1.0 * positive"),
    "signs reversed": ("2.0 * positive - 1", "1 - 2.0 * positive"),
    "no bias": (" + bias", ""),
    "the bias cannot learn": ("sim + bias", "sim + float(bias)"),
    "the caller's similarities are moved": ("return -F.logsigmoid(sign * (sim + bias))",
                                            "sim += bias\n"
                                            "    return -F.logsigmoid(sign * sim)")}


def sigmoid_loss_by_torch(sim, positive, bias):
    return F.binary_cross_entropy_with_logits(sim + bias, positive.float(),
                                              reduction="sum") / sim.shape[0]


# %% Ring
mistakes = {
    "pointer one slot short": ("self.pointer + len(ids)) % size",
                               "self.pointer + len(ids) - 1) % size"),
    "pointer one slot too far": ("self.pointer + len(ids)) % size",
                                 "self.pointer + len(ids) + 1) % size"),
    "pointer stays": ("self.pointer = (self.pointer + len(ids)) % size", "pass"),
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


class Ring_cheat:
    def __init__(self, size, width):
        from minalbef import FeatureQueue
        self.theirs = FeatureQueue(size, width)

    def push(self, keys, ids):
        self.theirs.push(keys, keys, ids)

    def features(self):
        return self.theirs.features()[1:]
