//! What the libraries of this process export.

use std::ffi::CStr;
use std::ptr;

/// An object in this process's memory, as its library's symbol table describes it.
#[derive(Clone, Copy, Debug)]
pub struct LoadedObject {
    /// Of its first byte.
    pub address: usize,
    /// Its length in bytes.
    pub size: usize,
}

/// What `dladdr1` is to tell beside the name: where the symbol's entry is (`dlfcn.h`).
#[cfg(target_env = "gnu")]
const RTLD_DL_SYMENT: libc::c_int = 1;

/// The object that any library of this process exports as `name` (`dlsym`, 3).
#[cfg(target_env = "gnu")]
pub fn object(name: &CStr) -> Option<LoadedObject> {
    // SAFETY: the name ends with a NUL byte.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if address.is_null() {
        return None;
    }
    // SAFETY: all of it may be zero: pointers and numbers.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let mut symbol: *mut libc::c_void = ptr::null_mut();
    // SAFETY: both are there to be written to, and the flag says that `symbol` gets a pointer to a symbol.
    let found = unsafe { libc::dladdr1(address, &raw mut info, &raw mut symbol, RTLD_DL_SYMENT) };
    if found == 0 || symbol.is_null() || info.dli_saddr != address {
        return None;
    }
    // SAFETY: it points into the symbol table of a library that stays loaded, because it exports what we found.
    let symbol = unsafe { &*symbol.cast::<libc::Elf64_Sym>() };
    Some(LoadedObject { address: address.expose_provenance(), size: usize::try_from(symbol.st_size).ok()? })
}

/// Only glibc tells the size of a symbol.
#[cfg(not(target_env = "gnu"))]
pub fn object(_name: &CStr) -> Option<LoadedObject> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exported_object_has_its_address_and_size() {
        let environ = object(c"environ").unwrap();
        assert_eq!(environ.size, size_of::<*const u8>());
        assert!(environ.address.is_multiple_of(align_of::<*const u8>()));
    }

    #[test]
    fn what_nobody_exports_is_not_there() {
        assert!(object(c"spawning_exports_no_such_object").is_none());
    }
}
