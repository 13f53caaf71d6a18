"""Fake S3, DynamoDB and SNS for one upload, with configurable latencies and hardly any CPU time.

    python -m benchmarks.rendering.fake_aws FOLDER S3_SECONDS

prints its port and serves. An object of any bucket is the file of FOLDER that its key ends in, writes are discarded,
every condition of DynamoDB holds and no item exists. These are the calls of an image's first delivery. It runs in a
separate process, so that its CPU time is not counted.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from urllib.parse import unquote

#: SNS's answer to Publish: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
_PUBLISHED = (
    b'<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId>'
    b"</PublishResult></PublishResponse>"
)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per answer, not one per header
    disable_nagle_algorithm = True
    folder: Path
    s3_seconds: float

    def handle_expect_100(self) -> bool:
        answer = super().handle_expect_100()
        self.wfile.flush()  # boto3 waits a second for it
        return answer

    def do_GET(self) -> None:
        sleep(self.s3_seconds)
        name = unquote(self.path.partition("?")[0]).rpartition("/")[2]
        about = {"ETag": f'"{name}"', "Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "x-amz-version-id": name}
        self._send((self.folder / name).read_bytes(), "application/octet-stream", about)

    def do_PUT(self) -> None:
        self._body()
        sleep(self.s3_seconds)
        self._send(b"", "application/xml", {"ETag": '"written"'})

    def do_POST(self) -> None:
        self._body()
        if "X-Amz-Target" in self.headers:  # DynamoDB
            self._send(b"{}", "application/x-amz-json-1.0", {})
        else:
            self._send(_PUBLISHED, "text/xml", {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _send(self, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class calls it so
        pass


def serve(folder: Path, s3_seconds: float) -> ThreadingHTTPServer:
    """Listen on a free port; the caller runs it."""
    _Answer.folder, _Answer.s3_seconds = folder, s3_seconds
    return ThreadingHTTPServer(("127.0.0.1", 0), _Answer)


def main() -> None:
    """Serve until killed."""
    server = serve(Path(sys.argv[1]), float(sys.argv[2]))
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
