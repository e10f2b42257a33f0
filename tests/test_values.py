"""Words and values given to functions: what they are called, and which are refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst import Stylizer
from fastnst.config import LossWeights
from fastnst.device import onnx_providers, pick_precision, torch_device
from fastnst.engine import open_engine
from fastnst.errors import UsageError
from fastnst.losses import PerceptualLoss, roughness
from fastnst.values import in_words, listed
from fastnst.vgg import VGGFeatures


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lab", "'lab'"),
        (1.5, "1.5"),
        (None, "None"),
        ("x" * 99, "'" + "x" * 55 + " ..."),
        ([1], "a list"),
        (Fraction(1, 2), "a Fraction"),
        (np.zeros((2, 3), np.uint8), "an array of uint8 (2, 3)"),
        (torch.zeros(3), "a Tensor of torch.float32 (3)"),
        (Image.new("L", (2, 2)), "an Image"),
    ],
)
def test_values_are_named_shortly(value, words):
    assert in_words(value) == words


def test_choices_are_listed():
    assert (listed(["a", "b", "c"]), listed([17, 18]), listed(["a"])) == ("a, b or c", "17 or 18", "a")


@pytest.fixture(scope="module")
def features():
    return VGGFeatures(["relu1_2"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: Stylizer.open(engine="x"), "engine is 'x' but must be auto, torch or onnx"),
        (lambda _: Stylizer.open(device="gpu"), "device is 'gpu' but must be auto, cpu or cuda"),
        (lambda _: Stylizer.open(5), "a style is 5 but must be the name of a bundled one or a path"),
        (lambda _: Stylizer.open(onnx={"onnx_input": "1"}), "onnx is a dict but must be OnnxOptions"),
        (lambda _: Stylizer.open("great-wave", mix="1"), r"mix is '1' but must be one share for each style"),
        (lambda _: Stylizer.open(["great-wave", "cafe-terrace"], mix=["a", 1]), "--mix is 'a', 1 but must be"),
        (lambda _: Stylizer.open("great-wave", mix=0.5), r"mix is 0\.5 but must be one share for each style"),
        (lambda _: Stylizer.open("https://example.org/a//b.onnx"), r"^https://example\.org/a//b\.onnx is an address"),
        (lambda _: open_engine(engine="tensorflow"), "engine is 'tensorflow'"),
        (lambda _: torch_device("mps"), "device is 'mps'"),
        (lambda _: onnx_providers("CUDA"), "device is 'CUDA'"),
        (
            lambda _: pick_precision("half", torch.device("cpu")),
            "precision is 'half' but must be auto, fp32, bf16 or fp16",
        ),
        (lambda _: VGGFeatures(["relu1_2"], pooling="mean"), "pooling is 'mean' but must be max or average"),
        (lambda net: net(np.zeros((1, 3, 64, 64))), r"pictures are an array of float64 \(1, 3, 64, 64\) but must be"),
        (lambda net: net(torch.zeros(3, 64, 64)), r"torch.float32 \(3, 64, 64\) but must be .* \(N, 3, H, W\)"),
        (lambda net: net(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)), "torch.uint8"),
        (
            lambda net: PerceptualLoss(net, torch.zeros(1, 3, 64, 64), LossWeights(1, 1, 1), "johnson"),
            "form is 'johnson' but must be relative, paper or gatys",
        ),
        (
            lambda net: PerceptualLoss(net, torch.zeros(1, 3, 64, 64), LossWeights(1, 1, 1), tv_form="l1"),
            "tv_form is 'l1' but must be squared or power",
        ),
        (lambda _: roughness(torch.zeros(1, 3, 8, 8), "l1"), "form is 'l1'"),
    ],
)
def test_wrong_words_to_functions_are_usage_errors(features, call, message):
    with pytest.raises(UsageError, match=message):
        call(features)
