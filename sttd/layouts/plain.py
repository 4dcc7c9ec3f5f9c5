"""The manifest (json), which is the whole transcript, and plain text.

The shape of the manifest is a promise to scripts: key order, null fields and all.
"""

from __future__ import annotations

import msgspec

from sttd.transcripts import Segment, Transcript


def manifest(transcript: Transcript) -> bytes:
    """`meeting.json`: times and confidence to three decimals, unknown fields null, one line."""
    source = transcript.source
    return (
        msgspec.json.encode(
            {
                "schema": transcript.schema,
                "job_id": transcript.job_id,
                "source": {
                    "name": source.name,
                    "sha256": source.sha256,
                    "bytes": source.bytes,
                    "duration_s": round(source.duration_s, 3),
                },
                "engine": {"name": transcript.engine.name, "version": transcript.engine.version},
                "languages": list(transcript.languages),
                "created": transcript.created,
                "text": transcript.text,
                "attempts": transcript.attempts,
                "resumed_at_s": [round(at, 3) for at in transcript.resumed_at_s],
                "segments": [_segment(segment) for segment in transcript.segments],
            }
        )
        + b"\n"
    )


def _segment(segment: Segment) -> dict[str, object]:
    confidence = segment.confidence
    return {
        "start_s": round(segment.start_s, 3),
        "end_s": round(segment.end_s, 3),
        "speaker": segment.speaker,
        "language": segment.language,
        "text": segment.text,
        "confidence": None if confidence is None else round(confidence, 3),
        "words": [
            {"start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3), "text": word.text}
            for word in segment.words
        ],
    }


def txt(transcript: Transcript) -> bytes:
    """One segment a line, after its speaker where there is one (`Guest-1: Good morning.`).

    Without segments the transcript's text as it is; an empty file when nothing was said.
    """
    lines = [_line(segment) for segment in transcript.segments if segment.text.strip()]
    text = "\n".join(lines) or transcript.text.strip()
    return f"{text}\n".encode() if text else b""


def _line(segment: Segment) -> str:
    text = " ".join(segment.text.split())
    return f"{segment.speaker}: {text}" if segment.speaker else text
