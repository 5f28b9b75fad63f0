//! Watches files whose change reloads the application: by inotify(7), or by looking at them now and then.
//!
//! Not files are watched but the directories they are in: editors save by renaming a new file over the old one, and a
//! watch would stay with the old. Whether a file has really changed is told by its identity, time and size, after a
//! burst of events has settled. Where the kernel gives no more watches, files are looked at instead.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::EventKind;
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::notices::{Notice, Notices};
use crate::config::{Reload, current_directory};
use crate::limits::{CHANGE_SETTLE, CHANGE_SETTLE_MAX, POLL_INTERVAL_MS};
use crate::sys::clock;
use files::{WatchedFiles, version};

mod files;

/// How often a directory that has vanished is looked for.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// The watching thread.
#[derive(Debug)]
pub(super) struct FileWatch(Sender<WatchInput>);

#[derive(Debug)]
enum WatchInput {
    /// Watch these files as well, and say so when they are watched.
    Files(Vec<PathBuf>, Sender<()>),
    /// From now on any Python source counts that lies beside a watched file, known or new.
    AnySource,
    /// Something happened where we look.
    Event(notify::Result<notify::Event>),
}

impl FileWatch {
    /// Watches what `reload` names, and posts what changes.
    ///
    /// # Errors
    /// The operating system's, when it gives no thread.
    pub(super) fn start(reload: &Reload, notices: Arc<Notices>) -> io::Result<Self> {
        let (sender, inputs) = channel();
        let mut all = Watched {
            watcher: None,
            poll: reload.poll,
            files: WatchedFiles::default(),
            lost: BTreeSet::new(),
            complained: false,
        };
        if reload.poll.is_none() {
            all.ask_kernel(sender.clone());
        }
        let (trees, files) = reload.watch.iter().cloned().partition(|path| path.is_dir());
        all.add_trees(trees);
        all.add_files(files);
        if reload.dev {
            // Where it is may be a link, and the release behind it another one soon.
            all.add_files(current_directory().into_iter().collect());
        }
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || all.follow(&inputs, &notices))?;
        Ok(Self(sender))
    }

    /// Watches more files, and directories with all they contain: every change after this call is noticed.
    pub(super) fn add(&self, files: Vec<PathBuf>) {
        if files.is_empty() {
            return;
        }
        let (done, is_done) = channel();
        if self.0.send(WatchInput::Files(files, done)).is_ok() {
            // An error means that the thread is gone: then nothing is watched at all, as it has said.
            let _ = is_done.recv();
        }
    }

    /// Takes a change of any Python source beside a watched file for one that matters: a module that is missing now
    /// has no file yet.
    pub(super) fn any_source(&self) {
        let _ = self.0.send(WatchInput::AnySource);
    }
}

struct Watched {
    /// `None` where the kernel is not asked.
    watcher: Option<RecommendedWatcher>,
    /// How often to look at everything, if at all.
    poll: Option<Duration>,
    files: WatchedFiles,
    /// Directories that cannot be watched now.
    lost: BTreeSet<PathBuf>,
    complained: bool,
}

impl Watched {
    fn ask_kernel(&mut self, events: Sender<WatchInput>) {
        // The receiver is gone when the worker ends.
        let watcher = notify::recommended_watcher(move |event| drop(events.send(WatchInput::Event(event))));
        match watcher {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.complained = true;
                self.poll_instead(&error, "sysctl -w fs.inotify.max_user_instances=512");
            }
        }
    }

    fn follow(mut self, inputs: &Receiver<WatchInput>, notices: &Notices) {
        let mut burst: Option<Burst> = None;
        let mut look_at = self.poll.map(|interval| Instant::now() + interval);
        loop {
            let now = Instant::now();
            let until_look = look_at.map(|at| at.saturating_duration_since(now));
            let settles = burst.as_ref().map(|burst| burst.settles_at().saturating_duration_since(now));
            let lost_pause = (!self.lost.is_empty()).then_some(LOST_PAUSE);
            let pause = [settles, lost_pause, until_look].into_iter().flatten().min();
            let input = match pause {
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => inputs.recv_timeout(pause),
            };
            match input {
                Ok(WatchInput::Files(files, done)) => {
                    let (trees, files) = files.into_iter().partition(|path| path.is_dir());
                    self.add_trees(trees);
                    self.add_files(files);
                    let _ = done.send(());
                }
                Ok(WatchInput::AnySource) => self.files.any_source(),
                Ok(WatchInput::Event(Ok(event))) if !matches!(event.kind, EventKind::Access(_)) => {
                    Burst::get(&mut burst).paths.extend(event.paths);
                }
                Ok(WatchInput::Event(Ok(_))) => {}
                Ok(WatchInput::Event(Err(error))) => tracing::warn!(%error, "cannot watch everything"),
                Err(RecvTimeoutError::Timeout) => self.find_lost(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if look_at.is_none_or(|at| at <= now) {
                // It may have become necessary meanwhile.
                look_at = self.poll.map(|interval| now + interval);
                if let Some(changed) = self.poll.and_then(|_| self.files.changed_anywhere()) {
                    Burst::get(&mut burst).seen = Some(changed);
                }
            }
            if let Some(settled) = burst.take_if(|burst| burst.settles_at() <= now) {
                self.settle(settled, notices);
            }
        }
    }

    /// Posts the change of a burst that is over, if there was one.
    fn settle(&mut self, settled: Burst, notices: &Notices) {
        self.lost.extend(self.files.vanished(&settled.paths));
        let Some(path) = self.files.changed_at(&settled.paths).or(settled.seen) else { return };
        self.follow_links(&path);
        let version = version(&path);
        notices.post(Notice::Changed { path, at_ms: settled.noticed_ms, version });
    }

    /// Watches where a path leads now: if the next generation fails to load, this one waits for another change.
    fn follow_links(&mut self, path: &Path) {
        for directory in self.files.follow(path) {
            self.watch(&directory, RecursiveMode::NonRecursive);
        }
        for tree in self.files.trees() {
            if path.starts_with(&tree) {
                self.watch(&tree, RecursiveMode::Recursive);
            }
        }
    }

    fn add_trees(&mut self, trees: Vec<PathBuf>) {
        for tree in trees {
            self.watch(&tree, RecursiveMode::Recursive);
            for directory in self.files.add_tree(&tree) {
                self.watch(&directory, RecursiveMode::NonRecursive);
            }
        }
    }

    fn add_files(&mut self, files: Vec<PathBuf>) {
        for file in files {
            for directory in self.files.add_file(&file) {
                self.watch(&directory, RecursiveMode::NonRecursive);
            }
        }
    }

    fn watch(&mut self, directory: &Path, mode: RecursiveMode) {
        let Some(watcher) = &mut self.watcher else { return };
        let Err(error) = watcher.watch(directory, mode) else { return };
        match error.kind {
            ErrorKind::PathNotFound => drop(self.lost.insert(directory.to_owned())),
            _ if self.complained => {}
            ErrorKind::MaxFilesWatch => {
                self.complained = true;
                self.poll_instead(&error, "sysctl -w fs.inotify.max_user_watches=524288");
            }
            _ => {
                self.complained = true;
                tracing::warn!(%error, directory = %directory.display(), "cannot watch a directory");
            }
        }
    }

    fn poll_instead(&mut self, error: &notify::Error, remedy: &str) {
        let interval = Duration::from_millis(POLL_INTERVAL_MS);
        self.poll.get_or_insert(interval);
        tracing::warn!(
            %error,
            interval_s = interval.as_secs_f64(),
            "the kernel cannot watch every file; polling them instead; hint: {remedy}"
        );
    }

    fn find_lost(&mut self) {
        for directory in std::mem::take(&mut self.lost) {
            self.watch(&directory, RecursiveMode::NonRecursive);
        }
    }
}

/// Events that belong together.
#[derive(Debug)]
struct Burst {
    noticed_ms: u64,
    first_at: Instant,
    last_at: Instant,
    /// Where something happened.
    paths: BTreeSet<PathBuf>,
    /// What a look at everything has found.
    seen: Option<PathBuf>,
}

impl Burst {
    /// The burst that goes on, or a new one.
    fn get(burst: &mut Option<Self>) -> &mut Self {
        let now = Instant::now();
        let burst = burst.get_or_insert_with(|| Self {
            noticed_ms: clock::monotonic_ms(),
            first_at: now,
            last_at: now,
            paths: BTreeSet::new(),
            seen: None,
        });
        burst.last_at = now;
        burst
    }

    fn settles_at(&self) -> Instant {
        (self.last_at + CHANGE_SETTLE).min(self.first_at + CHANGE_SETTLE_MAX)
    }
}
