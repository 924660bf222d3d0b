//! What the headers of an answer say about when to come again.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::model::failure::Facts;

/// The longest wait that is taken over from a server: an Upload lives an hour, and a day says «not today».
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How much is kept of one header, of its name and of its value, in bytes, and how many `x-ratelimit-*`: the API sends six.
const KEPT: usize = 256;
const RATE_LIMITS: usize = 16;

/// The facts of an answer with `status` and `headers`.
pub(super) fn facts(status: u16, headers: &HeaderMap) -> Facts {
    let request_id = text(headers, "x-request-id").or_else(|| text(headers, "apim-request-id"));
    let should_retry =
        text(headers, "x-should-retry").and_then(|word| match word.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
    let rate_limits = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-ratelimit-") && name.as_str().len() <= KEPT)
        .take(RATE_LIMITS)
        .filter_map(|name| Some((name.as_str().to_owned(), text(headers, name.as_str())?)))
        .collect();
    Facts { status, request_id, retry_after: retry_after(headers), should_retry, rate_limits }
}

/// How long the server asks us to wait: `retry-after-ms`, else `Retry-After` in seconds or as a date.
///
/// A date is measured against the answer's own `Date`. Without one it says nothing: our clock may be hours from theirs.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| text(headers, name)?.parse::<f64>().ok();
    let seconds = number("retry-after-ms")
        .map(|milliseconds| milliseconds / 1000.0)
        .or_else(|| number(RETRY_AFTER.as_str()))
        .or_else(|| Some(date(headers, RETRY_AFTER.as_str())? - date(headers, DATE.as_str())?))?;
    (seconds.is_finite() && seconds >= 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())))
}

/// A header's date, in seconds since 1970.
fn date(headers: &HeaderMap, name: &str) -> Option<f64> {
    let date = DateTimeParser::new().parse_timestamp(text(headers, name)?).ok()?;
    Some(date.as_second() as f64)
}

/// A header's value, trimmed; none if it is empty, longer than anyone means it, or not printable ASCII.
fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty() && value.len() <= KEPT).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
        pairs.iter().map(|(header, value)| (name(header), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn every_form_of_retry_after_is_a_wait() {
        let ms = Duration::from_millis;
        type Headers = &'static [(&'static str, &'static str)];
        const DATE: (&str, &str) = ("Date", "Sun, 22 Nov 2026 10:00:00 GMT");
        let cases: &[(Headers, Option<Duration>)] = &[
            (&[], None),
            (&[("Retry-After", "7")], Some(ms(7_000))),
            (&[("Retry-After", " 1.5 ")], Some(ms(1_500))),
            (&[("Retry-After", "0")], Some(ms(0))),
            (&[("Retry-After", "-1")], None),
            (&[("Retry-After", "")], None),
            (&[("Retry-After", "soon")], None),
            (&[("Retry-After", "NaN")], None),
            (&[("Retry-After", "inf")], None),
            (&[("Retry-After", "1e300")], Some(LONGEST)),
            (&[("Retry-After", "86401")], Some(LONGEST)),
            (&[("retry-after-ms", "250")], Some(ms(250))),
            (&[("retry-after-ms", "250"), ("Retry-After", "9")], Some(ms(250))),
            (&[("retry-after-ms", "x"), ("Retry-After", "9")], Some(ms(9_000))),
            (&[DATE, ("Retry-After", "Sun, 22 Nov 2026 10:00:42 GMT")], Some(ms(42_000))),
            (&[DATE, ("Retry-After", "Sun, 22 Nov 2026 10:00:00 GMT")], Some(ms(0))),
            (&[DATE, ("Retry-After", "Sun, 22 Nov 2026 09:59:59 GMT")], None),
            (&[DATE, ("Retry-After", "Mon, 22 Nov 2027 10:00:00 GMT")], Some(LONGEST)),
            (&[("Retry-After", "Sun, 22 Nov 2026 10:00:42 GMT")], None),
            (&[("Date", "today"), ("Retry-After", "Sun, 22 Nov 2026 10:00:42 GMT")], None),
        ];
        for (pairs, wait) in cases {
            assert_eq!(facts(429, &headers(pairs)).retry_after, *wait, "{pairs:?}");
        }
    }

    #[test]
    fn the_facts_are_what_the_headers_say() {
        let facts = facts(
            503,
            &headers(&[
                ("X-Request-Id", "req_1"),
                ("apim-request-id", "other"),
                ("X-Should-Retry", "False"),
                ("X-RateLimit-Remaining-Requests", "0"),
                ("server", "x"),
            ]),
        );
        assert_eq!((facts.status, facts.request_id.as_deref()), (503, Some("req_1")));
        assert_eq!(facts.should_retry, Some(false));
        assert_eq!(facts.rate_limits, [("x-ratelimit-remaining-requests".to_owned(), "0".to_owned())]);
    }

    #[test]
    fn azure_names_its_request_otherwise_and_nonsense_is_not_kept() {
        let azure = facts(200, &headers(&[("apim-request-id", "azure"), ("x-should-retry", "perhaps")]));
        assert_eq!((azure.request_id.as_deref(), azure.should_retry), (Some("azure"), None));
        let long = "x".repeat(KEPT + 1);
        assert_eq!(facts(200, &headers(&[("x-request-id", &long)])).request_id, None);
        let name = format!("x-ratelimit-{long}");
        assert_eq!(facts(200, &headers(&[(&name, "1")])).rate_limits, []);
    }
}
