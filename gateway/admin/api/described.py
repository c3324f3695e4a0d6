# SPDX-License-Identifier: GPL-3.0-or-later
"""What each call takes and answers, as JSON Schema; openapi.py makes one document of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.admin.api.objects import LARGEST_PAGE, PAGE
from gateway.config.schema import NAME, Schema
from gateway.declare.orders import ALL_KINDS

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
PROBLEM = "application/problem+json"
HTML, TEXT = "text/html", "text/plain"
STRING: Schema = {"type": "string"}
MAYBE: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {"type": "object"}


def of(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object of these members and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def some(**members: Schema) -> Schema:
    """An object with these members, and others that may be added."""
    return {"type": "object", "properties": members, "required": list(members)}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Problem": {
        **some(type=STRING, title=STRING, status=WHOLE, detail=STRING),
        "description": "RFC 9457; `errors` name each mistake and where it is",
    },
    "OAuthError": some(error=STRING, error_description=STRING),
    "Token": some(access_token=STRING, token_type=STRING, expires_in=WHOLE),
    "Object": of(
        {
            "kind": {"enum": list(ALL_KINDS)},
            "name": STRING,
            "version": {**WHOLE, "description": "0: it stands in a file"},
            "etag": STRING,
            "managed_by": STRING,
            "changed_by": MAYBE,
            "changed_at": {**MAYBE, "format": "date-time"},
            "document": ANY,
        }
    ),
    "Change": of(
        {
            "action": {"enum": ["create", "update", "delete", "none"]},
            "changed": FLAG,
            "kind": {"enum": list(ALL_KINDS)},
            "name": STRING,
            "before": {"type": ["object", "null"]},
            "after": {"type": ["object", "null"]},
            "secret": FLAG,
            "object": {"anyOf": [ref("Object"), {"type": "null"}]},
        }
    ),
    "Grant": some(grant=STRING, chain=listed(STRING), state=STRING, children={"type": "array"}),
    "Session": some(id=STRING, target=STRING, grant=STRING, state=STRING),
    "Rotation": some(id=STRING, version=WHOLE, step=STRING, outcome=MAYBE, detail=MAYBE),
    "SecretVersion": some(version=WHOLE, state=STRING, made_by=STRING),
}
AGE: Schema = {"type": ["number", "null"], "minimum": 0, "description": "seconds"}
MANAGED_BY: Schema = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,62})?$",
}
NAMED = {"name": {"type": "string", "pattern": NAME}}
WRITING = {"managed_by": MANAGED_BY, "adopt": FLAG, "dry_run": FLAG}
LISTING: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
    "after": STRING,
}
MATCH = {"if-match": STRING}
CONDITIONS: dict[str, Schema] = {**MATCH, "if-none-match": {"const": "*"}}
SET = of(
    {"objects": listed({"type": "object", "description": "a document, with its kind and name"})},
    {"set": MAYBE, "managed_by": MAYBE, "adopt": FLAG, "prune": FLAG},
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its good answers by status, each (media type, schema), and what it takes."""

    good: dict[int, tuple[str, Schema | None]]
    body: tuple[str, Schema] | None = None
    query: dict[str, Schema] = field(default_factory=dict)
    path: dict[str, Schema] = field(default_factory=dict)
    headers: dict[str, Schema] = field(default_factory=dict)
    open: bool = False
    """No token is asked for."""
    body_optional: bool = False


def answers(schema: Schema, status: int = 200) -> dict[int, tuple[str, Schema | None]]:
    return {status: (JSON, schema)}


def form(*required: str, **optional: Schema) -> tuple[str, Schema]:
    members = {name: STRING for name in required}
    return FORM, {**of(members, optional), "additionalProperties": STRING}


PAGES: dict[int, tuple[str, Schema | None]] = {200: (HTML, STRING), 303: ("", None)}
LEFT: dict[int, tuple[str, Schema | None]] = {303: ("", None)}
SELF = some(grant=MAYBE, chain=listed(STRING), targets=listed(ANY), url=STRING)
MINTED = some(token=STRING, grant=STRING, expires=STRING, chain=listed(STRING))
LEASE = some(grant=STRING, lease_until=STRING, lease_seconds={"type": "number"})
ERASED: dict[int, tuple[str, Schema | None]] = {200: (JSON, ANY), 202: (JSON, ANY)}
SECRET = of({"secret": STRING}, {"account": STRING})

CALLS: dict[str, Call] = {
    "POST /oauth/token": Call(answers(ref("Token")), form("grant_type"), open=True),
    "POST /oauth/revoke": Call({200: ("", None)}, form("token"), open=True),
    "POST /oauth/introspect": Call(answers(some(active=FLAG)), form("token")),
    "GET /.well-known/oauth-authorization-server": Call(answers(some(issuer=STRING)), open=True),
    "GET /.well-known/jwks.json": Call(
        {200: ("application/jwk-set+json", some(keys=listed(ANY)))}, open=True
    ),
    "GET /login/issuers": Call(answers(some(issuers=listed(STRING))), open=True),
    "GET /login/authorize": Call(PAGES, open=True),
    "POST /login/device_authorization": Call(
        answers(some(device_code=STRING, user_code=STRING)), form(), open=True, body_optional=True
    ),
    "POST /login/token": Call(answers(ref("Token")), form("grant_type"), open=True),
    "GET /login/device": Call(PAGES, open=True),
    "POST /login/device": Call(PAGES, form("user_code", "issuer"), open=True),
    "GET /login/confirm": Call(PAGES, open=True),
    "POST /login/confirm": Call(PAGES, form("answer", "csrf"), open=True),
    "GET /login/oidc/{issuer}/callback": Call(LEFT, open=True),
    "POST /login/saml/{issuer}/acs": Call(LEFT, form("SAMLResponse"), open=True),
    "GET /login/saml/{issuer}/metadata": Call(
        {200: ("application/samlmetadata+xml", STRING)}, open=True
    ),
    "GET /login/style.css": Call({200: ("text/css", STRING)}, open=True),
    "GET /api/v1/self": Call(answers(SELF)),
    "POST /api/v1/token": Call(
        answers(MINTED),
        (
            JSON,
            of(
                {"subject": {"type": "string", "minLength": 1, "maxLength": 256}},
                {
                    "name": {"type": "string", "maxLength": 256},
                    "groups": listed(STRING),
                    "kind": {"enum": ["person", "workload"]},
                    "expires_in": {"type": "number", "exclusiveMinimum": 0},
                },
            ),
        ),
    ),
    "GET /api/v1/grants": Call(answers(listed(ref("Grant")))),
    "DELETE /api/v1/grants/{id}": Call(
        answers(some(revoked=listed(STRING))), query={"as": {"enum": ["revoked", "ended"]}}
    ),
    "POST /api/v1/grants/{id}/lease": Call(
        answers(LEASE),
        (JSON, of({}, {"seconds": {"type": "number", "exclusiveMinimum": 0}})),
        body_optional=True,
    ),
    "GET /api/v1/sessions": Call(answers(listed(ref("Session"))), query={"own": FLAG}),
    "DELETE /api/v1/sessions/{id}": Call(answers(some(killed=STRING))),
    "DELETE /api/v1/keys/{session}": Call(ERASED),
    "GET /api/v1/{kinds}": Call(answers(listed(ref("Object"))), query=LISTING),
    "GET /api/v1/{kinds}/{name}": Call(answers(ref("Object")), path=NAMED),
    "PUT /api/v1/{kinds}/{name}": Call(
        {200: (JSON, ref("Change")), 201: (JSON, ref("Change"))},
        (JSON, ANY),
        WRITING,
        NAMED,
        CONDITIONS,
    ),
    "DELETE /api/v1/{kinds}/{name}": Call(
        answers(ref("Change")), query=WRITING, path=NAMED, headers=MATCH
    ),
    "POST /api/v1/apply": Call(
        answers(
            of(
                {
                    "dry_run": FLAG,
                    "managed_by": STRING,
                    "revision": WHOLE,
                    "changes": listed(ref("Change")),
                }
            )
        ),
        (JSON, SET),
        {"dry_run": FLAG},
    ),
    "GET /api/v1/openapi.json": Call(answers(some(openapi=STRING)), open=True),
    "GET /api/v1/vault/credentials": Call(answers(listed(ANY))),
    "GET /api/v1/credentials/{name}/versions": Call(
        answers(listed(ref("SecretVersion"))), path=NAMED
    ),
    "PUT /api/v1/credentials/{name}/secret": Call(
        answers(some(name=STRING, version=WHOLE)), (JSON, SECRET), path=NAMED
    ),
    "DELETE /api/v1/credentials/{name}/secret": Call(answers(some(name=STRING)), path=NAMED),
    "POST /api/v1/credentials/{name}/rotate": Call(
        answers(of({"changed": FLAG, "rotation": {"anyOf": [ref("Rotation"), {"type": "null"}]}})),
        (JSON, of({}, {"max_age": AGE, "force": FLAG})),
        path=NAMED,
        body_optional=True,
    ),
    "GET /api/v1/credentials/{name}/rotations": Call(answers(listed(ref("Rotation"))), path=NAMED),
    "POST /api/v1/vault/rewrap": Call(
        answers(ANY), (JSON, of({}, {"all": FLAG, "after": STRING})), body_optional=True
    ),
    "GET /healthz": Call({200: (TEXT, STRING)}, open=True),
    "GET /readyz": Call({200: (JSON, ANY), 503: (JSON, ANY)}, open=True),
    "GET /metrics": Call({200: (TEXT, STRING)}, open=True),
}


def error_answers(path: str) -> dict[str, Any]:
    """What any other status is told as."""
    content = {PROBLEM: {"schema": ref("Problem")}}
    if path.startswith(("/oauth/", "/login/")):
        content[JSON] = {"schema": ref("OAuthError")}
        content[HTML] = {"schema": STRING}
    return {"description": "not done", "content": content}
