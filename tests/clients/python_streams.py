"""Python's own HTTP client against streams: content and order, and what pages are told.

Arguments: the server's URL, and how it compresses, which means nothing to streams.
"""

import http.client
import sys

HOST = sys.argv[1].removeprefix("ws://")
MESSAGES = [f"{number} caf\u00e9 {'x' * (number % 300)}" for number in range(300)]


def connect():
    return http.client.HTTPConnection(HOST, timeout=60)


def ask(connection, method, target, body=None, **fields):
    connection.request(method, target, body, {k.replace("_", "-"): v for k, v in fields.items()})
    return connection.getresponse()


def next_line(response):
    while True:
        line = response.readline()
        # An empty line says that the stream goes on.
        if line != b"\n":
            return line.decode()


streams = [ask(connect(), "GET", "/broadcast/news?mode=stream") for _ in range(5)]
for stream in streams:
    assert stream.status == 200 and stream.chunked, stream.status
    assert stream.getheader("Content-Type") == "text/plain; charset=utf-8"

publisher = connect()
for message in MESSAGES:
    answer = ask(publisher, "POST", "/broadcast/news", message.encode(), Content_Type="text/plain")
    assert (answer.status, answer.read()) == (202, b"accepted\n")
for stream in streams:
    for message in MESSAGES:
        line = next_line(stream)
        assert line == message + "\n", line

head = ask(publisher, "HEAD", "/broadcast/news?mode=stream")
assert (head.status, head.read()) == (200, b"")
answer = ask(publisher, "OPTIONS", "/broadcast/news", Origin="https://example.org",
             Access_Control_Request_Method="POST")
assert (answer.status, answer.read()) == (204, b"")
assert answer.getheader("Access-Control-Allow-Origin") == "https://example.org"
answer = ask(publisher, "GET", "/broadcast/news?mode=%73se")
assert answer.status == 400 and b"stream" in answer.read()
