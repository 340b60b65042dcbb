"""The GPU that is not there minds its tensors as one would that is."""
import pytest
import torch
from torch import nn

from card import CUDA, card


@pytest.mark.parametrize("mixed", [
    lambda x: x + torch.ones(3), lambda x: torch.cat([x, torch.ones(3)]),
    lambda x: nn.Linear(3, 2).to("cuda")(torch.ones(3)),
    lambda x: x.index_select(0, torch.tensor([1])), lambda x: torch.where(torch.ones(3) > 0, x, x), lambda x: x.numpy(),
    lambda x: x.pin_memory(), lambda x: torch.rand(3, generator=torch.Generator(), device=CUDA), lambda x: x.cpu() * x,
    lambda x: torch.arange(3, device=x.device) + torch.arange(3)])
def test_what_mixes_places_fails_as_on_a_gpu(mixed):
    with card():
        x = torch.ones(3).to("cuda")
        with pytest.raises((RuntimeError, TypeError)):
            mixed(x)


def test_what_a_gpu_allows_is_allowed_and_stays_there():
    with card():
        x, layer = torch.tensor([1.0, 2, 3], device="cuda"), nn.Linear(3, 2).to("cuda")
        assert torch.cuda.is_available() and x.is_cuda and not x.is_cpu and x.device == layer.weight.device == CUDA
        for y in (layer(x), x[torch.tensor([0, 2])], x * torch.tensor(2.0), torch.zeros_like(x), x.view(1, 3), x > 2,
                  torch.ones(3).to(x), torch.ones(3, dtype=torch.double).to(device=CUDA, dtype=torch.half)):
            assert y.device == CUDA
        layer(x).sum().backward()
        assert layer.weight.grad.device == CUDA and x.cpu().device.type == torch.ones(3).device.type == "cpu"
        assert x.cpu().numpy().tolist() == x.tolist() == [1, 2, 3]


def test_an_optimiser_steps_where_torch_is_built_for_cuda_and_no_driver_is_there(monkeypatch):
    def no_driver(*_):
        raise RuntimeError("Found no NVIDIA driver on your system")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: CUDA)
    monkeypatch.setattr(torch.accelerator, "current_stream", no_driver)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", no_driver)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)    # torch 2.6 asks this and torch.cuda
    with card():
        layer = nn.Linear(3, 2).to("cuda")
        layer(torch.ones(4, 3, device="cuda")).sum().backward()
        before = layer.bias.clone()
        torch.optim.AdamW(layer.parameters(), lr=0.1).step()
        assert not before.equal(layer.bias) and layer.bias.is_cuda
