//! Where standard input, output and error lead.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::account::Identity;
use super::file;

/// One of the two streams that are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardStream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl StandardStream {
    /// Makes the stream lead to `file`, at once for every thread, which then needs that descriptor no more.
    ///
    /// # Errors
    /// The operating system's; none is expected.
    pub fn lead_to(self, file: &File) -> io::Result<()> {
        match self {
            Self::Output => dup2_stdout(file)?,
            Self::Error => dup2_stderr(file)?,
        }
        Ok(())
    }

    /// Whether it leads to a file on some disk, and not to a terminal, a pipe or a device.
    pub fn is_file(self) -> bool {
        fstat(self.as_fd())
            .is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode).contains(SFlag::S_IFREG))
    }
}

/// Reopens the files by name, for a log that was renamed.
///
/// # Errors
/// The operating system's, with the path of the first that cannot be opened; both streams then lead where they did.
pub fn reopen(output: Option<&Path>, error: Option<&Path>) -> io::Result<()> {
    let open = |path: &Path| {
        let with_path =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        file::append(path, None).map_err(with_path)
    };
    let named = |path: Option<&Path>| path.map(open).transpose();
    for (stream, file) in [(StandardStream::Output, named(output)?), (StandardStream::Error, named(error)?)] {
        if let Some(file) = file {
            stream.lead_to(&file)?;
        }
    }
    Ok(())
}

/// Opens a file for a stream, or `/dev/null` for none.
///
/// # Errors
/// The operating system's.
pub fn open_or_discard(path: Option<&Path>, owner: Option<&Identity>) -> io::Result<File> {
    match path {
        Some(path) => file::append(path, owner),
        None => File::options().write(true).open("/dev/null"),
    }
}

/// Makes standard input read nothing.
///
/// # Errors
/// The operating system's, when there is no `/dev/null`.
pub fn discard_input() -> io::Result<()> {
    Ok(dup2_stdin(File::open("/dev/null")?)?)
}

/// A second way to where standard error leads now, which children do not inherit.
///
/// # Errors
/// The operating system's, for want of descriptors.
pub fn copy_of_error() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}
