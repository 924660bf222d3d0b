"""What has to be true in the end, of the ledger and of the server's own record together."""


def judge(expected, rows, files, uploads):
    """What is wrong. `expected` is (path, SHA-256, bytes) of each version, of one path in the order of time."""
    faults, by_id, taken = [], {file["id"]: file for file in files}, set()
    versions = {}
    for path, sha256, bytes_ in expected:
        versions.setdefault(path, []).append((sha256, bytes_))
    for path in {row["relative_path"] for row in rows} - versions.keys():
        faults.append(f"{path}: nobody finished such a file, and it became a job")
    for path, wanted in versions.items():
        jobs = [row for row in rows if row["relative_path"] == path]
        if len(jobs) != len(wanted):
            states = [(job["state"], job["bytes"]) for job in jobs]
            faults.append(f"{path}: {len(jobs)} jobs for {len(wanted)} versions: {states}, not {wanted}")
            continue
        for job, (sha256, bytes_) in zip(jobs, wanted):
            file = by_id.get(job["file_id"])
            if job["state"] != "stored" or not file:
                faults.append(f"{path}: {job['state']} as {job['file_id']}: {job['error']}")
            elif file["id"] in taken:
                faults.append(f"{path}: {file['id']} is another job's File")
            elif (file["sha256"], file["bytes"], file["filename"]) != (sha256, bytes_, path.rpartition("/")[2]):
                faults.append(f"{path}: {file['id']} has other bytes: {file['bytes']}, not {bytes_}")
            else:
                taken.add(file["id"])
    for file in files:
        if file["id"] not in taken:
            faults.append(f"{file['id']} ({file['filename']}, {file['bytes']} bytes) is the File of no version")
    for upload in uploads:
        if upload["status"] != "completed":
            faults.append(f"{upload['id']} ({upload['filename']}) was begun and is {upload['status']}")
    return faults


def self_test():
    """A check that cannot fail checks nothing."""

    def job(path, file, state="stored"):
        return {"relative_path": path, "file_id": file, "state": state, "bytes": 3, "error": None}

    def file(id_, name, sha256="aa"):
        return {"id": id_, "filename": name, "sha256": sha256, "bytes": 3}

    wanted = [("c/a", "aa", 3)]
    good = ([job("c/a", "file-1")], [file("file-1", "a")], [{"id": "u", "filename": "a", "status": "completed"}])
    assert judge(wanted, *good) == []
    two = [job("c/a", "file-1"), job("c/a", "file-2")]
    for rows, files, uploads in (
        ([], [], []),
        (two, [file("file-1", "a"), file("file-2", "a")], []),
        ([job("c/a", None, "failed")], [], []),
        ([job("c/a", "file-1")], [file("file-1", "a", "bb")], []),
        ([job("c/a", "file-1"), job("c/b.tmp", "file-2")], [file("file-1", "a"), file("file-2", "b.tmp")], []),
        (good[0], [*good[1], file("file-2", "a")], []),
        (good[0], good[1], [{"id": "u", "filename": "a", "status": "cancelled"}]),
    ):
        assert judge(wanted, rows, files, uploads), f"not noticed: {rows} {files} {uploads}"
    assert judge(wanted * 2, two, [file("file-1", "a"), file("file-2", "a")], []) == []
