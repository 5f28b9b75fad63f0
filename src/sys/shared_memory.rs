//! Memory that several processes see at once, and files that live in memory.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

const WORD_BYTES: usize = size_of::<AtomicU64>();

/// Creates zeroed shared memory of `words` 64-bit words whose size can never change again.
///
/// # Errors
/// The operating system's, for want of descriptors or memory.
pub fn create(name: &CStr, words: usize) -> io::Result<OwnedFd> {
    if cfg!(miri) {
        return Ok(File::open("/dev/zero")?.into());
    }
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let bytes = words.checked_mul(WORD_BYTES).and_then(|bytes| i64::try_from(bytes).ok());
    ftruncate(&fd, bytes.ok_or(io::ErrorKind::InvalidInput)?)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// Creates a file in memory that holds `contents`, for a child to inherit.
///
/// # Errors
/// The operating system's, for want of descriptors or memory.
pub fn create_file(name: &CStr, contents: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(contents)?;
    Ok(file.into())
}

/// A mapping of shared memory as atomic words: any bytes in it are valid values.
#[derive(Debug)]
pub struct SharedMemory {
    address: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is process-wide and is reached only through atomics, so any thread may own or share it.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Maps the first `words` words of the shared memory `fd`.
    ///
    /// # Errors
    /// `InvalidData` if the memory is smaller than that or could shrink (reading on would be SIGBUS); otherwise
    /// the operating system's.
    pub fn map(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let bytes =
            words.checked_mul(WORD_BYTES).and_then(NonZeroUsize::new).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        if cfg!(miri) {
            // Miri knows neither memfd nor shared mappings: each mapping is memory of its own.
            // SAFETY: as below.
            let address = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE)? };
            return Ok(Self { address: address.cast(), words });
        }
        let seals = SealFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GET_SEALS)?);
        let size_bytes = usize::try_from(fstat(fd)?.st_size).unwrap_or(0);
        if size_bytes < bytes.get() || !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice overlaps nothing of this process.
        let address = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, fd, 0)? };
        Ok(Self { address: address.cast(), words })
    }

    /// All words of the mapping.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `words` long, of sealed size so that no page can vanish, and lives as
        // long as `self`; every bit pattern is an `AtomicU64`, and other processes too write it only by atomics.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let address: NonNull<c_void> = self.address.cast();
        // SAFETY: exactly the range `map` created; every borrow of it ended with `self`.
        // A failure would mean that the range was never mapped, and leaves nothing to do.
        let _ = unsafe { munmap(address, self.words * WORD_BYTES) };
    }
}

/// `N` neighbouring words of a mapping, which they keep alive: bounds are checked once, here, and never again.
#[derive(Clone, Debug)]
pub struct AtomicWords<const N: usize> {
    first: NonNull<[AtomicU64; N]>,
    _memory: Arc<SharedMemory>,
}

// SAFETY: a shared reference to atomics in an `Arc` that is itself `Send + Sync`.
unsafe impl<const N: usize> Send for AtomicWords<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for AtomicWords<N> {}

impl<const N: usize> AtomicWords<N> {
    /// The words from `offset` on, counted in words; `None` if the mapping ends before them.
    pub fn new(memory: &Arc<SharedMemory>, offset: usize) -> Option<Self> {
        let words = memory.words().get(offset..)?.first_chunk::<N>()?;
        Some(Self { first: NonNull::from(words), _memory: Arc::clone(memory) })
    }

    /// The word at `INDEX`, which the compiler checks to exist.
    #[inline]
    pub fn at<const INDEX: usize>(&self) -> &AtomicU64 {
        const { assert!(INDEX < N, "no such word") };
        // SAFETY: `INDEX` is below the length, as was just asserted at compile time.
        unsafe { self.get_unchecked(INDEX) }
    }
}

impl<const N: usize> Deref for AtomicWords<N> {
    type Target = [AtomicU64; N];

    fn deref(&self) -> &Self::Target {
        // SAFETY: `first` came from a reference into the mapping that `_memory` keeps alive and in place.
        unsafe { self.first.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "no memfd, no shared mappings")]
    fn two_mappings_see_the_same_words() {
        let fd = create(c"test", 8).unwrap();
        let one = SharedMemory::map(fd.as_fd(), 8).unwrap();
        let other = SharedMemory::map(fd.as_fd(), 8).unwrap();
        one.words()[7].store(42, Ordering::Relaxed);
        assert_eq!(other.words()[7].load(Ordering::Relaxed), 42);
    }

    #[test]
    #[cfg_attr(miri, ignore = "no memfd, no shared mappings")]
    fn memory_that_is_too_small_or_could_shrink_is_refused() {
        let fd = create(c"test", 8).unwrap();
        assert_eq!(SharedMemory::map(fd.as_fd(), 9).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let unsealed = create_file(c"test", &[0; 64]).unwrap();
        assert_eq!(SharedMemory::map(unsealed.as_fd(), 8).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn words_outlive_the_handle_they_came_from_and_end_with_the_mapping() {
        let fd = create(c"test", 8).unwrap();
        let memory = Arc::new(SharedMemory::map(fd.as_fd(), 8).unwrap());
        assert!(AtomicWords::<4>::new(&memory, 5).is_none());
        assert!(AtomicWords::<4>::new(&memory, usize::MAX).is_none());
        let words = AtomicWords::<4>::new(&memory, 4).unwrap();
        drop(memory);
        words[3].store(7, Ordering::Relaxed);
        assert_eq!(words[3].load(Ordering::Relaxed), 7);
    }
}
