# SPDX-License-Identifier: GPL-3.0-or-later
"""A browser without a screen: follows redirects, keeps cookies, fills forms and sends them.

As a program it is what a desktop opens addresses with: `python scripted_browser.py URL`, with the
fields to fill as JSON in SCRIPTED_BROWSER and CAs in SSL_CERT_FILE.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

STEPS = 20


class Forms(HTMLParser):
    """The forms of a page: where each leads, its fields with their values, its buttons."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, object]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            form = {"action": given.get("action", ""), "method": given.get("method", "get")}
            self.found.append({**form, "fields": {}, "buttons": []})
        elif self.found and tag in ("input", "button") and given.get("name"):
            self._field(tag, given)

    def _field(self, tag: str, given: dict[str, str]) -> None:
        form, kind = self.found[-1], given.get("type", "submit" if tag == "button" else "text")
        if kind == "submit":
            form["buttons"].append((given["name"], given.get("value", "")))  # type: ignore[attr-defined]
        elif kind not in ("radio", "checkbox") or "checked" in given:
            form["fields"][given["name"]] = given.get("value", "")  # type: ignore[index]


class Browser:
    """One person's browser. `fields`: what is typed or pressed, by the field's name."""

    def __init__(self, fields: Mapping[str, str], ca_path: str | None = None) -> None:
        self.fields = dict(fields)
        verify = ssl.create_default_context(cafile=ca_path) if ca_path else True
        self.client = httpx.Client(verify=verify, follow_redirects=True, trust_env=False)
        self.visited: list[str] = []

    def go(self, url: str) -> httpx.Response:
        """Open an address and send every form that is understood; the last page."""
        page = self.client.get(url)
        for _ in range(STEPS):
            self.visited += [*(str(one.url) for one in page.history), str(page.url)]
            forms = Forms(page.text).found
            known = [form for form in forms if self._fits(form)]
            if not known or page.status_code >= 400:
                return page
            page = self._send(str(page.url), known[0])
        raise AssertionError(f"no end after {STEPS} pages: {self.visited[-3:]}")

    def posted_to(self, url: str, target: str) -> dict[str, str]:
        """Open an address and go on until a form leads to `target`; what it would send there."""
        page = self.client.get(url)
        for _ in range(STEPS):
            (form, *_rest) = [one for one in Forms(page.text).found if self._fits(one)]
            if form["action"] == target:
                return dict(form["fields"])  # type: ignore[call-overload, no-any-return]
            page = self._send(str(page.url), form)
        raise AssertionError(f"nothing leads to {target}: {page.url}")

    def _fits(self, form: dict[str, object]) -> bool:
        """A form that we can fill or press, a provider's own question whether to go on (`prompt`),
        or one that sends itself by script (SAML's POST binding)."""
        names = {*form["fields"], *(name for name, _ in form["buttons"])}  # type: ignore[misc, attr-defined]
        return bool(names & set(self.fields)) or bool(names & {"SAMLResponse", "prompt"})

    def _send(self, at: str, form: dict[str, object]) -> httpx.Response:
        sent: dict[str, str] = dict(form["fields"])  # type: ignore[call-overload]
        sent.update({name: value for name, value in self.fields.items() if name in sent})
        for name, value in form["buttons"]:  # type: ignore[attr-defined]
            if self.fields.get(name) == value:
                sent[name] = value
        target = urljoin(at, str(form["action"]) or at)
        if str(form["method"]).lower() == "post":
            return self.client.post(target, data=sent)
        return self.client.get(target, params=sent)


def main() -> None:
    fields = json.loads(os.environ["SCRIPTED_BROWSER"])
    page = Browser(fields, os.environ.get("SSL_CERT_FILE")).go(sys.argv[1])
    sys.exit(0 if page.status_code < 400 else page.text)


if __name__ == "__main__":
    main()
