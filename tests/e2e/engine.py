"""Runs llama.cpp's own HTTP server on one model until it is told to stop; runs in the engine's own environment.

python engine.py MODEL.gguf PORT NAME
"""

from __future__ import annotations

import signal
import sys
import threading

import xllamacpp


def main(model: str, port: str, name: str) -> None:
    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.hostnames = ["127.0.0.1"]
    settings.port = int(port)
    settings.model_alias = {name}
    settings.n_ctx, settings.n_parallel = 16384, 4
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.warmup = False
    settings.use_jinja = True
    settings.endpoint_metrics = settings.endpoint_slots = True
    server = xllamacpp.Server(settings)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
