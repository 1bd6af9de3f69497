"""A real S3 server with an empty bucket, on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "bucket"


@contextmanager
def object_store(address: str) -> Iterator[dict[str, str]]:
    """Runs the server while the context lasts; yields the environment variables of its clients.

    Args:
        address: Address to listen on.
    """
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{address}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        bucket(variables).create()
        yield variables
    finally:
        server.stop()


def bucket(variables: Mapping[str, str]) -> Any:
    """The bucket as another program sees it."""
    return boto3.resource(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    ).Bucket(BUCKET)
