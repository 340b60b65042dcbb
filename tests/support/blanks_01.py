"""Chapter 01's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "paint_by_hand": """
        picture = np.empty((size, size, 3))
        picture[:] = scene.shade
        for thing in scene.objects:
            pixels = round(thing.size * size)
            drawing = sprite(thing, pixels)
            left, top = (round(at * size - pixels / 2) for at in (thing.x, thing.y))

            for y in range(pixels):
                for x in range(pixels):
                    *colour, opacity = drawing[y, x]
                    below = picture[top + y, left + x]
                    picture[top + y, left + x] = below + (np.array(colour) - below) * opacity / 255
        return torch.tensor(picture)
    """,
    "left_of": """
        if a.x >= b.x - 0.04:
            return False
        return True if a.x <= b.x - 0.14 else None
    """,
    "batch_by_hand": """
        MEAN, STD = minalbef.data.MEAN, minalbef.data.STD
        rows = [trained.tokenizer.encode([record.text])[0][0] for record in records]

        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        image = torch.stack([(torch.tensor(record.image).permute(2, 0, 1) / 255 - mean) / std
                             for record in records])
        longest = max(len(row) for row in rows)
        keep = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
        tokens = torch.nn.utils.rnn.pad_sequence(
            [torch.as_tensor(row) for row in rows], True, trained.tokenizer.pad)
        return image, tokens, keep, np.array([record.id for record in records])
    """,
    "truth_by_hand": """
        return [[i == j or bool(holds(one.form, other.scene)) for j, other in enumerate(drawn)]
                for i, one in enumerate(drawn)]
    """,
    "blind_pick": """
        shares = []
        for row, right in zip(score, true):
            best = [i for i in range(len(row)) if row[i] == max(row)]
            shares.append(sum(right[i].item() for i in best) / len(best))
        return shares
    """,
    "is_minimal": """
        answers = [holds(form, scene), holds(other_form, other_scene),
                   holds(form, other_scene), holds(other_form, scene)]
        return answers == [True, True, False, False]
    """,
}
WRONG = {
    "paint_by_hand": """
        picture = np.empty((size, size, 3))
        picture[:] = scene.shade
        for thing in scene.objects:
            pixels = round(thing.size * size)
            drawing = sprite(thing, pixels)
            left, top = (round(at * size - pixels / 2) for at in (thing.x, thing.y))

            picture[top:top + pixels, left:left + pixels] = drawing[..., :3]          # no opacity
        return picture
    """,
    "left_of": "return b.x - a.x >= 0.14                                      # no third answer",
    "batch_by_hand": """
        MEAN, STD = minalbef.data.MEAN, minalbef.data.STD
        rows = [trained.tokenizer.encode([record.text])[0][0] for record in records]

        image = torch.tensor(np.stack([(record.image / 255 - MEAN) / STD for record in records]))
        tokens = torch.zeros(len(rows), max(map(len, rows))).long()
        for padded, row in zip(tokens, rows):
            padded[:len(row)] = row
        ids = torch.tensor([record.id for record in records])
        return image, tokens, tokens != 0, ids                        # channels last
    """,
    "truth_by_hand": """
        return [[holds(one.form, other.scene) is not False for other in drawn] for one in drawn]
    """,
    "blind_pick": """
        return true.gather(1, score.argmax(1, keepdim=True))[:, 0]    # the first of the best
    """,
    "is_minimal": """
        return (holds(form, scene) and holds(other_form, other_scene)
                and not holds(form, other_scene) and not holds(other_form, scene))
    """,
}
# parts of cells above that run whole for a blank
NEEDS = {
    "paint_by_hand": ["def sprite("],
    "left_of": ["claim, chance ="],
    "batch_by_hand": ["pool = ["],
    "is_minimal": ["claim, chance ="],
}
