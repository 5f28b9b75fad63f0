//! The Date field: IMF-fixdate (RFC 9110 section 5.6.7) from seconds since the epoch.

use std::io::Write as _;

const DAY_S: u64 = 86_400;
/// The last second of the year 9999, beyond which the format has no digits.
const UNIX_S_MAX: u64 = 253_402_300_799;
const DAY_NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTH_NAMES: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT` for the second `unix_s`; later than the year 9999 gives its last second.
pub fn imf_fixdate(unix_s: u64) -> [u8; 29] {
    let unix_s = unix_s.min(UNIX_S_MAX);
    let (day, second) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, month_day) = civil_from_days(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (day_name, month_name) = (name(&DAY_NAMES, day % 7), name(&MONTH_NAMES, month - 1));
    let mut text = [b' '; 29];
    let written = write!(
        text.as_mut_slice(),
        "{day_name}, {month_day:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    );
    debug_assert!(written.is_ok(), "every part has a fixed width");
    text
}

/// Year, month (1 to 12) and day (1 to 31) of the proleptic Gregorian calendar.
///
/// Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last of its year.
fn civil_from_days(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let era = day / 146_097;
    let day_of_era = day % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month_day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, month_day)
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("???")
}

/// The current date as text, rewritten only when the second changes.
#[derive(Clone, Debug)]
pub struct DateCache {
    unix_s: u64,
    text: [u8; 29],
}

impl DateCache {
    /// A cache that holds the text for `unix_s`.
    pub fn new(unix_s: u64) -> Self {
        Self { unix_s, text: imf_fixdate(unix_s) }
    }

    /// The text for `unix_s`, in seconds since the epoch.
    pub fn at(&mut self, unix_s: u64) -> &[u8; 29] {
        if unix_s != self.unix_s {
            *self = Self::new(unix_s);
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unix_s: u64) -> String {
        String::from_utf8(imf_fixdate(unix_s).to_vec()).unwrap()
    }

    #[test]
    fn known_dates() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(text(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
        assert_eq!(text(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    }

    #[test]
    fn the_year_9999_is_the_last() {
        assert_eq!(text(UNIX_S_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(UNIX_S_MAX));
    }

    #[test]
    fn cache_follows_the_second() {
        let mut cache = DateCache::new(0);
        assert_eq!(cache.at(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(cache.at(1), b"Thu, 01 Jan 1970 00:00:01 GMT");
        assert_eq!(cache.at(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
