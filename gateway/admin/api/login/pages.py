# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of a login: short, plain, all text escaped, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

STYLE_PATH = "/login/style.css"
STYLE = """\
:root { color-scheme: light dark; font: 1.05rem/1.5 system-ui, sans-serif; }
body { max-width: 34rem; margin: 10vh auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
strong, code { overflow-wrap: anywhere; }
code { font-size: 1.2em; letter-spacing: .08em; }
dt { font-size: .85em; opacity: .75; } dd { margin: 0 0 .6rem; }
button, .button { font: inherit; padding: .45rem 1.1rem; margin-right: .6rem; }
input[type=text] { font: inherit; padding: .4rem; width: 12rem; text-transform: uppercase; }
.warning { border-left: .3rem solid #c60; padding-left: .8rem; }
"""
TICKET = "trailgate-login"
POSTED = "trailgate-posted"
TICKET_SECONDS = 900


def page(
    title: str, body: str, status: int = 200, *, forms: Sequence[str] = ("'self'",)
) -> Response:
    """A page. `body` is HTML whose parts were escaped; `forms`: where forms may lead, also by
    redirect."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)} - Trailgate</title>"
        f'<link rel="stylesheet" href="{STYLE_PATH}"></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return HTMLResponse(text, status, security_headers(forms))


def security_headers(forms: Sequence[str] = ("'none'",)) -> dict[str, str]:
    policy = (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none';"
        f" form-action {' '.join(forms)}"
    )
    return {
        "content-security-policy": policy,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
    }


def refusal_page(reason: str, status: int = 400) -> Response:
    """`reason` is a text that is safe for whoever sees it."""
    again = "Close this page and begin again: <code>trailgate login</code>."
    return page("Not logged in", f"<p>{escape(reason)}.</p><p>{again}</p>", status)


def sent_away(url: str, status: int = 303) -> Response:
    return RedirectResponse(url, status, security_headers())


def choice_page(names: Sequence[str], query: Mapping[str, str], path: str) -> Response:
    """Where to log in, if there are several places."""
    kept = "".join(_hidden(name, value) for name, value in query.items())
    buttons = "".join(
        f'<p><button name="issuer" value="{escape(name)}">{escape(name)}</button></p>'
        for name in names
    )
    form = f'<form method="get" action="{escape(path)}">{kept}{buttons}</form>'
    # The redirect that follows leads to the provider, whose address is not known yet.
    return page("Where do you log in?", form, forms=("'self'", "https:", "http://127.0.0.1:*"))


def code_page(names: Sequence[str], said: str = "", status: int = 200) -> Response:
    """Where a person types the code that a terminal shows."""
    told = f'<p class="warning">{escape(said)}.</p>' if said else ""
    if len(names) > 1:
        choices = "".join(
            f'<label><input type="radio" name="issuer" value="{escape(name)}"'
            f"{' checked' if name == names[0] else ''}> {escape(name)}</label><br>"
            for name in names
        )
    else:
        choices = "".join(_hidden("issuer", name) for name in names)
    form = (
        f"{told}<p>Type the code that your own terminal shows.</p>"
        '<p class="warning">Go on only if you typed <code>trailgate login</code> yourself, just'
        " now. If somebody sent you here or gave you a code, close this page: they would act as"
        " you.</p>"
        '<form method="post" action="/login/device"><p><label>Code '
        '<input type="text" name="user_code" maxlength="16" autocomplete="off" autofocus'
        f' spellcheck="false"></label></p><p>{choices}</p>'
        "<button>Go on</button></form>"
    )
    forms = ("'self'", "https:", "http://127.0.0.1:*")
    return page("Log in a terminal", form, status, forms=forms)


def confirm_page(facts: Mapping[str, str], csrf: str, *, device: bool, redirect: str) -> Response:
    """Who logged in, and what asks for it: the person's word decides."""
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    warning = (
        "A terminal elsewhere will act as you. Say yes only if it is yours, and you started this"
        " just now. No support desk and no colleague needs your yes."
        if device
        else "The command <code>trailgate login</code> on this computer will act as you. If you"
        " did not start it, say no."
    )
    form = (
        f'<dl>{listed}</dl><p class="warning">{warning}</p>'
        '<form method="post" action="/login/confirm">'
        f"{_hidden('csrf', csrf)}"
        '<button name="answer" value="yes">Yes, log it in</button>'
        '<button name="answer" value="no">No</button></form>'
    )
    # A form's target holds for the redirect after it, too.
    origin = urlsplit(redirect)
    forms = ("'self'", f"{origin.scheme}://{origin.netloc}") if redirect else ("'self'",)
    return page("Is this you?", form, forms=forms)


def done_page(yes: bool) -> Response:
    if yes:
        return page("Logged in", "<p>The terminal goes on by itself. You can close this page.</p>")
    return page("Refused", "<p>Nobody was logged in. You can close this page.</p>")


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


# --- the cookies that bind a browser to its login -------------------------------------------------


def _is_secure(base: str) -> bool:
    return base.startswith("https://")


def _cookie_name(base: str, name: str) -> str:
    # The prefix keeps a neighbouring host from setting it (RFC 6265bis 4.1.3.2).
    return f"__Host-{name}" if _is_secure(base) else name


def with_ticket(response: Response, ticket: str, base: str) -> Response:
    """Lax: it must come along when the provider sends the browser back."""
    return _with_cookie(response, TICKET, ticket, base)


def with_posted(response: Response, secret: str, base: str) -> Response:
    """For the browser that brought a provider's posted answer."""
    return _with_cookie(response, POSTED, secret, base)


def _with_cookie(response: Response, name: str, value: str, base: str) -> Response:
    response.set_cookie(
        _cookie_name(base, name),
        value,
        max_age=TICKET_SECONDS,
        path="/",
        secure=_is_secure(base),
        httponly=True,
        samesite="lax",
    )
    return response


def without_ticket(response: Response, base: str) -> Response:
    for name in (TICKET, POSTED):
        response.delete_cookie(
            _cookie_name(base, name),
            path="/",
            secure=_is_secure(base),
            httponly=True,
            samesite="lax",
        )
    return response


def ticket_of(request: Request, base: str) -> str:
    return request.cookies.get(_cookie_name(base, TICKET), "")[:256]


def posted_of(request: Request, base: str) -> str:
    return request.cookies.get(_cookie_name(base, POSTED), "")[:256]
