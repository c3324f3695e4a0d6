# SPDX-License-Identifier: GPL-3.0-or-later
"""Every route of the API: done, refused, malformed, too large; no token in an answer or a log."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """RFC 9457: its media type, and the members that every problem has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = dict(answer.json())
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"] and body["detail"]
    return body


def oauth_error(answer: httpx.Response, status: int, code: str) -> str:
    """RFC 6749 5.2."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    assert body["error"] == code
    return str(body["error_description"])


GUARDED = [
    ("GET", "/api/v1/self"),
    ("GET", "/api/v1/grants"),
    ("DELETE", "/api/v1/grants/g_0"),
    ("POST", "/api/v1/grants/g_0/lease"),
    ("POST", "/api/v1/token"),
    ("GET", "/api/v1/sessions"),
    ("DELETE", "/api/v1/sessions/s_0"),
    ("POST", "/oauth/introspect"),
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_nobody_without_a_token_gets_anywhere(api: Any, method: str, path: str) -> None:
    answer = api.http.request(method, path)
    problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="trailgate"'
    problem(api.http.request(method, path, headers={"authorization": "Basic YTpi"}), 401)


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_a_token_that_is_not_in_force_is_refused(api: Any, method: str, path: str) -> None:
    told = problem(api.http.request(method, path, headers=bearer("tg_" + "A" * 49)), 401)
    assert (told["trailgate"], told["code"]) == ("denied", "bad_token")
    assert told["reason"] == told["detail"]


def test_ones_own_grant_is_told_key_by_key(api: Any) -> None:
    token = api.sign("own", claims={"name": "Olga"})
    own = api.get("/api/v1/self", token).json()
    assert set(own) == {"grant", "chain", "origin", "expires", "url", "ca_pem", "targets"}
    assert own["chain"] == ["Olga"]
    assert own["origin"] == {
        "issuer": api.issuer,
        "subject": "own",
        "name": "Olga",
        "kind": "person",
    }
    assert own["url"] == api.url
    assert own["expires"].endswith("Z")
    assert [target["name"] for target in own["targets"]] == ["orders"]
    admin = api.admin.get("/api/v1/self").json()
    assert (admin["grant"], admin["chain"], admin["origin"]) == (None, ["admin"], None)


def test_grants_are_told_key_by_key_and_only_ones_own(api: Any) -> None:
    alice, bob = api.sign("alice"), api.sign("bob")
    child = api.exchange(alice, scope="orders")
    api.exchange(bob)
    (top,) = api.get("/api/v1/grants", alice).json()
    assert set(top) == {
        "grant", "parent", "actor", "proved", "isolation", "origin", "issuer", "subject", "chain",
        "groups", "narrowing", "state", "issued", "expires", "lease_until", "ended", "revoked",
        "revoked_by",
        "depth", "sessions", "children",
    }  # fmt: skip
    assert (top["actor"], top["proved"], top["parent"], top["state"]) == (
        "alice", True, None, "live",
    )  # fmt: skip
    (below,) = top["children"]
    assert (below["grant"], below["parent"]) == (child["grant"], top["grant"])
    assert below["proved"] is False
    assert below["narrowing"] == [{"scope": ["orders"]}]
    (seen,) = api.get("/api/v1/grants", child["access_token"]).json()
    assert (seen["grant"], seen["children"]) == (child["grant"], [])
    origins = {one["subject"] for one in api.admin.get("/api/v1/grants").json()}
    assert {"alice", "bob"} <= origins


def test_an_ancestor_revokes_and_others_are_told_there_is_no_such_grant(api: Any) -> None:
    alice = api.sign("revoker")
    lead = api.exchange(alice, agent_name="lead")
    reader = api.exchange(lead["access_token"])
    path = f"/api/v1/grants/{lead['grant']}"
    for stranger in (api.sign("mallory"), reader["access_token"], lead["access_token"]):
        problem(api.http.delete(path, headers=bearer(stranger)), 404)
    assert api.active(reader["access_token"])
    done = api.http.delete(path, headers=bearer(alice)).json()
    assert set(done["revoked"]) == {lead["grant"], reader["grant"]}
    assert not api.active(reader["access_token"])
    assert api.http.delete(path, headers=bearer(alice)).json() == {"revoked": []}
    told = problem(api.get("/api/v1/self", reader["access_token"]), 401)
    assert told["code"] == "revoked"
    assert told["detail"] == "the grant was revoked by revoker"
    problem(api.admin.delete("/api/v1/grants/g_none"), 404)


def test_a_grant_whose_work_is_done_is_told_apart_from_a_revoked_one(api: Any) -> None:
    alice = api.sign("finisher")
    done, taken = (api.exchange(alice, agent_name=name, lease="60") for name in ("done", "taken"))
    for minted, words in ((done, "?as=ended"), (taken, "?as=revoked")):
        path = f"/api/v1/grants/{minted['grant']}"
        assert api.http.delete(path + words, headers=bearer(alice)).is_success
    problem(api.http.delete(f"/api/v1/grants/{done['grant']}?as=x", headers=bearer(alice)), 400)
    (top,) = api.get("/api/v1/grants", alice).json()
    told = {one["actor"]: one for one in top["children"]}
    assert [told[name]["state"] for name in ("done", "taken")] == ["ended", "revoked"]
    assert told["done"]["revoked"] is told["done"]["revoked_by"] is None
    assert told["done"]["ended"] and told["taken"]["ended"] == told["taken"]["revoked"]
    for minted, text in ((done, "has ended"), (taken, "revoked by finisher")):
        assert text in problem(api.get("/api/v1/self", minted["access_token"]), 401)["detail"]
        path = f"/api/v1/grants/{minted['grant']}/lease"
        renewed = api.http.post(path, headers=bearer(alice))
        assert text in problem(renewed, 409)["detail"]
    unleased = api.exchange(alice, agent_name="free")
    renewed = api.http.post(f"/api/v1/grants/{unleased['grant']}/lease", headers=bearer(alice))
    assert "no lease" in problem(renewed, 409)["detail"]


def test_a_lease_is_renewed_by_the_parent_and_not_by_its_holder(api: Any) -> None:
    alice = api.sign("lessor")
    child = api.exchange(alice, lease="60")
    assert child["lease_seconds"] == 60.0
    path = f"/api/v1/grants/{child['grant']}/lease"
    answer = api.http.post(path, json={"seconds": 90}, headers=bearer(alice)).json()
    assert set(answer) == {"grant", "lease_until", "lease_seconds"}
    assert answer["lease_seconds"] == 90.0
    assert answer["lease_until"] > child["lease_until"]
    assert api.http.post(path, headers=bearer(alice)).status_code == 200
    problem(api.http.post(path, headers=bearer(child["access_token"])), 404)
    unleased = api.exchange(alice)
    path = f"/api/v1/grants/{unleased['grant']}/lease"
    problem(api.http.post(path, headers=bearer(alice)), 409)


BAD_BODIES = [
    (b"{", JSON, 400, "not JSON"),
    (b"[]", JSON, 400, "JSON object"),
    (b"[" * 60_000, JSON, 400, "not JSON"),
    (b'{"seconds": 1, "seconds": 2}', JSON, 400, "not JSON"),
    (b"\xff", JSON, 400, "not JSON"),
    (b'{"second": 1}', JSON, 400, "unknown members: second"),
    (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
    (b"{}", {}, 415, "application/json"),
    (b" " * 65_537, JSON, 413, "65536 bytes"),
]


@pytest.mark.parametrize(("body", "headers", "status", "says"), BAD_BODIES)
def test_a_body_that_is_not_what_it_must_be_is_refused(
    api: Any, body: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    child = api.admin.post("/api/v1/token", json={"subject": "root"}).json()
    for path in (f"/api/v1/grants/{child['grant']}/lease", "/api/v1/token"):
        answer = api.admin.post(path, content=body, headers=headers)
        assert says in problem(answer, status)["detail"]


@pytest.mark.parametrize("seconds", [0, -1, "60", True, None, [], 1e12, float("1e308")])
def test_seconds_are_a_number_within_bounds(api: Any, seconds: object) -> None:
    child = api.exchange(api.sign("bounds"), lease="60")
    path = f"/api/v1/grants/{child['grant']}/lease"
    told = problem(api.admin.post(path, json={"seconds": seconds}), 400)
    assert "above 0 and at most 366 days" in told["detail"]
    body = b'{"seconds": NaN}'
    problem(api.admin.post(path, content=body, headers=JSON), 400)


def test_the_admin_socket_vouches_for_local_people_and_the_door_does_not(api: Any) -> None:
    asked = {"subject": "alice", "name": "Alice", "groups": ["dba"], "expires_in": 60}
    minted = api.admin.post("/api/v1/token", json=asked)
    assert minted.headers["cache-control"] == "no-store"
    document = minted.json()
    assert set(document) == {"token", "grant", "expires", "chain"}
    assert document["chain"] == ["Alice"]
    own = api.get("/api/v1/self", document["token"]).json()
    assert own["origin"]["issuer"] == "trailgate:local"
    problem(api.http.post("/api/v1/token", json=asked, headers=bearer(document["token"])), 403)
    # Who shows a token on the admin socket is that token's holder and nobody more.
    problem(api.admin.post("/api/v1/token", json=asked, headers=bearer(document["token"])), 403)


@pytest.mark.parametrize(
    "change",
    [
        {"subject": ""}, {"subject": None}, {"subject": 5}, {"subject": "a\nb"},
        {"subject": "a" * 257},
        {"name": "\u202e"}, {"groups": "dba"}, {"groups": ["a"] * 65}, {"groups": [5]},
        {"kind": "robot"},
        {"expires_in": 0}, {"expires_in": 1e10}, {"colour": "red"},
    ],
)  # fmt: skip
def test_a_wrong_local_root_is_refused(api: Any, change: dict[str, object]) -> None:
    problem(api.admin.post("/api/v1/token", json={"subject": "alice", **change}), 400)


def test_without_a_proxy_there_are_no_sessions(api: Any) -> None:
    assert api.get("/api/v1/sessions", api.sign("alice")).json() == []
    told = problem(api.admin.delete("/api/v1/sessions/s_1"), 404)
    assert "no open session" in told["detail"]


def test_health_needs_no_token(api: Any) -> None:
    assert api.http.get("/healthz").text == "ok\n"
    assert api.http.get("/readyz").json() == {"ready": True, "checks": {}}
    metrics = api.http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "python_info" in metrics.text


def test_the_servers_metadata_is_complete(api: Any) -> None:
    document = api.http.get("/.well-known/oauth-authorization-server").json()
    assert document["issuer"] == api.url
    for name in ("token", "revocation", "introspection"):
        assert document[f"{name}_endpoint"].startswith(f"{api.url}/oauth/")
    assert document["authorization_details_types_supported"] == ["trailgate"]
    assert document["grant_types_supported"] == ["urn:ietf:params:oauth:grant-type:token-exchange"]


def test_introspection_tells_ones_own_tokens_and_those_below(api: Any) -> None:
    alice = api.sign("seen", claims={"name": "Alice"})
    lead = api.exchange(alice, agent_name="lead")
    reader = api.exchange(lead["access_token"])

    def asked(caller: str, token: str) -> dict[str, Any]:
        answer = api.http.post("/oauth/introspect", data={"token": token}, headers=bearer(caller))
        assert answer.headers["cache-control"] == "no-store"
        return dict(answer.json())

    told = asked(alice, reader["access_token"])
    assert set(told) == {
        "active", "iss", "sub", "sub_id", "client_id", "username", "token_type", "iat", "exp",
        "grant", "chain", "act",
    }  # fmt: skip
    assert (told["sub"], told["username"], told["chain"]) == (
        "seen", "Alice", ["Alice", "lead", "reader"],
    )  # fmt: skip
    assert told["act"] == {
        "sub": "reader",
        "proved": False,
        "act": {"sub": "lead", "proved": False},
    }
    assert asked(lead["access_token"], reader["access_token"])["active"]
    assert asked(reader["access_token"], reader["access_token"])["active"]
    for caller, token in (
        (reader["access_token"], lead["access_token"]),
        (api.sign("mallory"), alice),
        (alice, "nonsense"),
    ):
        assert asked(caller, token) == {"active": False}


def test_who_holds_a_token_may_end_it_with_all_below(api: Any) -> None:
    lead = api.exchange(api.sign("ender"), agent_name="lead")
    reader = api.exchange(lead["access_token"])
    for _ in range(2):  # RFC 7009 2.2: ending what has ended is no error
        answer = api.http.post("/oauth/revoke", data={"token": lead["access_token"]})
        assert (answer.status_code, answer.content) == (200, b"")
    assert not api.active(lead["access_token"]) and not api.active(reader["access_token"])
    assert api.http.post("/oauth/revoke", data={"token": "nonsense"}).status_code == 200


BAD_FORMS = [
    (b"", FORM, 400),
    (b"token", FORM, 400),
    (b"token=a&token=b", FORM, 400),
    (b"token=%ff", FORM, 400),
    (b"&".join(b"a%d=1" % n for n in range(40)), FORM, 400),
    (b"token=a", JSON, 415),
    (b"token=a", {}, 415),
    (b"token=" + b"a" * 65_536, FORM, 413),
]


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
@pytest.mark.parametrize(("body", "headers", "status"), BAD_FORMS)
def test_a_form_that_is_not_one_is_an_oauth_error(
    api: Any, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = api.admin.post(path, content=body, headers=headers)
    code = "unsupported_grant_type" if path == "/oauth/token" and not body else "invalid_request"
    oauth_error(answer, status, code)


def test_other_paths_and_methods_are_problems_too(api: Any) -> None:
    problem(api.http.get("/nowhere"), 404)
    answer = api.http.put("/api/v1/grants")
    problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_no_token_is_in_a_refusal_or_in_the_log(api: Any) -> None:
    minted = api.admin.post("/api/v1/token", json={"subject": "alice"}).json()["token"]
    jwt = api.sign("logged")
    secrets = [minted, minted[:-1] + "!", jwt, jwt + "x", "hunter2-is-secret"]
    api.http.post("/oauth/revoke", data={"token": minted})
    answers = []
    for secret in secrets:
        answers += [
            api.get("/api/v1/self", secret),
            api.get(f"/api/v1/grants/{secret}", minted),
            api.http.post("/oauth/token", data=api.form(secret)),
            api.http.post("/oauth/token", data=api.form(minted, actor_token=secret)),
            api.http.post("/api/v1/token", json={secret: 1}, headers=bearer(jwt)),
        ]
    told = "".join(answer.text for answer in answers if answer.is_error)
    assert len(told) > 1000
    logged = api.log.read_text()
    assert any(json.loads(line)["message"] == "exchange refused" for line in logged.splitlines())
    for secret in (minted[3:46], jwt.rpartition(".")[2], jwt.split(".")[1], "hunter2-is-secret"):
        assert secret not in logged
        assert secret not in told
