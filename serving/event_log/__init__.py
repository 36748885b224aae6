"""Users' events on their way to the online stage.

`EventLog` is the contract, `LmdbEventLog` the embedded log of one machine,
`RedisEventLog` that of many gateways and workers (in `redis_log`, so that
redis-py is loaded by those who need it).
"""

from serving.event_log.entry import LogEntry, LoggedEvent, Submission
from serving.event_log.event_log import Appended, EventLog, LogConfig, LogStatus
from serving.event_log.lmdb_log import LmdbEventLog

__all__ = [
    "Appended",
    "EventLog",
    "LmdbEventLog",
    "LogConfig",
    "LogEntry",
    "LogStatus",
    "LoggedEvent",
    "Submission",
]
