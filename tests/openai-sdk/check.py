"""The emulator as OpenAI's own SDK sees it, and every JSON answer as OpenAI's own OpenAPI document wants it."""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import httpx2
import jsonschema
import openai
import yaml

KEY = "sk-check"
ROOT = pathlib.Path(__file__).parents[2]
DOCUMENT = yaml.safe_load((ROOT / "emulator" / "openapi-uploads.yaml").read_text())
checked = 0


def schema_of(method, path):
    """The schema that the document has for a 200 of this operation."""
    segments = path.removeprefix("/v1").split("/")
    for template, operations in DOCUMENT["paths"].items():
        parts = template.split("/")
        same = len(parts) == len(segments) and all(
            part.startswith("{") or part == segment for part, segment in zip(parts, segments)
        )
        if same and method.lower() in operations:
            return operations[method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    raise AssertionError(f"the document has no {method} {path}")


def validator(schema):
    return jsonschema.Draft202012Validator(schema | {"components": DOCUMENT["components"]})


def validate(response):
    """Held against the document: each answer of the emulator that carries JSON."""
    global checked
    path = response.request.url.path
    if path.endswith("/content"):
        return
    response.read()
    body = response.json()
    reference = {"$ref": "#/components/schemas/ErrorResponse"}
    schema = schema_of(response.request.method, path) if response.status_code == 200 else reference
    validator(schema).validate(body)
    assert response.headers["x-request-id"].startswith("req_")
    checked += 1


def self_test():
    """A check that cannot fail checks nothing."""
    upload = validator({"$ref": "#/components/schemas/Upload"})
    assert not upload.is_valid({"id": "upload_1"})
    part = {"id": "part_1", "object": "upload.part", "created_at": 1, "upload_id": "upload_1"}
    schema = validator(schema_of("POST", "/v1/uploads/upload_1/parts"))
    assert schema.is_valid(part) and not schema.is_valid(part | {"object": "upload_part"})


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        assert error.request_id, "an error without its request id"
        return error
    raise AssertionError(f"no {kind.__name__}")


def large_file(folder):
    """150 MB that are neither zero nor of a round length."""
    path = folder / "large.jsonl"
    block = bytes(range(256)) * 4096
    with path.open("wb") as file:
        for number in range(143):
            file.write(number.to_bytes(4, "big") + block[4:])
        file.write(b"and an end")
    return path


def chunked(client, control, folder):
    path = large_file(folder)
    data = path.read_bytes()
    md5 = hashlib.md5(data).hexdigest()
    upload = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", md5=md5)
    assert upload.status == "completed" and upload.file.bytes == len(data)
    content = client.files.content(upload.file.id).read()
    assert sha256(content) == sha256(data), "the content came back otherwise"
    record = next(file for file in control("files")["files"] if file["id"] == upload.file.id)
    assert record["sha256"] == sha256(data) and record["md5"] == md5
    parts = [r for r in control("requests")["requests"] if r["operation"] == "part"]
    assert [part["data_bytes"] for part in parts] == [64 << 20, 64 << 20, len(data) - (128 << 20)]

    small = data[: 1 << 20]
    upload = client.uploads.upload_file_chunked(
        file=small, filename="small.bin", bytes=len(small), mime_type="text/plain", purpose="user_data", part_size=70_001
    )
    assert sha256(client.files.content(upload.file.id).read()) == sha256(small)
    parts = [r for r in control("requests")["requests"] if r["upload_id"] == upload.id and r["operation"] == "part"]
    assert len(parts) == 15, len(parts)


def by_hand(client):
    def create(size):
        return client.uploads.create(
            filename="hand.bin",
            purpose="user_data",
            bytes=size,
            mime_type="application/octet-stream",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )

    upload = create(6)
    assert upload.status == "pending" and upload.expires_at - upload.created_at == 3600
    second = client.uploads.parts.create(upload.id, data=b"def")
    first = client.uploads.parts.create(upload.id, data=b"abc")
    wrong = refused(
        openai.BadRequestError,
        client.uploads.complete,
        upload.id,
        part_ids=[first.id, second.id],
        md5=hashlib.md5(b"defabc").hexdigest(),
    )
    assert wrong.param == "md5" and hashlib.md5(b"abcdef").hexdigest() in wrong.message
    refused(openai.BadRequestError, client.uploads.complete, upload.id, part_ids=[first.id])
    done = client.uploads.complete(
        upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(b"abcdef").hexdigest()
    )
    assert done.status == "completed" and done.file.expires_at == done.file.created_at + 3600
    assert client.files.content(done.file.id).read() == b"abcdef"
    refused(openai.BadRequestError, client.uploads.parts.create, upload.id, data=b"late")
    refused(openai.NotFoundError, client.uploads.cancel, "upload_unknown")

    cancelled = create(1)
    assert client.uploads.cancel(cancelled.id).status == "cancelled"
    bad = refused(openai.BadRequestError, client.uploads.create, filename="a", purpose="x", bytes=1, mime_type="t")
    assert bad.param == "purpose"


def files(client):
    created = client.files.create(file=("whole.jsonl", b'{"a": 1}\n'), purpose="batch")
    assert (created.filename, created.bytes, created.purpose) == ("whole.jsonl", 9, "batch")
    assert client.files.retrieve(created.id) == created
    assert client.files.content(created.id).read() == b'{"a": 1}\n'
    listed = [file.id for file in client.files.list(limit=1)]
    assert created.id in listed and len(listed) == 4, listed
    assert [file.id for file in client.files.list(purpose="batch")] == [created.id]
    assert client.files.delete(created.id).deleted
    refused(openai.NotFoundError, client.files.retrieve, created.id)


def main():
    self_test()
    command = [sys.argv[1], "--api-key", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        try:
            base = emulator.stdout.readline().strip()
            origin = base.removesuffix("/v1")

            def control(name):
                with urllib.request.urlopen(f"{origin}/_emulator/{name}") as answer:
                    return json.load(answer)

            http = httpx2.Client(event_hooks={"response": [validate]}, timeout=120)
            client = openai.OpenAI(api_key=KEY, base_url=base, http_client=http, max_retries=0)
            with tempfile.TemporaryDirectory() as folder:
                chunked(client, control, pathlib.Path(folder))
            by_hand(client)
            files(client)
            stranger = client.with_options(api_key="sk-wrong")
            error = refused(openai.AuthenticationError, stranger.files.list)
            assert error.code == "invalid_api_key"
            requests = control("requests")["requests"]
            assert all(request["finished"] for request in requests)
            assert {request["operation"] for request in requests} >= {
                "create", "part", "complete", "cancel", "create_file", "list", "get", "content", "delete",
            }
        finally:
            emulator.kill()
    print(f"openai {openai.__version__}: {len(requests)} requests, {checked} answers as the document wants them: ok")


main()
