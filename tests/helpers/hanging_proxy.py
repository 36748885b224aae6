"""Stands before a server, and can stop handing on, or lose one answer."""

import asyncio
import threading


class HangingProxy:
    """Hands bytes between a port and a Unix socket until told to hang.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, socket_path):
        self._socket_path = socket_path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, daemon=True
        )
        self._thread.start()
        self.port = self._run(self._start())

    def hang(self):
        """Keeps connections open, takes new ones, and answers nothing."""
        self._loop.call_soon_threadsafe(self._moves.clear)

    def go_on(self):
        """Hands on what has gathered, and what comes."""
        self._loop.call_soon_threadsafe(self._moves.set)

    def lose_next_answer(self, hang_up):
        """Lets the server do what it is asked next, and nobody hear of it.

        Args:
            hang_up: Whether to close the connection; else it stays silent.
        """

        async def lose():
            self._loses = "hang up" if hang_up else "silence"

        self._run(lose())

    @property
    def lost_answer(self):
        """Whether that has happened."""
        return not self._loses

    def close(self):
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(
            20
        )

    async def _start(self):
        self._moves = asyncio.Event()
        self._moves.set()
        self._loses = None
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def _stop(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        await self._moves.wait()
        try:
            there = await asyncio.open_unix_connection(self._socket_path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._hand_on(reader, there[1]),
            self._hand_on(there[0], writer, answers=True),
        )

    async def _hand_on(self, source, target, answers=False):
        lost = None
        try:
            while chunk := await source.read(1 << 16):
                await self._moves.wait()
                if answers and self._loses:
                    lost, self._loses = self._loses, None
                if lost == "hang up":
                    return
                if lost:
                    continue
                target.write(chunk)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()
