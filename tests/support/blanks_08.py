"""Chapter 08's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""
RIGHT = {
    "weighted_sum": ["""
        total = torch.zeros(())
        for name, loss in losses.items():
            total = total + loss * (weights[name] if name in weights else 1)
        return total""", """
        return sum(losses.values()) + sum((weight - 1) * losses[name] for name, weight in weights.items())"""],
    "lr_at": ["""
        way = max(0, step - config.warmup_steps) / (config.steps - config.warmup_steps)
        low, high = config.lr_end, config.lr
        cosine = high - (high - low) * math.sin(math.pi * way / 2) ** 2
        return cosine if step >= config.warmup_steps else np.interp(
            step, [0, config.warmup_steps], [config.lr_start, high])""", """
        if step <= config.warmup_steps:
            share = step / config.warmup_steps
            return (1 - share) * config.lr_start + share * config.lr
        angle = torch.tensor(math.pi * (step - config.warmup_steps) / (config.steps - config.warmup_steps),
                             dtype=torch.float64)
        return (config.lr_end + config.lr) / 2 + (config.lr - config.lr_end) / 2 * torch.cos(angle)"""],
    "decay_and_share": ["""
        share = 1
        if "patch_embed" in name:
            share = config.stem_lr
        if "temperature" in name:
            share = config.temperature_lr
        if name.endswith(("temperature", "cls_token", "pos_embed")) or p.ndim == 1:
            return [0, share]
        return [config.weight_decay, share]"""],
    "after_step": ["""
        limits = config.temperature_min, config.temperature_max
        task.student.temperature.copy_(task.student.temperature.clamp(*limits))
        image, text, ids = carry
        task.queue.push(image, text, ids)
        for slow, fast in zip(task.teacher.parameters(), task.student.parameters()):
            slow.lerp_(fast, 1 - config.teacher_momentum)"""],
    "accumulate": ["""
        rows = [len(labels) for _, labels in parts]
        for (x, labels), n in zip(parts, rows):
            (n / sum(rows) * F.cross_entropy(model(x), labels)).backward()""", """
        for x, labels in parts:
            F.cross_entropy(model(x), labels, reduction="sum").backward()
        for p in model.parameters():
            p.grad /= sum(len(x) for x, _ in parts)"""],
    "draws_of": ["return np.random.default_rng((seed, step)).random(n)", """
        with torch.random.fork_rng():
            torch.manual_seed(step * 1000 + seed)
            return torch.rand(n)""", """
        own = random.Random(f"{seed}/{step}")
        return [own.random() for _ in range(n)]""", """
        generator = torch.Generator().manual_seed(hash((seed, step)))
        return torch.rand(n, generator=generator)"""]}
WRONG = {
    "weighted_sum": ["return sum(losses.values())",
                     "return sum(weights.get(name, 0.0) * loss for name, loss in losses.items())",
                     "return sum(weights.get(name, 1.0) * loss.item() for name, loss in losses.items())",
                     "return sum(weights.get(name, 1.0) * loss for name, loss in losses.items()) / len(losses)", """
        total = sum(weights.get(name, 1.0) for name in losses)
        return sum(weights.get(name, 1.0) / total * loss for name, loss in losses.items())"""],
    "lr_at": ["""
        if step < config.warmup_steps:
            return config.lr * step / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * way)) / 2""", """
        if step < config.warmup_steps:
            return config.lr_start + (config.lr - config.lr_start) * step / config.warmup_steps
        way = step / config.steps
        return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * way)) / 2""", """
        if step < config.warmup_steps:
            return config.lr_start + (config.lr - config.lr_start) * step / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - 1 - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * way)) / 2""", """
        if step < config.warmup_steps:
            return config.lr_start + (config.lr - config.lr_start) * (step + 1) / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * way)) / 2""", """
        if step < config.warmup_steps:
            return config.lr_start + (config.lr - config.lr_start) * step / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr * (1 + math.cos(math.pi * way)) / 2""", """
        if step < config.warmup_steps:
            return config.lr_start + (config.lr - config.lr_start) * step / config.warmup_steps
        way = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
        return config.lr_end + (config.lr - config.lr_end) * (1 - way)"""],
    "decay_and_share": [
        ("""
        decay = config.weight_decay if p.ndim > 1 else 0.0
        share = config.temperature_lr if "temperature" in name else 1.0
        return decay, config.stem_lr if "patch_embed" in name else share""", "cls_token"),
        ("""
        still = p.ndim < 2 or "pos_embed" in name or "cls_token" in name
        share = config.temperature_lr if "temperature" in name else 1.0
        return 0.0 if still else config.weight_decay, config.stem_lr if "patch_embed" in name else share""",
         "text_encoder.embeddings.pos_embed"),
        ("""
        last = name.split(".")[-1]
        still = p.ndim < 2 or last in ("temperature", "cls_token", "pos_embed")
        return 0.0 if still else config.weight_decay, config.stem_lr if "patch_embed" in name else 1.0""",
         "temperature"),
        ("""
        last = name.split(".")[-1]
        still = p.ndim < 2 or last in ("temperature", "cls_token", "pos_embed")
        share = config.stem_lr if "patch_embed" in name and not still else 1.0
        return (0.0 if still else config.weight_decay,
                config.temperature_lr if last == "temperature" else share)""", "patch_embed"),
        """
        last = name.split(".")[-1]
        still = p.ndim < 2 or last in ("temperature", "cls_token", "pos_embed")
        share = config.temperature_lr if last == "temperature" else 1.0
        return config.weight_decay if still else 0.0, config.stem_lr if "patch_embed" in name else share"""],
    "after_step": [
        ("""
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        task.queue.push(*carry)""", "teacher's temperature"),
        ("""
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        minalbef.ema.update_teacher(task.teacher, task.student, 1 - config.teacher_momentum)
        task.queue.push(*carry)""", "teacher's"),
        ("""
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        minalbef.ema.update_teacher(task.student, task.teacher, config.teacher_momentum)
        task.queue.push(*carry)""", "student's"),
        ("""
        task.student.temperature.clamp(config.temperature_min, config.temperature_max)
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)
        task.queue.push(*carry)""", "temperature"),
        ("""
        task.student.temperature.clamp_(max=config.temperature_max)
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)
        task.queue.push(*carry)""", "temperature"),
        ("""
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)""", "queue"),
        ("""
        task.student.temperature.clamp_(config.temperature_min, config.temperature_max)
        minalbef.ema.update_teacher(task.teacher, task.student, config.teacher_momentum)
        task.queue.push(carry[1], carry[0], carry[2])""", "queue")],
    "accumulate": [
        ("""
        for x, labels in parts:
            F.cross_entropy(model(x), labels).backward()""", "gradient"),
        ("""
        for x, labels in parts:
            (F.cross_entropy(model(x), labels) / len(parts)).backward()""", "gradient"),
        ("""
        count = sum(len(x) for x, _ in parts)
        for x, labels in parts:
            model.zero_grad()
            (F.cross_entropy(model(x), labels, reduction="sum") / count).backward()""", "gradient"),
        ("""
        for x, labels in parts:
            F.cross_entropy(model(x), labels, reduction="sum").backward()""", "gradient"),
        ("""
        x, labels = map(torch.cat, zip(*parts))
        F.cross_entropy(model(x), labels).backward()""", "rows kept at once"),
        ("""
        count = sum(len(x) for x, _ in parts)
        sum(F.cross_entropy(model(x), labels, reduction="sum") / count for x, labels in parts).backward()""",
         "rows kept at once")],
    "draws_of": [
        ("return torch.rand(n)", "draws the same again"),
        ("""
        torch.manual_seed(1_000_003 * seed + step)
        return torch.rand(n)""", "global generators"),
        ("""
        np.random.seed(1_000_003 * seed + step)
        return np.random.rand(n)""", "global generators"),
        ("return torch.rand(n, generator=torch.Generator().manual_seed(seed + step))", "no two steps"),
        ("return torch.rand(n, generator=torch.Generator().manual_seed(seed * step))", "no two steps"),
        ("return torch.rand(n, generator=torch.Generator().manual_seed(step))", "no two steps"),
        ("return torch.rand(n, generator=torch.Generator().manual_seed(1000 * seed + step))", "no two steps"),
        ("return torch.rand(step + n, generator=torch.Generator().manual_seed(seed))[step:]", "no two steps"),
        ("return torch.randn(n, generator=torch.Generator().manual_seed(1_000_003 * seed + step))",
         "numbers from 0 to 1")]}
NEEDS: dict[str, list[str]] = {}
