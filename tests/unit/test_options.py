"""The options of one job, as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.wire import options
from sttd.wire.options import JobOptions, OptionsError


def test_everything_a_sidecar_may_say_is_read() -> None:
    said = (
        b'{"languages":["en-US","zh-Hans-CN"],"priority":5,"diarization":false,'
        b'"phrases":["sttd"],"profanity":"raw","options":{"beam":4}}'
    )
    assert options.decode(said) == JobOptions(
        languages=("en-US", "zh-Hans-CN"),
        priority=5,
        diarization=False,
        phrases=("sttd",),
        profanity="raw",
        options={"beam": 4},
    )


def test_a_byte_order_mark_is_forgiven() -> None:
    assert options.decode(b"\xef\xbb\xbf{}") == JobOptions()


def test_a_mistyped_key_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(OptionsError, match=r"^a\.json: .*`langauges`.*did you mean `languages`"):
        options.decode(b'{"langauges":["en-US"]}', "a.json")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"priority":"high"}',
        b'{"priority":1001}',
        b'{"languages":["/etc/passwd"]}',
        b'{"languages":"en-US"}',
        b'{"profanity":"loud"}',
        b'{"model":"/x"}',
        b'{"options":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"phrases":["' + b"x" * 70_000 + b'"]}',
    ],
)
def test_what_is_not_valid_is_refused_with_the_source_named(said: bytes) -> None:
    with pytest.raises(OptionsError, match=r"^meeting\.wav\.json: "):
        options.decode(said, "meeting.wav.json")


@given(
    st.builds(
        JobOptions,
        priority=st.integers(options.PRIORITY_MIN, options.PRIORITY_MAX),
        diarization=st.none() | st.booleans(),
        phrases=st.lists(st.text(min_size=1, max_size=20), max_size=5).map(tuple),
        options=st.dictionaries(
            st.text(max_size=9), st.integers(-9, 9) | st.booleans(), max_size=3
        ),
    )
)
def test_what_is_written_is_read_again(given_options: JobOptions) -> None:
    assert options.decode(options.encode(given_options)) == given_options


def test_a_submissions_mapping_goes_by_the_same_rules() -> None:
    assert options.convert({"priority": 3}) == JobOptions(priority=3)
    with pytest.raises(OptionsError, match="unknown field"):
        options.convert({"prioritty": 3})
    with pytest.raises(OptionsError):
        options.convert({"options": object()})


@pytest.mark.parametrize("nothing", [b"", b" \n", b"\xef\xbb\xbf"])
def test_an_empty_sidecar_is_told_to_be_empty(nothing: bytes) -> None:
    with pytest.raises(OptionsError, match=r"a\.wav\.json: it is empty; write a JSON"):
        options.decode(nothing, "a.wav.json")
