# SPDX-License-Identifier: GPL-3.0-or-later
"""From files to typed settings and objects; every mistake is reported at once, at its place."""

from gateway.config.declaring import load_objects, yaml_files
from gateway.config.keeping import LegalHoldObject, RetentionObject
from gateway.config.objects import (
    AgentObject,
    IssuerObject,
    Objects,
    PersonObject,
    RecipientObject,
)
from gateway.config.reading import ConfigError, Mistake, Place, Wrong
from gateway.config.settings import (
    BacklogSettings,
    EvidenceSettings,
    LimitSettings,
    LockSettings,
    MasterKeySettings,
    NodeName,
    Settings,
    TlsFiles,
    WitnessSettings,
    load_settings,
)
from gateway.config.values import (
    Address,
    MasterKeySource,
    ObjectName,
    PublicKey,
    Secret,
    Store,
)

__all__ = [
    "Address",
    "AgentObject",
    "BacklogSettings",
    "ConfigError",
    "EvidenceSettings",
    "IssuerObject",
    "LegalHoldObject",
    "LimitSettings",
    "LockSettings",
    "MasterKeySettings",
    "MasterKeySource",
    "Mistake",
    "NodeName",
    "ObjectName",
    "Objects",
    "PersonObject",
    "Place",
    "PublicKey",
    "RecipientObject",
    "RetentionObject",
    "Secret",
    "Settings",
    "Store",
    "TlsFiles",
    "WitnessSettings",
    "Wrong",
    "load_objects",
    "load_settings",
    "yaml_files",
]
