"""Chapter 02's blanks, filled in other ways than its answers, and wrongly."""

RIGHT = {
    "PatchEmbed": """
        class PatchEmbed(nn.Module):
            def __init__(self, patch_size, width):
                super().__init__()
                self.patch_size = patch_size
                self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

            def forward(self, image):
                p, weight, bias = self.patch_size, self.proj.weight, self.proj.bias
                return F.unfold(image, p, stride=p).mT @ weight.flatten(1).T + bias
    """,
    "Attention": """
        class Attention(nn.Module):
            def __init__(self, width, heads):
                super().__init__()
                self.heads = heads
                self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

            def forward(self, x):
                b, n, d = x.shape
                parts = self.q(x), self.k(x), self.v(x)
                heads = [part.view(b, n, self.heads, -1).transpose(1, 2) for part in parts]
                x = F.scaled_dot_product_attention(*heads)
                return self.proj(x.transpose(1, 2).flatten(2))
    """,
    "gelu": "return x * torch.special.ndtr(x)",
    "layer_norm": """
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + eps) * weight + bias
    """,
    "block_weights": "return 4 * width ** 2 + 2 * width * mlp_width + 9 * width + mlp_width",
    "resize_positions": """
        d, side = pos_embed.shape[2], round((pos_embed.shape[1] - 1) ** 0.5)
        sheet = pos_embed[0, 1:].T.reshape(1, d, side, side)
        larger = F.interpolate(sheet, size=grid, mode="bicubic").reshape(d, grid * grid).T
        return torch.cat([pos_embed[0, :1], larger])[None]
    """,
}
WRONG = {
    "PatchEmbed": """
        class PatchEmbed(nn.Module):
            def __init__(self, patch_size, width):
                super().__init__()
                self.patch_size = patch_size
                self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

            def forward(self, image):
                p, weight, bias = self.patch_size, self.proj.weight, self.proj.bias
                patches = rearrange(image, "b c (y p) (x q) -> b (y x) (p q c)", p=p, q=p)
                return patches @ weight.flatten(1).T + bias
    """,
    "Attention": """
        class Attention(nn.Module):
            def __init__(self, width, heads):
                super().__init__()
                self.heads = heads
                self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))

            def forward(self, x):
                b, n, d = x.shape
                parts = self.q(x), self.k(x), self.v(x)
                heads = [part.reshape(b, self.heads, n, -1) for part in parts]
                return self.proj(F.scaled_dot_product_attention(*heads).reshape(b, n, d))
    """,
    "gelu": 'return F.gelu(x, approximate="tanh")',
    "layer_norm": """
        spread = (x.var(-1, keepdim=True) + eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / spread * weight + bias
    """,
    "block_weights": "return 4 * width ** 2 + 2 * width * mlp_width",
    "resize_positions": """
        line = F.interpolate(pos_embed[:, 1:].mT, size=grid * grid, mode="linear").mT
        return torch.cat([pos_embed[:, :1], line], 1)
    """,
}
