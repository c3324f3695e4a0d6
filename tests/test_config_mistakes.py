# SPDX-License-Identifier: GPL-3.0-or-later
"""Each mistake in settings and objects is named with its file, its line and a cure."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from gateway.config import ConfigError, Objects, load_objects, load_settings
from gateway.config.reading import FILE_CAP
from gateway.record.recipients import make_recipient

ISSUER = "issuer: corp\nurl: https://id.example.com\naudience: trailgate\n"
TARGET = "target: orders\nprotocol: postgresql\naddress: db:5432\ncredentials: [app]\n"
CREDENTIAL = "credential: app\nuser: app\nlogin: trust\n"
AGENT = "agent: reader\nissuer: corp\nsubject: job-7\n"
PERSON = "person: alice\nidentities: [{issuer: corp, subject: 00u1}]\n"


def complaints(error: ConfigError) -> list[str]:
    """The mistakes; each must have a place and, behind a semicolon, what cures it."""
    found = [str(mistake) for mistake in error.mistakes]
    for line in found:
        assert re.match(r".+:[1-9]\d*:[1-9]\d*: .+; .+", line), line
    return found


def settings_complaints(folder: Path, content: str | bytes) -> list[str]:
    path = folder / "trailgate.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as raised:
        load_settings(path)
    return [line.removeprefix(f"{folder}/") for line in complaints(raised.value)]


def objects_of(folder: Path, *documents: str) -> Objects:
    path = folder / "objects.yaml"
    path.write_text("---\n".join(documents))
    return load_objects([path])[0]


def objects_complaints(folder: Path, *documents: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        objects_of(folder, *documents)
    return [line.removeprefix(f"{folder}/") for line in complaints(raised.value)]


WRONG_SETTINGS = [
    ("data: d\nlimits: {conections: 5}\n", "2:10: unknown key 'limits.conections'; did you mean"),
    ("data: d\nlimits: {connections: many}\n", "2:23: limits.connections: expected a whole number"),
    ("data: d\nlimits: {connections: 1.5}\n", "2:23: limits.connections: expected a whole number"),
    ("data: d\nlimits: {connections: -1}\n", "2:23: limits.connections: -1 is out of bounds"),
    ("data: d\nlimits: {dial_seconds: 0}\n", "2:24: limits.dial_seconds: 0.0 is out of bounds"),
    ("data: d\nlimits: {dial_seconds: 1e999}\n", "2:24: limits.dial_seconds: inf is out of bounds"),
    ("data: d\nlimits: {connections: 1%s}\n" % ("0" * 6000), "2:23: limits.connections: the num"),
    ('data: ""\n', "1:7: data: the path is empty; name a file"),
    ("data: d\nurl: http://x\n", "2:6: url: 'http://x' is not where clients reach the API; write"),
    ("data:\n", "1:6: data: expected a path, found nothing"),
    ("data: [d]\n", "1:7: data: expected a path, found a list"),
    ("data: d\nobjects: o.yaml\n", "2:10: objects: expected a list, found text; write [a, b]"),
    ("data: d\n? [a]\n: b\n", "2:3: a key must be text"),
    ("data: d\ndata: e\n", "2:1: the key 'data' stands twice; first at"),
    ("data: d\ntls: {cert_path: c, key_path: c, cert_path: c}\n", "2:34: tls: the key 'cert_path'"),
    ("data: d\ntls: {cert_path: c}\n", "1:1: tls: cert_path and key_path belong together"),
    ("data: d\nlimits:\n\tconnections: 5\n", "3:1: not valid YAML"),
    ("data: *d\n", "1:7: not valid YAML: found undefined alias 'd'; define the anchor"),
    ("data: d\nlimits: &l {<<: *l}\n", "2:13: unknown key 'limits.<<'"),
    ("data: d\nnode: !!python/object:os.system x\n", "2:7: node: expected text, found the tag"),
    ("", "1:1: settings are one YAML document"),
    ("data: d\n---\ndata: e\n", "3:1: settings are one YAML document"),
    ("- data\n", "1:1: settings: expected a mapping, found a list; write KEY: VALUE"),
    ("data: d\nnode: a\x00b\n", "2:8: a character that YAML does not allow; remove it"),
    ("data: " + "[" * 100_000, "1:1: not valid YAML: nested too deeply"),
    (b"data: d\nnode: \xff\n", "2:7: the file is not UTF-8; save it as UTF-8"),
]


@pytest.mark.parametrize(("content", "says"), WRONG_SETTINGS, ids=lambda value: str(value)[-40:])
def test_a_wrong_setting_has_its_place_and_cure(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    found = settings_complaints(tmp_path, content)
    assert any(line.startswith(f"trailgate.yaml:{says}") for line in found), found


def test_tabs_are_named_as_tabs(tmp_path: Path) -> None:
    (line,) = settings_complaints(tmp_path, "data: d\nlimits:\n\tconnections: 5\n")
    assert line.endswith("; indent with spaces, not tabs")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as raised:
            load_settings(path)
        (line,) = complaints(raised.value)
        assert line.startswith(f"{path}:1:1: cannot be read: ")


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (line,) = settings_complaints(tmp_path, b"#" * (FILE_CAP + 1))
    assert "the file is over 4 MiB; split it" in line


def test_aliases_are_read_and_a_bomb_of_them_does_nothing(tmp_path: Path) -> None:
    objects = objects_of(
        tmp_path, TARGET.replace("[app]", "&c [app]") + "databases: *c\n", CREDENTIAL
    )
    assert objects.targets["orders"].databases == ("app",)
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 30))
    bomb = TARGET + "labels:\n  l0: &l0 [x]\n" + levels
    started = time.process_time()
    found = objects_complaints(tmp_path, bomb, CREDENTIAL)
    assert len(found) == 30 and "expected text, found a list" in found[0]
    assert time.process_time() - started < 5


WRONG_OBJECTS = [
    ([TARGET.replace("orders", "or ders", 1), CREDENTIAL], "1:9: target or ders.target: 'or ders'"),
    ([TARGET + "target: x\n", CREDENTIAL], "5:1: object: the key 'target' stands twice"),
    ([TARGET + "tls: {mode: prefer}\n", CREDENTIAL], "5:13: target orders.tls.mode: 'prefer'"),
    ([TARGET + "tls: {ca_path: gone.pem}\n", CREDENTIAL], "5:6: target orders.tls: "),
    ([TARGET + "tls: {key_path: gone.pem}\n", CREDENTIAL], "5:6: target orders.tls: cert_path and"),
    ([TARGET + "direct: maybe\n", CREDENTIAL], "5:9: target orders.direct: expected true or false"),
    ([TARGET], "4:14: target orders: no credential 'app'; known are none"),
    (
        [TARGET, "target: web\n" + TARGET.partition("\n")[2], CREDENTIAL, CREDENTIAL],
        "15:1: credential app is declared twice; first at",
    ),
    ([ISSUER.replace("https://", "http://")], "2:6: issuer corp.url: tokens are not safe there"),
    ([ISSUER + "algorithms: [HS256]\n"], "4:13: issuer corp.algorithms: 'HS256' is not accepted"),
    ([ISSUER + "algorithms: []\n"], "4:13: issuer corp.algorithms is empty; name at least one"),
    ([ISSUER.replace("trailgate", '""')], "3:11: issuer corp.audience is empty"),
    ([ISSUER + "kind: ldap\n"], "4:7: issuer corp.kind: 'ldap' is not one of its words"),
    ([ISSUER + "kind: saml\n"], "1:1: issuer corp: how the provider signs is not said"),
    (
        [ISSUER.replace("https://id.example.com", "trailgate:local") + "kind: saml\n"],
        "2:6: issuer corp.url: trailgate: is for issuers of the gateway's own",
    ),
    (
        [ISSUER + "kind: saml\nmetadata_path: empty\n"],
        "5:16: issuer corp.metadata_path: ",
    ),
    (
        [ISSUER + "kind: saml\nsso_url: http://x.example\ncertificate_path: empty\n"],
        "5:10: issuer corp.sso_url: logins are not safe there",
    ),
    (
        [ISSUER + "kind: saml\nclient_id: x\nsso_url: https://x\ncertificate_path: empty\n"],
        "5:12: issuer corp.client_id is not for kind: saml",
    ),
    ([ISSUER + "metadata_path: empty\n"], "4:16: issuer corp.metadata_path is not for kind: oidc"),
    ([ISSUER + "client_secret: x\n"], "1:1: issuer corp: no client_id"),
    ([ISSUER + "client_id: x\nscopes: [email]\n"], "5:9: issuer corp.scopes: without openid"),
    ([ISSUER + "client_id: x\nsubjects: workload\n"], "4:12: issuer corp: only persons log in"),
    (
        [ISSUER + "client_id: x\nredirect: http://x.example/y\n"],
        "5:11: issuer corp.redirect: codes are not safe there",
    ),
    ([ISSUER + "session_seconds: 5\n"], "4:18: issuer corp.session_seconds is out of bounds"),
    ([ISSUER + "claims: {sub: x}\n"], "4:10: unknown key 'issuer corp.claims.sub'"),
    ([ISSUER + "ca_path: gone.pem\n"], "4:10: issuer corp.ca_path: "),
    ([ISSUER, ISSUER.replace("corp", "twin")], "6:6: issuer twin has the url of another issuer"),
    ([AGENT], "2:9: agent reader: no issuer 'corp'; known are none"),
    ([ISSUER, AGENT.replace("corp", "crop")], "6:9: agent reader: no issuer 'crop'; did you mean"),
    ([ISSUER, AGENT, AGENT.replace("reader", "twin")], "9:1: agent twin has the identity of"),
    ([ISSUER, PERSON, PERSON.replace("alice", "bob")], "8:1: person bob has the identity of"),
    ([ISSUER, PERSON, AGENT.replace("reader", "alice")], "8:1: agent alice has the name of"),
    ([ISSUER, "person: alice\nidentities: []\n"], "6:13: person alice.identities: the list is"),
    (["recipient: auditor\nkey: nonsense\n"], "2:6: recipient auditor.key: no recipient; write"),
    (['recipient: auditor\nkey: {from: "file:gone"}\n'], "2:13: recipient auditor.key: "),
    (['credential: app\nuser: app\nsecret: {from: "file:empty"}\n'], "3:16: credential app.secr"),
    (["5: x\n"], "1:1: '5' is no kind of object; known are access"),
    (["- target\n"], "1:1: object: expected a mapping, found a list"),
]


@pytest.mark.parametrize(("documents", "says"), WRONG_OBJECTS, ids=lambda value: str(value)[-40:])
def test_a_wrong_object_has_its_place_and_cure(
    tmp_path: Path, documents: list[str], says: str
) -> None:
    (tmp_path / "empty").touch(mode=0o600)
    found = objects_complaints(tmp_path, *documents)
    assert any(line.startswith(f"objects.yaml:{says}") for line in found), found


def test_agents_and_persons_are_read(tmp_path: Path) -> None:
    twice = PERSON.replace("}]", "}, {issuer: corp, subject: 00u1}]")
    objects = objects_of(tmp_path, ISSUER, AGENT, twice)
    assert (objects.agents["reader"].issuer, objects.agents["reader"].subject) == ("corp", "job-7")
    assert {one.subject for one in objects.persons["alice"].identities} == {"00u1"}


def test_a_public_key_may_be_seen_by_everybody(tmp_path: Path) -> None:
    make_recipient(tmp_path / "auditor")
    public = tmp_path / "auditor" / "recipient.pub"
    public.chmod(0o644)
    text = public.read_text().strip()
    path = tmp_path / "objects.yaml"
    path.write_text(
        'recipient: one\nkey: {from: "file:auditor/recipient.pub"}\n'
        f'---\nrecipient: two\nkey: "{text}"\n'
    )
    objects, warnings = load_objects([path])
    assert warnings == ()
    assert objects.recipients["one"].key.value == objects.recipients["two"].key.value == text
