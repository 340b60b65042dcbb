"""Chapter 01's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

NEEDS = {                             # earlier cells that a blank's cell needs
    "paint_by_hand": ["def sprite("],
    "left_of": ["claim, chance ="],
    "batch_by_hand": ["pool = ["],
    "is_minimal": ["claim, chance ="]}

BACKGROUND = """
    picture = np.empty((size, size, 3))
    picture[:] = scene.shade
    for thing in scene.objects:
        pixels = round(thing.size * size)
        drawing = sprite(thing, pixels)
        left, top = (round(at * size - pixels / 2) for at in (thing.x, thing.y))
"""
ROWS = """
    MEAN, STD = minalbef.data.MEAN, minalbef.data.STD
    rows = [trained.tokenizer.encode([record.text])[0][0] for record in records]
"""
RIGHT = {
    "paint_by_hand": [BACKGROUND + """
        for y in range(pixels):
            for x in range(pixels):
                *colour, opacity = drawing[y, x]
                below = picture[top + y, left + x]
                picture[top + y, left + x] = below + (np.array(colour) - below) * opacity / 255
    return torch.tensor(picture)
"""],
    "left_of": ["""
    if a.x >= b.x - 0.04:
        return False
    return True if a.x <= b.x - 0.14 else None
"""],
    "batch_by_hand": [ROWS + """
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    image = torch.stack([(torch.tensor(record.image).permute(2, 0, 1) / 255 - mean) / std
                         for record in records])
    longest = max(len(row) for row in rows)
    keep = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
    tokens = torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(row) for row in rows], True, trained.tokenizer.pad)
    return image, tokens, keep, np.array([record.id for record in records])
"""],
    "truth_by_hand": ["""
    return [[i == j or bool(holds(one.form, other.scene)) for j, other in enumerate(drawn)]
            for i, one in enumerate(drawn)]
""", """
    true = torch.eye(len(drawn), dtype=torch.bool)
    for i, one in enumerate(drawn):
        for j, other in enumerate(drawn):
            true[i, j] |= holds(one.form, other.scene) == True
    return true
"""],
    "blind_pick": ["""
    shares = []
    for row, right in zip(score, true):
        best = [i for i in range(len(row)) if row[i] == max(row)]
        shares.append(sum(right[i].item() for i in best) / len(best))
    return shares
""", """
    best = (score == score.max(1, keepdim=True).values).double()
    return ((best / best.sum(1, keepdim=True)) * true).sum(1)
"""],
    "is_minimal": ["""
    answers = [holds(form, scene), holds(other_form, other_scene),
               holds(form, other_scene), holds(other_form, scene)]
    return answers == [True, True, False, False]
"""]}
WRONG = {
    "paint_by_hand": [BACKGROUND + """
        picture[top:top + pixels, left:left + pixels] = drawing[..., :3]          # no opacity
    return picture
""", BACKGROUND + """
        picture[left:left + pixels, top:top + pixels] *= 1 - drawing[..., 3:] / 255   # transposed
        picture[left:left + pixels, top:top + pixels] += drawing[..., :3] * drawing[..., 3:] / 255
    return picture
""", BACKGROUND + """
        opacity = drawing[..., 3:] / 255                          # light adds up
        picture[top:top + pixels, left:left + pixels] += opacity * drawing[..., :3]
    return picture
""", BACKGROUND + """
        left, top = round(thing.x * size), round(thing.y * size)  # the centre for the corner
        opacity = drawing[:size - top, :size - left, 3:] / 255
        window = picture[top:top + pixels, left:left + pixels]
        window[:] = opacity * drawing[:size - top, :size - left, :3] + (1 - opacity) * window
    return picture
"""],
    "left_of": ["""
    return b.x - a.x >= 0.14                                      # no third answer
""", """
    if abs(b.x - a.x) <= 0.04:                                    # no sign
        return False
    return True if abs(b.x - a.x) >= 0.14 else None
""", """
    if a.x - b.x >= 0.14:                                         # right of
        return True
    return None if a.x - b.x > 0.04 else False
""", """
    if b.x - a.x >= 0.14:
        return True
    return False if b.x < a.x else None                           # too much undecided
"""],
    "batch_by_hand": [ROWS + """
    image = torch.tensor(np.stack([(record.image / 255 - MEAN) / STD for record in records]))
    tokens = torch.zeros(len(rows), max(map(len, rows))).long()
    for padded, row in zip(tokens, rows):
        padded[:len(row)] = row
    ids = torch.tensor([record.id for record in records])
    return image, tokens, tokens != 0, ids                        # channels last
""", ROWS + """
    image = np.stack([(record.image / 255 - MEAN) / STD for record in records])
    tokens = torch.nn.utils.rnn.pad_sequence(list(map(torch.as_tensor, rows)), True, 0)
    keep, ids = torch.ones_like(tokens), torch.tensor([record.id for record in records])
    return image.transpose(0, 3, 1, 2), tokens, keep, ids         # padding is kept
""", ROWS + """
    image = np.stack([(record.image - MEAN) / STD for record in records])        # never over 255
    tokens = torch.nn.utils.rnn.pad_sequence(list(map(torch.as_tensor, rows)), True, 0)
    ids = torch.tensor([record.id for record in records])
    return image.transpose(0, 3, 1, 2), tokens, tokens != 0, ids
""", ROWS + """
    image = np.stack([(record.image / 255 - MEAN) / STD for record in records])
    tokens = torch.nn.utils.rnn.pad_sequence(list(map(torch.as_tensor, rows)), True, 0)
    return image.transpose(0, 3, 1, 2), tokens, tokens != 0, torch.arange(len(records))   # places
"""],
    "truth_by_hand": ["""
    return [[holds(one.form, other.scene) is not False for other in drawn] for one in drawn]
""", """
    true = [[bool(holds(other.form, one.scene)) for other in drawn] for one in drawn]
    return np.array(true) | np.eye(len(drawn), dtype=bool)        # picture by caption
""", """
    return [[holds(one.form, other.scene) is True for other in drawn] for one in drawn]
"""],
    "blind_pick": ["""
    return true.gather(1, score.argmax(1, keepdim=True))[:, 0]    # the first of the best
""", """
    return ((score == score.amax(1, keepdim=True)) & true).any(1)           # the luckiest pick
""", """
    best = score == score.amax(1, keepdim=True)
    return (best & true).sum(1) / true.sum(1).clamp(min=1)        # of the true ones
""", """
    best = score == score.amax(0, keepdim=True)                   # a picture's best captions
    return (best & true).sum(1) / best.sum(1).clamp(min=1)
"""],
    "is_minimal": ["""
    return (holds(form, scene) and holds(other_form, other_scene)
            and not holds(form, other_scene) and not holds(other_form, scene))   # undecided passes
""", """
    return holds(form, scene) and holds(other_form, other_scene)  # true of both is enough
""", """
    return holds(form, other_scene) is False and holds(other_form, scene) is False
""", """
    return (holds(form, scene) is True                            # the other's own is forgotten
            and holds(form, other_scene) is False and holds(other_form, scene) is False)
""", """
    return (holds(other_form, other_scene) is True                # the first's own is forgotten
            and holds(form, other_scene) is False and holds(other_form, scene) is False)
"""]}
