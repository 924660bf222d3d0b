//! `/livez` and `/readyz`: may it be left alone, and does it send?

use axum::Router;
use axum::extract::State as Of;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::views::Views;
use crate::engine::live::Live;
use crate::text::shown_bytes;

/// `GET /livez`: 503 when the engine does not answer, which a restart may mend; a hold is no reason for one, nor is a
/// file that cannot be read. `GET /readyz`: 503 with the reasons, a line each, while something is not sent.
pub(super) fn routes(views: Views) -> Router {
    Router::new().route("/livez", get(alive)).route("/readyz", get(ready)).with_state(views)
}

async fn alive(Of(views): Of<Views>) -> Response {
    match views.live().await {
        Ok(_) => "ok\n".into_response(),
        Err(why) => unavailable(&[format!("stuck: {why}")]),
    }
}

async fn ready(Of(views): Of<Views>) -> Response {
    match views.live().await {
        Ok(live) => match reasons(&live).as_slice() {
            [] => "ok\n".into_response(),
            reasons => unavailable(reasons),
        },
        Err(why) => unavailable(&[format!("stuck: {why}")]),
    }
}

fn unavailable(reasons: &[String]) -> Response {
    // Names and a server's words: a line each, whatever they hold.
    let lines: String = reasons.iter().map(|line| shown_bytes(line.as_bytes()) + "\n").collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

/// Why something is not sent.
fn reasons(live: &Live) -> Vec<String> {
    let stopping = live.stopping.then(|| "stopping".to_owned());
    let holds = live
        .holds
        .iter()
        .map(|hold| format!("hold: {}: {}: {}; {}", hold.scope, hold.code, hold.message, hold.remedy));
    let paused = live
        .folders
        .iter()
        .filter(|folder| folder.paused)
        .map(|folder| format!("paused: folder {}; `upspool resume` goes on", folder.name));
    stopping.into_iter().chain(holds).chain(paused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::live::{LiveFolder, LiveHold, LiveStuck};

    #[test]
    fn what_is_not_sent_is_told_and_what_is_slow_is_not() {
        let mut live = Live {
            stuck: vec![LiveStuck { what: "Part 3 of job 12".into(), at: "reading".into(), seconds: 301 }],
            ..Live::default()
        };
        assert_eq!(reasons(&live), [] as [&str; 0]);
        live.folders = vec![
            LiveFolder { name: "a".into(), paused: true, ..LiveFolder::default() },
            LiveFolder { name: "b".into(), ..LiveFolder::default() },
        ];
        live.holds = vec![LiveHold {
            scope: "store".into(),
            code: "store-full".into(),
            message: "no room".into(),
            remedy: "make room".into(),
            since: String::new(),
            next_probe: String::new(),
            probes: 0,
        }];
        live.stopping = true;
        assert_eq!(
            reasons(&live),
            [
                "stopping",
                "hold: store: store-full: no room; make room",
                "paused: folder a; `upspool resume` goes on"
            ]
        );
    }
}
