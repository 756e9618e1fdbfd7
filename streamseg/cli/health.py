"""``streamseg health``: ask a running program how it does, for containers and scripts."""

from pathlib import Path

import click

from streamseg.errors import StreamsegError, UsageError

_ANSWER_SECONDS = 5.0
"""The page answers within milliseconds; a program that takes longer makes no progress."""
_EVERYWHERE = ("0.0.0.0", "::")


@click.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    required=True,
    help="Configuration it was started with.",
)
@click.option("--ready", is_flag=True, help="Also: model loaded, a source delivers, all outputs hand on.")
def health(config: Path, ready: bool) -> None:
    """Ask the program that runs with this configuration, on this machine, how it does.

    Ends with 0 if it makes progress, with 1 and the reason if not. Needs `metrics: {enabled: true}`.

    Example: streamseg health --config cameras.yaml --ready
    """
    from streamseg.config import parse_config, read_config

    metrics = parse_config(read_config(config), where=str(config)).metrics
    if not metrics.enabled or metrics.port == 0:
        raise UsageError(f"{config}: needs metrics.enabled: true and a metrics.port other than 0")
    host = "localhost" if metrics.host in _EVERYWHERE else metrics.host
    click.echo(_ask(host, metrics.port, "/readyz" if ready else "/healthz", metrics.token))


def _ask(host: str, port: int, path: str, token: str | None) -> str:
    """The program's answer. Raises StreamsegError if it is not well."""
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise StreamsegError(f"no answer from {host}:{port}{path}: {error}") from None
    finally:
        connection.close()
    if answer.status != 200:
        why = said if answer.status == 503 else f"{answer.status} {answer.reason}"
        raise StreamsegError(f"{host}:{port}{path}: {why}")
    return said
