# SPDX-License-Identifier: GPL-3.0-or-later
"""What others may try with a person's login: each try is refused, and gives nothing away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest

from gateway.identity.handles import token_sha256
from gateway.identity.login.flows import CAP_OF_CLIENT, csrf_of
from gateway.identity.login.throttle import ADDRESSES, LoginLimits, Throttle, network_of
from tests.admin.login_world import (
    CLIENT,
    REDIRECT,
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
from tests.admin.test_login import Clock, claimed, device, post_saml, saml_answer, saml_request


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_at(tmp_path, Clock()) as found:
        yield found


@pytest.fixture
async def browser(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.browser() as client:
        yield client


async def refused_callback(
    browser: httpx.AsyncClient, url: str, said: str, status: int = 400
) -> None:
    """The way back is refused in these words, and nothing can be confirmed after it."""
    answer = await browser.get(url)
    if answer.status_code == 303:
        told = parameters(answer)
        assert answer.headers["location"].startswith(REDIRECT + "?"), answer.headers
        assert "code" not in told and said in told["error_description"], told
    else:
        assert answer.status_code == status and said in answer.text, answer.text
    assert (await browser.get("/login/confirm")).status_code == 400


def changed(url: str, **more: str | None) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **more}
    kept = {name: value for name, value in query.items() if value is not None}
    return parts._replace(query=urlencode(kept)).geturl()


# --- where the browser is sent -------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/callback",
        "http://127.0.0.1.evil.example:80/callback",
        "http://127.0.0.1:80@evil.example/callback",
        "http://127.0.0.1:49152/callback/../x",
        "http://127.0.0.1:49152/callback?x=1",
        "http://127.0.0.1:49152/callback#x",
        "http://127.0.0.1:99999/callback",
        "http://127.0.0.1:0/callback",
        "http://localhost:49152/callback",
        "http://127.0.0.1:49152/callback\nx",
        "https://127.0.0.1:49152/callback",
        "javascript:alert(1)//127.0.0.1:1/callback",
        "//evil.example",
        "http://127.0.0.1:١٢٣/callback",
    ],
)
async def test_no_place_but_the_commands_own_listener_is_redirected_to(
    world: World, browser: httpx.AsyncClient, target: str
) -> None:
    answer = await browser.get("/login/authorize", params=Cli(world, redirect=target).query())
    assert answer.status_code == 400 and "location" not in answer.headers
    assert "set-cookie" not in answer.headers and world.provider.seen == []


@pytest.mark.parametrize(
    "more",
    [
        {"code_challenge": "x"},
        {"code_challenge_method": "plain"},
        {"response_type": "token"},
        {"state": "short"},
        {"state": '"><script>alert(1)</script>'},
        {"code_challenge": ""},
    ],
    ids=str,
)
async def test_weak_requests_are_refused(
    world: World, browser: httpx.AsyncClient, more: dict[str, str]
) -> None:
    answer = await browser.get("/login/authorize", params=Cli(world).query(**more))
    assert answer.status_code == 400 and "<script>" not in answer.text


async def test_a_host_that_the_client_names_is_not_believed(
    world: World, browser: httpx.AsyncClient
) -> None:
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example"}
    answer = await browser.get("/login/authorize", params=Cli(world).query(), headers=headers)
    asked = parameters(answer)
    assert asked["redirect_uri"].startswith(world.url)
    start = await browser.post("/login/device_authorization", data={"a": "b"}, headers=headers)
    assert start.json()["verification_uri"].startswith(world.url)


# --- the way back --------------------------------------------------------------------------------


async def test_a_code_in_another_browser_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    """Login CSRF: the attacker's code, or the victim's, in a browser that did not begin."""
    back = await at_provider(await to_provider(browser, Cli(world)))
    async with world.browser() as victim:
        await refused_callback(victim, back, "no login under way")
        await to_provider(victim, Cli(world))
        await refused_callback(victim, back, "another login")


async def test_state_must_be_this_logins_own(world: World, browser: httpx.AsyncClient) -> None:
    for state in (None, "", "x" * 43):
        back = await at_provider(await to_provider(browser, Cli(world)))
        await refused_callback(browser, changed(back, state=state), "another login")
    assert world.provider.forms == [], "no code was redeemed"


async def test_a_cookie_from_before_is_not_taken_over(
    world: World, browser: httpx.AsyncClient
) -> None:
    """Session fixation: a cookie that somebody planted is replaced, not used."""
    browser.cookies.set("trailgate-login", "planted-by-mallory", domain="127.0.0.1", path="/")
    await browser.get(await at_provider(await to_provider(browser, Cli(world))))
    async with world.browser() as mallory:
        mallory.cookies.set("trailgate-login", "planted-by-mallory")
        assert (await mallory.get("/login/confirm")).status_code == 400


async def test_a_second_answer_to_one_login_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    back = await at_provider(await to_provider(browser, Cli(world)))
    assert (await browser.get(back)).status_code == 303
    assert (await browser.get(back)).status_code == 400
    assert len(world.provider.forms) == 1
    assert (await browser.get("/login/confirm")).status_code == 200, "the first still holds"


async def test_a_code_of_another_login_is_refused(world: World, browser: httpx.AsyncClient) -> None:
    """Code injection: PKCE and the nonce bind a code to the login that asked for it."""
    stolen = parameters_of(await at_provider(await to_provider(browser, Cli(world))))["code"]
    async with world.browser() as mallory:
        back = await at_provider(await to_provider(mallory, Cli(world)))
        await refused_callback(mallory, changed(back, code=stolen), "did not accept")


def parameters_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


async def test_a_nonce_of_another_login_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    for nonce in ("another", None, ["a"]):
        world.provider.changes = {"nonce": nonce}
        back = await at_provider(await to_provider(browser, Cli(world)))
        await refused_callback(browser, back, "another login")


@pytest.mark.parametrize("iss", ["https://rival.example", "", "other"])
async def test_an_answer_by_another_issuer_is_refused(
    world: World, browser: httpx.AsyncClient, iss: str
) -> None:
    """Mix-up, RFC 9207: a provider that promises `iss` must send its own."""
    world.provider.answer = {"iss": world.other.url if iss == "other" else iss}
    back = await at_provider(await to_provider(browser, Cli(world)))
    await refused_callback(browser, back, "another provider")
    assert world.provider.forms == [], "no code was sent anywhere"


async def test_one_provider_cannot_answer_at_the_callback_of_another(
    world: World, browser: httpx.AsyncClient
) -> None:
    """Mix-up without `iss`: the code of one would be sent to the other."""
    world.provider.discovery = {"authorization_response_iss_parameter_supported": False}
    back = await at_provider(await to_provider(browser, Cli(world)))
    moved = changed(back.replace("/oidc/corp/", "/oidc/rival/"), iss=None)
    await refused_callback(browser, moved, "another provider")
    assert world.other.forms == []


async def test_an_id_token_of_another_trusted_issuer_is_refused(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.signer.sign = lambda *a, **k: world.other.signer.sign(*a, **k)  # type: ignore[method-assign]
    back = await at_provider(await to_provider(browser, Cli(world)))
    await refused_callback(browser, back, "another provider")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "another-client"}, "another audience"),
        ({"aud": [CLIENT, "another-client"]}, "another client"),
        ({"aud": [CLIENT, "another-client"], "azp": "another-client"}, "another client"),
        ({"azp": "another-client"}, "another client"),
        ({"exp": 1_700_000_000}, "expired"),
        ({"iss": "https://evil.example"}, "not trusted"),
        ({"sub": ""}, "names its subject"),
        ({"groups": 7}, "groups"),
    ],
    ids=str,
)
async def test_id_tokens_for_others_are_refused(
    world: World, browser: httpx.AsyncClient, claims: dict[str, Any], said: str
) -> None:
    world.provider.changes = claims
    back = await at_provider(await to_provider(browser, Cli(world)))
    await refused_callback(browser, back, said)


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        ((400, {"error": "invalid_grant"}), 400),
        ((401, {"error": "invalid_client"}), 503),
        ((500, {}), 503),
        ((200, {"access_token": "x"}), 400),
        ((200, {"id_token": "not.a.token"}), 400),
    ],
    ids=str,
)
async def test_token_endpoints_that_do_not_answer_well_log_nobody_in(
    world: World, browser: httpx.AsyncClient, failing: tuple[int, dict[str, Any]], status: int
) -> None:
    world.provider.failing = failing
    cli = Cli(world)
    back = await at_provider(await to_provider(browser, cli))
    told = parameters(await browser.get(back))
    assert told["error"] == ("access_denied" if status == 400 else "temporarily_unavailable")
    assert told["state"] == cli.state and told["iss"] == world.url
    assert (await browser.get("/login/confirm")).status_code == 400


async def test_what_a_provider_says_of_a_failure_is_not_shown(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.answer = {
        "code": "",
        "error": "<script>alert(1)</script>",
        "error_description": "call 0800-EVIL",
    }
    back = await at_provider(await to_provider(browser, Cli(world)))
    told = parameters(await browser.get(back))
    assert told["error"] == "access_denied" and told["error_description"]
    assert "<" not in str(told) and "0800" not in str(told)
    start = await device(world)
    sent = await claimed(browser, start["user_code"])
    answer = await browser.get(await at_provider(sent.headers["location"]))
    assert answer.status_code == 400 and "did not log you in" in answer.text
    assert "<script" not in answer.text and "0800" not in answer.text


async def test_a_parameter_given_twice_is_refused(world: World, browser: httpx.AsyncClient) -> None:
    back = await at_provider(await to_provider(browser, Cli(world)))
    answer = await browser.get(back + "&state=x")
    assert answer.status_code == 400 and "given twice" in answer.text


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "issuer"])
async def test_discovery_that_leads_elsewhere_is_refused(
    world: World, browser: httpx.AsyncClient, name: str
) -> None:
    world.provider.discovery = {name: "http://evil.example/x"}
    answer = await browser.get("/login/authorize", params=Cli(world).query())
    if name == "token_endpoint":
        back = await at_provider(answer.headers["location"])
        assert parameters(await browser.get(back))["error"] == "temporarily_unavailable"
    else:
        assert answer.status_code == 503


# --- the page that asks --------------------------------------------------------------------------


async def proved(world: World, browser: httpx.AsyncClient, cli: Cli) -> None:
    await browser.get(await at_provider(await to_provider(browser, cli)))


async def test_yes_needs_the_page_that_was_made_for_this_browser(
    world: World, browser: httpx.AsyncClient
) -> None:
    """CSRF: the form's own secret, and where the form came from."""
    await proved(world, browser, Cli(world))
    page = await browser.get("/login/confirm")
    csrf = hidden(page.text, "csrf")
    assert len(csrf) == 64
    async with world.browser() as mallory:
        await proved(world, mallory, Cli(world))
        theirs = hidden((await mallory.get("/login/confirm")).text, "csrf")
    for form in (
        {"answer": "yes"},
        {"answer": "yes", "csrf": theirs},
        {"answer": "yes", "csrf": ""},
    ):
        assert (await browser.post("/login/confirm", data=form)).status_code == 400
    good = {"answer": "yes", "csrf": csrf}
    for site in ("cross-site", "same-site", "none"):
        answer = await browser.post("/login/confirm", data=good, headers={"sec-fetch-site": site})
        assert answer.status_code == 403
    answer = await browser.post(
        "/login/confirm", data=good, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert (await browser.post("/login/confirm", data=good)).status_code == 303
    assert (await browser.post("/login/confirm", data=good)).status_code == 400, "only once"


async def test_pages_run_nothing_and_cannot_be_framed(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    await proved(world, browser, cli)
    for path in ("/login/confirm", "/login/device", "/login/authorize", "/login/style.css"):
        headers = (await browser.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "script" not in policy and "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert path.endswith(".css") or headers["cache-control"] == "no-store"
    page = await browser.get("/login/confirm")
    assert "form-action 'self' http://127.0.0.1:49152" in page.headers["content-security-policy"]


async def test_names_from_providers_are_text_on_pages(
    world: World, browser: httpx.AsyncClient
) -> None:
    world.provider.subject = '<img src=x onerror="alert(1)">'
    world.provider.changes = {"name": "<script>alert(1)</script>"}
    await proved(world, browser, Cli(world))
    page = (await browser.get("/login/confirm")).text
    assert "<script" not in page and "<img" not in page
    assert "&lt;script&gt;" in page and "&lt;img" in page


async def test_the_cookie_is_for_this_host_alone(world: World, browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/login/authorize", params=Cli(world).query())
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
    assert "Domain" not in cookie


async def test_no_secret_stands_in_an_address_but_short_lived_codes(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    url = await to_provider(browser, cli)
    back = await at_provider(url)
    after = await browser.get(back)
    assert after.headers["location"] == "/login/confirm"
    final = (await confirmed(browser)).headers["location"]
    token = (await cli.redeem(parameters_of(final)["code"])).json()["access_token"]
    for address in (url, back, final):
        assert token not in address and cli.verifier not in address


# --- the command's code --------------------------------------------------------------------------


async def code_for(world: World, browser: httpx.AsyncClient, cli: Cli) -> str:
    await proved(world, browser, cli)
    return parameters(await confirmed(browser))["code"]


@pytest.mark.parametrize(
    "more",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": "é" * 43},
        {"redirect_uri": "http://127.0.0.1:49153/callback"},
    ],
    ids=str,
)
async def test_a_code_without_its_verifier_gives_nothing_and_is_spoilt(
    world: World, browser: httpx.AsyncClient, more: dict[str, str]
) -> None:
    cli = Cli(world)
    code = await code_for(world, browser, cli)
    answer = await cli.redeem(code, **more)
    assert answer.status_code == 400 and answer.json()["error"] == "invalid_grant"
    assert (await cli.redeem(code)).json()["error"] == "invalid_grant"


async def test_a_code_that_is_used_twice_revokes_what_it_gave(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    code = await code_for(world, browser, cli)
    token = (await cli.redeem(code)).json()["access_token"]
    assert (await world.get("/api/v1/self", token)).status_code == 200
    assert (await cli.redeem(code)).json()["error"] == "invalid_grant"
    assert (await world.get("/api/v1/self", token)).status_code == 401


async def test_a_code_lives_for_a_minute(world: World, browser: httpx.AsyncClient) -> None:
    cli = Cli(world)
    code = await code_for(world, browser, cli)
    world.clock.ahead = 61
    assert (await cli.redeem(code)).json()["error"] == "invalid_grant"


async def test_codes_of_one_kind_are_no_good_as_the_other(
    world: World, browser: httpx.AsyncClient
) -> None:
    cli = Cli(world)
    code = await code_for(world, browser, cli)
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code}
    assert (await browser.post("/login/token", data=form)).json()["error"] == "expired_token"
    start = await device(world)
    assert (await cli.redeem(start["device_code"])).json()["error"] == "invalid_grant"
    for wrong in ({}, {"grant_type": "password"}, {"grant_type": "authorization_code"}):
        answer = await browser.post("/login/token", data={**wrong, "x": "y"})
        assert answer.status_code == 400


async def test_a_login_of_before_is_over_after_ten_minutes(
    world: World, browser: httpx.AsyncClient
) -> None:
    back = await at_provider(await to_provider(browser, Cli(world)))
    world.clock.ahead = 601
    await refused_callback(browser, back, "begin again")


# --- SAML in the browser -------------------------------------------------------------------------


async def test_a_posted_answer_shows_nothing_to_the_browser_that_did_not_begin(
    world: World, browser: httpx.AsyncClient
) -> None:
    """Login CSRF by SAML: whoever posts what another began sees nothing of it."""
    form = saml_answer(world, await saml_request(world, browser, Cli(world)))
    async with world.browser() as victim:
        assert (await victim.post("/login/saml/corp-saml/acs", data=form)).status_code == 303
        assert (await victim.get("/login/confirm")).status_code == 400


async def test_who_began_a_login_that_another_was_led_to_finish_does_not_become_them(
    world: World, browser: httpx.AsyncClient
) -> None:
    """The provider's address is sent to a victim, whose provider logs them in without a word."""
    cli = Cli(world)
    form = saml_answer(world, await saml_request(world, browser, cli))
    async with world.browser() as victim:
        assert (await post_saml(victim, form)).status_code == 303
    page = await browser.get("/login/confirm")
    assert page.status_code == 400 and "alice" not in page.text
    ticket = browser.cookies["trailgate-login"]
    said = {"csrf": csrf_of(ticket), "answer": "yes"}
    answer = await browser.post("/login/confirm", data=said)
    assert answer.status_code == 400
    for wrong in ("", "x" * 43, token_sha256("")):
        browser.cookies.set("trailgate-posted", wrong)
        assert (await browser.get("/login/confirm")).status_code == 400


async def test_refused_saml_answers_tell_the_browser_little_and_the_log_why(
    world: World, browser: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    request = await saml_request(world, browser, Cli(world))
    answer = await post_saml(browser, saml_answer(world, request, audience="urn:other"))
    assert answer.status_code == 303 and "audience" not in answer.headers["location"]
    assert parameters(answer)["error"] == "access_denied"
    causes = [getattr(record, "cause", "") for record in caplog.records]
    assert any("audience" in cause for cause in causes)
    answer = await post_saml(browser, {"SAMLResponse": "!!!"})
    assert answer.status_code == 400


@pytest.mark.parametrize("subject", ["transient"])
async def test_a_name_that_changes_at_each_login_is_no_subject(
    world: World, browser: httpx.AsyncClient, subject: str
) -> None:
    request = await saml_request(world, browser, Cli(world))
    form = f"urn:oasis:names:tc:SAML:2.0:nameid-format:{subject}"
    answer = await post_saml(browser, saml_answer(world, request, name_format=form))
    assert "another name at each login" in parameters(answer)["error_description"]


# --- too many ------------------------------------------------------------------------------------


async def test_a_flood_of_answers_is_not_read(world: World) -> None:
    async with world.browser() as client:
        path = "/login/saml/corp-saml/acs"
        said = [(await client.post(path, data={"a": "b"})).status_code for _ in range(305)]
    assert said[:300] == [400] * 300 and said[-1] == 429


def test_right_codes_cost_no_tries() -> None:
    limits = LoginLimits(now=lambda: 0.0)
    for _ in range(50):
        assert limits.wrong_codes.allows("a") and limits.all_wrong_codes.allows("")
        limits.code_was_right("a")
    assert [limits.wrong_codes.allows("a") for _ in range(11)] == [True] * 10 + [False]


async def test_logins_that_are_begun_and_left_are_capped(
    world: World, browser: httpx.AsyncClient
) -> None:
    said = [
        (await browser.post("/login/device_authorization", data={"a": "b"})).status_code
        for _ in range(65)
    ]
    assert said[:60] == [200] * 60 and said[-1] == 429
    assert CAP_OF_CLIENT == 200


def test_allowances_refill_and_take_bounded_memory() -> None:
    now = 0.0
    throttle = Throttle(per_minute=60, burst=2, now=lambda: now)
    assert [throttle.allows("a") for _ in range(3)] == [True, True, False]
    assert throttle.allows("b") and throttle.has("b")
    now = 1.0
    assert throttle.has("a") and throttle.allows("a") and not throttle.has("a")
    for number in range(ADDRESSES + 50):
        throttle.allows(str(number))
    assert len(throttle._left) == ADDRESSES


def test_who_shares_an_allowance() -> None:
    assert network_of("192.0.2.7") == network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64" and network_of("?") == "unknown"


async def test_an_exchanged_token_is_never_interactive_by_itself(
    world: World, browser: httpx.AsyncClient
) -> None:
    """What says that a person was there is the gateway's word, and no claim of a token."""
    token = world.provider.signer.sign(
        "00u1", audience="trailgate", claims={"interactive": True, "method": "oidc"}
    )
    grant = await world.grants.login_root(await world.issuers.verify(token))
    assert "interactive" not in grant.login and "method" not in grant.login
    given = await logged_in(world, browser, Cli(world))
    assert (await world.grants.by_handle(given["access_token"])).login["interactive"] is True
