#!/bin/sh
# Makes the recordings of this folder anew, from transcripts.txt. Needs espeak-ng and ffmpeg;
# nothing else in the project needs either. "|" in a transcript is a pause of a second.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The two voices of espeak-ng that PocketSphinx understands best, one of a woman, one of a man.
voice() {
    case $1 in
    answer-soon.* | installed.* | looking-forward.*) echo en-us+klatt2 ;;
    *) echo en-us+f2 ;;
    esac
}

# 16 kHz mono, but where the container is to be resampled or mixed down.
options() {
    case $1 in
    *.flac) echo "-ar 44100 -ac 2" ;;
    *.mp3 | *.wma) echo "-ar 44100 -ac 1 -b:a 64k" ;;
    *.opus | *.webm) echo "-ar 48000 -ac 1 -c:a libopus -b:a 32k" ;;
    *.ogg) echo "-ar 16000 -ac 1 -c:a libvorbis -q:a 4" ;;
    *.aac | *.m4a | *.mp4) echo "-ar 16000 -ac 1 -c:a aac -b:a 48k" ;;
    *) echo "-ar 16000 -ac 1" ;;
    esac
}

while read -r name words; do
    speech=$(printf '%s' "$words" | sed 's#|#<break time="1000ms"/>#g')
    espeak-ng -m -v "$(voice "$name")" -s 150 -w "$work/speech.wav" "<speak>$speech</speak>"
    # shellcheck disable=SC2046  # several words are meant
    ffmpeg -v error -nostdin -y -i "$work/speech.wav" -map_metadata -1 -fflags +bitexact \
        -flags:a +bitexact $(options "$name") "$name"
done <transcripts.txt
