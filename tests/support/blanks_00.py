"""Chapter 00's blanks, filled in other ways than its answers: RIGHT ones, and likely WRONG ones."""

RIGHT = {
    "my_scene": """
        places = (("dog", 0.2, 0.2), ("apple", 0.2, 0.6), ("apple", 0.7, 0.7))
        dog, *apples = [Object(name, x, y, 0.3, "fluent") for name, x, y in places]
        return Scene((*apples, dog), "yellow")
    """,
    "shares_by_hand": """
        powers = torch.exp(torch.tensor(cosines) / tau)
        return powers / powers.sum()
    """,
    "points_at": """
        g = heat.shape[0]
        best = max(((heat[y, x], y, x) for y in range(g) for x in range(g)))
        y, x = (best[1] + 0.5) / g, (best[2] + 0.5) / g
        left, top = thing.x - thing.size / 2, thing.y - thing.size / 2
        return left <= x <= left + thing.size and top <= y <= top + thing.size
    """,
}
WRONG = {
    "my_scene": """
        return Scene((Object("apple", 0.3, 0.2, 0.2, "noto"), Object("dog", 0.5, 0.5, 0.2, "noto"),
                      Object("apple", 0.7, 0.8, 0.2, "noto")), "yellow")          # above one alone
    """,
    "shares_by_hand": """
        powers = [math.exp(cosine * tau) for cosine in cosines]                   # times tau
        return [power / sum(powers) for power in powers]
    """,
    "points_at": """
        x, y = divmod(int(heat.argmax()), len(heat))                            
        x, y = (x + 0.5) / len(heat), (y + 0.5) / len(heat)
        return max(abs(x - thing.x), abs(y - thing.y)) <= thing.size / 2
    """,
}
