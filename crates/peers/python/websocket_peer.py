"""A WebSocket server and a client: `serve` prints its port, `call URL` prints `ok` when all went well."""

import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)
    # The close of the client has come through.


async def serve():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def call(url):
    async with websockets.connect(url, max_size=None, proxy=None) as socket:
        for message in ["text", b"\x00\xff", "", "x" * 2_000_000]:
            await socket.send(message)
            assert await socket.recv() == message, "another message came back"
        await (await socket.ping())
    assert socket.close_code == 1000, f"closed with {socket.close_code}"
    print("ok")


asyncio.run(serve() if sys.argv[1] == "serve" else call(sys.argv[2]))
