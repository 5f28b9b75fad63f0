//! How a process knows that it was forked, whoever did that and however: by a byte that the kernel clears in the child
//! (`MADV_WIPEONFORK`, madvise(2)). Looking at it is no system call.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};

const SET: u8 = 1;

/// The byte; `None` where the kernel knows no such memory (before Linux 4.14).
static MARK: OnceLock<Option<&'static AtomicU8>> = OnceLock::new();

/// Marks this process as the one that forks.
pub(super) fn set() {
    MARK.get_or_init(make);
}

/// Whether this process is not the one that was marked.
pub(super) fn is_wiped() -> bool {
    matches!(MARK.get(), Some(Some(mark)) if mark.load(Ordering::Relaxed) != SET)
}

fn make() -> Option<&'static AtomicU8> {
    // The kernel gives whole pages.
    let length = NonZeroUsize::new(1)?;
    // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing of this process.
    let page = unsafe {
        mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
    };
    let page: NonNull<AtomicU8> = page.ok()?.cast();
    // SAFETY: the advice concerns that page alone, which nobody else knows.
    unsafe { madvise(page.cast(), length.get(), MmapAdvise::MADV_WIPEONFORK) }.ok()?;
    // SAFETY: mapped above, zeroed, large enough for any one byte, and never unmapped.
    let mark = unsafe { page.as_ref() };
    mark.store(SET, Ordering::Relaxed);
    Some(mark)
}
