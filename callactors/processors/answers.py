"""What a provider's answer over HTTP means: an outcome, or the result in it.

Reasons are stored and shown, so that nothing of an answer's body is in them.
"""

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from callactors.errors import InputError
from callactors.processors.sessions import read_retry_after
from callactors.retry import GiveUp, Retry
from callactors.strict_json import read_json

_PASSING: Final = frozenset({408, 425, 429})  # with all of 5xx


class _Result(BaseModel):
    """The result of the AI step, as far as it is agreed on; whatever else there is stays as it is."""

    model_config = ConfigDict(extra="allow")

    transcript: str | list[Any] | None = None
    summary: str | None = None
    sentiment: Literal["positive", "neutral", "negative", "unknown"] | None = None


class _Transcription(BaseModel):
    """The answer of OpenAI's /v1/audio/transcriptions in the format `json`, as far as it is of use."""

    text: str


def judge(status: int, retry_after: str | None, now: float) -> Retry | GiveUp:
    """Return what follows from a *status* that is not 2xx; *now* is in seconds since 1970."""
    if status in _PASSING or 500 <= status <= 599:
        return Retry(f"the provider answered {status}", read_retry_after(retry_after, now))
    if 300 <= status <= 399:
        return GiveUp(
            f"the provider answered {status}, and redirects are not followed:"
            " set CALLACTORS_HTTP_URL to where it leads"
        )
    return GiveUp(f"the provider answered {status}")


def read_result(content: bytes) -> dict[str, Any] | Retry:
    """Return the result in *content*, or that it is none: a model may do better next time."""
    return _read(content, _Result)


def read_transcription(content: bytes) -> str | Retry:
    """Return the text in *content*, or that there is none."""
    answer = _read(content, _Transcription)
    return answer if isinstance(answer, Retry) else str(answer["text"])


def _read(content: bytes, model: type[BaseModel]) -> dict[str, Any] | Retry:
    try:
        answer = read_json(content)
        json.dumps(answer, allow_nan=False)
    except (InputError, ValueError):
        return Retry("the provider's answer is not JSON that can be stored")
    if not isinstance(answer, dict):
        return Retry("the provider's answer is not a JSON object")
    try:
        model.model_validate(answer)
    except ValidationError as error:
        return Retry(_describe(error))
    return answer


def _describe(error: ValidationError) -> str:
    names = {str(found["loc"][0]) for found in error.errors(include_url=False, include_input=False)}
    return f"the provider's answer has a wrong or no {', '.join(sorted(names))}"
