# SPDX-License-Identifier: GPL-3.0-or-later
"""What app.py joins: the parts made as the settings have them, and what works across several."""
