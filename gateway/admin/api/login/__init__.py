# SPDX-License-Identifier: GPL-3.0-or-later
"""People log in: pages for browsers, and the calls of `trailgate login`."""

from __future__ import annotations

from gateway.admin.api.login import browser, device, returning, tokens

ROUTES = [*browser.ROUTES, *returning.ROUTES, *device.ROUTES, *tokens.ROUTES]
