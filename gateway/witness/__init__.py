# SPDX-License-Identifier: GPL-3.0-or-later
"""The small witness that an auditor runs: it cosigns what extends what it saw (C2SP tlog-witness).

It shares code with the verifier, which is an auditor's program too, and none with the gateway.
"""
