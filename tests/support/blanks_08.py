"""Chapter 08's blanks, filled in other ways than its answers: right ones, and likely wrong ones."""

RIGHT = {
    "weighted_sum": """
        total = torch.zeros(())
        for name, loss in losses.items():
            total = total + loss * (weights[name] if name in weights else 1)
        return total
    """,
    "lr_at": """
        way = max(0, step - config.warmup_steps) / (config.steps - config.warmup_steps)
        low, high = config.lr_end, config.lr
        cosine = high - (high - low) * math.sin(math.pi * way / 2) ** 2
        return cosine if step >= config.warmup_steps else np.interp(
            step, [0, config.warmup_steps], [config.lr_start, high])
    """,
    "decay_and_share": """
        share = 1
        if "patch_embed" in name:
            share = config.stem_lr
        if "temperature" in name:
            share = config.temperature_lr
        if name.endswith(("temperature", "cls_token", "pos_embed")) or p.ndim == 1:
            return [0, share]
        return [config.weight_decay, share]
    """,
    "after_step": """
        limits = config.temperature_min, config.temperature_max
        task.student.temperature.copy_(task.student.temperature.clamp(*limits))
        image, text, ids = carry
        task.queue.push(image, text, ids)
        for slow, fast in zip(task.teacher.parameters(), task.student.parameters()):
            slow.lerp_(fast, 1 - config.teacher_momentum)
    """,
    "accumulate": """
        rows = [len(labels) for _, labels in parts]
        for (x, labels), n in zip(parts, rows):
            (n / sum(rows) * F.cross_entropy(model(x), labels)).backward()
    """,
    "draws_of": "return np.random.default_rng((seed, step)).random(n)",
}
WRONG = {
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
