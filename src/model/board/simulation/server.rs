//! A server of the API in the simulated world, with its own clock and its own habits.

use std::collections::HashMap;
use std::time::Duration;

use super::super::super::answer::{FileId, FileStatus, PartId, RemoteFile, Upload, UploadId, UploadStatus};
use super::super::super::digest::Digest;
use super::super::super::failure::{Facts, Failure};
use super::super::super::job::JobId;
use super::super::super::reconcile::{Candidate, Content, Found};
use super::super::super::time::Boot;
use super::super::{Done, Work};

/// What nothing public says of the API: each may be either way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// A second complete is answered with the File, rather than refused.
    pub(super) repeats_complete: bool,
    /// Cancel of a completed Upload is answered with it, rather than refused.
    pub(super) tells_completed: bool,
    /// The content of Files may be read.
    pub(super) readable: bool,
    /// There is a list of Files.
    pub(super) lists: bool,
    /// So long after it was made a File is not in the list.
    pub(super) lag: Duration,
    /// So long after it was accepted a complete makes its File.
    pub(super) landing: Duration,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits {
            repeats_complete: true,
            tells_completed: false,
            readable: true,
            lists: true,
            lag: Duration::ZERO,
            landing: Duration::ZERO,
        }
    }
}

#[derive(Debug)]
struct ServerUpload {
    job: JobId,
    bytes: u64,
    expires: Boot,
    parts: HashMap<PartId, u64>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    /// Accepted, and a File from then on.
    Landing(Boot),
    /// With the place of its File.
    Completed(usize),
    Cancelled,
}

/// A File of the server.
#[derive(Clone, Debug)]
pub(super) struct ServerFile {
    pub(super) id: FileId,
    /// Whose; none: another program's.
    pub(super) job: Option<JobId>,
    pub(super) bytes: u64,
    made: Boot,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) habits: Habits,
    uploads: HashMap<UploadId, ServerUpload>,
    pub(super) files: Vec<ServerFile>,
    /// Bytes of Parts that were taken.
    pub(super) sent: u64,
    /// Requests about an Upload that had ended, other than to find out about it.
    pub(super) abuses: Vec<String>,
}

pub(super) fn refused(status: u16) -> Failure {
    Failure::Refused {
        facts: Facts { status, ..Facts::default() },
        kind: None,
        code: None,
        message: "no".into(),
    }
}

impl Server {
    /// Another program makes a File of the same name and size as that of `job`.
    pub(super) fn foreign_file(&mut self, bytes: u64, now: Boot) {
        let id = FileId(format!("file-{}", self.files.len()));
        self.files.push(ServerFile { id, job: None, bytes, made: now });
    }

    /// What the server does, whether or not its answer arrives.
    pub(super) fn serve(&mut self, job: Option<JobId>, work: &Work, now: Boot) -> Result<Done, Failure> {
        self.land(now);
        Ok(match work {
            Work::Create(subject) => {
                let id = UploadId(format!("upload_{}", self.uploads.len()));
                let job = job.expect("create is of a job");
                let expires = now + Duration::from_secs(3600);
                let bytes = subject.fingerprint.bytes;
                let new = ServerUpload { job, bytes, expires, parts: HashMap::new(), state: State::Pending };
                self.uploads.insert(id.clone(), new);
                Done::Created(self.shown(&id, UploadStatus::Pending, None))
            }
            Work::Part { upload, range, .. } => {
                let (id, digest) = self.take_part(upload, range.end - range.start, now)?;
                Done::PartStored(id, digest)
            }
            Work::Whole { subject, upload, .. } => {
                let (id, digest) = self.take_part(upload, subject.fingerprint.bytes, now)?;
                Done::WholeStored(id, digest, Some("md5".into()))
            }
            Work::Examine { .. } | Work::Confirm { .. } => {
                unreachable!("the world knows what is in its files")
            }
            Work::Hash(_) => Done::Hashed("md5".into()),
            Work::Verify { .. } => Done::Verified,
            Work::Complete { upload, parts, .. } => self.complete(upload, parts, now)?,
            Work::Cancel(upload) => self.cancel(upload, now)?,
            Work::Search(wanted) => Done::Searched(self.search(wanted.job, wanted.bytes, now)),
            Work::AskFile(file) => Done::FileSeen(self.remote(file).ok_or(refused(404))?),
            Work::Check { file, wanted } => {
                let seen = self.remote(file).ok_or(refused(404))?;
                let content = self.content(file, wanted.job);
                Done::Checked { file: seen, content, taken: None }
            }
            Work::Probe => Done::Probed,
        })
    }

    fn land(&mut self, now: Boot) {
        for upload in self.uploads.values_mut() {
            if let State::Landing(at) = upload.state
                && at <= now
            {
                upload.state = State::Completed(self.files.len());
                let id = FileId(format!("file-{}", self.files.len()));
                self.files.push(ServerFile { id, job: Some(upload.job), bytes: upload.bytes, made: at });
            }
        }
    }

    fn take_part(&mut self, id: &UploadId, bytes: u64, now: Boot) -> Result<(PartId, Digest), Failure> {
        let place = self.sent;
        let upload = self.uploads.get_mut(id).ok_or(refused(404))?;
        if upload.state != State::Pending {
            self.abuses.push(format!("a Part for {id}, which is {:?}", upload.state));
        }
        if upload.expires <= now || upload.state != State::Pending {
            return Err(refused(404));
        }
        let part = PartId(format!("part_{}_{place}", upload.parts.len()));
        upload.parts.insert(part.clone(), bytes);
        self.sent += bytes;
        Ok((part, Digest::Xxh3([0; 16])))
    }

    fn complete(&mut self, id: &UploadId, parts: &[PartId], now: Boot) -> Result<Done, Failure> {
        let landing = self.habits.landing;
        let upload = self.uploads.get_mut(id).ok_or(refused(404))?;
        match upload.state {
            State::Completed(_) if !self.habits.repeats_complete => return Err(refused(400)),
            State::Landing(_) => return Err(refused(409)),
            State::Cancelled => return Err(refused(400)),
            State::Pending if upload.expires <= now => return Err(refused(400)),
            State::Pending => {
                let bytes: u64 = parts.iter().map(|part| upload.parts[part]).sum();
                assert_eq!(bytes, upload.bytes, "the Parts are the file");
                upload.state = State::Landing(now + landing);
            }
            State::Completed(_) => {}
        }
        self.land(now);
        match self.uploads[id].state {
            State::Completed(place) => {
                let file = self.remote(&self.files[place].id.clone());
                Ok(Done::Completed(self.shown(id, UploadStatus::Completed, file)))
            }
            // What puts it together takes longer than the gateway waits.
            _ => Err(refused(504)),
        }
    }

    fn cancel(&mut self, id: &UploadId, now: Boot) -> Result<Done, Failure> {
        let upload = self.uploads.get_mut(id).ok_or(refused(404))?;
        match upload.state {
            State::Completed(place) if self.habits.tells_completed => {
                let file = self.remote(&self.files[place].id.clone());
                Ok(Done::Cancelled(self.shown(id, UploadStatus::Completed, file)))
            }
            State::Completed(_) | State::Cancelled => Err(refused(400)),
            State::Pending if upload.expires <= now => Err(refused(400)),
            State::Pending | State::Landing(_) => {
                upload.state = State::Cancelled;
                Ok(Done::Cancelled(self.shown(id, UploadStatus::Cancelled, None)))
            }
        }
    }

    fn search(&self, job: JobId, bytes: u64, now: Boot) -> Found {
        if !self.habits.lists {
            return Found::NoList;
        }
        let listed = self.files.iter().filter(|file| {
            let mine = file.job.is_none() || file.job == Some(job);
            mine && file.bytes == bytes && file.made + self.habits.lag <= now
        });
        Found::Candidates(
            listed
                .map(|file| Candidate {
                    file: file.id.clone(),
                    expires_at: None,
                    content: self.content(&file.id, job),
                })
                .collect(),
        )
    }

    fn content(&self, file: &FileId, job: JobId) -> Content {
        match self.files.iter().find(|one| one.id == *file) {
            _ if !self.habits.readable => Content::Unknown,
            Some(file) if file.job == Some(job) => Content::Same,
            _ => Content::Other,
        }
    }

    pub(super) fn remote(&self, file: &FileId) -> Option<RemoteFile> {
        self.files.iter().find(|one| one.id == *file).map(|file| RemoteFile {
            id: file.id.clone(),
            bytes: Some(file.bytes),
            created_at: 1001,
            filename: String::new(),
            purpose: String::new(),
            expires_at: None,
            status: FileStatus::Ready,
        })
    }

    /// The clock of this server stands somewhere else entirely.
    fn shown(&self, id: &UploadId, status: UploadStatus, file: Option<RemoteFile>) -> Upload {
        Upload {
            id: id.clone(),
            status,
            filename: String::new(),
            bytes: self.uploads.get(id).map(|upload| upload.bytes),
            created_at: 1000,
            expires_at: 4600,
            file,
        }
    }
}
