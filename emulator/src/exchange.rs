//! One request from its head to its answer, with a place for faults at each [`Point`].

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;

use crate::admin;
use crate::answer::{Answer, AnswerBody, Content};
use crate::connection::{Connection, Delivery, End};
use crate::error::ApiError;
use crate::faults::{Action, Body, Point, Reply, Then};
use crate::intake::{Intake, Interrupt};
use crate::operations::{self, Call, Input};
use crate::record::{Exchange, Head};
use crate::route::{Operation, Route, route};
use crate::shared::Shared;

/// What the steps of one exchange share.
pub(crate) struct Moment {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) exchange: Exchange,
}

pub(crate) async fn serve(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let route = route(shared.dialect, &head.method, &path, head.uri.query());
    let is_admin = path.starts_with(admin::PREFIX);
    if !is_admin {
        shared.settle(true);
    }
    let record = if is_admin { &shared.unrecorded } else { &shared.record };
    let exchange = record.begin(Head {
        route: &route,
        method: head.method.as_str(),
        path: &path,
        query: &query,
        headers: &head.headers,
        filename: shared.filename(&route),
        connection: connection.number,
        peer: connection.peer,
    });
    let moment = Arc::new(Moment { shared: Arc::clone(&shared), connection, exchange });
    let intake = Intake::new(body, Arc::clone(&moment));
    if is_admin {
        let answer = admin::serve(&shared, &head.method, &path, intake).await;
        return moment.send(answer, Sending::default());
    }
    let started = shared.clock.uptime();
    let (mut answer, sending) = exchange_with_faults(&moment, route, head.headers, intake).await;
    let spent = shared.clock.uptime().saturating_sub(started);
    answer.headers.entry("openai-processing-ms".to_owned()).or_insert(spent.as_millis().to_string());
    moment.send(answer, sending)
}

async fn exchange_with_faults(
    moment: &Arc<Moment>,
    route: Route,
    headers: hyper::HeaderMap,
    mut intake: Intake,
) -> (Answer, Sending) {
    let shared = &moment.shared;
    let operation = route.operation;
    let mut filename = shared.filename(&route);
    if operation == Operation::Create && shared.script.needs_filename(operation) {
        match intake.peek().await {
            Ok(body) => {
                filename = name_in(&body);
                // A call that is refused before its work is known by its name all the same.
                moment.exchange.update(|request| request.filename.clone_from(&filename));
            }
            Err(Interrupt::Answer(reply)) => return moment.reply(*reply, None),
        }
    }
    let faults = shared.script.draw(operation, filename.as_deref());
    moment.exchange.update(|request| request.faults = faults.iter().map(Action::name).collect());
    let after: Vec<Action> = faults.iter().filter(|f| f.at() == Some(Point::Answered)).cloned().collect();
    intake.arm(&faults);

    if let Some(reply) = moment.at(Point::Unread, &faults).await {
        return moment.reply(reply, Some(intake)).following(after);
    }
    let variants = shared.variants();
    let authorized = shared.accepts_key(shared.dialect.key(&headers));
    let call = Call {
        shared: Arc::clone(shared),
        moment: Arc::clone(moment),
        route,
        headers,
        variants,
        late: faults.iter().find_map(|f| if let Action::Late(late) = f { Some(late.clone()) } else { None }),
        lag: faults
            .iter()
            .filter_map(|f| if let Action::Lag(lag) = f { Some(lag.clone()) } else { None })
            .collect(),
    };
    let input = match operations::read(&call, &mut intake).await {
        Ok(input) => {
            if let (Operation::Create, Ok(Input::Json(body))) = (operation, &input) {
                // Known from here on, whether or not the work comes to be done.
                let filename = name_in(body);
                moment.exchange.update(|request| request.filename = filename);
            }
            input
        }
        Err(Interrupt::Answer(reply)) => return moment.reply(*reply, Some(intake)).following(after),
    };
    if let Some(reply) = moment.at(Point::Before, &faults).await {
        return moment.reply(reply, None).following(after);
    }
    let late = call.late.clone();
    let done = match (authorized, input) {
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(input)) => operations::work(call, input).await,
    };
    let worked = done.is_ok();
    moment.exchange.update(|request| request.worked = worked);
    let mut answer = done.unwrap_or_else(|error| error.answer(variants.errors));
    if worked && let Some(late) = late {
        match late.status {
            Some(status) => {
                answer = ApiError::new(status, "The server had an error").answer(variants.errors);
            }
            None => moment.end(End::Close).await,
        }
    }
    if let Some(reply) = moment.at(Point::After, &faults).await {
        return moment.reply(reply, None).following(after);
    }
    for fault in &faults {
        match fault {
            Action::Patch(patch) => {
                if let Some(mut value) = answer.value() {
                    patch.apply(&mut value);
                    answer.content = Content::Whole(value.to_string().into());
                }
                answer.status = patch.status.unwrap_or(answer.status);
                answer.headers.extend(patch.headers.clone());
            }
            Action::Half { bytes } => answer.halve(*bytes),
            _ => {}
        }
    }
    (answer, Sending::default()).following(after)
}

fn name_in(body: &Bytes) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(value.get("filename")?.as_str()?.to_owned())
}

/// What happens beside the answer itself.
#[derive(Default)]
struct Sending {
    end: Option<End>,
    then: Vec<Action>,
}

trait Following {
    fn following(self, actions: Vec<Action>) -> Self;
}

impl Following for (Answer, Sending) {
    fn following(mut self, actions: Vec<Action>) -> Self {
        self.1.then.extend(actions);
        self
    }
}

impl Moment {
    /// Performs the faults of one point, in their order, up to one that answers.
    async fn at(&self, point: Point, faults: &[Action]) -> Option<Reply> {
        for fault in faults.iter().filter(|fault| fault.at() == Some(point)) {
            if let Some(reply) = self.perform(fault.clone()).await {
                return Some(reply);
            }
        }
        None
    }

    pub(crate) async fn perform(&self, action: Action) -> Option<Reply> {
        match action {
            Action::Answer(reply) => return Some(reply),
            Action::Delay { time, .. } => tokio::time::sleep(time).await,
            Action::Stall { .. } => pending().await,
            Action::Hold { gate, .. } => gate.pass().await,
            Action::Drop { reset: false, .. } => self.end(End::Close).await,
            Action::Drop { reset: true, .. } => self.end(End::Reset).await,
            Action::Kill { .. } => {
                self.perform_at_once(&action);
                self.end(End::Close).await;
            }
            other => self.perform_at_once(&other),
        }
        None
    }

    /// Those faults that can follow an answer.
    pub(crate) fn perform_at_once(&self, action: &Action) {
        match action {
            Action::Kill { .. } => self.shared.kill_victim(),
            Action::Expire { .. } => self.shared.expire(&self.named().0),
            Action::Cancel { .. } => self.shared.cancel(&self.named().0),
            Action::Purge { .. } => {
                let (upload, file) = self.named();
                self.shared.purge(if upload.is_empty() { &file } else { &upload });
            }
            Action::Drop { reset, .. } => {
                self.connection.end(if *reset { End::Reset } else { End::Close });
            }
            _ => {}
        }
    }

    /// Ids of the Upload and of the File that this exchange is about.
    fn named(&self) -> (String, String) {
        let mut named = (String::new(), String::new());
        self.exchange.update(|request| {
            named.0 = request.upload_id.clone().unwrap_or_default();
            named.1 = request.file_id.clone().unwrap_or_default();
        });
        named
    }

    /// Ends the connection; what waits for this never goes on.
    pub(crate) async fn end(&self, how: End) {
        self.connection.end(how);
        pending().await
    }

    /// A scripted answer, and what becomes of a body that was not read.
    fn reply(&self, reply: Reply, intake: Option<Intake>) -> (Answer, Sending) {
        let status = reply.status;
        let mut answer = match reply.body {
            Body::Error => {
                let mut error =
                    ApiError::new(status, reply.message.unwrap_or_else(|| format!("Scripted {status}")));
                error.kind = reply.kind.unwrap_or(error.kind);
                error.code = reply.code.or(error.code);
                error.answer(self.shared.variants().errors)
            }
            Body::Html => Answer::html(status),
            Body::Empty => Answer::empty(status),
            Body::Garbage => Answer::text(status, "application/json", "{\"id\": \"file-"),
            Body::Endless => {
                let mut answer = Answer::text(status, "application/json", "");
                answer.content = Content::Endless;
                answer
            }
            Body::Text(text) => Answer::text(status, "text/plain", text),
            Body::Json(value) => Answer::json(status, &value),
        };
        answer.headers.extend(reply.headers);
        let rest = intake.and_then(Intake::into_rest);
        let end = match reply.then {
            Then::Linger | Then::Stay => None,
            Then::Close => Some(End::Close),
            Then::Reset => Some(End::Reset),
        };
        match (rest, reply.then) {
            (None, _) => {}
            (Some(rest), Then::Linger) => drop(tokio::spawn(drain(rest))),
            // hyper ends a connection whose body was dropped; here the fault decides when it ends.
            (Some(rest), _) => self.connection.keep_unread(rest),
        }
        (answer, Sending { end, then: Vec::new() })
    }

    fn send(self: &Arc<Self>, answer: Answer, sending: Sending) -> Response<AnswerBody> {
        let Answer { status, mut headers, content } = answer;
        self.exchange.update(|request| request.status = Some(status));
        let id = self.exchange.request_id.clone();
        let common: BTreeMap<&str, String> = BTreeMap::from([
            ("date", self.shared.clock.date()),
            ("openai-version", "2020-10-01".to_owned()),
            ("x-request-id", id.clone()),
        ]);
        for (name, value) in common {
            headers.entry(name.to_owned()).or_insert(value);
        }
        if self.shared.dialect == crate::Dialect::Azure {
            headers.entry("apim-request-id".to_owned()).or_insert(id);
        }
        let delivery = Delivery { moment: Arc::clone(self), then: sending.then, end: sending.end };
        let mut response = Response::new(AnswerBody::new(content, delivery));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Keeps reading what the client still sends, so that it can read the answer.
async fn drain(mut body: Incoming) {
    use hyper::body::Body as _;
    while let Some(Ok(_)) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {}
}
