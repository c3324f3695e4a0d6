# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting, object, metric, route and verdict is documented with its default, and no other."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from gateway.admin.api.app import build_api
from gateway.certificates import self_made
from gateway.config import (
    BacklogSettings,
    EvidenceSettings,
    LimitSettings,
    LockSettings,
    MasterKeySettings,
    Objects,
    Settings,
    TlsFiles,
    WitnessSettings,
    load_objects,
    load_settings,
)
from gateway.config.keeping import HeldSessions
from gateway.config.objects import KINDS, ClaimsObject, IdentityObject, TlsObject, plural
from gateway.config.reading import key_of
from gateway.config.rotating import RotationObject, Span
from gateway.model import Target
from gateway.protocols import discover
from gateway.proxy.metrics import Metrics
from gateway.record.recipients import Recipient, make_recipient
from gateway.record.recorder import NodeRecorder, RecorderOptions
from gateway.ship.folder import FolderPublisher
from gateway.ship.spool import Spool
from gateway.verify.findings import Findings
from gateway.wiring.evidence import Evidence, RecordMetrics, Witnessed
from gateway.wiring.rotating import RotationMetrics
from tests import pages
from tests.identity.saml_signing import idp_metadata
from tests.pages import (
    API,
    AUDITORS,
    MONITORING,
    OBJECTS,
    OPERATING,
    OURS,
    Table,
    blocks,
    table,
    tables,
    words,
)

SETTINGS = {
    "Settings": Settings,
    "tls": TlsFiles,
    "evidence": EvidenceSettings,
    "lock": LockSettings,
    "backlog": BacklogSettings,
    "witness": WitnessSettings,
    "master_key": MasterKeySettings,
    "limits": LimitSettings,
}
OPTIONS = {name: one.options for name, one in discover().items()}


def default_of(item: dataclasses.Field[Any]) -> str | None:
    """A default as the tables write it; None where it is nothing that can be compared."""
    if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
        return "required"
    value = item.default
    told = re.search(r"default: (\S+)", item.metadata.get("doc", ""))
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Span):
        return f"`{value:g}s`"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, str) and value:
        return f"`{value}`"
    if value is None and told and "/" in told[1]:
        return f"`{told[1]}`"
    if isinstance(value, tuple) and value:
        return f'`"{value[0]}"`' if len(value) == 1 else f"`[{', '.join(value)}]`"
    return None


def check_fields(found: Table, kind: type) -> None:
    """The table has each key of the dataclass, once, with its default."""
    items = {key_of(item): item for item in dataclasses.fields(kind) if item.init}
    rows = {words(row[0])[0]: row for row in found.rows}
    assert list(rows) == list(items) and len(rows) == len(found.rows), found.heading
    for key, item in items.items():
        wanted = default_of(item)
        given = rows[key][2]
        if wanted is not None:
            assert given == wanted, f"{found.heading}: {key}"
        else:
            assert given != "required", f"{found.heading}: {key}"


@pytest.mark.parametrize("heading", SETTINGS)
def test_every_setting_stands_there_with_its_default(heading: str) -> None:
    check_fields(table(pages.SETTINGS, heading), SETTINGS[heading])


def test_the_settings_have_the_rest_of_the_defaults(tmp_path: Path) -> None:
    settings, _ = load_settings(tmp_path / "trailgate.yaml", "data: d")
    assert settings.store_place == settings.data / "state.sqlite"
    assert settings.listeners == {} and settings.objects == settings.policies == ()
    assert re.fullmatch(r"[a-z0-9-]+", settings.node)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_an_object_stands_there_with_its_default(kind: str) -> None:
    found = [one for one in tables(OBJECTS) if one.heading.startswith(f"`{kind}`:")]
    check_fields(found[0], KINDS[kind])
    if kind == "target":
        check_fields(found[1], OPTIONS["postgresql"])
        check_fields(found[2], TlsObject)
        assert set(OPTIONS) == {"postgresql"} == set(words(found[0].rows[1][1]))
    if kind == "issuer":
        check_fields(found[1], ClaimsObject)
    if kind == "legal_hold":
        check_fields(found[1], HeldSessions)
    if kind == "credential":
        check_fields(found[1], RotationObject)
    if kind == "person":
        named = [key_of(item) for item in dataclasses.fields(IdentityObject)]
        assert re.findall(r"(\w+):", found[0].rows[1][1]) == named


def test_no_other_kind_of_object_is_described() -> None:
    headings = [one.heading for one in tables(OBJECTS) if one.heading.startswith("`")]
    described = {words(one)[0] for one in headings if ":" in one}
    assert described == set(KINDS)


def written_files(folder: Path) -> None:
    """What the examples name."""
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    (folder / "dsn").write_text("postgresql://trailgate:x@db1.example,db2.example/trailgate\n")
    (folder / "dsn").chmod(0o600)
    made = self_made(folder)
    for name in ("db-ca.pem", "tls.crt"):
        shutil.copy(made.cert_path, folder / name)
    shutil.copy(made.key_path, folder / "tls.key")
    make_recipient(folder / "auditor")
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "deployer.pub").write_bytes(pem)
    public = json.loads(ECAlgorithm.to_jwk(key))
    (folder / "cluster-jwks.json").write_text(json.dumps({"keys": [public]}))
    (folder / "idp-metadata.xml").write_text(idp_metadata("https://idp.example.com/saml"))
    shutil.copy(made.cert_path, folder / "idp.pem")


def is_settings(text: str) -> bool:
    return text.startswith("data:")


def yaml_blocks(page: Path, *, settings: bool) -> list[str]:
    return [one.text for one in blocks(page, "yaml") if is_settings(one.text) == settings]


def keys_of(node: Any) -> set[str]:
    """Every key of a YAML document, at any depth."""
    if isinstance(node, dict):
        return {*node, *(key for value in node.values() for key in keys_of(value))}
    return {key for value in node for key in keys_of(value)} if isinstance(node, list) else set()


def test_every_key_stands_in_an_example() -> None:
    shown = {
        key
        for page in (*OPERATING, OBJECTS)
        for block in blocks(page, "yaml")
        for document in yaml.safe_load_all(block.text)
        for key in keys_of(document)
    }
    kinds = [*SETTINGS.values(), *KINDS.values(), *OPTIONS.values(), TlsObject, ClaimsObject]
    kinds.append(RotationObject)
    known = {key_of(item) for kind in kinds for item in dataclasses.fields(kind) if item.init}
    assert known - shown == set()


def test_the_examples_of_settings_load(tmp_path: Path) -> None:
    written_files(tmp_path)
    texts = [text for page in OURS for text in yaml_blocks(page, settings=True)]
    assert texts
    for text in texts:
        settings, warnings = load_settings(tmp_path / "trailgate.yaml", text)
        assert warnings == ()


def test_the_examples_of_objects_load(tmp_path: Path) -> None:
    written_files(tmp_path)
    texts = [text for page in OURS for text in yaml_blocks(page, settings=False)]
    assert texts
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        objects, warnings = load_objects([path])
        assert warnings == ()
        assert all(getattr(objects, plural(kind)) for kind in KINDS), objects
        assert isinstance(objects, Objects) and isinstance(objects.target("orders"), Target)


def test_what_the_api_offers_is_listed() -> None:
    class Nothing:
        """The routes are asked for, nothing is called."""

    health = {"/healthz", "/readyz", "/metrics"}
    offered = set()
    for route in build_api(Nothing(), admin=True).routes:  # type: ignore[arg-type]
        methods = set(route.methods or ()) - {"HEAD"}  # type: ignore[attr-defined]
        if route.path not in health:  # type: ignore[attr-defined]
            offered |= {f"{method} {route.path_format}" for method in methods}  # type: ignore[attr-defined]
    told = {words(row[0])[0] for row in table(API, "Calls", "call").rows}
    assert told == offered
    assert health <= set(re.findall(r"GET (/\w+)", MONITORING.read_text("utf-8")))


# --- metrics, verdicts ---------------------------------------------------------------------------


async def test_every_metric_is_listed_and_no_other(tmp_path: Path) -> None:
    public = Recipient.parse(public_key(tmp_path))
    evidence = Evidence(
        tmp_path / "evidence", Spool(FolderPublisher(tmp_path / "evidence")), tmp_path
    )
    recorder = await NodeRecorder.start(
        RecorderOptions(
            data=tmp_path,
            evidence=evidence.folder,
            node="gw1",
            version="0",
            recipients=(public,),
            publish=evidence.publish,
        )
    )
    metrics = Metrics()
    rotations = RotationMetrics(metrics.registry)
    metrics.registry.register(
        RecordMetrics(recorder.figures, evidence.figures, Witnessed().figures)
    )
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.registry.collect()
    }
    await recorder.stop()
    told = {}
    for row in table(MONITORING, "Health, metrics, logs", "metric").rows:
        name, _, labels = words(row[0])[0].partition("{")
        told[name] = tuple(part for part in labels.strip("}").split(",") if part)
    assert sorted(told) == sorted(families)
    assert told == declared_labels([metrics, rotations], told)
    for row in table(MONITORING, "Health, metrics, logs", "metric").rows:
        name = words(row[0])[0].partition("{")[0]
        assert (families[name] == "histogram") == row[1].startswith("histogram"), name


def public_key(folder: Path) -> str:
    make_recipient(folder / "auditor")
    return (folder / "auditor" / "recipient.pub").read_text().strip()


def declared_labels(parts: list[Any], names: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The labels of each metric: a client library's own, or those that a scrape shows."""
    metrics: Metrics = parts[0]
    metrics.totals.verdicts["allow"] += 1
    shown = {name: tuple[str, ...]() for name in names}
    for one in [value for part in parts for value in vars(part).values()]:
        if hasattr(one, "_labelnames"):
            name = one.describe()[0].name
            shown[name if name in names else f"{name}_total"] = tuple(one._labelnames)
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name in names and sample.labels:
                shown[sample.name] = tuple(sample.labels)
    return shown


def test_metrics_named_anywhere_are_listed() -> None:
    found = table(MONITORING, "Health, metrics, logs", "metric")
    listed = {words(row[0])[0].partition("{")[0] for row in found.rows}
    for page in OURS:
        named = set(re.findall(r"\btrailgate_[a-z_]+", page.read_text("utf-8")))
        assert named <= listed, page.name


def test_the_verdicts_document_is_described() -> None:
    rows = table(AUDITORS, "Verify", "in the document").rows
    assert [words(row[0])[0] for row in rows] == list(Findings().document())


def test_the_json_examples_are_json() -> None:
    examples = [one for page in OURS for one in blocks(page, "json")]
    assert examples
    for one in examples:
        assert json.loads(one.text), one.place
