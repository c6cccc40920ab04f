"""PyJWT makes tokens with every algorithm, and Python `websockets` shows them in every place.

Arguments: the URL of a server that trusts the keys below tests/keys and a secret, and speaks the
subprotocol `chat`; the directory of the keys; the file of the secret.
"""

import asyncio
import pathlib
import sys
import time

import jwt
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

BASE, KEYS, SECRET = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])


def private(name):
    return (KEYS / (name + ".private.pem")).read_text()


SIGNING = {
    "HS256": SECRET.read_bytes(), "HS384": SECRET.read_bytes(), "HS512": SECRET.read_bytes(),
    "RS256": private("rsa"), "RS384": private("rsa"), "RS512": private("rsa"),
    "PS256": private("rsa"), "PS384": private("rsa"), "PS512": private("rsa"),
    "ES256": private("p256"), "ES384": private("p384"), "EdDSA": private("ed25519"),
}


def token(algorithm, **changes):
    grants = {"subscribe": ["news.*"], "publish": ["news.*"]}
    claims = {"sub": "alice", "exp": time.time() + 600, "nbf": int(time.time()), "ringwire": grants}
    return jwt.encode({**claims, **changes}, SIGNING[algorithm], algorithm=algorithm)


async def talk(path, **options):
    async with connect(BASE + path, proxy=None, **options) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
        return socket.subprotocol


def bearer(text):
    return {"additional_headers": {"Authorization": "Bearer " + text}}


async def expect_refusal(status, path, **options):
    try:
        await talk(path, **options)
    except InvalidStatus as refused:
        assert refused.response.status_code == status, (status, refused.response)
        assert refused.response.headers["WWW-Authenticate"].startswith("Bearer ")
    else:
        raise AssertionError("let in: " + path)


async def main():
    for algorithm in SIGNING:
        await talk("/broadcast/news.a", **bearer(token(algorithm)))
        await expect_refusal(401, "/echo", **bearer(token(algorithm, exp=time.time() - 60)))
    good = token("ES256")
    offered = ["chat", "ringwire.bearer." + good]
    assert await talk("/broadcast/news.b", subprotocols=offered) == "chat"
    await talk("/echo", additional_headers={"Cookie": "a=b; token=" + good})
    await talk("/echo?access_token=" + good)
    await expect_refusal(403, "/broadcast/other", **bearer(good))
    await expect_refusal(401, "/broadcast/news.a")
    unsigned = jwt.encode({"exp": time.time() + 600}, None, algorithm="none")
    await expect_refusal(401, "/echo", **bearer(unsigned))


asyncio.run(main())
