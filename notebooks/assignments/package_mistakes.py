"""By module and seam: typical mistakes, (old, new), which must lose its points, and other right bodies, which must not."""

MISTAKES: dict[str, dict[str, tuple[str, str]]] = {
    "layers.attention": {
        "scores not scaled": (" / q.shape[-1] ** 0.5", ""),
        "scaled by the whole width": ("q.shape[-1] ** 0.5", "x.shape[-1] ** 0.5"),
        "softmax over queries": (".softmax(-1)", ".softmax(-2)"),
        "padding seen": ("attn_mask=mask", "attn_mask=None"),
        "mask reversed": ("~mask", "mask"),
        "heads interleaved": ('"b k (h d) -> b h k d"', '"b k (d h) -> b h k d"'),
        "keys for values": ("(self.k, self.v)", "(self.k, self.k)"),
        "heads merged crosswise": ('b n (h d)"))\n', 'b n (d h)"))\n'),
        "no projection": ('self.proj(rearrange(y, "b h n d -> b n (h d)"))\n', 'rearrange(y, "b h n d -> b n (h d)")\n')},
    "vision.block": {
        "nothing added to attention": ("x = x + y\n", "x = y\n"),
        "nothing added to the MLP": ("x = x + self.mlp(self.norm2(x))", "x = self.mlp(self.norm2(x))"),
        "no first norm": ("self.attn(self.norm1(x)", "self.attn((x)"),
        "no second norm": ("self.mlp(self.norm2(x))", "self.mlp(x)"),
        "one norm for both": ("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))"),
        "norm after the MLP": ("self.mlp(self.norm2(x))", "self.norm2(self.mlp(x))"),
        "both read the same": ("x = x + y\n        x = x + self.mlp(self.norm2(x))", "x = x + y + self.mlp(self.norm2(x))")},
    "vision.vit": {
        "column by column": ('(self.proj(image), "b d y x -> b (y x) d")', '(self.proj(image), "b d y x -> b (x y) d")'),
        "[CLS] last": ("[self.cls_token.expand(len(patches), -1, -1), patches]",
                       "[patches, self.cls_token.expand(len(patches), -1, -1)]"),
        "no positions": (" + self.pos_embed", ""),
        "positions off by one": ("+ self.pos_embed", "+ self.pos_embed.roll(1, 1)"),
        "no last norm": ("if return_weights else self.norm(x)", "if return_weights else x"),
        "blocks reversed": ("for block in self.blocks:", "for block in self.blocks[::-1]:"),
        "last block left out": ("for block in self.blocks:", "for block in self.blocks[:-1]:")},
    "text.text_layer": {
        "norm before attention": ("self.attn(x, keep=keep)", "self.attn(self.norm1(x), keep=keep)"),
        "nothing added to attention": ("self.norm1(x + self.dropout", "self.norm1(self.dropout"),
        "nothing added to the MLP": ("self.norm2(x + self.dropout", "self.norm2(self.dropout"),
        "padding seen": ("self.attn(x, keep=keep)", "self.attn(x)"),
        "norm before the last sum": ("self.norm2(x + self.dropout(self.mlp(x)))", "x + self.norm2(self.mlp(x))"),
        "one norm for both": ("self.norm2(x + self.dropout", "self.norm1(x + self.dropout")},
    "fusion.fusion_layer": {
        "nothing added to the reading": ("self.norm1(asking + ", "self.norm1("),
        "nothing added to the looking": ("self.norm_cross(x + ", "self.norm_cross("),
        "nothing added to the MLP": ("self.norm2(x + ", "self.norm2("),
        "padding seen": ("self.attn(asking, x, keep)", "self.attn(asking, x)"),
        "no norm after looking": ("self.norm_cross(x + self.dropout(y))", "x + self.dropout(y)"),
        "norms exchanged": ("self.norm_cross(x +", "self.norm2(x +"),
        "the picture is not looked at": ("x + self.dropout(y)", "x + 0 * self.dropout(y)"),
        "one token of the picture": ("keys_values=keys_values, ", "keys_values=tuple(t[:, :, :1] for t in keys_values), ")},
    "losses.itc_loss": {
        "softmax over queries": ("F.log_softmax(logits, -1)", "F.log_softmax(logits, 0)"),
        "sum for mean": ("teacher_sim, alpha)).mean()", "teacher_sim, alpha)).sum()"),
        "alpha reversed": ("return alpha * teacher_sim.softmax(-1) + (1 - alpha) * own",
                           "return (1 - alpha) * teacher_sim.softmax(-1) + alpha * own"),
        "positives not shared": ("positive / positive.sum(-1, keepdim=True)", "positive.float()"),
        "own key alone": ("    if positive is None:\n", "    if True:\n"),
        "no teacher": ("(1 - alpha) * own if alpha else own", "(1 - alpha) * own if False else own"),
        "teacher added": ("+ (1 - alpha) * own", "+ own"),
        "teacher not normed": ("alpha * teacher_sim.softmax(-1) +", "alpha * teacher_sim.exp() +")},
    "losses.hard_negatives": {
        "its own key, too": (".masked_fill(own, -torch.inf)", ""),
        "always the hardest": ("(logits - torch.log(-torch.log(uniform)))", "logits"),
        "drawn evenly": ("sim.float()", "(0 * sim).float()"),
        "the easiest": ("sim.float().masked_fill", "(-sim).float().masked_fill"),
        "noise turned round": ("logits - torch.log", "logits + torch.log"),
        "noise once too few": ("- torch.log(-torch.log(uniform))", "+ torch.log(uniform)"),
        "sharper than asked": ("sim.float()", "(2 * sim.float())"),
        "valid everywhere": ("~own.all(-1)", "~own.all(-1) | True"),
        "valid without any own": ("~own.all(-1)", "~own.any(-1)"),
        "own removed after a softmax": ("sim.float().masked_fill(own, -torch.inf)",
                                        "sim.softmax(-1).masked_fill(own, 0).log()")},
    "losses.itm_loss": {
        "invalid rows, too": (" * valid).sum()", ").sum()"),
        "over the rows": (" * valid).sum() / count", " * valid).mean()"),
        "over valid rows, not count": (" * valid).sum() / count", " * valid).sum() / valid.sum()"),
        "times count": (" * valid).sum() / count", " * valid).sum() * count"),
        "labels reversed": ('labels, reduction="none") * valid', '1 - labels, reduction="none") * valid'),
        "the match's logit alone": ('(F.cross_entropy(logits, labels, reduction="none") * valid)',
                                    "(F.softplus(logits[:, 1] * (1 - 2 * labels)) * valid)")},
    "losses.mlm_loss": {
        "mean over words": ("teacher_logits, alpha).sum()", "teacher_logits, alpha).mean()"),
        "the teacher is not asked": ("labels, teacher_logits, alpha).sum()", "labels, None, alpha).sum()"),
        "alpha reversed": ("(1 - alpha) * loss + alpha * soft", "alpha * loss + (1 - alpha) * soft"),
        "teacher added": ("(1 - alpha) * loss +", "loss +"),
        "nothing over nothing": ("count.clamp(min=1)", "count"),
        "count forgotten": ("loss / max(count, 1) if", "loss if"),
        "teacher not normed": ("(logits, teacher_logits.softmax(-1))", "(logits, teacher_logits)")},
    "masking.mask_words": {
        "special words, too": (" & ~torch.isin(tokens, torch.tensor(special, device=tokens.device))", ""),
        "the rest instead": ("choose < rate", "choose > rate"),
        "all behind [MASK]": ("kind < 0.8)", "kind < 2)"),
        "fewer behind [MASK]": ("kind < 0.8)", "kind < 0.7)"),
        "no other words": ("(kind >= 0.8) & (kind < 0.9)", "(kind < 0)"),
        "other words everywhere": ("torch.where(chosen & (kind >= 0.8)", "torch.where((kind >= 0.8)"),
        "one draw for both": ("torch.where(chosen & (kind < 0.8)", "torch.where(chosen & (choose < 0.8 * rate)"),
        "only changed words asked for": ("words, masked), chosen", "words, masked), chosen & (masked == mask_id)"),
        "[MASK] is no word of the vocabulary": ("mask_id, tokens)", "mask_id + 1, tokens)")},
    "ema.teacher": {
        "the student itself": ("copy.deepcopy(student)", "student"),
        "weights shared": ("copy.deepcopy(student)", "copy.deepcopy(student, {id(p): p for p in student.parameters()})"),
        "gradients reach it": (".requires_grad_(False).eval()", ".eval()"),
        "it drops out": (".requires_grad_(False).eval()", ".requires_grad_(False)"),
        "momentum reversed": ("list(student.parameters()), 1 - momentum)", "list(student.parameters()), momentum)"),
        "the student moves": ("(list(teacher.parameters()), list(student.parameters())",
                              "(list(student.parameters()), list(teacher.parameters())"),
        "it never moves": ("list(student.parameters()), 1 - momentum)", "list(student.parameters()), 0.0)"),
        "half of it moves": ("(list(teacher.parameters()), list(student.parameters())",
                             "(list(teacher.parameters())[:2], list(student.parameters())[:2]")},
    "feature_queue.queue": {
        "empty slots count": ("min(size, self.filled + len(ids))", "size"),
        "always from the start": ("(self.pointer + len(ids)) % size", "0"),
        "the first rows stay": ("image[-size:], text[-size:], ids[-size:]", "image[:size], text[:size], ids[:size]"),
        "texts for pictures": ("self.ids[slots] = image, text, ids", "self.ids[slots] = text, image, ids"),
        "ids turned round": ("self.ids[slots] = image, text, ids", "self.ids[slots] = image, text, ids.flip(0)"),
        "gradients go in": ("    @torch.no_grad()\n    def push", "    def push"),
        "the end is cut off": ("device=self.ids.device)) % size", "device=self.ids.device)).clamp(max=size - 1)"),
        "never full": ("min(size, self.filled + len(ids))", "min(size - 1, self.filled + len(ids))")},
}

RIGHT: dict[str, dict[str, dict[str, str]]] = {
    "layers.attention": {
        "by einsum, on one way": {"Attention.forward": """
            import torch
            k, v = keys_values or self.keys_values(x if source is None else source)
            q = self.q(x).unflatten(-1, (self.heads, -1))
            scores = torch.einsum("bnhd,bhkd->bhnk", q, k) * q.shape[-1] ** -0.5
            if keep is not None:
                scores = scores + torch.where(keep[:, None] if keep.ndim == 3 else keep[:, None, None], 0.0, -1e9)
            weights = scores.softmax(-1)
            y = self.proj(torch.einsum("bhnk,bhkd->bnhd", weights, v).flatten(2))
            return (y, weights) if return_weights else y"""},
        "by views": {"Attention.keys_values": """
            def split(y):
                return y.view(*source.shape[:2], self.heads, -1).transpose(1, 2)
            return split(self.k(source)), split(self.v(source))"""}},
    "vision.block": {
        "weights always": {"Block.forward": """
            y, weights = self.attn(self.norm1(x), return_weights=True)
            y = y + x
            y = self.mlp(self.norm2(y)) + y
            return (y, weights) if return_weights else y"""},
        "GELU by the error function": {"MLP.forward": """
            y = self.fc1(x)
            return self.fc2(y * (1 + (y / 2 ** 0.5).erf()) / 2)"""}},
    "vision.vit": {
        "flattened": {"PatchEmbed.forward": "return self.proj(image).flatten(2).transpose(1, 2)"},
        "places apart": {"ViT.attend": """
            first = (self.cls_token + self.pos_embed[:, :1]).repeat(patches.shape[0], 1, 1)
            x, seen = torch.cat((first, patches + self.pos_embed[:, 1:]), dim=1), []
            for block in self.blocks:
                x, weights = block(x, return_weights=True)
                seen += [weights]
            x = self.norm(x)
            return (x, seen) if return_weights else x"""}},
    "text.text_layer": {
        "step by step": {"TextLayer.forward": """
            taken = self.dropout(self.attn(x, x, keep))
            x = self.norm1(taken + x)
            return self.norm2(self.dropout(self.mlp(x)) + x)"""},
        "a mask for each pair": {"TextLayer.forward": """
            x = self.norm1(x + self.dropout(self.attn(x, keep=keep[:, None].expand(-1, x.shape[1], -1))))
            return self.norm2(x + self.dropout(self.mlp(x)))"""}},
    "fusion.fusion_layer": {
        "all read, some kept": {"FusionLayer.read": """
            return self.norm1(x + self.dropout(self.attn(x, keep=keep)))[:, :queries]"""},
        "weights always": {"FusionLayer.look": """
            y, weights = self.cross(x, None, image_keep, keys_values, True)
            x = self.norm_cross(self.dropout(y) + x)
            x = self.norm2(self.dropout(self.mlp(x)) + x)
            return (x, weights) if return_weights else x"""}},
    "losses.itc_loss": {
        "by torch": {"soft_cross_entropy": 'return F.cross_entropy(logits, target, reduction="none")'},
        "mass by mass": {"itc_loss": """
            if positive is None:
                positive = torch.arange(sim.shape[1]) == torch.arange(len(sim))[:, None]
            log_p = sim - sim.logsumexp(1, keepdim=True)
            hard = (log_p * positive).sum(1) / positive.sum(1)
            return -(hard * (1 - alpha) + alpha * (teacher_sim.softmax(1) * log_p).sum(1)).mean()"""}},
    "losses.hard_negatives": {
        "by torch.multinomial": {"hard_negatives": """
            valid = ~own.all(-1)
            p = sim.masked_fill(own, -torch.inf).softmax(-1)
            return p.masked_fill(~valid[:, None], 1.0).multinomial(1)[:, 0], valid"""},
        "a race of exponentials": {"hard_negatives": """
            p = sim.masked_fill(own, -torch.inf).softmax(-1)
            return (-uniform.log() / p).nan_to_num(torch.inf).argmin(-1), own.logical_not().any(-1)"""},
        "by the running sum": {"hard_negatives": """
            mass = sim.double().masked_fill(own, -torch.inf).softmax(-1).cumsum(-1)
            return (mass < uniform[:, :1] * mass[:, -1:]).sum(-1), ~own.all(-1)"""}},
    "losses.itm_loss": {
        "valid rows picked": {"itm_loss": 'return F.cross_entropy(logits[valid], labels[valid], reduction="sum") / count'},
        "by the difference": {"itm_loss": """
            wrong = (logits[:, 1] - logits[:, 0]) * (1 - 2 * labels)
            return torch.where(valid, F.softplus(wrong), 0).sum() / count"""}},
    "losses.mlm_loss": {
        "one target": {"mlm_loss": """
            target = F.one_hot(labels, logits.shape[-1]).float()
            if teacher_logits is not None:
                target = torch.lerp(target, teacher_logits.softmax(-1), alpha)
            return F.cross_entropy(logits, target, reduction="sum") / torch.as_tensor(count).clamp(min=1)"""},
        "by picking": {"distilled_cross_entropy": """
            log_p = logits.log_softmax(-1)
            hard = -log_p.gather(1, labels[:, None])[:, 0]
            if teacher_logits is None or not alpha:
                return hard
            return hard + alpha * (-(teacher_logits.softmax(-1) * log_p).sum(1) - hard)"""}},
    "masking.mask_words": {
        "other shares of the draw": {"mask_words": """
            chosen = (choose > 1 - rate) & torch.stack([tokens != i for i in special]).all(0)
            masked = tokens.clone()
            masked[chosen & (kind > 0.2)] = mask_id
            other = chosen & (kind < 0.1)
            masked[other] = words[other]
            return masked, chosen"""},
        "by multiplication": {"mask_words": """
            chosen = choose < rate
            for i in special:
                chosen = chosen & (tokens != i)
            hide, swap = chosen * (kind < 0.8), chosen * (0.9 < kind)
            return tokens * ~(hide + swap) + mask_id * hide + words * swap, chosen"""}},
    "ema.teacher": {
        "one by one": {"update_teacher": """
            for theirs, ours in zip(teacher.parameters(), student.parameters()):
                theirs.mul_(momentum).add_(ours, alpha=1 - momentum)"""},
        "switched off one by one": {"make_teacher": """
            teacher = copy.deepcopy(student)
            for parameter in teacher.parameters():
                parameter.requires_grad = False
            return teacher.train(False)"""}},
    "feature_queue.queue": {
        "row by row": {"FeatureQueue.push": """
            for row in zip(image, text, ids):
                self.image[self.pointer], self.text[self.pointer], self.ids[self.pointer] = row
                self.pointer = (self.pointer + 1) % len(self.ids)
                self.filled = min(self.filled + 1, len(self.ids))"""},
        "by shifting": {
            "FeatureQueue.push": """
                for name, new in (("image", image), ("text", text), ("ids", ids)):
                    setattr(self, name, torch.cat([new.flip(0), getattr(self, name)])[:len(self.ids)])
                self.filled = min(self.filled + len(ids), len(self.ids))""",
            "FeatureQueue.features": "return tuple(x[:self.filled] for x in (self.image, self.text, self.ids))"}},
}
