"""IPython runs this as a chapter's kernel starts: its widgets' controls are moved, as by a learner.

A widget ends its cell in an error if no control changes its image, or if it doesn't fit a window.
What is moved is put back, random numbers, too.
"""


def _move_widgets() -> None:
    import random

    import numpy as np
    import torch

    from minalbef.viz import live

    row = 36  # pixels: a control in JupyterLab, with its margins
    window = 900  # a small laptop's

    def other_values(control) -> list:
        """Values that a learner may choose next."""
        if hasattr(control, "options"):
            return [option[1] if isinstance(option, tuple) else option for option in control.options]
        if hasattr(control, "max"):
            return [control.min, control.max, control.min + control.step]
        if isinstance(control.value, bool):
            return [not control.value]
        return ["a red apple left of a big cat", "a zebra"]

    def follows(image, controls: dict) -> bool:
        """Whether a control changes the image."""
        before = image.value
        for control in controls.values():
            first = control.value
            for value in other_values(control):
                control.value = value
                changed = image.value != before
                control.value = first
                if changed:
                    return True
        return False

    def show_and_move(*figure, **controls):
        image, note = show(*figure, **controls)
        height = float(image.layout.max_height.removesuffix("px"))
        assert height + row * len(controls) <= window, "image and controls don't fit a window"
        python = random.getstate()
        numpy = np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            assert follows(image, controls), f"no control changes the image: {list(controls)}"
        random.setstate(python)
        np.random.set_state(numpy)
        return image, note

    show = live.live
    live.live = show_and_move


_move_widgets()
del _move_widgets
