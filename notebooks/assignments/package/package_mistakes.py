"""By module and seam: typical mistakes, (old, new), which must lose its points."""

CROSS = "self.dropout(attended)"      # what a fusion layer looks up

MISTAKES: dict[str, dict[str, tuple[str, str]]] = {
    "layers.attention": {
        "scores not scaled": (" / q.shape[-1] ** 0.5", ""),
        "scaled by the whole width": ("q.shape[-1] ** 0.5", "x.shape[-1] ** 0.5"),
        "softmax over queries": (".softmax(-1)", ".softmax(-2)"),
        "values cannot learn": ("rearrange(values,", "rearrange(values.detach(),"),
        "three heads": ('"b n (h d) -> b h n d", h=self.heads)',
                        '"b n (h d) -> b h n d", h=3)')},
    "vision.block": {
        "nothing added to attention": ("x = x + self.attn(", "x = self.attn("),
        "nothing added to the MLP": ("return x + self.mlp(self.norm2(x))",
                                     "return self.mlp(self.norm2(x))"),
        "no first norm": ("self.attn(self.norm1(x))", "self.attn(x)"),
        "what attention says cannot learn": ("x = x + self.attn(self.norm1(x))",
                                             "x = x + "
                                             "self.attn(self.norm1(x)).detach()"),
        "the caller's input": ("x = x + self.attn(", "x += self.attn(")},
    "vision.vit": {
        "column by column": ('(self.proj(image), "b d y x -> b (y x) d")',
                             '(self.proj(image), "b d y x -> b (x y) d")'),
        "[CLS] last": ("torch.cat([cls, patches], 1)", "torch.cat([patches, cls], 1)"),
        "no positions": (" + self.pos_embed", ""),
        "positions cannot learn": ("+ self.pos_embed", "+ self.pos_embed.detach()"),
        "ten places": ("+ self.pos_embed", "+ self.pos_embed[:, :10]")},
    "text.text_layer": {
        "norm before attention": ("self.attn(x, keep=keep)",
                                  "self.attn(self.norm1(x), keep=keep)"),
        "nothing added to attention": ("self.norm1(x + self.dropout",
                                       "self.norm1(self.dropout"),
        "nothing added to the MLP": ("self.norm2(x + self.dropout",
                                     "self.norm2(self.dropout"),
        "what attention says cannot learn": ("self.dropout(self.attn(x, keep=keep))",
                                             "self.dropout(self.attn(x, "
                                             "keep=keep)).detach()"),
        "the caller's words": (
            "x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
            "x += self.dropout(self.attn(x, keep=keep))\n        x = self.norm1(x)")},
    "fusion.fusion_layer": {
        "nothing added to the reading": ("self.norm1(asking + ", "self.norm1("),
        "nothing added to the looking": ("self.norm_cross(x + ", "self.norm_cross("),
        "nothing added to the MLP": ("self.norm2(x + ", "self.norm2("),
        "what is seen cannot learn": (CROSS, f"{CROSS}.detach()"),
        "the caller's words": ("x = self.norm1(asking + "
                               "self.dropout(self.attn(asking, x, keep)))",
                               "asking += self.dropout(self.attn(asking, x, keep))\n"
                               "        x = self.norm1(asking)")},
    "losses.itc_loss": {
        "softmax over queries": ("F.log_softmax(logits, -1)",
                                 "F.log_softmax(logits, 0)"),
        "the teacher's softmax over queries": ("alpha * teacher_sim.softmax(-1) +",
                                               "alpha * teacher_sim.softmax(0) +"),
        "the student for the teacher": ("itc_targets(positive, teacher_sim, alpha)",
                                        "itc_targets(positive, sim, alpha)"),
        "the normaliser cannot learn": ("-(target * F.log_softmax(logits, -1))",
                                        "-(target * (logits - logits.logsumexp(-1, "
                                        "keepdim=True).detach()))"),
        "three queries": ("return soft_cross_entropy(sim, itc_targets(positive, "
                          "teacher_sim, alpha)).mean()",
                          "return soft_cross_entropy(sim, itc_targets(positive, "
                          "teacher_sim, alpha)).sum() / 3"),
        "the caller's teacher is cut off": ("alpha * teacher_sim.softmax(-1) +",
                                            "alpha * "
                                            "teacher_sim.detach_().softmax(-1) +")},
    "losses.hard_negatives": {
        "its own key, too": (".masked_fill(own, -torch.inf)", ""),
        "always the hardest": ("(logits - torch.log(-torch.log(uniform)))", "logits"),
        "drawn evenly": ("sim.float()", "(0 * sim).float()"),
        "the caller's draws": ("torch.log(-torch.log(uniform))",
                               "torch.log(-uniform.log_())")},
    "losses.itm_loss": {
        "invalid rows, too": (" * valid).sum()", ").sum()"),
        "over the rows": (" * valid).sum() / count", " * valid).mean()"),
        "over valid rows, not count": (" * valid).sum() / count",
                                       " * valid).sum() / valid.sum()"),
        "the caller's labels are struck out": ('    return (F.cross_entropy(logits, '
                                               'labels, reduction="none") * valid)',
                                               "    labels *= valid\n"
                                               "    return (F.cross_entropy(logits, "
                                               "labels, reduction=\"none\") * valid)")},
    "losses.mlm_loss": {
        "mean over words": ("teacher_logits, alpha).sum()",
                            "teacher_logits, alpha).mean()"),
        "the teacher is not asked": ("labels, teacher_logits, alpha).sum()",
                                     "labels, None, alpha).sum()"),
        "alpha reversed": ("(1 - alpha) * loss + alpha * soft",
                           "alpha * loss + (1 - alpha) * soft"),
        "five words": ("teacher_logits, alpha).sum()",
                       "teacher_logits, alpha)[:5].mean() * (5 if len(labels) else 0)"),
        "the normaliser cannot learn": ('loss = F.cross_entropy(logits, labels, '
                                        'reduction="none")',
                                        "loss = logits.detach().logsumexp(-1) - "
                                        "logits.gather(1, labels[:, None])[:, 0]"),
        "the caller's teacher is cut off": ("(logits, teacher_logits.softmax(-1))",
                                            "(logits, "
                                            "teacher_logits.detach_().softmax(-1))")},
    "masking.mask_words": {
        "special words, too": (" & ~torch.isin(tokens, torch.tensor(special, "
                               "device=tokens.device))", ""),
        "the rest instead": ("choose < rate", "choose > rate"),
        "all behind [MASK]": ("kind < 0.8)", "kind < 2)"),
        "[MASK] by heart": ("mask_id, tokens)", "4, tokens)"),
        "the caller's tokens": (
            "masked = torch.where(chosen & (kind < 0.8), mask_id, tokens)",
            "masked = tokens.masked_fill_(chosen & (kind < 0.8), mask_id)")},
    "ema.teacher": {
        "the student itself": ("copy.deepcopy(student)", "student"),
        "weights shared": ("copy.deepcopy(student)",
                           "copy.deepcopy(student, {id(p): p for p in "
                           "student.parameters()})"),
        "gradients reach it": (".requires_grad_(False).eval()", ".eval()")},
    "feature_queue.queue": {
        "empty slots count": ("min(size, self.filled + len(ids))", "size"),
        "always from the start": ("(self.pointer + len(ids)) % size", "0"),
        "the first rows stay": ("image[-size:], text[-size:], ids[-size:]",
                                "image[:size], text[:size], ids[:size]"),
        "the caller's features are cut off": (
            "image, text, ids = image[-size:],",
            "image.detach_()\n        image, text, ids = image[-size:],")}}
