"""Assignment 5: a solution of every answer, and model answers to what a person grades."""


# %% answer mask_words
def mask_words(tokens: Tensor, starts: Tensor, special: tuple[int, ...], mask_id: int,
               rate: float, choose: Tensor, kind: Tensor,
               words: Tensor) -> tuple[Tensor, Tensor]:
    """Hide whole words: all tensors (b, l); starts: bool, True where a word begins; choose,
    kind: uniform; words: ids.

    -> masked (b, l), what the model reads; labels (b, l): the id to be guessed where one was
    chosen, else -100
    """
    # where each piece's word begins
    first = (torch.arange(tokens.shape[1]) * starts).cummax(-1).values
    choose = choose.gather(-1, first)
    kind = kind.gather(-1, first)
    hide = (choose < rate) & ~torch.isin(tokens, torch.tensor(special))
    masked = torch.where(hide & (kind < 0.8), mask_id, tokens)
    masked = torch.where(hide & (kind >= 0.8) & (kind < 0.9), words, masked)
    return masked, torch.where(hide, tokens, -100)


# %% answer word_loss
def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """How unlikely the hidden words are: logits (b, l, v), labels (b, l), -100 where nothing
    is asked -> scalar."""
    hidden = labels != -100
    log_p = logits.log_softmax(-1)                               # (b, l, v)
    chance = log_p.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return -(chance * hidden).sum() / hidden.sum().clamp(min=1)


# %% answer learning_rate
def learning_rate(step: int, steps: int, warmup: int, hold: int, top: float,
                  start: float, end: float) -> float:
    """The rate of a step, counted from 0: up in a line, level, down along half a cosine, level."""
    if step < warmup:
        return start + (top - start) * step / warmup
    way = min(1.0, max(0, step - warmup - hold) / (steps - warmup - hold))
    return end + (top - end) * (1 + math.cos(math.pi * way)) / 2


# %% answer train_step
def train_step(compute, student: nn.Module, teacher: nn.Module,
               optimiser: torch.optim.Optimizer, queue: list, clip: float,
               momentum: float) -> float:
    """One step of pretraining. compute() -> ({name: loss}, keys (b, e)); queue: batches' keys,
    oldest first -> the sum.

    Raises FloatingPointError where the sum is not finite; then student, teacher and queue are
    as before.
    """
    losses, keys = compute()
    loss = sum(losses.values())
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), clip)
    optimiser.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters()):
            old.mul_(momentum).add_(new, alpha=1 - momentum)
    queue.append(keys.detach())
    return loss.item()


# %% answer diagnosis
def diagnosis() -> dict[str, int]:
    """The number of the bug of each run: {"A": ..., "B": ..., "C": ...}."""
    return {"A": 3, "B": 2, "C": 1}


# %% written reasons
# A: all five curves are the clean run's up to step 80, when the queue is switched on; then ITC lies
# above, by about 0.4, and ITM and MLM are as before, but for noise; temperature and gradient follow
# ITC. Each query's own key stands there twice, once as a positive, once among the queue's
# negatives: of the two, which are equal, the softmax can give neither more than half. Were all
# other keys easy, the loss would rest at ln 2 = 0.69 and not at 0; the others take their share, so
# it rises by less. (2) B: ITM alone; it rests at 0.637. Each pair comes three times, once with yes
# and twice with no. Nothing can tell these apart, so the best is to say 1/3: the entropy of (1/3,
# 2/3) is 0.6365. It is the loss of who knows nothing, too, so only standing still betrays it. (2)
# C: ITC lags from the first steps on, before there is a queue, and its gradient is longer; it still
# falls. The keys are those of a teacher with the first, random projections: the student learns to
# meet a fixed random view of the encoders' features, and never its own. ITM and MLM do not use the
# teacher here, and follow the clean run within noise. (1) For instance: after one step the
# teacher's weights differ from before; own pairs are never among the drawn negatives; the queue's
# newest ids are not the batch's when the loss is computed. (1)


# %% written thought
# (a) It need not think where it sees no [MASK]: what it makes of words in sight has never been
# asked for, so features of whole sentences, which all other tasks read, are worse, and it does not
# notice a wrong word. (2) (b) Nearly the same for plain descent while steps are small: each part's
# gradient is taken at a point a little moved. AdamW divides by the gradient's own size, so eight
# steps at an eighth of the rate are about as long as one, but noisier in direction, and the moments
# forget eight times as fast. The teacher moves eight times (momentum to the eighth power), and the
# queue gets the first part's keys before the last part's loss. (2) (c) The size of the loss, and
# with it any weight put on the sum: the step is rate times 1, whatever the gradient's length was,
# so only its direction and the rate count. AdamW divides by a running size of the gradient anyway,
# so a factor cancels, as long as it is nearly constant. (2)
