"""What a decoder does with recordings that are broken, lie, or mean harm."""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from sttd.wire.messages import DecodeLimits
from sttd.worker.audio import DecoderDiedError
from tests.support import recordings
from tests.support.companion import Companion, Heard
from tests.support.recordings import BY_SUFFIX, KINDS, PLAIN_FLAC, PLAIN_WAV, Kind, record
from tests.support.tally import sweep

MINUTE = DecodeLimits(max_duration_s=60.0, max_channels=8)
MUTANTS = 360
SEED = 20_260_131


@pytest.fixture(scope="module")
def companion() -> Iterator[Companion]:
    with Companion() as it:
        yield it


@pytest.fixture
def still_well(companion: Companion, tmp_path: Path) -> Iterator[None]:
    """The same decoder does the next job afterwards."""
    yield
    assert companion.hear(record(tmp_path / "next.wav", 0.5)).total_s == 0.5


def _hear(companion: Companion, path: Path, data: bytes) -> Heard:
    path.write_bytes(data)
    return companion.hear(path, limits=MINUTE)


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a"])
def test_an_empty_file_is_refused(companion: Companion, tmp_path: Path, suffix: str) -> None:
    heard = _hear(companion, tmp_path / f"a.{suffix}", b"")
    assert heard.code == "empty"
    assert heard.message == f"a.{suffix}: the file is empty"


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(companion: Companion, tmp_path: Path, seed: int) -> None:
    heard = _hear(companion, tmp_path / "a.mp3", random.Random(seed).randbytes(100_000))
    assert heard.code == "undecodable"


@pytest.mark.usefixtures("still_well")
def test_text_and_pictures_are_refused(companion: Companion, tmp_path: Path) -> None:
    assert _hear(companion, tmp_path / "a.wav", b"Hello.\n" * 1000).code == "undecodable"
    png = b"\x89PNG\r\n\x1a\n" + bytes(1000)
    assert _hear(companion, tmp_path / "b.mp3", png).code == "undecodable"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _playlists(secret: Path, port: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}/a.wav"
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "hls-url": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "concat-url": f"ffconcat version 1.0\nfile '{url}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=audio {port} RTP/AVP 0\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>',
    }


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("kind", ["hls", "hls-url", "concat", "concat-url", "sdp", "dash"])
def test_a_playlist_posing_as_audio_opens_nothing(
    companion: Companion, tmp_path: Path, listener: socket.socket, kind: str
) -> None:
    secret = record(tmp_path / "secret.wav", 1.0)
    text = _playlists(secret, listener.getsockname()[1])[kind]
    heard = _hear(companion, tmp_path / "a.wav", text.encode())
    assert heard.code == "undecodable"
    assert heard.pcm == b""
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        ("", "Format not on whitelist"),
        ("decoder.pcm.OPTIONS['format_whitelist'] += ',concat'", "Impossible to open"),
    ],
)
def test_neither_wall_alone_lets_a_list_of_files_through(
    tmp_path: Path, setup: str, reason: str
) -> None:
    """With FFmpeg's own caution off, the demuxer is refused; were it not, the file would be."""
    secret = record(tmp_path / "secret.wav", 1.0)
    with Companion(f"decoder.pcm.OPTIONS['safe'] = '0'\n{setup}") as companion:
        text = f"ffconcat version 1.0\nfile 'file:{secret}'\n"
        heard = _hear(companion, tmp_path / "a.wav", text.encode())
    assert heard.code == "undecodable"
    assert reason in heard.message


@pytest.mark.usefixtures("still_well")
def test_containers_and_codecs_that_are_not_listed_are_refused(
    companion: Companion, tmp_path: Path
) -> None:
    nut = Kind("nut", "nut", "pcm_s16le", "s16", 16_000, "mono")
    assert "whitelist" in companion.hear(record(tmp_path / "a.wav", 1.0, nut)).message
    tta = Kind("mka", "matroska", "tta", "s16", 16_000, "mono")
    heard = companion.hear(record(tmp_path / "a.webm", 1.0, tta))
    assert heard.code == "undecodable"
    assert "not accepted (tta)" in heard.message


@pytest.mark.usefixtures("still_well")
def test_an_hour_of_silence_in_a_small_file_is_refused_before_anything_is_delivered(
    companion: Companion, tmp_path: Path
) -> None:
    path = record(tmp_path / "bomb.flac", 3600.0, PLAIN_FLAC, silent=True)
    assert path.stat().st_size < 1 << 20
    before = int(companion.status("VmHWM").split()[0])
    heard = companion.hear(path, limits=MINUTE)
    assert (heard.code, heard.pcm) == ("too_long", b"")
    assert "max_duration (60 s)" in heard.message
    assert int(companion.status("VmHWM").split()[0]) - before < 8 << 10  # KiB


@pytest.mark.usefixtures("still_well")
def test_a_header_that_claims_too_little_does_not_get_round_the_limit(
    companion: Companion, tmp_path: Path
) -> None:
    long = record(tmp_path / "long.flac", 70.0, PLAIN_FLAC, silent=True).read_bytes()
    heard = _hear(companion, tmp_path / "a.flac", recordings.claim_flac_length(long, 16_000))
    assert heard.code == "too_long"
    assert len(heard.pcm) <= 60 * 32_000


@pytest.mark.usefixtures("still_well")
def test_a_header_that_claims_too_much_is_found_out_and_the_truth_told(
    companion: Companion, tmp_path: Path
) -> None:
    short = record(tmp_path / "short.flac", 2.0, PLAIN_FLAC).read_bytes()
    claimed = recordings.claim_flac_length(short, 16_000 * 36_000)
    heard = _hear(companion, tmp_path / "a.flac", claimed)
    assert (heard.code, heard.total_s, heard.duration_s) == ("", 2.0, 2.0)


def test_progress_never_runs_backwards_while_a_claim_is_being_tried(tmp_path: Path) -> None:
    """Or else the reading after it, up to where the trial ended, would pass for a stall."""
    short = record(tmp_path / "short.flac", 20.0, PLAIN_FLAC).read_bytes()
    path = tmp_path / "a.flac"
    path.write_bytes(recordings.claim_flac_length(short, 16_000 * 36_000))
    told: list[float] = []
    with Companion("decoder.SKIPPED_EVERY_S = 0.0") as companion:
        audio = companion.open(path, limits=MINUTE, on_progress=told.append)
        before = len(told)
        assert sum(map(len, audio)) == 20 * 32_000
        audio.close()
    assert before > 5
    assert told == sorted(set(told))


@pytest.mark.usefixtures("still_well")
def test_a_wav_of_unknown_length_as_recorders_stream_it_is_taken(
    companion: Companion, tmp_path: Path
) -> None:
    samples = bytes(32_000 * 2)
    for claimed in (0xFFFFFFFF, 0):
        heard = _hear(companion, tmp_path / "a.wav", recordings.wav(samples, claimed=claimed))
        assert (heard.code, heard.total_s, heard.damage) == ("", 2.0, "")


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize(
    ("channels", "code"), [(8, ""), (9, "too_many_channels"), (64, "too_many_channels")]
)
def test_channels_are_counted_in_the_stream(
    companion: Companion, tmp_path: Path, channels: int, code: str
) -> None:
    data = recordings.wav(bytes(channels * 2 * 16_000), channels=channels)
    heard = _hear(companion, tmp_path / "a.wav", data)
    assert heard.code == code
    assert len(heard.pcm) == (0 if code else 32_000)


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("rate", [0, 1, 999, 384_001, 4_000_000_000])
def test_an_absurd_sample_rate_is_refused(companion: Companion, tmp_path: Path, rate: int) -> None:
    heard = _hear(companion, tmp_path / "a.wav", recordings.wav(bytes(100_000), rate=rate))
    assert heard.code == "undecodable"


@pytest.mark.usefixtures("still_well")
def test_eight_channels_at_192_khz_are_mixed_down_without_much_memory(
    companion: Companion, tmp_path: Path
) -> None:
    kind = Kind("flac", "flac", "flac", "s16", 192_000, "7.1")
    path = record(tmp_path / "a.flac", 4.0, kind, silent=True)
    before = int(companion.status("VmHWM").split()[0])
    assert companion.hear(path).total_s == pytest.approx(4.0, abs=0.01)
    assert int(companion.status("VmHWM").split()[0]) - before < 24 << 10  # KiB


@pytest.mark.usefixtures("still_well")
def test_memory_does_not_depend_on_length(companion: Companion, tmp_path: Path) -> None:
    for suffix in ("mp3", "flac"):
        kind = BY_SUFFIX[suffix]
        companion.hear(record(tmp_path / f"short.{suffix}", 5.0, kind, silent=True))
        before = int(companion.status("VmHWM").split()[0])
        companion.hear(record(tmp_path / f"long.{suffix}", 120.0, kind, silent=True))
        assert int(companion.status("VmHWM").split()[0]) - before < 2 << 10  # KiB


@pytest.mark.usefixtures("still_well")
def test_a_video_without_sound_has_no_audio(companion: Companion, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    heard = companion.hear(path)
    assert heard.code == "no_audio"
    assert "video" in heard.message


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("suffix", ["wav", "flac", "opus", "webm", "mp4"])
def test_a_recording_that_breaks_off_is_taken_as_far_as_it_goes_and_said_to_be_damaged(
    companion: Companion, tmp_path: Path, suffix: str
) -> None:
    # an mp4 keeps its table of contents at the end unless told otherwise
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = record(tmp_path / f"b.{suffix}", 10.0, BY_SUFFIX[suffix], options=options)
    data = path.read_bytes()
    heard = _hear(companion, tmp_path / f"a.{suffix}", data[: len(data) // 2])
    assert heard.code == ""
    assert heard.total_s == pytest.approx(5.0, abs=1.5)
    if suffix in {"wav", "flac", "mp4", "webm"}:  # an ogg has its length at its end, if at all
        assert heard.damage


@pytest.mark.usefixtures("still_well")
def test_an_mp4_without_its_table_of_contents_is_refused_with_the_reason(
    companion: Companion, tmp_path: Path
) -> None:
    data = record(tmp_path / "b.m4a", 10.0, BY_SUFFIX["m4a"]).read_bytes()
    heard = _hear(companion, tmp_path / "a.m4a", data[: len(data) // 2])
    assert heard.code == "undecodable"
    assert "moov atom not found" in heard.message


@pytest.mark.usefixtures("still_well")
@pytest.mark.parametrize("suffix", ["flac", "mp3", "opus"])
def test_damage_in_the_middle_costs_only_the_middle(
    companion: Companion, tmp_path: Path, suffix: str
) -> None:
    data = bytearray(record(tmp_path / f"b.{suffix}", 10.0, BY_SUFFIX[suffix]).read_bytes())
    at = len(data) // 2
    data[at : at + 2000] = random.Random(SEED).randbytes(2000)
    heard = _hear(companion, tmp_path / f"a.{suffix}", bytes(data))
    assert heard.code == ""
    assert heard.total_s == pytest.approx(10.0, abs=2.0)
    assert recordings.pitch(heard.pcm[-64_000:-1000]) == pytest.approx(440, abs=5)


@pytest.mark.usefixtures("still_well")
def test_a_recording_of_which_nothing_can_be_decoded_is_refused(
    companion: Companion, tmp_path: Path
) -> None:
    flac = record(tmp_path / "b.flac", 5.0, PLAIN_FLAC).read_bytes()
    head, tail = flac[:200], flac[200:]
    noise = random.Random(SEED).randbytes(len(tail))
    heard = _hear(companion, tmp_path / "a.flac", head[:42] + noise)
    assert heard.code == "undecodable"
    assert _hear(companion, tmp_path / "c.flac", flac[:42]).code == "undecodable"


@pytest.mark.timeout(110)
def test_mutated_recordings_end_with_a_verdict_or_with_the_decoder(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, MUTANTS)
    assert sum(outcomes.values()) == MUTANTS
    assert outcomes["decoded"] > 50, outcomes
    assert outcomes["undecodable"] > 20, outcomes
    assert outcomes.get("died", 0) < 5, outcomes


@pytest.mark.sweep
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_recordings_end_with_a_verdict_or_with_the_decoder(
    tmp_path: Path,
) -> None:
    """Ten minutes."""
    with sweep(f"Mutated recordings over {len(KINDS) + 1} containers", "files") as tried:
        outcomes = fuzz(tmp_path, 10_000)
        tried.count = sum(outcomes.values())
        tried.notes += [f"{count:,} {code}" for code, count in sorted(outcomes.items())]
        assert outcomes.get("died", 0) < 100, outcomes


def fuzz(tmp_path: Path, mutants: int) -> Counter[str]:
    """How many ended by which code; "decoded" and "died" among them. Each gets a fixed seed."""
    rng = random.Random(SEED)
    seeds = [
        record(tmp_path / f"{k.suffix}.seed", 0.7, k).read_bytes() for k in (*KINDS, PLAIN_WAV)
    ]
    path = tmp_path / "mutant"
    companion = Companion()
    outcomes: Counter[str] = Counter()
    try:
        for number in range(mutants):
            path.write_bytes(_mutant(rng, seeds[number % len(seeds)]))
            try:
                code = companion.hear(path, limits=MINUTE).code or "decoded"
            except DecoderDiedError:
                companion.sock.close()
                code = "died"
                assert companion.process.wait(30) < 0, "it must not end by a bug of ours"
                companion = Companion()
            outcomes[code] += 1
    finally:
        companion.__exit__(None, None, None)
    return outcomes


def _mutant(rng: random.Random, seed: bytes) -> bytes:
    """Flip, splice, cut, repeat or overstate; headers are hit as often as all the rest."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(min(200, len(data)) if rng.random() < 0.5 else len(data))
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))
            case 2:
                data[at : at + 8] = rng.randbytes(8)
            case 3:
                del data[at : at + rng.randrange(1, len(data) // 8)]
            case _:
                piece = data[at : at + rng.randrange(1, 500)]
                data[at:at] = piece
    return bytes(data[: rng.randrange(1, len(data))] if rng.random() < 0.2 else data)
