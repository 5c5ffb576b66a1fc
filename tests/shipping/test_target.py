from __future__ import annotations

import pytest

from aqltelemetry.shipping.target import Target

_SECRET = "postgresql://me:hunter2@db:5432/there?sslmode=require&sslpassword=hunter2"


def test_a_target_is_printed_without_secrets() -> None:
    target = Target(_SECRET)
    assert str(target) == "postgresql://db:5432/there"
    assert "hunter2" not in repr(target) + str(target) + target.identity


def test_the_identity_is_the_place_and_not_the_user_or_the_options() -> None:
    assert Target(_SECRET).identity == Target("postgresql://you@db:5432/there").identity
    assert (
        Target("clickhouse://db/?table=a").identity != Target("clickhouse://db/?table=b").identity
    )
    assert Target("postgresql:///x?host=/a").identity != Target("postgresql:///x?host=/b").identity


@pytest.mark.parametrize(
    ("url", "has_secret"),
    [
        (_SECRET, True),
        ("postgresql://me:hunter2@db/there", True),
        ("otlp+http://c:4318/?token=x", True),
        ("s3://bucket/?secret_key=x", True),
        ("postgresql://me@db/there?sslmode=require", False),
    ],
)
def test_a_url_with_a_password_token_or_key_has_a_secret(url: str, has_secret: bool) -> None:
    assert Target(url).has_secret is has_secret
