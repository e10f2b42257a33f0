import base64
import json
import re
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from helpers.hosts import HOSTS
from helpers.material import PHOTOS
from PIL import Image

from fastnst import __version__
from fastnst.cli import main
from fastnst.config import ExportOptions
from fastnst.engine import OnnxEngine, open_engine
from fastnst.errors import ModelError, OutputError, UnavailableError, UsageError
from fastnst.export import export
from fastnst.nets.onnx_graph import build
from fastnst.serve import runtime as onnxruntime_web
from fastnst.serve import site
from fastnst.serve.published import Published, published_styles, title_of
from fastnst.serve.security import POLICY
from fastnst.serve.site import StaticFile, check_site, site_files, write_site
from fastnst.styles import bundled_names, bundled_style


@pytest.fixture(scope="module")
def bundled() -> list[Published]:
    return published_styles(["great-wave-tiny", "poppies", "great-wave"])


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files with the names of onnxruntime-web's."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in onnxruntime_web.SCRIPTS:
        (folder / name).write_text(f"// {name}")
    return folder


def content(file: StaticFile) -> bytes:
    return file.content if isinstance(file.content, bytes) else file.content.read_bytes()


def read(files: dict[str, StaticFile], address: str):
    return json.loads(content(files[address]))


class TestPublished:
    def test_an_installation_without_any_is_said_to_be_one(self, monkeypatch):
        monkeypatch.setattr("fastnst.styles.catalogue_folder", lambda: Path("nothing-here"))

        with pytest.raises(UnavailableError, match="no styles are installed"):
            published_styles()

    def test_all_bundled_styles_with_the_default_one_first(self):
        styles = published_styles()

        assert styles[0].name == "great-wave"
        assert [style.preset for style in styles[-2:]] == ["base", "tiny"]  # the same painting again
        assert sorted(style.name for style in styles) == bundled_names()
        assert [style.name for style in styles if style.default] == ["great-wave"]

    def test_a_bundled_style_says_what_its_file_says(self, bundled):
        style, known = bundled[0], bundled_style("great-wave")

        assert (style.credit, style.preset) == (known.credit, known.preset)
        assert style.data == known.onnx.read_bytes()

    def test_previews_are_pictures_without_the_labels_of_a_sheet(self, bundled, tmp_path):
        for style in bundled:
            (tmp_path / "preview.jpg").write_bytes(style.preview)
            with Image.open(tmp_path / "preview.jpg") as preview:
                assert (preview.format, preview.size) == ("JPEG", (256, 256))
                edge = np.asarray(preview)[[0, -1]]
            assert edge.mean() < 240  # the sheet around it is white

    def test_a_checkpoint_is_exported(self, checkpoint, tmp_path):
        (style,) = published_styles([checkpoint])
        image = np.random.default_rng(0).random((1, 3, 33, 40), dtype=np.float32)

        painted = OnnxEngine(tmp_path / "random.onnx", "cpu", data=style.data)(image)

        assert (style.name, style.title, style.credit, style.preset) == ("random", "Random", "nobody", "custom")
        np.testing.assert_allclose(painted, open_engine(checkpoint, device="cpu")(image), atol=1e-4)

    @pytest.mark.parametrize("form", [{"uint8": True}, {"fp16": True}, {"uint8": True, "fp16": True}])
    def test_an_export_in_another_form_becomes_float32(self, checkpoint, tmp_path, form):
        path = export(checkpoint, tmp_path / "mine.onnx", ExportOptions(**form)).path
        image = np.random.default_rng(0).random((1, 3, 33, 40), dtype=np.float32)

        (style,) = published_styles([path])
        engine = OnnxEngine(tmp_path / "other.onnx", "cpu", data=style.data)

        assert style.data != path.read_bytes()
        assert not engine.uint8
        assert "precision" not in engine.metadata
        np.testing.assert_allclose(engine(image), open_engine(checkpoint, device="cpu")(image), atol=0.01)

    def test_an_export_stays_as_it_is(self, onnx_style):
        (style,) = published_styles([onnx_style])

        assert style.onnx == onnx_style

    def test_a_folder_stands_for_the_styles_in_it(self, checkpoint, onnx_style, tmp_path):
        shutil.copy(onnx_style, tmp_path / "one.onnx")
        shutil.copy(checkpoint, tmp_path / "one.safetensors")
        shutil.copy(checkpoint, tmp_path / "another.safetensors")
        (tmp_path / "notes.txt").touch()

        styles = published_styles([tmp_path])

        assert [style.name for style in styles] == ["another", "one"]
        assert styles[1].onnx == tmp_path / "one.onnx"
        assert styles[0].default

    def test_the_preview_of_an_own_style_is_painted_or_lies_beside_it(self, onnx_style, tmp_path):
        shutil.copy(onnx_style, tmp_path / "mine.onnx")
        (painted,) = published_styles([tmp_path / "mine.onnx"])
        shutil.copy(PHOTOS / "cat.jpg", tmp_path / "mine.jpg")
        (given,) = published_styles([tmp_path / "mine.onnx"])
        sizes = []
        for preview in (painted.preview, given.preview):
            (tmp_path / "preview.jpg").write_bytes(preview)
            with Image.open(tmp_path / "preview.jpg") as picture:
                sizes.append(picture.size)

        assert sizes[0] == (320, 213)
        assert max(sizes[1]) == 320
        assert painted.preview != given.preview

    @pytest.mark.parametrize(
        ("name", "credit", "preset", "title"),
        [
            ("great-wave", "Hokusai, The Great Wave off Kanagawa", "fast", "Great Wave"),
            ("great-wave-tiny", "Hokusai, The Great Wave off Kanagawa", "tiny", "Great Wave, tiny"),
            ("composition-viii", "Kandinsky, Composition VIII", "fast", "Composition VIII"),
            ("moulin-de-la-galette", "Renoir, Bal du moulin de la Galette", "fast", "Moulin de la Galette"),
            ("my_style2", "", "fast", "My Style2"),
            ("tiny", "", "tiny", "Tiny"),
        ],
    )
    def test_titles_are_names_as_the_credit_spells_them(self, name, credit, preset, title):
        assert title_of(name, credit, preset) == title

    def test_what_cannot_be_shown_is_refused_with_what_to_do(self, onnx_style, tmp_path):
        odd = shutil.copy(onnx_style, tmp_path / "my style.onnx")
        network = open_engine(onnx_style, device="cpu").banded
        foreign = tmp_path / "foreign.onnx"
        foreign.write_bytes(build(network.config, network.weights))
        (tmp_path / "empty").mkdir()
        other = tmp_path / "great-wave.onnx"
        shutil.copy(onnx_style, other)

        with pytest.raises(UsageError, match=r"my style.onnx cannot be an address: .* rename the file"):
            published_styles([odd])
        with pytest.raises(UsageError, match=r"empty holds no .onnx or .safetensors file"):
            published_styles([tmp_path / "empty"])
        with pytest.raises(UsageError, match="two styles are called great-wave"):
            published_styles(["great-wave", other])
        with pytest.raises(ModelError, match="is no style"):
            published_styles([PHOTOS / "cat.jpg"])
        with pytest.raises(UsageError, match="no bundled style 'great-waves'; did you mean great-wave"):
            published_styles(["great-waves"])
        with pytest.raises(ModelError, match=r"foreign.onnx was not exported by fastnst, .* fastnst import"):
            published_styles([foreign])


class TestFiles:
    def test_names_hold_the_hash_of_what_they_name(self, bundled, runtime):
        files = site_files(bundled, runtime=runtime, api=True)

        listed = read(files, "styles.json")["styles"]
        assert len(listed) == 3
        for style in listed:
            data = content(files[style["file"]])
            assert style["file"] == f"styles/{style['name']}.{sha256(data).hexdigest()[:8]}.onnx"
            assert (style["bytes"], style["sha256"]) == (len(data), sha256(data).hexdigest())
            preview = content(files[style["preview"]])
            assert style["preview"] == f"styles/{style['name']}.{sha256(preview).hexdigest()[:8]}.jpg"

    def test_only_what_has_its_version_in_its_name_may_be_kept(self, bundled, runtime):
        files = site_files(bundled, runtime=runtime, api=False)

        plain = {address for address, file in files.items() if not file.immutable}

        assert plain == {*site.AT_ROOT, "styles.json", "reference.json"}
        assert {address.split("/")[0] for address in files.keys() - plain} == {"assets", "styles", "runtime"}

    def test_the_page_finds_its_assets(self, bundled):
        files = site_files(bundled, runtime=None, api=True)

        (folder,) = {"/".join(address.split("/")[:2]) for address in files if address.startswith("assets/")}
        page = content(files["index.html"]).decode()
        assert folder in page
        assert "{{" not in page

    def test_the_page_states_the_policy_that_the_service_sends(self, bundled):
        page = content(site_files(bundled, runtime=None, api=False)["index.html"]).decode()

        (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
        assert f"{policy}; frame-ancestors 'none'" == POLICY  # which only a header can say

    def test_an_asset_that_changes_changes_the_addresses_of_all(self, bundled, monkeypatch, tmp_path):
        shutil.copytree(site.PAGE, tmp_path / "page")
        monkeypatch.setattr(site, "PAGE", tmp_path / "page")
        before = site_files(bundled, runtime=None, api=True)
        asset = next(path for path in (tmp_path / "page").rglob("*.js") if path.name not in site.AT_ROOT)
        asset.write_text(asset.read_text() + "\n")
        after = site_files(bundled, runtime=None, api=True)

        assert {a for a in before if a.startswith("assets/")} & {a for a in after if a.startswith("assets/")} == set()
        assert content(before["index.html"]) != content(after["index.html"])

    def test_a_site_works_offline_and_a_service_tells_its_limits(self, bundled, runtime):
        limits = {"pixels": 50_000_000, "bytes": 20 << 20, "side": 16_384}
        static = site_files(bundled, runtime=runtime, api=False)
        served = site_files(bundled, runtime=runtime, api=True, limits=limits, token=True)

        about, of_served = read(static, "styles.json"), read(served, "styles.json")
        same = {
            "version": __version__,
            "runtime": "runtime/1.30.0/",
            "default": "great-wave",
            "styles": about["styles"],
        }
        assert about == same | {"api": False, "offline": True, "limits": None, "token": False}
        assert of_served == same | {"api": True, "offline": False, "limits": limits, "token": True}
        assert "service-worker.js" in static
        assert "service-worker.js" not in served

    def test_without_a_runtime_nothing_of_it_is_named(self, bundled):
        files = site_files(bundled, runtime=None, api=True)

        assert read(files, "styles.json")["runtime"] is None
        assert [address for address in files if address.startswith(("runtime/", "reference"))] == []

    def test_the_runtime_brings_its_license(self, bundled, runtime):
        files = site_files(bundled, runtime=runtime, api=True)

        notice = content(files["runtime/1.30.0/LICENSE"]).decode()
        assert "Copyright (c) Microsoft Corporation" in notice
        assert {f"runtime/1.30.0/{name}" for name in onnxruntime_web.SCRIPTS} < files.keys()

    def test_media_types_are_those_that_browsers_insist_on(self, bundled, runtime):
        files = site_files(bundled, runtime=runtime, api=False)

        types = {address.rpartition(".")[2]: file.media_type for address, file in files.items()}
        assert types["mjs"].startswith("text/javascript")
        assert types["js"].startswith("text/javascript")
        assert types["wasm"] == "application/wasm"
        assert types["webmanifest"] == "application/manifest+json"
        assert types["html"] == "text/html; charset=utf-8"

    def test_the_reference_is_what_onnx_runtime_paints(self, bundled, runtime):
        made = read(site_files(bundled, runtime=runtime, api=True), "reference.json")
        shape = (made["height"], made["width"], 3)
        given, painted = (
            np.frombuffer(base64.b64decode(made[key]), np.uint8).reshape(shape).astype(np.float32) / 255
            for key in ("input", "output")
        )

        again = open_engine(made["style"], device="cpu")(given.transpose(2, 0, 1)[None])

        assert (made["style"], shape) == ("great-wave", (64, 64, 3))
        assert np.abs(painted - again[0].transpose(1, 2, 0)).max() < 1 / 255
        assert np.abs(painted - given).mean() > 0.02


class TestWriting:
    @pytest.fixture
    def files(self, bundled, runtime) -> dict[str, StaticFile]:
        return site_files(bundled, runtime=runtime, api=False)

    def there(self, folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def test_every_file_is_written_and_counted(self, files, tmp_path):
        made = write_site(tmp_path / "public", files, overwrite=False)

        assert self.there(tmp_path / "public") == files.keys()
        assert all((tmp_path / "public" / address).read_bytes() == content(file) for address, file in files.items())
        sizes = [path.stat().st_size for path in (tmp_path / "public").rglob("*") if path.is_file()]
        assert (made.files, made.size) == (len(files), sum(sizes))

    def test_an_earlier_site_gives_way_without_asking(self, files, bundled, runtime, tmp_path):
        write_site(tmp_path, files, overwrite=False)
        fewer = site_files([replace(bundled[1], default=True)], runtime=None, api=False)

        write_site(tmp_path, fewer, overwrite=False)

        # What has no version in its name is not known to be without use.
        assert self.there(tmp_path) == fewer.keys() | {"reference.json"}
        assert not (tmp_path / "runtime").exists()

    def test_a_folder_of_something_else_stays_as_it_is(self, files, tmp_path):
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "mine.txt").write_text("mine")

        with pytest.raises(OutputError, match=r"holds notes/mine.txt, which is not of an earlier site; .*--overwrite"):
            write_site(tmp_path, files, overwrite=False)
        assert self.there(tmp_path) == {"notes/mine.txt"}

        write_site(tmp_path, files, overwrite=True)
        assert self.there(tmp_path) == files.keys() | {"notes/mine.txt"}

    @pytest.mark.parametrize("name", ["index.html", "styles.json", "styles/mine.jpg", "assets/theme/site.css"])
    def test_a_site_of_somebody_else_is_not_taken_for_an_earlier_one(self, name, files, tmp_path):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("[]")

        with pytest.raises(OutputError, match=f"holds {name}"):
            check_site(tmp_path, overwrite=False)

    def test_with_overwrite_other_files_in_folders_of_its_own_stay(self, files, tmp_path):
        for name in ("styles/mine.jpg", "assets/theme/site.css", "runtime/readme"):
            (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
            (tmp_path / name).write_text("mine")

        write_site(tmp_path, files, overwrite=True)
        write_site(tmp_path, files, overwrite=True)

        assert (self.there(tmp_path) - files.keys()) == {"styles/mine.jpg", "assets/theme/site.css", "runtime/readme"}

    def test_a_link_to_a_folder_is_not_followed(self, files, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "old.12345678.onnx").write_text("mine")
        public = tmp_path / "public"
        public.mkdir()
        (public / "styles").symlink_to(elsewhere)

        with pytest.raises(OutputError, match="holds styles, which"):
            check_site(public, overwrite=False)

    def test_a_file_in_the_place_of_the_folder_is_refused(self, files, tmp_path):
        (tmp_path / "public").touch()

        with pytest.raises(OutputError, match="public is a file; give the name of a folder"):
            write_site(tmp_path / "public", files, overwrite=True)

    def test_an_interrupted_site_leaves_the_earlier_one_and_can_be_written_again(self, files, bundled, tmp_path):
        first = site_files([replace(bundled[1], default=True)], runtime=None, api=False)
        write_site(tmp_path, first, overwrite=False)
        broken = {**files, "styles/zebra.00000000.onnx": StaticFile(tmp_path / "missing", "", True)}

        with pytest.raises(OutputError, match="No such file"):
            write_site(tmp_path, broken, overwrite=False)
        assert (tmp_path / "styles.json").read_bytes() == content(first["styles.json"])
        assert first.keys() <= self.there(tmp_path)

        write_site(tmp_path, files, overwrite=False)
        assert self.there(tmp_path) == files.keys()

    def test_a_first_site_that_was_interrupted_can_be_written_again(self, files, tmp_path):
        broken = {**files, "styles/zebra.00000000.onnx": StaticFile(tmp_path / "missing", "", True)}
        with pytest.raises(OutputError, match="No such file"):
            write_site(tmp_path / "public", broken, overwrite=False)
        (tmp_path / "public" / "styles" / ".fastnst.1.abcd.tmp").touch()  # of a process that was killed

        write_site(tmp_path / "public", files, overwrite=False)

        assert files.keys() <= self.there(tmp_path / "public")


class TestCommand:
    def test_it_says_how_much_was_written(self, monkeypatch, runtime, tmp_path, capsys):
        monkeypatch.setattr(onnxruntime_web, "runtime_folder", lambda: runtime)

        assert main(["site", "-o", str(tmp_path / "public"), "great-wave", "great-wave-tiny"]) == 0

        size = sum(path.stat().st_size for path in (tmp_path / "public").rglob("*") if path.is_file())
        files = sum(path.is_file() for path in (tmp_path / "public").rglob("*"))
        assert capsys.readouterr().out == f"{tmp_path / 'public'}: {files} files, {size / 1e6:.1f} MB\n"

    def test_without_a_runtime_it_refuses(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(onnxruntime_web, "runtime_folder", lambda: None)

        assert main(["site", "-o", str(tmp_path / "public")]) == 3

        said = capsys.readouterr().err
        assert said.startswith("fastnst: a static page paints in the browser with onnxruntime-web")
        assert "npm ci" in said
        assert not (tmp_path / "public").exists()

    def test_what_it_may_not_replace_is_found_before_any_style_is_read(self, monkeypatch, runtime, tmp_path, capsys):
        monkeypatch.setattr(onnxruntime_web, "runtime_folder", lambda: runtime)
        (tmp_path / "thesis.tex").touch()

        assert main(["site", "-o", str(tmp_path), "no-such-style"]) == 5
        assert "thesis.tex" in capsys.readouterr().err


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("below", ["", "art/paint"])
def test_a_static_host_has_all_of_it_at_any_place(host, below, bundled, runtime, tmp_path):
    files = site_files(bundled, runtime=runtime, api=False)
    write_site(tmp_path / below, files, overwrite=False)

    with HOSTS[host](tmp_path) as address:
        base = f"{address}/{below}/" if below else f"{address}/"
        got = {}
        for name in ("", *files):
            with urlopen(base + name) as answer:
                got[name] = answer.read(), answer.headers.get_content_type()

    assert got[""] == got["index.html"]
    assert {name: data for name, (data, _) in got.items() if name} == {name: content(f) for name, f in files.items()}
    scripts = {kind for name, (_, kind) in got.items() if name.endswith((".mjs", ".js"))}
    assert scripts == {"text/javascript"}
    assert {kind for name, (_, kind) in got.items() if name.endswith(".wasm")} == {"application/wasm"}
