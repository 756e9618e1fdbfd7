"""``streamseg view``."""

import asyncio
import signal
import sys
from contextlib import suppress

import click

from streamseg.cli.address import DEFAULT_ADDRESS, parse_address

EXAMPLE = "Example: streamseg view --redis redis://localhost:6379/0"


@click.command("view", epilog=EXAMPLE)
@click.option("--redis", "url", required=True, metavar="URL", help="Where the results are published.")
@click.option(
    "--listen",
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Other machines reach it on 0.0.0.0, with --token.",
)
@click.option(
    "--token",
    envvar="STREAMSEG_TOKEN",
    metavar="TOKEN",
    help="What visitors have to give; better in the environment, as STREAMSEG_TOKEN.",
)
def view(*, url: str, listen: str, token: str | None) -> int:
    """Show what other processes publish to a Redis as a live page in the browser.

    With their overlays (run --redis-overlays) it shows pictures, else the masks alone.
    """
    from streamseg.cli.logs import configure_logging
    from streamseg.redis.url import check_redis_url
    from streamseg.web.access import Access
    from streamseg.web.feed import RedisFeed
    from streamseg.web.hub import Hub
    from streamseg.web.page import make_page
    from streamseg.web.server import WebServer

    configure_logging("warning", as_json=False)
    check_redis_url(url)
    host, port = parse_address(listen, option="--listen")
    access = Access(host, token)
    access.check(host="--listen", token="--token")
    hub = Hub()

    async def serve() -> int:
        feeding = asyncio.ensure_future(RedisFeed(hub, url).run())
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            feeding.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        with suppress(asyncio.CancelledError):
            await feeding
        return 128 + received[0] if received else 0

    with WebServer(lambda: make_page(hub, access), host=host, port=port, name="view") as server:
        sys.stderr.write(f"{server.url}\n")
        return asyncio.run(serve())
