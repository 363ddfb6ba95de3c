"""The words of vendors: which end a call and why, and what of a callback is kept under which name."""

from typing import Final

from callactors.packets import EndReason

TWILIO_ENDS: Final = {
    "completed": EndReason.PROVIDER,
    "busy": EndReason.BUSY,
    "no-answer": EndReason.NO_ANSWER,
    "failed": EndReason.FAILED,
    "canceled": EndReason.CANCELED,
}
TWILIO_KEPT: Final = {
    "From": "from",
    "To": "to",
    "Direction": "direction",
    "Timestamp": "timestamp",
    "SequenceNumber": "sequence",
    "CallDuration": "duration",
    "SipResponseCode": "sip_code",
    "HangupSource": "hangup_source",
    "AnsweredBy": "answered_by",
    "ParentCallSid": "parent_call_id",
    "StreamSid": "stream",
    "StreamName": "stream_name",
    "StreamError": "error",
}
PLIVO_ENDS: Final = {**TWILIO_ENDS, "timeout": EndReason.NO_ANSWER, "cancel": EndReason.CANCELED}
PLIVO_STREAM_EVENTS: Final = frozenset({"StartStream", "StopStream", "DroppedStream", "DegradedStream"})
PLIVO_KEPT: Final = {
    "From": "from",
    "To": "to",
    "Direction": "direction",
    "Timestamp": "timestamp",
    "EndTime": "end_time",
    "Duration": "duration",
    "HangupCause": "hangup_cause",
    "HangupCauseName": "hangup_cause_name",
    "HangupSource": "hangup_source",
    "StreamID": "stream",
}
TELNYX_STATES: Final = frozenset(
    {
        *("call.initiated", "call.answered", "call.bridged", "call.enqueued", "call.dequeued", "call.hangup"),
        *("streaming.started", "streaming.stopped", "streaming.failed"),
    }
)
TELNYX_CAUSES: Final = {
    "user_busy": EndReason.BUSY,
    "no_answer": EndReason.NO_ANSWER,
    "timeout": EndReason.NO_ANSWER,
    "originator_cancel": EndReason.CANCELED,
    "call_rejected": EndReason.FAILED,
    "not_found": EndReason.FAILED,
}
TELNYX_KEPT: Final = {
    "from": "from",
    "to": "to",
    "direction": "direction",
    "occurred_at": "timestamp",
    "start_time": "start_time",
    "end_time": "end_time",
    "hangup_cause": "hangup_cause",
    "hangup_source": "hangup_source",
    "sip_hangup_cause": "sip_code",
    "call_session_id": "session",
    "stream_id": "stream",
    "failure_reason": "error",
}
JAMBONZ_KEPT: Final = {
    "from": "from",
    "to": "to",
    "direction": "direction",
    "duration": "duration",
    "sip_status": "sip_code",
    "sip_reason": "sip_reason",
    "call_termination_by": "hangup_source",
    "parent_call_sid": "parent_call_id",
}
VONAGE_ENDS: Final = {
    "completed": EndReason.PROVIDER,
    "busy": EndReason.BUSY,
    "timeout": EndReason.NO_ANSWER,
    "unanswered": EndReason.NO_ANSWER,
    "cancelled": EndReason.CANCELED,
    "failed": EndReason.FAILED,
    "rejected": EndReason.FAILED,
}
VONAGE_KEPT: Final = {
    "from": "from",
    "to": "to",
    "direction": "direction",
    "timestamp": "timestamp",
    "start_time": "start_time",
    "end_time": "end_time",
    "duration": "duration",
    "detail": "error",
    "sip_code": "sip_code",
    "sub_state": "sub_state",
    "conversation_uuid": "conversation",
}
