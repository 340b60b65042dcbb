import torch

torch.set_num_threads(2)              # small matrices gain nothing from more, and other work shares the machine
