# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL by PostgreSQL's own parser: what a text does, and which objects it does it to."""
