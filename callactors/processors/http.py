"""A processor that has a provider do the AI step, over HTTP."""

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, FormData, InvalidURL

from callactors.errors import AudioNotStored
from callactors.processors.answers import judge, read_result, read_transcription
from callactors.processors.bodies import CallBody, RequestTooLarge
from callactors.processors.contract import CallRecord
from callactors.processors.recordings import Track, UnknownAudio, make_wav, read_tracks
from callactors.processors.sessions import PrivateAddress, name_error, open_session
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.signing import sign

_REFUSED: Final = (RequestTooLarge, UnknownAudio, AudioNotStored)  # the next attempt would find the same


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where the provider is and how it is asked; sizes in bytes, times in seconds.

    *form* is what the provider takes: the whole call as JSON, or the audio of each track as OpenAI's
    /v1/audio/transcriptions has it, for which *model* and *language* are. *token* is sent as a bearer's;
    with a *secret* requests in JSON are signed, for which a call is read twice. *connections* is how many
    calls the provider is asked about at once. *read_timeout* is between two pieces of an answer: until its
    first one only the attempt's deadline counts.
    """

    url: str
    form: Literal["json", "transcription"] = "json"
    token: str | None = field(default=None, repr=False)
    secret: bytes | None = field(default=None, repr=False)
    model: str = "whisper-1"
    language: str | None = None
    max_request: int = 64 * 1024**2
    max_response: int = 1024**2
    connections: int = 100
    is_private_allowed: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 15.0


class HttpProcessor:
    """Asks one provider; `close` it in the end. *clock* tells seconds since 1970."""

    def __init__(self, options: HttpOptions, *, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._turns = asyncio.Semaphore(options.connections)
        self._session: ClientSession | None = None

    async def __call__(self, call: CallRecord) -> Outcome:
        """Raise what reading the call raises; all else is an outcome."""
        try:
            async with asyncio.timeout(call.deadline), self._turns:
                if self._options.form == "json":
                    return await self._send(call)
                return await self._transcribe(call)
        except _REFUSED as error:
            return GiveUp(str(error))
        except TimeoutError:
            return Retry("the provider did not answer in time")
        except ClientError as error:
            return _explain(error)

    async def close(self) -> None:
        """Close the connections to the provider."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, call: CallRecord) -> Outcome:
        options, key = self._options, call.idempotency_key
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if options.secret is not None:
            body = CallBody(call, options.max_request)
            headers |= await sign(options.secret, key, int(self._clock()), body)
        body = CallBody(call, options.max_request)
        try:
            answer = await self._post(body, headers)
        except ClientError as error:
            raise body.error or error from None  # what aiohttp makes of it tells less
        if body.error is not None:
            raise body.error
        if not isinstance(answer, bytes):
            return answer
        result = read_result(answer)
        return result if isinstance(result, Retry) else Done(result)

    async def _transcribe(self, call: CallRecord) -> Outcome:
        transcript = []
        for number, track in enumerate(await read_tracks(call, self._options.max_request), 1):
            wav = await asyncio.to_thread(make_wav, track.audio, track.format)
            track.audio.clear()
            key = f"{call.idempotency_key}:{number}"
            answer = await self._post(self._make_form(wav), {"Idempotency-Key": key})
            text = read_transcription(answer) if isinstance(answer, bytes) else answer
            if not isinstance(text, str):
                return text
            transcript.append(_tell(track, text))
        return Done({"transcript": transcript})

    def _make_form(self, wav: bytes) -> FormData:
        form = FormData()
        form.add_field("file", io.BytesIO(wav), filename="audio.wav", content_type="audio/wav")
        form.add_field("model", self._options.model)
        form.add_field("response_format", "json")
        if self._options.language is not None:
            form.add_field("language", self._options.language)
        return form

    async def _post(self, body: CallBody | FormData, headers: Mapping[str, str]) -> bytes | Retry | GiveUp:
        """Return the content of an answer that is 2xx, or what follows from another one."""
        if self._session is None:
            self._session = _open(self._options)
        url = self._options.url
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status <= 299:
                return await self._read(response)
            return judge(response.status, response.headers.get("Retry-After"), self._clock())

    async def _read(self, response: ClientResponse) -> bytes | Retry | GiveUp:
        content, limit = bytearray(), self._options.max_response
        while True:
            try:
                async with asyncio.timeout(self._options.read_timeout):
                    piece = await response.content.readany()
            except TimeoutError:
                return Retry("the provider fell silent in the middle of its answer")
            if not piece:
                return bytes(content)
            content += piece
            if len(content) > limit:
                return GiveUp(
                    f"the provider's answer has more than the {limit} bytes"
                    " that CALLACTORS_HTTP_MAX_RESPONSE allows"
                )


def _open(options: HttpOptions) -> ClientSession:
    headers = {"Accept": "application/json"}
    if options.token is not None:
        headers["Authorization"] = f"Bearer {options.token}"
    return open_session(
        headers,
        connections=options.connections,
        connect_timeout=options.connect_timeout,
        is_private_allowed=options.is_private_allowed,
    )


def _explain(error: ClientError) -> Retry | GiveUp:
    """Return what follows from a failed connection; the text tells no more of the provider than a kind."""
    if isinstance(error, ClientConnectorError):
        if isinstance(error.os_error, PrivateAddress):
            return GiveUp(
                "the provider has a private address: set CALLACTORS_HTTP_ALLOW_PRIVATE if it may have one"
            )
        return Retry(f"cannot connect to the provider: {name_error(error.os_error)}")
    if isinstance(error, InvalidURL):
        return GiveUp("CALLACTORS_HTTP_URL cannot be asked")
    return Retry(f"the connection to the provider failed: {type(error).__name__}")


def _tell(track: Track, text: str) -> dict[str, Any]:
    return {"stream": track.stream, "track": track.name, "text": text}
