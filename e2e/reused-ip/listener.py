"""Listens where a replica used to be, answers every hello wrongly and writes down each byte that it hears."""

import asyncio
import sys
from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nx-shoal-proof: 00\r\ncontent-length: 0\r\n\r\n"


async def listen(host: str, port: int, file: Path) -> None:
    """Until the process is ended."""
    with file.open("wb", buffering=0) as out:

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                out.write(data)
                writer.write(ANSWER)
            writer.close()

        server = await asyncio.start_server(hear, host, port)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(listen(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
