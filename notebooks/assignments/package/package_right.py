"""By module and seam: other right bodies, by the functions that have them, which must not
lose its points."""

RIGHT: dict[str, dict[str, dict[str, str]]] = {
    "layers.attention": {
        "by einsum, on one way": {"Attention.forward": """
            source = x if source is None else source
            offered = keys_values or (self.k(source), self.v(source))
            q, k, v = (part.unflatten(-1, (self.heads, -1))
                       for part in (self.q(x), *offered))
            scores = torch.einsum("bnhd,bkhd->bhnk", q, k) * q.shape[-1] ** -0.5
            if keep is not None:
                scores = scores + torch.where(keep[:, None] if keep.ndim == 3
                                              else keep[:, None, None], 0.0, -1e9)
            weights = scores.softmax(-1)
            if self.record is not None:
                self.record.append(weights)
            return self.proj(
                torch.einsum("bhnk,bkhd->bnhd", self.dropout(weights), v).flatten(2))"""},
        "head by head": {"Attention.forward": """
            source = x if source is None else source
            k, v = keys_values or (self.k(source), self.v(source))
            taken = []
            seen = []
            for q, keys, values in zip(*(part.chunk(self.heads, -1)
                                         for part in (self.q(x), k, v))):
                scores = q @ keys.mT / q.shape[-1] ** 0.5
                if keep is not None:
                    scores = scores.masked_fill(~(keep if keep.ndim == 3
                                                  else keep[:, None]), -torch.inf)
                seen.append(scores.softmax(-1))
                taken.append(self.dropout(seen[-1]) @ values)
            if self.record is not None:
                self.record.append(torch.stack(seen, 1))
            return self.proj(torch.cat(taken, -1))"""},
        "exponentials, divided at the end": {"Attention.forward": """
            source = x if source is None else source
            offered = keys_values or (self.k(source), self.v(source))
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                       for part in (self.q(x), *offered))
            scores = q @ k.mT * q.shape[-1] ** -0.5
            if keep is not None:
                scores = scores.masked_fill(~(keep[:, None] if keep.ndim == 3
                                              else keep[:, None, None]), -torch.inf)
            mass = (scores - scores.amax(-1, keepdim=True)).exp()
            total = mass.sum(-1, keepdim=True)
            if self.record is not None:
                self.record.append(mass / total)
            return self.proj(rearrange(self.dropout(mass) @ v / total,
                                       "b h n d -> b n (h d)"))"""}},
    "vision.block": {
        "the other way round": {"Block.forward": """
            y = self.attn(self.norm1(x)) + x
            return self.mlp(self.norm2(y)) + y"""},
        "GELU by the error function": {"MLP.forward": """
            y = self.fc1(x)
            return self.fc2(y * (1 + (y / 2 ** 0.5).erf()) / 2)"""},
        "norms by hand": {"Block.forward": """
            def normed(x, norm):
                x = x - x.mean(-1, keepdim=True)
                return (x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
                        * norm.weight + norm.bias)
            x = x + self.attn(normed(x, self.norm1))
            return x + self.mlp(normed(x, self.norm2))"""},
        "picture by picture": {"Block.forward": """
            made = []
            for one in x:
                one = one + self.attn(self.norm1(one)[None])[0]
                made.append(one + self.mlp(self.norm2(one)))
            return torch.stack(made)"""}},
    "vision.vit": {
        "flattened": {"PatchEmbed.forward": "return self.proj(image).flatten(2).transpose(1, 2)"},
        "places apart": {"ViT.attend": """
            first = (self.cls_token + self.pos_embed[:, :1]).repeat(
                patches.shape[0], 1, 1)
            x = torch.cat((first, patches + self.pos_embed[:, 1:]), dim=1)
            for block in self.blocks:
                x = block(x)
            return self.norm(x)"""},
        "by unfold": {"PatchEmbed.forward": """
            side = self.proj.kernel_size[0]
            return F.linear(F.unfold(image, side, stride=side).mT,
                            self.proj.weight.flatten(1), self.proj.bias)"""},
        "patch by patch": {"PatchEmbed.forward": """
            side = self.proj.stride[0]
            patches = [patch for row in image.split(side, 2)
                       for patch in row.split(side, 3)]
            return torch.stack([self.proj(patch).flatten(1) for patch in patches], 1)"""},
        "padded in front": {"ViT.attend": """
            x = (F.pad(patches, (0, 0, 1, 0))
                 + F.pad(self.cls_token, (0, 0, 0, patches.shape[1])) + self.pos_embed)
            for i in range(len(self.blocks)):
                x = self.blocks[i](x)
            return self.norm(x)"""}},
    "text.text_layer": {
        "step by step": {"TextLayer.forward": """
            taken = self.dropout(self.attn(x, x, keep))
            x = self.norm1(taken + x)
            return self.norm2(self.dropout(self.mlp(x)) + x)"""},
        "a mask for each pair": {"TextLayer.forward": """
            x = self.norm1(
                x
                + self.dropout(self.attn(
                                   x, keep=keep[:, None].expand(-1, x.shape[1], -1))))
            return self.norm2(x + self.dropout(self.mlp(x)))"""},
        "sentence by sentence, padding cut off": {"TextLayer.forward": """
            made = []
            for words, there in zip(x, keep):
                y = self.norm1(
                    words + self.dropout(self.attn(words[None], words[None, there])[0]))
                made.append(self.norm2(y + self.dropout(self.mlp(y))))
            return torch.stack(made)"""},
        "by functions": {"TextLayer.forward": """
            def normed(x, norm):
                return F.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, norm.eps)
            x = normed(x
                       + self.dropout(self.attn(x, keep=keep,
                                                keys_values=(self.attn.k(x),
                                                             self.attn.v(x)))),
                       self.norm1)
            y = F.gelu(F.linear(x, self.mlp.fc1.weight, self.mlp.fc1.bias))
            return normed(x + self.dropout(F.linear(y, self.mlp.fc2.weight,
                                                    self.mlp.fc2.bias)), self.norm2)"""}},
    "fusion.fusion_layer": {
        "all read, some kept": {"FusionLayer.forward": """
            x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))[:, :queries]
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
            x = self.norm_cross(x + self.dropout(self.cross(
                x, keep=image_keep, keys_values=keys_values)))
            return self.norm2(x + self.dropout(self.mlp(x)))"""},
        "the other way round": {"FusionLayer.forward": """
            y = self.attn(x[:, :queries], x, keep)
            x = self.norm1(self.dropout(y) + x[:, :queries])
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
            y = self.cross(x, None, image_keep, keys_values)
            x = self.norm_cross(self.dropout(y) + x)
            return self.norm2(self.dropout(self.mlp(x)) + x)"""},
        "word by word": {"FusionLayer.forward": """
            import torch
            asking = [self.attn(x[:, i:i + 1], x, keep)
                      for i in range(x[:, :queries].shape[1])]
            x = self.norm1(self.dropout(torch.cat(asking, 1)) + x[:, :queries])
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
            x = self.norm_cross(x + self.dropout(self.cross(
                x, keep=image_keep, keys_values=keys_values)))
            return self.norm2(x + self.dropout(self.mlp(x)))"""},
        "text by text": {"FusionLayer.forward": """
            import torch
            x = self.norm1(x[:, :queries] + self.dropout(self.attn(x[:, :queries], x, keep)))
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
            made = []
            for i, words in enumerate(x.split(1)):
                y = self.cross(words,
                               keep=None if image_keep is None else image_keep[i:i + 1],
                               keys_values=[part[i:i + 1] for part in keys_values])
                words = self.norm_cross(words + self.dropout(y))
                made.append(self.norm2(words + self.dropout(self.mlp(words))))
            return torch.cat(made)"""}},
    "losses.itc_loss": {
        "by torch": {"soft_cross_entropy": """
            return F.cross_entropy(logits, target, reduction="none")"""},
        "divergence and entropy": {"soft_cross_entropy": """
            divergence = F.kl_div(F.log_softmax(logits, -1), target, reduction="none")
            return (divergence + torch.special.entr(target)).sum(-1)"""},
        "targets between two": {"itc_targets": """
            return torch.lerp(F.normalize(positive.float(), p=1, dim=-1),
                              teacher_sim.softmax(-1), alpha)"""},
        "query by query": {"itc_loss": """
            losses = []
            for i, (logits, opinion) in enumerate(zip(sim, teacher_sim)):
                own = [i] if positive is None else positive[i].nonzero()[:, 0].tolist()
                target = alpha * opinion.softmax(0)
                for key in own:
                    target[key] += (1 - alpha) / len(own)
                losses.append(logits.logsumexp(0) - logits @ target)
            return sum(losses) / len(losses)"""},
        "mass by mass": {"itc_loss": """
            if positive is None:
                positive = torch.arange(sim.shape[1]) == torch.arange(len(sim))[:, None]
            log_p = sim - sim.logsumexp(1, keepdim=True)
            hard = (log_p * positive).sum(1) / positive.sum(1)
            return (-(hard * (1 - alpha)
                      + alpha * (teacher_sim.softmax(1) * log_p).sum(1)).mean())"""}},
    "losses.hard_negatives": {
        "by torch.multinomial": {"hard_negatives": """
            valid = ~own.all(-1)
            p = sim.masked_fill(own, -torch.inf).softmax(-1)
            return p.masked_fill(~valid[:, None], 1.0).multinomial(1)[:, 0], valid"""},
        "a race of exponentials": {"hard_negatives": """
            p = sim.masked_fill(own, -torch.inf).softmax(-1)
            return ((-uniform.log() / p).nan_to_num(torch.inf).argmin(-1),
                    own.logical_not().any(-1))"""},
        "by the running sum": {"hard_negatives": """
            mass = sim.double().masked_fill(own, -torch.inf).softmax(-1).cumsum(-1)
            return (mass < uniform[:, :1] * mass[:, -1:]).sum(-1), ~own.all(-1)"""},
        "by torch.distributions": {"hard_negatives": """
            valid = ~own.all(-1)
            logits = torch.where(own & valid[:, None], -torch.inf, sim)
            return torch.distributions.Categorical(logits=logits).sample(), valid"""},
        "by torch's Gumbel softmax": {"hard_negatives": """
            drawn = F.gumbel_softmax(sim.masked_fill(own, -torch.inf),
                                     hard=True).argmax(-1)
            return drawn, own.sum(-1) < own.shape[-1]"""}},
    "losses.itm_loss": {
        "valid rows picked": {"itm_loss": """
            return (F.cross_entropy(logits[valid], labels[valid], reduction="sum")
                    / count)"""},
        "invalid rows ignored by their label": {"itm_loss": """
            return F.cross_entropy(logits, labels.masked_fill(~valid, -100),
                                   reduction="sum") / count"""},
        "row by row": {"itm_loss": """
            total = 0
            for row, label, counts in zip(logits, labels.tolist(), valid.tolist()):
                if counts:
                    total = total + row.logsumexp(0) - row[label]
            return total / count"""},
        "one hot": {"itm_loss": """
            hot = F.one_hot(labels, 2) * valid[:, None]
            log_p = logits - logits.logsumexp(1, keepdim=True)
            return -torch.einsum("rc,rc->", hot.to(logits.dtype), log_p) / count"""}},
    "losses.mlm_loss": {
        "one target": {"mlm_loss": """
            target = F.one_hot(labels, logits.shape[-1]).float()
            if teacher_logits is not None:
                target = torch.lerp(target, teacher_logits.softmax(-1), alpha)
            return F.cross_entropy(logits, target, reduction="sum") / (count or 1)"""},
        "by picking": {"distilled_cross_entropy": """
            log_p = logits.log_softmax(-1)
            hard = -log_p.gather(1, labels[:, None])[:, 0]
            if teacher_logits is None or not alpha:
                return hard
            return hard + alpha * (-(teacher_logits.softmax(-1) * log_p).sum(1) - hard)"""},
        "two sums": {"mlm_loss": """
            log_p = logits.log_softmax(-1)
            count = float(count) or 1.0
            trust = 0.0 if teacher_logits is None else alpha
            loss = (1 - trust) * F.nll_loss(log_p, labels, reduction="sum")
            if trust:
                loss = loss - trust * torch.einsum("mv,mv->",
                                                   F.softmax(teacher_logits, 1), log_p)
            return loss / count"""},
        "word by word": {"mlm_loss": """
            loss = logits.sum() * 0
            for i, label in enumerate(labels.tolist()):
                target = torch.zeros_like(logits[i])
                target[label] = 1.0
                if teacher_logits is not None:
                    target = (1 - alpha) * target + alpha * teacher_logits[i].softmax(0)
                loss = loss + logits[i].logsumexp(0) - target @ logits[i]
            return loss / count if count else loss"""}},
    "masking.mask_words": {
        "other shares of the draw": {"mask_words": """
            chosen = ((choose > 1 - rate)
                      & torch.stack([tokens != i for i in special]).all(0))
            masked = tokens.clone()
            masked[chosen & (kind > 0.2)] = mask_id
            other = chosen & (kind < 0.1)
            masked[other] = words[other]
            return masked, chosen"""},
        "picked from three": {"mask_words": """
            common = (tokens[..., None]
                      == torch.tensor(special,
                                      device=tokens.device)).any(-1).logical_not()
            chosen = common.logical_and(choose.lt(rate))
            behind = torch.bucketize(
                kind,
                torch.tensor([0.8, 0.9], device=kind.device)).masked_fill(~chosen, 2)
            three = torch.stack([torch.full_like(tokens, mask_id), words, tokens])
            return three.gather(0, behind[None])[0], chosen"""},
        "text by text": {"mask_words": """
            rates = torch.as_tensor(rate).expand(tokens.shape)
            made = []
            never = torch.zeros(int(tokens.max()) + max(special) + 1, dtype=torch.bool)
            never[list(special)] = True
            chosen = (choose < rates) & ~never[tokens]
            for text, hidden, fate, other in zip(tokens, chosen, kind, words):
                at = hidden.nonzero()[:, 0]
                now = text.clone()
                now[at[fate[at] < 0.8]] = mask_id
                swapped = at[(fate[at] >= 0.8) & (fate[at] < 0.9)]
                made.append(now.index_copy(0, swapped, other[swapped]))
            return torch.stack(made), chosen"""},
        "words first, [MASK] last": {"mask_words": """
            chosen = ~sum(tokens == i for i in special).bool() & (rate > choose)
            masked = tokens.masked_scatter(chosen & (kind < 0.9),
                                           words[chosen & (kind < 0.9)])
            return masked.masked_fill(chosen & (kind < 0.8), mask_id), chosen"""}},
    "ema.teacher": {
        "one by one": {"update_teacher": """
            for theirs, ours in zip(teacher.parameters(), student.parameters()):
                theirs.mul_(momentum).add_(ours, alpha=1 - momentum)"""},
        "switched off one by one": {"make_teacher": """
            teacher = copy.deepcopy(student)
            for parameter in teacher.parameters():
                parameter.requires_grad = False
            return teacher.train(False)"""},
        "the difference taken off": {"update_teacher": """
            for theirs, ours in zip(teacher.parameters(), student.parameters()):
                theirs -= (1 - momentum) * (theirs - ours)"""},
        "as one long row": {"update_teacher": """
            theirs = torch.cat([p.flatten() for p in teacher.parameters()])
            ours = torch.cat([p.flatten() for p in student.parameters()])
            moved = torch.lerp(ours, theirs, momentum).split(
                [p.numel() for p in teacher.parameters()])
            for old, new in zip(teacher.parameters(), moved):
                old.copy_(new.view_as(old))"""}},
    "feature_queue.queue": {
        "row by row": {"FeatureQueue.push": """
            for row in zip(image, text, ids):
                self.image[self.pointer], self.text[self.pointer], self.ids[
                    self.pointer] = row
                self.pointer = (self.pointer + 1) % len(self.ids)
                self.filled = min(self.filled + 1, len(self.ids))"""},
        "by shifting": {
            "FeatureQueue.push": """
                for name, new in (("image", image), ("text", text), ("ids", ids)):
                    setattr(self, name,
                            torch.cat([new.flip(0), getattr(self, name)])[
                                :len(self.ids)])
                self.filled = min(self.filled + len(ids), len(self.ids))""",
            "FeatureQueue.features": """
                part = slice(self.filled)
                return self.image[part], self.text[part], self.ids[part]"""},
        "up to the end, then from the start": {"FeatureQueue.push": """
            size = len(self.ids)
            while len(ids):
                room = size - self.pointer
                for held, new in ((self.image, image), (self.text, text),
                                  (self.ids, ids)):
                    held[self.pointer:self.pointer + len(new[:room])] = new[:room]
                self.filled = max(self.filled, self.pointer + len(ids[:room]))
                self.pointer = (self.pointer + len(ids[:room])) % size
                image = image[room:]
                text = text[room:]
                ids = ids[room:]"""},
        "a list of rows": {
            "FeatureQueue.push": """
                rows = zip(image.clone(), text.clone(), ids.clone())
                self.rows = [*getattr(self, "rows", []), *rows][-len(self.ids):]""",
            "FeatureQueue.features": """
                return tuple(torch.stack(side) for side in zip(*self.rows))"""}},
}
