//! The time of day, for logs and dates.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Seconds since 1970-01-01T00:00:00Z.
pub fn unix_s() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// A moment in local time as access logs write it: `10/Oct/2000:13:55:36 -0700`.
pub fn local_time(unix_s: i64) -> String {
    let Some(fields) = local_fields(unix_s) else { return String::from("-") };
    let month = name(&MONTHS, fields.tm_mon);
    let offset_min = fields.tm_gmtoff / 60;
    format!(
        "{:02}/{month}/{}:{:02}:{:02}:{:02} {}{:02}{:02}",
        fields.tm_mday,
        i64::from(fields.tm_year) + 1900,
        fields.tm_hour,
        fields.tm_min,
        fields.tm_sec,
        if offset_min < 0 { '-' } else { '+' },
        offset_min.abs() / 60,
        offset_min.abs() % 60,
    )
}

/// A moment in local time as asctime(3) writes it: `Tue Oct 10 13:55:36 2000`.
pub fn ctime(unix_s: i64) -> String {
    let Some(fields) = local_fields(unix_s) else { return String::from("-") };
    format!(
        "{} {} {:2} {:02}:{:02}:{:02} {}",
        name(&DAYS, fields.tm_wday),
        name(&MONTHS, fields.tm_mon),
        fields.tm_mday,
        fields.tm_hour,
        fields.tm_min,
        fields.tm_sec,
        i64::from(fields.tm_year) + 1900,
    )
}

/// A moment in UTC as RFC 3339 writes it: `2000-10-10T20:55:36Z`.
pub fn rfc_3339(unix_s: i64) -> String {
    // SAFETY: an all-zero `tm` is a valid value of the type.
    let mut fields: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values; gmtime_r writes only into `fields`.
    if unsafe { libc::gmtime_r(&raw const unix_s, &raw mut fields) }.is_null() {
        return String::from("-");
    }
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        i64::from(fields.tm_year) + 1900,
        fields.tm_mon + 1,
        fields.tm_mday,
        fields.tm_hour,
        fields.tm_min,
        fields.tm_sec,
    )
}

fn local_fields(unix_s: i64) -> Option<libc::tm> {
    // SAFETY: an all-zero `tm` is a valid value of the type.
    let mut fields: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values; localtime_r writes only into `fields`.
    let is_known = unsafe { !libc::localtime_r(&raw const unix_s, &raw mut fields).is_null() };
    is_known.then_some(fields)
}

fn name(names: &[&'static str], index: i32) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc() {
        assert_eq!(rfc_3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc_3339(971_211_336), "2000-10-10T20:55:36Z");
    }

    #[test]
    fn local_times_have_their_forms() {
        assert_eq!(ctime(971_211_336).len(), "Tue Oct 10 20:55:36 2000".len());
        assert_eq!(local_time(971_211_336).len(), "10/Oct/2000:20:55:36 +0000".len());
    }
}
