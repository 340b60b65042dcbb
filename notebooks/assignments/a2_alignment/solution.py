"""Assignment 2: a solution of every answer, and model answers to what a person grades."""


# %% answer similarity
def similarity(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Cosine of every picture with every sentence, over temperature: (b, e), (k, e) -> (b, k)."""
    return F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T / temperature


# %% answer itc_loss
def itc_loss(sim: Tensor, ids: Tensor, key_ids: Tensor) -> Tensor:
    """Each query should pick its own picture's keys: sim (b, k), over temperature, ids (b,),
    key_ids (k,) -> scalar."""
    positive = ids[:, None] == key_ids                           # (b, k)
    target = positive / positive.sum(-1, keepdim=True)
    return -(target * sim.log_softmax(-1)).sum(-1).mean()


# %% answer both_ways
def both_ways(image: Tensor, text: Tensor, ids: Tensor, temperature: float,
              queue_image: Tensor, queue_text: Tensor, queue_ids: Tensor,
              loss) -> Tensor:
    """ITC of a batch with itself and a queue: image, text (b, e), ids (b,), queue (k, e),
    (k, e), (k,) -> scalar.

    loss(sim, ids, key_ids) -> scalar, such as itc_loss
    """
    key_ids = torch.cat([ids, queue_ids])
    # (b, b + k) each
    i2t = similarity(image, torch.cat([text, queue_text.detach()]), temperature)
    t2i = similarity(text, torch.cat([image, queue_image.detach()]), temperature)
    return (loss(i2t, ids, key_ids) + loss(t2i, ids, key_ids)) / 2


# %% answer sigmoid_loss
def sigmoid_loss(sim: Tensor, positive: Tensor, bias: float) -> Tensor:
    """Each pair for itself: sim (b, k), over temperature, positive (b, k) bool -> sum over
    keys, mean over queries."""
    sign = 2.0 * positive - 1
    return -F.logsigmoid(sign * (sim + bias)).sum(-1).mean()


# %% answer Ring
class Ring:
    """The last `size` keys, with ids."""

    def __init__(self, size: int, width: int):
        self.keys = torch.zeros(size, width)
        self.ids = torch.zeros(size, dtype=torch.long)
        self.pointer = 0                         # the slot to write next
        self.filled = 0                          # how many slots hold a key

    def push(self, keys: Tensor, ids: Tensor):
        """Overwrite the oldest: (b, e), (b,). Of a batch longer than the ring the last rows
        stay. No gradient."""
        size = len(self.ids)
        keys = keys[-size:].detach()
        ids = ids[-size:]
        slots = (self.pointer + torch.arange(len(ids))) % size
        self.keys[slots] = keys
        self.ids[slots] = ids
        self.pointer = (self.pointer + len(ids)) % size
        self.filled = min(size, self.filled + len(ids))

    def features(self) -> tuple[Tensor, Tensor]:
        """What was pushed and is not yet overwritten, in any order: keys (k, e), ids (k,)."""
        return self.keys[:self.filled], self.ids[:self.filled]


# %% written curve
# (a) Each query must now find its own among 320 keys, not among 64: from ln 64 = 4.16 to ln 320 =
# 5.77, by ln 5 = 1.61. Siblings change nothing for who knows nothing. (1) (b) Two keys share what
# one had: by ln 2 = 0.69. (2) (c) It rises from 1.1 to 2.0, by 0.9, and about 0.2 is left: most
# queued keys are easy, and get little of the softmax; the rise is ln(1 + mass of the queue / mass
# of the batch), so the queue weighs about a fifth of the batch, not 4 times. (Roughly: siblings
# come out of the same 64, and make the rest of the batch no harder.) (2) (d) Not by this curve: the
# task became harder. Recall at 1 among a fixed number of unseen scenes decides. (1)


# %% written losses
# (a) ln 2, since the best prediction is one half each, and the target has that entropy; 0, since
# each cell can be right for itself. (2) (b) The softmax does not; the sigmoid does. At similarity 0
# each false pair would cost ln 2, and b - 1 of b push down on everything; a bias such as -10 begins
# where nearly all are false, and learning is about the few that are true. (2) (c) The sigmoid loss:
# a cell needs only its own similarity; a softmax needs its row's normaliser. (2)
