"""Print every transition; after a cut come back with the last cursor, so that none is missed."""

import argparse
import asyncio
import json
from contextlib import suppress

import aiohttp


async def watch(url: str) -> None:
    cursor: str | None = None
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                params = {"since": cursor} if cursor else {}
                async with session.ws_connect(url, params=params, heartbeat=20) as ws:
                    async for message in ws:
                        event = json.loads(message.data)
                        cursor = event.get("cursor", cursor)
                        if event["type"] == "event":
                            print(
                                event["at"], event["call_id"], event["from"], "->", event["state"], flush=True
                            )
                        elif event["type"] == "gap":  # and what there is now is told behind it
                            print("missed something:", event["reason"], flush=True)
            except aiohttp.ClientError as error:
                print("away:", error, flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8000/ws/supervisor")
    with suppress(KeyboardInterrupt):
        asyncio.run(watch(parser.parse_args().url))
