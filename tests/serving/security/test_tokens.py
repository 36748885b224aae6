import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml

from serving.errors import LaunchError, UnauthenticatedError
from serving.security.token_entry import parse_tokens
from serving.security.tokens import TokenFile
from tests.helpers.clock import Clock
from tests.helpers.patience import wait_until
from tests.serving.security.conftest import SECRETS, token_entry


def write(path, *entries):
    path.write_text(yaml.safe_dump({"tokens": list(entries)}))
    # Two writes in one tick of the file system's clock look the same.
    os.utime(path, ns=(0, hash(path.read_text()) % 10**15))


def header(name):
    return f"Bearer {name}.{SECRETS[name]}"


def test_changed_file_is_followed_within_a_second(tokens_path):
    clock = Clock()
    tokens = TokenFile(tokens_path, clock)
    assert tokens.caller_of(header("web")).name == "web"
    write(tokens_path, token_entry("boss", "admin"))
    clock.now += 1
    with pytest.raises(UnauthenticatedError):
        tokens.caller_of(header("web"))
    assert tokens.caller_of(header("boss")).scopes == {"admin"}


@pytest.mark.parametrize(
    "broken",
    ["tokens: [", "tokens: []\nmore: [", "tokens: [a: 2027-02-30]", None],
)
def test_file_broken_later_changes_nothing_until_mended(
    tokens_path, broken, caplog
):
    clock = Clock()
    tokens = TokenFile(tokens_path, clock)
    if broken is None:
        tokens_path.unlink()
    else:
        tokens_path.write_text(broken)
    for _ in range(3):
        clock.now += 1
        assert tokens.caller_of(header("web")).name == "web"
    assert "stay as they were" in caplog.text
    write(tokens_path, token_entry("boss", "admin"))
    clock.now += 1
    with pytest.raises(UnauthenticatedError):
        tokens.caller_of(header("web"))


def test_file_that_was_unreadable_is_followed_once_it_is_not(
    tokens_path, monkeypatch
):
    clock = Clock()
    tokens = TokenFile(tokens_path, clock)
    write(tokens_path, token_entry("boss", "admin"))
    changed = tokens_path.stat().st_ctime_ns
    with monkeypatch.context() as patched:
        # As for everybody but root, who runs some tests.
        patched.setattr(Path, "read_text", Mock(side_effect=PermissionError))
        clock.now += 1
        assert tokens.caller_of(header("web")).name == "web"
    wait_until(lambda: mode_changed_after(tokens_path, changed))
    clock.now += 1
    with pytest.raises(UnauthenticatedError):
        tokens.caller_of(header("web"))


def mode_changed_after(path, then):
    path.chmod(0o644)
    return path.stat().st_ctime_ns > then


def test_token_is_valid_until_the_second_it_expires(tmp_path):
    path = tmp_path / "tokens.yaml"
    write(path, token_entry("web", "rank", expires="2024-01-01T00:00:00Z"))
    clock = Clock(1704067199.9)
    tokens = TokenFile(path, clock)
    assert tokens.caller_of(header("web"))
    clock.now = 1704067200.0
    with pytest.raises(UnauthenticatedError, match="expired"):
        tokens.caller_of(header("web"))


@pytest.mark.parametrize(
    "expires",
    ["2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01 01:00:00+01:00"],
)
@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_expiry_is_the_same_moment_however_written(expires, dump):
    text = dump({"tokens": [token_entry("web", "rank", expires=expires)]})
    assert parse_tokens(text, "t")["web"].expires == 1704067200


def test_date_unquoted_in_yaml_is_that_days_start_in_utc():
    text = yaml.safe_dump({"tokens": [token_entry("web", "rank")]})
    text += "  expires: 2024-01-01\n"
    assert parse_tokens(text, "t")["web"].expires == 1704067200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "one key `tokens`"),
        ("[]", "one key `tokens`"),
        ("tokens: {}", "one key `tokens`"),
        ("tokens: [", "not YAML"),
        ("tokens: [x]", r"tokens\[0\]: must have the keys"),
        ("tokens: [{secret: s}]", "there is no key secret"),
        ("tokens: [{name: 'a.b'}]", r"tokens\[0\].name: 'a.b'"),
        ("tokens: [{name: a, sha256: hunter2}]", "never the token itself"),
        (
            f"tokens: [{{name: a, sha256: {'f' * 64}, scopes: [fly]}}]",
            r"scopes: \['fly'\] is not a list out of rank",
        ),
        (
            f"tokens: [{{name: a, sha256: {'f' * 64}, scopes: []}}]",
            "is not a list",
        ),
        (
            f"tokens: [{{name: a, sha256: {'f' * 64}, scopes: [rank], "
            "expires: soon}]",
            "must be a time such as",
        ),
        (
            f"tokens: [{{name: a, sha256: {'f' * 64}, scopes: [rank], "
            "expires: 2027-02-30}]",
            "not YAML: day",
        ),
        (
            f"tokens: [{{name: a, sha256: {'f' * 64}, scopes: [user: read]}}]",
            r"scopes: \[\{'user': 'read'\}\] is not a list",
        ),
    ],
)
def test_bad_file_is_refused_with_the_place(text, words):
    with pytest.raises(LaunchError, match=words):
        parse_tokens(text, "tokens.yaml")


def test_name_that_is_there_twice_is_refused():
    entry = token_entry("web", "rank")
    with pytest.raises(LaunchError, match=r"\[1\].name: 'web' is there twice"):
        parse_tokens(json.dumps({"tokens": [entry, entry]}), "t")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(LaunchError, match="Can't read the tokens file"):
        TokenFile(tmp_path / "nothing")


def make_token(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "serving.security", *arguments],
        capture_output=True,
        text=True,
    )


def test_made_token_is_let_in_by_the_file_it_was_added_to(tmp_path):
    path = tmp_path / "tokens.yaml"
    made = [
        make_token("web", "--scope=rank", f"--file={path}"),
        make_token(
            *("a", "--scope=rank", "--scope=user:read"),
            *("--users=a:", "--days=1", f"--file={path}"),
        ),
    ]
    assert [run.returncode for run in made] == [0, 0]
    tokens = TokenFile(path)
    web, a = (tokens.caller_of(f"Bearer {run.stdout.strip()}") for run in made)
    assert (web.name, web.scopes, web.user_prefix) == ("web", {"rank"}, "")
    assert (a.scopes, a.user_prefix) == ({"rank", "user:read"}, "a:")
    for run in made:
        assert run.stdout.strip().partition(".")[2] not in path.read_text()


def test_second_token_of_a_name_is_refused_and_the_file_kept(tmp_path):
    path = tmp_path / "tokens.yaml"
    make_token("web", "--scope=rank", f"--file={path}")
    before = path.read_text()
    again = make_token("web", "--scope=rank", f"--file={path}")
    assert again.returncode == 2
    assert "'web' is there twice" in again.stderr
    assert path.read_text() == before
