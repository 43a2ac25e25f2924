"""The quickstart: bring two models up on this machine, stream a chat, compare embeddings, and take everything down.

Run it by `make demo`. Everything goes through the gateway by the official `openai` client.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).parent
LISTEN = os.environ.get("SHOAL_DEMO_LISTEN", "127.0.0.1:8000")


def main() -> None:
    began = time.monotonic()
    manifests = [word for name in ("tiny-llama.yaml", "all-minilm.yaml") for word in ("-f", str(HERE / name))]
    shoal = subprocess.Popen(
        [sys.executable, "-m", "shoal_operator", "up", *manifests, "--listen", LISTEN],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(shoal)
        print(f"\n--- both models answer {time.monotonic() - began:.0f} s after the start\n", flush=True)
        client = OpenAI(base_url=f"http://{LISTEN}/v1", api_key="any")
        print("models:", ", ".join(model.id for model in client.models.list()), "\n", flush=True)
        stream_a_chat(client)
        compare_embeddings(client)
    finally:
        shoal.send_signal(signal.SIGINT)
        code = shoal.wait(timeout=60)
    print(f"--- taken down, exit code {code}; to keep it running:\n\n    shoal up {' '.join(manifests)}\n")
    sys.exit(code)


def wait_until_ready(shoal: "subprocess.Popen[str]") -> None:
    """Show what `shoal up` says, here until every model is ready and in the background from then on."""
    assert shoal.stdout is not None
    for line in shoal.stdout:
        print(line, end="", flush=True)
        if re.search(r"\ball models are ready\b", line):
            threading.Thread(target=shutil.copyfileobj, args=(shoal.stdout, sys.stdout), daemon=True).start()
            return
    sys.exit(f"shoal up ended with exit code {shoal.wait()}")


def stream_a_chat(client: OpenAI) -> None:
    """One chat, token by token; the weights are random, so the text is noise."""
    question = "Tell me about fish."
    print(f"chat> {question}\ntiny-llama (random weights)> ", end="", flush=True)
    began, arrivals = time.monotonic(), []
    stream = client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": question}], max_tokens=64, stream=True
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            arrivals.append(time.monotonic() - began)
            print(chunk.choices[0].delta.content, end="", flush=True)
    first, last = arrivals[0] * 1000, arrivals[-1]
    print(f"\n({len(arrivals)} pieces; the first after {first:.0f} ms, the last after {last:.2f} s)\n", flush=True)


def compare_embeddings(client: OpenAI) -> None:
    """Three sentences; two of them mean nearly the same."""
    sentences = ["A cat sits on the mat", "A kitten rests on a rug", "The stock market fell today"]
    cat, kitten, market = (row.embedding for row in client.embeddings.create(model="embed", input=sentences).data)
    print(f"embeddings of {len(cat)} dimensions from all-MiniLM-L6-v2:")
    print(f"  cosine({sentences[0]!r}, {sentences[1]!r}) = {cosine(cat, kitten):.3f}")
    print(f"  cosine({sentences[0]!r}, {sentences[2]!r}) = {cosine(cat, market):.3f}\n", flush=True)
    assert math.isclose(cosine(cat, kitten), 0.66, abs_tol=0.02), "the embedding is not that of all-MiniLM-L6-v2"
    assert math.isclose(cosine(cat, market), 0.11, abs_tol=0.02), "the embedding is not that of all-MiniLM-L6-v2"


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


if __name__ == "__main__":
    main()
