# SPDX-License-Identifier: GPL-3.0-or-later
"""SAML 2.0 as a service provider: what comes from a provider is taken only where it is signed."""
