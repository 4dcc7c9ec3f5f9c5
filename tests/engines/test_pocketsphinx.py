"""Real words, models of one's own, and what PocketSphinx refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from sttd.engines import InvalidAudioError, Segment, TranscribeOptions
from tests.support.audio import RECORDINGS, SHARED, PcmAudio, edits, read_wav, silence

pocketsphinx = pytest.importorskip("pocketsphinx", reason="needs the extra pocketsphinx")
from sttd.engines.pocketsphinx import ModelError, PocketSphinx, find_model  # noqa: E402

SHIPPED = Path(pocketsphinx.get_model_path("en-us"))


@pytest.fixture(scope="module")
def engine() -> PocketSphinx:
    return PocketSphinx({"model": "en-us"})


def listen(engine: PocketSphinx, pcm: bytes, **options: object) -> list[Segment]:
    wishes = TranscribeOptions(**options)  # type: ignore[arg-type]  # its fields
    return list(engine.transcribe(PcmAudio(pcm, name="talk.wav"), wishes))


def words(segments: list[Segment]) -> list[str]:
    return [word for segment in segments for word in segment.text.split()]


def decode(path: Path) -> bytes:
    """Any container to 16 kHz mono PCM."""
    pcm = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            for part in resampler.resample(frame):
                pcm += bytes(part.planes[0])[: part.samples * 2]
    return bytes(pcm)


# -- words -------------------------------------------------------------------------------------
def test_real_recordings_come_out_with_less_than_45_percent_of_the_words_wrong(
    engine: PocketSphinx,
) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"the recordings are not at {SHARED}")
    lines = (SHARED / "librivox-transcripts.txt").read_text(encoding="utf-8").splitlines()
    wrong = total = 0
    for line in lines:
        match = re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip())
        assert match
        said = match[1].split()
        wrong += edits(said, words(listen(engine, read_wav(SHARED / f"{match[2]}.wav"))))
        total += len(said)
    assert total == 71
    assert wrong / total < 0.45  # 0.30 when this was written


def test_the_project_s_own_recordings_are_understood(engine: PocketSphinx) -> None:
    wrong = total = 0
    for line in (RECORDINGS / "transcripts.txt").read_text(encoding="utf-8").splitlines():
        name, sentences = line.split(maxsplit=1)
        segments = listen(engine, decode(RECORDINGS / name))
        assert len(segments) == sentences.count("|") + 1
        said = sentences.replace("|", " ").split()
        wrong += edits(said, words(segments))
        total += len(said)
    assert wrong / total < 0.15  # 0.06 when this was written


def test_the_transcript_has_no_marks_of_the_decoder(engine: PocketSphinx) -> None:
    segments = listen(engine, read_wav(RECORDINGS / "tone-and-weather.wav"))
    assert len(segments) == 2
    for segment in segments:
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", segment.text)
        assert segment.language == "en-US"
        assert segment.speaker is None
        assert segment.confidence is not None
        assert segment.confidence > 0.3


# -- what it refuses ---------------------------------------------------------------------------
@pytest.mark.parametrize("languages", [("en",), ("en-GB", "EN-us"), ()])
def test_any_english_will_do(engine: PocketSphinx, languages: tuple[str, ...]) -> None:
    assert listen(engine, silence(0.1), languages=languages) == []


def test_another_language_fails_the_job_with_the_option_and_the_remedy(
    engine: PocketSphinx,
) -> None:
    with pytest.raises(InvalidAudioError) as caught:
        listen(engine, silence(0.1), languages=("en-US", "de-DE"))
    assert 'talk.wav: languages = ["de-DE"]' in str(caught.value)
    assert "set model in [engine.pocketsphinx]" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modell": "en-us"}, "modell"),
        ({"model": 3}, "Expected `str`"),
        ({"model": "models/de"}, "absolute path"),
        ({"model": "/no/such/folder"}, "/no/such/folder is no folder"),
    ],
)
def test_a_bad_configuration_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        PocketSphinx(options)
    assert "[engine.pocketsphinx]" in str(caught.value)


# -- models of one's own -----------------------------------------------------------------------
@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the shipped files under other names, as downloaded models have them."""
    folder = tmp_path / "my-model"
    (folder / "etc").mkdir(parents=True)
    shutil.copytree(SHIPPED / "en-us", folder / "acoustic", copy_function=_link)
    (folder / "etc" / "my.lm.bin").symlink_to(SHIPPED / "en-us.lm.bin")
    (folder / "etc" / "my.dic").symlink_to(SHIPPED / "cmudict-en-us.dict")
    return folder


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(source)


def test_a_model_of_one_s_own_is_used_and_no_language_is_claimed(model: Path) -> None:
    own = PocketSphinx({"model": str(model)})
    assert own.languages == ()
    (segment,) = listen(own, read_wav(RECORDINGS / "closed-on-sunday.wav"), languages=("de-DE",))
    assert segment.language is None
    assert "sunday" in segment.text


def test_a_model_with_a_part_missing_is_refused(model: Path) -> None:
    (model / "etc" / "my.dic").unlink()
    with pytest.raises(ModelError, match=r"needs one dictionary .*, and has none"):
        find_model(str(model))


def test_a_model_with_a_part_too_many_is_refused(model: Path) -> None:
    (model / "etc" / "other.lm").touch()
    with pytest.raises(ModelError, match=r"language model .* has etc/my.lm.bin and etc/other.lm"):
        find_model(str(model))


def test_a_damaged_model_is_refused_with_the_decoder_s_reason_and_nothing_on_the_terminal(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (model / "acoustic" / "mdef").unlink()
    (model / "acoustic" / "mdef").write_bytes(b"nothing of use")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*mdef"):
        PocketSphinx({"model": str(model)})
    assert capfd.readouterr() == ("", "")


# -- jobs that break off -----------------------------------------------------------------------
class Broken(PcmAudio):
    """Ends with an error after six seconds, in the middle of an utterance under recognition."""

    def __iter__(self) -> Iterator[bytes]:
        for chunk in super().__iter__():
            yield chunk
            if self.position_s > 6:
                raise InvalidAudioError("the rest is noise")


def test_an_utterance_that_broke_off_is_no_part_of_the_next_job(engine: PocketSphinx) -> None:
    sentence = read_wav(RECORDINGS / "closed-on-sunday.wav")
    without_pause = sentence[4800:64000] * 4
    expected = listen(engine, sentence)
    with pytest.raises(InvalidAudioError):
        list(engine.transcribe(Broken(without_pause, chunk=3200), TranscribeOptions()))
    assert listen(engine, sentence) == expected
