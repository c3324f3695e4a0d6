# SPDX-License-Identifier: GPL-3.0-or-later
"""People log in: from a command or a browser, by the provider, to a token of the gateway's own."""
