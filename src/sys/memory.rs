//! How much memory a process has, as `/proc` tells (`proc_pid_smaps(5)`, `proc_pid_statm(5)`).

use std::fs;
use std::io;

use nix::unistd::{SysconfVar, sysconf};

/// The memory of a process in bytes, each page shared out among those that share it (PSS), so that the sum over
/// processes is what they really have. Where the kernel does not tell that, all its resident pages count.
///
/// # Errors
/// The operating system's, when there is no such process.
pub fn bytes_of(pid: u32) -> io::Result<u64> {
    let proportional = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    if let Some(bytes) = proportional.as_deref().and_then(parse_smaps_rollup) {
        return Ok(bytes);
    }
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = parse_statm(&statm).ok_or(io::ErrorKind::InvalidData)?;
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| u64::try_from(bytes).ok());
    Ok(pages.saturating_mul(page_bytes.unwrap_or(4096)))
}

fn parse_smaps_rollup(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Resident pages.
fn parse_statm(text: &str) -> Option<u64> {
    text.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let rollup = "55d0-7ffd ---p 00000000 00:00 0    [rollup]\nRss:     5000 kB\nPss:     1234 kB\nPss_Dirty: 9 kB\n";
        assert_eq!(parse_smaps_rollup(rollup), Some(1234 * 1024));
        assert_eq!(parse_smaps_rollup(""), None);
        assert_eq!(parse_statm("2571 1405 1100 5 0 120 0\n"), Some(1405));
    }

    #[test]
    fn this_process_has_memory_and_a_process_that_is_not_has_none() {
        let bytes = bytes_of(std::process::id()).unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
        assert_eq!(bytes_of(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
