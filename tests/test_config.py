import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from helpers.material import ROOT

import fastnst.config
from fastnst.cli import main
from fastnst.config import (
    FilterOptions,
    LossWeights,
    OptimizeConfig,
    ReconstructConfig,
    SheetConfig,
    StylizeBenchmark,
    StylizeOptions,
    TrainConfig,
    check_range,
    layer_weights,
    seconds,
)
from fastnst.config.ranges import Checked, Range
from fastnst.config.train import SPEEDS
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
    "StyleOptions.mix": "the number of styles, and what their networks can be mixed of",
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


def wrong_values(kind: Any) -> list[Any]:
    """What an option of this annotation must refuse, of each kind of mistake."""
    wrong: list[Any] = [object(), {"a": 1}, b"text", np.zeros((2, 3)), ["a", ("b",)]]
    parts = [kind]  # the annotation and all that it is made of
    for part in parts:
        parts += get_args(part)
    if type(None) not in parts:
        wrong.append(None)
    if any(get_origin(part) is Literal for part in parts):
        return [*wrong, "lab", "", 0, True]
    if not {str, Path} & {part for part in parts if isinstance(part, type)}:
        wrong += ["many", "", complex(1)]
    if bool in parts:
        return [*wrong, 0, 1, "true"]
    return [*wrong, True, *([16.5] if int in parts else [])]


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
    assert {*layer_weights(defaults.gram_layers), *defaults.content_layers} <= set(layer_names())


@pytest.mark.parametrize("options", OPTIONS)
def test_defaults_of_all_options_are_valid(options):
    given = required(options)
    defaults = {field.name: field.default for field in fields(options) if field.name not in given}

    made = options(**given)

    assert {name: getattr(made, name) for name in defaults} == defaults


@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_refuses_values_of_another_kind_by_its_name(options):
    given = required(options)
    for field in fields(options):
        for wrong in wrong_values(field.type):
            with pytest.raises(UsageError, match=f"^(--)?{field.name.replace('_', '-')}(:| is| has) ") as caught:
                options(**{**given, field.name: wrong})
            assert len(str(caught.value)) < 500


@pytest.mark.parametrize("options", OPTIONS)
def test_every_choice_is_taken_and_no_other(options):
    given = required(options)
    for field in fields(options):
        kinds = [kind for kind in (field.type, *get_args(field.type)) if get_origin(kind) is Literal]
        for choice in (choice for kind in kinds for choice in get_args(kind)):
            assert getattr(options(**{**given, field.name: choice}), field.name) == choice
            with pytest.raises(UsageError, match=f"--{field.name.replace('_', '-')} is .* but must be .*{choice}"):
                options(**{**given, field.name: f"{choice}-"})


def test_a_wrong_word_is_told_the_choices():
    with pytest.raises(UsageError, match=r"^--preserve-color is 'lab' but must be luma or histogram$"):
        StylizeOptions(preserve_color="lab")
    with pytest.raises(UsageError, match=r"^--strength is '0\.5' but must be a number$"):
        StylizeOptions(strength="0.5")
    with pytest.raises(UsageError, match=r"^--mask is an array of float64 \(2, 3\) but must be a path$"):
        StylizeOptions(mask=np.zeros((2, 3)))
    with pytest.raises(UsageError, match=r"^https://example\.org/a\.jpg is an address, .* not fetched"):
        SheetConfig("https://example.org/a.jpg", output="b.jpg")


def test_numbers_of_numpy_sequences_and_single_values_are_plain_afterwards():
    made = StylizeOptions(strength=np.float32(0.5), quality=np.int64(90), skip_existing=np.bool_(True))
    several = OptimizeConfig("a.jpg", "b.jpg", output="c.jpg", scales=[64, np.int32(128)], content_layers="a:1, b")

    assert (made.strength, made.quality, made.skip_existing) == (0.5, 90, True)
    assert {type(made.strength), type(made.quality), type(made.skip_existing)} == {float, int, bool}
    assert (several.style, several.scales, several.content_layers) == ((Path("b.jpg"),), (64, 128), ("a:1", "b"))
    assert FilterOptions(output="a.png", filters="0,3-5,3").filters == (0, 3, 4, 5)
    assert FilterOptions(output="a.png", filters=range(2)).filters == (0, 1)
    assert StylizeBenchmark(size=64, preset=["fast"]) == StylizeBenchmark(size=(64,), preset=("fast",))
    assert TrainConfig("a.jpg", content="b", output="c.safetensors", vgg=Path("v")).vgg == "v"


def test_weights_of_an_unknown_form_are_a_usage_error():
    with pytest.raises(UsageError, match="loss is 'johnson' but must be relative, paper or gatys"):
        LossWeights.resolve("johnson")


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


def test_speeds_of_presets_are_those_of_the_benchmark_in_help_and_pages(capsys):
    main(["train", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    table = (ROOT / "docs" / "benchmarks.md").read_text()
    readme = (ROOT / "README.md").read_text()
    training = " ".join((ROOT / "docs" / "training.md").read_text().split())
    measured = {
        preset: float(re.search(rf"`{preset}`, ONNX Runtime \|[^|]*\|[^|]*\|[^|]*\| ([\d.]+)", table)[1])
        for preset in SPEEDS
    }

    assert measured == SPEEDS
    fast, tiny = (round(times) for times in SPEEDS.values())
    assert f"fast and tiny stylize about {fast} and {tiny} times as fast" in words
    assert f"`fast` paints about {fast} and `tiny` about {tiny} times as fast" in training
    assert f"paints about {fast} times as fast" in " ".join(readme.split())
    for preset, times in SPEEDS.items():
        assert re.search(rf"`{preset}` \|[^|]*\|[^|]*\| {times} \|", readme)


def test_help_tells_the_default_weights(capsys):
    main(["train", "--help"])

    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    relative, paper = DEFAULT_WEIGHTS["relative"], DEFAULT_WEIGHTS["paper"]
    assert relative.content == paper.content
    assert f"content term [default: {relative.content:g}]" in words
    assert f"[default: relative {relative.style:g}, paper {paper.style:g}]" in words
    assert f"[default: relative {relative.tv:g}, paper 1e-6]" in words
    assert paper.tv == 1e-6
