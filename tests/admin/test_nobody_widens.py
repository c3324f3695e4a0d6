# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody in a chain, its origin included, widens that chain's grants or brings one back."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture
def family(api: Any) -> dict[str, Any]:
    """alice - lead (orders only, for a while) - reader (on a lease)."""
    alice = api.sign("widener")
    lead = api.exchange(alice, agent_name="lead", scope="orders", expires_in="300")
    reader = api.exchange(lead["access_token"], agent_name="reader", lease="60")
    return {"alice": alice, "lead": lead, "reader": reader}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def tokens(family: dict[str, Any]) -> dict[str, str]:
    return {
        "alice": family["alice"],
        "lead": family["lead"]["access_token"],
        "reader": family["reader"]["access_token"],
    }


def kept(api: Any, grant: str) -> dict[str, Any]:
    """The grant as the admin sees it."""
    flat = json.loads(api.run("grants", "list", "--data", str(api.data), "-o", "json").stdout)
    (found,) = [one for one in flat if one["grant"] == grant]
    return {name: value for name, value in found.items() if name != "lease_until"}


@pytest.mark.parametrize("who", ["alice", "lead", "reader"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_no_call_changes_a_grant(api: Any, family: dict[str, Any], who: str, method: str) -> None:
    before = {name: kept(api, family[name]["grant"]) for name in ("lead", "reader")}
    for name in ("lead", "reader"):
        path = f"/api/v1/grants/{family[name]['grant']}"
        for body in (
            {"narrowing": []},
            {"expires": "2099-01-01T00:00:00Z"},
            {"revoked": None},
            {"state": "live"},
            {"chain": ["alice"]},
        ):
            answer = api.http.request(method, path, json=body, headers=bearer(tokens(family)[who]))
            assert answer.status_code in (404, 405)
            answer = api.admin.request(method, path, json=body)
            assert answer.status_code in (404, 405)
    assert before == {name: kept(api, family[name]["grant"]) for name in ("lead", "reader")}


@pytest.mark.parametrize("who", ["alice", "lead", "reader"])
def test_an_exchange_only_narrows(api: Any, family: dict[str, Any], who: str) -> None:
    """Whatever is asked for below a grant, it keeps that grant's bounds."""
    token = tokens(family)[who]
    wide = api.exchange(
        token,
        agent_name="wide",
        scope="orders lake web",
        authorization_details="[]",
        expires_in="9999999",
    )
    if who != "alice":
        assert wide["scope"] == "orders"
        assert wide["expires"] <= family["lead"]["expires"]
    assert wide["authorization_details"] == []
    below = api.exchange(wide["access_token"], agent_name="wider", scope="lake orders")
    assert below["scope"] == ("orders" if who != "alice" else "lake orders")
    assert below["authorization_details"] == []


def test_a_revoked_grant_stays_so(api: Any, family: dict[str, Any]) -> None:
    lead, reader = family["lead"]["grant"], family["reader"]["grant"]
    answer = api.run("grants", "revoke", lead, TRAILGATE_TOKEN=family["alice"])
    assert answer.returncode == 0
    for who in ("alice", "lead", "reader"):
        token = tokens(family)[who]
        for grant in (lead, reader):
            path = f"/api/v1/grants/{grant}/lease"
            told = api.http.post(path, json={"seconds": 60}, headers=bearer(token))
            assert told.status_code in (401, 403, 404, 409)
            api.run("grants", "revoke", grant, TRAILGATE_TOKEN=token)  # twice is no way back
    told = api.admin.post(f"/api/v1/grants/{reader}/lease", json={"seconds": 60})
    assert told.status_code == 409
    for name in ("lead", "reader"):
        assert kept(api, family[name]["grant"])["state"] == "revoked"
        assert not api.active(tokens(family)[name])
        form = api.form(tokens(family)[name])
        answer = api.http.post("/oauth/token", data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert "revoked" in answer.json()["error_description"]
    again = api.exchange(family["alice"], agent_name="lead")
    assert again["grant"] != lead


def test_a_revoked_login_is_over_for_that_token(api: Any) -> None:
    alice = api.sign("gone")
    api.exchange(alice)
    assert api.http.post("/oauth/revoke", data={"token": alice}).status_code == 200
    for _ in range(2):
        answer = api.http.post("/oauth/token", data=api.form(alice))
        assert "revoked" in answer.json()["error_description"]


@pytest.mark.parametrize("who", ["lead", "reader"])
def test_nobody_extends_or_ends_what_is_not_below(
    api: Any, family: dict[str, Any], who: str
) -> None:
    """A lease is the parent's to renew; a parent is not its child's to revoke."""
    token = tokens(family)[who]
    before = kept(api, family["lead"]["grant"])
    own = family[who]["grant"]
    for grant in (own, family["lead"]["grant"]):
        path = f"/api/v1/grants/{grant}/lease"
        told = api.http.post(path, json={"seconds": 3600}, headers=bearer(token))
        assert told.status_code == 404
    answer = api.run("grants", "revoke", family["lead"]["grant"], TRAILGATE_TOKEN=token)
    assert answer.returncode == 1
    assert kept(api, family["lead"]["grant"]) == before


def test_a_lease_is_never_longer_than_what_was_set(api: Any, family: dict[str, Any]) -> None:
    path = f"/api/v1/grants/{family['reader']['grant']}/lease"
    headers = bearer(tokens(family)["lead"])
    answer = api.http.post(path, json={"seconds": 999999}, headers=headers).json()
    assert answer["lease_seconds"] <= 3600
    path = f"/api/v1/grants/{family['lead']['grant']}/lease"
    headers = bearer(family["alice"])
    assert api.http.post(path, json={"seconds": 60}, headers=headers).status_code == 409


@pytest.mark.parametrize("who", ["alice", "lead", "reader"])
def test_only_the_admin_socket_vouches_for_people(
    api: Any, family: dict[str, Any], who: str
) -> None:
    asked = {"subject": "root", "groups": ["admins"]}
    answer = api.http.post("/api/v1/token", json=asked, headers=bearer(tokens(family)[who]))
    assert answer.status_code == 403
    answer = api.admin.post("/api/v1/token", json=asked, headers=bearer(tokens(family)[who]))
    assert answer.status_code == 403


def test_the_command_line_narrows_too(api: Any, family: dict[str, Any]) -> None:
    words = ("token", "--as", "wide", "--scope", "lake", "--expires", "9d", "-o", "json")
    answer = api.run(*words, TRAILGATE_TOKEN=tokens(family)["lead"])
    told = json.loads(answer.stdout)
    assert kept(api, told["grant"])["narrowing"] == [{"scope": ["orders"]}, {"scope": ["lake"]}]
    assert kept(api, told["grant"])["expires"] <= kept(api, family["lead"]["grant"])["expires"]
    shown = api.run("token", "--as", "wide", TRAILGATE_TOKEN="tg_forged")
    assert shown.returncode != 0
