"""Python runs this first in each process on the null GPU, since the folder is on its path."""
import os

import torch

torch.backends.cuda.enable_cudnn_sdp(False)
if "WORLD_SIZE" in os.environ:
    # DDP's processes tell each other shapes and the order of gradients, and NCCL sends nothing here
    from torch.distributed import Reducer
    from torch.nn.parallel import distributed
    distributed._verify_param_shape_across_processes = lambda *arguments: None
    Reducer._rebuild_buckets = lambda reducer: False
