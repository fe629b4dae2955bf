#!/usr/bin/env bash
# Versions: opentelemetry-exporter-otlp-proto-http 1.44.0 and 1.45.2 (PyPI), each with the SDK of its
# version.
# What one would guess: a collector that answers 307 or 308 with its new address gets the spans there,
# as with 1.44.0 and before; if the exporter follows no redirect, the export has failed.
# What happens: 1.45.0 and later send nothing to the new address, log nothing, and return SUCCESS,
# because each status from 200 to 399 counts as success and redirects are switched off.
# So after an upgrade, all spans behind a proxy that redirects (http to https, or to another path) are
# lost, and the program believes that they have arrived.
#
# Seen on 2026-11-30, for one span to a server that redirects from /old to /v1/traces:
#   1.44.0 307 SUCCESS, requests: /old /v1/traces
#   1.44.0 308 SUCCESS, requests: /old /v1/traces
#   1.45.2 307 SUCCESS, requests: /old
#   1.45.2 308 SUCCESS, requests: /old
# Exit code 1 if a version behaves otherwise. Needs Python 3.10 or newer; talks to PyPI and to a
# server on loopback.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/look.py" <<'PYTHON'
import http.server
import sys
import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

paths = []


class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        paths.append(self.path)
        moved = self.path == "/old"
        self.send_response(status if moved else 200)
        if moved:
            self.send_header("Location", "/v1/traces")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
span = ReadableSpan(
    "work",
    context=SpanContext(1, 2, False, TraceFlags(1)),
    resource=Resource({}),
    start_time=1,
    end_time=2,
)
for status in (307, 308):
    paths.clear()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{server.server_port}/old")
    result = exporter.export([span])
    exporter.shutdown()
    print(sys.argv[1], status, f"{result.name}, requests:", *paths)
PYTHON
seen=""
for version in 1.44.0 1.45.2; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check \
        "opentelemetry-sdk==$version" "opentelemetry-exporter-otlp-proto-http==$version"
    seen+=$(env NO_PROXY=127.0.0.1 "$folder/$version/bin/python" "$folder/look.py" "$version")$'\n'
done
printf '%s' "$seen"
[ "$seen" = "1.44.0 307 SUCCESS, requests: /old /v1/traces
1.44.0 308 SUCCESS, requests: /old /v1/traces
1.45.2 307 SUCCESS, requests: /old
1.45.2 308 SUCCESS, requests: /old
" ]
