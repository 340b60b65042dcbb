"""GPUs and what their makers say of them; a CPU to compare them with."""
from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """Memory in GiB, its bandwidth in GB/s, and dense products in TFLOP/s, by precision.

    bf16, tf32: 0 where the card has none. fp16 is for comparison: minalbef trains in bf16 or fp32
    link: GB/s to the other GPUs of the machine, one way: NVLink, or else PCIe
    """

    memory: float
    bandwidth: float
    bf16: float
    tf32: float
    fp32: float
    link: float
    fp16: float = 0.0                 # 0: as bf16

    def peak(self, precision: str) -> float:
        """TFLOP/s of products in "bf16" or "fp32", which is never TF32 here."""
        return self.bf16 if precision == "bf16" else self.fp32


# From NVIDIA's data sheets, for GeForce its Ampere (GA102), Ada and Blackwell architecture papers,
# and AMD's data sheet of the MI300X. Where a sheet gives the figure "with sparsity", half of it.
# The CPU was measured: two cores of an AMD EPYC (`minalbef bench step`, 2026-11-29).
GPUS = {
    "B200": GPU(180, 8000, 2250, 1125, 75, 900),
    "H200": GPU(141, 4800, 989, 494, 67, 450),
    "H100": GPU(80, 3350, 989, 494, 67, 450),
    "H100-PCIe": GPU(80, 2000, 756, 378, 51, 64),
    "A100-80": GPU(80, 2039, 312, 156, 19.5, 300),
    "A100-40": GPU(40, 1555, 312, 156, 19.5, 300),
    "MI300X": GPU(192, 5300, 1307, 654, 163, 448),
    "L40S": GPU(48, 864, 362, 183, 91.6, 32),
    "A6000": GPU(48, 768, 155, 77.4, 38.7, 32),
    "L4": GPU(24, 300, 121, 60, 30.3, 32),
    "A10": GPU(24, 600, 125, 62.5, 31.2, 32),
    "RTX-5090": GPU(32, 1792, 209, 105, 105, 64),
    "RTX-4090": GPU(24, 1008, 165, 82.6, 82.6, 32),
    "RTX-3090": GPU(24, 936, 71, 35.6, 35.6, 32),
    "V100-32": GPU(32, 900, 0, 0, 15.7, 150, fp16=125),
    "V100-16": GPU(16, 900, 0, 0, 15.7, 150, fp16=125),
    "T4": GPU(16, 320, 0, 0, 8.1, 16, fp16=65),
    "CPU": GPU(8, 20, 0, 0, 0.185, 2),
}


def card_name(name: str) -> str | None:
    """The table's name of a card, for torch's, such as "NVIDIA H100 80GB HBM3"."""
    words = name.upper().replace("-", " ").replace("GB", " ").split()
    matches = []
    for key in GPUS:
        if all(word in words for word in key.upper().replace("-", " ").split()):
            matches.append(key)
    return max(matches, key=len) if matches else None


def gpu_named(name: str) -> GPU | None:
    """The card of the table for torch's name of a GPU."""
    key = card_name(name)
    return GPUS[key] if key else None
