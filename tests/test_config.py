import json
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import fastnst.config
from fastnst.cli import main
from fastnst.config import ReconstructConfig, StylizeOptions, TrainConfig, check_range, seconds
from fastnst.config.ranges import Checked, Range
from fastnst.errors import UsageError
from fastnst.losses import DEFAULT_WEIGHTS
from fastnst.nets.spec import PRESETS
from fastnst.vgg import layer_names

EXPORTED = [getattr(fastnst.config, name) for name in fastnst.config.__all__]
OPTIONS = [
    kind
    for kind in EXPORTED
    if is_dataclass(kind) and issubclass(kind, Checked) and kind.__dataclass_params__.init  # else part of others
]
REQUIRED = {
    **dict.fromkeys(("image", "photo", "content", "style"), "a.jpg"),
    "folder": "photos",
    "output": "b.safetensors",
}
# Numbers without a Range, and what bounds them instead.
BOUND_OTHERWISE = {
    "FilterOptions.filters": "the channels of the layer, known when the network is open",
    "FeatureOptions.filters": "the channels of the layer, known when the network is open",
    "OptimizeConfig.scales": "the size of the result",
    "OptimizeConfig.blend": "the number of styles and a sum above 0, in the loss",
    "TradeoffConfig.depths": "the number of style layers",
    "SweepConfig.style_weight": "TrainConfig, of which each run has one",
    "SweepConfig.content_weight": "TrainConfig, of which each run has one",
    "SweepConfig.tv_weight": "TrainConfig, of which each run has one",
    "SweepConfig.style_size": "TrainConfig, of which each run has one",
}


def required(options: Any) -> dict[str, str]:
    """A value for each field that has no default, and what commands with two pictures ask for."""
    names = {field.name for field in fields(options) if field.default is field.default_factory is MISSING}
    if issubclass(options, fastnst.config.ContentAndStyles):
        names |= {"content", "style"}
    return {name: REQUIRED[name] for name in names}


def is_number(kind: Any) -> bool:
    return kind in (int, float) or any(map(is_number, get_args(kind)))


def config(**options: object) -> TrainConfig:
    return TrainConfig(
        Path("painting.jpg"), **{"content": Path("photos"), "output": Path("a/wave.safetensors"), **options}
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("size", 31),
        ("size", 4097),
        ("batch_size", 0),
        ("steps", 0),
        ("style_size", 31),
        ("content_weight", -1.0),
        ("style_weight", float("inf")),
        ("tv_weight", float("nan")),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("workers", 0),
        ("save_every", 0),
        ("preview_every", 0),
        ("held_out", -1),
        ("held_out", 25),
        ("seed", -1),
    ],
)
def test_value_out_of_range_is_a_usage_error_that_names_its_flag(option, value):
    with pytest.raises(UsageError, match=rf"--{option.replace('_', '-')} is {value} but must be"):
        config(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"), [("strength", 1.01), ("strength", -0.01), ("quality", 0), ("quality", 101), ("max_size", 15)]
)
def test_stylize_value_out_of_range_is_a_usage_error_that_names_its_flag(option, value):
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} is {value} but must be"):
        StylizeOptions(**{option: value})


@pytest.mark.parametrize("name", ["wave", "wave.pth", "wave.onnx"])
def test_output_must_be_a_safetensors_file(name):
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        config(output=Path(name))


def test_check_range_says_what_would_fit():
    with pytest.raises(UsageError, match=r"^--tile-size is 9 but must be at least 10 and at most 20$"):
        check_range("tile_size", 9, 10, 20)


def test_check_range_takes_its_ends_and_none():
    check_range("n", 10, 10, 20)
    check_range("n", 20, 10, 20)
    check_range("n", None, 10, 20)


def test_log_folder_state_and_name_follow_the_output():
    paths = config()

    assert paths.log_folder == Path("a/wave")
    assert paths.state_path == Path("a/wave.state.safetensors")
    assert paths.style_name == "wave"


def test_log_folder_and_name_may_be_given():
    paths = config(logdir=Path("logs"), name="great-wave")

    assert paths.log_folder == Path("logs")
    assert paths.style_name == "great-wave"


def test_train_config_is_plain_json_with_every_option():
    values = config().to_json()

    assert json.loads(json.dumps(values)) == values
    assert values.keys() == {name for name in TrainConfig.__dataclass_fields__ if name != "_"}


def test_defaults_exist_in_the_networks_they_name():
    defaults = config()

    assert defaults.preset in PRESETS
    assert set(defaults.style_layers + defaults.content_layers) <= set(layer_names())


@pytest.mark.parametrize("options", OPTIONS)
def test_defaults_of_all_options_are_valid(options):
    given = required(options)
    defaults = {field.name: field.default for field in fields(options) if field.name not in given}

    made = options(**given)

    assert {name: getattr(made, name) for name in defaults} == defaults


def test_every_number_has_a_range_or_is_bound_otherwise():
    boundless = {
        f"{options.__name__}.{field.name}"
        for options in OPTIONS
        for field in fields(options)
        if is_number(field.type) and not any(isinstance(extra, Range) for extra in get_args(field.type))
    }

    assert boundless == BOUND_OTHERWISE.keys()


@pytest.mark.parametrize(("option", "value"), [("size", 15), ("iterations", 0)])
def test_reconstruct_has_the_ranges_of_other_descents(option, value):
    with pytest.raises(UsageError, match=f"--{option} is {value} but must be at least"):
        ReconstructConfig(image="a.jpg", output="b.jpg", **{option: value})


@pytest.mark.parametrize(
    ("text", "length"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("8h", 28_800), ("1h30m", 5400), ("1d2h", 93_600)]
)
def test_lengths_of_time_are_seconds(text, length):
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "h", "-5", "8 hours", "30m8h", "nan", "1e3", "0"])
def test_a_time_limit_that_is_none_is_a_usage_error(text):
    with pytest.raises(UsageError):
        config(time_limit=text)


def test_a_wrong_time_limit_exits_2_and_says_what_is_right(capsys):
    assert main(["train", "a.jpg", "--content", "b", "-o", "c.safetensors", "--time-limit", "soon"]) == 2

    assert "'soon' is not a length of time; give seconds, or for example 30m, 8h or 1h30m" in capsys.readouterr().err


def test_paths_may_be_given_as_text_in_python():
    assert TrainConfig("a.jpg", content="photos", output="b.safetensors") == TrainConfig(
        Path("a.jpg"), content=Path("photos"), output=Path("b.safetensors")
    )


def test_presets_that_may_be_chosen_are_those_there_are():
    assert set(get_args(get_type_hints(TrainConfig)["preset"])) == PRESETS.keys()


def test_help_tells_the_default_weights(capsys):
    main(["train", "--help"])

    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    relative, paper = DEFAULT_WEIGHTS["relative"], DEFAULT_WEIGHTS["paper"]
    assert relative.content == paper.content
    assert f"content term [default: {relative.content:g}]" in words
    assert f"[default: relative {relative.style:g}, paper {paper.style:g}]" in words
    assert f"[default: relative {relative.tv:g}, paper 1e-6]" in words
    assert paper.tv == 1e-6
