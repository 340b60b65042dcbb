"""IPython runs this as the kernel of a chapter starts: the controls of its widgets are then moved, as by a learner.

A widget whose image nothing changes ends its cell in an error. What is moved is put back, random numbers, too.
"""


def _move_widgets() -> None:
    import random

    import numpy as np
    import torch

    from minalbef.viz import live

    def other_values(control) -> list:
        """Values that a learner may choose next."""
        if hasattr(control, "options"):
            values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        elif hasattr(control, "max"):
            values = [control.min, control.max, control.min + control.step]
        elif isinstance(control.value, bool):
            values = [not control.value]
        else:
            values = ["a red apple left of a big cat", "a zebra"]
        return [value for value in values if value != control.value]

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
        python, numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            assert follows(image, controls), f"no control changes the widget's image: {', '.join(controls)}"
        random.setstate(python)
        np.random.set_state(numpy)
        return image, note

    show, live.live = live.live, show_and_move


_move_widgets()
del _move_widgets
