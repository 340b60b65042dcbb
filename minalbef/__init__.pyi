# what `import minalbef` offers, for lazy_loader, editors and mypy
from . import datasets as datasets
from . import losses as losses
from . import recipes as recipes
from . import scenes as scenes
from . import tasks as tasks
from . import viz as viz
from .albef import ALBEF as ALBEF
from .config import Config as Config
from .data import Record as Record
from .datasets.prepare import prepare as prepare
from .datasets.store import Records as Records
from .feature_queue import FeatureQueue as FeatureQueue
from .fusion import Fusion as Fusion
from .layers import MLP as MLP
from .layers import Attention as Attention
from .presets import preset as preset
from .recipes.evaluate import evaluate as evaluate
from .recipes.finetune import finetune as finetune
from .recipes.pretrain import pretrain as pretrain
from .system.checkpoint import save as save
from .system.tokenizer import Tokenizer as Tokenizer
from .tasks.decoder import Decoder as Decoder
from .tasks.run import Run as Run
from .tasks.run import load as load
from .text import TextEncoder as TextEncoder
from .vision import ViT as ViT
from .weights.original import load_original as load_original

__version__: str
