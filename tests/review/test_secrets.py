"""What looks secret stays out, and lines keep their numbers. Every value here is made up and opens nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madflow.core.findings import REDACTED
from madflow.debate.secrets import redact, secret_path
from madflow.review.diff import read_diff

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"  # 64 characters, as in a PEM file
KEY = f"-----BEGIN PRIVATE KEY-----\n{BODY}\n{BODY[::-1]}\nMzEfYyjiWA4R4/M2bS1+fWIcPm15A8==\n-----END PRIVATE KEY-----"


SECRET_PATHS = """
.env a/.env .env.local prod.env id_rsa ID_RSA id_ed25519.bak server.key cert.pem a/b/x.p12 .npmrc .netrc .pypirc
.aws/config .ssh/known_hosts .git/config .docker/config.json credentials credentials.json secrets.yaml
terraform.tfstate prod.tfvars service-account-prod.json .pgpass .git-credentials
"""
HARMLESS_PATHS = """
.env.example .env.template id_rsa.pub keys.py credentials.py secrets.go environment.yml src/keyboard.key.ts
docs/secrets.md monkey config.json docker/config.json envs/prod.yaml
"""


@pytest.mark.parametrize("path", SECRET_PATHS.split())
def test_secret_looking_paths(path: str) -> None:
    assert secret_path(path)


@pytest.mark.parametrize("path", HARMLESS_PATHS.split())
def test_harmless_paths(path: str) -> None:
    assert not secret_path(path)


SECRETS = {
    "aws-access-key": "AKIA" + "Z" * 16,
    "github-token": "ghp_" + "a1B2" * 9,
    "gitlab-token": "glpat-" + "a1B2" * 5,
    "slack-token": "xoxb-" + "1234-" * 4 + "abcd",
    "stripe-key": "sk_live_" + "a1B2" * 6,
    "api-key": "sk-proj-" + "a1B2" * 10,
    "google-api-key": "AIza" + "a1B2c" * 7,
    "npm-token": "npm_" + "a1B2" * 9,
    "json-web-token": ".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "c2lnbmF0dXJlLW9mLTMy"]),
    "url-password": "postgres://user:hunter2hunter2@db.example.test/x",
    "private-key": KEY,
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
def test_values_are_redacted_in_place(kind: str, secret: str) -> None:
    text = f"before\nvalue = '''{secret}'''\nafter\n"
    clean = redact(text)
    assert set(REDACTED.findall(clean)) == {kind}
    assert clean.count("\n") == text.count("\n")
    assert clean.startswith("before\nvalue = '''") and clean.endswith("'''\nafter\n")
    ast.parse(clean)  # still a program: the linter reads what is redacted
    for part in (BODY, "hunter2", "a1B2a1B2", "AKIA", "c2lnbmF0"):
        assert part not in clean


def test_a_key_in_quoted_lines_stays_a_program() -> None:
    lines = [f'    "{line}\\n"' for line in KEY.split("\n")]
    text = "KEY = (\n" + "\n".join(lines) + "\n)\nprint(KEY)\n"
    clean = redact(text)
    ast.parse(clean)
    assert BODY not in clean and clean.endswith(")\nprint(KEY)\n")


def test_a_program_that_names_the_marker_is_left_alone() -> None:
    text = 'if "-----BEGIN PRIVATE KEY-----" in text:\n    raise ValueError(text)\nreturn text\n'
    assert redact(text).split("\n")[1:] == text.split("\n")[1:]


def test_a_keys_middle_without_its_ends_is_hidden_and_hashes_are_not() -> None:
    assert BODY not in redact(f"x\n{BODY}\ny")
    digest = "0123456789abcdef" * 4
    assert redact(f"sha256 = {digest}\n{digest}") == f"sha256 = {digest}\n{digest}"


@given(st.text(max_size=300))
def test_redaction_keeps_the_number_of_lines(text: str) -> None:
    assert redact(text).count("\n") == text.count("\n")


def test_a_marker_that_an_author_wrote_is_not_taken_for_a_secret() -> None:
    assert not REDACTED.search(redact("# tokens become <redacted:github-token>\n"))


def test_nothing_secret_reaches_a_task(tmp_path: Path) -> None:
    token = SECRETS["github-token"]
    added = "".join(f"+{line}\n" for line in f"T = '{token}'\nK = '''\n{KEY}\n'''".split("\n"))
    count = added.count("\n")
    diff = (
        f"--- a/f.py\n+++ b/f.py\n@@ -1,2 +1,{count + 1} @@ def {token}():\n one = 1\n-OLD = '{token}'\n{added}"
        f"--- a/.env\n+++ b/.env\n@@ -1,1 +1,1 @@\n-A={token}\n+B={token}\n"
    )
    new = "one = 1\n" + "".join(f"{line[1:]}\n" for line in added.split("\n")[:-1])
    (tmp_path / "f.py").write_text(new)
    for root in (None, tmp_path):
        task = read_diff(diff, question="q", root=root)
        dumped = task.model_dump_json()
        assert token not in dumped and BODY not in dumped and "A=" not in dumped
        python = {file.path: file for file in task.files}["f.py"]
        assert "T = '<redacted:github-token>'" in python.diff
        assert python.added == tuple(range(2, count + 2))
        if python.text is not None:  # the diff's new lines are the text's lines: a quote of one is found in the other
            shown = [line[1:] for line in python.diff.split("\n")[3:] if line[:1] in ("+", " ")]
            assert shown == python.text.split("\n")[: len(shown)]


@pytest.mark.parametrize(
    "line",
    [
        "eyJ-" * 50_000,
        "-----BEGIN PRIVATE KEY-----" + " " * 200_000 + "x",
        "-----BEGIN PRIVATE KEY-----\n" + "+" * 200_000 + "!",
        "+" * 200_000 + "!",
        "sk-" * 60_000,
        "a://b:c" * 30_000,
        "aws" * 60_000,
    ],
)
def test_no_line_makes_a_pattern_slow(line: str) -> None:
    redact(line)  # quadratic patterns take minutes here
