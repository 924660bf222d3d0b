"""Sends one file with OpenAI's own helper, as its documentation shows. Address and key come from the environment."""

import pathlib
import sys

import openai

client = openai.OpenAI(max_retries=0)
upload = client.uploads.upload_file_chunked(
    file=pathlib.Path(sys.argv[1]), mime_type="text/jsonl", purpose="batch"
)
assert upload.status == "completed" and upload.file, upload
