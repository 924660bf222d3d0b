"""OpenAI's own helper, as its documentation shows. Address and key come from the environment; arguments are the files."""

import pathlib
import sys

import openai

client = openai.OpenAI(max_retries=0)
for name in sys.argv[1:]:
    upload = client.uploads.upload_file_chunked(file=pathlib.Path(name), mime_type="text/jsonl", purpose="batch")
    assert upload.status == "completed" and upload.file, upload
