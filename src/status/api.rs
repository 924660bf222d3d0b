//! `/api`: the same records as JSON over the live socket and over the address of the page.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State as Of};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::unhex;
use super::views::{NoAnswer, Views};
use crate::model::job::{Code, State};
use crate::record::{FolderJson, JobJson, SCHEMA};
use crate::store::Filter;

/// Jobs that are told at once, at most.
const MOST_JOBS: usize = 500;

/// `GET /api/status`: the record of [`Live`](crate::engine::live::Live). `GET /api/why/PATH`, the path's bytes in
/// hexadecimal digits: that of [`Why`](crate::engine::why::Why). `GET /api/folders`: what is counted of each folder.
/// `GET /api/jobs?state=S,S&limit=N`: the newest jobs. `GET /api/codes`: each code with its remedy.
pub(super) fn routes(views: Views) -> Router {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/why/{path}", get(why))
        .route("/api/folders", get(folders))
        .route("/api/jobs", get(jobs))
        .route("/api/codes", get(codes))
        .with_state(views)
}

async fn status(Of(views): Of<Views>) -> Response {
    match views.live().await {
        Ok(live) => Json(live).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

async fn why(Of(views): Of<Views>, UrlPath(path): UrlPath<String>) -> Response {
    let Some(path) = unhex(&path).map(|bytes| PathBuf::from(OsString::from_vec(bytes))) else {
        return (StatusCode::BAD_REQUEST, "the path is not in hexadecimal digits").into_response();
    };
    match views.inquiry().explain(&path).await {
        Ok(why) => Json(why).into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, fault.to_string()).into_response(),
    }
}

#[derive(Debug, Serialize)]
struct Folders<'a> {
    schema: u32,
    folders: &'a [FolderJson],
}

async fn folders(Of(views): Of<Views>) -> Result<Response, NoAnswer> {
    let ledger = views.ledger().await?;
    Ok(Json(Folders { schema: SCHEMA, folders: &ledger.folders }).into_response())
}

/// Which jobs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// In these states, with commas between them; in any if none.
    state: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Jobs {
    schema: u32,
    jobs: Vec<JobJson>,
}

async fn jobs(Of(views): Of<Views>, Query(asked): Query<Asked>) -> Result<Response, NoAnswer> {
    let refuse = |words: String| Ok((StatusCode::BAD_REQUEST, words).into_response());
    let filter = Filter::default();
    let limit = asked.limit.unwrap_or(filter.limit);
    if !(1..=MOST_JOBS).contains(&limit) {
        return refuse(format!("limit is from 1 to {MOST_JOBS}"));
    }
    let mut states = Vec::new();
    for word in asked.state.iter().flat_map(|states| states.split(',')) {
        match State::ALL.into_iter().find(|state| state.as_str() == word) {
            Some(state) => states.push(state),
            None => {
                let all = State::ALL.map(State::as_str).join(", ");
                return refuse(format!("state is one or more of {all}, with commas between them"));
            }
        }
    }
    let jobs = views.jobs(&Filter { states, limit, ..filter }).await?;
    Ok(Json(Jobs { schema: SCHEMA, jobs }).into_response())
}

async fn codes() -> Json<BTreeMap<&'static str, &'static str>> {
    Json(Code::ALL.iter().map(|code| (code.as_str(), code.remedy())).collect())
}

impl IntoResponse for NoAnswer {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.to_string()).into_response()
    }
}
