"""Media streams of one text message and then binary audio: jambonz, mod_audio_fork, Asterisk and Vonage."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from callactors.packets import Packet, PacketKind
from callactors.vendors.audio_preambles import (
    PREAMBLE_VENDORS,
    SUBPROTOCOLS,
    Preamble,
    read_control,
    read_preamble,
)
from callactors.vendors.fields import keep_audio, keep_digit, make_packet, name_event, read_object
from callactors.vendors.steps import Begin, Ignored, Step, WrongMessage

__all__ = ["PREAMBLE_VENDORS", "SUBPROTOCOLS", "PreambleParser"]

MAX_EARLY: Final = 50
"""Binary messages that may come before the first text: Asterisk sends some in about one call of ten."""
MAX_EARLY_SIZE: Final = 500_000
"""Bytes of them all."""


class PreambleParser:
    """Reads one connection; *vendor* is one of PREAMBLE_VENDORS, or None: the first text message tells it.

    The stream is named *connection*, which must be unique: no vendor has a name that is (Asterisk's
    connection_id is that of its configuration, where Asterisk dials). Its packets are counted from 1, the
    start. Timestamps are seconds of audio that came before, as far as its format is known, and else 0.
    """

    def __init__(
        self, vendor: str | None = None, *, connection: str, call_id: str | None = None, store_media: bool
    ) -> None:
        self.vendor = vendor or ""
        self.ends_by_close = True
        self._connection = connection
        self._call_id = call_id
        self._store_media = store_media
        self._early: list[bytes] = []
        self._stream: _Stream | None = None

    def text(self, message: str) -> Sequence[Step]:
        """See MediaParser."""
        if self._stream is not None:
            return self._stream.read_text(message)
        preamble = read_preamble(message, self.vendor, self._call_id)
        if isinstance(preamble, str):
            return [Ignored(preamble)]
        stream = _Stream(preamble, self._connection, store_media=self._store_media)
        steps: list[Step] = [Begin(preamble.call_id, self._connection, preamble.metadata)]
        steps.append(stream.pack("", PacketKind.START))
        steps += [stream.read_audio(audio) for audio in self._early]
        self._stream, self._early, self.vendor = stream, [], preamble.vendor
        return steps

    def binary(self, message: bytes) -> Sequence[Step]:
        """See MediaParser; what comes before the first text is kept until then."""
        if self._stream is not None:
            return [self._stream.read_audio(message)]
        size = sum(map(len, self._early)) + len(message)
        if len(self._early) == MAX_EARLY or size > MAX_EARLY_SIZE:
            raise WrongMessage("too much audio came before the first text message")
        self._early.append(message)
        return []


class _Stream:
    """Reads what follows the first text message."""

    def __init__(self, preamble: Preamble, name: str, *, store_media: bool) -> None:
        self._vendor = preamble.vendor
        self._name = name
        self._store_media = store_media
        self._byte_rate = preamble.byte_rate
        self._size = 0
        self._sequence = 0

    def pack(self, data: str, kind: PacketKind) -> Packet:
        timestamp = self._size / self._byte_rate if self._byte_rate else 0.0
        packet = make_packet(self._sequence + 1, data, timestamp, self._name, kind)
        self._sequence = packet.sequence
        return packet

    def read_audio(self, audio: bytes) -> Packet:
        packet = self.pack(keep_audio(audio, store_media=self._store_media), PacketKind.MEDIA)
        self._size += len(audio)
        return packet

    def read_text(self, message: str) -> Sequence[Step]:
        match self._vendor:
            case "asterisk":
                return self._read_event(read_control(message), "DTMF_END")
            case "vonage":
                return self._read_event(read_object(message), "websocket:dtmf")
            case _:
                return [self._read_free(message)]

    def _read_event(self, fields: Mapping[str, Any], dtmf: str) -> Sequence[Step]:
        event = fields.get("event")
        if event != dtmf:
            return [Ignored(name_event(event))]
        return [self._dial(fields.get("digit"), fields.get("duration"))]

    def _read_free(self, message: str) -> Step:
        """Read what jambonz tells of the call, or else the text that somebody had the server send."""
        try:
            fields = read_object(message)
        except WrongMessage:
            fields = {}
        if fields.get("event") == "dtmf":
            return self._dial(fields.get("dtmf"), fields.get("duration"))
        if fields.get("type") == "playDone":
            return Ignored("playDone")
        return self.pack(message, PacketKind.TEXT)

    def _dial(self, digit: object, duration: object) -> Packet:
        return self.pack(keep_digit(digit, duration), PacketKind.DTMF)
