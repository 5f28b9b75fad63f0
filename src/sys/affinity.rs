//! Which cores the server may use, and which of them each worker gets.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The cores this process may run on (`sched_getaffinity(2)`), in ascending order.
///
/// # Errors
/// The operating system's, on a machine of more than 1024 cores.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// The cores of the machine that are online, usable or not; 1 where that is not known.
pub fn machine_cores() -> usize {
    let cores = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    cores.and_then(|cores| usize::try_from(cores).ok()).unwrap_or(1)
}

/// Keeps the calling thread, and threads it starts from now on, on `cores` (`sched_setaffinity(2)`).
///
/// # Errors
/// The operating system's, when it has no such core or this process may not use it.
pub fn pin_this_thread(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// How many CPUs' worth of time the cgroup allows, rounded up; `None` without a quota (cgroup v2, `cpu.max`).
pub fn cpu_quota() -> Option<usize> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let directory: PathBuf = Path::new("/sys/fs/cgroup").join(group);
    // A group is bound by the quotas of all groups above it, too.
    directory
        .ancestors()
        .filter_map(|group| parse_cpu_max(&fs::read_to_string(group.join("cpu.max")).ok()?))
        .min()
}

/// Workers to start by default: one for each CPU that may be used.
pub fn default_processes() -> usize {
    let cores = allowed_cores().map_or(1, |cores| cores.len());
    cpu_quota().map_or(cores, |quota| quota.min(cores)).max(1)
}

/// As many of `cores` as the quota can keep busy.
///
/// Which ones, `seed` decides: of many containers on one machine each sees all cores, and if all took the first ones
/// these would be all that is used.
pub fn within_quota(mut cores: Vec<usize>, quota: Option<usize>, seed: u64) -> Vec<usize> {
    let Some(quota) = quota.filter(|quota| *quota < cores.len()) else { return cores };
    let middle = usize::try_from(seed % cores.len() as u64).unwrap_or(0);
    cores.rotate_left(middle);
    cores.truncate(quota.max(1));
    cores.sort_unstable();
    cores
}

/// The cores of one slot: neighbouring ones, as evenly as can be; with fewer cores than processes, one that is shared.
pub fn share_out(cores: &[usize], processes: usize, slot: usize) -> Vec<usize> {
    let processes = processes.max(1);
    if cores.len() < processes {
        return cores.iter().copied().cycle().nth(slot % cores.len().max(1)).into_iter().collect();
    }
    let boundary = |slot: usize| slot.min(processes) * cores.len() / processes;
    cores.get(boundary(slot)..boundary(slot + 1)).unwrap_or_default().to_vec()
}

/// Cores for a reader: `0-3,8`.
pub fn format_cores(cores: &[usize]) -> String {
    let mut text = String::new();
    let runs = cores.chunk_by(|core, next| core.checked_add(1) == Some(*next));
    for run in runs {
        let separator = if text.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = match run {
            [first, .., last] => write!(text, "{separator}{first}-{last}"),
            [only] => write!(text, "{separator}{only}"),
            [] => Ok(()),
        };
    }
    text
}

/// Reads `cpu.max`: "QUOTA PERIOD" in microseconds, or "max PERIOD".
fn parse_cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotas_round_up_to_whole_cpus() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("200000 100000"), Some(2));
        assert_eq!(parse_cpu_max("1000 100000"), Some(1));
        for none in ["max 100000", "", "1000", "1000 0", "-1 100000"] {
            assert_eq!(parse_cpu_max(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_quota_takes_a_few_cores_and_not_always_the_first() {
        assert_eq!(within_quota(vec![0, 1, 2, 3], None, 9), [0, 1, 2, 3]);
        assert_eq!(within_quota(vec![0, 1, 2, 3], Some(4), 9), [0, 1, 2, 3]);
        assert_eq!(within_quota(vec![0, 1, 2, 3], Some(2), 0), [0, 1]);
        assert_eq!(within_quota(vec![0, 1, 2, 3], Some(2), 3), [0, 3]);
        assert_eq!(within_quota(vec![], Some(2), 3), Vec::<usize>::new());
    }

    #[test]
    fn cores_are_shared_out_in_neighbourhoods() {
        let cores = [0, 1, 2, 3, 4, 5, 6, 7];
        assert_eq!(share_out(&cores, 8, 5), [5]);
        assert_eq!(share_out(&cores, 2, 1), [4, 5, 6, 7]);
        assert_eq!((0..3).map(|slot| share_out(&cores, 3, slot).len()).collect::<Vec<_>>(), [2, 3, 3]);
        assert_eq!(share_out(&[4, 6], 5, 3), [6]);
        assert_eq!(share_out(&[], 2, 1), Vec::<usize>::new());
    }

    #[test]
    fn cores_read_as_ranges() {
        assert_eq!(format_cores(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(format_cores(&[5]), "5");
        assert_eq!(format_cores(&[]), "");
    }

    #[test]
    fn this_machine_has_a_core_for_us() {
        let cores = allowed_cores().unwrap();
        assert!(!cores.is_empty());
        assert!((1..=cores.len()).contains(&default_processes()));
    }

    proptest! {
        #[test]
        fn every_core_has_one_owner_when_there_are_enough(count in 1_usize..200, processes in 1_usize..200) {
            let cores: Vec<usize> = (0..count).collect();
            let shares: Vec<_> = (0..processes).map(|slot| share_out(&cores, processes, slot)).collect();
            prop_assert!(shares.iter().all(|share| !share.is_empty()));
            prop_assert!(shares.iter().map(Vec::len).max().unwrap() <= count.div_ceil(processes));
            if count >= processes {
                prop_assert_eq!(shares.concat(), cores);
            }
        }
    }
}
