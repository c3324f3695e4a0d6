# SPDX-License-Identifier: GPL-3.0-or-later
"""The operators of pg_catalog, PostgreSQL 15. Any other calls a function of somebody's."""

OPERATORS = frozenset(
    r"""
    !! != !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> *>= + - -> ->>
    -|- / < <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ @> @? @@
    @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~*
    """.split()
)
