"""How each vendor writes its messages.

The texts are templates for `%`, with the fields call, stream, sequence, chunk, time in milliseconds, and
audio in base64. Where *media* is None, audio goes as binary frames, and nothing is numbered. Sources:

twilio      twilio.com/docs/voice/media-streams/websocket-messages
signalwire  developer.signalwire.com/compatibility-api/cxml/voice/stream
telnyx      developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket
plivo       plivo.com/docs/voice/audio-streaming/audio-streaming
exotel      developer.exotel.com/docs/agentstream/websocket-protocol
jambonz     docs.jambonz.org, webhooks: listen
audiofork   github.com/jambonz/freeswitch-modules, mod_audio_fork
asterisk    docs.asterisk.org, channel drivers: WebSocket
vonage      developer.vonage.com/voice/voice-api/concepts/websockets
"""

from typing import Final, NamedTuple

from callactors.simulate.audio import Encoding


class Dialect(NamedTuple):
    """What a vendor sends on one connection; *call* and *stream* make its ids of a UUID."""

    call: str
    stream: str
    start: str
    connected: str | None = None
    media: str | None = None
    dtmf: str | None = None
    mark: str | None = None
    stop: str | None = None
    subprotocol: str | None = None
    encoding: Encoding = Encoding.MULAW
    rate: int = 8_000
    frames: int = 50

    @property
    def is_numbered(self) -> bool:
        """Whether messages have sequences of their own; otherwise the server counts what comes."""
        return self.media is not None

    @property
    def path(self) -> str:
        return "/v1/media" if self.is_numbered else "/v1/media/binary"


_ACCOUNT: Final = "00000000000000000000000000000000"

_TWILIO: Final = Dialect(
    call="CA{0.hex}",
    stream="MZ{0.hex}",
    connected='{"event":"connected","protocol":"Call","version":"1.0.0"}',
    start='{"event":"start","sequenceNumber":"%(sequence)d","streamSid":"%(stream)s","start":{'
    f'"accountSid":"AC{_ACCOUNT}",'
    '"streamSid":"%(stream)s","callSid":"%(call)s","tracks":["inbound"],"mediaFormat":{'
    '"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"origin":"simulate"}}}',
    media='{"event":"media","sequenceNumber":"%(sequence)d","streamSid":"%(stream)s","media":{'
    '"track":"inbound","chunk":"%(chunk)d","timestamp":"%(time)d","payload":"%(audio)s"}}',
    dtmf='{"event":"dtmf","sequenceNumber":"%(sequence)d","streamSid":"%(stream)s","dtmf":{'
    '"track":"inbound_track","digit":"5"}}',
    mark='{"event":"mark","sequenceNumber":"%(sequence)d","streamSid":"%(stream)s","mark":{"name":"said"}}',
    stop='{"event":"stop","sequenceNumber":"%(sequence)d","streamSid":"%(stream)s","stop":{'
    f'"accountSid":"AC{_ACCOUNT}",'
    '"callSid":"%(call)s"}}',
)

_SIGNALWIRE: Final = Dialect(
    call="{0}",
    stream="{0}",
    connected='{"event":"connected","protocol":"Call","version":"0.2.0"}',
    start='{"event":"start","sequenceNumber":"%(sequence)d","start":{"streamSid":"%(stream)s",'
    '"accountSid":"00000000-0000-0000-0000-000000000000","callSid":"%(call)s","tracks":["inbound"],'
    '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
    '"customParameters":{"origin":"simulate"}}}',
    media='{"event":"media","sequenceNumber":"%(sequence)d","media":{'
    '"track":"inbound","chunk":"%(chunk)d","timestamp":"%(time)d","payload":"%(audio)s"}}',
    dtmf='{"event":"dtmf","sequenceNumber":"%(sequence)d","dtmf":{"digit":"5","duration":"100"}}',
    mark='{"event":"mark","sequenceNumber":"%(sequence)d","mark":{"name":"said"}}',
    stop='{"event":"stop","sequenceNumber":"%(sequence)d"}',
)

_TELNYX: Final = Dialect(
    call="v3:{0.hex}",
    stream="{0}",
    connected='{"event":"connected","version":"1.0.0"}',
    start='{"event":"start","sequence_number":"%(sequence)d","stream_id":"%(stream)s","start":{'
    '"user_id":"00000000-0000-0000-0000-000000000000","call_control_id":"%(call)s",'
    '"client_state":"c2ltdWxhdGU=","from":"+15550100001","to":"+15550100002",'
    '"media_format":{"encoding":"PCMU","sample_rate":8000,"channels":1}}}',
    media='{"event":"media","sequence_number":"%(sequence)d","stream_id":"%(stream)s","media":{'
    '"track":"inbound","chunk":"%(chunk)d","timestamp":"%(time)d","payload":"%(audio)s"}}',
    dtmf='{"event":"dtmf","sequence_number":"%(sequence)d","stream_id":"%(stream)s","dtmf":{"digit":"5"}}',
    mark='{"event":"mark","sequence_number":"%(sequence)d","stream_id":"%(stream)s","mark":{"name":"said"}}',
    stop='{"event":"stop","sequence_number":"%(sequence)d","stream_id":"%(stream)s","stop":{'
    '"user_id":"00000000-0000-0000-0000-000000000000","call_control_id":"%(call)s"}}',
)

_PLIVO: Final = Dialect(  # the close of the connection is its stop
    call="{0}",
    stream="{0}",
    start='{"event":"start","sequenceNumber":%(sequence)d,"start":{"callId":"%(call)s","streamId":"%(stream)s",'
    '"accountId":"100000000001","tracks":["inbound"],'
    '"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000}},"extra_headers":"origin=simulate"}',
    media='{"event":"media","sequenceNumber":%(sequence)d,"streamId":"%(stream)s","media":{'
    '"track":"inbound","chunk":%(chunk)d,"timestamp":"%(time)d","payload":"%(audio)s"}}',
    dtmf='{"event":"dtmf","sequenceNumber":%(sequence)d,"streamId":"%(stream)s","dtmf":{'
    '"track":"inbound","digit":"5","timestamp":"%(time)d"}}',
)

_EXOTEL: Final = Dialect(
    call="CA{0.hex}",
    stream="MZ{0.hex}",
    connected='{"event":"connected"}',
    start='{"event":"start","sequence_number":"%(sequence)d","stream_sid":"%(stream)s","start":{'
    '"stream_sid":"%(stream)s","call_sid":"%(call)s",'
    f'"account_sid":"AC{_ACCOUNT}",'
    '"from":"+15550100001","to":"+15550100002","custom_parameters":{"origin":"simulate"},'
    '"media_format":{"encoding":"audio/x-raw","sample_rate":"8000","bit_rate":"16"}}}',
    media='{"event":"media","sequence_number":"%(sequence)d","stream_sid":"%(stream)s","media":{'
    '"chunk":"%(chunk)d","timestamp":"%(time)d","payload":"%(audio)s"}}',
    dtmf='{"event":"dtmf","sequence_number":"%(sequence)d","stream_sid":"%(stream)s","dtmf":{'
    '"digit":"5","duration":"100"}}',
    mark='{"event":"mark","sequence_number":"%(sequence)d","stream_sid":"%(stream)s","mark":{"name":"said"}}',
    stop='{"event":"stop","sequence_number":"%(sequence)d","stream_sid":"%(stream)s","stop":{'
    '"call_sid":"%(call)s",'
    f'"account_sid":"AC{_ACCOUNT}","reason":"callended"'
    "}}",
    encoding=Encoding.S16LE,
    frames=10,
)

_JAMBONZ: Final = Dialect(
    call="{0}",
    stream="{0}",
    start='{"sampleRate":8000,"mixType":"mono","callSid":"%(call)s","direction":"inbound",'
    '"from":"+15550100001","to":"+15550100002","callId":"%(stream)s","sipStatus":200,"sipReason":"OK",'
    '"callStatus":"in-progress","callerId":"","accountSid":"00000000-0000-0000-0000-000000000000",'
    '"applicationSid":"00000000-0000-0000-0000-000000000000"}',
    dtmf='{"event":"dtmf","dtmf":"5","duration":"1600"}',
    subprotocol="audio.jambonz.org",
    encoding=Encoding.S16LE,
)

_AUDIOFORK: Final = Dialect(  # its first text is whatever the dialplan says: the call's id is ours to name
    call="{0}",
    stream="{0}",
    start='{"call_id":"%(call)s","uuid":"%(call)s","sampleRate":8000,"mixType":"mono","origin":"simulate"}',
    subprotocol="audio.drachtio.org",
    encoding=Encoding.S16LE,
)

_ASTERISK: Final = Dialect(
    call="pbx-{0.hex}.1",
    stream="{0}",
    start='{"event":"MEDIA_START","connection_id":"%(stream)s","channel":"WebSocket/media/%(stream)s",'
    '"channel_id":"%(call)s","format":"ulaw","optimal_frame_size":160,"ptime":20,'
    '"channel_variables":{"ORIGIN":"simulate"}}',
    dtmf='{"event":"DTMF_END","channel_id":"%(call)s","digit":"5"}',
)

_VONAGE: Final = Dialect(  # what follows the content type are the headers that the NCCO asked for
    call="{0}",
    stream="{0}",
    start='{"event":"websocket:connected","content-type":"audio/l16;rate=16000",'
    '"call_id":"%(call)s","uuid":"%(call)s","origin":"simulate"}',
    dtmf='{"event":"websocket:dtmf","digit":"5","duration":260}',
    encoding=Encoding.S16LE,
    rate=16_000,
)

DIALECTS: Final = {
    "twilio": _TWILIO,
    "signalwire": _SIGNALWIRE,
    "telnyx": _TELNYX,
    "plivo": _PLIVO,
    "exotel": _EXOTEL,
    "jambonz": _JAMBONZ,
    "audiofork": _AUDIOFORK,
    "asterisk": _ASTERISK,
    "vonage": _VONAGE,
}
"""By the names that the command line knows."""
