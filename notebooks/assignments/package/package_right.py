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
                torch.einsum("bhnk,bkhd->bnhd", self.dropout(weights), v).flatten(2))"""}},
    "vision.block": {
        "the other way round": {"Block.forward": """
            y = self.attn(self.norm1(x)) + x
            return self.mlp(self.norm2(y)) + y"""}},
    "vision.vit": {
        "flattened": {"PatchEmbed.forward": "return self.proj(image).flatten(2).transpose(1, 2)"}},
    "text.text_layer": {
        "step by step": {"TextLayer.forward": """
            taken = self.dropout(self.attn(x, x, keep))
            x = self.norm1(taken + x)
            return self.norm2(self.dropout(self.mlp(x)) + x)"""}},
    "fusion.fusion_layer": {
        "all read, some kept": {"FusionLayer.forward": """
            x = self.norm1(x + self.dropout(self.attn(x, keep=keep)))[:, :queries]
            x, keys_values, image_keep = take_rows(x, keys_values, image_keep, texts, images)
            x = self.norm_cross(x + self.dropout(self.cross(
                x, keep=image_keep, keys_values=keys_values)))
            return self.norm2(x + self.dropout(self.mlp(x)))"""}},
    "losses.itc_loss": {
        "by torch": {"soft_cross_entropy": """
            return F.cross_entropy(logits, target, reduction="none")"""}},
    "losses.hard_negatives": {
        "by torch.multinomial": {"hard_negatives": """
            valid = ~own.all(-1)
            p = sim.masked_fill(own, -torch.inf).softmax(-1)
            return p.masked_fill(~valid[:, None], 1.0).multinomial(1)[:, 0], valid"""}},
    "losses.itm_loss": {
        "valid rows picked": {"itm_loss": """
            return (F.cross_entropy(logits[valid], labels[valid], reduction="sum")
                    / count)"""}},
    "losses.mlm_loss": {
        "one target": {"mlm_loss": """
            target = F.one_hot(labels, logits.shape[-1]).float()
            if teacher_logits is not None:
                target = torch.lerp(target, teacher_logits.softmax(-1), alpha)
            return F.cross_entropy(logits, target, reduction="sum") / (count or 1)"""}},
    "masking.mask_words": {
        "other shares of the draw": {"mask_words": """
            chosen = ((choose > 1 - rate)
                      & torch.stack([tokens != i for i in special]).all(0))
            masked = tokens.clone()
            masked[chosen & (kind > 0.2)] = mask_id
            other = chosen & (kind < 0.1)
            masked[other] = words[other]
            return masked, chosen"""}},
    "ema.teacher": {
        "one by one": {"update_teacher": """
            for theirs, ours in zip(teacher.parameters(), student.parameters()):
                theirs.mul_(momentum).add_(ours, alpha=1 - momentum)"""}},
    "feature_queue.queue": {
        "row by row": {"FeatureQueue.push": """
            for row in zip(image, text, ids):
                self.image[self.pointer], self.text[self.pointer], self.ids[
                    self.pointer] = row
                self.pointer = (self.pointer + 1) % len(self.ids)
                self.filled = min(self.filled + 1, len(self.ids))"""}},
}
