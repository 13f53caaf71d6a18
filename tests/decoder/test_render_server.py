"""Rendering in processes: what a file does to its decoder, and how the kernel reacts, affects only that file.

Everything here is real: processes, signals, limits. Files that take long are ordinary animations.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event
from time import sleep, time
from typing import Any

import psutil
import pytest
from darkroom.deadline import Deadline
from darkroom.errors import (
    DamagedImage,
    DecoderCrashed,
    DecoderOutOfMemory,
    DecoderTooSlow,
    NotAnImage,
    NotBegun,
    OutOfTime,
    PermanentFault,
    ServiceUnavailable,
    TooLarge,
    TooManyPixels,
)
from PIL import Image, ImageChops

from functions.process_image import render_server
from functions.process_image.admission import Admission
from functions.process_image.photo import Limits
from functions.process_image.ports import Renderer
from functions.process_image.processing import identify, render
from functions.process_image.render_messages import OVERHEAD_BYTES, RenderDefect
from functions.process_image.render_server import RenderServer
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of
from functions.process_image.settings import Settings
from functions.process_image.wiring import build_message_handlers, cpu_seconds
from tests.unit.fakes import FakeRenderer
from tests.unit.image_files import nclx, png_with, with_properties

LIMITS = Limits(max_bytes=60_000_000, max_pixels=100_000_000, max_frames=300)
SIZES = rendition_set_of(
    (
        RenditionSpec("animated", 400, 400, effort=4),
        RenditionSpec("small", 8, 8, format="jpeg"),
    )
)
ROOT = Path(__file__).parents[2]


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


@cache
def photo(width: int = 64, height: int = 48) -> bytes:
    return encoded(Image.linear_gradient("L").resize((width, height)).convert("RGB"), "JPEG")


@cache
def takes_long(frames: int = 199) -> bytes:
    """An animation that is small as a file and within every limit, and takes some seconds: noise, in turns."""
    head = 13 + 3 * 256
    one, other = (encoded(Image.effect_noise((320, 240), spread), "GIF") for spread in (100, 90))
    return one[:-1] + (other[head:-1] + one[head:-1]) * (frames // 2) + b";"


class AnyTimeWillDo(Deadline):
    """A deadline that lets a task begin however little is left."""

    def require(self, seconds: float, purpose: str) -> None:
        pass


def in_seconds(seconds: float = 300) -> Deadline:
    return AnyTimeWillDo(time() + seconds)


@contextmanager
def started(capacity: int = 10**9, cpu_seconds: int = 60, vcpus: float = 10) -> Iterator[RenderServer]:
    before = psutil.Process().children()  # the server of the handler, where another test has imported that
    with closing(RenderServer(LIMITS, SIZES, Admission(capacity, vcpus), cpu_seconds)) as renderer:
        yield renderer
    assert psutil.Process().children() == before, "it leaves no process behind"


@pytest.fixture
def server() -> Iterator[RenderServer]:
    with started() as renderer:
        yield renderer


@pytest.fixture
def python_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Let the server import a module that we write instead of the one of that name."""

    def put(name: str, code: str) -> None:
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return put


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def until(happened: Callable[[], Any]) -> Any:
    end = time() + 120
    while not (what := happened()):
        assert time() < end
        sleep(0.01)
    return what


def server_process() -> psutil.Process:
    """The server that was started last."""
    return max(psutil.Process().children(), key=psutil.Process.create_time)


def seen_by_root(look: Callable[[], Any]) -> Any:
    """What is seen in a process that hides: root sees it; for anybody else it is None, after Linux has refused it."""
    if os.geteuid() == 0 or sys.platform != "linux":
        return look()
    with pytest.raises((psutil.AccessDenied, PermissionError)):
        look()
    return None


def at_rest(server: RenderServer, *others: psutil.Process) -> bool:
    """Whether only ``others`` and the process that waits for the next image are left, and the server has no work."""
    process = server_process()
    return (
        server._spare is not None
        and len(process.children()) == 1 + len(others)
        and process.status() == psutil.STATUS_SLEEPING
    )


def waiting_process(server: RenderServer) -> psutil.Process:
    """The process that waits for the next image."""
    until(lambda: at_rest(server))
    (process,) = server_process().children()
    return process


def process_at_work(*others: psutil.Process) -> psutil.Process:
    """The process of the only image besides those of ``others``, once it is past the header.

    It is not the one that waits for the next image: that has one thread.
    """
    (process,) = until(lambda: [p for p in server_process().children() if p not in others and busy(p)])
    assert isinstance(process, psutil.Process)
    return process


def data_size(process: psutil.Process) -> int:
    """Bytes that RLIMIT_DATA counts."""
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[5]) * resource.getpagesize()


def held(admission: Admission) -> int:
    """Bytes that images hold."""
    return admission.capacity - admission._free


def is_alone(server: RenderServer) -> bool:
    """Whether an image has all memory: it is tried once more, and the processes of all others have ended."""
    return held(server.admission) == server.admission.capacity


def busy(process: psutil.Process) -> bool:
    """It is past the header: libvips has started its threads."""
    with suppress(psutil.NoSuchProcess):
        return process.num_threads() > 1
    return False


class TestWhatItAnswers:
    @pytest.fixture(params=["apart", "fake"])
    def renderer(self, request: pytest.FixtureRequest) -> Renderer:
        renderers: dict[str, Callable[[], Renderer]] = {
            "apart": lambda: request.getfixturevalue("server"),
            "fake": lambda: FakeRenderer(LIMITS, SIZES),
        }
        return renderers[request.param]()

    def test_is_the_result_of_identify_and_render(self, renderer: Renderer) -> None:
        here = identify(photo(), LIMITS)
        assert renderer.render(photo(), in_seconds()) == (here, render(photo(), here, SIZES))

    @pytest.mark.parametrize(
        ("data", "fault"),
        [(b"", NotAnImage), (b"hello, I am a text", NotAnImage), (photo()[:-200], DamagedImage)],
    )
    def test_is_their_fault_with_the_same_message(
        self, renderer: Renderer, data: bytes, fault: type[PermanentFault]
    ) -> None:
        with pytest.raises(fault) as here:
            render(data, identify(data, LIMITS), SIZES)
        with pytest.raises(fault) as there:
            renderer.render(data, in_seconds())
        assert str(there.value) == str(here.value)

    def test_is_a_cmyk_photo_at_one_size_after_the_other(self, server: RenderServer) -> None:
        # libvips converts it by a profile of its own, and crashes where that is read again at the next size
        inks = encoded(Image.new("CMYK", (640, 480), (0, 255, 255, 0)), "JPEG")
        assert len(server.render(inks, in_seconds())[1].renditions) == len(SIZES.specs)

    def test_is_the_same_for_any_file_size(self, renderer: Renderer) -> None:
        padded = photo() + b"\0" * 50_000_000
        assert renderer.render(padded, in_seconds())[1] == renderer.render(photo(), in_seconds())[1]


#: Lets the server believe that every image takes a byte, and its processes have hardly more than that.
_TOO_SMALL_AN_ESTIMATE = """
import functions.process_image.render_messages as messages
messages.OVERHEAD_BYTES = 2**20
import functions.process_image.processing as processing
processing.estimate_memory = lambda *_: 1
"""
#: Half of what processes have in addition to their estimate.
_HALF_THE_OVERHEAD = """
import functions.process_image.render_messages as messages
messages.OVERHEAD_BYTES //= 2
"""
#: Lets a process have no memory for a file of more than a megabyte.
_NO_MEMORY_FOR_THE_FILE = """
import socket
receive = socket.socket.recv
def recv(self, size, *flags):
    if size > 10**6:
        raise MemoryError
    return receive(self, size, *flags)
socket.socket.recv = recv
"""


@pytest.fixture
def spares(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each process that is forked for an image, the bytes it has instead of the estimate: 0 at first."""
    found: list[int] = []
    render_within = RenderServer._render_within

    def spied(self: RenderServer, data: bytes, deadline: Deadline, admit: Any, held: Any, spare: int = 0) -> Any:
        found.append(spare)
        return render_within(self, data, deadline, admit, held, spare)

    monkeypatch.setattr(RenderServer, "_render_within", spied)
    return found


class TestMemory:
    def test_a_photo_that_needs_too_much_memory_is_not_decoded(self) -> None:
        with (
            started(capacity=OVERHEAD_BYTES + 2**20) as renderer,
            pytest.raises(TooManyPixels, match=f"the function has {OVERHEAD_BYTES // 2**20 + 1} MB for it"),
        ):
            renderer.render(photo(), in_seconds())

    @pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["VP8", "VP8L", "VP8X"])
    def test_a_large_webp_gets_memory_for_its_canvas(self, server: RenderServer, options: dict[str, object]) -> None:
        large = encoded(Image.new("RGB", (6000, 4000)), "WEBP", method=0, **options)
        assert server.render(large, in_seconds())[0].width == 6000

    @pytest.mark.parametrize("frames", [1, 2])
    def test_a_tall_webp_gets_memory_for_its_alpha(self, server: RenderServer, frames: int) -> None:
        # A gradient from corner to corner: simpler alpha is stored as a palette, which takes a fifth to decode.
        upwards = Image.linear_gradient("L")
        gradient = ImageChops.add(upwards, upwards.transpose(Image.Transpose.ROTATE_90), scale=2)
        tall = Image.new("RGB", (1500, 16_000), (20, 90, 160))
        tall.putalpha(gradient.resize(tall.size, Image.Resampling.BICUBIC))
        more = [tall.rotate(180)] * (frames - 1)
        data = encoded(tall, "WEBP", quality=60, method=0, save_all=frames > 1, append_images=more)
        seen, _ = server.render(data, in_seconds())
        assert (seen.height, seen.frames) == (16_000, frames)

    def test_all_frames_of_a_webp_fit_into_its_estimate(
        self, server: RenderServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """libvips decodes them all before it returns the first."""
        monkeypatch.setattr(Admission, "turn", lambda *_: pytest.fail("it was tried again with all memory"))
        frames = [Image.linear_gradient("L").resize((640, 480)).rotate(6 * turn) for turn in range(60)]
        data = encoded(frames[0], "WEBP", method=0, save_all=True, append_images=frames[1:])
        assert server.render(data, in_seconds())[0].frames == 60

    def test_a_file_too_large_to_identify_is_not_sent(self) -> None:
        with started(capacity=OVERHEAD_BYTES) as renderer, pytest.raises(TooLarge, match="866 bytes"):
            renderer.render(photo(), in_seconds())

    @pytest.mark.parametrize("at_once", [1, 3])
    def test_images_share_the_memory(self, server: RenderServer, threads: ThreadPoolExecutor, at_once: int) -> None:
        server.admission = admission = Admission(at_once * (OVERHEAD_BYTES + 40 * 2**20), vcpus=10)
        results = [threads.submit(server.render, photo(), in_seconds()) for _ in range(10)]
        assert len({result.result(120) for result in results}) == 1
        until(lambda: held(admission) == 0)

    def test_nothing_is_done_for_a_file_before_its_memory_is_reserved(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        server.admission = Admission(OVERHEAD_BYTES + 50 * 2**20, vcpus=10)
        with server.admission.look(60 * 2**20, in_seconds()):
            waiting = threads.submit(server.render, photo(), in_seconds())
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            assert server_process().children() == []
        assert waiting.result(120)

    def test_the_memory_limit_of_a_process_is_reserved_for_it(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        process = process_at_work()
        ceiling, _ = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        shared = data_size(server_process())
        assert (
            ceiling - shared <= held(server.admission) + 2**20
        )  # the kernel's and the interpreter's few pages at a fork
        process.kill()
        with pytest.raises(ServiceUnavailable):
            long.result(120)

    def test_an_image_that_waits_for_the_others_memory_holds_none_meanwhile(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        server.admission = admission = Admission(OVERHEAD_BYTES + 95 * 2**20, vcpus=10)
        with admission.look(90 * 2**20, in_seconds()):
            waiting = threads.submit(server.render, photo(), in_seconds())
            until(lambda: admission.waiting)
            until(lambda: at_rest(server))
            assert held(admission) == 90 * 2**20
        assert waiting.result(120)

    def test_a_decoder_gets_no_more_than_its_image_may_take(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        process = process_at_work()
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        ceiling, _ = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        assert ceiling < 10**9, "the kernel keeps a ceiling"
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (process.memory_info().rss // 2, hard))
        second = process_at_work(process)
        ceiling, _ = resource.prlimit(second.pid, resource.RLIMIT_DATA)
        assert ceiling >= server.admission.capacity, "once more it may have all that there is"
        resource.prlimit(second.pid, resource.RLIMIT_DATA, (second.memory_info().rss // 2, hard))
        with pytest.raises((DecoderOutOfMemory, DecoderCrashed)):
            long.result(120)
        assert server.render(photo(), in_seconds())

    def test_an_answer_counts_though_the_process_ended_before_it_had_the_whole_file(
        self, python_with: Callable[[str, str], None]
    ) -> None:
        python_with("sitecustomize", _NO_MEMORY_FOR_THE_FILE)
        with started() as renderer, pytest.raises(DecoderOutOfMemory):
            renderer.render(photo() + bytes(5_000_000), in_seconds())

    def test_an_image_whose_estimate_is_too_small_is_rendered_alone_with_all_memory(
        self, python_with: Callable[[str, str], None], spares: list[int]
    ) -> None:
        python_with("sitecustomize", _TOO_SMALL_AN_ESTIMATE)
        with started() as renderer:
            rendered = renderer.render(photo(2000, 1500), in_seconds())[1]
            assert [spare > 500_000_000 for spare in spares] == [False, True]
        assert [rendition.width for rendition in rendered.renditions] == [400, 8]

    def test_the_stacks_of_all_threads_fit_with_the_smallest_estimate(
        self, python_with: Callable[[str, str], None], spares: list[int]
    ) -> None:
        python_with("sitecustomize", _HALF_THE_OVERHEAD)
        with started() as renderer:
            for _ in range(20):
                renderer.render(photo(320, 200), in_seconds())
        assert not any(spares), "none was out of memory at first"


class TestTime:
    def test_a_file_that_takes_more_cpu_time_than_an_image_may_is_a_permanent_fault(self) -> None:
        with started(cpu_seconds=1) as renderer:
            with pytest.raises(DecoderTooSlow, match="more than 1 s of CPU time"):
                renderer.render(takes_long(), in_seconds())
            assert renderer.render(photo(), in_seconds())

    @pytest.mark.parametrize(("memory_mb", "seconds"), [(512, 7), (1769, 25), (2 * 1769, 40), (10240, 40)])
    def test_cpu_time_is_what_the_functions_vcpu_gives_before_the_clock_ends_it(
        self, memory_mb: int, seconds: int
    ) -> None:
        assert cpu_seconds(memory_mb) == seconds
        assert seconds * 1769 / memory_mb <= 46, "or a bomb would end as OutOfTime, and come back"

    def test_a_file_that_needs_more_time_than_is_left_is_retried(
        self, server: RenderServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.render(photo(), in_seconds())
        # On a busy machine the estimate is longer than what is left.
        monkeypatch.setattr(Admission, "_refuse_if_late", lambda *_: None)
        with pytest.raises(OutOfTime, match=r"in time\.$"):
            server.render(takes_long(), in_seconds(6))
        until(lambda: at_rest(server))

    def test_a_process_that_does_not_end_is_not_awaited(
        self, server: RenderServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Admission, "_refuse_if_late", lambda *_: None)
        server.wait_until_ready()
        stopped = waiting_process(server)
        stopped.suspend()
        with pytest.raises(OutOfTime, match="did not end"):
            server.render(photo(), in_seconds(7))
        until(lambda: not stopped.is_running())  # killed, or it would keep its memory
        assert server.render(photo(), in_seconds())

    def test_an_image_does_not_begin_with_too_little_time(self, server: RenderServer) -> None:
        with pytest.raises(NotBegun):
            server.render(photo(), Deadline(time() + 4))

    def test_ten_animations_at_once_are_all_done_in_a_few_receives(self, threads: ThreadPoolExecutor) -> None:
        left, attempts = list(range(10)), Counter[int]()
        with started(vcpus=1) as renderer:
            renderer.wait_until_ready()
            while left:  # each round is a receive of what is left
                deadline = in_seconds(20)
                done = {number: threads.submit(renderer.render, takes_long(20), deadline) for number in left}
                faults = {number: rendered.exception(120) for number, rendered in done.items()}
                attempts.update(number for number, fault in faults.items() if not isinstance(fault, NotBegun))
                left = [number for number, fault in faults.items() if fault]
                assert all(isinstance(faults[number], OutOfTime) for number in left)
        assert max(attempts.values()) < 5


class TestTheNextImage:
    """Its process is forked before it is there."""

    def test_has_a_process_of_its_own_that_waits_for_it(self, server: RenderServer) -> None:
        server.wait_until_ready()
        waiting = waiting_process(server)
        assert server.render(photo(), in_seconds())
        assert waiting_process(server) != waiting, "one image per process"

    def test_is_awaited_in_the_sandbox_with_no_memory_reserved(self, server: RenderServer) -> None:
        server.wait_until_ready()
        waiting = waiting_process(server)
        until(lambda: "Seccomp:\t2" in Path(f"/proc/{waiting.pid}/status").read_text())
        assert resource.prlimit(waiting.pid, resource.RLIMIT_CPU) == (60, 61)
        assert held(server.admission) == 0

    def test_leaves_nothing_behind_if_it_never_comes(self) -> None:
        with started() as server:
            server.wait_until_ready()
            waiting = waiting_process(server)
        until(lambda: not waiting.is_running())

    @pytest.mark.parametrize("which", ["the process", "the server"])
    def test_is_rendered_if_what_waits_for_it_is_killed(self, server: RenderServer, which: str) -> None:
        server.wait_until_ready()
        waiting = waiting_process(server)
        killed = waiting if which == "the process" else server_process()
        killed.kill()
        until(lambda: not waiting.is_running())
        assert server.render(photo(), in_seconds())

    def test_begins_when_the_process_before_it_has_ended(
        self, server: RenderServer, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended = Event()
        wait = render_server._wait_for_end
        monkeypatch.setattr(render_server, "_wait_for_end", lambda status: ended.wait(120) and wait(status))
        server.admission = admission = Admission(OVERHEAD_BYTES + 50 * 2**20, vcpus=1)
        assert server.render(photo(), in_seconds()), "it does not wait for the end itself"
        following = threads.submit(server.render, photo(), in_seconds())
        with pytest.raises(TimeoutError):
            following.result(0.5)
        ended.set()
        assert following.result(120)
        until(lambda: held(admission) == 0)


class TestFailuresOfOneImage:
    @pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL])
    def test_a_crash_is_the_files_fault_and_names_the_signal(
        self, server: RenderServer, threads: ThreadPoolExecutor, how: signal.Signals
    ) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        first = process_at_work()
        first.send_signal(how)
        until(lambda: is_alone(server))  # it is tried once more
        process_at_work(first).send_signal(how)
        with pytest.raises(DecoderCrashed, match=how.name):
            long.result(120)

    @pytest.mark.parametrize(
        ("exit_code", "fault"), [(0, RenderDefect), (1, DecoderCrashed)], ids=["as ours does", "as a library may"]
    )
    def test_an_end_without_an_answer_is_the_files_fault_unless_darkrooms_code_ended(
        self, python_with: Callable[[str, str], None], exit_code: int, fault: type[Exception]
    ) -> None:
        python_with("sitecustomize", f"import os; os.register_at_fork(after_in_child=lambda: os._exit({exit_code}))")
        with started() as renderer, pytest.raises(fault):
            renderer.render(photo(), in_seconds())

    def test_an_error_before_the_file_is_read_is_a_defect(self) -> None:
        with started(cpu_seconds=2**63) as renderer, pytest.raises(RenderDefect, match="OverflowError"):
            renderer.render(photo(), in_seconds())

    def test_a_kill_is_not_the_files_fault(self, server: RenderServer, threads: ThreadPoolExecutor) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        process_at_work().kill()
        with pytest.raises(ServiceUnavailable):
            long.result(120)

    def test_the_others_are_done_meanwhile(self, server: RenderServer, threads: ThreadPoolExecutor) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        doomed = process_at_work()
        expected = server.render(photo(), in_seconds())
        until(lambda: at_rest(server, doomed))
        assert process_at_work() == doomed, "or the process that waits for the next image would be stopped"
        doomed.suspend()
        others = [threads.submit(server.render, photo(), in_seconds()) for _ in range(9)]
        assert [other.result(120) for other in others] == [expected] * 9
        doomed.send_signal(signal.SIGSEGV)
        doomed.resume()
        until(lambda: is_alone(server))  # it is tried once more
        process_at_work(doomed).send_signal(signal.SIGSEGV)
        with pytest.raises(DecoderCrashed):
            long.result(120)

    def test_nothing_of_it_reaches_the_next(self, server: RenderServer) -> None:
        def descriptors() -> int:
            return psutil.Process().num_fds() + (seen_by_root(server_process().num_fds) or 0)

        server.render(photo(), in_seconds())
        until(lambda: at_rest(server))
        before = descriptors()
        for _ in range(20):
            server.render(photo(), in_seconds())
            with pytest.raises(NotAnImage):
                server.render(b"", in_seconds())
        until(lambda: at_rest(server) and descriptors() == before)


def every_kind() -> Iterator[tuple[str, bytes]]:
    """The sample photos, the unusual pictures of the integration tests, and colours that files only number."""
    for path in sorted((ROOT / "samples").rglob("*.*")):
        if path.suffix not in (".py", ".md", ".toml", ".html", ".js", ".css"):
            yield path.name, path.read_bytes()
    with zipfile.ZipFile(ROOT / "tests" / "integration" / "data" / "pictures.zip") as archive:
        pictures = {name: archive.read(name) for name in archive.namelist()}
    yield from pictures.items()
    for primaries, transfer in ((9, 18), (9, 16), (12, 13), (1, 8), (5, 4)):
        yield f"nclx {primaries} {transfer}", with_properties(pictures["heic-p3-nclx.heic"], nclx(primaries, transfer))
    grey = encoded(Image.linear_gradient("L"), "PNG")
    yield "gamma of grey", png_with(grey, (b"gAMA", struct.pack(">I", 100_000)))


_PATH = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers" / "common")])}
_A_FUNCTION = """
from time import sleep
from tests.decoder.test_render_server import in_seconds, started, takes_long
with started() as renderer:
    {does}
"""
_WHAT_A_FUNCTION_DOES = {
    "renders": "renderer.render(takes_long(), in_seconds())",
    "waits for an image": "renderer.wait_until_ready(); sleep(300)",
}


class TestTheServer:
    def test_renders_or_refuses_every_kind_though_it_opens_no_file(self, threads: ThreadPoolExecutor) -> None:
        """Python and the libraries load much at first use; all that a picture needs must be loaded before."""

        def outcome(data: bytes) -> None:
            with suppress(PermanentFault):
                renderer.render(data, in_seconds())

        with started(vcpus=2) as renderer:
            for name, result in [(name, threads.submit(outcome, data)) for name, data in every_kind()]:
                assert result.exception() is None, name

    def test_is_restarted_after_a_kill(self, server: RenderServer) -> None:
        process = server_process()
        process.kill()
        until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        assert server.render(photo(), in_seconds())

    def test_leaves_its_images_for_later_and_no_process_when_killed(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        process = process_at_work()
        server_process().kill()
        with pytest.raises(ServiceUnavailable):
            long.result(120)
        until(lambda: not process.is_running())
        assert server.render(photo(), in_seconds())

    def test_that_cannot_start_is_a_defect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [])
        with started() as renderer, pytest.raises(RenderDefect):
            renderer.render(photo(), in_seconds())

    def test_is_ready_before_the_first_image(self, server: RenderServer) -> None:
        server.wait_until_ready()
        process = server_process()
        process.suspend()
        mapped = seen_by_root(process.memory_maps)
        assert mapped is None or any("pyvips" in one.path for one in mapped)
        assert process.num_threads() == 1, "or a fork would not be safe"
        process.resume()

    def test_without_a_library_fails_the_functions_start(self, python_with: Callable[[str, str], None]) -> None:
        python_with("pyvips", "raise ImportError('libvips.so is missing')")
        before = psutil.Process().children()
        with pytest.raises(RenderDefect, match="did not start"):
            build_message_handlers(Settings.from_environment(os.environ))
        assert psutil.Process().children() == before

    def test_is_not_mistaken_for_its_successor(self, server: RenderServer) -> None:
        with server._forked() as (_, exit_status, its_server):
            process = server_process()
            process.kill()
            until(lambda: process.status() == psutil.STATUS_ZOMBIE)
            assert server.render(photo(), in_seconds()), "another image starts the next"
            assert str(server._fault_of(exit_status, its_server)) == "The render server was killed by signal 9."

    def test_returns_an_image_that_is_done_while_it_closes(self, server: RenderServer) -> None:
        server._ends.shutdown()
        assert server.render(photo(), in_seconds())
        assert held(server.admission) == 0

    def test_that_does_not_end_is_killed(self) -> None:
        with started() as renderer:
            renderer.wait_until_ready()
            server_process().suspend()

    def test_that_cannot_be_started_again_leaves_no_socket_open(
        self, server: RenderServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = server_process()
        process.kill()
        until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(FileNotFoundError):
                server.render(photo(), in_seconds())
            before = psutil.Process().num_fds()
            with pytest.raises(FileNotFoundError):
                server.render(photo(), in_seconds())
            assert psutil.Process().num_fds() == before
        assert server.render(photo(), in_seconds())

    @pytest.mark.parametrize("does", _WHAT_A_FUNCTION_DOES)
    def test_ends_with_the_function_in_any_case(self, does: str) -> None:
        function = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _A_FUNCTION.format(does=_WHAT_A_FUNCTION_DOES[does])],
            cwd=ROOT,
            env=os.environ | _PATH,
        )
        try:
            (renderer,) = until(lambda: psutil.Process(function.pid).children())
            processes = until(renderer.children)
        finally:
            function.kill()
            function.wait()
        until(lambda: not any(process.is_running() for process in (renderer, *processes)))

    def test_has_neither_the_functions_environment_nor_its_output(self, server: RenderServer) -> None:
        assert server.render(photo(), in_seconds())
        process = server_process()
        libraries = {"MALLOC_ARENA_MAX", "VIPS_DISC_THRESHOLD"}
        environment = set(seen_by_root(process.environ) or ())
        assert environment - {"LC_CTYPE"} <= {"PYTHONPATH", "PATH", "LD_LIBRARY_PATH"} | libraries
        assert seen_by_root(Path(f"/proc/{process.pid}/fd/1").readlink) in (None, Path(os.devnull))

    def test_keeps_the_output_of_its_processes_out_of_the_log(
        self, server: RenderServer, threads: ThreadPoolExecutor
    ) -> None:
        long = threads.submit(server.render, takes_long(), in_seconds())
        process = process_at_work()
        for fd in (1, 2):
            assert seen_by_root(Path(f"/proc/{process.pid}/fd/{fd}").readlink) in (None, Path(os.devnull))
        process.kill()
        with pytest.raises(ServiceUnavailable):
            long.result(120)

    @pytest.mark.skipif(sys.platform != "linux", reason="Only Linux hides processes.")
    def test_is_of_a_function_that_no_process_can_look_into(self) -> None:
        get_dumpable = 3
        code = f"import ctypes, functions.process_image.app; print(ctypes.CDLL(None).prctl({get_dumpable}, 0, 0, 0, 0))"
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | _PATH, capture_output=True, text=True, check=True
        )
        assert ran.stdout == "0\n"

    def test_alone_has_the_image_libraries(self) -> None:
        code = "import sys, functions.process_image.wiring; print({'PIL', 'pyvips', 'pi_heif'} & sys.modules.keys())"
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | _PATH, capture_output=True, text=True, check=True
        )
        assert ran.stdout == "set()\n"


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (64, 48)) -> bytes:
    """A PNG with chunks of our own between its header and its pixels."""
    whole = encoded(Image.new("RGB", size), "PNG")
    inserted = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return whole[:33] + inserted + whole[33:]


def zeros(megabytes: int) -> bytes:
    """Zeros, deflated to a thousandth."""
    packer = zlib.compressobj(9)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + one * megabytes + b"\3\0" + struct.pack(">I", (megabytes * 2**20 % 65521) << 16 | 1)


def tiff(width: int, height: int, strip_rows: int, strip_bytes: int) -> bytes:
    """A TIFF whose only strip claims more than the file holds."""
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 8),  # deflated
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (278, 4, strip_rows),
        (279, 4, strip_bytes),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + zlib.compress(bytes(1000))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a profile that unpacks to a gigabyte": lambda: png((b"iCCP", b"profile\0\0" + zeros(1024))),
    "texts that unpack to a gigabyte": lambda: png(*[(b"zTXt", b"text\0\0" + zeros(64))] * 16),
    "an international text that unpacks to a gigabyte": lambda: png((b"iTXt", b"text\0\1\0\0\0" + zeros(1024))),
    "a strip as large as the picture, with nothing in it": lambda: tiff(9999, 9999, 9999, 2**31 - 1),
    "a picture of the largest size, with no pixels": lambda: png(size=(1, 1)).replace(
        struct.pack(">II", 1, 1), struct.pack(">II", 9999, 9999)
    ),
    "a drawing that calls itself a photo": lambda: b"\xff\xd8\xff" + b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "an animation whose frames have no end": lambda: takes_long()[:-1] * 3,
}


class TestHostileFiles:
    """Any file has an outcome within its limits, and the next photo is rendered."""

    @pytest.mark.parametrize("name", HOSTILE)
    def test_end_within_their_limits(self, name: str) -> None:
        with started(cpu_seconds=2) as renderer:
            with suppress(PermanentFault):  # some are rendered: what is bad in them is never looked at
                renderer.render(HOSTILE[name](), in_seconds())
            assert renderer.render(photo(), in_seconds())
