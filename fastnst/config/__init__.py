"""Every option once: a field is a flag of the command line, its docstring the help text, its value part of the file.

Nothing here imports torch, so that help and usage errors need no training packages.
"""

from fastnst.config.batch import BatchOptions
from fastnst.config.dream import DreamConfig, FeatureOptions, FilterOptions
from fastnst.config.evaluate import EvaluateOptions, StylizeBenchmark, TrainBenchmark
from fastnst.config.export import ExportOptions, Family, ImportOptions, PixelValues
from fastnst.config.finetune import FinetuneConfig
from fastnst.config.optimize import (
    GATYS_CONTENT,
    GATYS_STYLE,
    ContentAndStyles,
    DescentOptions,
    OptimizeConfig,
    ReconstructConfig,
    TradeoffConfig,
)
from fastnst.config.ranges import check_range, seconds
from fastnst.config.serve import ServeLimits, ServeOptions
from fastnst.config.shared import CONTENT_LAYERS, LISTED, STYLE_LAYERS, MaskOptions, OneImage, layer_weights
from fastnst.config.site import SiteOptions
from fastnst.config.stylize import (
    ChannelOrder,
    ClipOptions,
    EngineName,
    OnnxOptions,
    OnnxValues,
    SheetConfig,
    StyleOptions,
    StylizeOptions,
)
from fastnst.config.train import Preset, SweepConfig, TrainConfig, TrainOptions
from fastnst.config.weights import DEFAULT_STYLE_LAYERS, DEFAULT_WEIGHTS, OPTIMIZED_STYLE, LossForm, LossWeights, TVForm

__all__ = [
    "CONTENT_LAYERS",
    "DEFAULT_STYLE_LAYERS",
    "DEFAULT_WEIGHTS",
    "GATYS_CONTENT",
    "GATYS_STYLE",
    "LISTED",
    "OPTIMIZED_STYLE",
    "STYLE_LAYERS",
    "BatchOptions",
    "ChannelOrder",
    "ClipOptions",
    "ContentAndStyles",
    "DescentOptions",
    "DreamConfig",
    "EngineName",
    "EvaluateOptions",
    "ExportOptions",
    "Family",
    "FeatureOptions",
    "FilterOptions",
    "FinetuneConfig",
    "ImportOptions",
    "LossForm",
    "LossWeights",
    "MaskOptions",
    "OneImage",
    "OnnxOptions",
    "OnnxValues",
    "OptimizeConfig",
    "PixelValues",
    "Preset",
    "ReconstructConfig",
    "ServeLimits",
    "ServeOptions",
    "SheetConfig",
    "SiteOptions",
    "StyleOptions",
    "StylizeBenchmark",
    "StylizeOptions",
    "SweepConfig",
    "TVForm",
    "TradeoffConfig",
    "TrainBenchmark",
    "TrainConfig",
    "TrainOptions",
    "check_range",
    "layer_weights",
    "seconds",
]
