"""Files of weights as projects save them, damaged ones, and ones that would run code."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers.material import PHOTOS
from helpers.networks import MAKERS, TOLD, Examples, dump
from safetensors.torch import save_file
from torch import nn

from fastnst.checkpoint import load_checkpoint
from fastnst.config import ImportOptions
from fastnst.errors import InputError, ModelError, UnsafeModelError
from fastnst.foreign.convert import import_model


def same_weights(path, other):
    a, b = (load_checkpoint(p)[0].state_dict() for p in (path, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def running_statistics(weights):
    """As torch before 0.4 saved instance normalization."""
    norms = [name.removesuffix(".weight") for name in weights if ".in" in f".{name}" and name.endswith(".weight")]
    extra = {
        f"{name}.running_{kind}": torch.rand(len(weights[f"{name}.weight"]))
        for name in norms
        for kind in ("mean", "var")
    }
    assert len(extra) == 30
    return OrderedDict({**weights, **extra})


def below(prefix, weights):
    return {f"{prefix}{name}": values for name, values in weights.items()}


WRAPPINGS = {
    "zip": lambda weights, path: torch.save(weights, path),
    "legacy": lambda weights, path: torch.save(weights, path, _use_new_zipfile_serialization=False),
    "legacy of protocol 3": lambda weights, path: torch.save(
        weights, path, pickle_protocol=3, _use_new_zipfile_serialization=False
    ),
    "running statistics": lambda weights, path: torch.save(running_statistics(weights), path),
    "running statistics, legacy": lambda weights, path: torch.save(
        running_statistics(weights), path, _use_new_zipfile_serialization=False
    ),
    "several GPUs": lambda weights, path: torch.save(below("module.", weights), path),
    "compiled": lambda weights, path: torch.save(below("_orig_mod.", weights), path),
    "compiled, on several GPUs": lambda weights, path: torch.save(below("module._orig_mod.", weights), path),
    "layers compiled": lambda weights, path: torch.save(
        {k.replace(".conv2d.", "._orig_mod.conv2d."): v for k, v in weights.items()}, path
    ),
    "part of a module": lambda weights, path: torch.save(below("transformer.", weights), path),
    "prefix without a dot": lambda weights, path: torch.save(below("generator/G_", weights), path),
    "Lightning": lambda weights, path: torch.save(
        {
            "state_dict": {
                **below("model.net.", weights),
                **{f"vgg.features.{i}.{k}": torch.rand(4) for i in range(30) for k in ("weight", "bias")},
            },
            "optimizer_states": [{"state": {0: {"exp_avg": torch.rand(3)}}}],
        },
        path,
    ),
    "training state in a training state": lambda weights, path: torch.save(
        {"nets": {"G": {"weights": below("module.", weights)}, "D": {"weights": {"a": torch.rand(1)}}}}, path
    ),
    "training state": lambda weights, path: torch.save(
        {"epoch": 3, "optimizer": {"state": {}, "param_groups": []}, "model": weights, "loss": torch.tensor(1.0)}, path
    ),
    "parameters": lambda weights, path: torch.save({k: nn.Parameter(v) for k, v in weights.items()}, path),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("suffix", [".pth", ".model"])
def test_the_same_weights_are_read_however_they_were_saved(originals, tmp_path, wrapping, suffix):
    net, _, checkpoint = originals("pytorch-examples")
    source = tmp_path / f"candy{suffix}"
    WRAPPINGS[wrapping](net.state_dict(), source)

    imported = import_model(source, tmp_path / "a.safetensors")

    assert same_weights(imported.path, checkpoint)


@pytest.mark.parametrize("names", ["plain", "tensorflow"])
def test_a_lengstrom_network_is_read_from_an_npz_file(originals, tmp_path, names):
    net, _, checkpoint = originals("lengstrom")
    ending = "" if names == "plain" else ":0"
    arrays = {f"{name}{ending}": values for name, values in net.variables.items()}
    np.savez_compressed(tmp_path / "wave.npz", **arrays, **{"beta1_power": np.float32(0.9)})

    imported = import_model(tmp_path / "wave.npz", tmp_path / "a.safetensors")

    assert same_weights(imported.path, checkpoint)


def test_weights_in_a_safetensors_file_are_read(originals, tmp_path):
    net, _, checkpoint = originals("rrmina")
    save_file(dict(net.state_dict()), tmp_path / "rr.safetensors")

    assert same_weights(import_model(tmp_path / "rr.safetensors", tmp_path / "a.safetensors").path, checkpoint)


def test_a_folder_has_one_checksum_over_all_its_files(originals, tmp_path):
    net, source, checkpoint = originals("lengstrom")
    before = load_checkpoint(checkpoint)[1].origin["sha256"]
    assert before == load_checkpoint(import_model(source, tmp_path / "a.safetensors").path)[1].origin["sha256"]
    changed = {**net.variables, "Variable_1": net.variables["Variable_1"] + 1}

    other = import_model(dump(changed, tmp_path / "wave"), tmp_path / "b.safetensors")

    assert load_checkpoint(other.path)[1].origin["sha256"] != before


@pytest.mark.parametrize("family", MAKERS)
def test_any_family_is_found_below_a_prefix(originals, tmp_path, family):
    net, _, checkpoint = originals(family)
    variables = getattr(net, "variables", None) or {k: v.numpy() for k, v in net.state_dict().items()}
    np.savez(tmp_path / "a.npz", **below("model.transformer.", variables))
    told = ImportOptions(family=family if family in TOLD else None)

    imported = import_model(tmp_path / "a.npz", tmp_path / "a.safetensors", told)

    assert imported.family == family
    assert same_weights(imported.path, checkpoint)


def test_a_file_of_two_networks_is_refused_with_their_prefixes(originals, tmp_path):
    weights = originals("pytorch-examples")[0].state_dict()
    torch.save({**below("ema.", weights), **below("net.", weights)}, tmp_path / "a.pth")

    with pytest.raises(ModelError, match=r"several networks, below ema\. and net\.; save the weights of one"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


def test_a_layer_that_is_missing_below_a_prefix_is_named(originals, tmp_path):
    weights = below("model.", originals("pytorch-examples")[0].state_dict())
    del weights["model.res3.conv2.conv2d.weight"]
    torch.save(weights, tmp_path / "a.pth")

    with pytest.raises(ModelError, match=r"has no res3\.conv2\.conv2d\.weight, which"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


def test_a_dict_in_itself_is_read_once(originals, tmp_path):
    net, _, checkpoint = originals("pytorch-examples")
    state = {"model": net.state_dict()}
    state["self"] = state
    torch.save(state, tmp_path / "a.pth")

    assert same_weights(import_model(tmp_path / "a.pth", tmp_path / "b.safetensors").path, checkpoint)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def payload(kind, target, folder):
    path = folder / "evil.pth"
    content = {"conv1.conv2d.weight": torch.zeros(1), "x": Payload(target)}
    if kind == "raw":
        path.write_bytes(pickle.dumps(content["x"], 2))
    elif kind == "in a name":
        torch.save({Wicked(target): torch.zeros(1)}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


class Wicked(str):
    """A key that runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {self}",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "raw", "in a name"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(run, tmp_path, kind):
    target = tmp_path / "payload"
    source = payload(kind, target, tmp_path)

    with pytest.raises(UnsafeModelError, match=r"runs code of its own \((posix|nt)\.system\)"):
        import_model(source, tmp_path / "a.safetensors")

    assert not target.exists()
    status, _, err = run("import", source, "-o", tmp_path / "a.safetensors")
    assert (status, err.count("\n"), target.exists()) == (4, 1, False)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "raw"])
def test_a_pickle_given_as_a_style_is_refused_and_not_run(run, tmp_path, kind):
    target = tmp_path / "payload"
    source = payload(kind, target, tmp_path)

    status, _, err = run("stylize", PHOTOS / "cat.jpg", "-o", tmp_path / "out.png", "--style", source)

    assert (status, target.exists(), (tmp_path / "out.png").exists()) == (4, False, False)
    assert "fastnst import" in err


def damaged(kind, whole):
    """A damaged version of what torch saved."""
    return {
        "empty": b"",
        "one byte": whole[:1],
        "cut": whole[: len(whole) // 2],
        "almost whole": whole[:-30],
        "garbage": np.random.default_rng(0).bytes(5000),
        "text": b"<html>not found</html>",
        "zeros": bytes(4096),
    }[kind]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["empty", "one byte", "cut", "almost whole", "garbage", "text", "zeros"])
def test_a_damaged_file_is_refused(originals, tmp_path, kind, legacy):
    net, _, _ = originals("pytorch-examples")
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer, _use_new_zipfile_serialization=not legacy)
    source = tmp_path / "a.pth"
    source.write_bytes(damaged(kind, buffer.getvalue()))

    with pytest.raises(ModelError, match="damaged") as caught:
        import_model(source, tmp_path / "b.safetensors")

    assert not isinstance(caught.value, UnsafeModelError)
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_network_is_refused_with_how_to_save_it_instead(tmp_path, legacy):
    torch.save(Examples("upsample_conv", times=2), tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)

    with pytest.raises(ModelError, match=r"networks\.Examples\); .*torch\.save\(network\.state_dict\(\), FILE\)"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    for name in ("a.pth", "a.npz"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(300 << 20))

        with pytest.raises(ModelError, match="unpacks to more than 256 MiB"):
            import_model(tmp_path / name, tmp_path / "b.safetensors")


def test_a_weight_that_claims_more_than_the_file_holds_is_refused(originals, tmp_path):
    net, _, _ = originals("pytorch-examples")
    weights = {**net.state_dict(), "conv1.conv2d.weight": torch.zeros(1).expand(1 << 20, 3, 9, 9)}
    torch.save(weights, tmp_path / "a.pth")

    with pytest.raises(ModelError, match="more weights than any style has"):
        import_model(tmp_path / "a.pth", tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not deeplearn.js's"),
        (lambda folder: (folder / "manifest.json").write_text('["Variable"]'), "is not deeplearn.js's"),
        (lambda folder: (folder / "Variable_3").write_bytes(bytes(7)), "Variable_3 has 7 bytes but"),
        (lambda folder: (folder / "Variable_3").unlink(), "cannot read .*Variable_3"),
        (
            lambda folder: (folder / "manifest.json").write_text(
                json.dumps({"Variable": {"filename": "../secret", "shape": [1]}})
            ),
            "the manifest's entry Variable is none",
        ),
    ],
    ids=["no manifest", "broken", "a list", "short", "missing", "outside"],
)
def test_a_damaged_folder_is_refused(originals, tmp_path, change, reason):
    folder = dump(originals("lengstrom")[0].variables, tmp_path / "wave")
    (tmp_path / "secret").write_bytes(bytes(4))
    change(folder)

    with pytest.raises(InputError, match=reason):
        import_model(folder, tmp_path / "a.safetensors")


def test_an_npz_file_with_pickles_in_it_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", Variable=np.array([Payload(tmp_path / "payload")], dtype=object))

    with pytest.raises(ModelError, match="plain arrays"):
        import_model(tmp_path / "a.npz", tmp_path / "a.safetensors")

    assert not (tmp_path / "payload").exists()
