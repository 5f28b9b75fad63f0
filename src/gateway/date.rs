//! The Date field's value now (RFC 9110 section 6.6.1), formatted once a second and thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::http::DateCache;

thread_local! {
    static CACHE: RefCell<DateCache> = RefCell::new(DateCache::new(0));
}

/// The current date as an `IMF-fixdate`.
pub fn date_now() -> [u8; 29] {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    CACHE.with_borrow_mut(|cache| *cache.at(unix_s))
}
