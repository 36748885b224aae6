"""What the gateway logs: text for people, or JSON lines for machines.

Lines written while a request is answered carry its id, which the caller also
finds in the answer's provenance.
"""

import contextvars
import json
import logging
from datetime import datetime, timezone

TEXT = "text"
JSON = "json"
FORMATS = (TEXT, JSON)

# Set for the task that answers a request.
request_id: contextvars.ContextVar[str] = contextvars.ContextVar(
    "request_id", default=""
)

# Attributes of every log record; the others were given by `extra`.
_STANDARD = frozenset(
    logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime"}
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A line for people to read, with the request's id if there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Formats a record's first line."""
        number = request_id.get()
        line = super().formatMessage(record)
        return f"{line} [{number}]" if number else line


def configure(log_format: str) -> None:
    """Sends everything from INFO up to stderr, in one of `FORMATS`."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if log_format == JSON else TextFormatter()
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
