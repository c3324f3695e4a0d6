# SPDX-License-Identifier: GPL-3.0-or-later
"""Where sockets live: listeners, TLS, the one relay, and the links to targets."""
