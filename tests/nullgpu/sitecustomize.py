"""Python runs this first in each process on the null GPU, since the folder is on its path."""
import torch

torch.backends.cuda.enable_cudnn_sdp(False)
