"""Media streams in JSON: Twilio, SignalWire, Fonoster, Telnyx, Plivo and Exotel, who differ in names only.

Each message with a sequence becomes a Packet with that sequence, whatever it tells, so that a gap in a stream
is a message that was lost. All tracks of a stream share its sequence, so that its id alone is its name.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from callactors.packets import Packet, PacketKind
from callactors.vendors.dialects import DIALECTS, UNRECOGNISED, Dialect, Start, read_start
from callactors.vendors.fields import (
    keep_base64,
    keep_digit,
    make_packet,
    name_event,
    read_event,
    read_milliseconds,
    read_object,
    read_part,
    read_sequence,
)
from callactors.vendors.steps import Begin, End, Ignored, Step, WrongMessage

_CONTENT: Final = {"media": PacketKind.MEDIA, "dtmf": PacketKind.DTMF, "mark": PacketKind.MARK}


class JsonMediaParser:
    """Reads one connection; *vendor* is one of JSON_VENDORS, or None: the first two messages tell it.

    - A start that comes again is Ignored. So is a stop of another stream, as it does not end this one; any
      other message of another stream is wrong.
    - Messages after the stop are read as before, since not every vendor promises an order.
    - An event nobody knows is a MARK with its name as data if it has a sequence, and else Ignored. The 0 of
      Plivo's acknowledgements is none.
    - Timestamps are the vendor's in seconds: since the stream began, but with Plivo since 1970. A message
      without one has that of the message before.
    - The data of media is what keep_base64 says, that of a DTMF what keep_digit says.
    """

    def __init__(self, vendor: str | None = None, *, store_media: bool) -> None:
        self.vendor = vendor or ""
        self.ends_by_close = vendor == "plivo"
        self._store_media = store_media
        self._messages = 0
        self._stream: _Stream | None = None

    def text(self, message: str) -> Sequence[Step]:
        """See MediaParser."""
        fields = read_object(message)
        event = read_event(fields)
        if event == "start":
            return self._start(read_start(message, self.vendor))
        if self._stream is not None:
            return self._stream.read(event, fields)
        self._messages += 1
        if event in _CONTENT or event == "stop":
            raise WrongMessage(f"{event} came before start")
        if self._messages > 1 and not self.vendor:
            raise WrongMessage(UNRECOGNISED)
        return [Ignored(name_event(event))]

    def binary(self, message: bytes) -> Sequence[Step]:
        """See MediaParser; none of these vendors sends binary messages."""
        raise WrongMessage("this vendor sends no binary messages")

    def _start(self, start: Start) -> Sequence[Step]:
        call_id, name, _ = start.begin
        if self._stream is not None:
            if (call_id, name) == (self._stream.call_id, self._stream.name):
                return [Ignored("start")]
            raise WrongMessage("a second stream starts on the connection of the first")
        steps: list[Step] = [start.begin]
        if start.sequence is not None:
            steps.append(make_packet(start.sequence, "", 0.0, name, PacketKind.START))
        self.vendor = start.vendor
        self.ends_by_close = start.vendor == "plivo"
        self._stream = _Stream(start.begin, start.vendor, store_media=self._store_media)
        return steps


class _Stream:
    """Reads what follows the start."""

    def __init__(self, begin: Begin, vendor: str, *, store_media: bool) -> None:
        self.call_id, self.name, _ = begin
        self._vendor = vendor
        self._dialect: Dialect = DIALECTS[vendor]
        self._store_media = store_media
        self._timestamp = 0.0
        self._has_stopped = False

    def read(self, event: str, fields: Mapping[str, Any]) -> Sequence[Step]:
        is_own = fields.get(self._dialect.stream, self.name) == self.name
        if event == "stop":
            return self._stop(fields) if is_own and not self._has_stopped else [Ignored("stop")]
        if not is_own:
            raise WrongMessage("the message is of another stream than the start")
        sequence = read_sequence(fields.get(self._dialect.sequence))
        if event in _CONTENT:
            return [self._read_content(event, sequence, read_part(fields, event))]
        name = name_event(event)
        return [self._pack(sequence, name, PacketKind.MARK) if sequence else Ignored(name)]

    def _read_content(self, event: str, sequence: int | None, part: Mapping[str, Any]) -> Packet:
        if sequence is None:
            raise WrongMessage(f"{event} has no {self._dialect.sequence}")
        timestamp = read_milliseconds(part.get("timestamp"), self._timestamp)
        packet = make_packet(sequence, self._keep(event, part), timestamp, self.name, _CONTENT[event])
        self._timestamp = packet.timestamp
        return packet

    def _keep(self, event: str, part: Mapping[str, Any]) -> str:
        match event:
            case "media":
                return keep_base64(part.get("payload"), part.get("track"), store_media=self._store_media)
            case "dtmf":
                return keep_digit(part.get("digit"), part.get("duration"), part.get("track"))
            case _:
                name = part.get("name")
                if not isinstance(name, str):
                    raise WrongMessage("the mark has no name")
                return name

    def _stop(self, fields: Mapping[str, Any]) -> Sequence[Step]:
        sequence = read_sequence(fields.get(self._dialect.sequence))
        told = fields.get("stop")
        reason = told.get("reason") if isinstance(told, dict) else None
        end = End(ends_call=self._vendor != "exotel" or reason == "callended")
        steps: list[Step] = []
        if sequence is not None:
            steps.append(self._pack(sequence, "", PacketKind.STOP))
        self._has_stopped = True
        return [*steps, end]

    def _pack(self, sequence: int, data: str, kind: PacketKind) -> Packet:
        return make_packet(sequence, data, self._timestamp, self.name, kind)
