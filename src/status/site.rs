//! Which path answers what.

use super::view::Observer;
use super::{html, json, metrics};
use crate::http::RequestHead;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The pages, and who looks for them.
#[derive(Debug)]
pub(super) struct Site {
    observer: Observer,
}

/// A response but for what belongs to its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn new(status: &'static str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let fields = [
            ("Content-Type", content_type),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ];
        let fields = fields.map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { status, fields, body: body.into() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

impl Site {
    pub(super) fn new(observer: Observer) -> Self {
        Self { observer }
    }

    /// Answers a request.
    pub(super) fn answer(&self, head: &RequestHead) -> Answer {
        let page = match head.path() {
            b"/status" => Self::page,
            b"/status.json" => Self::status,
            b"/metrics" => Self::metrics,
            b"/health/live" => Self::live,
            b"/health/ready" => Self::ready,
            _ => return Answer::new("404 Not Found", PLAIN, NOT_FOUND),
        };
        if !matches!(head.method(), b"GET" | b"HEAD") {
            return Answer::new("405 Method Not Allowed", PLAIN, "only GET and HEAD\n")
                .with("Allow", "GET, HEAD");
        }
        page(self)
    }

    fn page(&self) -> Answer {
        let page = html::render(&self.observer.look());
        Answer::new("200 OK", "text/html; charset=utf-8", page.body)
            .with("Content-Security-Policy", page.policy)
            .with("Referrer-Policy", "no-referrer")
    }

    fn status(&self) -> Answer {
        Answer::new("200 OK", JSON, json::render(&self.observer.look()))
    }

    fn metrics(&self) -> Answer {
        match metrics::render(&self.observer.look()) {
            Ok(text) => Answer::new("200 OK", metrics::CONTENT_TYPE, text),
            Err(error) => Answer::new("500 Internal Server Error", PLAIN, format!("{error}\n")),
        }
    }

    /// This process lives no longer than its supervisor.
    fn live(&self) -> Answer {
        let _ = self;
        Answer::new("200 OK", PLAIN, "live\n")
    }

    fn ready(&self) -> Answer {
        match self.observer.readiness() {
            Ok(()) => Answer::new("200 OK", PLAIN, "ready\n"),
            Err(reason) => Answer::new("503 Service Unavailable", PLAIN, format!("{reason}\n")),
        }
    }
}

const NOT_FOUND: &str =
    "not found\nhere are: /status, /status.json, /metrics, /health/live and /health/ready\n";
