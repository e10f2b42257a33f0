import asyncio
import os
import signal

import numpy as np
import pytest
from helpers.photos import bomb, noise
from helpers.picture_files import encoded
from helpers.servers import until

from fastnst.config import ServeLimits
from fastnst.errors import FastnstError, SizeError, UnsupportedFormatError
from fastnst.image import Picture, decode_picture, encode_picture
from fastnst.serve.problems import DeadlineError, DecodeError
from fastnst.serve.workers import Workers

PNG = encoded(noise(32, 48))
LIMITS = ServeLimits(workers=1, max_pixels=1_000_000, max_bytes=1 << 20)


def with_workers(work, limits=LIMITS, **options):
    async def run():
        workers = Workers(limits, **options)
        try:
            await workers.start()
            return await work(workers)
        finally:
            workers.close()

    return asyncio.run(run())


def pid_of(workers: Workers) -> int:
    (worker,) = workers._all
    return worker.process.pid


def test_pictures_come_back_as_they_are_decoded_here_and_go_as_they_are_encoded():
    rgba = np.dstack([noise(33, 21), noise(33, 21, seed=1)[..., :1]])

    async def work(workers):
        plain, transparent = [await workers.decode(data, "image") for data in (PNG, encoded(rgba))]
        return plain, transparent, await workers.encode(transparent, "PNG", 92)

    plain, transparent, png = with_workers(work)

    np.testing.assert_array_equal(plain.rgb, decode_picture(PNG).rgb)
    assert plain.alpha is None
    np.testing.assert_array_equal(transparent.alpha, rgba[..., 3])
    assert png == encode_picture(transparent, "PNG")


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"x", UnsupportedFormatError), (bomb(), SizeError), (PNG[:200], DecodeError), (bytes(2 << 20), DecodeError)],
)
def test_errors_come_back_as_they_are_and_the_worker_stays(data, kind):
    async def work(workers):
        before = pid_of(workers)
        with pytest.raises(FastnstError) as caught:
            await workers.decode(data, "image")
        await workers.decode(PNG, "image")
        return type(caught.value), before == pid_of(workers)

    assert with_workers(work) == (kind, True)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGSTOP, DeadlineError), (signal.SIGSEGV, DecodeError), (signal.SIGKILL, DecodeError)]
)
def test_a_worker_that_hangs_or_crashes_fails_its_own_job_and_is_replaced(number, kind):
    async def work(workers):
        before = pid_of(workers)
        os.kill(before, number)
        with pytest.raises(FastnstError) as caught:
            await workers.decode(PNG, "image")
        picture = await workers.decode(PNG, "image")
        return type(caught.value), picture.size, before == pid_of(workers)

    assert with_workers(work, patience=1.0) == (kind, (32, 48), False)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_what_an_encoder_did_not_do_another_does(number):
    picture = Picture(noise())

    async def work(workers):
        os.kill(pid_of(workers), number)
        return await workers.encode(picture, "PNG", 92)

    assert with_workers(work, patience=2.0) == encode_picture(picture, "PNG")


def test_an_encoder_that_crashes_every_time_is_an_error_of_the_service():
    async def work(workers):
        with pytest.raises(FastnstError, match="encoder of NOTHING") as caught:
            await workers.encode(Picture(noise()), "NOTHING", 92)
        return caught.value.http_status

    assert with_workers(work) == 500


def test_an_encoder_that_is_never_in_time_is_a_deadline():
    async def work(workers):
        with pytest.raises(DeadlineError, match="to encode"):
            await workers.encode(Picture(noise()), "PNG", 92)

    with_workers(work, patience=1e-6)


def test_whoever_leaves_ends_the_worker_that_is_at_it():
    async def work(workers):
        before = pid_of(workers)
        os.kill(before, signal.SIGSTOP)
        decoding = asyncio.create_task(workers.decode(PNG, "image"))
        await asyncio.sleep(0.1)
        decoding.cancel()
        picture = await workers.decode(PNG, "image")
        until(lambda: not os.path.exists(f"/proc/{before}"))
        return picture.size

    assert with_workers(work, patience=60) == (32, 48)


def test_memory_that_a_picture_may_not_take_is_not_there():
    greedy = encoded(np.zeros((9000, 9000), np.uint8))

    async def work(workers):
        workers.limits = ServeLimits(workers=1, max_pixels=100_000_000)  # than what the process was started for
        with pytest.raises(DecodeError):
            await workers.decode(greedy, "image")
        return (await workers.decode(PNG, "image")).size

    assert with_workers(work) == (32, 48)


def test_the_largest_picture_has_room_in_the_memory_of_a_worker():
    side = 600
    rgba = np.random.default_rng(0).integers(0, 255, (side, side, 4), dtype=np.uint8)
    limits = ServeLimits(workers=1, max_pixels=side * side)

    async def work(workers):
        for format in ("PNG", "WEBP", "TIFF", "AVIF"):
            assert (await workers.decode(encoded(rgba, format), "image")).size == (side, side)
        for format in ("PNG", "WEBP", "JPEG"):
            await workers.encode(Picture(rgba[..., :3], rgba[..., 3]), format, 100)

    with_workers(work, limits)
