"""Chapter 02's blanks, filled in other ways than its answers, and wrongly."""

EMBED = '''
class PatchEmbed(nn.Module):
    def __init__(self, patch_size, width):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image):
        p, weight, bias = self.patch_size, self.proj.weight, self.proj.bias
        {}
'''
HEADS = '''
class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        b, n, d = x.shape
        parts = self.q(x), self.k(x), self.v(x)
        {}
'''
RIGHT = {
    "PatchEmbed": [
        EMBED.format("return F.unfold(image, p, stride=p).mT @ weight.flatten(1).T + bias"),
        EMBED.format("return torch.stack([(weight * image[:, None, :, y:y + p, x:x + p]).sum((2, 3, 4)) + bias "
                     "for y in range(0, image.shape[2], p) for x in range(0, image.shape[3], p)], 1)")],
    "Attention": [
        HEADS.format("return self.proj(F.scaled_dot_product_attention(*(part.view(b, n, self.heads, -1).transpose(1, 2)"
                     " for part in parts)).transpose(1, 2).flatten(2))"),
        HEADS.format("return self.proj(torch.cat([attend(*(part[..., i:i + d // self.heads] for part in parts))[0] "
                     "for i in range(0, d, d // self.heads)], -1))")],
    "gelu": ["return x * torch.special.ndtr(x)",
             "return x * torch.distributions.Normal(0, 1).cdf(x)"],
    "layer_norm": ["""
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + eps) * weight + bias"""],
    "block_weights": ["return 4 * width ** 2 + 2 * width * mlp_width + 9 * width + mlp_width", """
        matrices = [(width, width)] * 4 + [(width, mlp_width), (mlp_width, width)]
        return sum(a * b + b for a, b in matrices) + 4.0 * width"""],
    "resize_positions": ["""
        d, side = pos_embed.shape[2], round((pos_embed.shape[1] - 1) ** 0.5)
        sheet = pos_embed[0, 1:].T.reshape(1, d, side, side)
        larger = F.interpolate(sheet, size=grid, mode="bicubic").reshape(d, grid * grid).T
        return torch.cat([pos_embed[0, :1], larger])[None]"""]}
WRONG = {
    "PatchEmbed": [
        EMBED.format('return rearrange(image, "b c (y p) (x q) -> b (y x) (p q c)", p=p, q=p) @ weight.flatten(1).T '
                     "+ bias"),
        EMBED.format('return rearrange(image, "b c (y p) (x q) -> b (x y) (c p q)", p=p, q=p) @ weight.flatten(1).T '
                     "+ bias"),
        EMBED.format('return rearrange(image, "b c (y p) (x q) -> b (y x) (c p q)", p=p, q=p) @ weight.flatten(1).T')],
    "Attention": [
        HEADS.format("return self.proj(F.scaled_dot_product_attention(*(part.reshape(b, self.heads, n, -1) "
                     "for part in parts)).reshape(b, n, d))"),
        HEADS.format("return self.proj(attend(*parts)[0])"),
        HEADS.format("return torch.cat([attend(*head)[0] for head in zip(*(part.chunk(self.heads, -1) "
                     "for part in parts))], -1)"),
        HEADS.format("return self.proj(F.scaled_dot_product_attention(*(part.view(b, n, self.heads, -1).transpose(1, 2)"
                     " for part in parts), scale=1.0).transpose(1, 2).flatten(2))")],
    "gelu": ['return F.gelu(x, approximate="tanh")',
             "return x * torch.sigmoid(1.702 * x)",
             "return x * (1 + torch.erf(x)) / 2",
             "return x * torch.erf(x / 2 ** 0.5)"],
    "layer_norm": ["return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias",
                   "return (x - x.mean()) / (x.var(correction=0) + eps).sqrt() * weight + bias",
                   """
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, correction=0, keepdim=True) + eps) * weight + bias""",
                   "return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt()"],
    "block_weights": ["return 4 * width ** 2 + 2 * width * mlp_width",
                      "return 3 * width * (width + 1) + 2 * width * mlp_width + mlp_width + width + 4 * width",
                      "return 4 * width * (width + 1) + 2 * width * mlp_width + mlp_width + width",
                      "return 4 * width * (width + 1) + 8 * width ** 2 + 5 * width + 4 * width"],
    "resize_positions": ["""
        line = F.interpolate(pos_embed[:, 1:].mT, size=grid * grid, mode="linear").mT
        return torch.cat([pos_embed[:, :1], line], 1)""", """
        return F.interpolate(pos_embed.mT, size=1 + grid * grid, mode="linear").mT""", """
        side = math.isqrt(pos_embed.shape[1] - 1)
        sheet = rearrange(pos_embed[:, 1:], "1 (y x) d -> 1 d y x", y=side)
        sheet = F.interpolate(sheet, size=(grid, grid), mode="bilinear")
        return torch.cat([pos_embed[:, :1], rearrange(sheet, "1 d y x -> 1 (y x) d")], 1)""", """
        side = math.isqrt(pos_embed.shape[1] - 1)
        sheet = pos_embed[:, 1:].reshape(1, -1, side, side)
        sheet = F.interpolate(sheet, size=(grid, grid), mode="bicubic")
        return torch.cat([pos_embed[:, :1], rearrange(sheet, "1 d y x -> 1 (y x) d")], 1)"""]}
