"""IPython runs this as a chapter's kernel starts: its widgets' controls are moved, as by a learner.

A widget ends its cell in an error if no control changes its image, if the image is too small to be
read, or if image and controls don't fit a window. What is moved is put back, random numbers, too.
"""


def _move_widgets() -> None:
    import io
    import random

    import numpy as np
    import torch
    from PIL import Image

    from minalbef.viz import live

    row = 36  # pixels: a control in JupyterLab, with its margins
    window = 900  # a small laptop's

    def sizes(image) -> tuple[float, float]:
        """The image's width and height on the screen in pixels, at most as high as it may be."""
        width, height = Image.open(io.BytesIO(image.value)).size
        across = 96 * float(image.layout.width.removesuffix("in"))
        highest = float(image.layout.max_height.removesuffix("px"))
        return across, min(across * height / width, highest)

    def other_values(control) -> list:
        """Values that a learner may choose next."""
        if hasattr(control, "options"):
            values = []
            for option in control.options:
                values.append(option[1] if isinstance(option, tuple) else option)
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
        width, height = sizes(image)
        assert width >= 200 and height >= 60, f"a widget's image is {width:.0f} x {height:.0f}"
        assert height + row * len(controls) <= window, (
            f"image and {len(controls)} controls don't fit a window"
        )
        python = random.getstate()
        numpy = np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            assert follows(image, controls), (
                f"no control changes the widget's image: {', '.join(controls)}"
            )
        random.setstate(python)
        np.random.set_state(numpy)
        return image, note

    show = live.live
    live.live = show_and_move


_move_widgets()
del _move_widgets
