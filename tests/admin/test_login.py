# SPDX-License-Identifier: GPL-3.0-or-later
"""People log in through the gateway's own pages, by OpenID and by SAML."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.identity.login.flows import csrf_of
from gateway.model import Refused
from tests.admin.login_world import (
    Cli,
    World,
    at_provider,
    confirmed,
    hidden,
    logged_in,
    parameters,
    to_provider,
    world_at,
)
from tests.identity.saml_signing import AUDIENCE, ENTITY, Answer, encoded


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_at(tmp_path, Clock()) as found:
        yield found


@pytest.fixture
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.browser() as client:
        yield client


async def saml_request(world: World, browser: httpx.AsyncClient, cli: Cli) -> str:
    """Begin by SAML; the id of the request that the provider must answer."""
    url = await to_provider(browser, cli, issuer="corp-saml")
    packed = base64.b64decode(dict(httpx.URL(url).params)["SAMLRequest"])
    request = zlib.decompress(packed, wbits=-15).decode()
    assert f'AssertionConsumerServiceURL="{world.url}/login/saml/corp-saml/acs"' in request
    return request.partition('ID="')[2].partition('"')[0]


def saml_answer(world: World, request: str, **more: object) -> dict[str, str]:
    acs = f"{world.url}/login/saml/corp-saml/acs"
    given = Answer(request=request, destination=acs, recipient=acs, **more)  # type: ignore[arg-type]
    return {"SAMLResponse": encoded(world.idp.answer(given)), "RelayState": "ignored"}


async def post_saml(browser: httpx.AsyncClient, form: dict[str, str]) -> httpx.Response:
    """As the provider's page does it: from another site, so without a Lax cookie; what the answer
    sets is kept."""
    async with httpx.AsyncClient(base_url=browser.base_url, trust_env=False) as alone:
        answer = await alone.post("/login/saml/corp-saml/acs", data=form)
        browser.cookies.update(alone.cookies)
        return answer


# --- OpenID --------------------------------------------------------------------------------------


async def test_a_login_ends_in_a_token_of_the_gateways_own(
    world: World, browser: httpx.AsyncClient
) -> None:
    given = await logged_in(world, browser, Cli(world))
    assert given["access_token"].startswith("tg_") and given["chain"] == ["alice"]
    grant = await world.grants.by_handle(given["access_token"])
    assert (grant.origin.issuer, grant.origin.subject) == (world.provider.url, "00u1")
    assert grant.groups == ("dba",) and grant.login["interactive"] is True
    assert grant.login["method"] == "oidc" and grant.login["amr"] == ["pwd"]
    own = (await world.get("/api/v1/self", given["access_token"])).json()
    assert own["origin"]["name"] == "alice"


async def test_what_the_provider_is_asked_with(world: World, browser: httpx.AsyncClient) -> None:
    await logged_in(world, browser, Cli(world))
    (asked,) = world.provider.seen
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert asked["redirect_uri"] == f"{world.url}/login/oidc/corp/callback"
    assert asked["scope"] == "openid groups" and asked["nonce"] and asked["state"]
    (form,) = world.provider.forms
    assert form["code_verifier"] not in str(asked)
    assert "client_secret" not in form


async def test_without_a_refresh_token_the_grant_ends_with_the_id_token(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.changes = {"exp": int(time.time()) + 120}
    given = await logged_in(world, browser, Cli(world))
    assert given["expires_in"] <= 120


async def test_groups_come_from_userinfo_where_the_token_has_none(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.groups = None
    world.provider.userinfo = {"sub": "00u1", "groups": ["auditors"]}
    given = await logged_in(world, browser, Cli(world))
    assert (await world.grants.by_handle(given["access_token"])).groups == ("auditors",)


async def test_userinfo_of_another_person_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.groups = None
    world.provider.userinfo = {"sub": "00u2", "groups": ["admins"]}
    back = await at_provider(await to_provider(browser, Cli(world)))
    assert "another person" in parameters(await browser.get(back))["error_description"]


async def test_a_person_removed_from_a_group_has_it_no_more_at_the_next_login(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.groups = ["dba", "ops"]
    first = await logged_in(world, browser, Cli(world))
    world.provider.groups = ["ops"]
    second = await logged_in(world, browser, Cli(world))
    assert (await world.grants.by_handle(first["access_token"])).groups == ("dba", "ops")
    assert (await world.grants.by_handle(second["access_token"])).groups == ("ops",)


async def test_several_providers_are_offered_and_one_is_chosen(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    page = await browser.get("/login/authorize", params=cli.query(issuer=""))
    assert page.status_code == 200
    for name in ("corp", "corp-saml", "rival"):
        assert f'value="{name}"' in page.text
    assert hidden(page.text, "state") == cli.state
    unknown = await browser.get("/login/authorize", params=cli.query(issuer="<script>"))
    assert unknown.status_code == 400 and "<script>" not in unknown.text
    assert (await browser.get("/login/issuers")).json()["issuers"] == ["corp", "corp-saml", "rival"]


async def test_saying_no_tells_the_command_and_gives_nothing(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    await browser.get(await at_provider(await to_provider(browser, cli)))
    given = parameters(await confirmed(browser, "no"))
    assert given["error"] == "access_denied" and given["state"] == cli.state
    assert "code" not in given
    assert (await browser.get("/login/confirm")).status_code == 400


# --- SAML ----------------------------------------------------------------------------------------


async def test_a_saml_login_ends_in_a_token(world: World, browser: httpx.AsyncClient) -> None:
    cli = Cli(world)
    answer = await post_saml(browser, saml_answer(world, await saml_request(world, browser, cli)))
    assert answer.status_code == 303 and answer.headers["location"] == "/login/confirm"
    given = (await cli.redeem(parameters(await confirmed(browser))["code"])).json()
    grant = await world.grants.by_handle(given["access_token"])
    assert (grant.origin.issuer, grant.origin.subject) == (ENTITY, "alice@example.com")
    assert grant.groups == ("dba", "Domain Users") and given["chain"] == ["alice"]
    assert grant.login["method"] == "saml" and grant.login["interactive"] is True
    assert grant.expires_at == pytest.approx(time.time() + 3600, abs=30)


async def test_a_saml_answer_is_taken_once(world: World, browser: httpx.AsyncClient) -> None:
    request = await saml_request(world, browser, Cli(world))
    form = saml_answer(world, request)
    assert (await post_saml(browser, form)).status_code == 303
    again = await post_saml(browser, form)
    assert again.status_code == 400 and "used before" in again.text
    fresh_id = saml_answer(world, request, assertion_id="_other")
    assert (await post_saml(browser, fresh_id)).status_code == 400, "the request is answered"


async def test_one_of_many_posts_of_an_answer_at_once_is_taken(
    world: World, browser: httpx.AsyncClient
) -> None:
    form = saml_answer(world, await saml_request(world, browser, Cli(world)))
    answers = await asyncio.gather(*(post_saml(browser, form) for _ in range(8)))
    assert sorted(one.status_code for one in answers) == [303] + [400] * 7


async def test_a_login_that_the_provider_began_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    for request in ("", "_never_asked"):
        answer = await post_saml(browser, saml_answer(world, request))
        assert answer.status_code == 400 and "begin at the gateway" in answer.text


async def test_a_saml_answer_for_another_issuer_object_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    form = saml_answer(world, await saml_request(world, browser, Cli(world)))
    async with world.browser() as alone:
        answer = await alone.post("/login/saml/corp/acs", data=form)
    assert answer.status_code == 400
    oidc = await to_provider(browser, Cli(world))
    assert (
        await post_saml(browser, saml_answer(world, dict(httpx.URL(oidc).params)["state"]))
    ).status_code == 400


async def test_the_gateway_tells_saml_providers_about_itself(world: World) -> None:
    async with world.browser() as client:
        text = (await client.get("/login/saml/corp-saml/metadata")).text
        assert f'entityID="{AUDIENCE}"' in text
        assert f'Location="{world.url}/login/saml/corp-saml/acs"' in text
        assert (await client.get("/login/saml/corp/metadata")).status_code == 404


async def test_a_big_answer_is_read_and_a_huge_one_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    groups = [f"group-{number:04}" + "x" * 60 for number in range(900)]
    request = await saml_request(world, browser, Cli(world))
    attributes = {"groups": groups, "name": ["Alice"]}
    answer = await post_saml(browser, saml_answer(world, request, attributes=attributes))
    assert answer.status_code == 303
    huge = {"SAMLResponse": "A" * 2_000_000}
    assert (await post_saml(browser, huge)).status_code == 413


REFUSED_ANSWERS: list[dict[str, object]] = [
    {"status": "urn:oasis:names:tc:SAML:2.0:status:Requester"},
    {"audience": "https://elsewhere.example"},
    {"lasts": -600.0},
    {"subject": "x" * 5000},
]


@pytest.mark.parametrize("wrong", REFUSED_ANSWERS, ids=lambda wrong: next(iter(wrong)))
async def test_the_command_hears_that_a_saml_answer_was_refused(
    world: World, browser: httpx.AsyncClient, wrong: dict[str, object]
) -> None:
    cli = Cli(world)
    request = await saml_request(world, browser, cli)
    answer = await post_saml(browser, saml_answer(world, request, **wrong))
    told = parameters(answer)
    assert answer.headers["location"].startswith(cli.redirect + "?")
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", cli.state, world.url)
    assert told["error_description"] and "code" not in told
    # That login is over: a good answer comes too late.
    late = await post_saml(browser, saml_answer(world, request, assertion_id="_late"))
    assert late.status_code == 400


async def test_a_refused_saml_answer_ends_no_login_but_its_own(
    world: World, browser: httpx.AsyncClient
) -> None:
    request = await saml_request(world, browser, Cli(world))
    good = saml_answer(world, request)
    for other in ("", "_never_asked", request[:-1]):
        forged = saml_answer(world, other, audience="https://elsewhere.example")
        assert (await post_saml(browser, forged)).status_code == 400
    for broken in ("", "AAAA", "?", "PGE+"):
        assert (await post_saml(browser, {"SAMLResponse": broken})).status_code == 400
    async with world.browser() as alone:
        assert (await alone.post("/login/saml/corp/acs", data=good)).status_code == 400
    assert (await post_saml(browser, good)).status_code == 303
    # Nor one that is proved already.
    forged = saml_answer(world, request, audience="https://elsewhere.example")
    assert (await post_saml(browser, forged)).status_code == 400
    assert (await browser.get("/login/confirm")).status_code == 200


# --- terminals without a browser -----------------------------------------------------------------

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


async def device(world: World) -> dict[str, str]:
    async with world.browser() as client:
        answer = await client.post("/login/device_authorization", data={"client": "trailgate"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def poll(world: World, start: dict[str, str]) -> httpx.Response:
    form = {"grant_type": DEVICE_CODE, "device_code": start["device_code"]}
    async with world.browser() as client:
        return await client.post("/login/token", data=form)


async def claimed(browser: httpx.AsyncClient, typed: str, issuer: str = "corp") -> httpx.Response:
    return await browser.post("/login/device", data={"user_code": typed, "issuer": issuer})


async def test_a_terminal_logs_in_by_a_browser_elsewhere(
    world: World, browser: httpx.AsyncClient
) -> None:
    start = await device(world)
    assert start["verification_uri"] == f"{world.url}/login/device"
    page = await browser.get("/login/device")
    assert "If somebody sent you here" in page.text and start["user_code"] not in page.text
    sent = await claimed(browser, start["user_code"].lower().replace("-", " "))
    await browser.get(await at_provider(sent.headers["location"]))
    page = await browser.get("/login/confirm")
    assert (
        "a terminal at 127.0.0.1" in page.text
        and "A terminal elsewhere will act as you" in page.text
    )
    assert (await poll(world, start)).json()["error"] == "authorization_pending"
    assert (await poll(world, start)).json()["error"] == "slow_down"
    done = await confirmed(browser)
    assert done.status_code == 200 and "The terminal goes on" in done.text
    world.logins._polls.__init__(0.0)  # type: ignore[misc]
    given = (await poll(world, start)).json()
    grant = await world.grants.by_handle(given["access_token"])
    assert grant.origin.subject == "00u1" and grant.login["by"] == "device"
    assert (await poll(world, start)).json()["error"] == "invalid_grant"
    assert (await world.get("/api/v1/self", given["access_token"])).status_code == 401


async def test_a_terminal_hears_that_a_saml_answer_was_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    start = await device(world)
    sent = await claimed(browser, start["user_code"], "corp-saml")
    packed = base64.b64decode(dict(httpx.URL(sent.headers["location"]).params)["SAMLRequest"])
    request = zlib.decompress(packed, wbits=-15).decode().partition('ID="')[2].partition('"')[0]
    wrong = saml_answer(world, request, audience="https://elsewhere.example")
    assert (await post_saml(browser, wrong)).status_code == 400
    assert (await poll(world, start)).json()["error"] == "access_denied"


async def test_a_terminal_that_is_refused_hears_so(
    world: World, browser: httpx.AsyncClient
) -> None:
    start = await device(world)
    sent = await claimed(browser, start["user_code"])
    await browser.get(await at_provider(sent.headers["location"]))
    assert "Nobody was logged in" in (await confirmed(browser, "no")).text
    assert (await poll(world, start)).json()["error"] == "access_denied"


async def test_codes_expire_and_cannot_be_guessed_quickly(
    world: World, browser: httpx.AsyncClient
) -> None:
    start = await device(world)
    said = [(await claimed(browser, f"BBBB-BBB{letter}")).status_code for letter in "BCDFGHJKLMNP"]
    assert said == [400] * 10 + [429] * 2
    assert (await claimed(browser, start["user_code"])).status_code == 429
    world.clock.ahead = 601
    assert (await poll(world, start)).json()["error"] == "expired_token"


async def test_a_code_that_was_used_is_no_good_for_a_second_browser(
    world: World, browser: httpx.AsyncClient
) -> None:
    start = await device(world)
    sent = await claimed(browser, start["user_code"])
    await browser.get(await at_provider(sent.headers["location"]))
    async with world.browser() as thief:
        assert (await claimed(thief, start["user_code"])).status_code == 400


# --- confirmed again every five minutes ----------------------------------------------------------


async def test_a_login_is_confirmed_again_and_goes_on(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    assert given["expires_in"] > 28_000
    for _ in range(3):
        world.clock.ahead += 301
        await world.logins.refresher.look()
        assert await world.grants.by_handle(given["access_token"])
    assert [form["grant_type"] for form in world.provider.forms[1:]] == ["refresh_token"] * 3


async def test_a_provider_that_is_away_suspends_and_its_return_lifts_that(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    suspended: list[str] = []
    world.logins.refresher.on_suspended = suspended.extend
    world.provider.failing = (503, {})
    world.clock.ahead += 310
    await world.logins.refresher.look()
    assert await world.grants.by_handle(given["access_token"]), "it has a minute"
    world.clock.ahead += 60
    await world.logins.refresher.look()
    assert suspended == [given["grant"]]
    with pytest.raises(Exception, match="suspended"):
        await world.grants.by_handle(given["access_token"])
    world.provider.failing = None
    world.clock.ahead += 16
    await world.logins.refresher.look()
    assert await world.grants.by_handle(given["access_token"])


async def test_a_login_that_the_provider_ended_is_revoked(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    world.provider.tokens.clear()
    world.clock.ahead += 301
    await world.logins.refresher.look()
    with pytest.raises(Exception, match="revoked"):
        await world.grants.by_handle(given["access_token"])
    world.clock.ahead += 301
    await world.logins.refresher.look()
    assert len(world.provider.forms) == 2, "nobody asks for a grant that is over"


async def test_leaving_a_group_ends_the_login_at_the_next_confirmation(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.refreshes, world.provider.groups = True, ["dba", "ops"]
    given = await logged_in(world, browser, Cli(world))
    world.provider.groups = ["dba", "ops", "new"]
    world.clock.ahead += 301
    await world.logins.refresher.look()
    assert await world.grants.by_handle(given["access_token"])
    world.provider.groups = ["ops"]
    world.clock.ahead += 301
    await world.logins.refresher.look()
    with pytest.raises(Exception, match="revoked"):
        await world.grants.by_handle(given["access_token"])


async def test_another_persons_token_at_refresh_ends_the_login(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.refreshes = True
    given = await logged_in(world, browser, Cli(world))
    world.provider.subject = "00u2"
    world.clock.ahead += 301
    await world.logins.refresher.look()
    with pytest.raises(Exception, match="revoked"):
        await world.grants.by_handle(given["access_token"])


# --- one person ----------------------------------------------------------------------------------


async def test_one_persons_logins_see_and_revoke_each_others_trees(
    world: World, browser: httpx.AsyncClient
) -> None:
    by_oidc = await logged_in(world, browser, Cli(world))
    cli = Cli(world)
    await post_saml(browser, saml_answer(world, await saml_request(world, browser, cli)))
    by_saml = (await cli.redeem(parameters(await confirmed(browser))["code"])).json()
    world.provider.subject = "00u2"
    stranger = await logged_in(world, browser, Cli(world))
    both = {by_oidc["grant"], by_saml["grant"]}
    for given in (by_oidc, by_saml):
        seen = (await world.get("/api/v1/grants", given["access_token"])).json()
        assert {one["grant"] for one in seen} == both
        assert {one["origin"] for one in seen} == {"alice"}
    seen = (await world.get("/api/v1/grants", stranger["access_token"])).json()
    assert {one["grant"] for one in seen} == {stranger["grant"]}
    async with world.browser() as client:
        path = f"/api/v1/grants/{by_oidc['grant']}"
        for token, status in ((stranger["access_token"], 404), (by_saml["access_token"], 200)):
            answer = await client.delete(path, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status
    assert (await world.get("/api/v1/self", by_oidc["access_token"])).status_code == 401
    assert (await world.get("/api/v1/self", by_saml["access_token"])).status_code == 200


async def test_each_step_may_be_at_another_node(world: World, browser: httpx.AsyncClient) -> None:
    """Begun at one node, back at the second, confirmed at the third, redeemed at the first."""
    second, third = world.another_node(), world.another_node()
    world.provider.refreshes = True
    cli = Cli(world)
    back = dict(httpx.URL(await at_provider(await to_provider(browser, cli))).params)
    ticket = browser.cookies["trailgate-login"]
    await second.back_by_code("corp", ticket, back, world.url)
    with pytest.raises(Refused, match="phase"):
        await third.back_by_code("corp", ticket, back, world.url)
    assert (await third.waiting(ticket, "")).phase == "proved"
    _, code = await third.answer(ticket, "", csrf_of(ticket), True)
    given = (await cli.redeem(code)).json()
    assert given["chain"] == ["alice"]
    world.clock.ahead += 301
    await second.refresher.look()
    await third.refresher.look()
    assert [form["grant_type"] for form in world.provider.forms[1:]] == ["refresh_token"]
    assert await world.grants.by_handle(given["access_token"])
    world.clock.ahead += 301
    await third.refresher.look()
    assert len(world.provider.forms) == 3


async def test_nothing_secret_is_logged_or_kept(
    world: World, browser: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.provider.refreshes = True
    cli = Cli(world)
    url = await to_provider(browser, cli)
    back = await at_provider(url)
    await browser.get(back)
    given = parameters(await confirmed(browser))
    token = (await cli.redeem(given["code"])).json()["access_token"]
    code = dict(httpx.URL(back).params)["code"]
    secrets = [token, given["code"], code, cli.verifier, *world.provider.tokens]
    secrets += [world.provider.forms[0]["code_verifier"], "s3cret:with/odd"]
    ours = [record for record in caplog.records if record.name.startswith("gateway")]
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    assert "person logged in" in text
    kept = b"".join(path.read_bytes() for path in world.folder.iterdir())
    for secret in secrets:
        assert secret not in text
        if secret != world.provider.forms[0]["code_verifier"]:
            assert secret.encode() not in kept
