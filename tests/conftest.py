import torch

torch.set_num_threads(1)              # small matrices gain nothing from more, and waiting threads slow a shared machine
