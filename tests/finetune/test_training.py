import json
import math
import re
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS, ROOT, SMALL_RUN, small_material
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fastnst.checkpoint import load_checkpoint
from fastnst.cli import main
from fastnst.config import FinetuneConfig, TrainConfig
from fastnst.data import Photographs
from fastnst.errors import DivergedError, InputError, Interrupted, ModelError, OutputError, UsageError
from fastnst.finetune.classes import split
from fastnst.finetune.classifier import load_classifier
from fastnst.finetune.training import class_weights, confusion_matrix, finetune, weighted_cross_entropy
from fastnst.info import describe
from fastnst.train.loop import train
from fastnst.vgg import BUNDLED, VGGFeatures, layer_names

CLASSES = {
    "animals": "bison cat cow dog giraffe horse lemur macaw owl pika red-panda sheep",
    "buildings": "arles-amphitheater berlin-cathedral castle chateaude-chenonceau colosseum eiffel-tower "
    "gatewayof-india great-wallof-china memorial-at-night mont-st-michel red-pyramid reims-cathedral",
}
SMALL = shlex.split("--size 32 --batch-size 8 --precision fp32 --epochs 2")
LAST = [f"features.{layer_names().index(f'conv{block}_{index}')}" for block in (4, 5) for index in (1, 2, 3)]


def small_classes(folder: Path, **pictures: int) -> Path:
    """A folder with this number of small noisy pictures of each class, each class another color."""
    random = np.random.default_rng(0)
    for number, (name, count) in enumerate(pictures.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 60, (36, 40, 3), dtype=np.uint8)
            pixels[..., number % 3] += 150
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def animals_and_buildings(tmp_path_factory):
    """Twelve small photos of either."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, photos in CLASSES.items():
        (folder / name).mkdir()
        for photo in photos.split():
            with Image.open(PHOTOS / f"{photo}.jpg") as picture:
                picture.thumbnail((160, 160))
                picture.save(folder / name / f"{photo}.jpg")
    return folder


@pytest.fixture(scope="module")
def known(animals_and_buildings, tmp_path_factory):
    """What came of learning to tell animals from buildings with a new last layer."""
    output = tmp_path_factory.mktemp("known") / "known.safetensors"
    return finetune(
        FinetuneConfig(animals_and_buildings, output=output, range="last", size=96, held_out=0.4, precision="fp32")
    )


@pytest.fixture
def config(tmp_path):
    """A run that takes a second."""
    folder = small_classes(tmp_path / "pictures", red=6, green=4)
    return FinetuneConfig(folder, output=tmp_path / "w.safetensors", size=32, batch_size=4, precision="fp32", steps=3)


def test_weights_let_a_small_class_count_as_much_as_a_large_one():
    labels = torch.tensor([0, 0, 0, 1])

    weights = class_weights(labels, 2)

    torch.testing.assert_close(weights, torch.tensor([2 / 3, 2.0]))
    assert float(weights[labels].mean()) == pytest.approx(1)


def test_weighted_cross_entropy_of_a_known_case():
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[0.0, 0.0]] * 3 + [[0.0, math.log(3)]])  # 1/2 for the first class, 3/4 for the second

    loss = weighted_cross_entropy(logits, labels, class_weights(labels, 2))

    assert float(loss) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_confusion_counts_rows_of_classes_and_columns_of_answers():
    logits = torch.eye(3)[[0, 2, 1, 1]]

    assert confusion_matrix(logits, torch.tensor([0, 0, 1, 2])) == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]


def test_last_layer_tells_animals_from_buildings(known):
    assert known.meta.classes == ["animals", "buildings"]
    assert (known.meta.training, known.meta.held_out) == ([7, 7], [5, 5])
    assert known.meta.accuracy > 0.9
    assert sum(known.confusion[index][index] for index in (0, 1)) == round(10 * known.meta.accuracy)


def test_last_layer_leaves_the_convolutions_alone_bit_by_bit(known):
    source, file = load_file(BUNDLED), load_file(known.path)

    assert file.keys() == source.keys() | {"head.weight", "head.bias"}
    assert all(torch.equal(file[name], tensor) for name, tensor in source.items())
    image = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    layers = ["relu1_2", "relu4_3", "pool5"]
    own, expected = VGGFeatures(layers, known.path)(image), VGGFeatures(layers)(image)
    assert all(torch.equal(own[layer], expected[layer]) for layer in layers)


def test_kept_epoch_is_the_best_and_metrics_has_them_all(known):
    best = max(known.epochs, key=lambda report: (report.accuracy, -report.cross_entropy))
    lines = (known.path.with_suffix("") / "metrics.jsonl").read_text().splitlines()

    assert (known.meta.epoch, known.meta.cross_entropy) == (best.epoch, best.cross_entropy)
    assert [json.loads(line) for line in lines] == known.to_json()["epochs"]
    assert [report.epoch for report in known.epochs] == list(range(1, 51))


def test_file_classifies_as_reported(known, animals_and_buildings):
    model, meta = load_classifier(known.path)
    photographs = Photographs(animals_and_buildings, 96, seed=0)
    labels = torch.tensor([meta.classes.index(path.parent.name) for path in photographs.files])
    _, held_out = split(labels.tolist(), 0.4, seed=0)
    pixels = np.stack([photographs.middle(photographs.files[index]) for index in held_out])

    logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255)

    assert meta == known.meta
    assert confusion_matrix(logits, labels[held_out]) == known.confusion
    loss = torch.nn.functional.cross_entropy(logits, labels[held_out])
    assert float(loss) == pytest.approx(meta.cross_entropy, rel=1e-3)


def test_file_is_a_loss_network_to_train_with(known, tmp_path):
    material = small_material(tmp_path, photos=2)
    output = tmp_path / "s.safetensors"

    train(
        TrainConfig(
            material / "painting.png",
            content=material / "photos",
            output=output,
            **SMALL_RUN,
            style_size=64,
            steps=2,
            vgg=str(known.path),
        )
    )

    assert load_checkpoint(output)[1].steps == 2


def test_info_says_what_it_is_and_a_style_it_is_not(known):
    description = describe(known.path)

    assert (description["kind"], description["classes"], description["accuracy"]) == (
        "loss network",
        ["animals", "buildings"],
        known.meta.accuracy,
    )
    with pytest.raises(ModelError, match=r"known\.safetensors is a loss network .* give it to --vgg"):
        load_checkpoint(known.path)


@pytest.mark.parametrize(
    ("range", "moved"), [("blocks4-5", LAST), ("all", [f"features.{i}" for i in range(29)])], ids=["blocks", "all"]
)
def test_convolutions_of_the_range_move_and_no_others(config, range, moved):
    finetuned = finetune(replace(config, range=range))

    source, file = load_file(BUNDLED), load_file(config.output)
    changed = {name for name in source if not torch.equal(source[name], file[name])}
    assert changed == {name for name in source if name.rpartition(".")[0] in moved and name in changed}
    assert {name for name in source if name.endswith("weight") and name.rpartition(".")[0] in moved} <= changed
    assert [report.epoch for report in finetuned.epochs] == [0, 1, 2]  # two steps an epoch, the last is cut short
    assert finetuned.meta.epoch > 0
    with safe_open(config.output, framework="pt") as written, safe_open(BUNDLED, framework="pt") as before:
        kept = ("input", "license", "authors", "model")
        assert {key: written.metadata()[key] for key in kept} == {key: before.metadata()[key] for key in kept}
        assert f"--range {range}" in written.metadata()["changes"]


def test_same_seed_gives_the_same_bytes(config, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune(replace(config, output=tmp_path / folder / "w.safetensors", seed=seed, steps=2))

    a, b, c = ((tmp_path / folder / "w.safetensors").read_bytes() for folder in "abc")
    assert a == b
    assert a != c


def test_damaged_and_stray_pictures_are_left_out_with_a_warning(config, caplog):
    for name in ("broken.png", "deep/er/fine.png"):
        path = config.folder / "red" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((config.folder / "red" / "0.png").read_bytes()[: 2000 if name == "broken.png" else None])
    (config.folder / "red" / "notes.txt").write_text("none")
    (config.folder / "stray.png").write_bytes((config.folder / "red" / "0.png").read_bytes())
    (config.folder / "linked").symlink_to(config.folder / "red")
    (config.folder / ".hidden").mkdir()

    finetuned = finetune(replace(config, range="last"))

    assert finetuned.meta.classes == ["green", "red"]
    assert [a + b for a, b in zip(finetuned.meta.training, finetuned.meta.held_out, strict=True)] == [4, 7]
    assert {path.name for path in finetuned.unusable} == {"broken.png", "notes.txt"}
    for text in ("broken.png", "notes.txt (not a picture)", "in no class and left out: 1 files", "linked is a link"):
        assert text in caplog.text


def test_class_that_loses_its_pictures_to_damage_is_an_error(config):
    (config.folder / "green" / "0.png").write_bytes((config.folder / "green" / "0.png").read_bytes()[:2000])

    with pytest.raises(InputError, match="at least 4 usable pictures, but green has 3"):
        finetune(config)


def test_pictures_that_all_turn_out_damaged_are_an_error(config):
    for path in config.folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(InputError, match="at least 4 usable pictures, but green has 0, red has 0"):
        finetune(config)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({"red": 5}, "has only the class red; give a folder with a folder of pictures for each of two or more"),
        ({"red": 5, "green": 3, "blue": 0}, "needs at least 4 usable pictures, but blue has 0, green has 3"),
        ({"red": 0, "green": 0}, "no usable picture in"),
    ],
)
def test_too_few_classes_or_pictures_are_an_error_that_says_how_many_are_needed(tmp_path, pictures, message):
    folder = small_classes(tmp_path / "p", **pictures)

    with pytest.raises(InputError, match=message):
        finetune(FinetuneConfig(folder, output=tmp_path / "w.safetensors"))

    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_folder_that_is_not_there_and_pictures_in_no_class_are_errors(config, tmp_path):
    with pytest.raises(InputError, match="none is not a folder"):
        finetune(replace(config, folder=tmp_path / "none"))
    with pytest.raises(InputError, match="red has no classes"):
        finetune(replace(config, folder=config.folder / "red"))


def test_existing_output_is_kept_before_any_work(config):
    config.output.write_text("precious")

    with pytest.raises(OutputError, match="--overwrite"):
        finetune(config)

    assert config.output.read_text() == "precious"
    assert finetune(replace(config, range="last", overwrite=True)).path == config.output


@pytest.mark.parametrize(
    "given", [{"held_out": 0}, {"held_out": 0.95}, {"size": 31}, {"epochs": 2}, {"learning_rate": 0}, {"steps": 0}]
)
def test_invalid_options_are_wrong_usage(config, given):
    with pytest.raises(UsageError, match="--" + next(iter(given)).replace("_", "-")):
        replace(config, **given)


def test_logs_of_an_output_named_after_the_pictures_are_not_among_them(config):
    config = replace(config, output=config.folder.with_suffix(".safetensors"))

    assert config.log_folder == config.folder.with_suffix(".logs")
    with pytest.raises(UsageError, match="among the pictures; choose another folder"):
        replace(config, output=config.folder / "red" / "w.safetensors")


def test_missing_weights_to_start_from_are_an_error(config, tmp_path):
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        finetune(replace(config, vgg=str(tmp_path / "none.safetensors")))


@pytest.mark.parametrize(("number", "range"), [(signal.SIGINT, "last"), (signal.SIGTERM, "blocks4-5")])
def test_interrupted_run_saves_the_best_epoch(config, number, range):
    def stop(title, total, newest):
        if title == "learning" and newest and newest.epoch == 1:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match=f"stopped by {number.name}; epoch 1, the best so far, is saved") as caught:
        finetune(replace(config, steps=40, range=range), stop)

    assert caught.value.exit_status == 128 + number
    assert load_classifier(config.output)[1].epoch == 1


def test_run_interrupted_before_anything_is_learned_says_so(config):
    seen = []

    def stop(*_):
        seen.append(1)
        if len(seen) == 1:  # a second one would act at once
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="nothing is learned yet"):
        finetune(config, stop)

    assert not config.output.exists()


def test_run_told_to_end_early_returns_the_best_so_far(config):
    def stop(title, total, newest):
        if title == "learning" and newest and newest.epoch == 2:
            signal.raise_signal(signal.SIGUSR1)

    finetuned = finetune(replace(config, range="last", steps=None), stop)

    assert len(finetuned.epochs) == 2
    assert load_classifier(config.output)[1] == finetuned.meta


def test_time_limit_in_which_nothing_can_be_learned_is_wrong_usage(config):
    with pytest.raises(UsageError, match=r"--time-limit is 0\.001 seconds"):
        finetune(replace(config, time_limit="0.001"))


def test_run_that_diverges_says_what_to_do_and_keeps_what_it_has(config):
    with pytest.raises(DivergedError, match=r"epoch 0, the best so far, is saved.*lower --learning-rate"):
        finetune(replace(config, range="all", learning_rate=1e9))

    assert load_classifier(config.output)[1].epoch == 0


@pytest.mark.parametrize(
    "header", ["", "[]", "{}", '{"format": 2}', "[" * 100_000], ids=["empty", "list", "bare", "newer", "deep"]
)
def test_damaged_header_is_refused(tmp_path, header):
    save_file({"head.bias": torch.zeros(2)}, tmp_path / "w.safetensors", {"classifier": header})

    with pytest.raises(ModelError, match=r"w\.safetensors has an unreadable header"):
        load_classifier(tmp_path / "w.safetensors")


def test_file_without_a_classifier_is_refused():
    with pytest.raises(ModelError, match="holds no classifier"):
        load_classifier(BUNDLED)


def test_commands_of_the_documentation_work(tmp_path, config, monkeypatch):
    text = (ROOT / "docs" / "finetune.md").read_text()
    config.folder.rename(small_material(tmp_path, photos=2) / "drawings")
    monkeypatch.chdir(tmp_path)
    quick = {
        "finetune": shlex.split("--size 32 --batch-size 8 --precision fp32"),
        "train": shlex.split("--steps 1 --size 32 --batch-size 1 --preset tiny --style-size 64 --precision fp32"),
        "info": [],
    }

    for line in filter(None, "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)).splitlines()):
        program, command, *words = shlex.split(line.replace("--epochs 5", "--epochs 1"), comments=True)
        steps = ["--steps", "1"] if command == "finetune" and "--epochs" not in words else []
        assert (program, main([command, *words, *quick[command], *steps])) == ("fastnst", 0), line
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "finetune.md", "exec"), {})


def test_command_prints_a_table_and_its_progress(config, capsys):
    assert main(["finetune", str(config.folder), "-o", str(config.output), "--range", "last", *SMALL]) == 0

    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[-1] == str(config.output)
    assert any(re.match(r"\s*red\s+5\s+1\s+\d\s+\d\s+\d+\.\d%", line) for line in lines)
    assert re.search(r"learning step 2/2, epoch 2, loss \S+, accuracy \S+, cross-entropy \S+, ", printed.err)


def test_command_prints_json(config, capsys):
    assert (
        main(["finetune", str(config.folder), "-o", str(config.output), "--range", "last", *SMALL, "--json", "-q"]) == 0
    )

    printed = capsys.readouterr()
    assert json.loads(printed.out)["classes"] == ["green", "red"]
    assert printed.err == ""


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (2, ["-o", "a.safetensors", "--range", "some"]),
        (2, ["-o", "a.pth"]),
        (3, ["-o", "a.safetensors", "--device", "cuda"]),
        (4, ["-o", "a.safetensors", "--vgg", "none.safetensors"]),
        (5, ["-o", "there.safetensors"]),
        (6, ["-o", "a.safetensors", "--range", "all", "--learning-rate", "1e9"]),
    ],
)
def test_errors_of_the_command_are_one_line_with_their_status(config, tmp_path, monkeypatch, capsys, status, words):
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").touch()

    assert main(["finetune", str(config.folder), "-q", *SMALL, *words]) == status

    assert capsys.readouterr().err.count("\n") == 1
