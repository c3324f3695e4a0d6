# SPDX-License-Identifier: GPL-3.0-or-later
"""A child is never allowed what any ancestor is denied: over random policies, grants and texts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.identity.grants import Grants
from gateway.model import Grant, Hop, Identity, StoredGrant, Target, Verdict
from gateway.policy.decide import Where, judge
from gateway.policy.documents import PolicySet, parse
from gateway.policy.languages.sql.parse import analyse
from gateway.policy.matching import scope_of
from tests.examples import examples

TEXTS = (
    "select id from app.orders",
    "select * from app.customers c join app.orders o on o.customer = c.id",
    "insert into app.orders values (1)",
    "update app.orders set total = 0",
    "delete from app.customers where id = 1",
    "drop table app.orders",
    "select pg_sleep(1)",
    "with gone as (delete from app.orders returning id) select * from gone",
    "begin",
    "create table x as select * from app.customers",
    "this is no sql",
)
ANALYSES = [analyse(text) for text in TEXTS]
TARGETS = ("orders", "lake")
ACTORS = ("lead", "reader", "writer")
GROUPS = ("ci", "data", "ops")
KINDS = ("select", "insert", "update", "delete", "drop", "transaction", "create")
RANK = {Verdict.ALLOW: 0, Verdict.WOULD_DENY: 1, Verdict.DENY: 2}

names = st.sampled_from(("app.orders", "app.customers", "app.*", "*"))
selectors = st.fixed_dictionaries(
    {},
    optional={
        "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True),
        "reads": st.lists(names, min_size=1, max_size=2, unique=True),
        "writes": st.lists(names, min_size=1, max_size=2, unique=True),
    },
)
conditions = st.sampled_from(
    [None, *(f'actor.name == "{name}"' for name in ACTORS)]
    + [f"size(chain) {sign} {depth}" for sign in ("<", ">") for depth in (1, 2, 3)]
    + ["actor.proved", "!actor.proved", 'actor.isolation == "none"', '"ops" in groups']
)
rules = st.fixed_dictionaries(
    {
        "action": st.sampled_from(("allow", "allow", "deny")),
        "sql": selectors,
        "when": conditions,
    }
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "targets": st.lists(st.sampled_from((*TARGETS, "*")), min_size=1, max_size=2, unique=True),
        "groups": st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True),
        "actor": st.fixed_dictionaries(
            {"groups": st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True)}
        ),
        "kinds": st.just(["person"]),
    },
)
documents = st.fixed_dictionaries(
    {
        "match": matches,
        "mode": st.sampled_from(("enforce", "enforce", "enforce", "observe")),
        "rules": st.lists(rules, min_size=1, max_size=4),
    }
)
hops = st.fixed_dictionaries(
    {
        "name": st.sampled_from(ACTORS),
        "proved": st.booleans(),
        "groups": st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
        "narrowing": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "scope": st.lists(st.sampled_from(TARGETS), max_size=2, unique=True),
                "authorization_details": st.lists(
                    st.fixed_dictionaries(
                        {"type": st.just("trailgate")},
                        optional={
                            "targets": st.lists(st.sampled_from(TARGETS), max_size=2, unique=True),
                            "sql": selectors,
                        },
                    ),
                    max_size=2,
                ),
            },
        ),
    }
)


class MemoryStore:
    """Grants in a dictionary: ten thousand of them need no disk."""

    def __init__(self) -> None:
        self.kept: dict[str, Grant] = {}

    async def add_grant(self, grant: Grant, token_sha256: str, **_: Any) -> str:
        self.kept[grant.id] = grant
        return "added"

    async def grant_by_id(self, grant_id: str) -> StoredGrant | None:
        found = self.kept.get(grant_id)
        return StoredGrant(found) if found else None


def document_of(number: int, told: Mapping[str, Any]) -> str:
    """As YAML, which JSON is."""
    written = []
    for place, rule in enumerate(told["rules"]):
        said = {"id": f"r{place}", rule["action"]: {"sql": rule["sql"]}, "when": rule["when"]}
        written.append({key: value for key, value in said.items() if value is not None})
    return json.dumps(
        {"policy": f"p{number}", "mode": told["mode"], "match": told["match"], "rules": written}
    )


async def chain_of(groups: Sequence[str], path: Sequence[Mapping[str, Any]]) -> list[Grant]:
    """The origin's grant and each below it, minted by the gateway's own code."""
    grants = Grants(MemoryStore(), now=lambda: 1000.0)  # type: ignore[arg-type]
    minted = await grants.mint_root(Identity("https://id", "alice"), groups, 600)
    made = [minted.grant]
    for hop in path:
        identity = Identity("https://ci", hop["name"]) if hop["proved"] else None
        minted = await grants.mint_child(
            made[-1],
            Hop(hop["name"], hop["proved"], identity),
            narrowing=hop["narrowing"],
            actor_groups=hop["groups"] if hop["proved"] else (),
        )
        made.append(minted.grant)
    return made


ANY_FAMILY = given(
    told=st.lists(documents, min_size=1, max_size=3),
    groups=st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
    path=st.lists(hops, min_size=3, max_size=3),
    target=st.sampled_from(TARGETS),
)
HOW: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=examples(400), **HOW)
@ANY_FAMILY
def test_a_child_gets_no_more_than_those_above_it(**family: Any) -> None:
    check_family(**family)


def check_family(
    told: list[dict[str, Any]], groups: list[str], path: list[dict[str, Any]], target: str
) -> None:
    """An origin, a child, a grandchild and one below it; each with each text."""
    policies = PolicySet(
        tuple(parse(document_of(n, one), f"{n}.yaml") for n, one in enumerate(told))
    )
    line = asyncio.run(chain_of(groups, path))
    place = Where(Target(target, "postgresql", "h", 1), "app", 1000.0, (scope_of(None, "app"),))
    for analysis in ANALYSES:
        ranks = [
            RANK[judge(policies, grant, place, analysis.units, analysis.problem).verdict]
            for grant in line
        ]
        assert ranks == sorted(ranks), (analysis.clear, [grant.labels for grant in line])


def test_what_a_proved_actors_groups_deny_is_denied_below_it() -> None:
    """Else it would hand its work to a child without groups."""
    allow = {"action": "allow", "sql": {"kinds": list(KINDS)}, "when": None}
    deny = {"action": "deny", "sql": {"kinds": ["delete"]}, "when": None}
    told = [
        {"match": {}, "mode": "enforce", "rules": [allow]},
        {"match": {"actor": {"groups": ["ci"]}}, "mode": "enforce", "rules": [deny]},
    ]
    path = [
        {"name": "lead", "proved": True, "groups": ["ci"], "narrowing": None},
        {"name": "reader", "proved": False, "groups": [], "narrowing": None},
    ]
    policies = PolicySet(
        tuple(parse(document_of(n, one), f"{n}.yaml") for n, one in enumerate(told))
    )
    place = Where(Target("lake", "postgresql", "h", 1), "app", 1000.0, (scope_of(None, "app"),))
    units = analyse("delete from app.customers where id = 1").units
    line = asyncio.run(chain_of((), path))
    verdicts = [judge(policies, grant, place, units).verdict for grant in line]
    assert verdicts == [Verdict.ALLOW, Verdict.DENY, Verdict.DENY]
