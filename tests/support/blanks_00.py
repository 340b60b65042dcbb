"""Chapter 00's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "my_scene": ["""
    dog, *apples = [Object(name, x, y, 0.3, "fluent")
                    for name, x, y in (("dog", 0.2, 0.2), ("apple", 0.2, 0.6), ("apple", 0.7, 0.7))]
    return Scene((*apples, dog), "yellow")
""", """
    apples = pair("apple", "apple", "yellow")
    return Scene((*apples.objects, Object("dog", 0.5, 0.15, 0.2, "noto")), apples.background)
"""],
    "shares_by_hand": ["""
    powers = torch.exp(torch.tensor(cosines) / tau)
    return powers / powers.sum()
""", """
    best = max(cosines)
    powers = [math.e ** ((cosine - best) / tau) for cosine in cosines]
    return tuple(power / sum(powers) for power in powers)
"""],
    "points_at": ["""
    g = heat.shape[0]
    best = max(((heat[y, x], y, x) for y in range(g) for x in range(g)))
    y, x = (best[1] + 0.5) / g, (best[2] + 0.5) / g
    left, top = thing.x - thing.size / 2, thing.y - thing.size / 2
    return left <= x <= left + thing.size and top <= y <= top + thing.size
""", """
    y, x = (torch.tensor(heat) == heat.max()).nonzero()[0]
    return bool((x + 0.5 - 6 * thing.x).abs() < 3 * thing.size
                and (y + 0.5 - 6 * thing.y).abs() < 3 * thing.size)
"""]}
WRONG = {
    "my_scene": ["""
    return Scene((Object("dog", 0.5, 0.75, 0.35, "noto"), Object("apple", 0.3, 0.25, 0.3, "noto"),
                  Object("apple", 0.7, 0.25, 0.3, "noto")), "yellow")         # y grows downwards
""", """
    return Scene((Object("dog", 0.5, 0.25, 0.35, "noto"),
                  Object("apple", 0.3, 0.75, 0.3, "noto")), "yellow")         # one apple
""", """
    apples = pair("apple", "apple")                                           # on white
    return Scene((*apples.objects, Object("dog", 0.5, 0.15, 0.2, "noto")), apples.background)
""", """
    apples = pair("apple", "apple", "yellow")                                 # undecided: too near
    return Scene((*apples.objects, Object("dog", 0.5, 0.42, 0.2, "noto")), apples.background)
""", ("""
    return Scene((Object("apple", 0.3, 0.2, 0.2, "noto"), Object("dog", 0.5, 0.5, 0.2, "noto"),
                  Object("apple", 0.7, 0.8, 0.2, "noto")), "yellow")          # above one alone
""", "above each apple")],
    "shares_by_hand": ["""
    powers = [math.exp(cosine * tau) for cosine in cosines]                   # times tau
    return [power / sum(powers) for power in powers]
""", """
    return [cosine / tau / sum(cosine / tau for cosine in cosines) for cosine in cosines]
""", """
    return [math.exp(cosine / tau) for cosine in cosines]                     # no shares
""", """
    return [math.exp(cosine / tau) / max(math.exp(other / tau) for other in cosines)
            for cosine in cosines]
"""],
    "points_at": ["""
    x, y = divmod(int(heat.argmax()), len(heat))                              # transposed
    x, y = (x + 0.5) / len(heat), (y + 0.5) / len(heat)
    return max(abs(x - thing.x), abs(y - thing.y)) <= thing.size / 2
""", """
    row, column = divmod(int(heat.argmax()), len(heat))                       # a patch's corner
    x, y = column / len(heat), row / len(heat)
    return max(abs(x - thing.x), abs(y - thing.y)) <= thing.size / 2
""", """
    row, column = divmod(int(heat.argmax()), len(heat))
    x, y = (column + 0.5) / len(heat), (row + 0.5) / len(heat)
    return max(abs(x - thing.x), abs(y - thing.y)) <= thing.size              # the whole side
""", """
    row, column = divmod(int(heat.argmax()), len(heat))
    x, y = (column + 0.5) / len(heat), (row + 0.5) / len(heat)
    return thing.x <= x <= thing.x + thing.size and thing.y <= y <= thing.y + thing.size
"""]}
