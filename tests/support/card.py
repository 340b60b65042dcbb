"""A pretended GPU for machines without one: tensors know where they are, and mixing devices fails as on a real one.

Blind to what torch does inside a function of its own, in backward and in optimisers; numbers and speed are the CPU's.
"""
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda", 0)
DEVICE, IS_CUDA, IS_CPU = Tensor.device.__get__, Tensor.is_cuda.__get__, Tensor.is_cpu.__get__
SET_DATA = Tensor.data.__set__
# rows may be counted on the CPU, copies cross over, and nn.Module.to asks whether what it moved is like it was
MIXED = (Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_, torch._has_compatible_shallow_copy_type)


class OnCard(Tensor):
    """What torch makes of such a tensor is one, too, by `Card`; in a file it is like any other."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __reduce_ex__(self, protocol):
        return self.as_subclass(Tensor).__reduce_ex__(protocol)

    def __format__(self, spec: str) -> str:
        return self.as_subclass(Tensor).__format__(spec)


def here(x) -> bool:
    """Is it on the card? A parameter is where its data was put."""
    return isinstance(x, OnCard) or isinstance(x, nn.Parameter) and getattr(x, "on_card", False)


def tensors(x, found: list[Tensor]) -> list[Tensor]:
    """All that stand in nested tuples, lists and dicts, added to a list. It is asked of every call."""
    if isinstance(x, Tensor):
        found.append(x)
    elif isinstance(x, (tuple, list)):
        for part in x:
            tensors(part, found)
    elif isinstance(x, dict):
        for part in x.values():
            tensors(part, found)
    return found


class Card(TorchFunctionMode):
    """Meanwhile "cuda" is there. Its numbers are the CPU's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == DEVICE:
            return CUDA if here(args[0]) else func(*args)
        if func == SET_DATA and isinstance(args[0], nn.Parameter):            # what nn.Module.to does
            args[0].on_card = here(args[1])
            return func(args[0], args[1].as_subclass(Tensor))
        if func == IS_CUDA:
            return here(args[0])
        if func == IS_CPU:
            return func(*args) and not here(args[0])             # "meta" is neither
        if func is Tensor.numpy and here(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.pin_memory:
            if here(args[0]):
                raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
            return args[0]
        if func is Tensor.cpu:
            return args[0].detach().as_subclass(Tensor) if here(args[0]) else args[0]
        if func is Tensor.to and args[1:] and isinstance(args[1], Tensor):    # as another tensor is
            args = args[0], CUDA if here(args[1]) else "cpu", args[1].dtype, *args[2:]
        places = [x for x in (*args[1:], *kwargs.values()) if isinstance(x, (str, torch.device))
                  and str(x)[:4] in ("cuda", "cpu")]
        if func is Tensor.to and places:
            def stays(x):
                return "cpu" if x is places[0] else x
            moved = args[0].to(*map(stays, args[1:]), **{key: stays(x) for key, x in kwargs.items()})
            return moved.as_subclass(OnCard if torch.device(places[0]).type == "cuda" else Tensor)
        if places and "device" in kwargs:
            if kwargs.get("generator") is not None and torch.device(kwargs["device"]).type == "cuda":
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
            made = func(*args, **kwargs | {"device": "cpu"})
            return made.as_subclass(OnCard) if torch.device(kwargs["device"]).type == "cuda" else made
        seen = tensors(kwargs, tensors(args, []))
        if not any(map(here, seen)):
            return func(*args, **kwargs)
        given = [x for x in seen if x.dim()]
        if func in MIXED:
            given = given[:1]
        if any(map(here, given)) and not all(map(here, given)):
            raise RuntimeError(f"{getattr(func, '__name__', func)}: expected all tensors to be on the same device, but "
                               f"found "
                               f"{[(tuple(x.shape), 'cuda' if here(x) else 'cpu') for x in given]}")
        if kwargs.get("generator") is not None and any(map(here, given)):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        made = func(*args, **kwargs)
        if type(made) is Tensor:
            return made.as_subclass(OnCard)
        return tree_map(lambda x: x.as_subclass(OnCard) if type(x) is Tensor else x, made)


@contextmanager
def card():
    """Meanwhile this machine has one GPU, as far as torch.cuda is asked here; autocast is the CPU's.

    Optimisers ask torch.accelerator for a stream, which torch's CUDA build can't give without a driver: they find none.
    """
    autocast = torch.autocast
    with mock.patch.multiple(torch.cuda, is_available=lambda: True, device_count=lambda: 1,
                             set_device=lambda device: None, synchronize=lambda device=None: None,
                             get_device_name=lambda device=None: "a card that is not there",
                             max_memory_allocated=lambda device=None: 10 ** 9,
                             is_current_stream_capturing=lambda: False,
                             is_bf16_supported=lambda including_emulation=True: False), \
            mock.patch.object(torch.accelerator, "current_accelerator", lambda check_available=False: None), \
            mock.patch.object(torch, "autocast", lambda device, *rest, **more: autocast("cpu", *rest, **more)), Card():
        yield
