"""The decoder as a worker meets it: a confined process of its own, fed with good recordings."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sttd.engines import InvalidAudioError, TransientEngineError
from sttd.wire.messages import DecodeLimits
from sttd.worker import audio as audio_module
from sttd.worker.audio import DecoderDiedError, UndecodableError
from sttd.worker.direct import DirectAudio
from tests.support import recordings
from tests.support.companion import REPOSITORY, Companion
from tests.support.recordings import BY_SUFFIX, KINDS, PLAIN_FLAC, Kind, record
from tests.support.waiting import eventually

SECONDS = 3.0


@pytest.fixture(scope="module")
def companion() -> Iterator[Companion]:
    with Companion() as it:
        yield it


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.suffix)
def test_every_listed_kind_of_recording_becomes_16_khz_mono(
    companion: Companion, tmp_path: Path, kind: Kind
) -> None:
    heard = companion.hear(record(tmp_path / f"a.{kind.suffix}", SECONDS, kind))
    assert heard.code == ""
    assert heard.damage == ""
    assert len(heard.pcm) / 32_000 == pytest.approx(SECONDS, abs=0.15)
    assert heard.total_s == pytest.approx(len(heard.pcm) / 32_000)
    middle = heard.pcm[16_000:80_000]
    assert recordings.pitch(middle) == pytest.approx(440, abs=4)
    assert recordings.loudness(middle) == pytest.approx(8000 / math.sqrt(2), rel=0.3)


def test_a_recording_in_the_right_shape_is_handed_on_bit_for_bit(
    companion: Companion, tmp_path: Path
) -> None:
    samples = bytes(range(256)) * 1000
    path = tmp_path / "a.wav"
    path.write_bytes(recordings.wav(samples))
    assert companion.hear(path).pcm == samples


@pytest.mark.parametrize(
    ("channels", "mask"),
    [(1, 0x800), (2, 0x600), (2, 0x3000), (3, 0x700), (4, 0xF000_0000), (2, 0x3), (6, 0x3F)],
    ids=hex,
)
def test_wherever_its_speakers_stand_a_recording_is_heard(
    companion: Companion, tmp_path: Path, channels: int, mask: int
) -> None:
    values = [round(8000 * math.sin(math.tau * 440 * n / 16_000)) for n in range(16_000)]
    samples = b"".join(value.to_bytes(2, "little", signed=True) * channels for value in values)
    path = tmp_path / "a.wav"
    path.write_bytes(recordings.wav_by_mask(samples, channels, mask))
    heard = companion.hear(path)
    assert (heard.code, heard.damage, heard.total_s) == ("", "", 1.0)
    assert recordings.pitch(heard.pcm) == pytest.approx(440, abs=4)
    assert recordings.loudness(heard.pcm) == pytest.approx(8000 / math.sqrt(2), rel=0.3)


def test_channels_that_nobody_knows_how_to_mix_count_the_same(
    companion: Companion, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    one_side = (9000).to_bytes(2, "little") + bytes(4)
    path.write_bytes(recordings.wav_by_mask(one_side * 16_000, 3, 0x700))
    assert recordings.loudness(companion.hear(path).pcm) == pytest.approx(3000, abs=1)


def test_chunks_are_whole_samples_of_at_most_64_kib(companion: Companion, tmp_path: Path) -> None:
    audio = companion.open(record(tmp_path / "a.mp3", 7.0, BY_SUFFIX["mp3"]))
    sizes = [len(chunk) for chunk in audio]
    audio.close()
    assert len(sizes) > 2
    assert all(0 < size <= 65_536 and size % 2 == 0 for size in sizes)


@pytest.mark.parametrize("start_s", [0.5, 2.9999, 4.1, 6.0])
def test_a_later_start_gives_exactly_the_samples_of_a_reading_from_the_start(
    companion: Companion, tmp_path: Path, start_s: float
) -> None:
    path = record(tmp_path / "a.mp3", 6.0, BY_SUFFIX["mp3"])
    whole = companion.hear(path)
    late = companion.hear(path, start_s=start_s)
    assert late.pcm == whole.pcm[round(start_s * 16_000) * 2 :]
    assert late.total_s == whole.total_s


def test_a_start_beyond_the_end_gives_nothing(companion: Companion, tmp_path: Path) -> None:
    heard = companion.hear(record(tmp_path / "a.wav", 1.0), start_s=5.0)
    assert (heard.pcm, heard.code, heard.total_s) == (b"", "", 1.0)


def test_while_the_part_before_the_start_is_passed_over_the_worker_hears_of_it(
    tmp_path: Path,
) -> None:
    path = record(tmp_path / "a.wav", 30.0)
    told: list[float] = []
    with Companion("decoder.SKIPPED_EVERY_S = 0.0") as companion:
        audio = companion.open(path, start_s=29.0, on_progress=told.append)
        before = list(told)
        audio.close()
    assert len(before) > 5
    assert before == sorted(before)
    assert 0 < before[0] < before[-1] <= 30.0


def test_progress_is_told_at_most_once_an_interval(companion: Companion, tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 20.0)
    told: list[float] = []
    now = iter(range(1000))
    audio = companion.open(
        path, on_progress=told.append, interval_s=3.0, clock=lambda: float(next(now))
    )
    chunks = sum(1 for _ in audio)
    audio.close()
    assert len(told) == chunks // 3  # the first one when the first interval is over
    assert told == sorted(told)
    assert audio.position_s == 20.0


def test_a_position_told_with_something_else_is_not_told_again_soon(
    companion: Companion, tmp_path: Path
) -> None:
    told: list[float] = []
    now = iter(range(1000))
    audio = companion.open(
        record(tmp_path / "a.wav", 20.0),
        on_progress=told.append,
        interval_s=3.0,
        clock=lambda: float(next(now)),
    )
    for _ in audio:
        audio.told()
    audio.close()
    assert told == []


def test_the_header_tells_the_duration_before_the_first_sample(
    companion: Companion, tmp_path: Path
) -> None:
    audio = companion.open(record(tmp_path / "a.flac", 4.0, PLAIN_FLAC))
    assert audio.duration_s == pytest.approx(4.0)
    audio.close()


@pytest.mark.parametrize("encoder", ["mpeg4", "libx264"])
def test_the_sound_of_a_video_is_taken(companion: Companion, tmp_path: Path, encoder: str) -> None:
    path = record(tmp_path / "a.mp4", SECONDS, BY_SUFFIX["mp4"], pictures=encoder)
    heard = companion.hear(path)
    assert heard.code == ""
    assert len(heard.pcm) / 32_000 == pytest.approx(SECONDS, abs=0.15)


@pytest.mark.parametrize("encoder", ["mjpeg", "png"])
def test_cover_art_is_ignored(companion: Companion, tmp_path: Path, encoder: str) -> None:
    path = record(tmp_path / "a.mp3", SECONDS, BY_SUFFIX["mp3"], pictures=encoder)
    assert b"APIC" in path.read_bytes()
    heard = companion.hear(path)
    assert heard.code == ""
    assert len(heard.pcm) / 32_000 == pytest.approx(SECONDS, abs=0.15)


def test_a_valid_recording_without_samples_lasts_zero_seconds(
    companion: Companion, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(recordings.wav(b""))
    heard = companion.hear(path)
    assert (heard.pcm, heard.code, heard.total_s) == (b"", "", 0.0)


def test_an_engine_that_loses_interest_costs_the_next_job_nothing(
    companion: Companion, tmp_path: Path
) -> None:
    long = record(tmp_path / "long.flac", 120.0, PLAIN_FLAC, silent=True)
    short = record(tmp_path / "short.wav", 1.0)
    audio = companion.open(long)
    assert next(iter(audio))
    audio.close()
    audio.close()
    assert audio.total_s == pytest.approx(120.0)  # the header's word, for want of better
    assert companion.hear(short).total_s == 1.0


def test_a_length_that_no_header_tells_is_counted_behind_what_was_read(
    companion: Companion, tmp_path: Path
) -> None:
    told: list[float] = []
    path = record(tmp_path / "a.webm", 60.0, BY_SUFFIX["webm"], options={"live": "1"})
    audio = companion.open(path, on_progress=told.append, clock=iter(range(1000)).__next__)
    assert audio.duration_s is None
    next(iter(audio))
    audio.count()
    audio.close()
    assert audio.total_s == pytest.approx(60.0, abs=0.15)
    assert len(told) > 20  # or it would pass for a worker that hangs


def test_a_length_that_the_header_tells_is_not_counted(
    companion: Companion, tmp_path: Path
) -> None:
    audio = companion.open(record(tmp_path / "a.flac", 4.0, PLAIN_FLAC))
    audio.count()
    audio.close()
    assert (audio.total_s, audio.position_s) == (4.0, 0.0)


def test_reading_after_close_is_an_error(companion: Companion, tmp_path: Path) -> None:
    audio = companion.open(record(tmp_path / "a.wav", 10.0))
    chunks = iter(audio)
    next(chunks)
    audio.close()
    with pytest.raises(ValueError, match=r"a\.wav: read after close"):
        next(chunks)


def test_a_hundred_jobs_leak_no_descriptors(companion: Companion, tmp_path: Path) -> None:
    path = record(tmp_path / "a.mp3", 0.2, BY_SUFFIX["mp3"])  # resampled, so with a filter graph
    for _ in range(100):  # the sandbox leaves room for 16 descriptors
        assert companion.hear(path).code == ""


def test_decoding_and_resampling_start_no_thread(companion: Companion, tmp_path: Path) -> None:
    audio = companion.open(record(tmp_path / "a.mp3", 30.0, BY_SUFFIX["mp3"], silent=True))
    next(iter(audio))
    assert audio.position_s < 30  # so it is in the midst of it
    assert companion.status("Threads") == "1"
    audio.close()


def test_a_decoder_that_dies_is_told_apart_from_a_bad_recording(tmp_path: Path) -> None:
    path = record(tmp_path / "a.flac", 120.0, PLAIN_FLAC, silent=True)
    with Companion() as companion:
        audio = companion.open(path)
        chunks = iter(audio)
        next(chunks)
        companion.process.kill()
        with pytest.raises(DecoderDiedError, match=r"a\.flac"):
            list(chunks)
        audio.close()
        with pytest.raises(DecoderDiedError):
            companion.open(path)


def test_closing_wakes_a_reader_and_gives_up_a_decoder_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_module, "DRAIN_S", 0.1)
    path = record(tmp_path / "a.flac", 300.0, PLAIN_FLAC, silent=True)
    errors: list[BaseException] = []
    with Companion() as companion:
        audio = companion.open(path)
        chunks = iter(audio)
        next(chunks)
        companion.process.send_signal(signal.SIGSTOP)
        eventually(lambda: companion.status("State").startswith("T"), "stopped")
        reader = threading.Thread(target=_exhaust, args=(chunks, errors))
        reader.start()
        audio.close()
        reader.join(10)
        assert not reader.is_alive()
        assert isinstance(errors[0], ValueError)
        while companion.sock.recv(1 << 16):
            pass  # shut down: after what was sent before, the worker sees end of file
        companion.process.kill()


def _exhaust(chunks: Iterator[bytes], errors: list[BaseException]) -> None:
    try:
        for _ in chunks:
            pass
    except ValueError as error:
        errors.append(error)


def test_it_ends_when_its_worker_is_gone(tmp_path: Path) -> None:
    with Companion() as companion:
        assert companion.hear(record(tmp_path / "a.wav", 1.0)).code == ""
        companion.sock.close()
        assert companion.process.wait(10) == 0


def test_a_symbolic_link_a_fifo_and_a_missing_file_are_refused(
    companion: Companion, tmp_path: Path
) -> None:
    path = record(tmp_path / "a.wav", 1.0)
    (tmp_path / "link.wav").symlink_to(path)
    os.mkfifo(tmp_path / "fifo.wav")
    with pytest.raises(OSError, match=r"link\.wav"):
        companion.open(tmp_path / "link.wav")
    with pytest.raises(FileNotFoundError):
        companion.open(tmp_path / "none.wav")
    with pytest.raises(InvalidAudioError, match="not a regular file"):
        companion.open(tmp_path / "fifo.wav")
    assert companion.hear(path).code == ""


def test_a_report_reaches_the_worker(companion: Companion, tmp_path: Path) -> None:
    told: list[BaseException] = []
    audio = companion.open(record(tmp_path / "a.wav", 1.0), on_report=told.append)
    error = TransientEngineError("busy")
    audio.report(error)
    audio.close()
    assert told == [error]


def test_decoding_in_the_same_process_gives_the_same_samples(
    companion: Companion, tmp_path: Path
) -> None:
    path = record(tmp_path / "a.m4a", SECONDS, BY_SUFFIX["m4a"])
    told: list[float] = []
    audio = DirectAudio(path=str(path), start_s=1.0, on_progress=told.append, interval_s=0.0)
    pcm = b"".join(audio)
    audio.close()
    audio.close()
    heard = companion.hear(path, start_s=1.0)
    assert pcm == heard.pcm
    assert (audio.total_s, audio.duration_s, audio.name) == (
        heard.total_s,
        heard.duration_s,
        "a.m4a",
    )
    assert told


def test_decoding_in_the_same_process_holds_the_same_limits(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 5.0)
    limits = DecodeLimits(max_duration_s=2.0, max_channels=1)
    with pytest.raises(UndecodableError, match=r"a\.wav: it is longer") as caught:
        DirectAudio(path=str(path), limits=limits)
    assert caught.value.code == "too_long"


def test_a_worker_does_not_load_ffmpeg() -> None:
    """Its memory is the engine's."""
    program = "import sys, sttd.worker.audio; sys.exit('av' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0
    )
