# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor's desk: `trailgate audit open`, pages on loopback over a record and its verdict.

They are served where the recipient's key is, to the browser of the one who started them. There is
no script on them, and nothing is fetched from anywhere else.
"""
