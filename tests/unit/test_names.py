"""Which names are recordings, and what becomes of a name on its way out."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.supervisor import names

KNOWN = frozenset({"wav", "mp3"})
# what a file name may be: anything but slash and null, up to 255 bytes, whether text or not
raw_names = st.binary(min_size=1, max_size=255).filter(
    lambda raw: b"/" not in raw and b"\0" not in raw and raw not in (b".", b"..")
)
file_names = raw_names.map(os.fsdecode)


@pytest.mark.parametrize(
    "name",
    [
        ".meeting.wav.Xa81kQ",
        ".wav",
        "._meeting.wav",
        "~$meeting.wav",
        "~syncthing~meeting.wav",
        "meeting.wav~",
        "meeting.wav.part",
        "meeting.wav.filepart",
        "meeting.wav.partial",
        "meeting.wav.TMP",
        "meeting.wav.crdownload",
        "meeting.wav.!sync",
        ".meeting.wav.swp",
        "meeting.wav.camelLock",
        "Thumbs.db",
        "desktop.ini",
    ],
)
def test_a_name_of_a_file_that_is_not_there_yet_is_left_alone(name: str) -> None:
    assert names.is_unfinished(name)
    assert not names.is_recording(name, KNOWN | {names.extension(name)})


@pytest.mark.parametrize(
    "name",
    [
        "a.wav",
        "A.WAV",
        "-rf.wav",
        "a b.mp3",
        "two\nlines.wav",
        "café.wav",
        "caf\udce9.wav",
        "..a.b.wav"[2:],
    ],
)
def test_hostile_names_with_a_known_extension_are_recordings(name: str) -> None:
    assert names.is_recording(name, KNOWN)


@pytest.mark.parametrize("name", ["notes.pdf", "wav", "a.wav.json", "a.", "a.wav "])
def test_other_extensions_are_none(name: str) -> None:
    assert not names.is_recording(name, KNOWN)


def test_a_sidecar_is_known_by_its_recordings_name() -> None:
    assert names.recording_of("a.wav.json", KNOWN) == "a.wav"
    assert names.recording_of("a.json", KNOWN) is None
    assert names.recording_of("a.pdf.json", KNOWN) is None
    assert names.recording_of(".a.wav.json", KNOWN) is None


@pytest.mark.parametrize(
    "name", [".tmp", ".rsync-partial", "@eaDir", "__MACOSX", "lost+found", "~x"]
)
def test_folders_of_tools_are_passed_over(name: str) -> None:
    assert names.is_service_folder(name)


def test_stems_keep_their_folder_and_lose_one_extension() -> None:
    assert names.stem_of("a/meeting.wav") == "a/meeting"
    assert names.stem_of("a.b/meeting.2026.wav") == "a.b/meeting.2026"


def test_originals_are_numbered_before_their_extension() -> None:
    assert [names.numbered("a/m.wav", n) for n in (1, 2, 3)] == [
        "a/m.wav",
        "a/m-2.wav",
        "a/m-3.wav",
    ]
    assert names.numbered("noext", 2) == "noext-2"


@given(file_names, st.integers(min_value=1, max_value=10**9))
def test_every_numbered_name_leaves_room_for_its_report(name: str, number: int) -> None:
    made = names.numbered(name, number)
    assert 0 < len(names.encoded(made + names.ERROR_SUFFIX)) <= names.MAX_NAME
    assert "/" not in made


@given(file_names)
def test_numbers_make_different_names(name: str) -> None:
    made = [names.numbered(name, number) for number in range(1, 30)]
    assert len(set(made)) == len(made)


@given(file_names)
def test_a_name_that_has_room_is_kept_to_the_letter(name: str) -> None:
    if len(names.encoded(name)) <= 200:
        assert names.numbered(name, 1) == name


@given(st.text(max_size=300), st.integers(min_value=0, max_value=400))
def test_cutting_never_splits_a_character(text: str, size: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    cut = names.fit(text, size)
    assert text.startswith(cut)
    assert len(cut.encode()) <= size
    assert len(cut.encode()) > size - 4 or cut == text


@given(st.text(max_size=600))
def test_what_a_client_calls_its_file_becomes_a_plain_name(said: str) -> None:
    name = names.submitted(said.encode("utf-8", "ignore").decode())
    assert name
    assert not name.startswith(".")
    assert "/" not in name
    assert "\0" not in name
    assert len(names.encoded(name)) <= names.MAX_NAME


def test_folders_that_a_client_names_are_dropped() -> None:
    assert names.submitted("../../etc/meeting.wav") == "meeting.wav"
    assert names.submitted("..") == "_"
    assert names.submitted("/") == "recording"
