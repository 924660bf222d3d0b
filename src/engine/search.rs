//! Looks for the File that an Upload may have become: through the list, into the ledger, at the content. What it means
//! is for `reconcile`.

use crate::api::Client;
use crate::model::answer::{FileId, RemoteFile};
use crate::model::board::{Done, Wanted};
use crate::model::failure::{Facts, Failure};
use crate::model::reconcile::{Candidate, Content, Found};
use crate::source::Comparison;
use crate::store::Store;

/// Files asked for in one page. The API gives 10 000, at some 300 bytes each; most searches end within the first few.
const PAGE: u32 = 100;

/// Pages that are read at most: half a million Files made since the Upload was. Also the end of a server that always has
/// more.
const PAGES: usize = 5000;

/// Files that are read and compared at most. More of one name and size are for a person.
const COMPARED: usize = 16;

/// Looks through `GET /files`, newest first, back to where `wanted` could have been made.
///
/// # Errors
/// Whatever kept a request from being answered: what was found so far is worth nothing then.
pub(super) async fn search(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
) -> Result<(Done, Option<Facts>), Failure> {
    let mut candidates = Vec::new();
    let mut after: Option<FileId> = None;
    for number in 0..PAGES {
        let page = client.list_files(Some(&wanted.purpose), PAGE, after.as_ref()).await;
        let (page, facts) =
            page.map_err(|failure| if number == 0 { failure } else { broken_off(failure) })?;
        let last = page.files.last().map(|file| file.id.clone());
        // A server that does not sort is read to the end.
        let sorted = page.files.is_sorted_by(|newer, older| newer.created_at >= older.created_at);
        let past = sorted && page.files.last().is_some_and(|oldest| oldest.created_at < wanted.since);
        for file in page.files {
            if let Some(candidate) = candidate(client, store, wanted, file).await? {
                candidates.push(candidate);
            }
        }
        if past || !page.has_more || last.is_none() {
            let candidates = compared(client, wanted, candidates).await?;
            return Ok((Done::Searched(Found::Candidates(candidates)), Some(facts)));
        }
        if last == after {
            let message = "the list of Files does not go on behind the File that was named".to_owned();
            return Err(Failure::BadAnswer { facts, message });
        }
        after = last;
    }
    let message = "the list of Files has no end".to_owned();
    Err(Failure::BadAnswer { facts: Facts::default(), message })
}

/// A server that refuses a later page has a list all the same, which may have changed while it was read: as when the File
/// that a page begins behind was deleted.
fn broken_off(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { facts, message, .. } if !matches!(facts.status, 401 | 403 | 429 | 500..) => {
            Failure::BadAnswer { facts, message: format!("the list of Files broke off: {message}") }
        }
        other => other,
    }
}

/// Looks at the File that a person named.
///
/// # Errors
/// Whatever kept a request from being answered.
pub(super) async fn check(
    client: &Client,
    store: &Store,
    file: &FileId,
    wanted: &Wanted,
) -> Result<(Done, Option<Facts>), Failure> {
    let (file, facts) = client.get_file(file).await?;
    let taken = store.owner_of(&file.id, wanted.job).await.map_err(unreadable)?;
    let content = if file.bytes.is_some_and(|bytes| bytes != wanted.bytes) {
        Content::Other
    } else {
        content(client, &file.id, wanted).await?
    };
    Ok((Done::Checked { file, content, taken }, Some(facts)))
}

async fn candidate(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
    mut file: RemoteFile,
) -> Result<Option<Candidate>, Failure> {
    let ours = file.created_at >= wanted.since
        && file.filename == wanted.name
        && (file.purpose.is_empty() || file.purpose == wanted.purpose);
    if !ours || file.bytes.is_some_and(|bytes| bytes != wanted.bytes) {
        return Ok(None);
    }
    if file.bytes.is_none() {
        // A list may not know the size yet.
        match client.get_file(&file.id).await {
            Ok((whole, _)) => file = whole,
            Err(failure) if is_refusal(&failure) => {}
            Err(failure) => return Err(failure),
        }
        if file.bytes.is_some_and(|bytes| bytes != wanted.bytes) {
            return Ok(None);
        }
    }
    let taken = store.owner_of(&file.id, wanted.job).await.map_err(unreadable)?;
    let candidate = Candidate { file: file.id, expires_at: file.expires_at, content: Content::Unknown };
    Ok(taken.is_none().then_some(candidate))
}

async fn compared(
    client: &Client,
    wanted: &Wanted,
    mut candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, Failure> {
    if candidates.len() <= COMPARED {
        for candidate in &mut candidates {
            candidate.content = content(client, &candidate.file, wanted).await?;
        }
    }
    Ok(candidates)
}

async fn content(client: &Client, file: &FileId, wanted: &Wanted) -> Result<Content, Failure> {
    let mut comparison = Comparison::with(wanted.sent.clone());
    match client.content(file, |bytes| comparison.take(bytes)).await {
        Ok((true, _)) if comparison.is_equal() => Ok(Content::Same),
        Ok(_) => Ok(Content::Other),
        // Of some purposes no content is given out.
        Err(failure) if is_refusal(&failure) => Ok(Content::Unknown),
        Err(failure) => Err(failure),
    }
}

/// Whether the server does not give it out: it will say the same again, or leads to another host, where nothing is asked.
fn is_refusal(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { facts, .. } => {
            (300..500).contains(&facts.status) && !matches!(facts.status, 401 | 408 | 429)
                || facts.status == 501
        }
        _ => false,
    }
}

/// The store cannot be read: as if nothing had been asked.
fn unreadable(fault: crate::store::StoreError) -> Failure {
    Failure::Connect { message: fault.to_string() }
}
