import hashlib
import io
import json
import time

import numpy as np
import pytest
from helpers.material import PHOTOS
from helpers.photos import bomb, noise
from helpers.picture_files import encoded
from helpers.servers import post, read_all, status_of, until
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from fastnst import Stylizer
from fastnst.config import StylizeOptions
from fastnst.image import decode_picture
from fastnst.styles import bundled_names

PHOTO = (PHOTOS / "cat.jpg").read_bytes()
MIB_20 = 20 << 20


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def form(*parts: bytes, end: bytes = b"--limit--\r\n") -> bytes:
    return b"".join(b"--limit\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content


def send_form(server, body: bytes, **headers: str):
    headers = {"Content-Type": "multipart/form-data; boundary=limit", **headers}
    return server.client.post("v1/stylize", content=body, headers=headers)


# Paintings


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"style": "harvest", "strength": 0.6},
        {"stroke": 1.5, "preserve_color": "luma", "max_size": 100},
        {"style": "great-wave-tiny", "preserve_color": "histogram"},
    ],
)
def test_paintings_have_the_pixels_of_the_library(server, options):
    given = {name: value for name, value in options.items() if name != "style"}
    stylizer = Stylizer.open(options.get("style"), engine="onnx")
    content = decode_picture(PHOTO, max_size=given.get("max_size"))
    expected = stylizer.stylize_picture(content, StylizeOptions(**given)).rgb

    answer = server.client.post("v1/stylize", content=PHOTO, params=options, headers={"Accept": "image/png"})

    assert answer.status_code == 200
    assert np.abs(pixels(answer.content).astype(int) - expected).max() <= 1


def test_a_painting_has_the_pixels_of_the_command_line(server, fastnst, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(PHOTO)

    done = fastnst("stylize", "photo.jpg", "-o", "painting.png", "--max-size", 256)
    answer = server.client.post("v1/stylize?max_size=256", content=PHOTO, headers={"Accept": "image/png"})

    assert done.returncode == 0
    assert np.abs(pixels(answer.content).astype(int) - pixels((tmp_path / "painting.png").read_bytes())).max() <= 1


def test_several_styles_are_mixed_by_their_shares(server, png):
    stylizer = Stylizer.open(["great-wave", "poppies"], mix=[1, 3], engine="onnx")
    expected = stylizer.stylize_picture(decode_picture(png)).rgb

    separate = server.client.post("v1/stylize?style=great-wave&style=poppies&mix=1,3", content=png)
    joined = server.client.post("v1/stylize?style=great-wave,poppies&mix=0.25&mix=0.75", content=png)

    assert np.abs(pixels(separate.content).astype(int) - expected).max() <= 1
    assert joined.content == separate.content


def test_a_mask_says_where_a_second_style_paints(server, png, tmp_path):
    half = np.zeros((32, 48), np.uint8)
    half[:, 24:] = 255
    (tmp_path / "mask.png").write_bytes(encoded(half))
    stylizer = Stylizer.open("great-wave", outside="harvest", engine="onnx")
    options = StylizeOptions(mask=tmp_path / "mask.png", feather=2)
    expected = stylizer.stylize_picture(decode_picture(png), options).rgb

    parts = [part("image", png), part("mask", encoded(half)), part("feather", b"2")]
    answer = send_form(server, form(*parts, part("style", b"great-wave,harvest")))

    assert np.abs(pixels(answer.content).astype(int) - expected).max() <= 1


def test_transparency_is_kept(server):
    rgba = np.dstack([noise(32, 48), np.linspace(0, 255, 32 * 48).reshape(32, 48).astype(np.uint8)])

    answer = server.stylize(encoded(rgba))

    np.testing.assert_array_equal(pixels(answer.content)[..., 3], rgba[..., 3])


def test_what_a_file_says_of_itself_is_not_in_the_painting(server):
    exif = Image.Exif()
    exif[0x010E] = "<script>alert(1)</script>"
    exif[0x0112] = 6

    answer = server.stylize(encoded(noise(32, 48), "JPEG", exif=exif))

    assert b"script" not in answer.content
    assert Image.open(io.BytesIO(answer.content)).size == (32, 48)  # upright
    assert not Image.open(io.BytesIO(answer.content)).getexif()


@pytest.mark.parametrize(
    ("accept", "given", "format"),
    [
        (None, "JPEG", "JPEG"),
        ("*/*", "WEBP", "WEBP"),
        ("*/*", "GIF", "PNG"),
        ("image/*;q=0.5, image/webp;q=0.4", "GIF", "PNG"),
        ("text/html, image/webp, */*;q=0.1", "JPEG", "WEBP"),
        ("image/png, image/jpeg", "JPEG", "JPEG"),
        ("image/jpeg;q=0, */*", "JPEG", "PNG"),
    ],
)
def test_the_format_is_what_is_accepted(server, accept, given, format):
    headers = {} if accept is None else {"Accept": accept}

    answer = server.client.post("v1/stylize", content=encoded(noise(20, 20), given), headers=headers)

    assert answer.headers["content-type"] == f"image/{format.lower()}"
    assert Image.open(io.BytesIO(answer.content)).format == format


# 59: what is accepted, and what is not


@pytest.mark.parametrize("accept", ["text/plain", "image/avif", "image/png;q=0", "*/*;q=0"])
def test_a_format_that_is_not_written_is_told_before_anything_is_read(server, accept):
    request = post(b"", f"Accept: {accept}", "Content-Length: 1000000", "Connection: close")

    answer = server.exchange(request)

    assert status_of(answer) == 406


def test_the_bytes_say_what_is_given_whatever_its_type_is_called(server):
    jpeg = encoded(noise(20, 20), "JPEG")
    for content_type in ("image/gif", "application/octet-stream", "application/x-www-form-urlencoded", None):
        headers = {} if content_type is None else {"Content-Type": content_type}
        assert server.client.post("v1/stylize", content=jpeg, headers=headers).status_code == 200
    for content_type in ("text/plain", "application/json", "multipart/mixed; boundary=x"):
        answer = server.client.post("v1/stylize", content=jpeg, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "undecodable_image"),
        (b"x", 415, "unsupported_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", 415, "unsupported_format"),
        (PHOTO[: len(PHOTO) // 2], 422, "undecodable_image"),
        (bomb(), 422, "image_dimensions"),
        (encoded(noise(16, 15)), 422, "image_dimensions"),
        (b"\x89PNG\r\n\x1a\n", 422, "undecodable_image"),
    ],
    ids=["nothing", "a letter", "SVG", "EPS", "half", "bomb", "small", "signature"],
)
def test_unusable_pictures_are_told_with_a_word_for_programs(server, body, status, code):
    answer = server.stylize(body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


# 55-58: bodies


@pytest.mark.parametrize("chunked", [False, True])
def test_too_many_bytes_are_refused_and_the_connection_closed(server, chunked):
    with server.connect() as connection:
        if chunked:
            connection.sendall(post(b"", "Transfer-Encoding: chunked"))
            for _ in range(21):
                connection.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(post(b"", f"Content-Length: {MIB_20 + 1}"))
            begun = time.monotonic()
            assert connection.recv(20).startswith(b"HTTP/1.1 413")
            assert time.monotonic() - begun < 1
            connection.sendall(bytes(MIB_20 + 1))
        answer = b"HTTP/1.1 413" * (not chunked) + read_all(connection)

    assert status_of(answer) == 413
    assert b"payload_too_large" in answer
    assert b"connection: close" in answer


def test_as_many_bytes_as_may_be_are_read(server, png):
    assert server.stylize(png + bytes(MIB_20 - len(png))).status_code == 200


def test_a_client_that_waits_for_a_100_before_it_sends_too_much_is_told_at_once(server):
    answer = server.exchange(post(b"", f"Content-Length: {MIB_20 + 1}", "Expect: 100-continue"))

    assert status_of(answer) == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"x", "Content-Length: -1"),
        post(b"x", "Content-Length: 1", "Content-Length: 2"),
        post(b"x", "Content-Length: +1"),
        post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        post(b"zz\r\n\r\n", "Transfer-Encoding: chunked"),
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_400_or_not_at_all(server, request_bytes):
    answer = server.exchange(request_bytes)

    assert answer == b"" or status_of(answer) == 400
    assert answer == b"" or b"content-security-policy" in answer.lower()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(part("image", b"x")), "multipart/form-data"),
        (form(part("image", b"x")), "multipart/form-data; boundary="),
        (form(part("image", b"x"), end=b""), "multipart/form-data; boundary=limit"),
        (b"", "multipart/form-data; boundary=limit"),
        (b"nothing of that kind", "multipart/form-data; boundary=limit"),
        (form(*[part("strength", b"1")] * 1000), "multipart/form-data; boundary=limit"),
        (form(part("style", b"x" * 5000)), "multipart/form-data; boundary=limit"),
        (form(b"X-Header: " + b"x" * 100_000 + b"\r\n\r\n"), "multipart/form-data; boundary=limit"),
        (form(b"\r\nno name"), "multipart/form-data; boundary=limit"),
        (form(part("style", b"\xff\xfe")), "multipart/form-data; boundary=limit"),
    ],
    ids=["no boundary", "empty", "cut", "nothing", "junk", "1000 fields", "5 kB", "header", "nameless", "no UTF-8"],
)
def test_damaged_forms_are_bad_requests(server, body, content_type):
    answer = server.client.post("v1/stylize", content=body, headers={"Content-Type": content_type})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_form_needs_one_picture(server, png):
    without = send_form(server, form(part("strength", b"1")))
    twice = send_form(server, form(part("image", png), part("image", png)))

    for answer in (without, twice):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "image"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\0b", "x" * 10_000, '"; name="mask'])
def test_the_name_of_a_file_means_nothing(server, png, name):
    escaped = name.replace('"', '\\"')

    answer = send_form(server, form(part("image", png, f'; filename="{escaped}"')))

    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'inline; filename="great-wave.png"'


# 60, 78: parameters


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("strength=2", "strength"),
        ("strength=nan", "strength"),
        ("strength=inf", "strength"),
        ("strength=1e309", "strength"),
        ("strength=", "strength"),
        ("strength=1&strength=1", "strength"),
        ("stroke=0.4", "stroke"),
        ("preserve_color=red", "preserve_color"),
        ("max_size=15", "max_size"),
        ("max_size=1.5", "max_size"),
        ("max_size=99999999999999999999999", "max_size"),
        ("quality=0", "quality"),
        ("mix=1,x&style=great-wave,harvest", "mix"),
        ("mix=0,0&style=great-wave,harvest", "mix"),
        ("mix=1&style=great-wave,harvest", "mix"),
        ("style=great-wave,harvest", "style"),
        ("style=great-wave,great-wave-tiny&mix=1,1", "style"),
        ("style=great-wave," * 5 + "great-wave,great-wave,great-wave,great-wave", "style"),
        ("invert_mask=yes", "invert_mask"),
        ("invert_mask=true", "mask"),
        ("background=%0a", "background"),
        ("feather=-1", "feather"),
    ],
)
def test_impossible_values_are_told_by_their_field(server, png, query, field):
    answer = server.client.post(f"v1/stylize?{query}", content=png)

    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "invalid_parameter"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "--" not in answer.json()["detail"]  # a flag of the command line


@pytest.mark.parametrize("query", ["url=http://127.0.0.1:1/", "path=/etc/passwd", "file=file:///etc/passwd", "mask=x"])
def test_nothing_but_known_parameters_is_taken(server, png, query):
    answer = server.client.post(f"v1/stylize?{query}", content=png)

    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter")
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize("query", ["%ff=1", "&".join(["strength=1"] * 100)])
def test_parameters_that_are_no_text_or_too_many_are_bad_requests(server, png, query):
    assert server.client.post(f"v1/stylize?{query}", content=png).json()["code"] == "bad_request"


@pytest.mark.parametrize("name", ["nobody", "../great-wave", "/etc/passwd", "great-wave.onnx", ""])
def test_styles_are_names_and_nothing_else(server, png, name):
    answer = server.stylize(png, style=name)

    assert (answer.status_code, answer.json()["code"]) == (404, "style_not_found")


def test_strokes_that_need_a_larger_painting_than_is_allowed_are_refused(server):
    answer = server.stylize(encoded(np.zeros((4000, 4000), np.uint8)), stroke=0.5)

    assert (answer.status_code, answer.json()["code"]) == (422, "image_dimensions")


# 61, 62, 63: addresses


def test_methods_and_addresses_that_there_are_not(server):
    for method, path, allowed in [
        ("GET", "v1/stylize", {"POST"}),
        ("OPTIONS", "v1/stylize", {"POST"}),
        ("DELETE", "livez", {"GET", "HEAD"}),
        ("POST", "styles.json", {"GET", "HEAD"}),
        ("TRACE", "v1/styles", {"GET", "HEAD"}),
    ]:
        answer = server.client.request(method, path, headers={"Origin": server.url.rstrip("/")})
        assert answer.status_code == 405
        assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
        assert not [name for name in answer.headers if name.startswith("access-control")]
    for path in ("nowhere", "v1", "v1/stylize/", "livez/", "v1/styles/great-wave"):
        assert server.client.get(path).status_code == 404
    head = server.client.head("v1/styles")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(server.client.get("v1/styles").content)


@pytest.mark.parametrize(
    "target",
    [
        "/assets/../../errors.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/styles.json%00",
        "/styles%2ejson",
        "/assets%2f..%2fstyles.json",
        "/..\\..\\errors.py",
        "/.",
        "/index.html/",
    ],
)
def test_no_path_leaves_the_page(server, target):
    answer = server.exchange(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert status_of(answer) in (400, 404)
    assert b"root:" not in answer


def test_thousands_of_ranges_cost_nothing(server):
    style = server.client.get("v1/styles").json()["styles"][0]["file"]
    ranges = "bytes=" + ",".join(["0-0"] * 5000)

    begun = time.monotonic()
    answer = server.client.get(style, headers={"Range": ranges})

    assert answer.status_code == 200
    assert time.monotonic() - begun < 1


# 76, 77, 80: security


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://localhost:1", "https://127.0.0.1"])
def test_pages_of_other_sites_may_not_ask(server, png, origin):
    answer = server.client.post("v1/stylize", content=png, headers={"Origin": origin})

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "localhost.example.com:8000", ""])
def test_other_names_for_this_machine_are_not_answered(server, host):
    answer = server.client.get("livez", headers={"Host": host})

    assert answer.status_code == 400


def test_the_own_page_may_ask(server, png):
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "localhost"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert server.client.post("v1/stylize", content=png, headers=headers).status_code == 200


def test_every_answer_has_the_headers_of_security(server, png):
    answers = [
        server.client.get(path)
        for path in ("", "livez", "metrics", "nowhere", "v1/stylize", "styles.json", "v1/styles")
    ]
    answers += [server.stylize(png), server.stylize(b"x"), server.client.get("livez", headers={"Host": "x"})]
    raw = server.exchange(b"nonsense\r\n\r\n").decode().lower()

    for answer in answers:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers
        if answer.status_code >= 400:
            assert "Traceback" not in answer.text
            assert ".py" not in answer.text
            assert "/" not in answer.json()["detail"].replace("image/", "").replace("form-data", "")
    assert "content-security-policy: default-src 'none'" in raw
    assert "server:" not in raw


def test_the_log_is_one_line_of_json_a_request_whatever_is_asked(server):
    evil = "/%0a%1b[31m\x7f"
    request = f"GET {evil} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\x1bb\r\nConnection: close\r\n\r\n"
    server.exchange(request.encode("latin-1"))
    server.client.get("livez", headers={"X-Request-Id": "my-own.id_1"})
    server.client.get("/%1b%7f%e2%80%a8", headers={"X-Request-Id": "with\tcontrol"})

    until(lambda: any(line["id"] == "my-own.id_1" for line in server.requests()))
    until(lambda: any(line["path"] == "/\x1b\x7f\u2028" for line in server.requests()))
    assert all(all(" " <= character <= "~" for character in line[:-1]) for line in server.lines)
    assert not any("control" in str(line["id"]) for line in server.requests())


# 81: what is named by its content


def test_the_same_request_gives_the_same_bytes(server, png):
    assert len({hashlib.sha256(server.stylize(png).content).hexdigest() for _ in range(20)}) == 1


def test_styles_and_files_are_not_sent_to_who_has_them(server):
    for path in ("v1/styles", "styles.json", "", "openapi.json"):
        first = server.client.get(path)
        assert first.status_code == 200
        if path == "openapi.json":
            continue
        again = server.client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert server.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_text_is_compressed_for_who_takes_it_and_named_files_are_kept_for_a_year(server):
    plain = server.client.get("styles.json", headers={"Accept-Encoding": "identity"})
    packed = server.client.get("styles.json", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    refused = server.client.get("styles.json", headers={"Accept-Encoding": "gzip;q=0"})
    onnx = server.client.get(plain.json()["styles"][0]["file"])

    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in refused.headers
    assert plain.headers["etag"] != packed.headers["etag"]
    assert plain.content == packed.content
    assert plain.headers["cache-control"] == "no-cache"
    assert onnx.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert hashlib.sha256(onnx.content).hexdigest() == plain.json()["styles"][0]["sha256"]


def test_the_page_is_told_what_the_api_takes(server):
    page = server.client.get("styles.json").json()
    api = server.client.get("v1/styles").json()

    assert page["api"] is True
    assert page["token"] is False
    assert page["limits"] == {"pixels": 50_000_000, "bytes": MIB_20, "side": 16_384}
    assert api == {name: page[name] for name in ("default", "limits", "styles")}
    assert api["default"] == "great-wave"
    assert sorted(style["name"] for style in api["styles"]) == bundled_names()


# 82: metrics


def test_metrics_count_what_was_asked(server, png):
    def counts() -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(server.client.get("metrics").text)
        requests = next(family for family in families if family.name == "fastnst_requests")
        return {(one.labels["route"], one.labels["code"]): one.value for one in requests.samples}

    before = counts()
    for _ in range(3):
        server.stylize(png)
    server.stylize(b"x")
    server.client.get("nowhere")
    after = counts()

    grown = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    assert grown == {
        ("/v1/stylize", "200"): 3,
        ("/v1/stylize", "415"): 1,
        ("page", "404"): 1,
        ("/metrics", "200"): 1,
    }
    assert server.metric('fastnst_decode_failures_total{kind="unsupported_format"}') >= 1
    assert server.metric("fastnst_queue_depth") == 0
    assert server.metric("fastnst_inflight") == 0


def test_answers_say_how_long_each_part_took(server, png):
    timing = server.stylize(png).headers["server-timing"]

    assert [part.split(";")[0] for part in timing.split(", ")] == ["wait", "decode", "paint", "line", "encode"]


def test_the_api_describes_itself_with_its_styles(server):
    document = server.client.get("openapi.json").json()

    names = [style["name"] for style in server.client.get("v1/styles").json()["styles"]]
    assert document["components"]["schemas"]["Style"]["enum"] == names
    assert json.dumps(document).count("#/components/schemas/Style") >= 2
