"""emojiscenes: an endless world of emoji scenes with captions, truth and problems; no torch.

`Scenes` draws scenes with captions, `Problems` the problems of five tasks, `paint` a scene's image,
and `truth` says which captions are true of which scenes. Everything is a pure function of its
arguments, on every machine. It needs numpy and pillow.
"""
from emojiscenes.language import Object, Scene
from emojiscenes.painting import paint
from emojiscenes.problems import Problems
from emojiscenes.scenes import Drawn, Scenes, truth

__all__ = ["Drawn", "Object", "Problems", "Scene", "Scenes", "paint", "truth"]
