"""By module and seam: typical mistakes, (old, new), which must lose its points."""

CROSS = "self.dropout(attended)"      # what a fusion layer looks up

MISTAKES: dict[str, dict[str, tuple[str, str]]] = {
    "layers.attention": {
        "scores not scaled": (" / q.shape[-1] ** 0.5", ""),
        "scaled by the whole width": ("q.shape[-1] ** 0.5", "x.shape[-1] ** 0.5"),
        "softmax over queries": (".softmax(-1)", ".softmax(-2)"),
        "padding seen": ("attn_mask=mask", "attn_mask=None"),
        "mask reversed": ("~mask", "mask"),
        "heads interleaved": ('"b n (h d) -> b h n d"', '"b n (d h) -> b h n d"'),
        "keys for values": ("self.k(source), self.v(source)",
                            "self.k(source), self.k(source)"),
        "padding scored 0": ('-float("inf")', "0.0"),
        "heads merged crosswise": (
            'return self.proj(rearrange(y, "b h n d -> b n (h d)"))',
            'return self.proj(rearrange(y, "b h n d -> b n (d h)"))'),
        "no projection": ('return self.proj(rearrange(y, "b h n d -> b n (h d)"))',
                          'return rearrange(y, "b h n d -> b n (h d)")'),
        "queries' weights cannot learn": (
            "self.q(x)", "F.linear(x, self.q.weight.detach(), self.q.bias)"),
        "keys' and values' weights cannot learn": (
            "return self.k(source), self.v(source)",
            "return tuple(F.linear(source, part.weight.detach(), part.bias) for part "
            "in (self.k, self.v))"),
        "values cannot learn": ("rearrange(values,", "rearrange(values.detach(),"),
        "the source cannot learn": ("return self.k(source), self.v(source)",
                                    "return self.k(source.detach()), "
                                    "self.v(source.detach())"),
        "the projection cannot learn": (
            'return self.proj(rearrange(y, "b h n d -> b n (h d)"))',
            'return F.linear(rearrange(y, "b h n d -> b n (h d)"), '
            'self.proj.weight.detach(), self.proj.bias)'),
        "weights without their gradient": ("self.record.append(weights)",
                                           "self.record.append(weights.detach())"),
        "weights of all the keys": ("self.record.append(weights)",
                                    "self.record.append((q / q.shape[-1] ** 0.5 @ "
                                    "k.mT).softmax(-1))"),
        "a mask for each query is refused": ("keep[:, None] if keep.ndim == 3 else "
                                             "keep[:, None, None, :]",
                                             "keep[:, None, None, :]"),
        "a mask for each query is ignored": ("if keep is not None:",
                                             "if keep is not None and keep.ndim != 3:"),
        "the first query's mask for all": ("keep[:, None] if keep.ndim == 3",
                                           "keep[:, None, :1] if keep.ndim == 3"),
        "the first row's mask for all": ("keep[:, None, None, :]",
                                         "keep[:1, None, None, :]"),
        "padding a hundred less likely": ("attn_mask=mask,",
                                          "attn_mask=None if mask is None else "
                                          "torch.where(mask, 0.0, -100.0),"),
        "padding's weight a hundred less likely": ('-float("inf")', "-100.0"),
        "exponentials without the maximum": ("weights = scores.softmax(-1)",
                                             "weights = scores.exp()\n"
                                             "        weights = weights / "
                                             "weights.sum(-1, keepdim=True)"),
        "scores clamped": ("scores = q / q.shape[-1] ** 0.5 @ k.mT",
                           "scores = (q / q.shape[-1] ** 0.5 @ k.mT).clamp(-50, 50)"),
        "three heads": ('"b n (h d) -> b h n d", h=self.heads)',
                        '"b n (h d) -> b h n d", h=3)'),
        "dropout forced": ("dropout_p=p", "dropout_p=self.dropout.p"),
        "dropout forgotten": ("return self.dropout(weights) @ v",
                              "return weights @ v")},
    "vision.block": {
        "nothing added to attention": ("x = x + self.attn(", "x = self.attn("),
        "nothing added to the MLP": ("return x + self.mlp(self.norm2(x))",
                                     "return self.mlp(self.norm2(x))"),
        "no first norm": ("self.attn(self.norm1(x))", "self.attn(x)"),
        "no second norm": ("self.mlp(self.norm2(x))", "self.mlp(x)"),
        "one norm for both": ("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))"),
        "norm after the MLP": ("self.mlp(self.norm2(x))", "self.norm2(self.mlp(x))"),
        "both read the same": ("x = x + self.attn(self.norm1(x))\n"
                               "        return x + self.mlp(self.norm2(x))",
                               "return x + self.attn(self.norm1(x)) + "
                               "self.mlp(self.norm2(x))"),
        "added to what is normed": ("x = x + self.attn(",
                                    "x = self.norm1(x) + self.attn("),
        "a norm after the sum, too": ("x = x + self.attn(self.norm1(x))",
                                      "x = self.norm1(x + self.attn(self.norm1(x)))"),
        "torch's own epsilon": ("NORM_EPS = 1e-6", "NORM_EPS = 1e-5"),
        "attention's weights cannot learn": (
            "self.attn(self.norm1(x))",
            "torch.func.functional_call(self.attn, {n: p.detach() for n, p in "
            "{f'{a}.{b}': getattr(getattr(self.attn, a), b) for a in ('q', 'k', 'v', "
            "'proj') for b in ('weight', 'bias')}.items()}, (self.norm1(x),))"),
        "the first norm cannot learn": ("self.attn(self.norm1(x))",
                                        "self.attn(F.layer_norm(x, x.shape[-1:], "
                                        "self.norm1.weight.detach(), "
                                        "self.norm1.bias.detach(), NORM_EPS))"),
        "the MLP's last weights cannot learn": (
            "self.mlp(self.norm2(x))",
            "F.linear(F.gelu(self.mlp.fc1(self.norm2(x))), "
            "self.mlp.fc2.weight.detach(), self.mlp.fc2.bias)"),
        "what attention says cannot learn": ("x = x + self.attn(self.norm1(x))",
                                             "x = x + "
                                             "self.attn(self.norm1(x)).detach()"),
        "the caller's input": ("x = x + self.attn(", "x += self.attn(")},
    "vision.vit": {
        "column by column": ('(self.proj(image), "b d y x -> b (y x) d")',
                             '(self.proj(image), "b d y x -> b (x y) d")'),
        "[CLS] last": ("torch.cat([cls, patches], 1)", "torch.cat([patches, cls], 1)"),
        "no positions": (" + self.pos_embed", ""),
        "positions off by one": ("+ self.pos_embed", "+ self.pos_embed.roll(1, 1)"),
        "one position for all": ("+ self.pos_embed", "+ self.pos_embed[:, :1]"),
        "positions added twice": ("+ self.pos_embed", "+ 2 * self.pos_embed"),
        "positions in each block": ("block(x)", "block(x + self.pos_embed)"),
        "[CLS] has no place": ("patches], 1) + self.pos_embed",
                               "patches + self.pos_embed[:, 1:]], 1)"),
        "no last norm": ("return self.norm(x)", "return x"),
        "blocks reversed": ("for block in self.blocks:",
                            "for block in self.blocks[::-1]:"),
        "last block left out": ("for block in self.blocks:",
                                "for block in self.blocks[:-1]:"),
        "[CLS] cannot learn": ("self.cls_token.expand(",
                               "self.cls_token.detach().expand("),
        "positions cannot learn": ("+ self.pos_embed", "+ self.pos_embed.detach()"),
        "patches' weights cannot learn": (
            'rearrange(self.proj(image), "b d y x',
            'rearrange(F.conv2d(image, self.proj.weight.detach(), self.proj.bias, '
            'self.proj.stride), "b d y x'),
        "the last norm cannot learn": ("return self.norm(x)",
                                       "return F.layer_norm(x, x.shape[-1:], "
                                       "self.norm.weight.detach(), self.norm.bias, "
                                       "NORM_EPS)"),
        "pictures cannot learn": ("self.proj(image)", "self.proj(image.detach())"),
        "two pictures": ("self.cls_token.expand(len(patches), -1, -1)",
                         "self.cls_token.expand(2, -1, -1)"),
        "ten places": ("+ self.pos_embed", "+ self.pos_embed[:, :10]"),
        "two blocks": ("for block in self.blocks:",
                       "for block in list(self.blocks)[:2]:")},
    "text.text_layer": {
        "norm before attention": ("self.attn(x, keep=keep)",
                                  "self.attn(self.norm1(x), keep=keep)"),
        "nothing added to attention": ("self.norm1(x + self.dropout",
                                       "self.norm1(self.dropout"),
        "nothing added to the MLP": ("self.norm2(x + self.dropout",
                                     "self.norm2(self.dropout"),
        "padding seen": ("self.attn(x, keep=keep)", "self.attn(x)"),
        "norm before the last sum": ("self.norm2(x + self.dropout(self.mlp(x)))",
                                     "x + self.norm2(self.mlp(x))"),
        "one norm for both": ("self.norm2(x + self.dropout",
                              "self.norm1(x + self.dropout"),
        "no first norm": ("x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
                          "x = x + self.dropout(self.attn(x, keep=keep))"),
        "added twice": ("self.dropout(self.mlp(x))", "self.dropout(x + self.mlp(x))"),
        "mask reversed": ("self.attn(x, keep=keep)", "self.attn(x, keep=~keep)"),
        "words see no later word": (
            "keep=keep)", "keep=keep[:, None].expand(-1, x.shape[1], -1).tril())"),
        "the image encoder's epsilon": ("NORM_EPS = 1e-12", "NORM_EPS = 1e-6"),
        "the first norm cannot learn": (
            "x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
            "x = F.layer_norm(x + self.dropout(self.attn(x, keep=keep)), "
            "x.shape[-1:], self.norm1.weight.detach(), self.norm1.bias, NORM_EPS)"),
        "the MLP's first weights cannot learn": (
            "self.dropout(self.mlp(x))",
            "self.dropout(self.mlp.fc2(F.gelu(F.linear(x, "
            "self.mlp.fc1.weight.detach(), self.mlp.fc1.bias))))"),
        "what attention says cannot learn": ("self.dropout(self.attn(x, keep=keep))",
                                             "self.dropout(self.attn(x, "
                                             "keep=keep)).detach()"),
        "no dropout after attention": ("self.dropout(self.attn(x, keep=keep))",
                                       "self.attn(x, keep=keep)"),
        "no dropout after the MLP": ("self.dropout(self.mlp(x))", "self.mlp(x)"),
        "dropout forced": ("self.dropout(self.mlp(x))",
                           "F.dropout(self.mlp(x), self.dropout.p)"),
        "the sum dropped": ("self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
                            "self.norm1(self.dropout(x + self.attn(x, keep=keep)))"),
        "the first text's padding for all": ("self.attn(x, keep=keep)",
                                             "self.attn(x, keep=keep[:1])"),
        "the caller's words": (
            "x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
            "x += self.dropout(self.attn(x, keep=keep))\n        x = self.norm1(x)"),
        "the caller's padding is opened": (
            "x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))",
            "x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))\n"
            "        keep[:] = True")},
    "fusion.fusion_layer": {
        "nothing added to the reading": ("self.norm1(asking + ", "self.norm1("),
        "nothing added to the looking": ("self.norm_cross(x + ", "self.norm_cross("),
        "nothing added to the MLP": ("self.norm2(x + ", "self.norm2("),
        "padding seen": ("self.attn(asking, x, keep)", "self.attn(asking, x)"),
        "no norm after looking": (f"self.norm_cross(x + {CROSS})", f"x + {CROSS}"),
        "norms exchanged": ("self.norm_cross(x +", "self.norm2(x +"),
        "the picture is not looked at": (f"x + {CROSS}", f"x + 0 * {CROSS}"),
        "one token of the picture": ("keys_values=keys_values)",
                                     "keys_values=tuple(t[:, :1] for t in "
                                     "keys_values))"),
        "keys and values exchanged": ("keys_values=keys_values)",
                                      "keys_values=keys_values[::-1])"),
        "no last norm": ("self.norm2(x + self.dropout(self.mlp(x)))",
                         "x + self.dropout(self.mlp(x))"),
        "the MLP reads the words before they look": (
            f"x = self.norm_cross(x + {CROSS})\n        return self.norm2(x +",
            f"y = self.norm_cross(x + {CROSS})\n        return self.norm2(y +"),
        "the image encoder's epsilon": ("from mine.text import NORM_EPS",
                                        "NORM_EPS = 1e-6"),
        "queries ignored": ("asking = x[:, :queries]", "asking = x"),
        "the others are not read": ("self.attn(asking, x, keep)",
                                    "self.attn(asking, asking, keep[:, "
                                    ":asking.shape[1]])"),
        "the picture's mask ignored": ("self.cross(x, keep=image_keep, keys_values",
                                       "self.cross(x, keys_values"),
        "the picture's mask reversed": (
            "keep=image_keep,", "keep=None if image_keep is None else ~image_keep,"),
        "the first picture's mask for all": (
            "keep=image_keep,", "keep=None if image_keep is None else image_keep[:1],"),
        "the first text's padding for all": ("self.attn(asking, x, keep)",
                                             "self.attn(asking, x, keep[:1])"),
        "what is seen cannot learn": (CROSS, f"{CROSS}.detach()"),
        "keys and values cannot learn": ("keys_values=keys_values)",
                                         "keys_values=tuple(t.detach() for t in "
                                         "keys_values))"),
        "what words say cannot learn": ("self.dropout(self.attn(asking, x, keep))",
                                        "self.dropout(self.attn(asking, x, "
                                        "keep)).detach()"),
        "what looks cannot learn": ("self.cross(x, keep",
                                    "self.cross(x.detach(), keep"),
        "no dropout after reading": ("self.dropout(self.attn(asking, x, keep))",
                                     "self.attn(asking, x, keep)"),
        "no dropout after looking": (CROSS, "attended"),
        "no dropout after the MLP": ("self.dropout(self.mlp(x))", "self.mlp(x)"),
        "dropout on the sum": ("self.norm2(x + self.dropout(self.mlp(x)))",
                               "self.norm2(self.dropout(x + self.mlp(x)))"),
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
        "own key off by one": ("device=sim.device)\n",
                               "device=sim.device).roll(1, 1)\n"),
        "sum for mean": ("teacher_sim, alpha)).mean()", "teacher_sim, alpha)).sum()"),
        "alpha reversed": ("return alpha * teacher_sim.softmax(-1) + (1 - alpha) * own",
                           "return (1 - alpha) * teacher_sim.softmax(-1) + "
                           "alpha * own"),
        "positives not shared": ("positive / positive.sum(-1, keepdim=True)",
                                 "positive.float()"),
        "own key alone": ("    if positive is None:\n", "    if True:\n"),
        "no teacher": ("(1 - alpha) * own if alpha else own",
                       "(1 - alpha) * own if False else own"),
        "teacher added": ("+ (1 - alpha) * own", "+ own"),
        "teacher not normed": ("alpha * teacher_sim.softmax(-1) +",
                               "alpha * teacher_sim.exp() +"),
        "a small number added": ("-(target * F.log_softmax(logits, -1))",
                                 "-(target * (F.softmax(logits, -1) + 1e-12).log())"),
        "probabilities clamped": ("-(target * F.log_softmax(logits, -1))",
                                  "-(target * F.softmax(logits, "
                                  "-1).clamp(min=1e-12).log())"),
        "exponentials without the maximum": (
            "-(target * F.log_softmax(logits, -1))",
            "-(target * (logits - logits.exp().sum(-1, keepdim=True).log()))"),
        "the teacher's exponentials without the maximum": (
            "alpha * teacher_sim.softmax(-1) +",
            "alpha * F.normalize(teacher_sim.exp(), p=1, dim=-1) +"),
        "the normaliser cannot learn": ("-(target * F.log_softmax(logits, -1))",
                                        "-(target * (logits - logits.logsumexp(-1, "
                                        "keepdim=True).detach()))"),
        "three queries": ("return soft_cross_entropy(sim, itc_targets(positive, "
                          "teacher_sim, alpha)).mean()",
                          "return soft_cross_entropy(sim, itc_targets(positive, "
                          "teacher_sim, alpha)).sum() / 3"),
        "the first query's positives for all": (
            "own = positive / positive.sum(-1, keepdim=True)",
            "own = (positive / positive.sum(-1, keepdim=True))[:1]"),
        "the caller's similarities lose their maximum": (
            "    return soft_cross_entropy(sim, itc",
            "    sim -= sim.amax(-1, keepdim=True)\n"
            "    return soft_cross_entropy(sim, itc"),
        "the caller's teacher is cut off": ("alpha * teacher_sim.softmax(-1) +",
                                            "alpha * "
                                            "teacher_sim.detach_().softmax(-1) +"),
        "the caller's positives grow": ("    return soft_cross_entropy(sim, itc",
                                        "    positive.fill_diagonal_(True)\n"
                                        "    positive[0, -1] = True\n"
                                        "    return soft_cross_entropy(sim, itc")},
    "losses.hard_negatives": {
        "its own key, too": (".masked_fill(own, -torch.inf)", ""),
        "always the hardest": ("(logits - torch.log(-torch.log(uniform)))", "logits"),
        "drawn evenly": ("sim.float()", "(0 * sim).float()"),
        "the easiest": ("sim.float().masked_fill", "(-sim).float().masked_fill"),
        "noise turned round": ("logits - torch.log", "logits + torch.log"),
        "noise once too few": ("- torch.log(-torch.log(uniform))",
                               "+ torch.log(uniform)"),
        "sharper than asked": ("sim.float()", "(2 * sim.float())"),
        "valid everywhere": ("~own.all(-1)", "~own.all(-1) | True"),
        "valid without any own": ("~own.all(-1)", "~own.any(-1)"),
        "own removed after a softmax": ("sim.float().masked_fill(own, -torch.inf)",
                                        "sim.softmax(-1).masked_fill(own, 0).log()"),
        "own keys a hundred less likely": (".masked_fill(own, -torch.inf)",
                                           ".masked_fill(own, -100.0)"),
        "exponentials without the maximum": ("(logits - "
                                             "torch.log(-torch.log(uniform)))",
                                             "(torch.log(uniform) / logits.exp())"),
        "similarities clamped": ("sim.float().masked_fill",
                                 "sim.float().clamp(-50, 50).masked_fill"),
        "a small number added": ("logits = sim.float().masked_fill(own, -torch.inf)",
                                 "logits = (sim.float().masked_fill(own, "
                                 "-torch.inf).softmax(-1).nan_to_num() + 1e-3).log()"),
        "the first query's own keys for all": (".masked_fill(own, -torch.inf)",
                                               ".masked_fill(own[:1], -torch.inf)"),
        "the first query's draw for all": ("torch.log(-torch.log(uniform))",
                                           "torch.log(-torch.log(uniform[:1]))"),
        "a seed of its own": ("    logits = sim.float()",
                              "    torch.manual_seed(0)\n"
                              "    uniform = torch.rand(sim.shape)\n"
                              "    logits = sim.float()"),
        "the caller's draws": ("torch.log(-torch.log(uniform))",
                               "torch.log(-uniform.log_())"),
        "the caller's similarities": ("sim.float().masked_fill(",
                                      "sim.float().clone().set_(sim).masked_fill_(")},
    "losses.itm_loss": {
        "invalid rows, too": (" * valid).sum()", ").sum()"),
        "over the rows": (" * valid).sum() / count", " * valid).mean()"),
        "over valid rows, not count": (" * valid).sum() / count",
                                       " * valid).sum() / valid.sum()"),
        "times count": (" * valid).sum() / count", " * valid).sum() * count"),
        "labels reversed": ('labels, reduction="none") * valid',
                            '1 - labels, reduction="none") * valid'),
        "the match's logit alone": (
            '(F.cross_entropy(logits, labels, reduction="none") * valid)',
            "(F.softplus(logits[:, 1] * (1 - 2 * labels)) * valid)"),
        "mean before the mask": ('labels, reduction="none") * valid',
                                 "labels) * valid"),
        "softmax twice": ('F.cross_entropy(logits, labels, reduction="none") * valid',
                          'F.cross_entropy(logits.softmax(-1), labels, '
                          'reduction="none") * valid'),
        "softmax over rows": (
            'F.cross_entropy(logits, labels, reduction="none") * valid',
            "F.nll_loss(logits.log_softmax(0), labels, reduction='none') * valid"),
        "each logit judged alone": (
            'F.cross_entropy(logits, labels, reduction="none") * valid',
            "F.softplus(logits * (1 - 2 * F.one_hot(labels, 2))).sum(-1) * valid"),
        "matches alone": (" * valid).sum()", " * valid * labels).sum()"),
        "a small number added": ('F.cross_entropy(logits, labels, '
                                 'reduction="none") * valid',
                                 'F.nll_loss((logits.softmax(-1) + 1e-12).log(), '
                                 'labels, reduction="none") * valid'),
        "probabilities clamped": (
            'F.cross_entropy(logits, labels, reduction="none") * valid',
            'F.nll_loss(logits.softmax(-1).clamp(min=1e-12).log(), labels, '
            'reduction="none") * valid'),
        "binary cross-entropy of a sigmoid": (
            'F.cross_entropy(logits, labels, reduction="none") * valid',
            'F.binary_cross_entropy((logits[:, 1] - logits[:, 0]).sigmoid(), '
            'labels.float(), reduction="none") * ' "valid"),
        "exponentials without the maximum": (
            'F.cross_entropy(logits, labels, reduction="none") * valid',
            "(logits.exp().sum(-1).log() - logits.gather(1, labels[:, "
            "None])[:, 0]) * valid"),
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
        "teacher added": ("(1 - alpha) * loss +", "loss +"),
        "half and half": ("(1 - alpha) * loss + alpha * soft",
                          "0.5 * loss + 0.5 * soft"),
        "softmax over words": ("F.log_softmax(logits, -1)", "F.log_softmax(logits, 0)"),
        "teacher and student exchanged": ("(logits, teacher_logits.softmax(-1))",
                                          "(teacher_logits, logits.softmax(-1))"),
        "nothing over nothing": ("count.where(count > 0, 1)", "count"),
        "count forgotten": ("loss / count.where(count > 0, 1)", "loss"),
        "teacher not normed": ("(logits, teacher_logits.softmax(-1))",
                               "(logits, teacher_logits)"),
        "a small number added": ('loss = F.cross_entropy(logits, labels, '
                                 'reduction="none")',
                                 'loss = F.nll_loss((logits.softmax(-1) + '
                                 '1e-12).log(), labels, reduction="none")'),
        "probabilities clamped": (
            'loss = F.cross_entropy(logits, labels, reduction="none")',
            'loss = F.nll_loss(logits.softmax(-1).clamp(min=1e-12).log(), labels, '
            'reduction="none")'),
        "the teacher's exponentials without the maximum": (
            "(logits, teacher_logits.softmax(-1))",
            "(logits, F.normalize(teacher_logits.exp(), p=1, dim=-1))"),
        "a count below one is one": ("count.where(count > 0, 1)", "count.clamp(min=1)"),
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
        "fewer behind [MASK]": ("kind < 0.8)", "kind < 0.7)"),
        "no other words": ("(kind >= 0.8) & (kind < 0.9)", "(kind < 0)"),
        "other words everywhere": ("torch.where(chosen & (kind >= 0.8)",
                                   "torch.where((kind >= 0.8)"),
        "one draw for both": ("torch.where(chosen & (kind < 0.8)",
                              "torch.where(chosen & (choose < 0.8 * rate)"),
        "only changed words asked for": (
            "words, masked), chosen", "words, masked), chosen & (masked == mask_id)"),
        "[MASK] is no word of the vocabulary": ("mask_id, tokens)",
                                                "mask_id + 1, tokens)"),
        "special ids by heart": ("~torch.isin(tokens, torch.tensor(special, "
                                 "device=tokens.device))", "(tokens > 3)"),
        "[MASK] by heart": ("mask_id, tokens)", "4, tokens)"),
        "draws of its own": ("(choose < rate)", "(torch.rand(choose.shape) < rate)"),
        "a seed of its own": ("    chosen = (choose",
                              "    torch.manual_seed(0)\n    chosen = (choose"),
        "words of its own": ("(kind < 0.9), words, masked)",
                             "(kind < "
                             "0.9), words[torch.randperm(len(words))], masked)"),
        "the first text's draws for all": ("(choose < rate)", "(choose[:1] < rate)"),
        "the caller's tokens": (
            "masked = torch.where(chosen & (kind < 0.8), mask_id, tokens)",
            "masked = tokens.masked_fill_(chosen & (kind < 0.8), mask_id)"),
        "the caller's words": ("return torch.where(chosen & (kind >= 0.8) & (kind < "
                               "0.9), words, masked), chosen",
                               "other = chosen & (kind >= 0.8) & (kind < 0.9)\n"
                               "    words[~other] = masked[~other]\n"
                               "    return words, " "chosen")},
    "ema.teacher": {
        "the student itself": ("copy.deepcopy(student)", "student"),
        "weights shared": ("copy.deepcopy(student)",
                           "copy.deepcopy(student, {id(p): p for p in "
                           "student.parameters()})"),
        "gradients reach it": (".requires_grad_(False).eval()", ".eval()"),
        "the student stands still, too": (
            "copy.deepcopy(student)", "copy.deepcopy(student.requires_grad_(False))"),
        "gradients reach the average": (
            "    torch._foreach_lerp_(list(teacher.parameters()), "
            "list(student.parameters()), 1 - momentum)",
            "    with torch.enable_grad():\n"
            "        for slow, fast in zip(teacher.parameters(), "
            "student.parameters()):\n"
            "            slow.copy_(momentum * slow + (1 - momentum) * fast)"),
        "it drops out": (".requires_grad_(False).eval()", ".requires_grad_(False)"),
        "momentum reversed": ("list(student.parameters()), 1 - momentum)",
                              "list(student.parameters()), momentum)"),
        "the student moves": ("(list(teacher.parameters()), list(student.parameters())",
                              "(list(student.parameters()), "
                              "list(teacher.parameters())"),
        "it never moves": ("get_ema_multi_avg_fn(momentum)",
                           "get_ema_multi_avg_fn(1.0)"),
        "half of it moves": ("(list(teacher.parameters()), list(student.parameters())",
                             "(list(teacher.parameters())[:2], "
                             "list(student.parameters())[:2]"),
        "buffers shared": ("copy.deepcopy(student)",
                           "copy.deepcopy(student, {id(b): b for b in "
                           "student.buffers()})"),
        "frozen weights thaw": ("    return copy.deepcopy(student)",
                                "    student.requires_grad_()\n"
                                "    return copy.deepcopy(student)"),
        "frozen weights stay behind": (
            "    torch._foreach_lerp_(list(teacher.parameters()), "
            "list(student.parameters()), 1 - momentum)",
            "    for slow, fast in zip(teacher.parameters(), student.parameters()):\n"
            "        if "
            "fast.requires_grad:\n            slow.lerp_(fast, 1 - momentum)"),
        "the student is put in training": ("    return copy.deepcopy(student)",
                                           "    student.train()\n"
                                           "    return copy.deepcopy(student)"),
        "the student is put in evaluation": ("copy.deepcopy(student)",
                                             "copy.deepcopy(student.eval())"),
        "the teacher drops out after an update": (
            "    update(list(", "    teacher.train()\n    update(list("),
        "the student is put in evaluation by an update": (
            "    update(list(", "    student.eval()\n    update(list("),
        "the student's gradients are cleared": (
            "    update(list(", "    student.zero_grad()\n    update(list("),
        "the student is frozen by an update": (
            "    update(list(", "    student.requires_grad_(False)\n    update(list(")},
    "feature_queue.queue": {
        "empty slots count": ("min(size, self.filled + len(ids))", "size"),
        "always from the start": ("(self.pointer + len(ids)) % size", "0"),
        "the first rows stay": ("image[-size:], text[-size:], ids[-size:]",
                                "image[:size], text[:size], ids[:size]"),
        "texts for pictures": ("self.ids[slots] = image, text, ids",
                               "self.ids[slots] = text, image, ids"),
        "ids turned round": ("self.ids[slots] = image, text, ids",
                             "self.ids[slots] = image, text, ids.flip(0)"),
        "gradients go in": ("    @torch.no_grad()\n    def push", "    def push"),
        "the end is cut off": ("device=self.ids.device)) % size",
                               "device=self.ids.device)).clamp(max=size - 1)"),
        "off by one": ("self.pointer + len(ids)) % size",
                       "self.pointer + len(ids) + 1) % size"),
        "the last of a batch left out": ("image[-size:], text[-size:], ids[-size:]",
                                         "image[-size:-1], text[-size:-1], "
                                         "ids[-size:-1]"),
        "pushes count, not rows": ("min(size, self.filled + len(ids))",
                                   "min(size, self.filled + 1)"),
        "never full": ("min(size, self.filled + len(ids))",
                       "min(size - 1, self.filled + len(ids))"),
        "a batch as long as the queue is kept by reference": (
            "        self.image[slots], self.text[slots], self.ids[slots] "
            "= image, text, ids",
            "        if len(ids) == size:\n"
            "            self.image, self.text, self.ids, self.pointer = "
            "image.detach(), text.detach(), ids, 0\n"
            "        else:\n"
            "            self.image[slots], "
            "self.text[slots], self.ids[slots] = image, text, ids"),
        "the caller's features are cut off": (
            "image, text, ids = image[-size:],",
            "image.detach_()\n        image, text, ids = image[-size:],"),
        "features of four columns": ("return self.image[:self.filled], ",
                                     "return self.image[:self.filled].view(-1, 4), "),
        "the caller's ids": ("        self.image[slots], self.text[slots], "
                             "self.ids[slots] = image, text, ids",
                             "        self.image[slots], self.text[slots], "
                             "self.ids[slots] = image, text, ids\n"
                             "        ids.zero_()")}}
