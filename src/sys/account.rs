//! Users and groups: looking them up, and becoming one of them for good.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getresgid, getresuid, initgroups, setgroups, setresgid, setresuid, setuid,
};

/// Whom a process can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; `None` for a number that the user database does not have.
    pub name: Option<String>,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// Why somebody cannot be looked up.
#[derive(Debug)]
pub enum Unknown {
    /// There is no such user.
    User(String),
    /// There is no such group.
    Group(String),
    /// The user is a number without an entry in the database, which would have named its group.
    GroupOf(u32),
    /// The database cannot be read.
    Database(io::Error),
}

impl fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(formatter, "there is no user {name:?}"),
            Self::Group(name) => write!(formatter, "there is no group {name:?}"),
            Self::GroupOf(uid) => write!(formatter, "user {uid} has no name here, and no group is given"),
            Self::Database(error) => write!(formatter, "the user database cannot be read: {error}"),
        }
    }
}

impl Identity {
    /// Looks up a user and a group, each a name or a number; without a group, the user's own.
    ///
    /// # Errors
    /// See [`Unknown`].
    pub fn look_up(user: &str, group: Option<&str>) -> Result<Self, Unknown> {
        let database = |errno: nix::Error| Unknown::Database(errno.into());
        let (entry, uid) = match user.parse() {
            Ok(number) => (User::from_uid(Uid::from_raw(number)).map_err(database)?, Some(number)),
            Err(_) => (User::from_name(user).map_err(database)?, None),
        };
        let uid = uid.or(entry.as_ref().map(|entry| entry.uid.as_raw()));
        let uid = uid.ok_or_else(|| Unknown::User(user.to_owned()))?;
        let gid = match (group.map(|group| (group, group.parse())), &entry) {
            (Some((_, Ok(number))), _) => number,
            (Some((name, Err(_))), _) => Group::from_name(name)
                .map_err(database)?
                .ok_or_else(|| Unknown::Group(name.to_owned()))?
                .gid
                .as_raw(),
            (None, Some(entry)) => entry.gid.as_raw(),
            (None, None) => return Err(Unknown::GroupOf(uid)),
        };
        Ok(Self { name: entry.map(|entry| entry.name), uid, gid })
    }

    /// Has the program that `command` starts be that user from its first instruction; see [`Identity::assume`].
    pub fn assume_in(&self, command: &mut Command) {
        let identity = self.clone();
        // SAFETY: the parent has one thread, so that no lock is held by another one when it forks, and the child may
        // read the user database and allocate as the parent could.
        unsafe { command.pre_exec(move || identity.assume()) };
    }

    /// Makes this process that user, in all three of its user and group numbers and with that user's supplementary
    /// groups (initgroups(3)) or none. There is no way back, which is tried. To be called while there is one thread.
    ///
    /// # Errors
    /// The operating system's: `EPERM` for a process that is not root's.
    pub fn assume(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        match &self.name {
            Some(name) => initgroups(&CString::new(name.as_str())?, gid)?,
            None => setgroups(&[gid])?,
        }
        // The groups first: afterwards this process may not change them any more.
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        let (users, groups) = (getresuid()?, getresgid()?);
        let is_whole = [users.real, users.effective, users.saved].iter().all(|is| *is == uid)
            && [groups.real, groups.effective, groups.saved].iter().all(|is| *is == gid);
        let can_return = !uid.is_root() && setuid(Uid::from_raw(0)).is_ok();
        if !is_whole || can_return {
            return Err(io::Error::other("the kernel let this process keep root's rights"));
        }
        Ok(())
    }
}

/// The number of the user whose rights this process has.
pub fn effective_uid() -> u32 {
    geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(user: &str, group: Option<&str>) -> Result<(Option<String>, u32, u32), String> {
        let found = Identity::look_up(user, group).map_err(|unknown| unknown.to_string())?;
        Ok((found.name, found.uid, found.gid))
    }

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let root = Some("root".to_owned());
        assert_eq!(look_up("root", None), Ok((root.clone(), 0, 0)));
        assert_eq!(look_up("0", None), Ok((root.clone(), 0, 0)));
        assert_eq!(look_up("root", Some("54321")), Ok((root.clone(), 0, 54321)));
        assert_eq!(look_up("root", Some("root")), Ok((root, 0, 0)));
        assert_eq!(look_up("54321", Some("root")), Ok((None, 54321, 0)));
    }

    #[test]
    fn strangers_are_named() {
        assert_eq!(look_up("no-such-user", None), Err("there is no user \"no-such-user\"".into()));
        assert_eq!(look_up("root", Some("no-such-group")), Err("there is no group \"no-such-group\"".into()));
        let nameless = Err("user 54321 has no name here, and no group is given".into());
        assert_eq!(look_up("54321", None), nameless);
    }
}
