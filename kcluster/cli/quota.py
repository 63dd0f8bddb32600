"""`kcluster quota ...`: how much clients may have of each broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kcluster.cli import output
from kcluster.cli.kafka import any_of, refuse
from kcluster.cli.options import DEFAULT_CLUSTER, ClusterName, Format, OutputFormat
from kcluster.core.metadata.quotas import (
    CLIENT_ID,
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    USER,
    Entity,
    entity_of,
)
from kcluster.errors import UsageError

app = typer.Typer(
    name="quota",
    help="""Show, set and remove quotas: how much clients may have of each broker.

A client over its quota is told to wait, and is not read from meanwhile. The nearest one counts:
of its user and client id together, of its user, of its client id, each before its default.
Without SASL every user is ANONYMOUS.
""",
    no_args_is_help=True,
)

KEYS = (PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE, REQUEST_PERCENTAGE)
DEFAULT_NAME = "(default)"
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
EXAMPLE = "kcluster quota set --client-id app --produce 1M"

ClientId = Annotated[
    str | None, typer.Option("--client-id", metavar="NAME", help="Of clients that say this name.")
]
User = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Of this user.")]
Default = Annotated[
    bool, typer.Option("--default", help="Of client ids that have none of their own.")
]
DefaultUser = Annotated[
    bool, typer.Option("--default-user", help="Of users that have none of their own.")
]


@app.command()
def ls(
    cluster: ClusterName = DEFAULT_CLUSTER,
    client_id: ClientId = None,
    user: User = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """List quotas: all, or those of a client id or a user.

    \b
    kcluster quota ls
    """
    from kcluster.wire.messages import describe_client_quotas as m

    components = [
        m.ComponentData(entity_type=kind, match_type=0, match=name)
        for kind, name in ((CLIENT_ID, client_id), (USER, user))
        if name is not None
    ]
    with any_of(cluster) as (broker, _, _):
        response = broker.request(m.DescribeClientQuotasRequest(components=components))
    refuse("the quotas could not be read", response.error_code, response.error_message, "")
    rows = sorted((_row(entry) for entry in response.entries), key=_place)
    if output_format is Format.JSON:
        output.json({"schema": 1, "quotas": rows})
    elif rows:
        shown = [
            [
                _shown(row["entity"], USER),
                _shown(row["entity"], CLIENT_ID),
                *(_figure(key, row["quotas"].get(key)) for key in KEYS),
            ]
            for row in rows
        ]
        columns = ["USER", "CLIENT ID", "PRODUCE", "CONSUME", "REQUEST"]
        output.table(columns, shown, numbers=columns[2:])
    else:
        output.note(f"no quotas; set one with {EXAMPLE}")


def _row(entry: Any) -> dict[str, Any]:
    return {
        "entity": {part.entity_type: part.entity_name for part in entry.entity},
        "quotas": {value.key: value.value for value in entry.values},
    }


def _place(row: dict[str, Any]) -> list[tuple[bool, bool, str]]:
    """Pairs, then users, then client ids; defaults behind the names."""
    entity = row["entity"]
    return [
        (kind not in entity, entity.get(kind) is None, entity.get(kind) or "")
        for kind in (USER, CLIENT_ID)
    ]


def _shown(entity: dict[str, str | None], kind: str) -> str | None:
    if kind not in entity:
        return None
    name = entity[kind]
    return DEFAULT_NAME if name is None else name


def _figure(key: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:g}%" if key == REQUEST_PERCENTAGE else f"{output.size(int(value))}/s"


@app.command(name="set")
def set_(
    cluster: ClusterName = DEFAULT_CLUSTER,
    client_id: ClientId = None,
    user: User = None,
    default: Default = False,
    default_user: DefaultUser = False,
    produce: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes a second written: 500K, 1M, 2000000.")
    ] = None,
    consume: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes a second read.")
    ] = None,
    request: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Of a broker's time, which has 100.")
    ] = None,
) -> None:
    """Set quotas; those that are not named stay as they are.

    \b
    kcluster quota set --client-id app --produce 1M --consume 2M --request 50
    """
    entity = _entity(client_id, user, default, default_user, EXAMPLE)
    values = {
        PRODUCER_BYTE_RATE: _rate("--produce", produce),
        CONSUMER_BYTE_RATE: _rate("--consume", consume),
        REQUEST_PERCENTAGE: _percentage(request),
    }
    given = {key: value for key, value in values.items() if value is not None}
    if not given:
        raise UsageError(
            "no quota is named", "it takes --produce, --consume or --request", EXAMPLE, 2
        )
    _alter(cluster, entity, given, [])
    told = ", ".join(f"{_SAID[key]} {_figure(key, value)}" for key, value in given.items())
    output.tick(f"{_named(entity)}: {told}")


@app.command()
def unset(
    cluster: ClusterName = DEFAULT_CLUSTER,
    client_id: ClientId = None,
    user: User = None,
    default: Default = False,
    default_user: DefaultUser = False,
    produce: Annotated[bool, typer.Option("--produce", help="Only that of bytes written.")] = False,
    consume: Annotated[bool, typer.Option("--consume", help="Only that of bytes read.")] = False,
    request: Annotated[bool, typer.Option("--request", help="Only that of time.")] = False,
) -> None:
    """Remove quotas: those named, else all of the client id or user.

    \b
    kcluster quota unset --client-id app
    """
    entity = _entity(client_id, user, default, default_user, "kcluster quota unset --client-id app")
    named = [
        key for key, is_named in zip(KEYS, (produce, consume, request), strict=True) if is_named
    ]
    _alter(cluster, entity, {}, named or list(KEYS))
    told = ", ".join(_SAID[key] for key in named) or "any"
    output.tick(f"{_named(entity)}: no quota of {told}")


_SAID = {
    PRODUCER_BYTE_RATE: "produce",
    CONSUMER_BYTE_RATE: "consume",
    REQUEST_PERCENTAGE: "request",
}


def _named(entity: Entity) -> str:
    return ", ".join(
        f"{kind} {DEFAULT_NAME if name is None else name}" for kind, name in reversed(entity)
    )


def _entity(
    client_id: str | None, user: str | None, default: bool, default_user: bool, example: str
) -> Entity:
    twice = (default and client_id is not None) or (default_user and user is not None)
    if twice or "" in (client_id, user):
        raise UsageError(
            "it is not clear whose quota is meant",
            "a name and the default of the same kind exclude each other"
            if twice
            else "a name is empty",
            example,
            2,
        )
    if not (default or default_user or client_id or user):
        raise UsageError(
            "it is not said whose quota is meant",
            "it takes --client-id, --user, --default or --default-user",
            example,
            2,
        )
    return entity_of(
        None if default_user else user or "",
        None if default else client_id or "",
    )


def _rate(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    unit = UNITS.get(text[-1:].upper(), 1)
    number = text[:-1] if unit > 1 else text
    try:
        rate = float(number) * unit
    except ValueError:
        rate = -1
    if not 1 <= rate < 1 << 63:
        raise UsageError(
            f"{option} {text!r} is no number of bytes a second",
            "rates look like 2000000, 500K or 1.5M, and are at least 1",
            EXAMPLE,
            2,
        )
    return float(int(rate))


def _percentage(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%"))
    except ValueError:
        share = -1
    if not 0 < share < 1e6:
        raise UsageError(
            f"--request {text!r} is no percentage", "shares look like 50 or 12.5", EXAMPLE, 2
        )
    return share


def _alter(cluster: str, entity: Entity, values: dict[str, float], removed: Sequence[str]) -> None:
    from kcluster.wire.messages import alter_client_quotas_request as m

    ops = [m.OpData(key=key, value=value) for key, value in values.items()]
    ops += [m.OpData(key=key, remove=True) for key in removed]
    parts = [m.EntityData(entity_type=kind, entity_name=name) for kind, name in entity]
    with any_of(cluster) as (broker, _, _):
        response = broker.request(
            m.AlterClientQuotasRequest(entries=[m.EntryData(entity=parts, ops=ops)])
        )
    result = response.entries[0]
    refuse(
        f"the quotas of {_named(entity)} were not changed",
        result.error_code,
        result.error_message,
        f"kcluster quota ls -c {cluster}",
    )
