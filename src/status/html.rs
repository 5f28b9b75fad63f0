//! `/status`: one file that needs no other. It shows what `/status.json` says, and asks for it again every second.

use std::hash::{BuildHasher, RandomState};

use super::json;
use super::view::StatusView;

const PAGE: &str = include_str!("page.html");
/// Stands in the page for the state at the time of the request.
const STATE: &str = "\"state as JSON\"";
/// Stands in the page for the word that lets its own script run, and no other.
const NONCE: &str = "word of the policy";

/// The page and its Content-Security-Policy.
pub(super) struct StatusPage {
    pub(super) body: String,
    pub(super) policy: String,
}

pub(super) fn render(view: &StatusView) -> StatusPage {
    let nonce = format!("{:016x}", RandomState::new().hash_one(view.now_ms));
    let body = PAGE.replace(NONCE, &nonce).replace(STATE, &harmless(&json::render(view)));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    StatusPage { body, policy }
}

/// JSON that cannot end the element it stands in, whatever path a client has asked for.
fn harmless(json: &[u8]) -> String {
    String::from_utf8_lossy(json).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::view::{Observer, tests::DIMENSIONS};
    use super::*;
    use crate::scoreboard::{LastReload, Scoreboard};

    #[test]
    fn what_the_application_says_stays_inside_its_element() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        let summary = "</script><script>alert(1)</script>&amp;".to_owned();
        let (at, traceback) = (1, String::new());
        scoreboard.record_reload(&LastReload { at, ok: false, generation: 2, summary, traceback });
        let config = crate::cli::configure(&["app".to_owned()], 1).unwrap();
        let page = render(&Observer::new(Arc::new(config), scoreboard).look());
        assert!(!page.body.contains("<script>alert") && page.body.contains("\\u003cscript\\u003ealert"));
        assert!(!page.body.contains(STATE) && !page.body.contains(NONCE));
        let nonce = page.policy.split('\'').find_map(|it| it.strip_prefix("nonce-")).unwrap();
        assert!(page.body.contains(&format!("<script nonce=\"{nonce}\">")));
    }
}
