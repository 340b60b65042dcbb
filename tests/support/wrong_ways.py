"""Likely wrong ways to fill the chapters' blanks: bodies of functions, by chapter and name."""

import sys
from pathlib import Path

# a blank of chapter 18 runs without the cell that adds this
sys.path.append(str(Path(__file__).parents[2] / "notebooks" / "experiments" / "after"))

WRONG = {}
# texts of the cells above a blank that run whole with it
NEEDS = {}

WRONG["00"] = {
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
WRONG["01"] = {
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
NEEDS["01"] = {
    "paint_by_hand": ["def sprite("],
    "left_of": ["claim, chance ="],
    "batch_by_hand": ["pool = ["],
    "is_minimal": ["claim, chance ="],
}
WRONG["02"] = {
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
WRONG["03"] = {
    "pieces": """
        cut, start = [], 0
        while start < len(word):
            for end in range(start + 1, len(word) + 1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in vocabulary:
                    break
            else:
                return ["[UNK]"]
            cut.append(piece)
            start = end
        return cut
    """,
    "merged": """
        new, i = [], 0
        while i < len(cut):
            pair = cut[i:i + 2] == [a, b]
            new.append(a + b if pair else cut[i])
            i += 2 if pair else 1
        return new
    """,
    "Embeddings": """
        class Embeddings(nn.Module):
            def __init__(self, config):
                super().__init__()
                self.word_embed = nn.Embedding(config.vocab_size, config.text_width, padding_idx=0)
                self.pos_embed = nn.Embedding(config.positions, config.text_width)
                self.type_embed = nn.Embedding(2, config.text_width)
                self.norm = nn.LayerNorm(config.text_width, eps=1e-12)

            def forward(self, tokens):
                words, l = self.word_embed(tokens), tokens.shape[1]
                return self.norm(words + self.pos_embed.weight[:l])
    """,
    "attend": "return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * keep[:, None] @ v",
    "padding_leaks": """
        alone = encoder(*tokenizer.encode(["a cat"]))[0]
        both = tokenizer.encode(["a cat", "a big dog left of a bee"])
        return not torch.equal(alone, encoder(*both)[0])
    """,
    "share_nearer": "return (own @ turned.T > own @ opposite.T).float().mean()",
}
WRONG["04"] = {
    "shares_by_formula": "return negatives.softmax(0)",
    "one_way": "return -(sim - sim.logsumexp(0, keepdim=True)).diagonal().mean()",
    "Ring": """
        class Ring(minalbef.FeatureQueue):
            @torch.no_grad()
            def push(self, image, text, ids):
                size, b = len(self.ids), len(ids)
                for one in zip(image, text, ids):
                    for slots, value in zip((self.image, self.text, self.ids), one):
                        slots[self.pointer] = value
                    self.pointer = (self.pointer + 1) % size
                    self.filled = self.filled + 1
    """,
    "slope_by_formula": """
        s = torch.tensor(cosines)
        return ((s / temperature).softmax(0) @ s - s[0]) / temperature ** 2
    """,
    "gap": """
        way, middle = image.mean(0) - text.mean(0), (image.mean(0) + text.mean(0)) / 2
        right = torch.cat([(image - middle) @ way > 0, (text - middle) @ way < 0])
        return way.norm().item(), right.float().mean().item()
    """,
    "recall_within": """
        found = (text @ image.T).argmax(1)
        return (found == torch.arange(len(text))).float().mean()
    """,
}
WRONG["05"] = {
    "make_teacher": "return student.requires_grad_(False).eval()",
    "update_teacher": """
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters()):
                slow.copy_((1 - momentum) * slow + momentum * fast)
    """,
    "shares": "return (1 - momentum) * momentum ** torch.arange(steps, -1, -1)",
    "itc_targets": "return (1 - alpha) * positive + alpha * teacher_sim.softmax(-1)",
    "word_loss": """
        return ((1 - alpha) * F.cross_entropy(logits, labels)
                + alpha * losses.soft_cross_entropy(logits, teacher.softmax(-1)))
    """,
    "even_alpha": "return 0.5",
}
WRONG["06"] = {
    "cross_attention": """
        q, k, v = layer.q(x), layer.k(source), layer.v(source)                     # one head
        return layer.proj(F.scaled_dot_product_attention(q, k, v))
    """,
    "fuse_words": """
        x = self.norm_cross(x + self.cross(x, image))
        x = self.norm1(x + self.attn(x, keep=keep))
        return self.norm2(x + self.mlp(x))
    """,
    "itm_pairs": """
        own = torch.arange(len(wrong_image))
        labels = torch.arange(3 * len(own)) < len(own)
        return torch.cat([own, wrong_image, own]), torch.cat([own, own, wrong_text]), labels
    """,
    "chances": "return sim.softmax(-1).masked_fill(own, 0)",
    "hard_negatives": "return (sim - torch.log(-torch.log(uniform))).argmax(-1), ~own.all(-1)",
    "false_negatives": "return (sim.softmax(-1) * true).sum(-1).mean()",
}
WRONG["07"] = {
    "hide_words": """
        chosen = choose < 0.15                               # special ones, too
        masked = torch.where(chosen & (kind < 0.8), special[-1], tokens)
        return torch.where(chosen & (kind >= 0.8) & (kind < 0.9), other, masked), chosen
    """,
    "none_masked": "return (1 - rate) ** lengths.float().mean()",
    "score_words": "return self.norm(F.gelu(self.dense(x))) @ word_table.T",
    "mlm_loss": "return F.cross_entropy(logits, labels)",
    "frequency_loss": "return math.log(len(counts))",
    "undo_rates": "return (log_p + rates.log()).log_softmax(-1)",
}
WRONG["08"] = {
    "weighted_sum": "return sum(losses.values())",
    "lr_at": """
        if step < config.warmup_steps:
            return config.lr * step / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * way)) / 2
    """,
    "decay_and_share": """
        decay = config.weight_decay if p.ndim > 1 else 0.0
        share = config.temperature_lr if "temperature" in name else 1.0
        return decay, config.stem_lr if "patch_embed" in name else share
    """,
    "after_step": """
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        task.queue.push(*carry)
    """,
    "accumulate": """
        for x, labels in parts:
            F.cross_entropy(model(x), labels).backward()
    """,
    "draws_of": "return torch.rand(n)",
}
WRONG["09"] = {
    "recall_with_ties": "return right.gather(1, scores.argmax(1, keepdim=True))[:, 0].float()",
    "others_expected": "return keys / pictures",
    "pull": "return sim.softmax(1) - positive / positive.sum(1, keepdim=True)",
    "itc_by_ids": """
        loss, positive = 0.0, torch.eye(len(ids), len(ids) + len(old_ids))       # the diagonal
        for query, keys, old, opinion in ((image, teacher_text, old_text, teacher_image),
                                          (text, teacher_image, old_image, teacher_text)):
            keys = torch.cat([keys, old]).T / raw.temperature.item()
            target = (1 - alpha) * positive + alpha * (opinion @ keys).softmax(-1)
            loss = loss + F.cross_entropy(query @ keys, target) / 2
        return loss
    """,
    "proposed": "return ranking.best(sim, k)",
    "rerank_by_hand": """
        new = torch.zeros_like(score)
        for row in range(len(sim)):
            first = sim[row].topk(k).indices
            new[row, first] = score[row, first]
        return new
    """,
}
NEEDS["09"] = {"itc_by_ids": ["folder = Path(run", "task = retrieval.Retrieval(config)"]}
WRONG["10"] = {
    "is_latin": "return all(set(line) == {0, 1, 2} for line in table)",
    "labels_by_hand": """
        labels = []
        for one in problems:
            told = {holds(one.form, world) for world in worlds(one.form, one.scene)}
            labels.append(1 if len(told) > 1 else 2 if True in told else 0)
        return labels
    """,
    "giveaway": "return (occurs.T @ F.one_hot(labels, 3).float()) / occurs.sum(0)[:, None]",
    "EntailmentModel": """
        words = self.albef.encode_text(tokens, keep)
        return self.head(self.albef.fuse(words, keep, self.albef.encode_image(image))[:, -1])
    """,
    "rows_of_pairs": """
        row = torch.arange(3 * squares)
        return row.repeat_interleave(3), row.repeat(3)
    """,
    "confusion": "return torch.bincount(3 * answers + labels, minlength=9).view(3, 3)",
}
NEEDS["10"] = {"labels_by_hand": ["folder = Path(run"], "EntailmentModel": ["folder = Path(run"]}
WRONG["11"] = {
    "accuracy_by_hand": "return min(annotators.count(answer) / 3, 1)",
    "causal": """
        before = torch.ones(keep.shape[1], keep.shape[1], dtype=torch.bool).tril()
        return before.expand(len(keep), -1, -1)
    """,
    "lowest_loss": "return -math.log(max(Counter(annotators).values()) / len(annotators))",
    "answer_loss": """
        target, kept = tokens[:, 1:], keep[:, 1:]
        each = F.cross_entropy(logits, target[kept], reduction="none")
        return torch.stack([part.mean() for part in each.split(kept.sum(1).tolist())])
    """,
    "in_pairs": """
        pairs = list(zip(said, said[1:], right, right[1:]))
        return (sum(a == b for a, b, _, _ in pairs) / len(pairs),
                sum((a, b) == (x, y) for a, b, x, y in pairs) / len(pairs))
    """,
    "greedy": """
        tokens = [begin]
        while len(tokens) < most:
            tokens.append(int(next_logits(tokens).argmax()))
            if tokens[-1] == end:
                return tokens[:-1]
        return tokens
    """,
}
WRONG["12"] = {
    "best_share": "return max(sum(true), len(true) - sum(true)) / len(true)",
    "combine": "return a * b, a + b, a * (1 - b) + b * (1 - a)",
    "TwoPictures": """
        patches, pairs = shown
        for i in range(0, len(self.layers), 2):
            tokens = patches[:, self.first:]
            keys, values = self.layers[i].cross.k(tokens), self.layers[i].cross.v(tokens)
            for layer in self.layers[i:i + 2]:
                own = pairs[:, 0]                                    # the left picture twice
                words = layer(words, keep, (keys[own], values[own]))
        return words
    """,
    "with_sides": "return patches[pairs].flatten(1, 2)",
    "deal": """
        label = torch.where(case <= 1 / 3, 2, torch.where(side > 0.5, 0, 1))
        return torch.where(label == 0, own, wrong), torch.where(label == 1, own, other), label
    """,
    "share_consistent": "return right.float().mean().item()",
}
NEEDS["12"] = {"TwoPictures": ["folder = Path(run"]}
WRONG["13"] = {
    "cam": "return (weights * gradients).mean(1)                          # no clamp",
    "relevance": """
        with torch.enable_grad(), record_weights(model.fusion, "cross") as weights:
            fused = model.fuse(text_tokens.detach().requires_grad_(), keep, image_tokens)

            gradient, = torch.autograd.grad(score(fused)[0], weights[layer])
        return gradcam.cam(weights[layer], gradient) * keep[:, :, None]
    """,
    "text_map": "return maps.mean(1)                                           # padding counts",
    "score_boxes": """
        heat = F.interpolate(heat[None, None], size=size, mode="bicubic")[0, 0]

        sums = [heat[x:x + w, y:y + h].sum() for x, y, w, h in boxes.clamp(min=0).tolist()]
        return torch.stack(sums) / boxes[:, 2:].prod(1) ** power
    """,
    "iou": """
        ends = torch.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
        shared = (ends - torch.maximum(a[..., :2], b[..., :2])).prod(-1)     # two negative sides
        return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)
    """,
    "to_report": """
        return test.mean(1).max()                                     # chosen on the test set
    """,
}
WRONG["14"] = {
    "bootstrap_by_hand": """
        answers = sample.flatten()                                    # single answers, not families
        rows = torch.randint(len(answers), (draws, len(answers)))
        return answers[rows].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    """,
    "gain_by_pairs": """
        spread = (new.var(ddof=1) + old.var(ddof=1)) ** 0.5           # unpaired
        return new.mean() - old.mean(), t * spread / len(new) ** 0.5
    """,
    "without_places": """
        return seen.mean(1, keepdim=True).expand_as(seen)             # [CLS] is averaged, too
    """,
}
WRONG["15"] = {
    "block_flops": "return 4 * n * d * d, 2 * n * n * d, 2 * r * n * d * d",
    "pass_loss": "return losses.mean()",
    "own_gradient": "return grads.mean(0).chunk(len(grads))[rank]",
}
WRONG["16"] = {
    "clean_title": "return title",
    "hold_out": "return [i % 10 == 0 for i in range(len(families))]",
    "choose_rate": "return min(sweep, key=lambda rate: min(sweep[rate]))",
    "stop_early": "return int(np.argmax(figures)), len(figures) - 1",
    "recall_at": "return true.gather(1, sim.argmax(1)[:, None]).float().mean().item()",
    "first_answers": "return sim.argmax(0).unique().numel()",
}
NEEDS["16"] = {
    "clean_title": ["def all_of("],
    "hold_out": ["def all_of("],
    "choose_rate": ["def all_of("],
    "stop_early": ["def all_of("],
    "recall_at": ["def all_of("],
    "first_answers": ["def all_of("],
}
WRONG["17"] = {
    "turned": """
        return ((odds - true).abs() > (odds - false).abs()).float().mean()
    """,
    "odds_with": """
        part, columns = find_part(some.run, head)

        def hook(part, arguments):
            x = arguments[0].clone()
            x[..., columns] = new[:, :x.shape[1]]
            return x

        handle = part.register_forward_pre_hook(hook)

        return some.odds(which)                                       # the hook stays
    """,
    "mean_output": """
        cls, words = output[:, 0].mean(0), output[:, 1:].mean((0, 1))          # padding counts
        return torch.stack([cls] + (output.shape[1] - 1) * [words])[None]
    """,
    "shift": """
        true, false = outputs_of(some, TRUE)[head], outputs_of(some, FALSE)[head]
        at = where[:, :true.shape[1], None]

        with replaced(some.run, {head: torch.where(at, true, false)}):
            return (some.odds(FALSE) - some.odds(FALSE)).mean()       # both patched
    """,
    "probe": """
        gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype)          # not centred
        weights = torch.linalg.solve(gram, x.T @ y)
        return weights, y.mean() - weights @ x.mean(0)
    """,
    "direction": """
        return weights / (weights @ weights)                          # along the reader itself
    """,
}
WRONG["18"] = {
    "pairs_loss": """
        sign = 2.0 * positive - 1
        return -F.logsigmoid(sign * logits).mean()                    # over pairs, not rows
    """,
    "best_of_all": """
        each = torch.einsum("ine,tle->itnl", image, text)

        return each.amax(3).mean(2), each.amax(2).mean(2)                 # padding counts in both
    """,
    "giou": """
        low = [box[:, :2] - box[:, 2:] / 2 for box in (a, b)]
        high = [box[:, :2] + box[:, 2:] / 2 for box in (a, b)]
        size = torch.minimum(*high) - torch.maximum(*low)
        around = (torch.maximum(*high) - torch.minimum(*low)).prod(1)

        shared = size.prod(1)
        union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared
        return shared / union - (around - union) / around
    """,
    "caption_odds": """
        log_p = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return (log_p * keep).sum(1)                                  # each word predicts itself
    """,
    "nucleus": """
        p, words = logits.softmax(-1).sort(-1, descending=True)
        return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, words, p.cumsum(-1) < share)
    """,
    "patches_first": """
        seen = F.pad(keep, (patches, 0), value=True)
        return seen[:, None].expand(-1, seen.shape[1], -1)            # all sees all
    """,
}
