"""Flags, and what a gateway makes of them."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from serving.errors import LaunchError
from serving.gateway.config import parse_args
from serving.security.admission import Admission
from serving.security.authentication import Authentication
from serving.security.config import SecurityConfig
from serving.security.tls import ClientTls, ServerTls
from serving.security.wiring import interceptors, listen, warn_if_open

REQUIRED = ["--backend=localhost:8500", "--model=adaptower=/a"]


def parse(*flags):
    return parse_args([*REQUIRED, *flags]).security


def test_nothing_is_asked_for_by_default_but_work_is_bounded():
    assert parse() == SecurityConfig()
    assert parse().max_in_flight > 0


def test_flags_become_one_frozen_value():
    assert parse(
        *("--tls-certificate=c", "--tls-key=k", "--tls-client-ca=a"),
        *("--tokens=t", "--max-in-flight=7"),
        *("--feedback-per-second=0.5", "--feedback-burst=3"),
    ) == SecurityConfig(
        tls=ServerTls(Path("c"), Path("k"), Path("a")),
        tokens=Path("t"),
        max_in_flight=7,
        feedback_per_second=0.5,
        feedback_burst=3,
    )


def test_flags_say_how_the_model_server_is_known():
    config = parse_args(
        [
            *(*REQUIRED, "--backend-ca=b"),
            *("--backend-certificate=bc", "--backend-key=bk"),
        ]
    )
    assert config.backend_tls == ClientTls(Path("b"), Path("bc"), Path("bk"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tls-certificate=c"], "--tls-key go together"),
        (["--tls-key=k"], "--tls-key go together"),
        (["--tls-client-ca=a"], "needs --tls-certificate"),
        (["--backend-key=k"], "--backend-key go together"),
        (["--max-in-flight=0"], "--max-in-flight must be more than 0"),
        (["--feedback-per-second=-1"], "must be more than 0"),
        (["--feedback-per-second=nan"], "must be more than 0"),
    ],
)
def test_wrong_flags_are_refused(flags, words, capsys):
    with pytest.raises(SystemExit):
        parse(*flags)
    assert words in capsys.readouterr().err


def test_who_calls_is_asked_before_a_place_is_given(tokens_path):
    found = interceptors(SecurityConfig(tokens=tokens_path), lambda _: None)
    assert [type(one) for one in found] == [Authentication, Admission]
    (only,) = interceptors(SecurityConfig(), lambda _: None)
    assert isinstance(only, Admission)


def test_tokens_file_that_is_missing_stops_the_start(tmp_path):
    with pytest.raises(LaunchError, match="Can't read the tokens"):
        interceptors(SecurityConfig(tokens=tmp_path / "t"), lambda _: None)


@pytest.mark.parametrize(
    ("host", "security", "warnings"),
    [
        ("127.0.0.1", SecurityConfig(), 0),
        ("localhost", SecurityConfig(), 0),
        ("0.0.0.0", SecurityConfig(), 2),
        ("0.0.0.0", SecurityConfig(tokens=Path("t")), 1),
        (
            "0.0.0.0",
            SecurityConfig(
                tokens=Path("t"), tls=ServerTls(Path("c"), Path("k"))
            ),
            0,
        ),
    ],
)
def test_open_gateway_is_told_of(host, security, warnings, caplog):
    warn_if_open(security, host)
    assert len(caplog.records) == warnings


async def _listen_twice():
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("localhost:0")
    await server.start()
    other = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    try:
        listen(other, "localhost", port, None)
    finally:
        await server.stop(None)


def test_port_that_is_taken_is_told_of():
    with pytest.raises(LaunchError, match="Is another gateway running"):
        asyncio.run(_listen_twice())
